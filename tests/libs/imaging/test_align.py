from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import InputError
from libs.imaging.align import compare, measure_shift, shift_plane
from tests.libs.fake_images import CELL_ARCSEC, gaussian, write

SHAPE = (200, 200)


def _sky(dx=0.0, dy=0.0, flux=1.0):
    return flux * (
        gaussian(SHAPE, 100 + dx, 90 + dy, 1.0) + gaussian(SHAPE, 112 + dx, 97 + dy, 0.6, 8)
    )


@settings(deadline=None, max_examples=25)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_known_shift_is_recovered_to_a_hundredth_of_a_pixel(dx, dy):
    x, y = measure_shift(_sky(), _sky(dx, dy))
    assert x == pytest.approx(dx, abs=0.01)
    assert y == pytest.approx(dy, abs=0.01)


@settings(deadline=None, max_examples=10)
@given(st.floats(-5, 5), st.floats(-5, 5))
def test_measuring_backwards_gives_the_opposite(dx, dy):
    forth = measure_shift(_sky(), _sky(dx, dy))
    back = measure_shift(_sky(dx, dy), _sky())
    assert forth == pytest.approx((-back[0], -back[1]), abs=0.02)


def test_shift_in_noise_and_with_another_flux():
    noise = np.random.default_rng(1).normal(0, 0.01, (2, *SHAPE))
    x, y = measure_shift(_sky() + noise[0], _sky(2.3, -1.7, 3.0) + noise[1])
    assert (x, y) == pytest.approx((2.3, -1.7), abs=0.05)


def test_a_double_whose_peak_changes_sides_is_not_taken_for_a_shift():
    def double(left, right):
        return gaussian(SHAPE, 90, 100, left) + gaussian(SHAPE, 110, 100, right)

    x, y = measure_shift(double(1.0, 0.99), double(0.99, 1.0))
    assert (x, y) == pytest.approx((0, 0), abs=0.05)


def test_shift_plane_moves_right_and_up():
    moved = shift_plane(_sky(), 3.25, -2.5)
    assert np.abs(moved - _sky(3.25, -2.5)).max() < 1e-3


def test_images_that_differ_by_a_shift_and_scale_compare_equal_but_for_the_flux(tmp_path):
    first = write(tmp_path / "a.fits", _sky())
    second = write(tmp_path / "b.fits", _sky(4.4, 1.2, 1.02))
    found = compare(first, second)
    assert (found.shift_x_pixel, found.shift_y_pixel) == pytest.approx((4.4, 1.2), abs=0.01)
    assert found.shift_arcsec == pytest.approx(np.hypot(4.4, 1.2) * CELL_ARCSEC, rel=0.01)
    assert found.flux_ratio == pytest.approx(1.02, rel=2e-3)
    assert found.rms_difference_over_peak < 0.005
    assert found.correlation > 0.999


def test_an_image_equals_itself(tmp_path):
    first = write(tmp_path / "a.fits", _sky() + np.random.default_rng(2).normal(0, 0.01, SHAPE))
    found = compare(first, first)
    assert found.shift_arcsec == pytest.approx(0, abs=1e-3)
    assert found.rms_difference_jy_beam < 1e-5
    assert found.flux_ratio == pytest.approx(1)
    assert found.peak_ratio == 1


def test_a_wider_beam_changes_peaks_but_not_the_flux_ratio(tmp_path):
    first = write(tmp_path / "a.fits", gaussian(SHAPE, 100, 100, 1.0, 10), beam_arcsec=2.5)
    second = write(tmp_path / "b.fits", gaussian(SHAPE, 100, 100, 4.0, 10), beam_arcsec=5.0)
    assert compare(first, second).flux_ratio == pytest.approx(1.0, rel=1e-3)


def test_different_grids_and_empty_references_are_errors(tmp_path):
    first = write(tmp_path / "a.fits", _sky())
    with pytest.raises(InputError, match="aligned"):
        compare(first, write(tmp_path / "b.fits", np.ones((32, 32))))
    with pytest.raises(InputError, match="no positive"):
        compare(write(tmp_path / "c.fits", np.zeros(SHAPE)), first)
