"""The place of a source from its fringes, whatever the phases of the stations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities
from libs.closure.fringe_place import place_by_fringes
from libs.core.geometry import EARTH_RATE_RAD_S, SPEED_OF_LIGHT_M_S

HALF_RAD = 40e-6
BEAM_RAD = SPEED_OF_LIGHT_M_S / 8.4e9 / 36e3  # about 1e-6


def point(uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
    return np.ones((len(uvw_m), len(frequency_hz)), np.complex128)


def observed(
    place_rad: tuple[float, float],
    *,
    windows: int = 4,
    sigma_jy: float = 1.0,
    flux_jy: float = 1.0,
    seed: int = 1,
    integrations: int = 24,
    scans: int = 3,
    walk_rad: float = 0.0,
) -> BaselineVisibilities:
    """A point; phases of each antenna, window and scan are drawn anew.

    They hold within a scan, or all windows' walk by so much from one integration to the next.
    """
    rng = np.random.default_rng(seed)
    nant = 12
    position = rng.normal(0, 10e3, (nant, 3))
    ant1, ant2 = np.triu_indices(nant, 1)
    scan = np.repeat(np.arange(scans), integrations)
    time_s = 20.0 * np.arange(len(scan)) + 3000.0 * scan
    turn = EARTH_RATE_RAD_S * time_s
    rotated = np.stack(
        [
            np.outer(position[:, 0], np.cos(turn)) - np.outer(position[:, 1], np.sin(turn)),
            np.outer(position[:, 0], np.sin(turn)) + np.outer(position[:, 1], np.cos(turn)),
            np.outer(position[:, 2], np.ones(len(turn))),
        ],
        axis=-1,
    )
    uvw = rotated[ant2] - rotated[ant1]
    frequency = np.linspace(8.2e9, 8.4e9, windows)
    place = np.array([*place_rad, np.sqrt(1 - np.hypot(*place_rad) ** 2) - 1])
    path = np.moveaxis(np.multiply.outer(uvw @ place, frequency), 2, 1) / SPEED_OF_LIGHT_M_S
    gain = np.exp(1j * rng.uniform(-np.pi, np.pi, (nant, windows, scans)))[:, :, scan]
    walk = walk_rad * rng.normal(size=(nant, 1, len(scan))).cumsum(axis=-1)
    gain = gain * np.exp(1j * walk)
    vis = flux_jy * gain[ant1] * np.conj(gain[ant2]) * np.exp(2j * np.pi * path)
    vis = vis + sigma_jy * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))
    return BaselineVisibilities(
        time_s, tuple("ABCDEFGHIJKL"), ant1, ant2, frequency, uvw, vis,
        np.full(vis.shape, sigma_jy),
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-0.7, 0.7), st.floats(-0.7, 0.7), st.integers(0, 10_000),
)  # fmt: skip
def test_a_source_is_found_wherever_it_lies(l_part: float, m_part: float, seed: int) -> None:
    true = (l_part * HALF_RAD, m_part * HALF_RAD)
    found = place_by_fringes(observed(true, sigma_jy=0.5, seed=seed), point, HALF_RAD)
    assert found is not None
    # fringes of a scan of 480 s tell places apart by 28 beams; so bright a source to a part of it
    assert np.hypot(found.offset_rad[0] - true[0], found.offset_rad[1] - true[1]) < 4 * BEAM_RAD
    assert found.significant or np.hypot(*true) < 20 * BEAM_RAD


def test_a_bright_source_is_placed_within_a_beam() -> None:
    true = (13e-6, -21e-6)
    found = place_by_fringes(observed(true, sigma_jy=0.05), point, HALF_RAD)
    assert found is not None
    assert found.significant
    assert found.offset_rad == pytest.approx(true, abs=BEAM_RAD)


def test_a_source_at_the_phase_centre_is_left_there() -> None:
    for seed in range(20):
        found = place_by_fringes(observed((0.0, 0.0), seed=seed), point, HALF_RAD)
        assert found is not None
        assert not found.significant


def test_phases_that_wander_do_not_move_a_bright_source() -> None:
    how: dict[str, Any] = {"sigma_jy": 1e-3, "walk_rad": 0.1}
    for seed in range(10):
        found = place_by_fringes(observed((0.0, 0.0), seed=seed, **how), point, HALF_RAD)
        assert found is not None and not found.significant
    found = place_by_fringes(observed((13e-6, -21e-6), **how), point, HALF_RAD)
    assert found is not None and found.significant
    assert found.offset_rad == pytest.approx((13e-6, -21e-6), abs=3 * BEAM_RAD)


def test_noise_lies_nowhere() -> None:
    alarms = 0
    for seed in range(20):
        found = place_by_fringes(observed((0.0, 0.0), flux_jy=0.0, seed=seed), point, HALF_RAD)
        assert found is not None
        alarms += found.significant
    assert alarms <= 1  # stated: 1 of 100


def test_two_integrations_turn_no_fringes() -> None:
    data = observed((20e-6, 0.0), integrations=2, scans=1)
    assert place_by_fringes(data, point, HALF_RAD) is None


def test_the_weights_scale_does_not_matter_for_the_place() -> None:
    faint = place_by_fringes(observed((13e-6, -21e-6), sigma_jy=0.5), point, HALF_RAD)
    data = observed((13e-6, -21e-6), sigma_jy=0.5)
    scaled = BaselineVisibilities(
        data.time_s, data.antenna, data.ant1, data.ant2, data.frequency_hz, data.uvw_m,
        7.0 * data.vis, 7.0 * data.sigma,
    )  # fmt: skip
    again = place_by_fringes(scaled, point, HALF_RAD)
    assert faint is not None
    assert again is not None
    assert again.offset_rad == pytest.approx(faint.offset_rad, rel=1e-4)
    assert again.sigma == pytest.approx(faint.sigma, rel=1e-4)
