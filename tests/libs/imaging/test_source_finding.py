"""Sources found in an image and the field that holds them."""

from __future__ import annotations

import numpy as np
import pytest

from libs.imaging.source_finding import find_sources, smallest_square_holding
from tests.libs.fake_images import CELL_ARCSEC, gaussian, write

SHAPE = (256, 256)
NOISE = 1e-3


def _noise(seed=1):
    return np.random.default_rng(seed).normal(0, NOISE, SHAPE)


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
