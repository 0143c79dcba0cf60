"""Station TECs against those that data were made with, and the choice between solutions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.core.errors import InputError
from libs.gains.caltable import read_caltable, read_solutions
from libs.gains.frequency_blocks import (
    block_centres,
    channels_for_blocks,
    merge_blocks,
    spw_groups,
    tec_distinguishable,
)
from libs.gains.native import NativeSolver
from libs.gains.normal_equations import NormalEquations
from libs.gains.solution_interval import PER_INTEGRATION, SolutionInterval
from libs.gains.solver import SolveOptions
from libs.gains.tec import TecFit, reference_tec, search_range_tecu, solve_tec
from libs.gains.tec_table import TecSolutions, keep_tec, read_tec, tec_blocks
from libs.h5parm.reader import read_h5parm, write_h5parm
from libs.h5parm.solset import DIAGONAL, from_gain_solutions
from libs.h5parm.tec import with_tec
from libs.heldout.choose import choose_solve
from libs.heldout.coherence import held_out_coherence
from libs.ms.columns import ensure_data_column
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.gains import StationErrors, draw_gains
from libs.simulation.observation import Observation, Simulation, Source, SpectralWindow, simulate

BAND_HZ = np.linspace(121e6, 167e6, 12)
FIELD_RAD = (0.1, 0.5)


def sums_of(
    gain: NDArray[np.complex128],
    frequency_hz: NDArray[np.float64],
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
) -> NormalEquations:
    """Normal equations of a 1 Jy point source seen with gains (ntime, nblock, nant, npol)."""
    ntime, nblock, nant, npol = gain.shape
    p, q = np.triu_indices(nant, 1)
    vis = gain[:, :, p] * gain[:, :, q].conj()
    if rng is not None:
        vis = vis + noise * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))
    weight = np.full(vis.shape, noise**-2 if noise else 1.0)
    return NormalEquations(
        time_s=1e9 + 10.0 * np.arange(ntime, dtype=np.float64), interval_s=np.full(ntime, 10.0),
        scan=np.ones(ntime, np.int64), field=np.zeros(ntime, np.int64),
        observation=np.zeros(ntime, np.int64), frequency_hz=frequency_hz,
        spw=np.zeros(nblock, np.int64), antenna=tuple(f"A{i}" for i in range(nant)),
        position_m=np.arange(3.0 * nant).reshape(nant, 3), antenna1=p, antenna2=q,
        polarization=("X", "Y")[:npol], vis=vis * weight, weight=weight,
        time_weight=weight.sum(axis=(1, 2, 3)),
    )  # fmt: skip


def gains_of(
    tec_tecu: NDArray[np.float64],
    phase_rad: NDArray[np.float64] | float = 0.0,
    npol: int = 2,
    frequency_hz: NDArray[np.float64] = BAND_HZ,
) -> NDArray[np.complex128]:
    """Gains of TECs (ntime, nant) and phases (ntime, nant, npol)."""
    theta = TEC_PHASE_HZ * tec_tecu[:, None, :, None] / frequency_hz[None, :, None, None]
    theta = theta + np.broadcast_to(phase_rad, (*tec_tecu.shape, npol))[:, None]
    return np.asarray(np.exp(1j * theta))


def solve(sums: NormalEquations, **how: object) -> TecFit:
    return solve_tec(
        sums.vis, sums.weight, sums.antenna1, sums.antenna2, len(sums.antenna),
        sums.frequency_hz, **how,  # type: ignore[arg-type]
    )  # fmt: skip


def drawn(errors: StationErrors, seed: int, ntime: int = 12, nant: int = 9) -> NormalEquations:
    """Sums of data with errors drawn as simulations draw them; noise 1 Jy."""
    time_s = 1e9 + 10.0 * np.arange(ntime, dtype=np.float64)
    names = [f"A{i}" for i in range(nant)]
    gain = draw_gains(errors, seed, names, time_s, BAND_HZ, np.ones(ntime, np.int32))
    return sums_of(gain, BAND_HZ, 1.0, np.random.default_rng(seed))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), with_phase=st.booleans())
def test_tecs_of_many_turns_are_found(seed: int, with_phase: bool) -> None:
    rng = np.random.default_rng(seed)
    # 1 TECU is 9 turns at 144 MHz, and 3 from one end of this band to the other
    tec = rng.uniform(-0.5, 0.5, (2, 7))
    phase = rng.uniform(-3, 3, (2, 7, 2)) if with_phase else 0.0
    fit = solve(sums_of(gains_of(tec, phase), BAND_HZ), with_phase=with_phase, gaintype="G")
    assert not fit.flag.any()
    assert fit.phase_rad.shape == (2, 7, 2)
    error = (fit.tec_tecu - tec) - (fit.tec_tecu - tec)[:, :1]
    assert np.abs(error).max() < 1e-6
    # the same gains at any frequency
    elsewhere = np.array([115e6, 150e6, 180e6])
    ratio = fit.gain(elsewhere) / gains_of(tec, phase, frequency_hz=elsewhere)
    assert np.abs(np.angle(ratio / ratio[:, :, :1])).max() < 1e-4


def test_wide_range_with_many_blocks(rng: np.random.Generator) -> None:
    frequency = np.linspace(121e6, 167e6, 40)
    assert search_range_tecu(frequency) == 5.0
    tec = np.append(rng.uniform(-2, 2, 8), [-2.4, 2.4])[None]
    fit = solve(sums_of(gains_of(tec, frequency_hz=frequency), frequency))
    error = (fit.tec_tecu - tec) - (fit.tec_tecu - tec)[:, :1]
    assert np.abs(error).max() < 1e-6


@pytest.mark.parametrize("with_phase", [False, True])
def test_errors_are_those_of_the_noise(rng: np.random.Generator, with_phase: bool) -> None:
    tec = rng.uniform(-0.5, 0.5, (60, 12))
    sums = sums_of(gains_of(tec), BAND_HZ, 1.0, rng)
    fit = solve(sums, with_phase=with_phase)
    assert not fit.flag.any()
    for place in (0, 6, 11):
        ratio = (fit.gain(BAND_HZ)[:, place] / gains_of(tec, npol=1)[:, place])[..., 0]
        mean = ratio.mean(axis=1, keepdims=True)
        error = np.angle(ratio / mean) * fit.snr(BAND_HZ)[:, place, :, 0]
        assert 0.85 < error.std() < 1.15
    assert fit.chi2.sum() / fit.freedom.sum() == pytest.approx(1, abs=0.05)


def test_unmodelled_amplitudes_are_no_noise(rng: np.random.Generator) -> None:
    tec = rng.uniform(-0.5, 0.5, (3, 8))
    gain = gains_of(tec) * (1 + 0.3 * rng.uniform(-1, 1, (1, 1, 8, 2)))
    fit = solve(sums_of(gain, BAND_HZ, 0.01, rng))
    assert fit.snr(BAND_HZ).min() > 500


def test_sign_is_that_of_the_simulations() -> None:
    errors = StationErrors(tec_walk_tecu=0.1, tec_walk_s=10.0)
    sums = drawn(errors, 3, ntime=2, nant=6)
    found = solve(sums).gain(BAND_HZ)
    time_s = 1e9 + 10.0 * np.arange(2, dtype=np.float64)
    names = [f"A{i}" for i in range(6)]
    true = draw_gains(errors, 3, names, time_s, BAND_HZ, np.ones(2, np.int32))
    ratio = (found / true)[..., 0]
    assert np.abs(np.angle(ratio / ratio[:, :, :1])).max() < 0.6
    assert pytest.approx(TEC_PHASE_HZ) == -1.0e9 * 8.44797245


def test_noise_has_hardly_any_solution(rng: np.random.Generator) -> None:
    sums = sums_of(np.ones((60, 12, 15, 2), complex), BAND_HZ)
    noise = rng.normal(size=sums.vis.shape) + 1j * rng.normal(size=sums.vis.shape)
    sums = replace(sums, vis=noise)
    for with_phase in (False, True):
        assert solve(sums, with_phase=with_phase, minsnr=3.0).flag.mean() > 0.75
        assert solve(sums, with_phase=with_phase, minsnr=6.0).flag.mean() > 0.98


def test_antennas_without_data_are_flagged(rng: np.random.Generator) -> None:
    sums = sums_of(gains_of(rng.uniform(-0.3, 0.3, (2, 7))), BAND_HZ)
    weight = sums.weight.copy()
    weight[:, :, (sums.antenna1 == 2) | (sums.antenna2 == 2)] = 0
    weight[1] = 0
    fit = solve(replace(sums, weight=weight, vis=np.where(weight > 0, sums.vis, 0)))
    assert fit.attempted.tolist() == [True, False]
    assert fit.flag[0, :, 0].tolist() == [ant == 2 for ant in range(7)]
    assert fit.flag[1].all()


def test_a_single_block_shows_no_tec() -> None:
    sums = sums_of(gains_of(np.zeros((1, 5)), frequency_hz=BAND_HZ[:1]), BAND_HZ[:1])
    with pytest.raises(InputError, match="2 frequency blocks"):
        solve(sums)


def test_reference_changes_hands_without_a_jump() -> None:
    tec = np.array([[0.1, 0.3, 0.5], [0.2, 0.4, 0.9], [0.0, 0.7, 1.0]])
    new, phase = reference_tec(tec, np.zeros((3, 3, 1)), np.array([0, 1, -1]))
    np.testing.assert_allclose(new[0], [0.0, 0.2, 0.4])
    np.testing.assert_allclose(new[1], [0.0, 0.2, 0.7], atol=1e-12)
    assert not phase.any()


# -- blocks ------------------------------------------------------------------------------------


def test_merged_blocks_are_sums(rng: np.random.Generator) -> None:
    sums = replace(sums_of(gains_of(np.zeros((2, 5))), BAND_HZ, 1.0, rng), spw=np.repeat([3, 7], 6))
    group = spw_groups(sums.spw)
    merged = merge_blocks(sums, group)
    assert merged.spw.tolist() == [3, 7]
    np.testing.assert_allclose(merged.vis[:, 1], sums.vis[:, 6:].sum(axis=1))
    np.testing.assert_allclose(merged.frequency_hz, [BAND_HZ[:6].mean(), BAND_HZ[6:].mean()])
    assert merge_blocks(sums, np.arange(12)) is sums


def test_widths_of_blocks() -> None:
    assert channels_for_blocks([np.arange(64.0)]) == 4
    assert channels_for_blocks([np.arange(64.0)] * 16) == 64
    assert channels_for_blocks([np.arange(4.0)] * 50) == 4
    centre, spw = block_centres({1: np.arange(5.0), 4: np.arange(2.0)}, 2)
    assert centre.tolist() == [0.5, 2.5, 4.0, 0.5]
    assert spw.tolist() == [1, 1, 1, 4]
    assert tec_distinguishable(BAND_HZ)
    assert not tec_distinguishable(np.array([230e9, 232e9]))
    assert not tec_distinguishable(BAND_HZ[:1])


# -- the choice --------------------------------------------------------------------------------


TEN, TWENTY, FORTY = map(SolutionInterval, (10.0, 20.0, 40.0))
LADDER = (TEN, TWENTY, FORTY)
TEC_ERRORS = StationErrors(tec_walk_tecu=0.05, tec_walk_s=60, tec_offset_tecu=0.3)
PHASE_ERRORS = StationErrors(phase_walk_deg=60, phase_walk_s=60, phase_offset_deg=60)


def test_held_out_data_choose_tec_where_it_is_so() -> None:
    choice = choose_solve(drawn(TEC_ERRORS, 5), refants=[0], channels_per_block=4, ladder=LADDER)
    assert choice.best is not None
    assert choice.best.solution == "tec"
    assert choice.best.channels_per_block == 4
    assert not choice.best.combine_spw
    assert "TEC" in choice.reason


def test_held_out_data_choose_plain_phases_where_they_do() -> None:
    choice = choose_solve(drawn(PHASE_ERRORS, 5), refants=[0], channels_per_block=4, ladder=LADDER)
    assert choice.best is not None
    assert choice.best.solution == "gain"
    assert choice.best.combine_spw


def test_held_out_data_choose_both_where_both_are() -> None:
    both = replace(TEC_ERRORS, phase_walk_deg=180, phase_walk_s=60, phase_offset_deg=60)
    choice = choose_solve(drawn(both, 5), refants=[0], channels_per_block=4, ladder=LADDER)
    assert choice.best is not None
    assert choice.best.solution == "tec+phase"
    constant = replace(TEC_ERRORS, phase_offset_deg=60)
    choice = choose_solve(drawn(constant, 5), refants=[0], channels_per_block=4, ladder=LADDER)
    assert choice.best is not None
    assert choice.best.solution == "delay+tec", "phases that hold have fewer unknowns"
    again = choose_solve(
        drawn(both, 5), refants=[0], channels_per_block=4, solution="gain", ladder=[TEN]
    )
    assert again.best is not None
    assert (again.best.solution, again.best.channels_per_block) == ("gain", 4)


def test_held_out_data_choose_nothing_on_perfect_data() -> None:
    choice = choose_solve(
        drawn(StationErrors(), 5), refants=[0], channels_per_block=4, ladder=LADDER
    )
    assert choice.best is None


def test_coherence_of_tec_solutions() -> None:
    sums = drawn(TEC_ERRORS, 5)
    noisy = (sums.antenna1 == 4) | (sums.antenna2 == 4)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=sums.vis.shape) + 1j * rng.normal(size=sums.vis.shape)
    sums = replace(sums, vis=np.where(noisy[:, None], noise * np.sqrt(sums.weight), sums.vis))
    choice = choose_solve(sums, channels_per_block=4, solution="tec", ladder=[TEN, TWENTY])
    assert choice.best is not None
    found = held_out_coherence(sums, choice.best, false_alarm=0.001)
    assert found.coherent.tolist() == [ant != 4 for ant in range(9)]


# -- measurement sets --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """A point source behind TECs, in two windows of eight channels; MODEL_DATA filled."""
    made = simulate(
        tmp_path_factory.mktemp("tec") / "tec.ms",
        Observation(
            array=load_configuration("vla.a").thinned(7),
            direction_deg=(40.0, 30.0), start_s=5.1e9, integration_s=10.0, scan_s=40.0,
            spws=(SpectralWindow(130e6, 20e6, 8), SpectralWindow(158e6, 20e6, 8)),
            noise_jy=0.02,
        ),
        [Source(1.0)],
        StationErrors(tec_walk_tecu=0.1, tec_walk_s=60, tec_offset_tecu=0.2),
        perfect=False,
    )  # fmt: skip
    ensure_data_column(made.ms, "MODEL_DATA")
    with open_table(made.ms, write=True) as opened:
        opened.putcol("MODEL_DATA", np.ones_like(opened.getcol("DATA")))
    return made


@pytest.mark.parametrize("gaintype", ["G", "T"])
@pytest.mark.parametrize("solution", ["tec", "tec+phase"])
def test_solved_and_applied_like_gains(
    simulated: Simulation,
    tmp_path: Path,
    solution: Literal["tec", "tec+phase"],
    gaintype: Literal["G", "T"],
) -> None:
    options = SolveOptions(
        solint=PER_INTEGRATION,
        combine=frozenset({"spw"}),
        solution=solution,
        gaintype=gaintype,
        refant=("1",),
    )
    solver = NativeSolver()
    result = solver.solve(simulated.ms, tmp_path / "a.tec", options)
    assert result.applied.spwmap == ()
    assert result.flagged_fraction == 0
    assert read_caltable(result.table).kind == "B Jones"
    gains = read_solutions(result.table, simulated.ms)
    assert gains.spw.tolist() == [0] * 8 + [1] * 8
    truth = simulated.gains
    ratio = gains.gain / truth.gain[..., :1]
    assert np.abs(np.angle(ratio / ratio[:, :, :1])).max() < 0.1
    assert solver.apply(simulated.ms, [result.applied]).flagged_after == 0
    with open_table(simulated.ms) as opened:
        corrected = opened.getcol("CORRECTED_DATA")
    parallel = corrected[..., [0, -1]]
    assert np.abs(np.angle(parallel.mean(axis=(1, 2)))).max() < 0.05


def test_tec_of_a_table_goes_to_h5parm(simulated: Simulation, tmp_path: Path) -> None:
    options = SolveOptions(solint=PER_INTEGRATION, solution="tec", refant=("1",))
    result = NativeSolver().solve(simulated.ms, tmp_path / "a.tec", options)
    tec = read_tec(result.table)
    assert tec is not None
    gains = read_solutions(result.table, simulated.ms)
    np.testing.assert_allclose(
        np.exp(1j * TEC_PHASE_HZ * tec.tec_tecu[:, None] / gains.frequency_hz[None, :, None]),
        gains.gain[..., 0], atol=1e-5,
    )  # fmt: skip
    plain = from_gain_solutions(gains, "field", FIELD_RAD)
    solset = with_tec(plain, [(tec, gains.antenna)])
    assert not solset.phase_rad.any(), "all of it is TEC"
    write_h5parm(tmp_path / "a.h5", solset)
    back = read_h5parm(tmp_path / "a.h5")
    assert back.tec_tecu is not None
    np.testing.assert_array_equal(back.tec_tecu[..., 0], tec.tec_tecu)
    np.testing.assert_allclose(back.gain, plain.with_polarization(DIAGONAL).gain, atol=1e-5)
    assert with_tec(plain, [(None, gains.antenna)]) is plain
    plain = NativeSolver().solve(simulated.ms, tmp_path / "a.G", replace(options, solution="gain"))
    assert read_tec(plain.table) is None


def test_a_constant_phase_beside_the_tec_is_what_is_left(
    simulated: Simulation, tmp_path: Path
) -> None:
    options = SolveOptions(solint=PER_INTEGRATION, solution="tec+phase", refant=("1",))
    result = NativeSolver().solve(simulated.ms, tmp_path / "a.tec", options)
    tec, gains = read_tec(result.table), read_solutions(result.table, simulated.ms)
    assert tec is not None
    solset = with_tec(from_gain_solutions(gains), [(tec, gains.antenna)])
    turn = np.exp(1j * (solset.phase_rad[:, :, :, 0] - tec.phase_rad[:, None]))
    np.testing.assert_allclose(turn, 1, atol=2e-5)
    # an hour later, other antennas first: nothing of these TECs is in it
    later = replace(from_gain_solutions(gains), time_s=gains.time_s + 3600)
    assert not np.any(with_tec(later, [(tec, gains.antenna)]).tec_tecu)


def test_tecs_of_incoherent_antennas_are_those_of_longer_intervals() -> None:
    def made(seconds: float, slope: float) -> TecSolutions:
        time = 5e9 + seconds * (np.arange(int(120 / seconds)) + 0.5)
        tec = slope * (time - 5e9)[:, None] * np.ones(4)
        return TecSolutions(time, tec, 2 * tec[..., None], np.full((*tec.shape, 1), 9.0))

    short, long = made(10.0, 1e-3), made(40.0, 2e-3)
    kept = keep_tec(short, ("A", "B", "C", "D"), ["B", "D"], {"B": long})
    held = np.clip(short.time_s - 5e9, 20, 100)
    np.testing.assert_allclose(kept.tec_tecu[:, 1], 2e-3 * held)
    np.testing.assert_allclose(kept.phase_rad[:, 1, 0], 4e-3 * held)
    assert not kept.tec_tecu[:, 3].any() and not kept.weight[:, 3].any()
    np.testing.assert_array_equal(kept.tec_tecu[:, [0, 2]], short.tec_tecu[:, [0, 2]])
    assert short.tec_tecu[:, 3].any(), "what came in is left alone"


def test_blocks_of_a_measurement_set(simulated: Simulation) -> None:
    blocks = tec_blocks(simulated.ms)
    assert blocks.solved_channels == 1
    assert blocks.spw.tolist() == [0] * 8 + [1] * 8
    wide = tec_blocks(simulated.ms, 4)
    assert wide.solved_channels == 4
    assert len(wide.frequency_hz) == 16


def test_tec_is_for_phases() -> None:
    with pytest.raises(ValueError, match="phases"):
        SolveOptions(calmode="ap", solution="tec")
