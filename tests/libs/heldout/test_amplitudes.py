"""Amplitudes are worth solving for when they predict better than phases of the same form."""

from __future__ import annotations

import numpy as np

from libs.gains.solution_interval import SolutionInterval
from libs.heldout.amplitudes import amplitudes_worth_it
from libs.heldout.choose import SIGNIFICANCE, Candidate, choose_solve
from libs.heldout.scores import FOLD_SCATTER, HeldOutChoice, Score, score_candidate
from tests.libs.simulated_sums import sums_of

ERROR = 20.0  # 2 sqrt(100), without the scatter of folds


def scored(calmode: str, fall: float) -> Score:
    candidate = Candidate(SolutionInterval(30.0), calmode=calmode)  # type: ignore[arg-type]
    return Score(candidate, fall, 100.0, 1.0, 50)


def judged(both: float, phases: float) -> HeldOutChoice:
    score = scored("ap", both)
    tried = HeldOutChoice(score.candidate, "", (score,), 1.0)
    return amplitudes_worth_it(tried, lambda form: scored(form.calmode, phases))


def test_amplitudes_must_add_to_phases_by_more_than_chance() -> None:
    needed = SIGNIFICANCE * FOLD_SCATTER * ERROR
    kept = judged(1000.0 + 1.01 * needed, 1000.0)
    assert kept.best is not None and kept.best.calmode == "ap"
    assert [score.candidate.calmode for score in kept.scores] == ["p", "ap"]
    refused = judged(1000.0 + 0.99 * needed, 1000.0)
    assert refused.best is None and "no better than phases alone do" in refused.reason


def test_phases_that_harm_are_no_credit_to_amplitudes() -> None:
    needed = SIGNIFICANCE * FOLD_SCATTER * ERROR
    assert judged(0.5 * needed, -1000.0).best is None


def test_slow_amplitudes_are_found_beneath_fast_phases(rng: np.random.Generator) -> None:
    # what phases solved before have left: other ones in each integration
    phases = np.exp(1j * rng.normal(0.0, 0.2, (64, 1, 10, 1)))
    amplitude = 1.0 + rng.normal(0.0, 0.1, (1, 1, 10, 1))
    for true, expected in ((phases * amplitude, "ap"), (phases, None)):
        equations = sums_of(true, 0.2, rng)
        choice = choose_solve(equations, calmode="ap")
        found = amplitudes_worth_it(choice, lambda form: score_candidate(equations, form))  # noqa: B023
        assert (found.best.calmode if found.best else None) == expected, found.reason
