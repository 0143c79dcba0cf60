"""Noise images, common beams, and spectra of Stokes parameters against known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import InputError
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.common_beam import common_beam, deconvolved, with_beam
from libs.imaging.rms_map import clipped_rms, rms_map
from libs.imaging.stokes_spectrum import PlaneValues, fit_power_law, rotation_measure


def test_the_noise_is_followed_and_sources_do_not_count() -> None:
    rng = np.random.default_rng(1)
    sigma = np.linspace(1.0, 3.0, 300)[None, :] * np.ones((240, 1))
    image = sigma * rng.standard_normal((240, 300))
    image[100:110, 140:150] += 500.0
    found = rms_map(image, 60, 10)
    inner = found[30:-30, 30:-30] / sigma[30:-30, 30:-30]
    assert np.median(inner) == pytest.approx(1.0, abs=0.03)
    assert np.abs(inner - 1.0).max() < 0.15


def test_blank_pixels_stay_blank_and_do_not_count() -> None:
    rng = np.random.default_rng(2)
    image = rng.standard_normal((128, 128))
    image[:, :40] = np.nan
    found = rms_map(image, 30, 10)
    assert np.isnan(found[:, :40]).all()
    assert np.abs(found[:, 40:] - 1.0).max() < 0.25
    assert np.isnan(rms_map(np.full((50, 50), np.nan), 10, 5)).all()
    assert math.isnan(clipped_rms(np.array([1.0, 2.0])))


beams = st.tuples(st.floats(3.0, 9.0), st.floats(0.4, 1.0), st.floats(0.0, 180.0)).map(
    lambda one: (one[0], one[0] * one[1], one[2])
)


@settings(max_examples=15, deadline=None)
@given(shapes=st.lists(beams, min_size=1, max_size=5))
def test_every_beam_can_become_the_common_one(shapes: list[tuple[float, float, float]]) -> None:
    found = common_beam(shapes)
    assert all(deconvolved(found, shape) is not None for shape in shapes)
    smallest = max(major * minor for major, minor, _ in shapes)
    assert found[0] * found[1] >= smallest
    circle = max(major for major, _, _ in shapes) ** 2
    assert found[0] * found[1] <= 1.0001 * circle, "a circle as wide as the widest would do"
    if len(shapes) == 1:
        assert found[0] == pytest.approx(1.00001 * shapes[0][0], rel=1e-9)


def gaussian(shape: tuple[float, float, float], size: int = 96) -> np.ndarray:
    y, x = np.indices((size, size)) - size // 2
    turn = math.radians(shape[2])
    east, north = -x, y
    along = east * math.sin(turn) + north * math.cos(turn)
    across = east * math.cos(turn) - north * math.sin(turn)
    return np.exp(-4 * math.log(2) * ((along / shape[0]) ** 2 + (across / shape[1]) ** 2))


def test_an_image_at_a_larger_beam_keeps_flux_and_has_its_shape() -> None:
    old, new = (6.0, 4.0, 30.0), (9.0, 7.0, 75.0)
    found = with_beam(2.0 * gaussian(old), old, new)
    np.testing.assert_allclose(found, 2.0 * gaussian(new), atol=2e-3)
    with pytest.raises(InputError, match="cannot have one of"):
        with_beam(gaussian(old), old, (5.0, 4.0, 30.0))


def planes(alpha: float, measure: float, hz: list[float], noise: float = 1e-5) -> list[PlaneValues]:
    made = []
    for number, nu in enumerate(hz):
        flux = 0.2 * (nu / 3e9) ** alpha
        turn = 2 * (0.3 + measure * (SPEED_OF_LIGHT_M_S / nu) ** 2)
        mean = {"I": flux, "Q": 0.1 * flux * math.cos(turn), "U": 0.1 * flux * math.sin(turn)}
        made.append(PlaneValues(f"spw{number}", nu, mean, dict.fromkeys("IQU", noise)))
    return made


HZ = [2.052e9 + 0.128e9 * k for k in range(16)]


@settings(max_examples=20, deadline=None)
@given(alpha=st.floats(-2, 1), measure=st.floats(-150, 150))
def test_power_law_and_rotation_measure_come_back(alpha: float, measure: float) -> None:
    values = planes(alpha, measure, HZ)
    law = fit_power_law(values)
    assert law is not None
    assert law["index"] == pytest.approx(alpha, abs=1e-4)
    assert law["flux_jy"] == pytest.approx(0.2, rel=1e-4)
    turn = rotation_measure(values)
    assert turn is not None
    assert turn["rad_m2"] == pytest.approx(measure, abs=0.05)


def test_errors_are_those_of_many_draws() -> None:
    rng = np.random.default_rng(3)
    noise = 4e-4
    pulls = []
    for _ in range(300):
        drawn = []
        for one in planes(-0.7, 20.0, HZ, noise):
            mean = {key: value + noise * rng.standard_normal() for key, value in one.mean.items()}
            drawn.append(PlaneValues(one.label, one.frequency_hz, mean, one.error))
        law, turn = fit_power_law(drawn), rotation_measure(drawn)
        assert law is not None and turn is not None
        pulls.append(
            (
                (law["index"] + 0.7) / law["index_error"],  # type: ignore[operator]
                (turn["rad_m2"] - 20.0) / turn["error_rad_m2"],  # type: ignore[operator]
            )
        )
    spread = np.std(np.array(pulls), axis=0)
    assert spread == pytest.approx([1.0, 1.0], abs=0.15)


def test_polarization_has_no_bias_of_the_noise() -> None:
    rng = np.random.default_rng(4)
    noise, truth = 1.0, 4.0
    found = []
    for _ in range(2000):
        mean = {"I": 10.0, "Q": truth + rng.standard_normal(), "U": rng.standard_normal()}
        found.append(PlaneValues("x", 3e9, mean, dict.fromkeys("IQU", noise)).polarized)
    assert np.mean(found) == pytest.approx(truth, abs=0.08)


def test_too_little_for_a_fit() -> None:
    (one,) = planes(0.0, 0.0, [3e9])
    law = fit_power_law([one])
    assert law is not None and law["index"] is None
    assert rotation_measure([one]) is None
    dark = PlaneValues("x", 3e9, {"I": -1.0, "Q": 0.0, "U": 0.0}, dict.fromkeys("IQU", 1.0))
    assert fit_power_law([dark]) is None
    assert rotation_measure([dark, dark]) is None
