"""A source far from the centre of data whose phases are wild: found, held by the image, placed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.imaging.interface import open_image, sky_position
from libs.ms.antennas import AntennaArray
from libs.simulation.observation import Observation, Source, SpectralWindow, StationErrors, simulate
from tests.quiet_run import QuietRun, quiet_run

pytestmark = pytest.mark.tools

EAST, NORTH = -35.0, 150.0  # arcsec: some 60 beams from the centre
CENTRE_DEG = (225.0, 30.0)
STEPS = [
    "startup", "save_init_flags", "fov_image", "test_image", "select_refant", "closure_stats",
    "initial_model", "p0", "report_results",
]  # fmt: skip


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    """A point seen by 14 antennas, the phases of each anywhere."""
    rng = np.random.default_rng(3)
    angle = 2 * np.pi * rng.random(14)
    radius_m = np.geomspace(100.0, 1800.0, 14)
    place = np.stack([radius_m * np.cos(angle), radius_m * np.sin(angle), 0 * angle], axis=1)
    place += np.array([-1601185.0, -5041977.0, 3554876.0])
    names = tuple(f"ea{i + 1:02d}" for i in range(14))
    array = AntennaArray("VLA", names, names, place, np.full(14, 25.0))
    windows = tuple(SpectralWindow(8.0e9 + n * 1.3e8, 1.28e8, 4) for n in range(5))
    observation = Observation(
        array, CENTRE_DEG, 5.0844e9, 10.0, 120.0, windows, scans=2, gap_s=1200.0,
        correlations=("RR", "LL"), noise_jy=0.3,
    )  # fmt: skip
    sky = (Source(0.3, EAST, NORTH),)
    errors = StationErrors(phase_offset_deg=150.0, phase_walk_deg=20.0, phase_walk_s=600.0)
    simulate(tmp_path / "wild.ms", observation, sky, errors, seed=3, perfect=False)
    return tmp_path / "wild.ms"


def apart_arcsec(run: QuietRun, step: str) -> float:
    """Distance of an image's brightest pixel from the source."""
    plane, header = open_image(run.workdir / run.result(step).products["image"])
    y, x = np.unravel_index(int(plane.argmax()), plane.shape)
    ra_deg, dec_deg = sky_position(header, float(x), float(y))
    east = (ra_deg - CENTRE_DEG[0]) * np.cos(np.radians(dec_deg)) * 3600
    north = (dec_deg - CENTRE_DEG[1]) * 3600
    return float(np.hypot(east - EAST, north - NORTH))


def test_the_image_holds_the_source_and_shows_it_in_its_place(wild: Path, tmp_path: Path) -> None:
    run = quiet_run(tmp_path, [wild], imsize="auto", cell="auto", steps=STEPS)
    found = run.result("fov_image")
    assert "fringes over" in found.reason
    cell, (width, _) = found.metrics["cell_arcsec"], found.metrics["imsize"]
    assert 0.5 * width * cell > NORTH
    assert apart_arcsec(run, "test_image") > 8, "phases are not wild"
    assert run.result("p0").metrics["snr"] > 150
    assert apart_arcsec(run, "p0") < 3, "a beam"
