"""Two states compared by held-out baselines, each with its own model and gains."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from libs.gains.normal_equations import NormalEquations
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN, SolutionInterval
from libs.gains.solver import SolveOptions
from libs.heldout.folds import Candidate
from selfcal.step import TableRef
from steps.rounds import state_evidence
from steps.rounds.solving import SolvedBefore
from steps.rounds.state_evidence import _Asked, _candidate, _explained, _stages, _stations_without
from tests.libs.simulated_sums import sums_of
from tests.steps.fake_tools import LIST, Looks, make_run

IMPROVING = {"test_image": Looks(1.0, 0.02), "selfcal_p0": Looks(1.0, 0.015)}


def test_gains_that_are_needed_are_preferred_to_none(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, IMPROVING, names=LIST[:4], config={"rounds": "adaptive"})
    result = pipeline.run()["p0"]
    assert result.status == "done", result.reason
    assert result.metrics["states_sigma"] > 3
    assert "this image's model and gains lower chi2 of held-out baselines by" in result.reason


def test_rounds_by_template_do_not_ask(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, IMPROVING, names=LIST[:4])
    result = pipeline.run()["p0"]
    assert result.status == "done" and "states_sigma" not in result.metrics


def test_the_same_gains_again_are_left_to_the_image(tmp_path: Path) -> None:
    script = {**IMPROVING, "selfcal_p1": Looks(1.0, 0.015)}
    pipeline, _ = make_run(tmp_path, script, names=LIST[:5], config={"rounds": "adaptive"})
    result = pipeline.run()["p1"]
    assert "states_sigma" not in result.metrics, "model and gains are those of p0"


class _Known:
    """A context in which p1 was solved as recorded, and nothing else."""

    def __init__(self, solved: dict[str, SolveOptions]) -> None:
        self.solved = solved


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> _Known:
    def before(context: _Known, name: str) -> SolvedBefore:
        options = context.solved.get(name)
        return SolvedBefore({"a.ms": options.as_record()} if options else {})

    monkeypatch.setattr(state_evidence, "solved_before", before)
    monkeypatch.setattr(state_evidence, "measurement_sets", lambda context: [Path("a.ms")])
    return _Known({"p1": SolveOptions(solint=SolutionInterval(30.0), gaintype="T")})


def ref(name: str) -> TableRef:
    return TableRef("a.ms", f"tables/{name}.gcal", (0,), "linear", name)


def test_stages_are_those_of_the_tables_in_their_order(known: _Known) -> None:
    own = {"a.ms": SolveOptions(calmode="ap")}
    stages = _stages(known, (ref("p1"), ref("ap1")), "ap1", own)  # type: ignore[arg-type]
    assert stages is not None
    assert [(one.solint, one.calmode) for one in stages["a.ms"]] == [
        (SolutionInterval(30.0), "p"), (PER_SCAN, "ap"),
    ]  # fmt: skip
    assert _stages(known, (), "test_image", {}) == {"a.ms": ()}  # type: ignore[arg-type]


@pytest.mark.parametrize("other", ["p0", "neighbour"])
def test_tables_that_were_not_solved_for_here_make_no_comparison(known: _Known, other: str) -> None:
    own = {"a.ms": SolveOptions()}
    assert _stages(known, (ref(other), ref("p2")), "p2", own) is None  # type: ignore[arg-type]


def test_no_baselines_are_held_out_of_a_bandpass(known: _Known) -> None:
    known.solved["b1"] = SolveOptions(calmode="ap", solution="bandpass", channels_per_block=2)
    refs = (ref("b1"), ref("p2"))
    assert _stages(known, refs, "p2", {"a.ms": SolveOptions()}) is None  # type: ignore[arg-type]


def test_stations_that_a_state_is_without_take_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = sums_of(np.ones((2, 3, 5, 2), complex), 1.0, np.random.default_rng(1))
    asked: list[SolveOptions] = []

    def accumulated(ms: Path, options: SolveOptions, **_: Any) -> NormalEquations:
        asked.append(options)
        return sums

    monkeypatch.setattr(state_evidence, "summarise", lambda ms: None)
    monkeypatch.setattr(state_evidence, "shortest_interval", lambda *_: SolutionInterval(20.0))
    monkeypatch.setattr(state_evidence, "accumulate", accumulated)
    limits = SolveOptions(uvmin_m=100.0, uvmax_m=5000.0)
    found = _Asked(limits, {"a.ms": 0}, {"A1", "not there"}).sums(Path("a.ms"))
    gone = (sums.antenna1 == 1) | (sums.antenna2 == 1)
    assert not found.weight[:, :, gone].any() and not found.vis[:, :, gone].any()
    assert np.array_equal(found.vis[:, :, ~gone], sums.vis[:, :, ~gone])
    assert (asked[0].uvmin_m, asked[0].uvmax_m) == (100.0, 5000.0)
    assert asked[0].solint == SolutionInterval(20.0)


def test_a_station_without_a_solution_in_any_table_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def solutions(path: Path) -> SimpleNamespace:
        flag = np.zeros((4, 2, 3, 2), bool)
        flag[:, :, 1 if path.name == "p0.gcal" else 2] = True
        flag[:3, :, 0] = True
        return SimpleNamespace(antenna=("A", "B", "C"), flag=flag)

    monkeypatch.setattr(state_evidence, "read_solutions", solutions)
    context: Any = SimpleNamespace(workdir=tmp_path)
    assert _stations_without(context, (ref("p0"),)) == {"B"}
    assert _stations_without(context, (ref("p0"), ref("p1"))) == {"B", "C"}
    assert _stations_without(context, ()) == set()


def test_a_working_copy_left_without_gains_is_asked_with_the_noise_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    sums = {name: sums_of(np.ones((4, 1, 6, 1), complex), 0.5, rng) for name in ("b.ms", "a.ms")}
    monkeypatch.setattr(state_evidence, "fill_model", lambda *_: None)
    monkeypatch.setattr(state_evidence, "restore_base_flags", lambda *_: None)
    monkeypatch.setattr(state_evidence, "measurement_sets", lambda _: [Path(ms) for ms in sums])
    asked: Any = SimpleNamespace(sums=lambda ms: sums[ms.name])
    stages = {"a.ms": (SolveOptions(gaintype="T"),), "b.ms": ()}
    how: Any = (None, (), None, stages, asked)
    found = _explained(*how, {})
    assert list(found) == ["b.ms", "a.ms"]
    assert found["b.ms"].noise == found["a.ms"].noise == pytest.approx(1.0, rel=0.3)
    assert _explained(*how, {"b.ms": 7.0})["b.ms"].noise == 7.0


def test_a_solve_is_held_out_as_it_was_made() -> None:
    options = SolveOptions(
        solint=PER_INTEGRATION, combine=frozenset({"spw"}), gaintype="T", channels_per_block=4,
        solution="tec",
    )  # fmt: skip
    assert _candidate(options) == Candidate(
        PER_INTEGRATION, combine_spw=True, gaintype="T", solution="tec", channels_per_block=4
    )
    together = SolveOptions(combine=frozenset({"scan", "field"}), calmode="ap")
    assert _candidate(together) == Candidate(
        PER_SCAN, combine_scan=True, combine_spw=False, gaintype="G", calmode="ap"
    )
