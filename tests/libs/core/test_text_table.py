"""Tables for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.text_table import aligned

ROWS = [("name", "n"), ("a", "10"), ("long name", "")]


def test_to_the_left() -> None:
    assert aligned(ROWS) == ["name       n", "a          10", "long name"]


def test_numbers_to_the_right_and_a_rule() -> None:
    expected = ["name        n", "---------  --", "a          10", "long name"]
    assert aligned(ROWS, left=(0,), ruled=True) == expected


def test_no_rows_and_uneven_ones() -> None:
    assert aligned([], ruled=True) == []
    with pytest.raises(ValueError, match="zip"):
        aligned([("a", "b"), ("c",)])


@given(st.lists(st.tuples(*[st.text("ab", min_size=1, max_size=5)] * 3), min_size=1))
def test_cells_stand_beneath_each_other(rows: list[tuple[str, ...]]) -> None:
    lines = aligned(rows, left=(0,))
    assert [tuple(line.split()) for line in lines] == rows
    assert len({len(line) for line in lines}) == 1, "the last column ends in one place"
