"""Sources of an image as Gaussians without the beam."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.gaussian_fit import gaussian_shape
from libs.imaging.image_components import image_components
from libs.imaging.interface import write_image
from libs.imaging.masks import grid_header

BEAM_ARCSEC, CELL_ARCSEC, SIZE = 1.0, 0.2, 128
FWHM = 2 * math.sqrt(2 * math.log(2))


def _image(path: Path, sources: list[tuple[float, float, float, float, float, float]]) -> Path:
    """Write sources (flux, east, north, major, minor, pa; arcsec, deg) seen with a round beam."""
    y, x = (axis.astype(float) for axis in np.indices((SIZE, SIZE)))
    plane = np.random.default_rng(1).normal(0.0, 1e-4, (SIZE, SIZE))
    for flux, east, north, major, minor, pa in sources:
        widths = [math.hypot(w, BEAM_ARCSEC) for w in (major, minor)]
        peak = flux * BEAM_ARCSEC**2 / (widths[0] * widths[1])
        logs = [math.log(w / CELL_ARCSEC / FWHM) for w in widths]
        at = (SIZE // 2 - east / CELL_ARCSEC, SIZE // 2 + north / CELL_ARCSEC)
        plane += gaussian_shape(np.array([peak, *at, *logs, math.radians(90 + pa)]), x, y)
    header = grid_header((SIZE, SIZE), CELL_ARCSEC, (80.0, 30.0))
    header["BMAJ"], header["BMIN"], header["BPA"] = BEAM_ARCSEC / 3600, BEAM_ARCSEC / 3600, 0.0
    return write_image(plane, header, path)


def test_point_and_gaussian_come_back(tmp_path: Path) -> None:
    image = _image(tmp_path / "a.fits", [(2.0, 1.0, -2.0, 0, 0, 0), (1.5, -4.0, 3.0, 1.5, 0.8, 40)])
    point, wide = image_components(image)
    assert point.point and point.flux_jy == pytest.approx(2.0, rel=0.01)
    assert np.array([point.l_rad, point.m_rad]) * ARCSEC_PER_RAD == pytest.approx([1, -2], abs=0.01)
    assert wide.flux_jy == pytest.approx(1.5, rel=0.01)
    widths = np.array([wide.major_rad, wide.minor_rad]) * ARCSEC_PER_RAD
    assert widths == pytest.approx([1.5, 0.8], rel=0.02)
    assert math.degrees(wide.pa_rad) == pytest.approx(40.0, abs=1.0)


def test_sources_that_overlap_are_both_found(tmp_path: Path) -> None:
    image = _image(tmp_path / "a.fits", [(2.0, 0.0, 0.0, 0, 0, 0), (1.0, 2.0, 0.0, 0, 0, 0)])
    found = image_components(image)
    assert len(found) >= 2
    assert sum(c.flux_jy for c in found) == pytest.approx(3.0, rel=0.03)


def test_noise_holds_nothing(tmp_path: Path) -> None:
    assert image_components(_image(tmp_path / "a.fits", [])) == ()


def test_no_more_are_given_than_wanted(tmp_path: Path) -> None:
    sources = [(1.0 - 0.1 * k, 4.0 * (k - 2), 0.0, 0, 0, 0) for k in range(5)]
    assert len(image_components(_image(tmp_path / "a.fits", sources), most=3)) == 3
