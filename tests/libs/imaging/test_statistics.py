from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from libs.core.errors import ImageError, InputError
from libs.imaging.interface import ImageProducts
from libs.imaging.statistics import (
    check_clean,
    dilate,
    fluxes_within,
    grid_of,
    mad_std,
    measure,
)
from tests.libs.fake_images import BEAM_ARCSEC, CELL_ARCSEC, gaussian, header, write

SHAPE = (256, 256)


@pytest.fixture
def point(tmp_path):
    """A 2 Jy point source at (140, 100) in noise of 1 mJy."""
    noise = np.random.default_rng(1).normal(0, 1e-3, SHAPE)
    image = write(tmp_path / "image.fits", gaussian(SHAPE, 140, 100, 2.0) + noise)
    residual = write(tmp_path / "residual.fits", noise)
    return image, residual


def test_point_source_in_noise(point):
    found = measure(*point)
    assert (found.peak_x_pixel, found.peak_y_pixel) == (140, 100)
    assert found.peak_jy_beam == pytest.approx(2.0, abs=5e-3)
    for noise in (
        found.rms_jy_beam,
        found.residual_rms_jy_beam,
        found.near_field_rms_jy_beam,
        found.corner_rms_jy_beam,
        found.image_mad_jy_beam,
    ):
        assert noise == pytest.approx(1e-3, rel=0.1)
    assert found.snr == pytest.approx(2000, rel=0.02)
    assert found.near_field_snr == pytest.approx(2000, rel=0.1)
    assert found.dynamic_range == pytest.approx(2000, rel=0.02)
    assert found.total_flux_jy == pytest.approx(2.0, abs=0.02)
    assert found.flux_above_3mad_jy == pytest.approx(2.0, abs=0.1)
    assert 0 < found.flux_error_jy < 0.02
    assert found.beam_area_arcsec2 == pytest.approx(1.1331 * BEAM_ARCSEC**2, rel=1e-4)
    assert found.cell_arcsec == pytest.approx(CELL_ARCSEC)
    assert -7e-3 < found.min_jy_beam < 0


def test_peak_position_on_the_sky(point):
    found = measure(*point)
    # 12 pixels right of the centre is west: less right ascension.
    east = (found.peak_ra_deg - 180) * math.cos(math.radians(40)) * 3600
    assert east == pytest.approx(-12 * CELL_ARCSEC, rel=1e-3)
    assert (found.peak_dec_deg - 40) * 3600 == pytest.approx(-28 * CELL_ARCSEC, rel=1e-3)


def test_flux_fractions_of_a_point_are_those_of_a_gaussian(point):
    found = measure(*point, mask=gaussian(SHAPE, 140, 100, 1.0) > 1e-3)
    assert found.inner_flux_fraction == pytest.approx(0.5, abs=0.05)
    assert found.mid_flux_fraction == pytest.approx(0.4, abs=0.05)
    assert found.low_flux_fraction == pytest.approx(0.1, abs=0.03)
    total = found.inner_flux_fraction + found.mid_flux_fraction + found.low_flux_fraction
    assert total == pytest.approx(1.0)


def test_an_extended_source_is_less_compact(tmp_path, point):
    plane = gaussian(SHAPE, 140, 100, 2.0) + gaussian(SHAPE, 120, 110, 0.15, 30)
    image = write(tmp_path / "extended.fits", plane + 1e-3)
    assert measure(image, point[1]).inner_flux_fraction < 0.8 * (
        measure(*point).inner_flux_fraction
    )


def test_near_field_noise_sees_artefacts_around_the_source(tmp_path, point):
    image, residual = point
    noise = np.random.default_rng(2).normal(0, 1e-3, SHAPE)
    rows, columns = np.indices(SHAPE)
    noise[np.hypot(rows - 100, columns - 140) < 40] *= 10
    residual = write(tmp_path / "worse.fits", noise)
    found = measure(image, residual)
    assert found.near_field_rms_jy_beam > 5e-3
    assert found.rms_jy_beam < 2e-3
    assert found.near_field_snr < 0.3 * found.snr


def test_the_mask_decides_the_total_flux(tmp_path, point):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[90:110, 130:150] = True
    inside = measure(*point, mask=mask)
    path = write(tmp_path / "mask.fits", mask.astype(float))
    assert measure(*point, mask=path) == inside
    assert inside.mask_beams == pytest.approx(400 / (1.1331 * 25), rel=1e-3)
    assert measure(*point, mask=np.zeros(SHAPE, dtype=bool)) == measure(*point)


def test_row_has_plain_numbers_all_finite(point):
    row = measure(*point).as_row()
    assert next(iter(row)) == "peak_jy_beam"
    assert all(isinstance(value, (int, float)) and math.isfinite(value) for value in row.values())
    assert "thermal_rms_jy_beam" not in row


def test_a_thermal_noise_that_the_imager_tells_is_in_the_row(point):
    known = dataclasses.replace(measure(*point), thermal_rms_jy_beam=1e-3)
    assert known.as_row()["thermal_rms_jy_beam"] == 1e-3


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_degenerate_axes(tmp_path, axes):
    plane = gaussian(SHAPE, 100, 100, 1.0)
    image = write(tmp_path / "i.fits", plane, axes=axes)
    residual = write(tmp_path / "r.fits", 0.001 * plane, axes=axes)
    assert measure(image, residual).peak_jy_beam == pytest.approx(1.0)


def test_blank_pixels_are_left_out(tmp_path, point):
    image, residual = point
    plane = gaussian(SHAPE, 140, 100, 2.0) + np.random.default_rng(1).normal(0, 1e-3, SHAPE)
    plane[200:, :] = np.nan
    found = measure(write(tmp_path / "blank.fits", plane), residual)
    whole = measure(image, residual)
    assert found.snr == pytest.approx(whole.snr, rel=0.02)
    assert found.dynamic_range == pytest.approx(whole.dynamic_range, rel=0.02)


@pytest.mark.parametrize("value", [0.0, math.nan, -1.0])
def test_an_image_of_nothing_is_an_error(tmp_path, value):
    image = write(tmp_path / "zero.fits", np.full(SHAPE, value))
    with pytest.raises(ImageError, match="no positive pixel"):
        measure(image, image)


def test_an_image_without_noise_gives_large_finite_numbers(tmp_path):
    image = write(tmp_path / "i.fits", gaussian(SHAPE, 100, 100, 1.0))
    residual = write(tmp_path / "r.fits", np.zeros(SHAPE))
    assert math.isfinite(measure(image, residual).snr)


def test_mismatched_images_are_an_error(tmp_path, point):
    small = write(tmp_path / "small.fits", gaussian((64, 64), 10, 10, 1.0))
    with pytest.raises(InputError, match="shape"):
        measure(point[0], small)
    with pytest.raises(InputError, match="mask"):
        measure(*point, mask=np.ones((64, 64), dtype=bool))


def test_no_beam_is_an_error():
    head = header(SHAPE)
    del head["BMAJ"]
    with pytest.raises(InputError, match="BMAJ"):
        grid_of(head)


def test_mad_of_gaussian_noise_is_its_rms_and_ignores_a_source():
    values = np.random.default_rng(3).normal(5.0, 2.0, 200_000)
    values[:1000] += 1e6
    values[5] = np.nan
    assert mad_std(values) == pytest.approx(2.0, rel=0.02)
    assert math.isnan(mad_std(np.array([np.nan])))


@given(st.floats(0.1, 1e3), st.floats(-100, 100))
def test_mad_scales_and_is_blind_to_an_offset(scale, offset):
    values = np.random.default_rng(4).normal(size=999)
    assert mad_std(scale * values + offset) == pytest.approx(scale * mad_std(values), rel=1e-6)


@given(st.integers(0, 63), st.integers(0, 63), st.floats(1, 12))
def test_dilation_of_a_pixel_is_a_disc(x, y, radius):
    mask = np.zeros((64, 64), dtype=bool)
    mask[y, x] = True
    rows, columns = np.indices(mask.shape)
    assert np.array_equal(dilate(mask, radius), np.hypot(rows - y, columns - x) <= radius)


def test_dilation_of_nothing_and_by_nothing():
    nothing = np.zeros((8, 8), dtype=bool)
    assert not dilate(nothing, 3).any()
    some = nothing.copy()
    some[2, 2] = True
    assert np.array_equal(dilate(some, 0), some)


def test_dilation_of_a_large_mask_has_the_area_of_the_disc():
    mask = np.zeros((1000, 1000), dtype=bool)
    mask[100, 100] = mask[900, 900] = True
    grown = dilate(mask, 20)
    assert grown.sum() == pytest.approx(2 * math.pi * 400, rel=0.1)
    assert ndimage.label(grown)[1] == 2


def test_large_images_take_less_than_a_second(tmp_path):
    plane = np.random.default_rng(5).standard_normal((4096, 4096), dtype=np.float32)
    residual = write(tmp_path / "r.fits", plane)
    plane[100, 100] = plane[4000, 4000] = 1000.0
    image = write(tmp_path / "i.fits", plane)
    measure(image, residual)
    start = time.process_time()
    found = measure(image, residual)
    assert time.process_time() - start < 1.5
    assert found.rms_jy_beam == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(("left", "good"), [(0.01, True), (1.9, True), (2.1, False), (1e30, False)])
def test_clean_that_leaves_more_than_it_found_is_an_error(tmp_path, point, left, good):
    dirty = write(tmp_path / "dirty.fits", gaussian(SHAPE, 140, 100, -1.0))
    residual = write(tmp_path / "left.fits", gaussian(SHAPE, 20, 10, left))
    products = ImageProducts(
        image=point[0], residual=residual, model=point[0], psf=point[0], dirty=dirty, models=(),
        beam_major_arcsec=1.0, beam_minor_arcsec=1.0, beam_pa_deg=0.0, seconds=0.0,
    )  # fmt: skip
    if good:
        check_clean(products)
        return
    with pytest.raises(ImageError, match="CLEAN diverged"):
        check_clean(products)


def test_negative_emission_is_in_the_error_of_the_flux(tmp_path, point):
    plane = gaussian(SHAPE, 140, 100, 2.0) - gaussian(SHAPE, 60, 60, 0.3)
    image = write(tmp_path / "negative.fits", plane)
    assert measure(*point).flux_error_jy < 0.02
    assert measure(image, point[1]).flux_error_jy == pytest.approx(0.3, rel=0.05)


def test_fluxes_within_the_better_image_leave_the_others_artefacts_out(tmp_path, point):
    artefacts = gaussian(SHAPE, 140, 100, 1.4) + gaussian(SHAPE, 40, 40, 0.9)
    other = write(tmp_path / "other.fits", artefacts)
    better, worse = fluxes_within(*point, other)
    assert better == pytest.approx(2.0, rel=0.02)
    assert worse == pytest.approx(1.4, rel=0.02)
