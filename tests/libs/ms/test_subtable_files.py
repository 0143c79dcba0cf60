"""Subtables of gain tables, which are read once and copied for as long as nothing changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from casacore.tables import maketabdesc, table

from benchmarks.synthetic_ms import make_ms
from libs.ms.kept_subtables import kept_subtables
from libs.ms.subtable_files import add_subtables
from libs.ms.subtables import Subtables, put_antenna_names
from libs.ms.tables import open_table


def _age(ms: Path) -> None:
    """Make files look older than the coarsest clock of a file system."""
    for file in ms.rglob("*"):
        os.utime(file, (1e9, 1e9))


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    made = make_ms(tmp_path / "a.ms", integrations=2).path
    _age(made)
    return made


def _with_subtables(ms: Path, path: Path) -> Subtables:
    opened: Any = table(str(path), maketabdesc([]), nrow=0, readonly=False, ack=False)
    add_subtables(ms, path, opened)
    opened.close()
    return Subtables(path)


def test_later_tables_get_the_same_subtables_as_the_first(ms: Path, tmp_path: Path) -> None:
    first, second = (_with_subtables(ms, tmp_path / name) for name in ("1.G", "2.G"))
    for found in (first, second):
        assert found.antenna_names == Subtables(ms).antenna_names
        assert [each.name for each in found.fields] == [each.name for each in Subtables(ms).fields]
        assert found.telescope == Subtables(ms).telescope
        assert found.windows == ()
    with open_table(tmp_path / "2.G") as opened:
        assert str(tmp_path / "2.G" / "FIELD") in opened.getkeyword("FIELD")


def test_names_changed_in_between_are_those_of_the_next_table(ms: Path, tmp_path: Path) -> None:
    _with_subtables(ms, tmp_path / "1.G")
    names = [f"new{i}" for i in range(len(Subtables(ms).antennas))]
    assert kept_subtables(ms).antenna_names != tuple(names)
    put_antenna_names(ms, names)
    assert _with_subtables(ms, tmp_path / "2.G").antenna_names == tuple(names)
    assert kept_subtables(ms).antenna_names == tuple(names)


def test_a_subtable_of_references_is_made_complete(ms: Path, tmp_path: Path) -> None:
    names = Subtables(ms).antenna_names
    (ms / "ANTENNA").rename(tmp_path / "antennas")
    with open_table(tmp_path / "antennas") as whole:
        whole.selectrows(list(range(whole.nrows()))).copy(
            str(ms / "ANTENNA")
        ).close()  # refers to the rows of the other table
    _with_subtables(ms, tmp_path / "1.G")
    for file in (tmp_path / "antennas").iterdir():
        file.unlink()
    assert Subtables(tmp_path / "1.G").antenna_names == names
