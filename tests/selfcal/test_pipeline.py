"""Order, reuse, resume and selection of steps, with steps that need no tools."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import ConfigError, InputError
from selfcal import pipeline as pipeline_module
from selfcal.child_runs import exit_code
from selfcal.pipeline import StepFailed
from selfcal.state import State
from tests.selfcal.fake_steps import NAMES, Fake, Killed, Skipping, make_pipeline, run

ALL = list(NAMES)


def final(workdir: Path) -> dict[str, Any]:
    """What a run left that may not depend on how it came about."""
    state = State(workdir)
    records = [state.get(name) for name in NAMES]
    return {
        "files": {path.name: path.read_text() for path in sorted(workdir.glob("*.txt"))},
        "in_place": (workdir / "in_place").read_text(),
        "images": (workdir / "images.csv").read_text(),
        "gains": (workdir / "gains.csv").read_text(),
        "results": [record and record.result for record in records],
        "fingerprints": [record and record.fingerprint for record in records],
    }


def fail() -> None:
    raise InputError("the disk is full", "free some space")


def break_unexpectedly() -> None:
    raise ZeroDivisionError("division by zero")


def kill() -> None:
    raise Killed


# -- order and what is passed on ----------------------------------------------------------------


def test_steps_run_in_order_and_pass_on_their_results(tmp_path: Path) -> None:
    assert run(tmp_path) == ALL
    expected = "input > first(1) > second(1) > third(1) > fourth(1)"
    assert (tmp_path / "fourth.txt").read_text() == expected
    record = State(tmp_path).get("fourth")
    assert record is not None
    assert [table.round for table in record.result.tables] == ALL
    assert record.result.tables[0].spwmap == (0, 0)


def test_rows_of_all_steps_are_in_images_and_gains(tmp_path: Path) -> None:
    run(tmp_path)
    for name in ("images", "gains"):
        with (tmp_path / f"{name}.csv").open() as stream:
            assert [row["step"] for row in csv.DictReader(stream)] == ALL


def test_same_name_twice_and_no_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="first twice"):
        make_pipeline(tmp_path, ("first", "first"))
    with pytest.raises(ConfigError, match="empty"):
        make_pipeline(tmp_path, ())


def test_skip_is_a_result_that_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path, classes={"second": Skipping})
    record = State(tmp_path).get("second")
    assert record is not None
    assert (record.result.status, record.result.reason) == ("skipped", "nothing to do")
    assert [table.round for table in record.result.tables] == ["first"]
    assert (tmp_path / "third.txt").read_text() == "input > first(1) > third(1)"


def test_a_skipped_step_is_reused(tmp_path: Path) -> None:
    run(tmp_path, classes={"second": Skipping})
    assert run(tmp_path, classes={"second": Skipping}) == []


# -- reuse --------------------------------------------------------------------------------------


def test_second_run_reuses_everything(tmp_path: Path) -> None:
    run(tmp_path)
    rows = State(tmp_path).rows
    before = final(tmp_path)
    assert run(tmp_path) == []
    assert State(tmp_path).rows == rows
    assert final(tmp_path) == before


@pytest.mark.parametrize("name", ALL)
def test_changed_option_reruns_exactly_what_depends_on_it(tmp_path: Path, name: str) -> None:
    run(tmp_path)
    change = {f"{name}.number": 2}
    assert run(tmp_path, assignments=change) == ALL[ALL.index(name) :]
    assert run(tmp_path, assignments=change) == []
    assert run(tmp_path) == ALL[ALL.index(name) :]


def test_the_same_value_written_otherwise_reruns_nothing(tmp_path: Path) -> None:
    run(tmp_path, assignments={"second.solint": "60s"})
    assert run(tmp_path, assignments={"second.solint": "1min"}) == []


def test_a_setting_counts_for_the_steps_that_use_it(tmp_path: Path) -> None:
    class Careless(Fake):
        uses = ()

    classes = {"first": Careless, "second": Careless}
    run(tmp_path, classes=classes, config={"threads": 1})
    changed = run(tmp_path, classes=classes, config={"threads": 2, "quiet": True})
    assert changed == ["third", "fourth"]


def test_another_input_reruns_everything(tmp_path: Path) -> None:
    run(tmp_path, config={"vis": "a.ms"})
    assert run(tmp_path, config={"vis": "b.ms"}) == ALL


def test_a_changed_file_that_options_name_reruns_its_step_and_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "list.csv"

    def files(step: Fake, options: Any) -> list[Path]:
        return [named] if step.name == "second" else []

    monkeypatch.setattr(Fake, "files", files)
    assert run(tmp_path / "work") == ALL
    named.write_text("a list")
    assert run(tmp_path / "work") == ALL[1:]
    assert run(tmp_path / "work") == []


def test_changed_code_reruns_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    monkeypatch.setattr(pipeline_module, "step_version", lambda name, tools: "0.0.0+other")
    assert run(tmp_path) == ALL


@pytest.mark.parametrize("name", ALL)
def test_missing_product_reruns_its_step_and_later_ones(tmp_path: Path, name: str) -> None:
    run(tmp_path)
    (tmp_path / f"{name}.txt").unlink()
    assert run(tmp_path) == ALL[ALL.index(name) :]


def test_step_taken_out_of_the_list_reruns_what_came_after(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, ("first", "third", "fourth")) == ["third", "fourth"]
    assert (tmp_path / "fourth.txt").read_text() == "input > first(1) > third(1) > fourth(1)"


def test_steps_in_another_order_run_anew(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, ("first", "third", "second", "fourth")) == ["third", "second", "fourth"]


# -- failure and interruption -------------------------------------------------------------------


def test_failure_is_one_line_with_step_cause_and_remedy(tmp_path: Path) -> None:
    Fake.trouble["third"] = fail
    with pytest.raises(StepFailed) as caught:
        run(tmp_path)
    assert str(caught.value) == "step third failed: the disk is full: free some space"
    record = State(tmp_path).get("third")
    assert record is not None and record.result.status == "failed"
    assert [table.round for table in record.result.tables] == ["first", "second"]


def refuse() -> None:
    raise ConfigError("the mask has nothing inside the image", "correct mask")


@pytest.mark.parametrize(("trouble", "code"), [(fail, 1), (refuse, 2)])
def test_what_the_config_gets_wrong_has_an_exit_code_of_its_own(
    tmp_path: Path, trouble: Callable[[], None], code: int
) -> None:
    Fake.trouble["third"] = trouble
    with pytest.raises(StepFailed) as caught:
        run(tmp_path)
    assert exit_code(caught.value) == code


def test_unexpected_failure_is_named_and_its_traceback_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Fake.trouble["second"] = break_unexpectedly
    with pytest.raises(StepFailed, match="step second failed: ZeroDivisionError") as caught:
        run(tmp_path)
    assert "a fault of the program, test_pipeline.py line" in caught.value.cause
    assert "break_unexpectedly" in caplog.text


def test_failed_step_runs_again(tmp_path: Path) -> None:
    Fake.trouble["third"] = fail
    with pytest.raises(StepFailed):
        run(tmp_path)
    Fake.trouble.clear()
    assert run(tmp_path) == ["third", "fourth"]


def test_interrupted_step_runs_again_although_its_earlier_row_fits(tmp_path: Path) -> None:
    run(tmp_path)
    Fake.trouble["second"] = kill
    with pytest.raises(Killed):
        run(tmp_path, only="second")
    Fake.trouble.clear()
    assert run(tmp_path) == ["second", "third", "fourth"]


def test_a_step_interrupted_stays_so_while_it_is_out_of_the_list(tmp_path: Path) -> None:
    run(tmp_path)
    Fake.trouble["third"] = kill
    with pytest.raises(Killed):
        run(tmp_path, only="third")
    Fake.trouble.clear()
    run(tmp_path, ("first", "second", "fourth"))
    assert run(tmp_path) == ["third", "fourth"]


@settings(max_examples=40, deadline=None)
@given(
    kills=st.lists(st.sampled_from(ALL), max_size=6),
    torn=st.integers(0, 400),
    change=st.sampled_from([{}, {"second.number": 5}]),
)
def test_any_kills_and_resuming_equal_no_interruption(
    kills: list[str], torn: int, change: dict[str, Any]
) -> None:
    """Also a kill within the writing of the record: bytes of it are cut off."""
    with tempfile.TemporaryDirectory() as folder:
        smooth, rough = Path(folder) / "smooth", Path(folder) / "rough"
        run(smooth, assignments=change)
        for number, name in enumerate(kills):
            Fake.trouble[name] = kill
            try:
                # before the last attempts the config was another one
                run(rough, assignments=change if number > 2 else {})
            except Killed:
                pass
            finally:
                Fake.trouble.clear()
        record = rough / "steps.csv"
        if record.exists():
            content = record.read_bytes()
            record.write_bytes(content[: max(0, len(content) - torn)])
        run(rough, assignments=change)
        assert final(rough) == final(smooth)
        assert run(rough, assignments=change) == []


# -- selection ----------------------------------------------------------------------------------


def test_until_stops_and_a_later_start_goes_on(tmp_path: Path) -> None:
    assert run(tmp_path, until="second") == ["first", "second"]
    assert run(tmp_path) == ["third", "fourth"]


def test_from_runs_it_and_all_after_it(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, start="third") == ["third", "fourth"]
    assert run(tmp_path) == []


def test_from_on_an_empty_work_directory_runs_what_it_needs(tmp_path: Path) -> None:
    assert run(tmp_path, start="third") == ALL


def test_from_until_runs_the_part_between(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, start="second", until="third") == ["second", "third"]
    assert run(tmp_path) == ["fourth"]


def test_only_runs_one_step_and_later_ones_run_next_time(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, only="second") == ["second"]
    assert run(tmp_path) == ["third", "fourth"]


def test_restart_runs_everything(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, restart=True) == ALL
    assert State(tmp_path).rows == len(ALL)


@pytest.mark.parametrize("option", ["start", "until", "only"])
def test_unknown_step_names_the_nearest(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError, match="did you mean 'third'"):
        run(tmp_path, **{option: "thrid"})


def test_contradictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--only stands alone"):
        run(tmp_path, only="second", start="first")
    with pytest.raises(ConfigError, match="comes after"):
        run(tmp_path, start="third", until="second")


@pytest.mark.parametrize(
    "selection",
    [{}, {"start": "third"}, {"until": "second"}, {"only": "second"}, {"restart": True}],
)
@pytest.mark.parametrize("changed", [{}, {"second.number": 3}, {"third.number": 3}])
def test_the_plan_is_what_then_happens(
    tmp_path: Path, selection: dict[str, Any], changed: dict[str, Any]
) -> None:
    run(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    planned = make_pipeline(tmp_path, assignments=changed).plan(**selection)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    announced = [item.name for item in planned if item.action == "run"]
    assert run(tmp_path, assignments=changed, **selection) == announced


def test_the_plan_says_why(tmp_path: Path) -> None:
    assert {item.why for item in make_pipeline(tmp_path).plan()} >= {"not run yet"}
    run(tmp_path)
    (tmp_path / "second.txt").unlink()
    (first, second, third, _) = make_pipeline(tmp_path).plan()
    assert (first.action, second.why) == ("reuse", "second.txt is missing")
    assert third.why == "second runs"


def test_settings_of_a_step_are_on_record_with_their_origin(tmp_path: Path) -> None:
    run(tmp_path, config={"overrides": {"first": {"number": 7}}}, assignments={"first.other": 2})
    record = State(tmp_path).get("first")
    assert record is not None
    assert record.settings["number"] == 7
    origin = record.settings["origin"]
    assert origin == {"number": "config: overrides", "solint": "default", "other": "--set"}
    assert json.loads(json.dumps(record.settings)) == record.settings
