"""Several targets: what each is run with, and what comes of them when some fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import auto_selfcal
from libs.core.errors import ConfigError
from selfcal import child_runs
from steps.commands.command_line import RunArguments
from steps.commands.run import main_parser
from steps.commands.targets import TargetsFailed, calibrate_targets
from steps.run_options import run_settings
from steps.targets.run import plan_targets
from tests.libs.small_ms import make_ms

STEP_NAMES = ["startup", "test_image", "p0"]
FAKE = Path(__file__).resolve().parents[1] / "fake_target_run.py"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(child_runs, "COMMAND", FAKE)
    monkeypatch.chdir(tmp_path)
    make_ms(tmp_path / "a.ms", fields=("A 1", "B", "C"), scans=3)
    return {"vis": "a.ms", "workdir": "work", "targets": "all", "steps": STEP_NAMES,
            "cell": "1arcsec", "overrides": {"p0": {"solint": "30s"}}}  # fmt: skip


def tasks_of(config: dict[str, Any], *words: str) -> tuple[list[Any], Any]:
    arguments = RunArguments.read(main_parser().parse_args(words))
    settings = run_settings(config)
    return plan_targets(arguments.words, config, settings), settings


def run(config: dict[str, Any], *words: str) -> dict[str, Any]:
    tasks, settings = tasks_of(config, *words)
    settings.workdir.mkdir(exist_ok=True)
    calibrate_targets(tasks, settings, auto_selfcal.REPORTS)
    return dict(json.loads((settings.workdir / "summary.json").read_text()))


def test_each_target_is_a_run_of_its_own(config: dict[str, Any], tmp_path: Path) -> None:
    summary = run(config)
    assert summary["status"] == "improved" and list(summary["targets"]) == ["A_1", "B", "C"]
    assert summary["targets"]["B"]["final"]["snr"] == 101.0
    assert summary["targets"]["B"]["workdir"] == "targets/B"
    assert summary["warnings"] == ["A_1: loud", "B: loud", "C: loud"]
    written = yaml.safe_load((tmp_path / "work/targets/A_1/config.yaml").read_text())
    assert written == {
        "vis": [str(tmp_path / "a.ms")], "workdir": str(tmp_path / "work/targets/A_1"),
        "executions": {
            str(tmp_path / "a.ms"): {"field": "0", "spw": "0", "copy": "a.A_1.spw0.selfcal",
                                       "windows": "0"}
        }, "quiet": False, "steps": STEP_NAMES, "cell": "1arcsec",
        "overrides": {"p0": {"solint": "30s"}},
    }  # fmt: skip


def test_what_the_command_line_says_goes_to_every_run(
    config: dict[str, Any], tmp_path: Path
) -> None:
    words = ["--from", "p0", "--restart"]
    for pair in ("p0.minsnr=3", "p0.solint=60s", "global_parameters.niter=9", "cell=2arcsec"):
        words += ["--set", pair]
    assert command(config, *words) == 0
    for label in ("A_1", "B", "C"):
        folder = tmp_path / "work/targets" / label
        assert json.loads((folder / "asked.json").read_text()) == ["--from=p0", "--restart"]
        written = yaml.safe_load((folder / "config.yaml").read_text())
        assert written["overrides"] == {"p0": {"solint": "60s", "minsnr": "3"}}
        assert written["global_parameters"] == {"niter": "9"} and written["cell"] == "2arcsec"


def test_files_that_options_of_steps_name_are_found_from_every_folder(
    config: dict[str, Any], tmp_path: Path
) -> None:
    config["steps"] = [*STEP_NAMES[:2], "closure_stats", "p0"]
    config["overrides"] = {"closure_stats": {"catalogue": "list.csv"}}
    words = ["--set", "closure_stats.components=parts.csv", "--set", "start_from=sub/start.h5"]
    assert command(config, *words) == 0
    written = yaml.safe_load((tmp_path / "work/targets/A_1/config.yaml").read_text())
    assert written["overrides"]["closure_stats"] == {
        "catalogue": str(tmp_path / "list.csv"), "components": str(tmp_path / "parts.csv")
    }  # fmt: skip
    assert written["start_from"] == str(tmp_path / "sub/start.h5")
    assert command(config, "--set", "closure_stats.catalogue=lotss") == 0
    written = yaml.safe_load((tmp_path / "work/targets/A_1/config.yaml").read_text())
    assert written["overrides"]["closure_stats"]["catalogue"] == "lotss", "a survey, no file"


def test_a_target_that_fails_is_named_and_the_others_go_on(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(config)
    with pytest.raises(TargetsFailed) as caught:
        run({**config, "refant": "1"})
    said = str(caught.value)
    assert said.startswith("1 of 3 targets failed; B: step p0 failed: the imager died")
    summary = json.loads((tmp_path / "work/summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["counts"] == {"improved": 2, "unchanged": 0, "failed": 1}
    assert "final" not in summary["targets"]["B"], "that of the start before is not this one's"
    assert "final" in summary["targets"]["C"]
    table = capsys.readouterr().out
    assert "B: failed; step p0 failed" in table and "A_1     C     improved" in table
    assert run(config)["status"] == "improved", "the same command again"


def test_a_crash_is_told_by_its_last_line(config: dict[str, Any]) -> None:
    with pytest.raises(TargetsFailed, match=r"broke off: .*\(RuntimeError: something nobody"):
        run({**config, "refant": "crash"})


def test_all_fail(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TargetsFailed, match="3 of 3"):
        run({**config, "refant": "0+1+2"})
    report = (tmp_path / "work/report.html").read_text()
    assert "3 of 3 targets failed" in report and "the imager died" in report


def test_field_and_targets_contradict_each_other(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="both field and targets"):
        tasks_of({**config, "field": "0"})


def test_executions_are_for_single_targets(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="both executions and targets"):
        tasks_of({**config, "executions": {"a.ms": {"field": "0"}}})


def test_an_unknown_place_to_run(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="unknown cluster 'cloud'"):
        tasks_of({**config, "cluster": "cloud"})


# -- the command -----------------------------------------------------------------------------------


def command(config: dict[str, Any], *words: str) -> int:
    path = Path("many.yaml")
    path.write_text(yaml.safe_dump(config))
    return auto_selfcal.main([str(path), *words])


def test_exit_codes(config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(config) == 0
    Path("work/report.html").unlink()
    assert auto_selfcal.main(["report", "work"]) == 0
    assert "improved 3 of 3 targets" in Path("work/report.html").read_text()
    assert command({**config, "refant": "2"}) == 1
    assert "selfcal: 1 of 3 targets failed; C: step p0" in capsys.readouterr().err
    assert command({**config, "targets": ["D"]}) == 2
    assert command(config, "--from", "p9") == 2
    assert "unknown step for --from 'p9'" in capsys.readouterr().err
    assert command({**config, "targets": "", "cluster": "local:2"}) == 2
    assert "shares out targets, and none are named" in capsys.readouterr().err


def test_lists_and_plans_write_nothing(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(config, "--list") == 0
    text = capsys.readouterr().out
    assert text.count("not run yet") == 9 and "== targets/A_1: A 1, band C" in text
    assert command(config, "--dry-run", "--until", "startup") == 0
    assert capsys.readouterr().out.count("startup           run    not run yet") == 3
    assert not (tmp_path / "work").exists()


def test_masks_and_models_by_target_and_band(config: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a.crtf", "b.crtf", "m0.fits", "m1.fits"):
        (tmp_path / name).touch()
    config |= {
        "mask": {"A 1": "a.crtf", "C C": "b.crtf"},
        "start_model": {"B": ["m0.fits", "m1.fits"]},
    }
    tasks, _ = tasks_of(config)
    found = {task.target.label: task.config for task in tasks}
    assert found["A_1"]["mask"] == str(tmp_path / "a.crtf")
    assert found["B"]["start_model"] == [str(tmp_path / "m0.fits"), str(tmp_path / "m1.fits")]
    assert not found["B"].get("mask") and not found["A_1"].get("start_model")
    assert found["C"]["mask"] == str(tmp_path / "b.crtf")
    config["mask"] = {"B": "a.crtf", "C": "b.crtf"}
    with pytest.raises(ConfigError, match="C, which is a target and a band"):
        tasks_of(config)
    config["targets"] = ["A 1", "B"]
    found = {task.target.label: task.config["mask"] for task in tasks_of(config)[0]}
    assert found == {
        "A_1": str(tmp_path / "b.crtf"), "B": str(tmp_path / "a.crtf"),
    }  # fmt: skip
    config["mask"] = {"D": "a.crtf"}
    with pytest.raises(ConfigError, match="unknown target or band in mask 'D'"):
        tasks_of(config)
