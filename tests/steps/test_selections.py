"""What a run of one target takes of each execution, from names and numbers of the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.core.errors import ConfigError, InputError
from libs.inputs.cont_dat import read_cont_dat
from steps.copy_names import copy_name, field_word
from steps.run_options import run_settings
from steps.selections import selected_inputs
from tests.pipeline_case import FIELDS, FIRST, ExecutionMade, make_pipeline_case


@pytest.fixture(scope="module")
def vis(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Fields 1 and 2 of the first execution are 2 and 0 in the second, windows are one on."""
    second = ExecutionMade(
        "later", 59030.0, field_order=(2, 0, 1), window_order=(-1, 0, 1, 2, 3), offset_hz=4e5
    )
    case = make_pipeline_case(
        tmp_path_factory.mktemp("project"), [FIRST, second], fields=FIELDS[:3], antennas=4,
        scans=1, scan_s=12.0,
    )  # fmt: skip
    return [str(path) for path in case.vis]


def taken(vis: list[str], **settings: Any) -> list[tuple[str, str, str, str]]:
    found = selected_inputs(run_settings({"vis": vis, **settings}))
    return [(one.source.name, one.field, one.spw, one.copy) for one in found]


@pytest.mark.parametrize("field", ["04287+1801", "1"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_field_and_windows_of_the_first_execution(
    vis: list[str], field: str, swapped: bool
) -> None:
    """``spw = 1:2~5`` takes 219 GHz in both, and the order of the executions is no matter."""
    found = taken(vis[::-1] if swapped else vis, field=field, spw="1:2~5,3")
    assert found == [
        (FIRST.name, "1", "1:2~5,3", f"{FIRST.name}.04287+1801.spw1_3.selfcal"),
        ("later", "2", "2:2~5,4", "later.04287+1801.spw2_4.selfcal"),
    ]


def test_a_name_with_signs_is_an_id(vis: list[str]) -> None:
    assert taken(vis[1:], field="G34.3 core#1")[0][1] == "0"
    both = taken(vis, field="G34.3 core#1")
    assert [one[1] for one in both] == ["2", "0"]
    assert both[0][3].startswith(f"{FIRST.name}.G34.3_core_1.spw")


def test_each_by_hand(vis: list[str]) -> None:
    found = taken(vis, executions={
        vis[0]: {"field": "1", "spw": "0"}, vis[1]: {"field": "04287+1801", "spw": "1:3~4"},
    })  # fmt: skip
    assert [one[1:3] for one in found] == [("1", "0"), ("2", "1:3~4")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"executions": {"x.ms": {}}}, "executions names x.ms, which is not in vis"),
        ({"executions": {0: {"fild": "1"}}}, "executions"),
        ({"executions": {0: {"field": "1"}}}, "executions does not name"),
        ({"executions": {0: {}, 1: {}}, "field": "1"}, "beside field or spw"),
        ({"field": "9"}, "has no data of field 9"),
        ({"spw": "9"}, "names window 9"),
    ],
)
def test_what_does_not_fit_is_refused(vis: list[str], settings: Any, said: str) -> None:
    table = settings.get("executions", {})
    named = {vis[key] if isinstance(key, int) else key: value for key, value in table.items()}
    with pytest.raises(ConfigError, match=said):
        taken(vis, **{**settings, **({"executions": named} if table else {})})


def test_an_execution_without_the_field_is_told(vis: list[str], tmp_path: Path) -> None:
    other = make_pipeline_case(
        tmp_path, [ExecutionMade("other", 59040.0)], fields=FIELDS[:1], antennas=4, scans=1,
        scan_s=12.0,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"other.ms has no data of field '04287\+1801'"):
        taken([*vis, str(other.vis[0])], field="04287+1801")


def test_names_of_copies() -> None:
    assert field_word(" G34.3 core#1 ") == "G34.3_core_1" and field_word("..") == "field"
    assert copy_name("eb", "f", [20, 16, 18]) == "eb.f.spw16_18_20.selfcal"
    assert copy_name("eb", "f", range(64)) == "eb.f.spw0-63.selfcal"


def test_windows_are_found_in_the_file_by_their_virtual_number(
    vis: list[str], tmp_path: Path
) -> None:
    found = selected_inputs(run_settings({"vis": vis, "field": "04287+1801"}))
    assert found[1].virtual == {1: 0, 2: 1, 3: 2, 4: 3}
    path = tmp_path / "cont.dat"
    path.write_text("Field: 04287+1801\nSpectralWindow: 2\nALL\n")
    assert read_cont_dat(path).window("04287+1801", found[1].virtual[3], "") is not None
