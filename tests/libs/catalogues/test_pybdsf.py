"""PyBDSF as a finder of sources, where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.catalogues import pybdsf
from libs.core.errors import ConfigError, ToolError
from steps.calibrate.calibrate_settings import load_calibrate_settings

PIXELS, CELL_DEG, BEAM_PIXELS = 128, 2.0 / 3600, 5.0


def write_image(path: Path, sources: list[tuple[float, float, float]]) -> Path:
    """Write points of a beam's shape, (x, y, Jy), in noise of 1 mJy."""
    from astropy.io import fits

    y, x = np.mgrid[:PIXELS, :PIXELS]
    image = np.random.default_rng(3).normal(0, 1e-3, (PIXELS, PIXELS))
    width = BEAM_PIXELS / np.sqrt(8 * np.log(2))
    for at_x, at_y, flux in sources:
        image += flux * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * width**2))
    made = fits.PrimaryHDU(image.astype(np.float32)[None, None])
    made.header.update({
        "CTYPE1": "RA---SIN", "CRVAL1": 230.0, "CDELT1": -CELL_DEG, "CRPIX1": 65, "CUNIT1": "deg",
        "CTYPE2": "DEC--SIN", "CRVAL2": 5.0, "CDELT2": CELL_DEG, "CRPIX2": 65, "CUNIT2": "deg",
        "CTYPE3": "FREQ", "CRVAL3": 1.4e9, "CDELT3": 1e6, "CRPIX3": 1, "CUNIT3": "Hz",
        "CTYPE4": "STOKES", "CRVAL4": 1, "CDELT4": 1, "CRPIX4": 1,
        "BMAJ": BEAM_PIXELS * CELL_DEG, "BMIN": BEAM_PIXELS * CELL_DEG, "BPA": 0.0,
        "BUNIT": "Jy/beam",
    })  # fmt: skip
    made.writeto(path)
    return path


@pytest.mark.tools
def test_points_are_found_with_their_fluxes(tmp_path: Path) -> None:
    pytest.importorskip("bdsf")
    image = write_image(tmp_path / "a.fits", [(64, 64, 0.2), (30, 90, 0.05)])
    rows = pybdsf.find_with_pybdsf(image, nsigma=6.0, log=tmp_path / "log", stall_s=60)
    assert [row["Source_id"] for row in rows] == [1, 2]
    assert rows[0]["Total_flux"] == pytest.approx(0.2, rel=0.03)
    assert rows[1]["Peak_flux"] == pytest.approx(0.05, rel=0.06)
    assert rows[0]["RA"] == pytest.approx(230.0, abs=1e-4)
    assert rows[1]["DEC"] == pytest.approx(5.0 + 26 * CELL_DEG, abs=1e-4)
    assert rows[0]["Maj"] == pytest.approx(10.0, rel=0.03)
    assert rows[0]["S_Code"] == "S" and rows[0]["Isl_rms"] == pytest.approx(1e-3, rel=0.3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fits", "log"]


@pytest.mark.tools
def test_an_image_without_sources_has_none(tmp_path: Path) -> None:
    pytest.importorskip("bdsf")
    image = write_image(tmp_path / "a.fits", [])
    assert pybdsf.find_with_pybdsf(image, nsigma=6.0, log=tmp_path / "log", stall_s=60) == []


def test_a_failure_is_told_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bdsf.py").write_text("raise RuntimeError('no such luck')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    image = write_image(tmp_path / "a.fits", [])
    with pytest.raises(ToolError, match="no such luck"):
        pybdsf.find_with_pybdsf(image, nsigma=6.0, log=tmp_path / "log", stall_s=60)


def test_asking_for_it_where_it_is_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pybdsf, "find_spec", lambda name: None)
    config = tmp_path / "session.yaml"
    config.write_text("vis: [a.ms]\nsource_finder: pybdsf\n")
    with pytest.raises(ConfigError, match="source_finder is pybdsf, and PyBDSF is not installed"):
        load_calibrate_settings(config, {})
    assert load_calibrate_settings(config, {"source_finder": "auto"})["source_finder"] == "auto"
