"""What is read of a measurement set is read again when its files changed, and only then."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from libs.ms import summary
from libs.ms.columns import ensure_data_column
from libs.ms.subtables import put_antenna_names
from libs.ms.summary import describe_ms, summarise
from libs.ms.tables import open_table
from libs.ms.unchanged import columns_state
from tests.libs.small_ms import make_ms


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    path = make_ms(tmp_path / "a.ms")
    settle(path)
    return path


def settle(ms: Path) -> None:
    """Make files that were changed just now look as if that was a minute ago."""
    now = time.time_ns()
    for file in ms.rglob("*"):
        if file.is_file() and file.stat().st_mtime_ns > now - 5e9:
            changed = file.stat().st_mtime_ns - 60 * 10**9
            os.utime(file, ns=(changed, changed))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is read of rows: "ids" for each pass over ids, "flags" for one over the flags."""
    found: list[str] = []
    chunks, distinct = summary.chunks, summary.distinct

    def counted_chunks(*args, **kwargs):  # type: ignore[no-untyped-def]
        found.append("flags")
        return chunks(*args, **kwargs)

    def counted_distinct(opened, name):  # type: ignore[no-untyped-def]
        if name == "TIME":
            found.append("ids")
        return distinct(opened, name)

    monkeypatch.setattr(summary, "chunks", counted_chunks)
    monkeypatch.setattr(summary, "distinct", counted_distinct)
    yield found


def flag_antenna(ms: Path, antenna: int) -> None:
    with open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[(opened.getcol("ANTENNA1") == antenna) | (opened.getcol("ANTENNA2") == antenna)] = True
        opened.putcol("FLAG", flag)


def test_many_summaries_are_one_pass(ms: Path, passes: list[str]) -> None:
    first = summarise(ms)
    assert passes == ["ids", "flags"]
    for _ in range(16):
        again = summarise(str(ms))
        assert describe_ms(ms).antenna == first.antenna
        assert (again.longest_baseline_m, again.rows) == (first.longest_baseline_m, first.rows)
    assert passes == ["ids", "flags"]


def test_a_description_reads_no_flags(ms: Path, passes: list[str]) -> None:
    assert describe_ms(ms).rows == 60
    assert passes == ["ids"]


def test_flags_changed_in_place_are_seen(ms: Path, passes: list[str]) -> None:
    assert summarise(ms).antennas_used == (0, 1, 2, 3, 4)
    flag_antenna(ms, 3)
    found = summarise(ms)
    assert found.antennas_used == (0, 1, 2, 4)
    assert found.flagged_fraction == pytest.approx(0.4)
    assert passes.count("flags") == 2


def test_flags_changed_twice_within_the_clock_are_seen(ms: Path) -> None:
    """The second change leaves size and time of the file as the first did."""
    flag_antenna(ms, 3)
    files = [f for f in ms.iterdir() if f.is_file() and f.name != "table.lock"]
    stamps = {file: file.stat().st_mtime_ns for file in files}
    assert summarise(ms).antennas_used == (0, 1, 2, 4)
    flag_antenna(ms, 1)
    for file, stamp in stamps.items():
        os.utime(file, ns=(stamp, stamp))
    assert summarise(ms).antennas_used == (0, 2, 4)


def test_a_data_column_written_needs_no_pass(ms: Path, passes: list[str]) -> None:
    ensure_data_column(ms, "MODEL_DATA")
    settle(ms)
    summarise(ms)
    with open_table(ms, write=True) as opened:
        opened.putcol("MODEL_DATA", np.ones_like(opened.getcol("MODEL_DATA")))
    passes.clear()
    found = summarise(ms)
    assert "MODEL_DATA" in found.columns
    assert passes == []


def test_weights_ids_and_subtables_are_seen(ms: Path) -> None:
    assert summarise(ms).weights_positive
    with open_table(ms, write=True) as opened:
        opened.putcol("WEIGHT", np.full_like(opened.getcol("WEIGHT"), -1))
        opened.putcol("SCAN_NUMBER", np.arange(60, dtype=np.int32))
    put_antenna_names(ms, ["P", "Q", "R", "S", "T"])
    found = summarise(ms)
    assert not found.weights_positive
    assert found.scans == 60
    assert found.antenna == ("P", "Q", "R", "S", "T")


def test_another_set_in_its_place_is_seen(ms: Path, tmp_path: Path) -> None:
    summarise(ms)
    ms.rename(tmp_path / "old.ms")
    make_ms(ms, antennas=4)
    settle(ms)
    assert summarise(ms).antennas_used == (0, 1, 2, 3)
    assert summarise(tmp_path / "old.ms").antennas_used == (0, 1, 2, 3, 4)


def test_a_selection_that_refers_to_another_table_is_not_kept(ms: Path, tmp_path: Path) -> None:
    with open_table(ms) as opened:
        part = opened.query("ANTENNA1 == 0")
        part.copy(str(tmp_path / "part.ms"), deep=False).close()
        part.close()
    assert columns_state(ms, ("FLAG",)) is not None
    assert columns_state(tmp_path / "part.ms", ("FLAG",)) is None


def test_kept_arrays_cannot_be_changed_by_a_caller(ms: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        describe_ms(ms).position_m[0] = 0
