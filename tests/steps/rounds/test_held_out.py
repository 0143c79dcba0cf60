"""What a round asks of held-out data, and what it makes of the answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from libs.gains.solution_interval import PER_SCAN, SolutionInterval
from libs.gains.solver import SolveOptions
from libs.heldout.choose import Candidate
from libs.heldout.coherence import HeldOutCoherence
from libs.heldout.scores import HeldOutChoice, Score
from steps.facts import as_metrics
from steps.rounds import held_out
from steps.rounds.held_out import ask_held_out, chosen_options, curve
from steps.rounds.solve_record import CoherenceRecord, Solved
from tests.libs.simulated_sums import sums_of


def choice(calmode: str, fall: float, noise: float = 1.0) -> HeldOutChoice:
    candidate = Candidate(SolutionInterval(30.0), calmode=calmode)  # type: ignore[arg-type]
    return HeldOutChoice(candidate, "", (Score(candidate, fall, 100.0, noise, 50),), noise)


def test_the_answer_becomes_options_but_for_what_the_user_fixed() -> None:
    options = SolveOptions(solint=SolutionInterval(60.0), gaintype="G", minsnr=2.0, refant=("A1",))
    best = Candidate(SolutionInterval(20.0), combine_scan=True, combine_spw=True, gaintype="T")
    found = chosen_options(options, best, ())
    assert (found.solint, found.gaintype, found.combine) == (
        SolutionInterval(20.0),
        "T",
        {"spw", "scan"},
    )
    assert (found.minsnr, found.refant) == (2.0, ("A1",))
    fixed = chosen_options(options, best, ("solint", "gaintype", "combine"))
    assert (fixed.solint, fixed.gaintype, fixed.combine) == (
        SolutionInterval(60.0),
        "G",
        frozenset(),
    )
    assert chosen_options(options, Candidate(PER_SCAN), ()).solint == PER_SCAN


def test_the_curve_is_in_units_of_the_noise() -> None:
    (row,) = curve(choice("p", 1000.0, noise=4.0))
    assert row["gain"] == 250.0 and row["error"] == pytest.approx(10.0)
    assert row["solint_s"] == 30.0
    (row,) = curve(choice("p", 1000.0, noise=np.inf))
    assert row["gain"] == 1000.0, "no noise known: as it is"


@pytest.mark.parametrize(("solver", "asked"), [("native", "auto"), ("casa", "gain")])
def test_a_tec_is_tried_only_for_the_solver_that_has_it(
    monkeypatch: pytest.MonkeyPatch, solver: str, asked: str
) -> None:
    """gaincal would solve phases at an interval chosen for a TEC."""
    seen: list[str] = []

    def chosen(sums: Any, **how: Any) -> HeldOutChoice:
        seen.append(how["solution"])
        return HeldOutChoice(None, "none", (), np.inf)

    band = SimpleNamespace(
        spws_used=(0, 1, 2), frequency_hz=[np.array([hz]) for hz in (1.2e8, 1.4e8, 1.6e8)],
        antenna=("A0", "A1"), antennas_used=(0, 1), rows=10, integration_s=1.0,
    )  # fmt: skip
    sums = sums_of(np.ones((2, 3, 2, 1), complex), 1.0, np.random.default_rng(1))
    monkeypatch.setattr(held_out, "summarise", lambda ms: band)
    monkeypatch.setattr(held_out, "accumulate", lambda *args, **how: sums)
    monkeypatch.setattr(held_out, "choose_solve", chosen)
    context: Any = SimpleNamespace(options={}, tools=SimpleNamespace(solver=SimpleNamespace()))
    context.tools.solver.name = solver
    monkeypatch.setattr(held_out, "_ANSWERED", {})
    ask_held_out(context, Path("a.ms"), SolveOptions(), ())
    assert seen == [asked]
    # the same question is not asked twice, another is
    ask_held_out(context, Path("b.ms"), SolveOptions(), ())
    assert seen == [asked]
    sums.vis[0, 0, 0, 0] += 1
    ask_held_out(context, Path("a.ms"), SolveOptions(), ())
    ask_held_out(context, Path("a.ms"), SolveOptions(minblperant=5), ())
    assert seen == [asked] * 3


def test_an_antenna_kept_from_a_longer_interval_has_the_coherence_of_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {30.0: [0.9, 0.1, 0.0], 60.0: [0.9, 0.2, 0.1], 120.0: [0.9, 0.7, 0.1]}

    def tested(sums: Any, candidate: Candidate, **_: Any) -> HeldOutCoherence:
        value = np.array(found[candidate.interval.seconds])
        return HeldOutCoherence(("A", "B", "C"), value, 10 * value, value > 0.5, 0.01)

    monkeypatch.setattr(held_out, "held_out_coherence", tested)
    candidates = [Candidate(SolutionInterval(seconds)) for seconds in found]
    scores = tuple(Score(candidate, 10.0, 1.0, 1.0, 50) for candidate in candidates)
    choice = HeldOutChoice(candidates[0], "", scores, 1.0)
    sums = SimpleNamespace(position_m=np.zeros((3, 3)))
    asked = held_out._with_coherence(sums, choice, (), 4, "ABC")  # type: ignore[arg-type]
    assert asked.fallback == {"B": candidates[2], "C": None}
    assert asked.coherence is not None
    assert asked.coherence.coherence.tolist() == [0.9, 0.7, 0.0]
    assert asked.coherence.coherent.tolist() == [True, False, False]


def test_an_antenna_with_data_that_cannot_be_tested_is_incoherent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """B's model is resolved out; C has no data at all, so there is nothing to keep for it."""
    value = np.array([0.9, np.nan, np.nan])

    def tested(sums: Any, candidate: Candidate, **_: Any) -> HeldOutCoherence:
        return HeldOutCoherence(("A", "B", "C"), value, 10 * value, value > 0.5, 0.01)

    monkeypatch.setattr(held_out, "held_out_coherence", tested)
    choice = HeldOutChoice(
        Candidate(SolutionInterval(30.0)),
        "",
        (Score(Candidate(SolutionInterval(30.0)), 10.0, 1.0, 1.0, 50),),
        1.0,
    )
    sums: Any = SimpleNamespace(position_m=np.zeros((3, 3)))
    asked = held_out._with_coherence(sums, choice, (), 4, "AB")
    assert asked.fallback == {"B": None}


def test_stations_in_phase_with_neighbours_only_keep_their_solutions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """B and C see each other: gains of 1 would leave their baseline out of phase."""
    value = np.array([0.9, 0.01, np.nan, 0.0, 0.9])

    def tested(sums: Any, candidate: Candidate, **_: Any) -> HeldOutCoherence:
        good = np.nan_to_num(value) > 0.5
        return HeldOutCoherence(tuple("ABCDE"), value, 10 * value, good, 0.01, ("B", "C"))

    monkeypatch.setattr(held_out, "held_out_coherence", tested)
    choice = HeldOutChoice(
        Candidate(SolutionInterval(30.0)),
        "",
        (Score(Candidate(SolutionInterval(30.0)), 10.0, 1.0, 1.0, 50),),
        1.0,
    )
    sums: Any = SimpleNamespace(position_m=np.arange(15.0).reshape(5, 3) * 1e3)
    asked = held_out._with_coherence(sums, choice, (), 4, "ABCDE")
    assert asked.fallback == {"D": None}
    assert asked.coherence is not None
    assert asked.coherence.coherence.tolist() == [0.9, 0.01, 0.0, 0.0, 0.9]
    assert asked.longest_m == pytest.approx(np.sqrt(3) * 12e3), "from A to E, coherent"


def test_what_the_record_says_of_stations() -> None:
    """A and E are coherent, B and C see each other, D is kept from longer, F came with nothing."""
    value = np.array([0.9, 0.01, 0.0, 0.7, 0.9, np.nan])
    good = np.array([True, False, False, False, True, False])
    coherence = HeldOutCoherence(tuple("ABCDEF"), value, 10 * value, good, 0.01, ("B", "C"))
    longer = Candidate(SolutionInterval(60.0))
    asked = held_out.HeldOut(
        HeldOutChoice(Candidate(SolutionInterval(30.0)), "", (), 1.0),
        coherence,
        {"D": longer, "F": None},
        1e3,
    )
    nothing: Any = None
    one = Solved("a.ms", nothing, nothing, asked, replaced=("D", "F"), dropped=("F",))
    metrics = as_metrics(CoherenceRecord.of([one]))
    assert metrics["stations_apart"] == ["B", "C"]
    assert metrics["incoherent_stations"] == ["B", "C", "D", "F"]
    assert metrics["dropped_stations"] == ["F"] and metrics["kept_from_longer"] == ["D"]
    assert metrics["coherent_fraction"] == pytest.approx(2 / 6)
    assert metrics["coherent_of_unflagged"] == pytest.approx(2 / 5)
    assert "F" not in metrics["station_coherence"]
