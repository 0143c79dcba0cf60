"""Options that name files mean the same files from every folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcal.options import Option
from selfcal.paths import absolute, with_absolute_paths

OPTIONS = (
    Option("vis", "paths", "", "data"),
    Option("lists", "paths", "", "lists", words=("lotss",)),
    Option("field", "str", "", "field"),
    Option("start_from", "path", "", "h5parm"),
    Option("overrides", "table", {}, "by step"),
    Option("global_parameters", "table", {}, "everywhere"),
)
STEPS = {
    "stats": (
        Option("catalogue", "path", "", "a list", words=("lotss",)),
        Option("solint", "str", "", "an interval"),
    ),
    "p0": (Option("solint", "str", "", "an interval"),),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_option_that_names_files_and_no_other(here: Path) -> None:
    config = {
        "vis": "a.ms, sub/b.ms", "field": "a.ms", "start_from": "s.h5",
        "overrides": {"stats": {"catalogue": "list.csv", "solint": "x"}, "p0": {"solint": "y"}},
        "global_parameters": {"catalogue": "other.csv", "niter": 5},
        "stats.catalogue": "third.csv", "p0.solint": "30s",
    }  # fmt: skip
    assert with_absolute_paths(config, OPTIONS, STEPS) == {
        "vis": [str(here / "a.ms"), str(here / "sub/b.ms")], "field": "a.ms",
        "start_from": str(here / "s.h5"),
        "overrides": {
            "stats": {"catalogue": str(here / "list.csv"), "solint": "x"}, "p0": {"solint": "y"}
        },
        "global_parameters": {"catalogue": str(here / "other.csv"), "niter": 5},
        "stats.catalogue": str(here / "third.csv"), "p0.solint": "30s",
    }  # fmt: skip


def test_words_schemes_and_nothing_stay(here: Path) -> None:
    config = {
        "vis": ["demo:3c273"], "lists": "lotss,own.csv", "start_from": "",
        "overrides": {"stats": {"catalogue": "lotss"}},
    }  # fmt: skip
    found = with_absolute_paths(config, OPTIONS, STEPS)
    assert found["vis"] == ["demo:3c273"] and found["start_from"] == ""
    assert found["lists"] == ["lotss", str(here / "own.csv")]
    assert found["overrides"] == {"stats": {"catalogue": "lotss"}}
    (here / "lotss").touch()
    (here / "demo:3c273").mkdir()
    found = with_absolute_paths(config, OPTIONS, STEPS)
    assert found["overrides"] == {"stats": {"catalogue": str(here / "lotss")}}
    assert found["vis"] == [str(here / "demo:3c273")], "a folder of that name is that folder"


def test_home() -> None:
    assert absolute("~/a.ms") == os.path.expanduser("~/a.ms")  # noqa: PTH111 - the other way


@given(st.text("abc./", min_size=1, max_size=12))
def test_done_twice_it_is_as_done_once(name: str) -> None:
    once = absolute(name)
    assert Path(once).is_absolute() and absolute(once) == once


def test_what_is_no_mapping_is_left_for_the_check() -> None:
    config = {"overrides": {"stats": 3}, "global_parameters": 4}
    assert with_absolute_paths(config, OPTIONS, STEPS) == config


def test_files_by_target_are_made_absolute(here: Path) -> None:
    options = (Option("mask", "files", "", "a mask"),)
    config = {"mask": {"A": "a.crtf", "6": ["b.fits", "/c.fits"]}}
    assert with_absolute_paths(config, options, {}) == {
        "mask": {"A": str(here / "a.crtf"), "6": [str(here / "b.fits"), "/c.fits"]}
    }
    assert with_absolute_paths({"mask": "a.crtf"}, options, {}) == {"mask": str(here / "a.crtf")}
