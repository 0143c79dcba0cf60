"""Which targets and bands there are, from what executions hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from casacore.tables import makescacoldesc

from libs.core.errors import ConfigError
from libs.inputs.input_data import resolve_inputs
from libs.ms.tables import open_table
from libs.ms.virtual_windows import WindowFacts
from steps.run_options import run_settings
from steps.selections import selected_inputs
from steps.targets.executions import Execution, survey
from steps.targets.plan import ALL, Target, find_targets
from tests.libs.small_ms import make_ms

C1, C2, X1 = 5e9, 6e9, 9e9
TARGET, CALIBRATOR = "OBSERVE_TARGET#ON_SOURCE", "CALIBRATE_PHASE#ON_SOURCE"


def execution(
    vis: str = "a.ms",
    fields: tuple[str, ...] = ("cal", "NGC 1", "J2"),
    windows: tuple[set[int], ...] = ({0, 1, 2}, {0, 1, 2}, {2}),
    intents: tuple[str, ...] = (CALIBRATOR, TARGET, TARGET),
    window_hz: tuple[float, ...] = (C1, C2, X1),
    directions_deg: tuple[tuple[float, float], ...] = (),
    start_s: float = 1.0,
) -> Execution:
    """Channels are 1 MHz wide; fields of one name are at one place unless directions are given."""
    places = directions_deg or tuple((10.0 * (sum(name.encode()) % 30), 5.0) for name in fields)
    return Execution(
        vis, vis.removesuffix(".ms"), "EVLA", start_s, fields,
        tuple((np.radians(ra), np.radians(dec)) for ra, dec in places),
        tuple(WindowFacts(i, "", hz, 1e6, 4) for i, hz in enumerate(window_hz)),
        {i: frozenset(values) for i, values in enumerate(windows) if values},
        {i: frozenset({mode} - {""}) for i, mode in enumerate(intents)},
    )  # fmt: skip


def facts(targets: list[Target]) -> list[tuple[str, str, str, str]]:
    """Label, band, field and windows of targets of one execution."""
    return [(t.label, t.band, t.parts[0].field, t.parts[0].spw) for t in targets]


def parts(target: Target) -> dict[str, tuple[str, str]]:
    return {part.vis: (part.field, part.spw) for part in target.parts}


def test_targets_by_intent_in_each_of_their_bands() -> None:
    assert facts(find_targets([execution()], ALL)) == [
        ("NGC_1_C", "C", "1", "0,1"), ("NGC_1_X", "X", "1", "2"), ("J2", "X", "2", "2"),
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
        ("J2", "X", "2", "2:0~3"),
    ]  # fmt: skip
    found = find_targets([execution()], ALL, spw="0~1")
    assert facts(found) == [("NGC_1", "C", "1", "0,1")], "J2 has none of them"
    with pytest.raises(ConfigError, match="J2 has no data in spw"):
        find_targets([execution()], ["NGC 1", "J2"], spw="0~1")
    with pytest.raises(ConfigError, match="by number"):
        find_targets([execution()], ALL, spw="4~8GHz")


def test_a_band_that_is_named_is_that_of_all_windows() -> None:
    assert facts(find_targets([execution()], ["NGC 1"], band="C")) == [("NGC_1", "C", "1", "0,1,2")]


def test_windows_between_the_bands_are_one_group() -> None:
    found = find_targets([execution(window_hz=(C1, 100e9, 101e9))], ["NGC 1"])
    assert [(t.label, t.parts[0].spw) for t in found] == [("NGC_1_C", "0"), ("NGC_1_other", "1,2")]


def test_folders_are_distinct() -> None:
    one = execution(
        fields=("A", "A_C", "a", "a/b", "a b"), windows=({0, 2}, {0}, {0}, {0}, {0}),
        intents=("",) * 5,
    )  # fmt: skip
    labels = [t.label for t in find_targets([one], ALL)]
    assert labels == ["A_C", "A_X", "A_C_2", "a_2", "a_b", "a_b_2"]


def mosaic(vis: str, order: tuple[int, ...], start_s: float = 1.0) -> Execution:
    """A calibrator and three pointings 10 arcsec apart, in another order of ids."""
    places = [(3.0, 1.0), (10.0, 0.0), (10.0 + 10 / 3600, 0.0), (10.0 + 20 / 3600, 0.0)]
    names = ["cal", "M", "M", "M"]
    return execution(
        vis, tuple(names[i] for i in order), ({0},) * 4,
        tuple(TARGET if i else CALIBRATOR for i in order),
        directions_deg=tuple(places[i] for i in order), start_s=start_s,
    )  # fmt: skip


def test_pointings_of_a_mosaic_are_a_target_each() -> None:
    assert facts(find_targets([mosaic("a.ms", (0, 1, 2, 3))], ALL)) == [
        ("M_1", "C", "1", "0"), ("M_2", "C", "2", "0"), ("M_3", "C", "3", "0"),
    ]  # fmt: skip


def test_a_field_that_is_there_twice_is_one() -> None:
    twice = execution(fields=("cal", "M", "M"), windows=({0}, {0}, {0}))
    assert facts(find_targets([twice], ALL)) == [("M", "C", "1,2", "0")]


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
    assert found[0].vis == ("a.ms", "b.ms"), "in order of time, then of name"
    assert {t.name for t in find_targets([other, execution()], ALL)} == {"NGC 1", "J2"}


@pytest.mark.parametrize("name", ["J2", "04287+1801", "G34.3 core#1", "042", "A(1)", "A,B", "A~B"])
def test_ids_that_differ_are_each_execution_s_own(name: str) -> None:
    """Whatever the name is: nothing is selected by it."""
    one = execution("a.ms", fields=("cal", name, "x"))
    other = execution("b.ms", fields=(name, "y", "x"), start_s=2.0)
    for order in ([one, other], [other, one]):
        (found,) = find_targets(order, [name], band="C")
        assert parts(found) == {"a.ms": ("1", "0,1,2"), "b.ms": ("0", "0,1,2")}


def test_windows_numbered_differently_are_found_by_frequency() -> None:
    other = execution("b.ms", window_hz=(X1, C1, C2), windows=({0, 1, 2}, {0, 1, 2}, {0}),
                      start_s=2.0)  # fmt: skip
    found = {t.label: t for t in find_targets([execution(), other], ALL, spw="0:1~2,1~2")}
    assert parts(found["NGC_1_C"]) == {"a.ms": ("1", "0:1~2,1"), "b.ms": ("1", "1:1~2,2")}
    assert parts(found["J2"]) == {"a.ms": ("2", "2"), "b.ms": ("2", "0")}
    assert found["J2"].parts[1].copy == "b.J2.spw0.selfcal"


@pytest.mark.parametrize("swapped", [False, True])
def test_pointings_are_matched_by_direction(swapped: bool) -> None:
    """Three pointings are three targets, though the second execution numbers them otherwise."""
    executions = [mosaic("a.ms", (0, 1, 2, 3)), mosaic("b.ms", (2, 3, 0, 1), 2.0)]
    found = find_targets(executions[::-1] if swapped else executions, ALL)
    assert [(t.label, parts(t)) for t in found] == [
        ("M_1", {"a.ms": ("1", "0"), "b.ms": ("3", "0")}),
        ("M_2", {"a.ms": ("2", "0"), "b.ms": ("0", "0")}),
        ("M_3", {"a.ms": ("3", "0"), "b.ms": ("1", "0")}),
    ]


def test_windows_that_could_be_the_same_stop_the_run() -> None:
    other = execution("b.ms", window_hz=(C1, C1 + 1e5, X1), start_s=2.0)
    with pytest.raises(ConfigError, match=r"could be the same.*a.ms: 0 .*b.ms: 0 .*, 1 "):
        find_targets([execution(), other], ["NGC 1"])


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
    assert found.fields == ("cal", "target") and found.windows[0].centre_hz == pytest.approx(
        5.007e9
    )
    assert found.used == {0: {0}, 1: {0}}
    assert found.intents == {0: {CALIBRATOR}, 1: {TARGET}}
    assert facts(find_targets([found], ALL)) == [("target", "C", "1", "0")]


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


def test_a_body_that_moves_is_refused_with_several_executions(tmp_path: Path) -> None:
    """Its images of different days are of different places; each execution is one by itself."""
    sets = [make_ms(tmp_path / f"{name}.ms", fields=("Ceres", "star"), scans=2) for name in "ab"]
    for ms in sets:
        with open_table(f"{ms}::FIELD", write=True) as opened:
            opened.addcols(makescacoldesc("EPHEMERIS_ID", 0))
            opened.putcol("EPHEMERIS_ID", np.array([0, -1], np.int32))
    executions = [survey(source) for source in resolve_inputs([str(ms) for ms in sets])]
    moving, star = find_targets(executions, ALL)
    assert "Ceres moves on the sky" in moving.problem and not star.problem
    (alone, _) = find_targets(executions[:1], ALL)
    assert not alone.problem
    with pytest.raises(ConfigError, match="Ceres moves on the sky"):
        selected_inputs(run_settings({"vis": [str(ms) for ms in sets], "field": "Ceres"}))
    star_only = run_settings({"vis": [str(ms) for ms in sets], "field": "star"})
    assert len(selected_inputs(star_only)) == 2


def pointings(
    *east_arcsec: float, hz: tuple[float, ...] = (C1, X1), dish_m: float = 25.0
) -> Execution:
    """A mosaic along right ascension on the equator, every pointing in every window."""
    every = set(range(len(hz)))
    found = execution(
        fields=("map",) * len(east_arcsec), windows=(every,) * len(east_arcsec),
        intents=(TARGET,) * len(east_arcsec), window_hz=hz,
        directions_deg=tuple((10.0 + east / 3600, 0.0) for east in east_arcsec),
    )  # fmt: skip
    return replace(found, dish_diameter_m=dish_m)


def test_pointings_within_a_primary_beam_are_one_target_in_each_band() -> None:
    """500 and 290 arcsec across at 5 and 9 GHz: 400 arcsec apart they overlap in one band only."""
    found = find_targets([pointings(0.0, 400.0)], ALL, mosaics=True)
    assert [(t.band, t.parts[0].field) for t in found] == [("X", "0"), ("C", "0,1"), ("X", "1")]
    assert len({t.label for t in found}) == 3
    apart = find_targets([pointings(0.0, 400.0)], ALL)
    assert [(t.band, t.parts[0].field) for t in apart] == [
        ("C", "0"), ("X", "0"), ("C", "1"), ("X", "1")
    ]  # fmt: skip


def test_a_chain_of_pointings_is_one_mosaic_whatever_the_ids_are() -> None:
    one = pointings(0.0, 400.0, 800.0, hz=(C1,))
    two = replace(pointings(800.0, 0.0, 400.0, hz=(C1,)), vis="b.ms", name="b", start_s=2.0)
    (found,) = find_targets([two, one], ALL, mosaics=True)
    assert found.label == "map"
    assert parts(found) == {"a.ms": ("0,1,2", "0"), "b.ms": ("1,2,0", "0")}


def test_pointings_without_a_known_beam_are_targets_of_their_own() -> None:
    assert len(find_targets([pointings(0.0, 100.0, hz=(C1,), dish_m=0.0)], ALL, mosaics=True)) == 2
