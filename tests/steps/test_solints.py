"""A ladder of solution intervals by hand becomes rounds with parameters."""

from __future__ import annotations

import re
from typing import Any

import pytest

from libs.core.errors import ConfigError
from steps.run_options import run_settings


def settings(**config: Any) -> Any:
    return run_settings({"vis": "a.ms", **config})


def test_each_interval_is_a_round() -> None:
    found = settings(solints=["inf_EB", "inf", "30s", "int"])
    rounds = [name for name in found["steps"] if re.fullmatch(r"p\d", name)]
    assert rounds == ["p0", "p1", "p2", "p3"] and found["template"] == "pipeline"
    assert found["steps"][found["steps"].index("p3") + 1] == "ap1"
    own = {
        step: {name: value for name, (value, _) in given.items()}
        for step, given in found.step_overrides.items()
    }
    constants = {"combine": ["scan"], "gaintype": "G", "solution": "gain"}
    assert own["p0"] == {"solint": "4500s", **constants}
    assert [own[name]["solint"] for name in rounds[1:]] == ["inf", "30s", "int"]
    assert {own[name]["solution"] for name in rounds[1:]} == {"constants+phase"}


def test_without_constants_windows_are_solved_together() -> None:
    found = settings(solints="inf,int", steps=["startup", "test_image", "p0", "report_results"])
    assert found["steps"] == ("startup", "test_image", "p0", "p1", "report_results")
    assert found.step_overrides["p1"]["combine"][0] == ["spw"]


def test_what_is_set_for_a_round_wins() -> None:
    found = settings(solints=["inf"], overrides={"p0": {"gaintype": "G"}}, template="bright")
    assert found.step_overrides["p0"]["gaintype"][0] == "G" and found["template"] == "bright"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"solints": ["soon"]}, "solints has 'soon'"),
        ({"solints": ["inf"] * 6}, "at most 5"),
        ({"solints": ["inf"], "steps": ["startup", "test_image"]}, "without a phase round"),
    ],
)
def test_what_makes_no_sense_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(**config)


def test_nothing_changes_without() -> None:
    assert settings()["template"] == "auto" and settings()["steps"] == ()
