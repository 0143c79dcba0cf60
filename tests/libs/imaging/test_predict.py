from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import InputError
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.predict import ModelImage, model_visibilities, predict_model, read_model
from libs.ms.tables import open_table
from tests.libs import point_source
from tests.libs.fake_images import CELL_ARCSEC, write

CELL_RAD = np.radians(0.4 / 3600)
FREQUENCY = np.array([7.9e9, 8.0e9, 8.2e9])


def _uvw(rows=50):
    return np.random.default_rng(1).uniform(-3000, 3000, (rows, 3)) * [1.0, 1.0, 0.3]


def _direct(uvw, frequency, l, m, flux):  # noqa: E741
    direction = np.array([l, m, np.sqrt(1 - l * l - m * m) - 1])
    path = (uvw @ direction)[:, None] * frequency / SPEED_OF_LIGHT_M_S
    return flux * np.exp(2j * np.pi * path)


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 63),
    st.integers(0, 47),
    st.floats(-0.01, 0.01),
    st.floats(-0.01, 0.01),
)
def test_a_pixel_gives_the_visibilities_of_its_direction(x, y, east, north):
    terms = np.zeros((1, 48, 64))
    terms[0, y, x] = 1.5
    uvw = _uvw()
    found = model_visibilities(ModelImage(terms, 0.0, CELL_RAD, (east, north)), uvw, FREQUENCY)
    l, m = east - (x - 32) * CELL_RAD, north + (y - 24) * CELL_RAD  # noqa: E741
    assert np.abs(found - _direct(uvw, FREQUENCY, l, m, 1.5)).max() < 1e-5


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(7e9, 9e9), min_size=1, max_size=6, unique=True), st.booleans())
def test_channels_of_any_order_have_their_own_visibilities(channels, falling):
    frequency = np.array(sorted(channels, reverse=falling))
    terms = np.zeros((2, 32, 32))
    terms[0, 20, 5], terms[1, 20, 5] = 1.0, -0.7
    model = ModelImage(terms, 8e9, CELL_RAD)
    east, north = 11 * CELL_RAD, 4 * CELL_RAD
    spectrum = 1.0 - 0.7 * (frequency / 8e9 - 1.0)
    direct = _direct(_uvw(), frequency, east, north, 1.0) * spectrum
    assert np.abs(model_visibilities(model, _uvw(), frequency) - direct).max() < 1e-5


@pytest.mark.parametrize("cell_arcsec", [1.5e-6, 1e-5, 1e-4, 1e-3])
def test_pixels_of_microarcseconds(cell_arcsec):
    """Fields on either side of the limit below which the w term is left out."""
    uvw = np.random.default_rng(8).uniform(-1e7, 1e7, (200, 3))
    frequency = np.array([227e9, 229e9])
    cell = np.deg2rad(cell_arcsec / 3600)
    terms = np.zeros((1, 512, 512))
    terms[0, 260, 200], terms[0, 500, 10] = 0.5, 0.25
    found = model_visibilities(ModelImage(terms, 0.0, cell), uvw, frequency)
    direct = _direct(uvw, frequency, 56 * cell, 4 * cell, 0.5)
    direct += _direct(uvw, frequency, 246 * cell, 244 * cell, 0.25)
    assert np.abs(found - direct).max() < 1e-5


def test_visibilities_are_linear_in_the_model():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 1, 32, 32))
    uvw = _uvw()

    def of(terms):
        return model_visibilities(ModelImage(terms, 0.0, CELL_RAD), uvw, FREQUENCY)

    both = of(2 * first - second)
    assert np.abs(both - 2 * of(first) + of(second)).max() < 1e-3


def test_taylor_terms_make_a_spectrum():
    terms = np.zeros((2, 32, 32))
    terms[0, 16, 16], terms[1, 16, 16] = 2.0, -1.4
    found = model_visibilities(ModelImage(terms, 8.0e9, CELL_RAD), _uvw(3), FREQUENCY)
    assert np.allclose(found, 2.0 - 1.4 * (FREQUENCY - 8.0e9) / 8.0e9, atol=1e-5)


def test_an_empty_model_gives_zeros():
    model = ModelImage(np.zeros((1, 32, 32)), 0.0, CELL_RAD)
    assert not model_visibilities(model, _uvw(), FREQUENCY).any()


def test_models_are_read_with_their_grid(tmp_path):
    plane = np.zeros((32, 32))
    plane[3, 4] = 1.0
    first = write(tmp_path / "a.fits", plane)
    model = read_model([first, write(tmp_path / "b.fits", 2 * plane)], (1e-3, 0.0))
    assert model.terms.shape == (2, 32, 32)
    assert model.terms[1, 3, 4] == 2.0
    assert model.cell_rad == pytest.approx(np.radians(CELL_ARCSEC / 3600))
    assert model.frequency_hz == 5e9
    assert model.offset_rad == (1e-3, 0.0)


def test_bad_models_are_errors(tmp_path):
    nan = write(tmp_path / "nan.fits", np.full((32, 32), np.nan))
    with pytest.raises(InputError, match="not finite"):
        read_model([nan])
    with pytest.raises(InputError, match="differ"):
        read_model([])


@pytest.mark.tools
def test_every_row_of_a_measurement_set_gets_the_model(tmp_path, session):
    ms = point_source.make(tmp_path / "p.ms", session)
    terms = np.zeros((1, 64, 64))
    east, north = point_source.OFFSET_PIXELS
    terms[0, 32 + north, 32 - east] = point_source.FLUX_JY
    cell = np.radians(point_source.CELL_ARCSEC / 3600)
    predict_model([ms], ModelImage(terms, 0.0, cell))
    assert point_source.model_error(ms) < 1e-5
    with open_table(ms) as opened:
        assert not opened.getcol("MODEL_DATA")[:, :, 1:3].any()
    predict_model([ms], ModelImage(2 * terms, 0.0, cell), field_id=7)
    assert point_source.model_error(ms) < 1e-5
