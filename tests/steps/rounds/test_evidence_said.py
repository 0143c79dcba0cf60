"""What a round says of held-out baselines."""

from __future__ import annotations

import pytest

from libs.gains.solution_interval import SolutionInterval
from libs.heldout.choose import Candidate, HeldOutChoice, Score
from steps.rounds.held_out import HeldOut, evidence_said

BEST, OTHER = Candidate(SolutionInterval(10.0)), Candidate(SolutionInterval(20.0))


def held_out(fall: float, noise: float = 2.0) -> HeldOut:
    # the error is root 2 times 2 sqrt(power noise), in units of the noise: here 20
    scores = (Score(OTHER, 1e9, 1.0, noise, 10), Score(BEST, fall, 100.0, noise, 10))
    return HeldOut(HeldOutChoice(BEST, "", scores, noise))


@pytest.mark.parametrize(("fall", "said"), [(4000.0, "falls by 100 times"), (-400.0, "rises by")])
def test_the_best_of_the_solves_is_told_in_units_of_its_error(fall: float, said: str) -> None:
    assert said in evidence_said([held_out(fall)])


def test_executions_are_taken_together() -> None:
    assert "falls by 141 times" in evidence_said([held_out(4000.0), held_out(4000.0)])


def test_without_held_out_data_nothing_is_said() -> None:
    assert evidence_said([]) == ""
    assert evidence_said([HeldOut(HeldOutChoice(None, "", (), 1.0))]) == ""
