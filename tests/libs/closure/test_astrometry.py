"""The place of a source from phases over the band, with gains that hide it at any one frequency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.closure.astrometry import place_by_band
from libs.closure.formation import BaselineVisibilities
from libs.core.geometry import SPEED_OF_LIGHT_M_S

FREQUENCY_HZ = (8.3e9, 8.4e9, 8.5e9, 8.6e9)


def point(uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
    return np.ones((len(uvw_m), len(frequency_hz)), np.complex128)


def observed(
    place_rad: tuple[float, float],
    *,
    frequency_hz: tuple[float, ...] = FREQUENCY_HZ,
    hands: int = 2,
    sigma_jy: float = 0.01,
    delay_s: float = 0.0,
    seed: int = 1,
) -> BaselineVisibilities:
    """A point of 1 Jy; phases of each antenna, hand and integration are drawn anew."""
    rng = np.random.default_rng(seed)
    nant, ntime = 8, 30
    position = rng.normal(0, 10e3, (nant, 3))
    ant1, ant2 = np.triu_indices(nant, 1)
    turn = np.linspace(0, 0.8, ntime)
    rotated = np.stack(
        [
            np.outer(position[:, 0], np.cos(turn)) - np.outer(position[:, 1], np.sin(turn)),
            np.outer(position[:, 0], np.sin(turn)) + np.outer(position[:, 1], np.cos(turn)),
            np.outer(position[:, 2], np.ones(ntime)),
        ],
        axis=-1,
    )
    uvw = rotated[ant2] - rotated[ant1]
    frequency = np.repeat(frequency_hz, hands)
    place = np.array([*place_rad, np.sqrt(1 - np.hypot(*place_rad) ** 2) - 1])
    path = np.moveaxis(np.multiply.outer(uvw @ place, frequency), 2, 1) / SPEED_OF_LIGHT_M_S
    gain = np.exp(1j * rng.uniform(-np.pi, np.pi, (nant, hands, ntime)))
    gain = np.tile(gain, (1, len(frequency_hz), 1))
    own = np.exp(2j * np.pi * np.outer(rng.normal(0, delay_s, nant), frequency))
    gain = gain * own[:, :, None]
    vis = gain[ant1] * np.conj(gain[ant2]) * np.exp(2j * np.pi * path)
    vis = vis + sigma_jy * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))
    return BaselineVisibilities(
        np.arange(ntime) * 60.0, tuple("ABCDEFGH"), ant1, ant2, frequency, uvw, vis,
        np.full(vis.shape, sigma_jy),
    )  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.floats(-1e-5, 1e-5), st.floats(-1e-5, 1e-5))
def test_the_place_is_found_whatever_the_gains(l_rad: float, m_rad: float) -> None:
    found = place_by_band(observed((l_rad, m_rad)), point)
    assert found is not None
    miss = np.hypot(found.offset_rad[0] - l_rad, found.offset_rad[1] - m_rad)
    assert miss < 5 * found.error_rad
    assert found.error_rad < 3e-8
    if np.hypot(l_rad, m_rad) > 1e-7:
        assert found.significant


def test_the_error_is_that_of_the_scatter() -> None:
    """Noise of baselines counts twice, once for each antenna: root 2 on the safe side."""
    misses, errors = [], []
    for seed in range(40):
        found = place_by_band(observed((0.0, 0.0), sigma_jy=0.1, seed=seed), point)
        assert found is not None
        misses.append(found.offset_rad)
        errors.append(found.error_rad)
    scatter = np.std(misses, axis=0).max()
    assert np.median(errors) == pytest.approx(np.sqrt(2) * scatter, rel=0.25)


def test_a_place_that_is_right_is_not_moved() -> None:
    found = place_by_band(observed((3e-6, -2e-6)), point, (3e-6, -2e-6))
    assert found is not None and not found.significant


def test_delays_of_the_antennas_count_as_errors() -> None:
    clean = place_by_band(observed((0.0, 0.0)), point)
    delayed = place_by_band(observed((0.0, 0.0), delay_s=2e-10), point)
    assert clean is not None and delayed is not None
    assert delayed.error_rad > 10 * clean.error_rad
    assert not delayed.significant


def test_one_frequency_tells_nothing() -> None:
    assert place_by_band(observed((1e-6, 0.0), frequency_hz=(8.4e9,)), point) is None


def test_data_without_a_source_do_not_move_it() -> None:
    data = observed((0.0, 0.0), sigma_jy=50.0)
    found = place_by_band(data, point)
    assert found is None or not found.significant


def test_a_source_resolved_out_on_most_baselines() -> None:
    """Amplitudes of a wide Gaussian underflow; what the short baselines say still counts."""

    def wide(
        uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        waves = (
            np.multiply.outer(np.hypot(uvw_m[:, 0], uvw_m[:, 1]), frequency_hz) / SPEED_OF_LIGHT_M_S
        )
        return np.exp(-((waves / 4e4) ** 2)).astype(np.complex128)

    data = observed((2e-6, 1e-6), sigma_jy=1e-6)
    flat = wide(data.uvw_m.reshape(-1, 3), data.frequency_hz).reshape(*data.uvw_m.shape[:2], -1)
    assert np.min(np.abs(flat)) ** 4 == 0, "products underflow"
    vis = data.vis * np.moveaxis(flat, 2, 1)
    found = place_by_band(replace(data, vis=vis), wide)
    assert found is not None and found.significant
    miss = np.hypot(found.offset_rad[0] - 2e-6, found.offset_rad[1] - 1e-6)
    assert miss < 5 * found.error_rad < 1e-6


def test_nothing_but_amplitudes_of_zero() -> None:
    def nothing(
        uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        return np.zeros((len(uvw_m), len(frequency_hz)), np.complex128)

    assert place_by_band(observed((0.0, 0.0)), nothing) is None
