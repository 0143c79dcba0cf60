"""Gridding against direct Fourier sums: signs, w terms, shifted centres, adjointness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.imaging.native.gridding import (
    CLEANING_ACCURACY,
    FINAL_ACCURACY,
    MODEL_TURNS,
    Gridder,
    cropped,
)
from tests.libs.imaging.native.sky_sums import C_M_S, direct_image, fourier_sum

ARCSEC = np.pi / 180 / 3600


def some_uvw(longest_m: float, rows: int = 60, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-longest_m, longest_m, (rows, 3))


def directions(grid: Gridder, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction cosines of pixels: columns run west."""
    nx, ny = grid.imsize
    east = grid.offset_rad[0] - (x - nx // 2) * grid.cell_rad
    return east, grid.offset_rad[1] + (y - ny // 2) * grid.cell_rad


CASES = {
    "narrow": (Gridder((64, 48), 0.1 * ARCSEC), 3e4, 5e9),
    "offset": (Gridder((64, 64), 0.1 * ARCSEC, (600 * ARCSEC, -400 * ARCSEC)), 3e4, 5e9),
    "lofar, 2719 km": (Gridder((64, 64), 0.04 * ARCSEC, (30 * ARCSEC, 5 * ARCSEC)), 1.9e6, 1.5e8),
    "four degrees": (Gridder((96, 96), 150 * ARCSEC), 800.0, 1.5e8),
    "microarcseconds": (Gridder((64, 64), 1e-6 * ARCSEC), 1e7, 2.3e11),
}


@pytest.mark.parametrize("name", CASES)
def test_visibilities_are_the_fourier_sums_of_the_pixels(name: str) -> None:
    grid, longest, hertz = CASES[name]
    uvw, frequency = some_uvw(longest), hertz * np.array([1.02, 1.0])
    grid = grid.for_w(longest * frequency.max() / C_M_S, MODEL_TURNS)
    rng = np.random.default_rng(2)
    y, x = (rng.integers(2, n - 2, 12) for n in grid.imsize[::-1])
    image = np.zeros(grid.imsize[::-1])
    flux = rng.uniform(0.5, 2, 12)
    np.add.at(image, (y, x), flux)
    wanted = fourier_sum(flux, *directions(grid, x, y), uvw, frequency)
    found = grid.visibilities(uvw, frequency, image, FINAL_ACCURACY)
    assert np.abs(found - wanted).max() < 1e-5 * flux.sum()


@pytest.mark.parametrize("name", CASES)
def test_images_are_the_fourier_sums_of_the_visibilities(name: str) -> None:
    grid, longest, hertz = CASES[name]
    uvw, frequency = some_uvw(longest), hertz * np.array([1.02, 1.0])
    grid = grid.for_w(longest * frequency.max() / C_M_S, MODEL_TURNS)
    rng = np.random.default_rng(3)
    visibility = rng.normal(size=(60, 2)) + 1j * rng.normal(size=(60, 2))
    y, x = (rng.integers(0, n, 40) for n in grid.imsize[::-1])
    wanted = direct_image(visibility, uvw, frequency, *directions(grid, x, y))
    size = np.linalg.norm(visibility)
    found = grid.image(uvw, frequency, visibility, FINAL_ACCURACY)[y, x]
    assert np.abs(found - wanted).max() < 1e-4 * size
    coarse = grid.image(uvw, frequency, visibility.astype(np.complex64), CLEANING_ACCURACY)[y, x]
    assert np.abs(coarse - wanted).max() < 4e-3 * size


def test_small_w_is_left_out_and_large_w_is_not() -> None:
    grid = Gridder((64, 64), 0.1 * ARCSEC)
    least = 0.002 / grid.w_turns(1.0)
    assert not grid.for_w(0.99 * least).with_w
    assert grid.for_w(1.01 * least).with_w
    # a shifted centre needs w even where the image itself is small
    assert Gridder((64, 64), 0.1 * ARCSEC, (0.02, 0.0)).for_w(least).with_w


@given(
    nx=st.sampled_from([16, 32, 50, 64]),
    ny=st.sampled_from([16, 34, 64]),
    offset=st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)),
    seed=st.integers(0, 1000),
)
def test_image_and_visibilities_are_adjoint(
    nx: int, ny: int, offset: tuple[float, float], seed: int
) -> None:
    grid = Gridder((nx, ny), 5 * ARCSEC, offset)
    rng = np.random.default_rng(seed)
    uvw, frequency = some_uvw(3e3, seed=seed), np.array([1.4e9, 1.3e9])
    plane = rng.normal(size=(ny, nx))
    visibility = rng.normal(size=(60, 2)) + 1j * rng.normal(size=(60, 2))
    forward = np.vdot(visibility, grid.visibilities(uvw, frequency, plane, 1e-9)).real
    backward = np.vdot(grid.image(uvw, frequency, visibility, 1e-9), plane)
    scale = np.linalg.norm(visibility) * np.linalg.norm(plane)
    assert abs(forward - backward) < 1e-7 * scale


def test_a_cropped_model_has_the_same_visibilities() -> None:
    grid = Gridder((128, 96), 0.5 * ARCSEC, (50 * ARCSEC, 20 * ARCSEC))
    terms = np.zeros((2, 96, 128))
    terms[0, 95, 127], terms[0, 60, 100], terms[1, 61, 90] = 1.0, 2.0, 0.5
    small, part = cropped(grid, terms)
    assert part.shape[1] < 96 and part.shape[2] < 128
    assert part.shape[1] % 2 == part.shape[2] % 2 == 0
    uvw, frequency = some_uvw(3e4), np.array([5e9])
    for term in range(2):
        whole = grid.visibilities(uvw, frequency, terms[term], FINAL_ACCURACY)
        assert np.allclose(
            small.visibilities(uvw, frequency, part[term], FINAL_ACCURACY), whole, atol=1e-5
        )
