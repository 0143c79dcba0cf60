"""A work directory belongs to the data whose results it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.core.errors import ConfigError
from selfcal.settings import Settings
from selfcal.state import State
from selfcal.step import StepResult
from steps.ready_configs import ready_config_names, ready_config_text
from steps.run_options import run_settings
from steps.work_directory import check_owner, note_owner


def settings_of(workdir: Path, vis: str | list[str], field: str = "") -> Settings:
    return run_settings({"vis": vis, "field": field, "workdir": str(workdir)})


@pytest.mark.parametrize(
    ("vis", "field", "name"),
    [
        ("/data/ngc5921.ms/", "", "work_ngc5921"),
        (["a/day1.ms", "b/day2.ms"], "NGC 1", "work_day1_NGC_1"),
        ("demo:3c273", "", "work_3c273"),
        ("M87.uvfits", "", "work_M87"),
    ],
)
def test_it_is_named_after_the_data(vis: str | list[str], field: str, name: str) -> None:
    assert run_settings({"vis": vis, "field": field}).workdir.name == name


@pytest.mark.parametrize("name", ready_config_names())
def test_ready_configs_leave_the_name_to_the_data(name: str) -> None:
    assert 'workdir = "auto"' in ready_config_text(name)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Work directory in which the first step of a run of a.ms is done."""
    workdir = tmp_path / "work"
    workdir.mkdir()
    note_owner(settings_of(workdir, "a.ms"))
    result = StepResult("done", metrics={"field": "NGC 1"})
    State(workdir).append("startup", "x", result, {"total": 1, "imaging": 0, "solving": 0}, {})
    return workdir


def test_other_data_are_refused(finished: Path) -> None:
    for vis in ("b.ms", ["a.ms", "b.ms"]):
        with pytest.raises(ConfigError, match=r"holds other results, those of .*a\.ms.*--restart"):
            check_owner(settings_of(finished, vis), {})
    with pytest.raises(ConfigError, match="those of field NGC 1"):
        check_owner(settings_of(finished, "a.ms", "NGC 2"), {})


def test_the_same_data_go_on(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_owner(settings_of(finished, "a.ms"), {})
    check_owner(settings_of(finished, str(Path("a.ms").absolute())), {})
    check_owner(settings_of(finished, "a.ms", "NGC 1"), {})


def test_restart_replaces_them(finished: Path) -> None:
    check_owner(settings_of(finished, "b.ms"), {"restart": True})


def test_a_run_that_never_got_anywhere_is_no_obstacle(tmp_path: Path) -> None:
    note_owner(settings_of(tmp_path, "misspelt.ms"))
    check_owner(settings_of(tmp_path, "right.ms"), {})
