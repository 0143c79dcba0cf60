"""Constants of windows and polarizations beneath a common phase: found again, and chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.gains.normal_equations import NormalEquations
from libs.gains.two_factors import LONGEST_CONSTANT_S, constant_spans, fit_two_factors
from libs.gains.windows_apart import donors, median_snr
from libs.heldout.choose import choose_solve

WINDOWS_HZ = np.array([217e9, 219e9, 230e9, 232e9])


def made(
    seed: int, *, noise: float, times: int = 40, antennas: int = 10, constant_deg: float = 50.0,
    walk_deg: float = 20.0, width: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
) -> tuple[NormalEquations, NDArray[np.complex128]]:  # fmt: skip
    """Sums of a point of 1 Jy, and the true gains (ntime, nblock, nant, npol)."""
    rng = np.random.default_rng(seed)
    one, two = np.triu_indices(antennas, 1)
    shape = (len(width), antennas, 2)
    constant = np.exp(1j * np.radians(constant_deg) * rng.standard_normal(shape))
    walk = np.cumsum(np.radians(walk_deg) * rng.standard_normal((times, antennas)), axis=0)
    gain = np.exp(1j * walk)[:, None, :, None] * constant
    ideal = gain[:, :, one] * gain[:, :, two].conj()
    weight = np.broadcast_to(np.array(width)[:, None, None] / noise**2, ideal.shape).copy()
    hiss = rng.standard_normal((2, *ideal.shape)) / np.sqrt(weight)
    scan = np.arange(times) // 20
    plain = {"scan": scan, "field": 0 * scan, "observation": 0 * scan}
    return NormalEquations(
        time_s=np.arange(times) * 12.0 + 600.0 * scan, interval_s=np.full(times, 12.0), **plain,
        frequency_hz=WINDOWS_HZ[: len(width)], spw=np.arange(len(width)),
        antenna=tuple(f"A{i}" for i in range(antennas)),
        position_m=100 * rng.standard_normal((antennas, 3)), antenna1=one, antenna2=two,
        polarization=("X", "Y"), vis=weight * (ideal + hiss[0] + 1j * hiss[1]), weight=weight,
        time_weight=weight.sum(axis=(1, 2, 3)),
    ), gain  # fmt: skip


def errors_deg(found: NDArray[np.complex128], true: NDArray[np.complex128]) -> Any:
    """Errors of phase, each window and polarization against its first antenna."""
    ratio = found * true.conj()
    return np.degrees(np.angle(ratio * ratio[:, :, :1].conj()))


@given(st.integers(0, 2**31), st.floats(0, 120), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_without_noise_both_factors_are_exact(seed: int, deg: float, windows: int) -> None:
    equations, gain = made(seed, noise=1e-3, constant_deg=deg, width=(1.0,) * windows)
    fit = fit_two_factors(equations)
    assert np.abs(errors_deg(fit.gain, gain)).max() < 0.5
    assert not fit.flag.any()


def test_constants_are_far_better_known_than_phases_of_each_window() -> None:
    equations, gain = made(5, noise=2.0)
    fit = fit_two_factors(equations)
    apart = errors_deg(fit.gain, gain)
    # a common phase of 9 baselines, 8 windows and hands at 12 s: 2 / sqrt(72) rad
    assert apart.std() < 1.5 * np.degrees(2.0 / np.sqrt(72)) * np.sqrt(2)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_held_out_data_choose_them_where_they_are(seed: int) -> None:
    equations, _ = made(seed, noise=3.0)
    best = choose_solve(equations).best
    assert best is not None and best.solution == "constants+phase"
    assert best.interval.seconds < 200, "the common phase is as fast as the data show"
    alike, _ = made(seed, noise=3.0, constant_deg=0.0)
    best = choose_solve(alike).best
    assert best is not None and best.solution == "gain" and best.combine_spw


def test_baselines_left_out_take_no_part() -> None:
    equations, _ = made(7, noise=1.0)
    mask = np.ones(len(equations.antenna1), bool)
    mask[::5] = False
    vis = equations.vis.copy()
    vis[:, :, ~mask] *= -7
    one = fit_two_factors(equations, baseline_mask=mask)
    two = fit_two_factors(replace(equations, vis=vis), baseline_mask=mask)
    np.testing.assert_allclose(one.gain, two.gain)


def test_a_narrow_window_takes_the_constants_of_the_nearest_good_one() -> None:
    equations, gain = made(11, noise=3.0, width=(1.0, 1.0, 0.0004, 1.0))
    fit = fit_two_factors(equations)
    np.testing.assert_array_equal(fit.constant[:, 2], fit.constant[:, 3])
    ratio = (fit.gain * gain.conj())[:, [0, 1, 3]]
    steady = (ratio * ratio[:, :, :1].conj()).mean(axis=0)
    assert np.degrees(np.angle(steady)).std() < 20, "the others are their own"
    weak, _ = made(11, noise=300.0)
    fit = fit_two_factors(weak)
    assert (fit.constant == fit.constant[:, :1]).all(), "all too weak: one for all windows"


def test_long_executions_have_constants_in_parts() -> None:
    time_s = np.arange(0, 3 * LONGEST_CONSTANT_S, 60.0)
    scan = (time_s // 300).astype(int)
    span = constant_spans(time_s, scan)
    assert span.max() == 2 and (np.diff(span) >= 0).all()
    assert all(np.ptp(span[scan == number]) == 0 for number in np.unique(scan)), "not within scans"
    assert constant_spans(time_s[:10], scan[:10]).max() == 0
    assert constant_spans(time_s, np.zeros(len(time_s), int)).max() == 2, "but in one long scan"


def test_donors() -> None:
    hz = np.array([1.0, 2.0, 2.4, 9.0])
    always = np.ones((5, 4), bool)
    assert donors(np.array([9, 9, 1, 9.0]), hz, always).tolist() == [0, 1, 1, 3]
    assert donors(np.array([9, 0, 1, 9.0]), hz, always).tolist() == [0, 1, 0, 3], "0: no solutions"
    assert donors(np.array([1, 2, 1, 2.0]), hz, always).tolist() == [0, 1, 2, 3], "none is good"
    scan = np.eye(5, 4, dtype=bool)
    assert donors(np.array([9, 9, 1, 9.0]), hz, scan).tolist() == [0, 1, 2, 3], "a spectral scan"
    snr = np.zeros((2, 2, 3, 1))
    snr[:, 0] = [[[1], [2], [9]], [[0], [2], [3]]]
    assert median_snr(snr).tolist() == [2.0, 0.0]
