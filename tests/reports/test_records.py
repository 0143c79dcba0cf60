from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from libs.core.errors import InputError
from reports.records import read_run
from tests.reports.fake_run import STEP_COLUMNS, make_run, step_row, write_rows


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "work", 64)


def test_rows_are_typed(workdir: Path) -> None:
    run = read_run(workdir)
    assert [row.step for row in run.steps] == [
        "startup", "test_image", "p0", "p1", "p2", "ap1", "split_trial_1",
    ]  # fmt: skip
    p1 = run.steps[3]
    assert p1.seconds == 2.5
    assert p1.metric("solint_s") == 20.0
    assert p1.tables[0].path == "tables/p1.3c273.gcal"
    assert p1.gain_tables == ("tables/p1.3c273.gcal",)
    assert math.isnan(p1.metric("no_such"))
    assert [row.step for row in run.rounds] == ["p0", "p1", "p2", "ap1"]
    assert [row.step for row in run.steps if row.accepted][-1] == "ap1"
    assert run.status == "improved"
    assert run.problems == () and run.outdated == ()


def test_settings_are_flattened_with_their_origins(workdir: Path) -> None:
    settings = {s.name: (s.value, s.origin) for s in read_run(workdir).settings}
    assert settings["vis"] == ("demo:3c273", "config.py")
    assert settings["p1.solint"] == ("30s", "--set")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {value: 1, from: config.py}", ("a", "1", "config.py")),
        ("a: {value: [x, y], origin: default}", ("a", "x, y", "default")),
        ("a: {value: {}, from: default}", ("a", "{}", "default")),
        ("a: true", ("a", "yes", "")),
        ("a: {b: {value: null, from: t.yaml}}", ("a.b", "", "t.yaml")),
    ],
)
def test_forms_of_settings(tmp_path: Path, text: str, expected: tuple[str, str, str]) -> None:
    make_run(tmp_path, 32, finished=False)
    (tmp_path / "resolved.yaml").write_text(text)
    setting = read_run(tmp_path).settings[0]
    assert (setting.name, setting.value, setting.origin) == expected


def test_the_last_row_of_a_step_counts(tmp_path: Path) -> None:
    rows = [step_row("p0", "failed", reason="first"), step_row("p0", reason="second")]
    write_rows(tmp_path / "steps.csv", STEP_COLUMNS, rows)
    (row,) = read_run(tmp_path).steps
    assert (row.status, row.reason) == ("done", "second")


def test_steps_recorded_before_an_earlier_one_ran_again_are_outdated(tmp_path: Path) -> None:
    names = ["startup", "p0", "p1", "ap1", "p0"]
    write_rows(tmp_path / "steps.csv", STEP_COLUMNS, [step_row(name) for name in names])
    (tmp_path / "resolved.yaml").write_text("steps: {value: [startup, p0, p1, ap1], from: x}\n")
    run = read_run(tmp_path)
    assert [row.step for row in run.steps] == ["startup", "p0"]
    assert run.outdated == ("p1", "ap1")


def test_a_row_cut_off_by_a_crash_is_named_and_left_out(tmp_path: Path) -> None:
    make_run(tmp_path, 32)
    steps = tmp_path / "steps.csv"
    text = steps.read_text().rstrip("\n")
    steps.write_text(text[: text.rindex("ap1") + 20])
    run = read_run(tmp_path)
    assert "ap1" not in [row.step for row in run.steps]
    assert "p2" in [row.step for row in run.steps]
    assert any("steps.csv" in problem for problem in run.problems)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    make_run(tmp_path, 32)
    (tmp_path / "summary.json").write_text('{"status": "impro')
    (tmp_path / "resolved.yaml").write_text("a: [1,\n")
    run = read_run(tmp_path)
    assert run.summary == {} and run.settings == ()
    assert len(run.problems) == 2
    assert run.status == "incomplete"


def test_an_incomplete_run_has_a_status(tmp_path: Path) -> None:
    make_run(tmp_path, 32, finished=False)
    assert read_run(tmp_path).status == "incomplete"


def test_a_failed_step_decides_the_status(tmp_path: Path) -> None:
    make_run(tmp_path, 32)
    with (tmp_path / "steps.csv").open("a") as stream:
        stream.write(",".join(["p9", "failed", "", "", "boom", *[""] * 8]) + "\n")
    assert read_run(tmp_path).status == "failed"


def test_statistics_fall_back_to_images_csv(tmp_path: Path) -> None:
    row = step_row("test_image", products={"image": "images/t.fits"})
    write_rows(tmp_path / "steps.csv", STEP_COLUMNS, [row])
    (tmp_path / "images.csv").write_text("step,name,path,snr\ntest_image,t,images/t.fits,12.5\n")
    run = read_run(tmp_path)
    assert run.statistic(run.steps[0], "snr") == 12.5
    assert math.isnan(run.statistic(run.steps[0], "peak_jy_beam"))


def test_untouched_data_are_no_part_of_the_history(tmp_path: Path) -> None:
    row = step_row("report_results", products={"image": "u.fits"})
    write_rows(tmp_path / "steps.csv", STEP_COLUMNS, [row])
    (tmp_path / "images.csv").write_text("step,name,path,peak_jy_beam\nreport_results,u,u.fits,2\n")
    (tmp_path / "summary.json").write_text(json.dumps({"untouched": {"image": "u.fits"}}))
    assert read_run(tmp_path).imaged() == ()


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no steps\.csv"):
        read_run(tmp_path)
