"""What is written in YAML or on the command line reaches the options as it is written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from libs.core.errors import ConfigError
from selfcal.options import Option
from selfcal.settings import parse_assignments
from selfcal.yaml_files import read_value_mapping
from steps import STEPS
from steps.run_options import load_run_config, run_settings

NAMES = list(STEPS)
# what YAML 1.1 takes for something else
TRAPS = (
    "On", "off", "yes", "No", "y", "1:30", "1:30:00", "010", "0x10", "0o17", "1e5", ".5", "1_0",
    "2024-02-29", "null", "~", "true", ".inf", ".nan", "<<", "=", "+1", "3C273", "07:30",
)  # fmt: skip


def built(config: dict[str, Any], *pairs: str) -> Any:
    return run_settings(config, None, parse_assignments(pairs))


def from_yaml(text: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return built(load_run_config(path))


@pytest.mark.parametrize("text", TRAPS)
def test_plain_text_stays_text_in_a_config_and_on_the_command_line(text: str) -> None:
    config = from_yaml(f"field: {text}\nspw: {text}\nrefant: [{text}, Ef]\ntargets: {text}\n")
    assert (config["field"], config["spw"]) == (text, text)
    assert (config["refant"], config["targets"]) == ((text, "Ef"), (text,))
    given_here = built({}, f"field={text}", f"refant={text}", f"targets=[{text}, Ef]")
    assert (given_here["field"], given_here["refant"]) == (text, (text,))
    assert given_here["targets"] == (text, "Ef")


@pytest.mark.parametrize(
    "text", ["#3", "a # b", "a: b", "*:5~10", "&a", "- a", "? a", "|", "@b", "%"]
)
def test_signs_that_yaml_reads_are_text_on_the_command_line(text: str) -> None:
    assert built({}, f"field={text}")["field"] == text


# a newline or a blank at an end cannot be meant without quotes
printable = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
plain = printable.map(str.strip).filter(lambda text: text[:1] not in ("[", "{", "'", '"'))


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
@example("On")
@example("010")
@example("1:30")
@example("1e5")
def test_any_text_survives_a_config_written_as_yaml(text: str) -> None:
    found = from_yaml(yaml.safe_dump({"field": text, "overrides": {"p1": {"parameter": text}}}))
    assert found["field"] == text
    assert found.step_overrides["p1"]["parameter"][0] == text


@given(plain)
def test_any_plain_text_survives_the_command_line(text: str) -> None:
    assert built({}, f"field={text}")["field"] == text


@given(printable)
def test_any_quoted_text_survives_the_command_line(text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    assert built({}, f"field={quoted}")["field"] == text


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
@example("1e5")
@example("07:30")
def test_any_text_survives_resolved_yaml_and_from_there_a_config(text: str) -> None:
    written = yaml.safe_dump({"field": {"value": built({"field": text})["field"], "from": "a"}})
    kept = yaml.safe_load(written)["field"]["value"]
    assert kept == text
    assert from_yaml(yaml.safe_dump({"field": kept}))["field"] == text


# -- what the kinds make of text -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", "010", 10), ("int", "0x10", 16), ("int", "0o17", 15), ("int", "1e5", 100000),
        ("float", ".5", 0.5), ("float", "1e5", 1e5), ("float", "010", 10.0),
        ("bool", "on", True), ("bool", "Off", False), ("bool", "yes", True), ("bool", "No", False),
        ("bool", "true", True), ("bool", "False", False),
        ("size", "512", (512, 512)), ("size", ["512", "256"], (512, 256)),
        ("spwmap", ["0", "0"], (0, 0)), ("rounds", [["p1", "On"], []], (("p1", "On"), ())),
        ("table", "", {}), ("time", "1e2s", 100.0),
    ],
)  # fmt: skip
def test_kinds_read_their_values_from_text(kind: str, text: Any, value: Any) -> None:
    assert Option("it", kind, "", "").parse(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "1:30"), ("int", "null"), ("int", ""), ("int", "true"), ("int", "0x"),
        ("float", ".inf"), ("float", "~"), ("float", "on"), ("float", "nan"), ("bool", "1"),
        ("bool", "null"), ("time", "30"), ("time", "1:30"), ("time", ""), ("names", [True, "Ef"]),
        ("names", [1.5]), ("names", [None]), ("rounds", [[False]]), ("table", "on"),
    ],
)  # fmt: skip
def test_kinds_refuse_what_is_not_theirs(kind: str, text: Any) -> None:
    with pytest.raises(ConfigError, match=r"it = .* is not"):
        Option("it", kind, "", "").parse(text)


def test_numbers_and_words_of_a_config_are_read_by_their_kind() -> None:
    config = from_yaml("quiet: off\nthreads: 2\nimsize: [512, 256]\ncell: 0.1arcsec\noverrides:\n")
    assert (config["quiet"], config["threads"], config["overrides"]) == (False, 2, {})
    assert (config["imsize"], config["cell"]) == ((512, 256), pytest.approx(0.1))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("field: A\nvis: a.ms\nfield: B\n")
    with pytest.raises(ConfigError, match="'field' is there twice"):
        load_run_config(path)


def test_values_without_options_are_those_of_json(tmp_path: Path) -> None:
    path = tmp_path / "slurm.yaml"
    path.write_text(
        "walltime: 12:00:00\naccount: 0123\nqueue: no\ncores: 4\nshare: 0.5\nnanny: true\nx: null\n"
        "more: {<<: {a: 1}, b: 1e3}\n"
    )
    assert read_value_mapping(path) == {
        "walltime": "12:00:00", "account": "0123", "queue": "no", "cores": 4, "share": 0.5,
        "nanny": True, "x": None, "more": {"a": 1, "b": 1000.0},
    }  # fmt: skip
