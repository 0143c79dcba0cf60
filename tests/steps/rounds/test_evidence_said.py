"""What a round says of held-out baselines."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest

from libs.gains.solution_interval import SolutionInterval
from libs.heldout.choose import Candidate
from libs.heldout.scores import HeldOutChoice, Score
from libs.imaging.statistics import ImageStatistics
from selfcal.step import TableRef
from steps.images import ImageRecord
from steps.rounds.held_out import HeldOut, evidence_said, held_out_sigma
from steps.rounds.record import BestState

BEST, OTHER = Candidate(SolutionInterval(10.0)), Candidate(SolutionInterval(20.0))


def held_out(fall: float, noise: float = 2.0) -> HeldOut:
    # the error is root 2 times 2 sqrt(power noise), in units of the noise: here 20
    scores = (Score(OTHER, 1e9, 1.0, noise, 10), Score(BEST, fall, 100.0, noise, 10))
    return HeldOut(HeldOutChoice(BEST, "", scores, noise))


@pytest.mark.parametrize(("fall", "said"), [(4000.0, "falls by 100 times"), (-400.0, "rises by")])
def test_the_best_of_the_solves_is_told_in_units_of_its_error(fall: float, said: str) -> None:
    assert said in evidence_said(held_out_sigma([held_out(fall)]))


def test_executions_are_taken_together() -> None:
    assert held_out_sigma([held_out(4000.0), held_out(4000.0)]) == pytest.approx(141.4, abs=0.1)


def test_without_held_out_data_nothing_is_said() -> None:
    assert math.isnan(held_out_sigma([]))
    assert math.isnan(held_out_sigma([HeldOut(HeldOutChoice(None, "", (), 1.0))]))
    assert evidence_said(math.nan, ("p0", 12.0)) == ""


def test_both_states_are_told_where_one_replaces_the_other(image_record: ImageRecord) -> None:
    table = TableRef("a.ms", "tables/p0.gcal", round="p0")
    state = BestState(image_record, (table,), held_out_sigma=117.4, incremental_on=())
    assert "(with model and gains of p0: 117)" in evidence_said(121.0, state.held_out_of(()))
    assert "p0" not in evidence_said(121.0, state.held_out_of(("p0",)))
    assert "p0" not in evidence_said(121.0, replace(state, tables=()).held_out_of(()))


@pytest.fixture
def image_record() -> ImageRecord:
    values = {f.name: 1.0 for f in fields(ImageStatistics)}
    return ImageRecord(ImageStatistics(**values), "p0", {}, {})  # type: ignore[arg-type]
