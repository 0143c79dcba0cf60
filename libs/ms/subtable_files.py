"""Subtables given to gain tables: made once, then copied as files.

A run writes many tables for one measurement set, and most of the time of writing a small one went
into its subtables, which are the same in each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from libs.ms.tables import column_names, open_table
from libs.ms.unchanged import ValueKeeper, columns_state, subtables_state

__all__ = ["add_subtables"]

_COPIED = ("OBSERVATION", "ANTENNA", "FIELD")
_EMPTY = ("SPECTRAL_WINDOW", "HISTORY")
_Files = dict[str, bytes]  # contents by path below the table

_KEEPER: ValueKeeper[_Files] = ValueKeeper()


def add_subtables(ms: str | Path, target: Path, opened: Any) -> None:
    """Give a new gain table the observations, antennas and fields of its measurement set.

    SPECTRAL_WINDOW and HISTORY are made without rows.

    Parameters
    ----------
    ms : path
        The measurement set; what it lacks is left out.
    target : Path
        Gain table that has no subtables yet.
    opened : casacore table
        The same, open for writing.
    """
    path = Path(ms)
    files = _KEEPER.get(path, lambda: subtables_state(path, _COPIED), lambda: _made(path))
    names = list(dict.fromkeys(name.split("/")[0] for name in files))
    for name in names:
        (target / name).mkdir()
    for name, contents in files.items():
        (target / name).write_bytes(contents)
    for name in names:
        opened.putkeyword(name, f"Table: {target / name}")


def _made(ms: Path) -> _Files:
    """Return the files of complete subtables."""
    from casacore.tables import default_ms_subtable

    with open_table(ms) as opened:
        have = set(opened.keywordnames())
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in _COPIED:
            if name in have:
                files |= _contents(_complete(ms, name, Path(folder)), name)
        for name in _EMPTY:
            default_ms_subtable(name, f"{folder}/{name}").close()
            files |= _contents(Path(folder) / name, name)
    return files


def _complete(ms: Path, name: str, folder: Path) -> Path:
    """Return a table whose own files hold a subtable; casacore makes one where they do not."""
    place = ms / name
    if place.is_dir() and columns_state(place, column_names(place)) is not None:
        return place
    with open_table(f"{ms}::{name}") as origin:
        origin.copy(str(folder / name), deep=True, valuecopy=True).close()
    return folder / name


def _contents(table: Path, name: str) -> _Files:
    """Return the contents of a table's files by their paths below a gain table."""
    return {f"{name}/{each.name}": each.read_bytes() for each in table.iterdir() if each.is_file()}
