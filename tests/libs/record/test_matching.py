"""A record goes onto any import of its observation, whatever the ids there; else all is told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import ConfigError
from libs.record.localise import spwmap_by_id
from libs.record.matching import SetFacts, match_record
from libs.record.schema import AntennaEntry, FieldEntry, WindowEntry
from tests.libs.record.records import ANTENNAS, FIELDS, WINDOWS, execution, record, set_of

EXTRA = WindowEntry("new", "X#BB_0#SW-02", 215e9, 0.5e9, 4)


@settings(deadline=None, max_examples=60)
@given(
    antennas=st.permutations(ANTENNAS),
    windows=st.permutations((*WINDOWS, EXTRA)),
    fields=st.permutations((*FIELDS, FieldEntry("other", 68.0, 18.0))),
    swap=st.booleans(),
)
def test_permuted_ids_change_nothing(
    antennas: list[AntennaEntry], windows: list[WindowEntry], fields: list[FieldEntry], swap: bool
) -> None:
    one, two = execution(), execution("two", 6e9)
    there = [
        set_of(
            replace(own, antennas=tuple(antennas), windows=tuple(windows), fields=tuple(fields)),
            f"/data/{own.name}.ms",
        )
        for own in (one, two)
    ]  # fmt: skip
    placements = match_record(record(one, two), there[::-1] if swap else there)
    assert {place.execution.name: place.facts.path.stem for place in placements} == {
        "one": "one", "two": "two",
    }  # fmt: skip
    for place in placements:
        for name, number in place.antenna.items():
            assert antennas[number].name == name
        assert {label: windows[i].name for label, i in place.window.items()} == {
            window.label: window.name for window in WINDOWS[:2]
        }
        (target,) = place.targets
        assert [fields[number] for (number,) in target.fields] == [FIELDS[1]]
        (entry,) = target.applied
        spwmap = spwmap_by_id(entry.spwmap, entry.table_windows, place.window, len(windows))
        for label, source in entry.spwmap.items():
            assert entry.table_windows[spwmap[place.window[label]]] == source


def test_windows_without_names_go_by_frequency() -> None:
    bare = tuple(replace(window, name="") for window in WINDOWS)
    other = tuple(replace(window, label=f"w{i}") for i, window in enumerate(bare[::-1]))
    (place,) = match_record(
        record(replace(execution(), windows=bare)), [set_of(replace(execution(), windows=other))]
    )
    assert place.window == {WINDOWS[0].label: 2, WINDOWS[1].label: 1}


def test_simultaneous_arrays_are_told_by_their_antennas() -> None:
    small = tuple(AntennaEntry(f"CM{i}", f"N{i}", (0.0, 9.0 * i, 0.0)) for i in range(4))
    one, two = execution(), replace(execution("two"), antennas=small)
    places = match_record(record(one, two), [set_of(two, "/d/b.ms"), set_of(one, "/d/a.ms")])
    assert [place.execution.name for place in places] == ["two", "one"]


def refused(facts: list[SetFacts], *said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        match_record(record(execution(), execution("two", 6e9)), facts)
    for text in said:
        assert text in caught.value.cause


def test_everything_that_is_wrong_is_listed() -> None:
    moved = (replace(ANTENNAS[0], position_m=(3.0, 0.0, 5.0)), *ANTENNAS[1:3])
    away = replace(FIELDS[1], dec_deg=FIELDS[1].dec_deg + 2 / 3600)
    bad = replace(execution(), antennas=moved, windows=WINDOWS[1:], fields=(FIELDS[0], away))
    refused(
        [set_of(bad)], "antennas A3 are missing", "antennas A0 are at other places",
        f"{WINDOWS[0].label} (217.000000 GHz) are missing",
        "'04287+1801' of 04287+1801 has another",
    )  # fmt: skip


def test_a_field_without_data_is_missing() -> None:
    refused([replace(set_of(execution()), fields_used=frozenset({0}))], "has no data")


def test_a_field_within_an_arcsecond_is_the_same() -> None:
    near = replace(FIELDS[1], ra_deg=FIELDS[1].ra_deg + 0.8 / 3600 / math.cos(math.radians(18)))
    assert match_record(record(), [set_of(replace(execution(), fields=(near, FIELDS[0])))])


def test_pointings_of_one_name_go_by_direction() -> None:
    pointings = tuple(FieldEntry("map", 66.0 + 0.003 * i, 17.0) for i in range(3))
    own = replace(execution(), fields=(FIELDS[0], *pointings))
    made = record(own)
    target = replace(made.targets[0], fields={own.name: pointings})
    there = replace(own, fields=(pointings[2], FIELDS[0], pointings[0], pointings[1]))
    (place,) = match_record(replace(made, targets=(target,)), [set_of(there)])
    assert place.targets[0].fields == ((2,), (3,), (0,))
    twice = replace(own, fields=(*pointings, pointings[0]))
    (place,) = match_record(replace(made, targets=(target,)), [set_of(twice)])
    assert place.targets[0].fields == ((0, 3), (1,), (2,)), "a field that is repeated is one"


def test_other_data_are_refused() -> None:
    refused([set_of(execution("late", 9e9))], "at another time than the executions", "one, two")
    refused(
        [set_of(execution()), set_of(execution(), "/data/y.ms")], "hold the same execution, one"
    )
    refused([set_of(execution()), set_of(execution())], "is named twice")
    long = replace(execution(), end_mjd_s=7e9)
    refused([set_of(long)], "holds several executions of the record, one, two")


def test_antennas_without_solutions_are_told() -> None:
    more = (*ANTENNAS, AntennaEntry("A9", "P9", (1.0, 1.0, 1.0)))
    (place,) = match_record(record(), [set_of(replace(execution(), antennas=more))])
    assert place.notes == ("no solutions for A9: their data are flagged",)


def test_windows_that_are_not_calibrated_take_any() -> None:
    assert spwmap_by_id({"b": "a"}, ("c", "a"), {"b": 2}, 4) == (1, 1, 1, 1)
    assert spwmap_by_id({"a": "a", "c": "c"}, ("c", "a"), {"a": 0, "c": 3}, 4) == (1, 1, 1, 0)
    assert np.array_equal(spwmap_by_id({}, (), {}, 2), (0, 0))
