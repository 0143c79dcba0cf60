from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from libs.core.errors import ConfigError, InputError
from libs.imaging.interface import open_image, sky_position, write_image, write_masked_model
from libs.imaging.masks import MaskOptions, disc, grid_header, make_mask, mask_header, mask_plane
from tests.libs.fake_images import gaussian, write

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


def test_a_disc_of_microarcseconds_around_the_centre(tmp_path):
    header = mask_header(grid_header((128, 64), 1.5e-6, (187.7, 12.4)))
    path = write_image(disc((128, 64), 1.5e-6, 15e-6), header, tmp_path / "d.fits")
    mask, header = open_image(path)
    assert mask.shape == (64, 128)
    rows, columns = np.indices(mask.shape)
    assert np.array_equal(mask > 0, np.hypot(columns - 64, rows - 32) <= 10)
    assert sky_position(header, 64, 32) == pytest.approx((187.7, 12.4))
    east = sky_position(header, 54, 32)[0] - 187.7
    assert east * 3600 * np.cos(np.deg2rad(12.4)) == pytest.approx(15e-6, rel=1e-3)
