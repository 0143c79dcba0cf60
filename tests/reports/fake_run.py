"""A work directory as a run leaves it, made of synthetic images, gains and records."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from scipy import ndimage

from libs.gains.gain_solutions import GainSolutions

CELL_ARCSEC = 0.05
BEAM_ARCSEC = (0.4, 0.25, 30.0)
STEP_COLUMNS = (
    "step", "status", "fingerprint", "template", "reason", "seconds", "seconds_imaging",
    "seconds_solving", "tables", "products", "metrics", "settings", "finished",
)  # fmt: skip
# artefacts left in the image of each step, Jy/beam rms, of a source of 2 Jy
ARTEFACTS = {"test_image": 0.05, "p0": 0.02, "p1": 0.006, "p2": 0.009, "ap1": 0.0015}


def write_fits(path: Path, plane: np.ndarray, cell_arcsec: float = CELL_ARCSEC) -> Path:
    """Write a plane as a 4-axis image with a beam, east to the left."""
    header = fits.Header()
    ny, nx = plane.shape
    header["CTYPE1"], header["CTYPE2"] = "RA---SIN", "DEC--SIN"
    header["CRVAL1"], header["CRVAL2"] = 187.2779, 2.0524
    header["CDELT1"], header["CDELT2"] = -cell_arcsec / 3600, cell_arcsec / 3600
    header["CRPIX1"], header["CRPIX2"] = nx // 2 + 1, ny // 2 + 1
    header["CTYPE3"], header["CTYPE4"] = "FREQ", "STOKES"
    header["BUNIT"] = "JY/BEAM"
    header["BMAJ"], header["BMIN"] = BEAM_ARCSEC[0] / 3600, BEAM_ARCSEC[1] / 3600
    header["BPA"] = BEAM_ARCSEC[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(plane[None, None].astype(np.float32), header).writeto(path, overwrite=True)
    return path


def sky(size: int) -> np.ndarray:
    """A core and a jet of Gaussians, Jy/beam, peak 2."""
    y, x = np.mgrid[:size, :size].astype(float)
    plane = np.zeros((size, size))
    for flux, dx, dy, width in ((2.0, 0, 0, 3), (0.3, 12, -14, 4), (0.12, 22, -26, 6)):
        middle = size // 2
        plane += flux * np.exp(-((x - middle - dx) ** 2 + (y - middle - dy) ** 2) / 2 / width**2)
    return plane


def artefacts(size: int, rms: float, seed: int) -> np.ndarray:
    """Streaks around the core, as phase errors leave them, and a little noise."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(size, size)), 2.5)
    y, x = np.mgrid[:size, :size] - size // 2
    angle = np.arctan2(y, x)
    spokes = np.zeros((size, size))
    for order in range(3, 24, 3):
        wave = np.hypot(x, y) / rng.uniform(4, 9)
        spokes += np.cos(order * angle + rng.uniform(0, 6)) * np.cos(wave)
    fall = 1 / (1 + np.hypot(x, y) / 25)
    return rms * (spokes * fall / np.std(spokes * fall)) + 0.0008 * noise / noise.std()


def make_images(workdir: Path, step: str, size: int, seed: int) -> dict[str, str]:
    """Write image, residual and mask of a step; return them as products."""
    source = sky(size)
    residual = artefacts(size, ARTEFACTS[step], seed)
    products = {}
    planes = {
        "image": source + residual,
        "residual": residual,
        "mask": ndimage.binary_dilation(source > 0.05, iterations=3),
    }
    for name, plane in planes.items():
        path = write_fits(workdir / "images" / step / f"{step}-{name}.fits", plane)
        products[name] = str(path.relative_to(workdir))
    return products


def statistics(workdir: Path, products: dict[str, str]) -> dict[str, float]:
    """Measure what a run would record of an image."""
    image = fits.getdata(workdir / products["image"])
    residual = fits.getdata(workdir / products["residual"])
    rms = float(1.4826 * np.median(np.abs(residual)))
    peak = float(image.max())
    return {
        "peak_jy_beam": peak, "rms_jy_beam": rms, "snr": peak / rms,
        "dynamic_range": peak / float(residual.std()), "total_flux_jy": 3.05,
    }  # fmt: skip


def make_gains(
    antennas: int = 7, times: int = 40, spws: int = 1, pols: tuple[str, ...] = ("R", "L"),
    *, amplitude: bool = False, seed: int = 1,
) -> GainSolutions:  # fmt: skip
    """Smooth phases, antenna 2 the reference, the last antenna flagged, a few others at random."""
    rng = np.random.default_rng(seed)
    shape = (times, spws, antennas, len(pols))
    walk = np.cumsum(rng.normal(0, 0.12, (times, 1, antennas, 1)), axis=0)
    phase = walk + rng.normal(0, 0.04, shape) + rng.normal(0, 0.25, (1, 1, antennas, 1))
    phase[:, :, 2:3] = 0
    level = 1 + (rng.normal(0, 0.05, (1, spws, antennas, len(pols))) if amplitude else 0)
    flag = rng.random(shape) < 0.03
    flag[:, :, 2:3] = False
    flag[:, :, -1] = True
    gain = np.where(flag, 1, level * np.exp(1j * phase))
    time = 5.1e9 + 30.0 * np.arange(times)
    time[times // 2 :] += 600  # a gap between two scans
    return GainSolutions(
        time_s=time, interval_s=np.full(times, 30.0),
        frequency_hz=8.4e9 + 1e8 * np.arange(spws), spw=np.arange(spws),
        antenna=tuple(f"EA{i + 1:02d}" for i in range(antennas)),
        position_m=np.zeros((antennas, 3)), polarization=pols, gain=gain, flag=flag,
        snr=np.where(flag, 0, rng.lognormal(3, 0.5, shape)),
    )  # fmt: skip


def step_row(step: str, status: str = "done", **values: Any) -> dict[str, str]:
    """One row of steps.csv."""
    row: dict[str, Any] = dict.fromkeys(STEP_COLUMNS, "")
    row |= {"tables": [], "products": {}, "metrics": {}, "settings": {}}
    row |= {"step": step, "status": status, "seconds": 2.5, "seconds_imaging": 1.5,
            "seconds_solving": 0.4, "fingerprint": "f00", "template": "bright",
            "finished": "2026-11-21T10:00:00+00:00"}  # fmt: skip
    row |= values
    return {k: json.dumps(v) if isinstance(v, list | dict) else str(v) for k, v in row.items()}


def write_rows(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)


REASONS = {
    "test_image": "peak 2 Jy/beam, SNR 60",
    "p0": "dynamic range rose from 40 to 100",
    "p1": "dynamic range rose from 100 to 330",
    "p2": "rejected: dynamic range fell from 330 to 220, p1 restored",
    "ap1": "dynamic range rose from 330 to 1300; flux +0.4 %",
}


def make_run(workdir: Path, size: int = 128, *, finished: bool = True) -> Path:
    """Make a whole work directory: five steps with images, p2 rejected, one step skipped.

    An unfinished one stops after p0 and has no summary.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    rows = [step_row("startup", reason="working copy of 3c273.ms, 12 MB", template="")]
    found: dict[str, dict[str, Any]] = {}
    for number, (step, reason) in enumerate(REASONS.items()):
        if not finished and step == "p1":
            break
        products = make_images(workdir, step, size, number)
        metrics: dict[str, Any] = statistics(workdir, products)
        found[step] = {"image": products["image"], **metrics}
        settings: dict[str, Any] = {"robust": -0.5}
        tables = []
        if step != "test_image":
            metrics |= {
                "kind": "round", "solint_s": 60.0 / (number + 1), "flagged_before": 0.02,
                "flagged_after": 0.02 + 0.004 * number, "flux_change_percent": 0.4,
                "solutions_flagged_fraction": 0.05, "solution_snr_median": 20.0,
            }  # fmt: skip
            settings |= {"calmode": "ap" if step == "ap1" else "p", "minsnr": 3.0,
                         "gaintype": "G", "combine": "", "solint": "auto"}  # fmt: skip
            products["table"] = f"tables/{step}.3c273.gcal"
            tables = [{"ms": "3c273.ms", "path": products["table"], "spwmap": [], "interp": ""}]
        status = "rejected" if step == "p2" else "done"
        rows.append(step_row(step, status, reason=reason, products=products, metrics=metrics,
                             settings=settings, tables=tables))  # fmt: skip
    if finished:
        rows.append(step_row("split_trial_1", "skipped", reason='nothing <to> split & "go"'))
    write_rows(workdir / "steps.csv", STEP_COLUMNS, rows)
    columns = ("step", "name", "path", *list(found["p0"])[1:])
    images = [{"step": s, "name": "image", "path": v["image"]} | v for s, v in found.items()]
    for row in images:
        row.pop("image")
    write_rows(workdir / "images.csv", columns, images)
    (workdir / "resolved.yaml").write_text(
        "vis: {value: 'demo:3c273', origin: config.py}\n"
        "field: {value: '<b>bold</b>', origin: default}\n"
        "p1: {solint: {value: 30s, origin: --set}}\n"
    )
    if finished:
        _write_summary(workdir, found)
    return workdir


def _write_summary(workdir: Path, found: dict[str, dict[str, Any]]) -> None:
    summary = {
        "status": "improved", "calibrated_ms": "data/3c273.ms", "column": "CORRECTED_DATA",
        "initial": found["test_image"], "final": found["ap1"],
        "untouched": {**found["ap1"], "dynamic_range": 1400.0},
        "accepted": ["p0", "p1", "ap1"], "rejected": [{"step": "p2", "reason": REASONS["p2"]}],
        "h5parm": "solutions.h5", "longest_baseline_km": 36.4,
        "versions": {"wsclean": "3.1", "python": "3.11"},
    }  # fmt: skip
    (workdir / "summary.json").write_text(json.dumps(summary))
