"""Sparse VLBI with unusable phases: microarcsecond images by way of a closure model."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.imaging.align import measure_shift, shift_plane
from libs.imaging.interface import open_image
from libs.imaging.statistics import grid_of
from libs.ms.antennas import AntennaArray
from libs.ms.tables import open_table
from libs.simulation.observation import Observation, Source, SpectralWindow, StationErrors, simulate
from tests.conftest import ROOT
from tests.demo import environment

pytestmark = pytest.mark.tools

MICRO = 1e-6

# ITRF, m; Event Horizon Telescope Collaboration 2019, ApJ 875, L2, to some 100 m
STATIONS = {
    "AA": (2225100.0, -5440100.0, -2481700.0), "AP": (2225000.0, -5441200.0, -2479300.0),
    "AZ": (-1828800.0, -5054400.0, 3427900.0), "LM": (-768700.0, -5988500.0, 2063300.0),
    "PV": (5089000.0, -301700.0, 3825000.0), "JC": (-5464600.0, -2493000.0, 2150700.0),
    "SM": (-5464500.0, -2493100.0, 2150600.0),
}  # fmt: skip
SKY = (
    Source(0.5, 0.0, 0.0, 20 * MICRO, 20 * MICRO),
    Source(0.3, 28 * MICRO, 20 * MICRO, 15 * MICRO, 15 * MICRO),
    Source(0.2, -20 * MICRO, 30 * MICRO, 12 * MICRO, 12 * MICRO),
)


def selfcal(tmp_path: Path, vis: Path) -> dict[str, Any]:
    """Run the shipped config on data; return the summary."""
    text = (ROOT / "templates" / "configs" / "eht.py").read_text()
    config = tmp_path / "config.py"
    config.write_text(text.replace("/path/to/data.uvfits", str(vis)))
    finished = subprocess.run(
        [sys.executable, str(ROOT / "auto_selfcal.py"), str(config), "--workdir",
         str(tmp_path / "run"), "--set", "plots=False"],
        env=environment(), capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "reduced chi2 of closure phases" in finished.stdout
    return dict(json.loads((tmp_path / "run" / "summary.json").read_text()))


def amplitudes(tmp_path: Path) -> dict[str, float]:
    """Mean amplitude gain of each station in ap1."""
    with (tmp_path / "run" / "gains.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["step"] == "ap1"]
    return {row["antenna"]: float(row["amplitude_mean"] or np.nan) for row in rows}


def final_image(tmp_path: Path, summary: dict[str, Any]) -> tuple[np.ndarray, Any]:
    return open_image(tmp_path / "run" / summary["final"]["image"])


def test_the_ring_of_m87(tmp_path: Path, shared_data: Path, wsclean: Path) -> None:
    """A ring some 40 microarcseconds across, as published, from phases of no use."""
    name = "SR1_M87_2017_096_hi_hops_netcal_StokesI.uvfits"
    summary = selfcal(tmp_path, shared_data / "eht" / name)
    assert summary["status"] == "improved"
    assert "p0" in summary["accepted"]
    assert summary["final"]["snr"] > 3 * summary["initial"]["snr"]
    closure = summary["closure"]
    assert closure["closure_phases"] > 250
    assert closure["initial_model"]["phase_chi2"] < 1.3
    assert closure["initial_model"]["amplitude_chi2"] < 1.3
    assert "ap1" in summary["accepted"]
    assert closure["final_image"]["phase_chi2"] < 1.3
    assert closure["final_image"]["amplitude_chi2"] < 1.3
    # a station known for its pointing; the flux on scales of an image of the ring
    amplitude = amplitudes(tmp_path)
    assert 0.4 < amplitude["LM"] / amplitude["AA"] < 0.8
    assert 0.3 < summary["final"]["total_flux_jy"] < 0.8
    plane, header = final_image(tmp_path, summary)
    radius, hole, evenness = ring(plane, grid_of(header).cell_arcsec / MICRO)
    assert 15 < radius < 28
    assert hole < 0.55  # the beam is as wide as the hole
    assert evenness > 0.45  # the southern half is the brighter


def ring(plane: np.ndarray, cell: float) -> tuple[float, float, float]:
    """The circle brightest against the hole in its middle.

    Radius in microarcsec, brightness of the hole over the circle's mean, that over the peak.
    """
    rows, columns = np.indices(plane.shape)
    bright = np.where(plane > 0.3 * plane.max(), plane, 0)
    x0, y0 = (float((bright * index).sum() / bright.sum()) for index in (columns, rows))
    best = (-np.inf, 0.0, 0.0, 0.0)
    for x in x0 + np.arange(-8, 9, 2):
        for y in y0 + np.arange(-8, 9, 2):
            bins = np.round(np.hypot(columns - x, rows - y) * cell / 2).astype(int).ravel()
            profile = (np.bincount(bins, plane.ravel()) / np.bincount(bins).clip(1))[:30]
            peak = int(profile.argmax())
            # the centre is where circle and hole differ most
            if profile[peak] - profile[0] > best[0]:
                hole = profile[0] / profile[peak]
                best = (profile[peak] - profile[0], 2.0 * peak, hole, profile[peak] / plane.max())
    return float(best[1]), float(best[2]), float(best[3])


def seen(plane: np.ndarray, header: Any) -> np.ndarray:
    """The simulated sky with the beam of an image, brightest component in the middle."""
    grid = grid_of(header)
    turn = np.deg2rad(grid.beam_pa_deg)
    along, across = np.array([np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), -np.sin(turn)])
    beam = sum(
        width**2 * np.outer(axis, axis)
        for width, axis in (
            (grid.beam_major_arcsec, along), (grid.beam_minor_arcsec, across),
        )
    )  # fmt: skip
    rows, columns = np.indices(plane.shape)
    place = np.stack([-(columns - plane.shape[1] // 2), rows - plane.shape[0] // 2], -1)
    total = np.zeros(plane.shape)
    for source in SKY:
        width = beam + source.major_arcsec**2 * np.eye(2)
        offset = place * grid.cell_arcsec - (source.l_arcsec, source.m_arcsec)
        shape = np.exp(
            -4 * np.log(2) * np.einsum("...i,ij,...j", offset, np.linalg.inv(width), offset)
        )
        peak = source.flux_jy * np.sqrt(np.linalg.det(beam) / np.linalg.det(width))
        total += peak * shape
    return total


def test_a_known_sky_of_microarcseconds(tmp_path: Path, wsclean: Path) -> None:
    names = tuple(STATIONS)
    array = AntennaArray(
        "EHT", names, names, np.array(list(STATIONS.values())), np.full(len(names), 12.0)
    )
    direction = (187.7059, 12.3911)
    scan_s, gap_s, scans = 300.0, 1500.0, 10
    middle = 57848.2 * 86400
    observation = Observation(
        array, direction, middle - scans * (scan_s + gap_s) / 2, 10.0, scan_s,
        (SpectralWindow(227e9, 1.8e9, 1),), scans=scans, gap_s=gap_s, noise_jy=0.01,
    )  # fmt: skip
    errors = StationErrors(phase_walk_deg=100, phase_walk_s=600, phase_offset_deg=180,
                           amp_offset=0.05)  # fmt: skip
    made = simulate(tmp_path / "sim.ms", observation, SKY, errors, seed=4, perfect=False)
    with open_table(made.ms, write=True) as table:
        ends = table.getcol("ANTENNA1"), table.getcol("ANTENNA2")
        badly_pointed = (ends[0] == names.index("LM")) | (ends[1] == names.index("LM"))
        data = table.getcol("DATA")
        data[badly_pointed] *= 0.55
        table.putcol("DATA", data)
    summary = selfcal(tmp_path, made.ms)
    assert summary["status"] == "improved"
    assert "ap1" in summary["accepted"]
    truth_now = np.abs(made.gains.gain).mean(axis=(0, 1, 3)) * np.where(
        np.array(names) == "LM", 0.55, 1.0
    )
    found = amplitudes(tmp_path)
    assert found["LM"] / found["AA"] == pytest.approx(truth_now[3] / truth_now[0], rel=0.15)
    assert summary["final"]["snr"] > 3 * summary["initial"]["snr"]
    assert summary["closure"]["final_image"]["phase_chi2"] < 2
    plane, header = final_image(tmp_path, summary)
    truth = seen(plane, header)
    x, y = measure_shift(truth, plane)
    aligned = shift_plane(plane, -x, -y)
    within = truth > 0.05 * truth.max()
    assert np.corrcoef(truth[within], aligned[within])[0, 1] > 0.95
