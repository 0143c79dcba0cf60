"""The record as JSON: what is written is read, and what is wrong is named by its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.core.errors import ConfigError, InputError
from libs.record.decode import encode
from libs.record.schema import load_record, parse_record, store_record
from tests.libs.record.records import execution, record


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = record(execution(), execution("two", 6e9))
    store_record(tmp_path / "r.json", made)
    assert load_record(tmp_path / "r.json") == made
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == "selfcal/1"


def test_a_later_version_may_add_keys() -> None:
    content = encode(record())
    content["targets"][0]["novelty"] = 1
    assert parse_record(content, "r") == record()


def drop(content: Any) -> None:
    del content["targets"][0]["applied"][0]["sha256"]


def spoil_number(content: Any) -> None:
    content["executions"][0]["begin_mjd_s"] = "yesterday"


def spoil_flag(content: Any) -> None:
    content["targets"][0]["intervals"][0]["passed"] = 1


def strange_execution(content: Any) -> None:
    content["targets"][0]["applied"][0]["execution"] = "three"


def strange_window(content: Any) -> None:
    content["targets"][0]["applied"][0]["spwmap"] = {"nowhere": "X#BB_0#SW-01"}


def unsolved_window(content: Any) -> None:
    content["targets"][0]["applied"][0]["spwmap"] = {"X#BB_0#SW-01": "X#BB_2#SW-01"}


def strange_antenna(content: Any) -> None:
    content["targets"][0]["applied"][0]["antennas"][0] = "Z9"


def outside(content: Any) -> None:
    content["targets"][0]["applied"][0]["table"] = "../../etc/passwd"


def absolute(content: Any) -> None:
    content["targets"][0]["applied"][0]["table"] = "/etc/passwd"


def weights(content: Any) -> None:
    content["targets"][0]["applied"][0]["calwt"] = True


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop, r"targets\[0\]\.applied\[0\]\.sha256 is missing"),
        (spoil_number, r"executions\[0\]\.begin_mjd_s is not a number"),
        (spoil_flag, r"intervals\[0\]\.passed is not true or false"),
        (strange_execution, "names the execution 'three'"),
        (strange_window, r"windows that are missing: \['nowhere'\]"),
        (unsolved_window, "windows that its table lacks"),
        (strange_antenna, r"antennas that are missing: \['Z9'\]"),
        (outside, "outside of the record's folder"),
        (absolute, "outside of the record's folder"),
        (weights, "weights"),
    ],
)
def test_faults_are_named(change: Callable[[Any], None], said: str) -> None:
    content = json.loads(json.dumps(encode(record())))
    change(content)
    with pytest.raises(ConfigError, match=said):
        parse_record(content, "r.json")


def test_all_faults_are_told_at_once() -> None:
    content = json.loads(json.dumps(encode(record())))
    drop(content)
    spoil_number(content)
    with pytest.raises(ConfigError, match=r"begin_mjd_s.*sha256"):
        parse_record(content, "r.json")


@pytest.mark.parametrize("content", [None, [], {}, {"schema": "selfcal/2"}, "text"])
def test_another_schema_is_refused(content: Any) -> None:
    with pytest.raises(ConfigError, match="has the schema"):
        parse_record(content, "r.json")


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_record(tmp_path / "r.json")


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    made = record()
    target = replace(made.targets[0], cell_arcsec=float("nan"))
    with pytest.raises(InputError, match="not finite"):
        store_record(tmp_path / "r.json", replace(made, targets=(target,)))
    assert not list(tmp_path.iterdir())
