"""Which targets and bands there are, from what executions hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.core.errors import ConfigError
from libs.inputs.input_data import resolve_inputs
from libs.ms.tables import open_table
from steps.targets.plan import ALL, Execution, Target, find_targets, survey
from tests.libs.small_ms import make_ms

C1, C2, X1 = 5e9, 6e9, 9e9
TARGET, CALIBRATOR = "OBSERVE_TARGET#ON_SOURCE", "CALIBRATE_PHASE#ON_SOURCE"


def execution(
    vis: str = "a.ms",
    fields: tuple[str, ...] = ("cal", "NGC 1", "J2"),
    windows: tuple[set[int], ...] = ({0, 1, 2}, {0, 1, 2}, {2}),
    intents: tuple[str, ...] = (CALIBRATOR, TARGET, TARGET),
    window_hz: tuple[float, ...] = (C1, C2, X1),
) -> Execution:
    return Execution(
        vis, "EVLA", fields, window_hz,
        {i: frozenset(values) for i, values in enumerate(windows) if values},
        {i: frozenset({mode} - {""}) for i, mode in enumerate(intents)},
    )  # fmt: skip


def facts(targets: list[Target]) -> list[tuple[str, str, str, str]]:
    return [(t.label, t.band, t.field, t.spw) for t in targets]


def test_targets_by_intent_in_each_of_their_bands() -> None:
    assert facts(find_targets([execution()], ALL)) == [
        ("NGC_1_C", "C", "1", "0,1"), ("NGC_1_X", "X", "1", "2"), ("J2", "X", "2", ""),
    ]  # fmt: skip


def test_every_field_where_nothing_says_what_it_was_for() -> None:
    found = find_targets([execution(intents=("", "", ""))], ALL)
    assert [t.label for t in found] == ["cal_C", "cal_X", "NGC_1_C", "NGC_1_X", "J2"]


def test_fields_by_name_in_the_order_asked_for() -> None:
    found = find_targets([execution()], ["J2", " cal", "J2"])
    assert [t.label for t in found] == ["J2", "cal_C", "cal_X"]


@pytest.mark.parametrize(
    ("wanted", "more", "said"),
    [
        (["NGC1"], {}, r"'NGC1', which has no data \(did you mean 'NGC 1'\?\): there are cal, NGC"),
        (ALL, {"intents": (CALIBRATOR,) * 3}, "no field has the intent OBSERVE_TARGET: name"),
        (["J2"], {"windows": ({0}, {0}, set())}, "'J2', which has no data"),
    ],
)
def test_what_is_not_there_is_told(wanted: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_targets([execution(**more)], wanted)


def test_windows_and_channels_that_are_selected() -> None:
    found = find_targets([execution()], ALL, spw="1~2:0~3,0")
    assert facts(found) == [
        ("NGC_1_C", "C", "1", "0,1:0~3"), ("NGC_1_X", "X", "1", "2:0~3"),
        ("J2", "X", "2", "1~2:0~3,0"),
    ]  # fmt: skip
    found = find_targets([execution()], ALL, spw="0~1")
    assert facts(found) == [("NGC_1", "C", "1", "0~1")], "J2 has none of them"
    with pytest.raises(ConfigError, match="J2 has no data in spw"):
        find_targets([execution()], ["NGC 1", "J2"], spw="0~1")
    with pytest.raises(ConfigError, match="by number"):
        find_targets([execution()], ALL, spw="4~8GHz")


def test_a_band_that_is_named_is_that_of_all_windows() -> None:
    assert facts(find_targets([execution()], ["NGC 1"], band="C")) == [("NGC_1", "C", "1", "")]


def test_windows_between_the_bands_are_one_group() -> None:
    found = find_targets([execution(window_hz=(C1, 100e9, 101e9))], ["NGC 1"])
    assert [(t.label, t.spw) for t in found] == [("NGC_1_C", "0"), ("NGC_1_other", "1,2")]


def test_folders_are_distinct() -> None:
    one = execution(
        fields=("A", "A_C", "a", "a/b", "a b"), windows=({0, 2}, {0}, {0}, {0}, {0}),
        intents=("",) * 5,
    )  # fmt: skip
    labels = [t.label for t in find_targets([one], ALL)]
    assert labels == ["A_C", "A_X", "A_C_2", "a", "a_b", "a_b_2"]


def test_fields_of_one_name_are_a_target_each() -> None:
    one = execution(fields=("cal", "M", "M"), windows=({0}, {0}, {0}))
    assert facts(find_targets([one], ALL)) == [("M_1", "C", "1", ""), ("M_2", "C", "2", "")]


# -- several executions ---------------------------------------------------------------------------


def test_executions_without_the_target_are_left_out_with_a_note() -> None:
    other = execution("b.ms", fields=("cal", "NGC 1"), windows=({0, 1, 2}, {0, 1}))
    found = {t.label: t for t in find_targets([execution(), other], ALL)}
    assert found["NGC_1_C"].vis == ("a.ms", "b.ms") and not found["NGC_1_C"].notes
    assert found["NGC_1_X"].vis == ("a.ms",)
    assert found["NGC_1_X"].notes == ("b.ms has no X data of NGC 1",)
    assert found["J2"].notes == ("b.ms has no data of J2",)
    assert not any(t.problem for t in found.values())


def test_a_target_of_any_execution_is_one_in_all() -> None:
    other = execution("b.ms", intents=(CALIBRATOR, CALIBRATOR, TARGET))
    found = find_targets([other, execution()], ["NGC 1"])
    assert found[0].vis == ("b.ms", "a.ms")
    assert {t.name for t in find_targets([other, execution()], ALL)} == {"NGC 1", "J2"}


def test_ids_that_differ_are_selected_by_name() -> None:
    other = execution("b.ms", fields=("J2", "NGC 1", "cal"), windows=({2}, {0, 1, 2}, {0}))
    found = {t.label: t for t in find_targets([execution(), other], ALL)}
    assert found["J2"].field == "J2" and found["NGC_1_C"].field == "1"


@pytest.mark.parametrize("name", ["042", "A(1)", "A,B", "A~B"])
def test_a_name_that_cannot_be_selected_by(name: str) -> None:
    ids = [execution("a.ms", fields=("cal", name, "x")), execution("b.ms", fields=(name, "y", "x"))]
    (found,) = find_targets(ids, [name], band="C")
    assert "cannot be selected by" in found.problem and "[0, 1]" in found.problem
    assert find_targets(ids[:1], [name], band="C")[0].field == "1", "its id will do"


def test_windows_numbered_differently_are_a_problem_of_that_band_only() -> None:
    other = execution("b.ms", window_hz=(X1, C1, C2), windows=({0, 1, 2}, {0, 1, 2}, {0}))
    found = {t.label: t for t in find_targets([execution(), other], ALL)}
    assert "b.ms 1,2" in found["NGC_1_C"].problem and "band C" in found["NGC_1_C"].problem
    assert not found["J2"].problem and found["J2"].spw == ""


# -- from measurement sets ------------------------------------------------------------------------


def test_what_a_measurement_set_holds(tmp_path: Path) -> None:
    path = make_ms(tmp_path / "a.ms", fields=("cal", "target"), scans=2, autocorrelations=True)
    with open_table(f"{path}::STATE", write=True) as states:
        states.addrows(2)
        states.putcol("OBS_MODE", [CALIBRATOR, TARGET])
    with open_table(path, write=True) as opened:
        opened.putcol("STATE_ID", opened.getcol("FIELD_ID"))
    (source,) = resolve_inputs(str(path))
    found = survey(source)
    assert found.fields == ("cal", "target") and found.window_hz == (pytest.approx(5.007e9),)
    assert found.windows == {0: {0}, 1: {0}}
    assert found.intents == {0: {CALIBRATOR}, 1: {TARGET}}
    assert facts(find_targets([found], ALL)) == [("target", "C", "1", "")]


def test_autocorrelations_are_no_data_of_a_target(tmp_path: Path) -> None:
    path = make_ms(tmp_path / "a.ms", fields=("a", "b"), scans=2, autocorrelations=True)
    with open_table(path, write=True) as opened:
        ant1, ant2 = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        opened.putcol("ANTENNA2", np.where(opened.getcol("FIELD_ID") == 0, ant1, ant2))
    (source,) = resolve_inputs(str(path))
    assert [t.label for t in find_targets([survey(source)], ALL)] == ["b"]


def test_only_measurement_sets() -> None:
    (source,) = resolve_inputs("demo:3c273")
    with pytest.raises(ConfigError, match="demo:3c273 is uvfits: import it first"):
        survey(source)
