"""Gaussians fitted to images of known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import ImageError
from libs.imaging.gaussian_fit import fit_gaussian

CELL, BEAM = 2.0, (12.0, 8.0, 30.0)  # arcsec, arcsec, deg


def write(path: Path, plane: np.ndarray) -> Path:
    header = fits.Header()
    for axis, (kind, value, step, middle) in enumerate(
        (("RA---SIN", 85.0, -CELL / 3600, 101), ("DEC--SIN", 49.0, CELL / 3600, 101)), 1
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind, value
        header[f"CDELT{axis}"], header[f"CRPIX{axis}"] = step, middle
        header[f"CUNIT{axis}"] = "deg"
    header["BMAJ"], header["BMIN"], header["BPA"] = BEAM[0] / 3600, BEAM[1] / 3600, BEAM[2]
    header["BUNIT"], header["RADESYS"], header["EQUINOX"] = "Jy/beam", "FK5", 2000.0
    fits.writeto(path, plane.astype(np.float32), header, overwrite=True)
    return path


def drawn(peak: float, x0: float, y0: float, major: float, minor: float, pa: float) -> np.ndarray:
    """Gaussian with its position angle from north through east; columns run west."""
    y, x = np.mgrid[0:200, 0:200]
    east, north = -(x - x0) * CELL, (y - y0) * CELL
    turn = np.radians(pa)
    along = east * np.sin(turn) + north * np.cos(turn)
    across = east * np.cos(turn) - north * np.sin(turn)
    return np.asarray(
        peak * np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / minor) ** 2))
    )


@settings(deadline=None, max_examples=20)
@given(
    major=st.floats(12, 20), ratio=st.floats(0.5, 0.9), pa=st.floats(0, 179),
    peak=st.floats(0.1, 30), place=st.floats(60, 140),
)  # fmt: skip
def test_exact_gaussians_are_found(
    tmp_path_factory: pytest.TempPathFactory, major: float, ratio: float, pa: float, peak: float,
    place: float,
) -> None:  # fmt: skip
    plane = drawn(peak, place, 200 - place, major, ratio * major, pa)
    path = write(tmp_path_factory.mktemp("fit") / "a.fits", plane)
    fit = fit_gaussian(path, noise_jy_beam=1e-3)
    assert fit.peak_jy_beam == pytest.approx(peak, rel=1e-3)
    assert (fit.x_pixel, fit.y_pixel) == pytest.approx((place, 200 - place), abs=0.01)
    assert fit.major_arcsec == pytest.approx(major, rel=2e-3)
    assert fit.minor_arcsec == pytest.approx(ratio * major, rel=2e-3)
    assert abs((fit.pa_deg - pa + 90) % 180 - 90) < 1
    assert fit.flux_jy == pytest.approx(peak * ratio * major**2 / (12 * 8), rel=3e-3)


def test_errors_are_those_of_the_noise(tmp_path: Path) -> None:
    """Noise that is smooth as a beam is, and the scatter of the fits that it makes."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(4)
    found, said = [], []
    for _ in range(60):
        noise = gaussian_filter(rng.normal(size=(200, 200)), 2.0)
        plane = drawn(1.0, 100, 100, *BEAM) + 0.05 * noise / noise.std()
        fit = fit_gaussian(write(tmp_path / "a.fits", plane))
        found.append((fit.flux_jy, fit.peak_jy_beam))
        said.append((fit.flux_error_jy, fit.peak_error_jy_beam))
    scatter, expected = np.std(found, axis=0), np.median(said, axis=0)
    assert scatter[0] == pytest.approx(expected[0], rel=0.5)
    assert scatter[1] == pytest.approx(expected[1], rel=0.5)


def test_what_is_no_gaussian_is_an_error(tmp_path: Path) -> None:
    plane = np.tile(np.linspace(0, 1, 200), (200, 1))
    with pytest.raises(ImageError, match="no Gaussian fits"):
        fit_gaussian(write(tmp_path / "a.fits", plane), (100, 100), noise_jy_beam=0.1)
