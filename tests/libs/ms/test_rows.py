"""Rows in blocks and in solution intervals, held for a stretch of a table at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from casacore.tables import makescacoldesc, maketabdesc, table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.gains.intervals import find_intervals
from libs.gains.solution_interval import SolutionInterval
from libs.ms import rows as ms_rows
from libs.ms.rows import read_block, row_blocks, row_sets, stretches

STRETCH = 7  # rows held at once, so that tables of tens of rows are large
Rows = dict[str, NDArray[Any]]


@contextmanager
def main_table(rows: Rows) -> Iterator[Any]:
    """A main table of these columns, with the subtables that are asked for numbers of rows."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ms_rows, "SLAB_ROWS", STRETCH)
        path = Path(folder) / "main"
        names = [makescacoldesc(n, 0.0 if n == "TIME" else 0) for n in rows]
        opened: Any = table(str(path), maketabdesc(names), nrow=len(rows["TIME"]), ack=False)
        for name, values in rows.items():
            opened.putcol(name, values)
        for name, column in (("DATA_DESCRIPTION", "DATA_DESC_ID"), ("FIELD", "FIELD_ID"),
                             ("OBSERVATION", "OBSERVATION_ID")):  # fmt: skip
            part: Any = table(str(path / name), maketabdesc([makescacoldesc("X", 0)]), ack=False)
            part.addrows(int(rows[column].max()) + 1)
            opened.putkeyword(name, part)
            part.close()
        opened.flush()
        yield opened
        opened.close()


@st.composite
def some_rows(draw: st.DrawFn) -> Rows:
    """Rows of several integrations, scans, fields and windows: sorted, interleaved or in any order.

    An integration has a scan, a field and an observation of its own.
    """
    count = draw(st.integers(1, 40))
    which = np.array(draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)))
    if draw(st.booleans()):
        which = np.sort(which)
    ids = st.integers(0, draw(st.integers(0, 2)))
    kinds = {
        name: np.array(draw(st.lists(ids, min_size=10, max_size=10)))
        for name in ("SCAN_NUMBER", "FIELD_ID", "OBSERVATION_ID")
    }
    windows = draw(st.lists(ids, min_size=count, max_size=count))
    stamps = np.array(draw(st.lists(st.integers(0, 60), min_size=10, max_size=10)), float)
    return {
        "TIME": 5e9 + stamps[which],
        "DATA_DESC_ID": np.array(windows, np.int32),
        **{name: values[which].astype(np.int32) for name, values in kinds.items()},
    }


def in_words(rows: Rows, solint: float | str, combine: bool) -> list[tuple[Any, ...]]:
    """What tells the solution interval of each row from others, row by row."""
    time, scan = rows["TIME"], rows["SCAN_NUMBER"]
    found = []
    for i in range(len(time)):
        start = time.min() if combine else time[scan == scan[i]].min()
        bin_of = {"inf": 0, "int": time[i]}.get(solint)  # type: ignore[arg-type]
        if bin_of is None:
            bin_of = np.floor((time[i] - start + 1e-3) / float(solint))
        found.append((rows["OBSERVATION_ID"][i], rows["FIELD_ID"][i],
                      0 if combine else scan[i], bin_of))  # fmt: skip
    return found


@settings(deadline=None, max_examples=60)
@given(some_rows(), st.sampled_from(["int", "inf", 5.0, 20.0]), st.booleans())
def test_rows_share_an_interval_where_they_share_all_that_tells_intervals_apart(
    rows: Rows, solint: Any, combine: bool
) -> None:
    count = len(rows["TIME"])
    with main_table(rows) as opened:
        found = find_intervals(opened, SolutionInterval.parse(solint), combine)
        number = np.concatenate([found.of_stretch(opened, *part) for part in stretches(count)])
        for low, size in stretches(count):
            some = np.arange(low, low + size, 2)
            np.testing.assert_array_equal(found.of_rows(opened, some), number[some])
            inside = found.within(opened, low, size, (1, 3))
            part = number[low : low + size]
            np.testing.assert_array_equal(inside, (part >= 1) & (part < 3))
    words = in_words(rows, solint, combine)
    of_word: dict[Any, int] = {}
    for word, interval in zip(words, number.tolist(), strict=True):
        assert of_word.setdefault(word, interval) == interval
    assert sorted(of_word.values()) == list(range(len(found))), "one of each, and no others"
    for word, interval in of_word.items():
        stamps = {t for t, other in zip(rows["TIME"], words, strict=True) if other == word}
        members = {(t, s) for t, s, other in zip(rows["TIME"], rows["SCAN_NUMBER"], words,
                   strict=True) if other == word}  # fmt: skip
        assert (found.observation[interval], found.field[interval]) == word[:2]
        mean = np.mean([t for t, _ in members])
        assert found.time_s[interval] == pytest.approx(mean, abs=1e-6, rel=0)
        assert found.interval_s[interval] >= max(stamps) - min(stamps)
    assert (np.diff(found.time_s) >= 0).all()


@settings(deadline=None, max_examples=60)
@given(some_rows(), st.lists(st.booleans(), min_size=40, max_size=40), st.integers(1, 5))
def test_blocks_hold_every_wanted_row_once_in_order(
    rows: Rows, chosen: list[bool], most: int
) -> None:
    ids, count = rows["DATA_DESC_ID"], len(rows["TIME"])
    wanted = np.array(chosen[:count])
    asked: list[int] = []

    def filtered(opened: Any, low: int, size: int) -> NDArray[np.bool_]:
        asked.append(low)
        return wanted[low : low + size]

    expected = []
    for low in range(0, count, STRETCH):
        part = np.arange(low, min(low + STRETCH, count))
        for ddid in np.unique(ids[part][wanted[part]]):
            of = part[(ids[part] == ddid) & wanted[part]]
            limit = most + int(ddid)
            expected += [(int(ddid), of[i : i + limit].tolist()) for i in range(0, len(of), limit)]
    with main_table(rows) as opened:
        limits: list[tuple[int, int]] = []
        blocks = list(row_blocks(
            opened, lambda ddid, of: limits.append((ddid, int(of[0]))) or most + ddid, filtered
        ))  # fmt: skip
        for block in blocks:
            stamps = read_block(opened, "TIME", block, {})
            np.testing.assert_array_equal(stamps, rows["TIME"][block.rows])
        every = [row for _, found in row_sets(opened) for row in found.tolist()]
    assert [(block.data_desc_id, block.rows.tolist()) for block in blocks] == expected
    assert asked == list(range(0, count, STRETCH)), "each stretch once"
    first = {ddid: int(np.flatnonzero((ids == ddid) & wanted)[0]) for ddid, _ in limits}
    assert limits == list(first.items()), "each limit once, at the first rows"
    assert sorted(every) == list(range(count))
