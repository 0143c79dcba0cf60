"""Windows matched across executions, and selections translated to each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import ConfigError
from libs.ms.virtual_windows import (
    ExecutionWindows,
    VirtualWindow,
    WindowFacts,
    channel_numbers,
    find_virtual_windows,
    name_ending,
    select_windows,
    window_text,
)

WIDE = [(217.0e9, 8), (219.0e9, 8), (232.5e9, 8)]


def window(number: int, centre_hz: float, channels: int = 8, name: str = "", sign: int = 1,
           width_hz: float = 1.875e9) -> WindowFacts:  # fmt: skip
    step = sign * width_hz / channels
    return WindowFacts(number, name, centre_hz - 0.5 * (channels - 1) * step, step, channels)


def execution(name: str, start_s: float, *windows: WindowFacts) -> ExecutionWindows:
    return ExecutionWindows(name, start_s, windows)


def partition(found: tuple[VirtualWindow, ...]) -> set[frozenset[tuple[str, str, float]]]:
    """Which windows are one, without their numbers."""
    return {
        frozenset((key, own.name, own.first_hz) for key, own in each.members.items())
        for each in found
    }


def test_windows_are_matched_by_the_ending_of_their_names() -> None:
    """The second execution has a window more, the first, and Doppler setting moved the others."""
    first = [window(i, hz, name=f"X1#ALMA_RB_06#BB_{i}#SW-01#FULL_RES")
             for i, (hz, _) in enumerate(WIDE)]  # fmt: skip
    second = [window(0, 215e9, name="X2#ALMA_RB_06#BB_1#SW-02#FULL_RES", width_hz=0.5e9)]
    second += [window(i + 1, hz + 30e6, name=f"X2#ALMA_RB_06#BB_{i}#SW-01#FULL_RES")
               for i, (hz, _) in enumerate(WIDE)]  # fmt: skip
    found = find_virtual_windows([execution("B", 9.0, *second), execution("A", 1.0, *first)])
    ids = {each.number: {k: w.number for k, w in each.members.items()} for each in found}
    assert ids == {0: {"A": 0, "B": 1}, 1: {"A": 1, "B": 2}, 2: {"A": 2, "B": 3}, 3: {"B": 0}}


def test_names_that_contradict_the_frequencies_match_nothing() -> None:
    one = execution("A", 1.0, window(0, 5.0e9, name="spw0", width_hz=64e6))
    two = execution("B", 2.0, window(0, 9.0e9, name="spw0", width_hz=64e6))
    assert len(find_virtual_windows([one, two])) == 2


def test_windows_without_names_are_matched_by_frequency() -> None:
    half_hz = 0.5 * 1.875e9 / 8
    for offset, together in ((0.99 * half_hz, True), (1.01 * half_hz, False)):
        one = execution("A", 1.0, window(0, 217e9))
        two = execution("B", 2.0, window(0, 217e9 + offset))
        assert (len(find_virtual_windows([one, two])) == 1) is together
    wider = execution("B", 2.0, window(0, 217e9, width_hz=1.02 * 1.875e9))
    assert len(find_virtual_windows([execution("A", 1.0, window(0, 217e9)), wider])) == 2


def test_two_windows_that_could_be_one_are_listed() -> None:
    one = execution("A", 1.0, window(0, 217e9))
    two = execution("B", 2.0, window(3, 217e9), window(5, 217e9 + 1e6))
    with pytest.raises(ConfigError, match=r"A: 0 \(217.000000 GHz.*B: 3 .*5 "):
        find_virtual_windows([one, two])


def test_equal_frequencies_are_told_apart_by_name() -> None:
    pair = ("BB_1#SW-01", "BB_2#SW-01")
    one = execution("A", 1.0, *(window(i, 217e9, name=f"X1#R#{n}") for i, n in enumerate(pair)))
    two = execution("B", 2.0, *(window(1 - i, 217e9, name=f"X2#R#{n}")
                                for i, n in enumerate(pair)))  # fmt: skip
    found = find_virtual_windows([one, two])
    assert [{k: w.number for k, w in each.members.items()} for each in found] == [
        {"A": 0, "B": 1}, {"A": 1, "B": 0},
    ]  # fmt: skip


@st.composite
def projects(draw: st.DrawFn) -> list[ExecutionWindows]:
    """Executions that have some of the windows of a project, moved and numbered at will."""
    centres = draw(st.lists(st.integers(200, 240), min_size=1, max_size=5, unique=True))
    named = draw(st.booleans())
    made = []
    for place in range(draw(st.integers(1, 4))):
        kept = draw(st.permutations([c for c in centres if draw(st.booleans())] or centres[:1]))
        moved = draw(st.floats(-3e7, 3e7)) if named else draw(st.floats(-5e7, 5e7))
        windows = tuple(
            window(number, c * 1e9 + moved, name=f"X{place}#RB#BB_{c}" if named else "")
            for number, c in enumerate(kept)
        )
        made.append(ExecutionWindows(f"E{place}", float(place), windows))
    return made


@given(projects(), st.data())
@settings(max_examples=60, deadline=None)
def test_no_order_changes_what_belongs_together(
    made: list[ExecutionWindows], data: st.DataObject
) -> None:
    found = find_virtual_windows(made)
    assert sum(len(each.members) for each in found) == sum(len(each.windows) for each in made)
    again = []
    for each in data.draw(st.permutations(made)):
        order = data.draw(st.permutations(each.windows))
        again.append(
            replace(each, windows=tuple(replace(w, number=n) for n, w in enumerate(order)))
        )
    assert partition(find_virtual_windows(again)) == partition(found)
    assert find_virtual_windows(data.draw(st.permutations(made))) == found, "same ids, same numbers"


@given(projects())
@settings(max_examples=40, deadline=None)
def test_names_find_the_windows_of_the_project(made: list[ExecutionWindows]) -> None:
    """Windows a gigahertz apart that move by 30 MHz at most are never confused."""
    for each in find_virtual_windows(made):
        centres = {round(own.centre_hz / 1e9) for own in each.members.values()}
        assert len(centres) == 1
        assert each.number >= each.reference.number


def test_a_selection_is_translated_to_the_ids_of_each_execution() -> None:
    names = [f"#ALMA_RB_06#BB_{i}" for i in range(2)]
    first = execution("A", 1.0, *(window(i, 217e9 + i * 2e9, name=f"X{n}")
                                  for i, n in enumerate(names)))  # fmt: skip
    second = execution("B", 2.0, window(0, 215e9, width_hz=0.5e9),
                       *(window(i + 1, 217e9 + i * 2e9, name=f"Y{n}")
                         for i, n in enumerate(names)))  # fmt: skip
    virtual = find_virtual_windows([second, first])
    assert select_windows("1:2~5", virtual) == {1: {"A": "1:2~5", "B": "2:2~5"}}
    assert select_windows("0", virtual) == {0: {"A": "0", "B": "1"}}
    assert select_windows("", virtual)[2] == {"B": "0"}
    with pytest.raises(ConfigError, match="window 7"):
        select_windows("7", virtual)
    with pytest.raises(ConfigError, match="channels 2~9 of a window of 8"):
        select_windows("1:2~9", virtual)


def test_channels_of_another_grid_are_those_at_the_same_place() -> None:
    """Finer channels, and channels that run downwards in frequency."""
    virtual = find_virtual_windows([
        execution("A", 1.0, window(0, 217e9, 8)),
        execution("B", 2.0, window(0, 217e9, 32, sign=-1)),
    ])  # fmt: skip
    chosen = select_windows("0:1~2", virtual)[0]
    assert chosen == {"A": "0:1~2", "B": "0:20~27"}


@given(st.sets(st.integers(0, 63), min_size=1))
def test_text_of_channels_names_them_again(channels: set[int]) -> None:
    text = window_text(channels)
    np.testing.assert_array_equal(channel_numbers(text, 64, text), sorted(channels))


@pytest.mark.parametrize("text", ["a", "5~2", "0~64", "3^0", ""])
def test_channels_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        channel_numbers(text, 64, f"0:{text}")


def test_endings() -> None:
    assert name_ending("X1#ALMA_RB_06#BB_1#SW-01#FULL_RES") == "ALMA_RB_06#BB_1#SW-01#FULL_RES"
    assert name_ending("spw0") == name_ending("a#b") == ""
