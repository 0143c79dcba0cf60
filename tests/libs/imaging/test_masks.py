from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from libs.core.errors import ConfigError, InputError
from libs.imaging.interface import open_image, sky_position, write_masked_model
from libs.imaging.masks import MaskOptions, make_mask, mask_plane, write_disc
from libs.imaging.source_finding import find_sources, smallest_square_holding
from tests.libs.fake_images import CELL_ARCSEC, gaussian, write

SHAPE = (256, 256)
NOISE = 1e-3


def _noise(seed=1):
    return np.random.default_rng(seed).normal(0, NOISE, SHAPE)


def test_mask_holds_the_source_and_little_else(tmp_path):
    image = write(tmp_path / "i.fits", gaussian(SHAPE, 140, 100, 0.1) + _noise())
    made = make_mask(image, tmp_path / "mask.fits", MaskOptions(sigma=20))
    mask, header = open_image(made.path)
    assert made.sigma == 20
    assert made.islands == 1
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert mask[100, 140] == 1
    assert made.pixels == mask.sum() < 400
    assert header["CRVAL1"] == fits.getheader(image)["CRVAL1"]
    assert "BMAJ" not in header
    assert fits.getdata(made.path).shape == (1, 1, *SHAPE)


def test_sigma_is_lowered_by_steps_until_a_source_is_found(tmp_path):
    image = write(tmp_path / "i.fits", gaussian(SHAPE, 140, 100, 0.0155) + _noise())
    made = make_mask(image, tmp_path / "mask.fits", MaskOptions(sigma=25))
    # about 15.5 sigma: 25, 23, 21, 19, 17, then 15
    assert made.sigma == pytest.approx(15, abs=2.1)
    assert made.sigma % 2 == 1
    assert "nothing reached 25 sigma" in made.reason


def test_no_source_is_a_result_with_a_reason(tmp_path):
    image = write(tmp_path / "i.fits", _noise())
    stale = tmp_path / "mask.fits"
    stale.write_text("old")
    made = make_mask(image, stale, MaskOptions(sigma=60))
    assert made.path is None
    assert not stale.exists()
    assert made.reason.startswith("no source above 6 sigma: the peak")
    assert 3 < made.peak_sigma < 6


def test_lower_floor_finds_fainter_sources(tmp_path):
    image = write(tmp_path / "i.fits", gaussian(SHAPE, 140, 100, 0.0055) + 0.3 * _noise())
    assert make_mask(image, tmp_path / "m.fits", MaskOptions(sigma=60, floor=30)).path is None
    assert make_mask(image, tmp_path / "m.fits", MaskOptions(sigma=60, floor=5)).path


def test_blank_image_is_an_error(tmp_path):
    image = write(tmp_path / "i.fits", np.full(SHAPE, np.nan))
    with pytest.raises(InputError, match="blank"):
        make_mask(image, tmp_path / "m.fits", MaskOptions(sigma=6))


def test_senseless_options_are_an_error():
    with pytest.raises(ConfigError):
        MaskOptions(sigma=0.5)


def test_faint_neighbours_without_a_bright_pixel_are_left_out():
    plane = gaussian(SHAPE, 60, 60, 10.0) + gaussian(SHAPE, 200, 200, 9.5)
    inside, sigma = mask_plane(plane, 1.0, 5.0, MaskOptions(sigma=10, floor=6))
    assert sigma == 10
    assert inside[60, 60]
    assert not inside[200, 200]


@given(st.floats(2, 40), st.floats(2, 60), st.floats(0.1, 1))
def test_mask_is_never_wrong_about_emptiness(sigma, peak, dilation):
    plane = gaussian((64, 64), 30, 30, peak)
    options = MaskOptions(sigma=sigma, floor=min(sigma, 6.0), dilate_beams=dilation)
    inside, used = mask_plane(plane, 1.0, 5.0, options)
    assert inside.any() == (peak >= options.floor)
    if inside.any():
        assert inside[30, 30]
        assert options.floor <= used <= sigma


def test_masked_model_keeps_only_what_is_inside(tmp_path):
    model = np.zeros(SHAPE)
    model[100, 140], model[10, 10] = 2.0, -0.5
    mask = np.zeros(SHAPE)
    mask[90:110, 130:150] = 1
    written = write_masked_model(
        write(tmp_path / "model.fits", model),
        write(tmp_path / "mask.fits", mask),
        tmp_path / "masked.fits",
    )
    plane, _ = open_image(written)
    assert plane[100, 140] == 2.0
    assert plane.sum() == 2.0
    with pytest.raises(InputError, match="shape"):
        write_masked_model(
            written, write(tmp_path / "small.fits", np.ones((8, 8))), tmp_path / "x.fits"
        )


def _two_sources(tmp_path, second=0.05):
    plane = gaussian(SHAPE, 140, 100, 0.1) + gaussian(SHAPE, 30, 220, second) + _noise()
    return write(tmp_path / "field.fits", plane)


def test_sources_are_found_with_their_fluxes(tmp_path):
    found = find_sources(_two_sources(tmp_path))
    assert [(s.x_pixel, s.y_pixel) for s in found] == [(140, 100), (30, 220)]
    assert found[0].flux_jy == pytest.approx(0.1, rel=0.1)
    assert found[1].flux_jy == pytest.approx(0.05, rel=0.15)
    assert found[0].snr == pytest.approx(100, rel=0.15)
    assert found[0].left_pixel < 140 < found[0].right_pixel
    assert (found[0].dec_deg - 40) * 3600 == pytest.approx(-28 * CELL_ARCSEC, rel=1e-3)


def test_noise_alone_holds_no_sources(tmp_path):
    assert find_sources(write(tmp_path / "noise.fits", _noise())) == []


def test_what_is_no_brighter_than_the_negatives_is_an_artefact(tmp_path):
    plane = gaussian(SHAPE, 140, 100, 1.0) + _noise()
    plane += gaussian(SHAPE, 60, 60, 0.1) - gaussian(SHAPE, 200, 60, 0.1)
    found = find_sources(write(tmp_path / "i.fits", plane))
    assert [(s.x_pixel, s.y_pixel) for s in found] == [(140, 100)]


def test_smallest_square_holds_every_source(tmp_path):
    image = _two_sources(tmp_path)
    field = smallest_square_holding(find_sources(image), image, CELL_ARCSEC / 2)
    # The farther source: 98 columns and 92 rows from the centre, a few pixels in size, with a
    # margin of 10 beams of 5 pixels; then twice as many pixels of half the size.
    assert field.imsize[0] == pytest.approx(2 * 2 * (98 + 6 + 50), abs=45)
    assert field.imsize[0] == field.imsize[1]
    assert len(field.inside) == 2
    assert field.outside == ()
    assert field.phase_centre_deg is None


def test_sources_too_far_out_are_reported(tmp_path):
    image = _two_sources(tmp_path)
    field = smallest_square_holding(
        find_sources(image), image, CELL_ARCSEC / 2, least=64, largest=360
    )
    assert field.imsize[0] <= 360
    assert [s.x_pixel for s in field.outside] == [30]
    assert [s.x_pixel for s in field.inside] == [140]


def test_faint_sources_do_not_enlarge_the_image_but_are_reported(tmp_path):
    plane = gaussian(SHAPE, 128, 128, 10.0) + gaussian(SHAPE, 30, 220, 0.05) + _noise()
    image = write(tmp_path / "i.fits", plane)
    field = smallest_square_holding(find_sources(image), image, CELL_ARCSEC, least=64)
    assert field.imsize[0] < 150
    assert [s.x_pixel for s in field.outside] == [30]


def test_shifted_field_is_centred_on_the_sources(tmp_path):
    image = write(tmp_path / "i.fits", gaussian(SHAPE, 30, 220, 0.05) + _noise())
    sources = find_sources(image)
    field = smallest_square_holding(sources, image, CELL_ARCSEC, least=64, shift=True)
    assert field.imsize[0] < 150
    ra, dec = field.phase_centre_deg
    assert ra == pytest.approx(sources[0].ra_deg, abs=3 * CELL_ARCSEC / 3600)
    assert dec == pytest.approx(sources[0].dec_deg, abs=3 * CELL_ARCSEC / 3600)


def test_without_sources_the_smallest_image_is_used(tmp_path):
    image = write(tmp_path / "i.fits", _noise())
    field = smallest_square_holding([], image, CELL_ARCSEC)
    assert field.imsize == (256, 256)


def test_a_disc_of_microarcseconds_around_the_centre(tmp_path):
    path = write_disc(tmp_path / "d.fits", (128, 64), 1.5e-6, (187.7, 12.4), 15e-6)
    mask, header = open_image(path)
    assert mask.shape == (64, 128)
    rows, columns = np.indices(mask.shape)
    assert np.array_equal(mask > 0, np.hypot(columns - 64, rows - 32) <= 10)
    assert sky_position(header, 64, 32) == pytest.approx((187.7, 12.4))
    east = sky_position(header, 54, 32)[0] - 187.7
    assert east * 3600 * np.cos(np.deg2rad(12.4)) == pytest.approx(15e-6, rel=1e-3)
