"""Delays against those that data were made with, and their tables against CASA's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.casa.session import CasaSession
from libs.core.errors import InputError
from libs.gains.caltable import read_caltable, read_solutions
from libs.gains.delay import DelayFit, reference_delays, solve_delays
from libs.gains.native import NativeSolver
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN
from libs.gains.solver import AppliedTable, SolveOptions
from libs.ms.columns import ensure_data_column
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.gains import StationErrors
from libs.simulation.observation import Observation, Simulation, Source, SpectralWindow, simulate

WINDOW_HZ = 1.4e9 + 2e6 * np.arange(32)
TWO_WINDOWS_HZ = np.concatenate([WINDOW_HZ, 1.6e9 + 3e6 * np.arange(20)])


def solve(
    gain: NDArray[np.complex128], frequency_hz: NDArray[np.float64], noise: float = 0.0,
    seed: int = 0, **how: Any,
) -> DelayFit:  # fmt: skip
    """Delays of a 1 Jy point source seen with gains (ntime, nblock, nant, npol)."""
    rng = np.random.default_rng(seed)
    p, q = np.triu_indices(gain.shape[2], 1)
    vis = gain[:, :, p] * gain[:, :, q].conj()
    vis = vis + noise * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))
    weight = np.full(vis.shape, noise**-2 if noise else 1.0)
    return solve_delays(vis * weight, weight, p, q, gain.shape[2], frequency_hz, **how)


def gains_of(
    delay_ns: NDArray[np.float64], phase_rad: NDArray[np.float64], hz: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Gains of delays and phases at the mean frequency, both (ntime, nant, npol)."""
    turns = 1e-9 * delay_ns[:, None] * (hz - hz.mean())[None, :, None, None]
    return np.asarray(np.exp(2j * np.pi * turns + 1j * phase_rad[:, None]))


def relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values - values[:, :1]


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), windows=st.sampled_from([WINDOW_HZ, TWO_WINDOWS_HZ]))
def test_delays_of_many_turns_are_found(seed: int, windows: NDArray[np.float64]) -> None:
    rng = np.random.default_rng(seed)
    # 100 ns are 6 turns over one window and 25 over both
    delay = rng.uniform(-100, 100, (2, 7, 2))
    phase = rng.uniform(-3, 3, (2, 7, 2))
    fit = solve(gains_of(delay, phase, windows), windows)
    assert not fit.flag.any()
    assert np.abs(relative(fit.delay_ns - delay)).max() < 1e-4
    assert np.abs(np.angle(np.exp(1j * relative(fit.phase_rad - phase)))).max() < 1e-4
    assert fit.reference_hz == pytest.approx(windows.mean())
    ratio = fit.gain(windows) / gains_of(delay, phase, windows)
    assert np.abs(np.angle(ratio / ratio[:, :, :1])).max() < 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_the_error_says_how_far_delays_are_off(seed: int) -> None:
    rng = np.random.default_rng(seed)
    delay, phase = rng.uniform(-20, 20, (20, 8, 2)), rng.uniform(-3, 3, (20, 8, 2))
    fit = solve(gains_of(delay, phase, WINDOW_HZ), WINDOW_HZ, noise=1.0, seed=seed)
    off = fit.delay_ns - delay
    # against the mean of all, whose own error is small
    off = off - off.mean(axis=1, keepdims=True)
    expected = fit.error_ns * np.sqrt(7 / 8)
    assert np.sqrt(np.mean((off / expected) ** 2)) == pytest.approx(1, abs=0.2)
    assert np.median(fit.snr) > 10


@pytest.mark.parametrize("nant, channels", [(6, 16), (9, 64), (15, 128)])
def test_noise_gives_no_delays(nant: int, channels: int) -> None:
    hz = 1.4e9 + 2e6 * np.arange(channels)
    fit = solve(np.zeros((24, channels, nant, 2), complex), hz, noise=1.0, seed=nant)
    assert fit.flag.mean() > 0.9


def test_an_antenna_without_data_is_flagged() -> None:
    hz, nant = WINDOW_HZ, 6
    p, q = np.triu_indices(nant, 1)
    gain = gains_of(np.arange(12.0).reshape(1, 6, 2), np.zeros((1, 6, 2)), hz)
    vis = gain[:, :, p] * gain[:, :, q].conj()
    weight = np.ones(vis.shape)
    weight[:, :, (p == 2) | (q == 2)] = 0
    fit = solve_delays(vis * weight, weight, p, q, nant, hz)
    assert fit.flag[0, 2].all() and not np.delete(fit.flag, 2, axis=1).any()
    delay, _, flag, used = reference_delays(fit, np.array([2, 3, 0, 1, 4, 5]))
    assert used.tolist() == [3]
    assert (delay[0, 3] == 0).all() and flag[0, 2].all()
    assert delay[0, 5] == pytest.approx([4, 4], abs=1e-6)


def test_one_channel_tells_no_delay() -> None:
    with pytest.raises(InputError, match="single channel"):
        solve(np.ones((1, 1, 6, 2), complex), np.array([1.4e9]))


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """A 5 Jy point source in two windows, with delays of 5 ns rms."""
    windows = (SpectralWindow(1.4e9, 64e6, 32), SpectralWindow(1.6e9, 64e6, 16))
    observation = Observation(
        load_configuration("vla.d"), (202.78, 30.5), 4.9e9 + 5 * 86400, 30.0, 120.0, windows,
        scans=2, gap_s=600.0, noise_jy=0.02,
    )  # fmt: skip
    made = simulate(
        tmp_path_factory.mktemp("delay") / "seen.ms", observation, [Source(5.0)],
        StationErrors(delay_ns=5.0, phase_offset_deg=40.0), seed=3, perfect=False,
    )  # fmt: skip
    ensure_data_column(made.ms, "MODEL_DATA", copy="DATA")
    with open_table(made.ms, write=True) as opened:
        for row in range(opened.nrows()):
            opened.putcell("MODEL_DATA", row, np.full(opened.getcell("DATA", row).shape, 5 + 0j))
    return made


def true_delays(made: Simulation) -> NDArray[np.float64]:
    """Delays relative to the first antenna, (nant, npol), ns."""
    gain, hz = made.gains.gain[0, :32], made.gains.frequency_hz[:32]
    phase = np.unwrap(np.angle(gain * gain[:, :1].conj()), axis=0)
    slope = (phase[-1] - phase[0]) / (hz[-1] - hz[0])
    return np.asarray(1e9 * slope / (2 * np.pi))


OPTIONS = SolveOptions(
    PER_SCAN, frozenset({"scan"}), solution="delay", refant=("W01",), minblperant=4
)


@pytest.mark.parametrize("combine", [frozenset({"scan"}), frozenset({"scan", "spw"})])
def test_a_table_of_delays_is_solved_and_applied(
    observed: Simulation, tmp_path: Path, combine: frozenset[str]
) -> None:
    first = observed.observation.array.name[0]
    options = SolveOptions(PER_SCAN, combine, solution="delay", refant=(first,))
    solver = NativeSolver()
    result = solver.solve(observed.ms, tmp_path / "seen.K", options)
    table = read_caltable(tmp_path / "seen.K")
    assert table.kind == "K Jones"
    assert result.applied.spwmap == ((0, 0) if "spw" in combine else ())
    assert sorted(table.spws) == ([0] if "spw" in combine else [0, 1])
    band_ns = 1e9 / 64e6
    for part in table.spws.values():
        assert part.delay_ns is not None and not part.flag.any()
        assert np.abs(part.delay_ns[0] - true_delays(observed)).max() < 0.05 * band_ns
        assert np.abs(part.delay_ns[0] - true_delays(observed)).max() < 0.02
    solver.apply(observed.ms, [result.applied])
    left = np.zeros(0)
    with open_table(observed.ms) as opened:
        for row in range(0, opened.nrows(), 97):
            phase = np.angle(opened.getcell("CORRECTED_DATA", row))
            left = np.append(left, np.ptp(np.angle(np.exp(1j * (phase - phase[:1]))), axis=0))
    assert np.abs(left).max() < 0.06  # rad: noise of 0.02 Jy in 5 Jy
    with pytest.raises(InputError, match="delays"):
        read_solutions(tmp_path / "seen.K")


def test_solutions_of_other_fields_are_left_out(observed: Simulation, tmp_path: Path) -> None:
    solver = NativeSolver()
    options = SolveOptions(PER_INTEGRATION, solution="delay", fields=(0,))
    made = solver.solve(observed.ms, tmp_path / "seen.K", options)
    with pytest.raises(InputError, match="no data of the fields"):
        solver.solve(observed.ms, tmp_path / "no.K", SolveOptions(PER_SCAN, fields=(3,)))
    before = solver.apply(observed.ms, [made.applied]).flagged_after
    assert before == 0
    other = AppliedTable(made.table, fields=(3,))
    with open_table(observed.ms) as opened:
        data = opened.getcell("DATA", 5)
    solver.apply(observed.ms, [other])
    with open_table(observed.ms) as opened:
        assert (opened.getcell("CORRECTED_DATA", 5) == data).all()


@pytest.mark.tools
@pytest.mark.parametrize("combine", ["scan", "scan,spw"])
def test_casa_finds_and_applies_the_same_delays(
    observed: Simulation, tmp_path: Path, session: CasaSession, combine: str
) -> None:
    first = observed.observation.array.name[0]
    options = SolveOptions(
        PER_SCAN, frozenset(combine.split(",")), solution="delay", refant=(first,)
    )
    copied = tmp_path / "seen.ms"
    shutil.copytree(observed.ms, copied)
    solver = NativeSolver()
    result = solver.solve(copied, tmp_path / "native.K", options)
    session.run(
        "gaincal", vis=copied, caltable=tmp_path / "casa.K", gaintype="K", solint="inf",
        combine=combine, refant=f'"{first}"',
    )  # fmt: skip
    ours, theirs = read_caltable(tmp_path / "native.K"), read_caltable(tmp_path / "casa.K")
    assert sorted(ours.spws) == sorted(theirs.spws)
    for spw in ours.spws:
        one, two = ours.spws[spw].delay_ns, theirs.spws[spw].delay_ns
        assert one is not None and two is not None
        assert np.abs(one - two).max() < 0.02  # ns
    corrected = []
    for table, with_casa in (("native.K", True), ("native.K", False), ("casa.K", False)):
        spwmap = result.applied.spwmap
        if with_casa:
            session.run(
                "applycal", vis=copied, gaintable=[tmp_path / table], spwmap=[list(spwmap)],
                flagbackup=False,
            )  # fmt: skip
        else:
            solver.apply(copied, [AppliedTable(tmp_path / table, spwmap)])
        with open_table(copied) as opened:
            corrected.append(opened.getcell("CORRECTED_DATA", 7))
    by_casa, by_us, casas_by_us = corrected
    assert np.abs(by_casa - by_us).max() < 2e-4 * 5
    assert np.abs(np.angle(casas_by_us / by_us)).max() < 0.05
