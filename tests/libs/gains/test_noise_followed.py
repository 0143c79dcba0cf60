"""By how much phases that follow the noise raise a source, against what solves make of noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from libs.gains.gain_solutions import GainSolutions
from libs.gains.native_solve import solve_gains
from libs.gains.noise_followed import noise_followed, unknown_phases
from libs.gains.solution_interval import SolutionInterval
from libs.heldout.coherence import held_out_coherence
from libs.heldout.folds import Candidate
from tests.libs.simulated_sums import INTEGRATION_S, sums_of


def solutions(flag: np.ndarray) -> GainSolutions:
    ntime, nfreq, nant, npol = flag.shape
    return GainSolutions(
        np.arange(ntime) * 10.0, np.full(ntime, 10.0), np.linspace(1e9, 2e9, nfreq),
        np.arange(nfreq), tuple(f"A{i}" for i in range(nant)), np.zeros((nant, 3)),
        ("R", "L")[:npol] if npol > 1 else ("I",), np.ones(flag.shape, complex), flag,
        np.where(flag, 0.0, 5.0),
    )  # fmt: skip


@pytest.mark.parametrize("source_jy", [1.0, 40.0])
@pytest.mark.parametrize(("antennas", "snr"), [(30, 0.8), (30, 1.5), (12, 2.0), (12, 1.0)])
def test_it_is_what_solves_make_of_noise(antennas: int, snr: float, source_jy: float) -> None:
    """A point of ``snr`` times a visibility's noise, whatever flux its model of 1 Jy has."""
    rng = np.random.default_rng(5)
    true = np.exp(2j * np.pi * rng.random((200, 1, antennas, 1)))
    sums = sums_of(true, source_jy / snr, rng, source_jy=source_jy)
    one, two = sums.antenna1, sums.antenna2
    fit = solve_gains(
        sums.vis, sums.weight, one, two, antennas, calmode="p", gaintype="T",
        combine_blocks=True, minblperant=4, minsnr=0.0, guess_from=[0],
    )  # fmt: skip
    gain = fit.gain / np.abs(fit.gain)
    flux = (sums.vis / sums.weight * np.conj(gain[:, :, one]) * gain[:, :, two]).real.mean()
    candidate = Candidate(SolutionInterval(INTEGRATION_S), gaintype="T")
    shown = held_out_coherence(sums, candidate).explained
    told = noise_followed(unknown_phases(solutions(fit.flag), "gain"), shown)
    assert told == pytest.approx(flux / source_jy - 1.0, rel=0.35)


def test_noise_without_a_source_is_all_that_phases_follow() -> None:
    rng = np.random.default_rng(6)
    sums = sums_of(np.ones((200, 1, 12, 1), complex), 1.0, rng, source_jy=0.0)
    candidate = Candidate(SolutionInterval(INTEGRATION_S), gaintype="T")
    assert noise_followed(200 * 11, held_out_coherence(sums, candidate).explained) > 1.0


def test_flagged_antennas_and_each_reference_are_no_unknowns() -> None:
    flag = np.zeros((3, 2, 5, 2), bool)
    assert unknown_phases(solutions(flag), "gain") == 3 * 2 * 4 * 2
    flag[:, :, 4] = True
    assert unknown_phases(solutions(flag), "gain") == 3 * 2 * 3 * 2


def test_tecs_have_one_unknown_for_all_frequencies() -> None:
    flag = np.zeros((3, 8, 5, 1), bool)
    assert unknown_phases(solutions(flag), "tec") == 3 * 4
    assert unknown_phases(solutions(flag), "tec+phase") == 3 * 4 * 2


def test_windows_and_hands_have_delays_or_constants_of_their_own() -> None:
    flag = np.zeros((3, 8, 5, 2), bool)
    found = replace(solutions(flag), spw=np.repeat([0, 1], 4))
    assert unknown_phases(found, "delay+phase") == 3 * 4 * 2 * 2 * 2
    for solution in ("constants+phase", "constant_delay+phase", "delay+tec"):
        assert unknown_phases(found, solution) == 3 * 4 + 4 * 2 * 2


def test_what_held_out_visibilities_do_not_show_is_noise_alone() -> None:
    assert noise_followed(10, 0.0) == math.inf
    assert noise_followed(0, 0.0) == 0.0
    assert math.isnan(noise_followed(10, math.nan))
