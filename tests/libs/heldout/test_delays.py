"""Delays chosen by held-out data where there are some, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.gains.caltable import read_solutions
from libs.gains.native import NativeSolver
from libs.gains.normal_equations import NormalEquations
from libs.gains.solution_interval import SolutionInterval
from libs.gains.solver import Solution, SolveOptions
from libs.gains.tec_table import DELAY_SOLUTIONS
from libs.heldout.choose import choose_solve
from libs.heldout.delays import channels_for_delays
from libs.imaging.predict import fill_model_column
from libs.imaging.standard_models import point_model
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, Source, SpectralWindow
from libs.simulation.session import (
    SessionErrors,
    SessionField,
    SimulatedSession,
    simulate_session,
)
from tests.libs.gains.test_constant_delays import HBA, made

NTIME, NANT = 24, 12
WINDOWS_HZ = np.concatenate([1.4e9 + 8e6 * np.arange(8), 1.6e9 + 8e6 * np.arange(8)])
SPW = np.repeat([0, 1], 8)


def sums_of(
    delay_ns: float, walk_rad: float, noise: float, seed: int, drift_ns: float = 0.0
) -> NormalEquations:
    """A 1 Jy point source seen with delays of each antenna and window, and a walk of phases.

    With ``drift_ns`` delays walk too, by that much in an integration.
    """
    rng = np.random.default_rng(seed)
    delay = delay_ns * rng.standard_normal((2, NANT))
    walk = np.cumsum(walk_rad * rng.standard_normal((NTIME, NANT)), axis=0)
    centre = np.array([WINDOWS_HZ[k == SPW].mean() for k in (0, 1)])
    drift = np.cumsum(drift_ns * rng.standard_normal((NTIME, 2, NANT)), axis=0)
    away = (WINDOWS_HZ - centre[SPW])[:, None]
    turn = 2e-9 * np.pi * away * (delay + drift)[:, SPW]
    gain = np.exp(1j * (walk[:, None] + turn))
    p, q = np.triu_indices(NANT, 1)
    vis: NDArray[np.complex128] = (gain[:, :, p] * gain[:, :, q].conj())[..., None].repeat(2, 3)
    vis = vis + noise * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))
    weight = np.full(vis.shape, noise**-2)
    return NormalEquations(
        time_s=5e9 + 10.0 * np.arange(NTIME, dtype=np.float64), interval_s=np.full(NTIME, 10.0),
        scan=np.ones(NTIME, np.int64), field=np.zeros(NTIME, np.int64),
        observation=np.zeros(NTIME, np.int64), frequency_hz=WINDOWS_HZ, spw=SPW,
        antenna=tuple(f"A{i}" for i in range(NANT)),
        position_m=np.random.default_rng(0).normal(0, 1e3, (NANT, 3)), antenna1=p, antenna2=q,
        polarization=("X", "Y"), vis=vis * weight, weight=weight,
        time_weight=weight.sum(axis=(1, 2, 3)),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_delays_are_chosen_where_there_are_some(seed: int) -> None:
    choice = choose_solve(sums_of(5.0, 0.05, 1.0, seed), channels_per_block=1)
    assert choice.best is not None
    assert choice.best.solution == "constant_delay+phase", choice.reason
    assert not choice.best.combine_spw


@pytest.mark.parametrize("seed", range(3))
def test_delays_that_change_are_solved_for_on_every_interval(seed: int) -> None:
    choice = choose_solve(sums_of(5.0, 0.05, 0.5, seed, drift_ns=1.0), channels_per_block=1)
    assert choice.best is not None
    assert choice.best.solution == "delay+phase", choice.reason


@pytest.mark.parametrize("seed", range(6))
def test_no_delays_are_chosen_where_there_are_none(seed: int) -> None:
    choice = choose_solve(sums_of(0.0, 0.2, 1.0, 100 + seed), channels_per_block=1)
    assert choice.best is None or choice.best.solution not in DELAY_SOLUTIONS, choice.reason


def test_noise_is_not_calibrated() -> None:
    sums = sums_of(0.0, 0.0, 1.0, 7)
    rng = np.random.default_rng(8)
    noise = rng.normal(size=sums.vis.shape) + 1j * rng.normal(size=sums.vis.shape)
    assert choose_solve(replace(sums, vis=noise), channels_per_block=1).best is None


def clocks_of(delay_ns: float, seed: int) -> NormalEquations:
    """Sums of a point seen at 122 to 168 MHz behind TECs that walk, with clocks of stations."""
    return made(
        seed, noise=1.0, delay_ns=delay_ns, walk_rad=0.0, tec=0.02, band=HBA, width=(1.0,),
        apart=delay_ns > 0,
    )[0]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_clocks_beneath_tecs_are_chosen_where_there_are_some(seed: int) -> None:
    choice = choose_solve(clocks_of(30.0, seed), channels_per_block=1)
    assert choice.best is not None and choice.best.solution == "delay+tec", choice.reason
    choice = choose_solve(clocks_of(0.0, seed), channels_per_block=1)
    assert choice.best is not None and choice.best.solution == "tec", choice.reason


def observed(tmp_path: Path, delay_ns: float, seed: int) -> SimulatedSession:
    windows = (SpectralWindow(1.4e9, 64e6, 32), SpectralWindow(1.6e9, 64e6, 32))
    observation = Observation(
        load_configuration("vla.d"), (0, 0), 5.0e9, 10.0, 120.0, windows, noise_jy=0.5
    )
    field = SessionField("a", (85.0, 49.0), (Source(1.0),), (0.0,), 120.0)
    errors = SessionErrors((0.0, delay_ns), drift_deg_h=200.0)
    made = simulate_session(tmp_path / "a.ms", observation, [field], errors, seed=seed)
    fill_model_column([made.ms], point_model(np.ones_like, (0.0, 0.0)))
    return made


@pytest.mark.parametrize("seed", range(2))
def test_blocks_are_asked_for_where_delays_are_seen(tmp_path: Path, seed: int) -> None:
    assert channels_for_delays(observed(tmp_path / "0", 0.0, seed).ms, SolveOptions()) == 0
    assert channels_for_delays(observed(tmp_path / "5", 10.0, seed).ms, SolveOptions()) == 4


@pytest.mark.parametrize("solution", ["delay+phase", "constant_delay+phase"])
def test_gains_of_delays_follow_every_channel(tmp_path: Path, solution: Solution) -> None:
    made = observed(tmp_path, 10.0, 3)
    solver = NativeSolver()
    options = SolveOptions(SolutionInterval(30.0), solution=solution)
    result = solver.solve(made.ms, tmp_path / "a.gcal", options)
    found = read_solutions(result.table)
    assert found.gain.shape[1] == 64
    times = np.argmin(np.abs(made.gains.time_s[None] - found.time_s[:, None]), axis=1)
    ratio = found.gain / made.gains.gain[times]
    # relative to an antenna, whose choice is free; half an interval's drift is 1 deg
    ratio = ratio / ratio[:, :, :1]
    assert np.sqrt(np.mean(np.angle(ratio) ** 2)) < 0.08
