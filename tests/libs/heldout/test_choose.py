"""Held-out baselines choose how to solve: simulated gains of which the right answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from libs.core.angles import TEC_PHASE_HZ
from libs.gains.solution_interval import PER_SCAN, SolutionInterval
from libs.heldout.choose import (
    ADVANTAGE,
    SIGNIFICANCE,
    choose_solve,
    interval_ladder,
)
from libs.heldout.coherence import held_out_coherence
from libs.heldout.folds import FOLDS, Candidate, folds_of
from libs.heldout.scores import HeldOutChoice, score_candidate
from tests.libs.simulated_sums import INTEGRATION_S, repeated, sums_of, walk


def ones(ntime: int, nant: int, nblock: int = 1, npol: int = 1) -> NDArray[np.complex128]:
    return np.ones((ntime, nblock, nant, npol), complex)


def chosen(choice: HeldOutChoice) -> Candidate:
    assert choice.best is not None, choice.reason
    return choice.best


# --- folds and ladder ---------------------------------------------------------------------


@given(st.integers(3, 60), st.integers(2, 12))
def test_each_antenna_loses_its_share_in_every_fold(nant: int, folds: int) -> None:
    one, two = np.triu_indices(nant, 1)
    fold = folds_of(one, two, folds)
    assert fold.min() >= 0 and fold.max() < folds, "every baseline is held out, and once"
    for number in range(folds):
        out = fold == number
        lost = np.bincount(one[out], minlength=nant) + np.bincount(two[out], minlength=nant)
        assert np.abs(lost - (nant - 1) / folds).max() < 2


@given(st.floats(0.1, 100), st.integers(1, 5000))
def test_the_ladder_has_whole_numbers_of_integrations(integration_s: float, count: int) -> None:
    ladder = interval_ladder(integration_s, count * integration_s)
    assert ladder[-1] == PER_SCAN
    finite = np.array([each.seconds for each in ladder[:-1]]) / integration_s
    np.testing.assert_allclose(finite, 2.0 ** np.arange(len(finite)))
    assert (finite < max(count, 2)).all(), "no step as long as a scan, which is the last"


def test_a_ladder_of_one_integration_or_of_unknown_length_is_the_scan() -> None:
    assert interval_ladder(10.0, 10.0) == [PER_SCAN]
    assert interval_ladder(10.0, 5.0) == [PER_SCAN]
    assert interval_ladder(0.0, 100.0) == [PER_SCAN]


# --- the interval ---------------------------------------------------------------------------


def test_fast_phases_are_solved_at_the_shortest_interval(rng: np.random.Generator) -> None:
    gain = np.exp(1j * rng.uniform(-np.pi, np.pi, (32, 1, 10, 1)))
    choice = choose_solve(sums_of(gain, 0.3, rng))
    assert chosen(choice).interval.seconds == INTEGRATION_S
    assert choice.scores[0].significance(choice.noise) > 50


def test_phases_that_stand_still_are_solved_once_a_scan(rng: np.random.Generator) -> None:
    gain = repeated(walk(rng, 1, 10, 0.0), 1, 1)
    choice = choose_solve(sums_of(np.repeat(gain, 32, axis=0), 2.0, rng))
    assert chosen(choice).interval.seconds >= 16 * INTEGRATION_S


def test_slow_phases_in_noise_have_an_interval_between(rng: np.random.Generator) -> None:
    """The interval is within a factor of two of where noise and change of the phase balance."""
    nant, step_rad, noise_jy = 10, 0.12, 3.0
    best = []
    for _ in range(5):
        gain = walk(rng, 96, nant, step_rad)
        best.append(chosen(choose_solve(sums_of(gain, noise_jy, rng))).interval.seconds)
    # of n integrations: noise^2 / (n (nant - 1)); a walk known at knots n apart: step^2 n / 6
    right = INTEGRATION_S * np.sqrt(6 * noise_jy**2 / (nant - 1)) / step_rad
    assert right / 2 <= np.median(best) <= 2 * right, (best, right)


def test_intervals_of_all_scans(rng: np.random.Generator) -> None:
    """Phases that hold over scans of a source too faint for one scan alone."""
    gain = np.repeat(walk(rng, 1, 10, 0.0), 32, axis=0)
    choice = choose_solve(sums_of(gain, 3.0, rng, scans=4))
    assert chosen(choice).combine_scan
    assert any(score.candidate.combine_scan for score in choice.scores)
    alone = choose_solve(sums_of(gain, 1.0, rng, scans=1))
    assert not any(score.candidate.combine_scan for score in alone.scores)


def test_the_users_ladder_is_kept_to(rng: np.random.Generator) -> None:
    gain = np.exp(1j * rng.uniform(-np.pi, np.pi, (32, 1, 10, 1)))
    ladder = [SolutionInterval(40.0), SolutionInterval(80.0)]
    choice = choose_solve(sums_of(gain, 0.3, rng), ladder=ladder)
    assert {score.candidate.interval.seconds for score in choice.scores} == {40.0, 80.0}


# --- whether at all ---------------------------------------------------------------------------


@pytest.mark.parametrize(("source_jy", "seeds", "most"), [(0.0, 60, 2), (1.0, 15, 0)])
def test_where_there_is_nothing_to_correct_no_gains_are_trusted(
    source_jy: float, seeds: int, most: int
) -> None:
    """Noise alone, about one in a hundred of which passes, and a source with gains of 1."""
    trusted = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        sums = sums_of(ones(8, 8), 2.0, rng, source_jy=source_jy)
        choice = choose_solve(sums, ladder=[SolutionInterval(20.0), PER_SCAN])
        trusted += choice.best is not None
        if choice.best is None:
            assert choice.reason.startswith(
                "nothing was solved for: gains do not predict the held-out"
            )
    assert trusted <= most


def test_the_significance_of_noise_scatters_about_0_as_folds_do() -> None:
    candidates = [Candidate(SolutionInterval(INTEGRATION_S)), Candidate(PER_SCAN)]
    for candidate in candidates:
        values = []
        for seed in range(60):
            sums = sums_of(ones(8, 8), 2.0, np.random.default_rng(seed), source_jy=0.0)
            score = score_candidate(sums, candidate)
            values.append(score.significance(score.noise))
        assert abs(np.mean(values)) < 4 / np.sqrt(60), candidate
        assert 0.75 < np.std(values) < 1.3, candidate


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e4])
def test_the_scale_of_the_weights_does_not_matter(scale: float, rng: np.random.Generator) -> None:
    sums = sums_of(walk(rng, 32, 8, 0.1), 0.5, rng)
    scaled = replace(sums, vis=scale * sums.vis, weight=scale * sums.weight)
    one, two = (score_candidate(each, Candidate(SolutionInterval(20.0))) for each in (sums, scaled))
    assert two.noise == pytest.approx(scale * one.noise, rel=1e-6)
    assert two.significance(two.noise) == pytest.approx(one.significance(one.noise), rel=1e-6)


def test_the_noise_is_that_of_the_data(rng: np.random.Generator) -> None:
    """Weights are 1 / variance of a real or imaginary part, so the noise comes out as 1."""
    for noise_jy in (0.5, 5.0):
        sums = sums_of(walk(rng, 64, 10, 0.01), noise_jy, rng)
        for calmode in ("ap", "p"):
            score = score_candidate(sums, Candidate(SolutionInterval(40.0), calmode=calmode))
            assert score.noise == pytest.approx(1.0, abs=0.08)


def test_a_faint_source_with_bad_phases_is_trusted(rng: np.random.Generator) -> None:
    """A signal of a third of the noise per visibility, which longer intervals bring out."""
    gain = np.repeat(walk(rng, 1, 12, 0.0), 64, axis=0)
    choice = choose_solve(sums_of(gain, 3.0, rng))
    assert chosen(choice).interval.seconds > INTEGRATION_S
    assert max(s.significance(choice.noise) for s in choice.scores) > SIGNIFICANCE


def test_data_that_are_all_flagged_choose_nothing(rng: np.random.Generator) -> None:
    sums = sums_of(ones(8, 6), 1.0, rng)
    empty = replace(sums, vis=0 * sums.vis, weight=0 * sums.weight)
    choice = choose_solve(empty)
    assert choice.best is None
    assert all(score.predicted == 0 for score in choice.scores)


def test_too_few_antennas_choose_nothing(rng: np.random.Generator) -> None:
    assert choose_solve(sums_of(walk(rng, 8, 4, 0.1), 0.1, rng)).best is None


# --- polarizations and spectral windows -------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_polarizations_apart_only_where_they_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    common = repeated(walk(rng, 24, 9, 0.05), 1, 2)
    assert chosen(choose_solve(sums_of(common, 0.5, rng))).gaintype == "T"
    differ = common.copy()
    differ[..., 1] *= np.exp(1j * rng.uniform(-1, 1, 9))
    assert chosen(choose_solve(sums_of(differ, 0.5, rng))).gaintype == "G"


@pytest.mark.parametrize("seed", range(4))
def test_spectral_windows_apart_only_where_they_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    common = repeated(walk(rng, 24, 9, 0.05), 2, 1)
    assert chosen(choose_solve(sums_of(common, 0.5, rng))).combine_spw
    differ = common.copy()
    differ[:, 1] *= np.exp(1j * rng.uniform(-1, 1, (9, 1)))
    assert not chosen(choose_solve(sums_of(differ, 0.5, rng))).combine_spw


def test_windows_that_differ_too_little_for_the_noise_stay_together(
    rng: np.random.Generator,
) -> None:
    gain = repeated(walk(rng, 24, 9, 0.02), 2, 1)
    gain[:, 1] *= np.exp(1j * rng.uniform(-0.02, 0.02, (9, 1)))
    assert chosen(choose_solve(sums_of(gain, 1.0, rng))).combine_spw


def test_a_tec_is_found_where_the_band_shows_it(rng: np.random.Generator) -> None:
    frequency = np.linspace(120e6, 168e6, 12)
    tec = np.cumsum(rng.normal(0, 0.02, (16, 9)), axis=0) + rng.normal(0, 0.1, 9)
    gain = np.exp(1j * TEC_PHASE_HZ * tec[:, None] / frequency[:, None])[..., None]
    sums = sums_of(gain, 1.0, rng, frequency_hz=frequency, spw=np.zeros(12, np.int64))
    best = chosen(choose_solve(sums, channels_per_block=4))
    assert best.solution == "tec"
    assert chosen(choose_solve(sums, channels_per_block=4, solution="gain")).solution == "gain"
    only = choose_solve(sums, channels_per_block=4, solution="tec")
    assert {score.candidate.solution for score in only.scores} == {"tec"}


def test_no_tec_is_tried_at_high_frequency(rng: np.random.Generator) -> None:
    sums = sums_of(repeated(walk(rng, 8, 8, 0.1), 4, 1), 0.5, rng)
    assert {score.candidate.solution for score in choose_solve(sums).scores} == {
        "gain",
        "constants+phase",
    }


# --- amplitudes -------------------------------------------------------------------------------


def best_fall(choice: HeldOutChoice) -> float:
    return max(score.fall for score in choice.scores)


def test_amplitudes_predict_better_only_where_they_are_wrong(rng: np.random.Generator) -> None:
    phases = repeated(walk(rng, 24, 10, 0.03), 1, 1)
    wrong = phases * rng.uniform(0.7, 1.4, (10, 1))
    sums = sums_of(wrong, 0.3, rng)
    both, phase = choose_solve(sums, calmode="ap"), choose_solve(sums, calmode="p")
    assert chosen(both).calmode == "ap"
    error = max(score.error(both.noise) for score in both.scores)
    assert best_fall(both) - best_fall(phase) > ADVANTAGE * error
    right = sums_of(phases, 0.3, rng)
    both, phase = choose_solve(right, calmode="ap"), choose_solve(right, calmode="p")
    assert best_fall(both) < best_fall(phase)


# --- coherence of antennas --------------------------------------------------------------------


def with_noise_stations(nant: int, lost: int, seed: int, **how: float) -> np.ndarray:
    """Whether each of the last stations, which receive only noise, is called coherent."""
    rng = np.random.default_rng(seed)
    gain = repeated(walk(rng, 12, nant, 0.02), 1, 2)
    gain[:, :, nant - lost :] = 0
    sums = sums_of(gain, 1.0, rng)
    result = held_out_coherence(sums, Candidate(SolutionInterval(40.0)), **how)  # type: ignore[arg-type]
    assert result.coherent[: nant - lost].all(), "the others see the source"
    return result.coherent[nant - lost :]


@pytest.mark.parametrize(("nant", "lost"), [(8, 1), (12, 2), (24, 4)])
def test_the_false_alarm_rate_is_as_asked(nant: int, lost: int) -> None:
    alarm, trials = 0.1, 120 // lost
    found = sum(
        int(with_noise_stations(nant, lost, seed, false_alarm=alarm).sum())
        for seed in range(trials)
    )
    low, high = binom.interval(0.999, trials * lost, alarm)
    assert low <= found <= high, f"{found} of {trials * lost}"


def test_stations_whose_solutions_follow_are_coherent(rng: np.random.Generator) -> None:
    gain = walk(rng, 48, 10, 0.3)
    result = held_out_coherence(sums_of(gain, 0.3, rng), Candidate(SolutionInterval(INTEGRATION_S)))
    assert result.coherent.all()
    np.testing.assert_allclose(result.coherence, 1.0, atol=0.15)
    # once a scan they cannot follow
    slow = held_out_coherence(sums_of(gain, 0.3, rng), Candidate(PER_SCAN))
    assert (slow.coherence < result.coherence).all()


def test_a_station_that_one_interval_loses_is_the_only_one(rng: np.random.Generator) -> None:
    """Its phases turn within the interval while those of the others stand."""
    gain = np.repeat(walk(rng, 1, 10, 0.0), 48, axis=0)
    gain[:, :, 7] = np.exp(2j * np.pi * np.arange(48) / 48)[:, None, None]
    result = held_out_coherence(sums_of(gain, 1.0, rng), Candidate(PER_SCAN))
    assert np.flatnonzero(~result.coherent).tolist() == [7]
    assert held_out_coherence(
        sums_of(gain, 0.3, rng), Candidate(SolutionInterval(INTEGRATION_S))
    ).coherent.all()


def test_gains_of_1_are_coherent_too(rng: np.random.Generator) -> None:
    """The statistic asks for the source, not for something to correct."""
    result = held_out_coherence(sums_of(ones(24, 9), 1.0, rng), Candidate(SolutionInterval(60.0)))
    assert result.coherent.all()
    np.testing.assert_allclose(result.coherence, 1.0, atol=0.2)
    assert result.false_alarm == 0.01


def test_a_station_without_data_is_neither(rng: np.random.Generator) -> None:
    sums = sums_of(walk(rng, 12, 9, 0.05), 0.3, rng)
    gone = (sums.antenna1 == 4) | (sums.antenna2 == 4)
    weight = np.where(gone[:, None], 0, sums.weight)
    sums = replace(sums, vis=np.where(gone[:, None], 0, sums.vis), weight=weight)
    result = held_out_coherence(sums, Candidate(SolutionInterval(20.0)))
    assert np.isnan(result.sigma[4]) and np.isnan(result.coherence[4])
    assert np.flatnonzero(~result.coherent).tolist() == [4]


def test_more_noise_means_less_sigma_not_less_coherence(rng: np.random.Generator) -> None:
    gain = np.repeat(walk(rng, 1, 12, 0.0), 32, axis=0)
    loud = held_out_coherence(sums_of(gain, 0.1, rng), Candidate(PER_SCAN))
    faint = held_out_coherence(sums_of(gain, 1.0, rng), Candidate(PER_SCAN))
    np.testing.assert_allclose(faint.coherence, loud.coherence, atol=0.15)
    assert np.median(loud.sigma / faint.sigma) == pytest.approx(10, rel=0.25)


def test_how_candidates_are_named() -> None:
    assert str(Candidate(SolutionInterval(12.0))) == (
        "phases, 12 s, both polarizations together, all spectral windows together"
    )
    scan = Candidate(PER_SCAN, combine_scan=True, gaintype="G", calmode="ap", combine_spw=False)
    assert str(scan) == (
        "amplitudes and phases, one for all scans, each polarization, each spectral window"
    )
    assert (
        str(Candidate(SolutionInterval(8.0), solution="tec+phase", combine_spw=False))
        == "phases, 8 s, both polarizations together, a TEC and a phase"
    )
    blocks = Candidate(PER_SCAN, combine_spw=False, channels_per_block=4)
    assert str(blocks) == (
        "phases, one per scan, both polarizations together, each block of 4 channels"
    )
    assert FOLDS == 8
