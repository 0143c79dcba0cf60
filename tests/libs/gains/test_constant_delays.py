"""Constant delays of windows beneath a common phase or TEC: found again without and with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.gains.delay import solve_delays
from libs.gains.normal_equations import NormalEquations
from libs.gains.two_factors import fit_two_factors

NTIME, NANT = 20, 9
EIGHT_HZ = 8e6 * np.arange(8)
GHZ_HZ = np.concatenate([1.4e9 + EIGHT_HZ, 1.6e9 + EIGHT_HZ])
GHZ = (GHZ_HZ, np.repeat([0, 1], 8))
HBA = (122e6 + 2e6 * np.arange(24), np.zeros(24, np.int64))


def made(
    seed: int, *, noise: float, delay_ns: float = 5.0, walk_rad: float = 0.3, tec: float = 0.0,
    band: tuple[NDArray[np.float64], NDArray[np.int64]] = GHZ,
    width: tuple[float, ...] = (1.0, 1.0), apart: bool = True,
) -> tuple[NormalEquations, NDArray[np.complex128], NDArray[np.float64]]:  # fmt: skip
    """Sums of a point of 1 Jy, the true gains (ntime, nblock, nant, npol), and delays, ns.

    ``apart``: windows and polarizations have constant phases of their own.
    """
    rng = np.random.default_rng(seed)
    hz, spw = band
    delay = delay_ns * rng.uniform(-1, 1, (spw.max() + 1, NANT, 2))
    constant = apart * rng.uniform(-3, 3, delay.shape)
    away = hz - np.array([hz[spw == one].mean() for one in range(spw.max() + 1)])[spw]
    fixed = constant[spw] + 2e-9 * np.pi * away[:, None, None] * delay[spw]
    walk = np.cumsum(walk_rad * rng.standard_normal((NTIME, NANT)), axis=0)
    layer = np.cumsum(tec * rng.standard_normal((NTIME, NANT)), axis=0)
    common = walk[:, None] + TEC_PHASE_HZ * layer[:, None] / hz[None, :, None]
    gain = np.exp(1j * (common[..., None] + fixed[None]))
    one, two = np.triu_indices(NANT, 1)
    ideal = gain[:, :, one] * gain[:, :, two].conj()
    weight = np.broadcast_to(np.array(width)[spw][:, None, None] / noise**2, ideal.shape).copy()
    hiss = rng.standard_normal((2, *ideal.shape)) / np.sqrt(weight)
    none = np.zeros(NTIME, np.int64)
    return NormalEquations(
        time_s=10.0 * np.arange(NTIME), interval_s=np.full(NTIME, 10.0), scan=none, field=none,
        observation=none, frequency_hz=hz, spw=spw, antenna=tuple(f"A{i}" for i in range(NANT)),
        position_m=100 * rng.standard_normal((NANT, 3)), antenna1=one, antenna2=two,
        polarization=("X", "Y"), vis=weight * (ideal + hiss[0] + 1j * hiss[1]), weight=weight,
        time_weight=weight.sum(axis=(1, 2, 3)),
    ), gain, delay  # fmt: skip


def errors_rad(found: NDArray[np.complex128], true: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Errors of phase against the first antenna, whose phase is free."""
    ratio = found * true.conj()
    return np.asarray(np.angle(ratio * ratio[:, :, :1].conj()))


@given(st.integers(0, 2**31), st.floats(0, 20), st.floats(0, 1))
@settings(max_examples=10, deadline=None)
def test_without_noise_delays_and_phases_are_exact(seed: int, delay: float, walk: float) -> None:
    equations, gain, true = made(seed, noise=1e-3, delay_ns=delay, walk_rad=walk)
    fit = fit_two_factors(equations, constant="delay")
    assert fit.delays is not None and not fit.flag.any()
    assert np.abs(errors_rad(fit.gain, gain)).max() < 0.01
    error = fit.delays.delay_ns[0] - true
    np.testing.assert_allclose(error - error[:, :1], 0, atol=0.01)


def test_constant_delays_are_far_better_known_than_those_of_each_interval() -> None:
    equations, gain, _ = made(3, noise=1.0)
    fit = fit_two_factors(equations, constant="delay")
    each = [
        solve_delays(
            equations.vis[:, mine], equations.weight[:, mine], equations.antenna1,
            equations.antenna2, NANT, equations.frequency_hz[mine], minsnr=0.0,
        ).gain(equations.frequency_hz[mine])
        for mine in (equations.spw == 0, equations.spw == 1)
    ]  # fmt: skip
    apart = errors_rad(np.concatenate(each, axis=1), gain)
    assert errors_rad(fit.gain, gain).std() < 0.5 * apart.std()


@given(st.integers(0, 2**31), st.floats(0, 60))
@settings(max_examples=6, deadline=None)
def test_clocks_and_tecs_are_told_apart_by_their_gains(seed: int, delay: float) -> None:
    equations, gain, _ = made(
        seed, noise=0.05, delay_ns=delay, walk_rad=0.0, tec=0.02, band=HBA, width=(1.0,)
    )
    fit = fit_two_factors(equations, constant="delay", common="tec")
    assert np.sqrt(np.mean(errors_rad(fit.gain, gain) ** 2)) < 0.05
    finer = fit.at(np.array([130e6, 150e6]), np.zeros(2, np.int64))
    assert finer.gain.shape == (NTIME, 2, NANT, 2)
    np.testing.assert_allclose(
        finer.gain, fit.gain[:, [4, 14]], atol=1e-6, err_msg="blocks 4 and 14 have these centres"
    )


def test_baselines_left_out_take_no_part() -> None:
    equations, _, _ = made(7, noise=1.0)
    mask = np.ones(len(equations.antenna1), bool)
    mask[::5] = False
    vis = equations.vis.copy()
    vis[:, :, ~mask] *= -7
    one = fit_two_factors(equations, baseline_mask=mask, constant="delay")
    two = fit_two_factors(replace(equations, vis=vis), baseline_mask=mask, constant="delay")
    np.testing.assert_allclose(one.gain, two.gain)


def test_a_weak_window_takes_the_delays_of_the_good_one() -> None:
    equations, _, _ = made(11, noise=1.0, width=(1.0, 1e-5))
    fit = fit_two_factors(equations, constant="delay")
    assert fit.delays is not None
    np.testing.assert_array_equal(fit.delays.delay_ns[:, 1], fit.delays.delay_ns[:, 0])


def test_phases_of_blocks_are_known_at_their_blocks_only() -> None:
    equations, _, _ = made(1, noise=1.0)
    with pytest.raises(ValueError, match="at these blocks only"):
        fit_two_factors(equations).at(equations.frequency_hz, equations.spw)
