"""The command's own words: help, versions, configs to edit, what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import auto_selfcal
from selfcal import __version__
from steps import STEPS
from steps.run_options import RUN_OPTIONS, load_run_config, run_settings
from tests.conftest import ROOT

CONFIGS = sorted(path.stem for path in (ROOT / "templates" / "configs").glob("*.py"))


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    try:
        found = auto_selfcal.main(arguments)
    except SystemExit as end:
        found = int(end.code or 0)
    text = capsys.readouterr()
    assert found == code, text
    return text.out + text.err


def test_help_shows_every_key_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "-h")
    for option in RUN_OPTIONS:
        assert option.name in text and option.meaning in text
    for step in STEPS:
        assert step in text


@pytest.mark.parametrize("name", ["init", "report", "doctor", "apply"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert name in said(capsys, name, "-h")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version").strip() == f"selfcal {__version__}"


@pytest.mark.parametrize("name", CONFIGS)
def test_init_writes_a_config_that_is_valid(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    target = tmp_path / "my.py"
    assert "set vis" in said(capsys, "init", name, "-o", str(target))
    settings = run_settings(load_run_config(target), target, {})
    assert set(settings["steps"]) <= set(STEPS)
    # keys are explained where they stand
    assert target.read_text().count("#") >= 8
    assert "exists" in said(capsys, "init", name, "-o", str(target), code=2)


def test_init_of_an_unknown_instrument(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown instrument 'vlla'" in said(capsys, "init", "vlla", code=2)


def test_list_before_anything_ran(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = said(capsys, "--list", "--workdir", str(tmp_path / "work"))
    assert text.count("not run yet") == len(load_run_config(ROOT / "config.py")["steps"])
    assert not (tmp_path / "work").exists()


def test_doctor_says_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "doctor")
    for word in ("casatools", "python-casacore", "imager"):
        assert word in text.lower()
