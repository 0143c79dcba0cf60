"""Values read from tables, kept until the files they came from change."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from libs.ms.tables import open_table

__all__ = ["FilesState", "ValueKeeper", "columns_state", "subtables_state"]

FilesState = tuple[tuple[str, int, int, int], ...]
Value = TypeVar("Value")

# Some file systems note times in steps of up to 2 s: a file changed within the last two seconds
# may change again and show the same time.
_COARSEST_CLOCK_NS = 2_000_000_000
_MOST_KEPT = 64


def _state(files: Sequence[Path]) -> FilesState:
    found = []
    for file in sorted(files):
        stat = file.stat()
        found.append((str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def columns_state(path: Path, names: Sequence[str]) -> FilesState | None:
    """Return the identity, size and time of the files that hold columns of a table.

    Parameters
    ----------
    path : Path
        Folder of the table.
    names : sequence of str
        Columns; those that the table lacks are ignored.

    Returns
    -------
    tuple or None
        State; None where no file of this folder holds the columns, because the table refers to
        another, whose changes are not seen here.
    """
    with open_table(path) as opened:
        managers = opened.getdminfo().values()
        present = set(names) & set(opened.colnames())
    held: set[str] = set()
    files = [path / "table.dat"]
    entries = list(path.iterdir())
    for manager in managers:
        columns = present & set(manager["COLUMNS"])
        if columns:
            pattern = re.compile(rf"table\.f{manager['SEQNR']}(\D.*)?")
            own = [entry for entry in entries if pattern.fullmatch(entry.name)]
            held |= columns if own else set()
            files += own
    return _state(files) if held == present else None


def subtables_state(path: Path, names: Sequence[str]) -> FilesState:
    """Return the identity, size and time of the files of a measurement set's subtables."""
    return _state(
        [
            file
            for name in names
            if (path / name).is_dir()
            for file in (path / name).iterdir()
            if file.name != "table.lock"  # changes with each reader
        ]
    )


class ValueKeeper(Generic[Value]):
    """Keeper of one value per table, until a file from which it was read changes.

    A change is seen by the inode, size or time of a file. Where a file changed so recently that
    another change could show the same time, the value is not kept. Values written through a
    table that is still open may not be in its files yet, and are seen once it is closed.
    """

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[Hashable, Value]] = {}

    def get(
        self, path: Path, state: Callable[[], FilesState | None], read: Callable[[], Value]
    ) -> Value:
        """Return the value of a table, read if none is kept for its present files.

        Parameters
        ----------
        path : Path
            Folder of the table.
        state : callable
            Function ``() -> FilesState`` of the files on which the value depends; None: it cannot
            be kept.
        read : callable
            Function ``() -> value``.
        """
        key = path.absolute()
        before = state()
        kept = self._kept.get(key)
        if before is not None and kept is not None and kept[0] == before:
            return kept[1]
        self._kept.pop(key, None)
        latest_ns = time.time_ns() - _COARSEST_CLOCK_NS
        value = read()
        if before is None or any(changed > latest_ns for *_, changed in before):
            return value
        if state() == before:
            while len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[key] = (before, value)
        return value
