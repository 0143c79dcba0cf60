"""The power series of the w term against direct Fourier sums, and where it ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.imaging.native.gridding import Gridder
from libs.imaging.native.w_series import w_series
from tests.libs.imaging.native.sky_sums import C_M_S, direct_image, fourier_sum

ARCSEC = np.pi / 180 / 3600


@given(
    terms=st.integers(1, 4),
    east=st.floats(-1000, 1000),
    north=st.floats(-1000, 1000),
    accuracy=st.sampled_from([1e-3, 1e-4, 1e-6]),
    seed=st.integers(0, 1000),
)
def test_the_series_is_as_accurate_as_it_was_asked_for(
    terms: int, east: float, north: float, accuracy: float, seed: int
) -> None:
    grid = Gridder((64, 48), 0.5 * ARCSEC, (east * ARCSEC, north * ARCSEC))
    # the longest w at which the series of so many terms suffices
    low, high = 1e-9, 1e12
    for _ in range(80):
        middle = np.sqrt(low * high)
        found = w_series(grid.imsize, grid.cell_rad, grid.offset_rad, middle, accuracy)
        low, high = (middle, high) if found and found.terms <= terms else (low, middle)
    rng = np.random.default_rng(seed)
    frequency = 1.4e9 * np.array([1.0, 0.98])
    uvw = rng.uniform(-1, 1, (50, 3)) * [3e4, 3e4, low * C_M_S / 1.4e9]
    uvw[0, 2] = low * C_M_S / 1.4e9 * 0.999
    series = w_series(grid.imsize, grid.cell_rad, grid.offset_rad, low * 0.999, accuracy)
    assert series is not None and series.terms == terms
    flux = rng.uniform(0.5, 2, 12)
    y, x = (rng.integers(0, n, 12) for n in grid.imsize[::-1])
    where = (
        grid.offset_rad[0] - (x - 32) * grid.cell_rad,
        grid.offset_rad[1] + (y - 24) * grid.cell_rad,
    )
    image = np.zeros((48, 64))
    np.add.at(image, (y, x), flux)
    wanted = fourier_sum(flux, *where, uvw, frequency)
    seen = grid.visibilities(uvw, frequency, image, accuracy)
    assert np.abs(seen - wanted).max() < 3 * accuracy * flux.sum()
    visibility = rng.normal(size=wanted.shape) + 1j * rng.normal(size=wanted.shape)
    made = grid.image(uvw, frequency, visibility, accuracy)[y, x]
    summed = direct_image(visibility, uvw, frequency, *where)
    assert np.abs(made - summed).max() < 3 * accuracy * np.abs(visibility).sum()


def test_the_terms_matter() -> None:
    """Left out, the w term of this field is seen."""
    grid = Gridder((64, 64), 0.5 * ARCSEC)
    uvw, frequency = np.array([[0.0, 0.0, 1e5]]), np.array([1.4e9])
    series = w_series(grid.imsize, grid.cell_rad, grid.offset_rad, 1e5 * 1.4e9 / C_M_S, 1e-6)
    assert series is not None and series.terms > 2
    image = np.zeros((64, 64))
    image[60, 5] = 1.0
    exact = fourier_sum(
        np.ones(1), np.array([27 * grid.cell_rad]), np.array([28 * grid.cell_rad]), uvw, frequency
    )
    with_w = grid.visibilities(uvw, frequency, image, 1e-6)
    without = Gridder(grid.imsize, grid.cell_rad, with_w=False).visibilities(
        uvw, frequency, image, 1e-6
    )
    assert abs(with_w - exact).max() < 1e-5
    assert abs(without - exact).max() > 1e-2


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.1, 0.1), (0.8, 0.8)])
def test_wide_fields_have_no_short_series(offset: tuple[float, float]) -> None:
    assert w_series((1024, 1024), 10 * ARCSEC, offset, 1e5, 1e-4) is None
