"""A view of a measurement set that tools may open without touching the original.

Opening a casacore table can write into it (lock files, or whatever a tool decides to update),
fails in a read-only folder with some tools, and follows keywords to subtables that no longer
exist. The view has symbolic links to the files of the main table, its own lock file, and copies
of the subtables; subtables that are missing or broken are replaced by empty ones.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.core.errors import InputError
from libs.core.files import tree_bytes
from libs.ms.subtables import add_empty_subtable
from libs.ms.tables import open_table

__all__ = ["MsView", "fill_observation", "own_every_file", "put_descriptions", "read_view"]

log = logging.getLogger(__name__)

# Subtables without which the visibilities have no meaning; all others may be replaced.
ESSENTIAL = (
    "ANTENNA", "DATA_DESCRIPTION", "FIELD", "POLARIZATION", "SPECTRAL_WINDOW",
)  # fmt: skip
# Copied whatever their size, because rows of the data or of other subtables refer to them.
KEPT = (*ESSENTIAL, "FEED", "OBSERVATION", "PROCESSOR", "SOURCE", "STATE")
# Its rows are not copied: a working copy shares the files (`libs.ms.hard_links`).
_LINKED_LATER = "POINTING"
# SYSPOWER of long observations takes gigabytes; the others stay far below this.
COPY_BELOW_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class MsView:
    """A view made by :func:`read_view`.

    Attributes
    ----------
    path : Path
        Folder to open instead of the original.
    replaced : tuple of str
        Names of the subtables that are empty stand-ins.
    notes : tuple of str
        Repairs made in the view, for the record.
    """

    path: Path
    replaced: tuple[str, ...]
    notes: tuple[str, ...]


def _mirror(original: Path, view: Path) -> None:
    """Link the files of the main table; its lock file, which may change, is copied.

    The lock file also holds the number of rows, which may be out of date in ``table.dat``.
    """
    view.mkdir(parents=True)
    for entry in sorted(original.iterdir()):
        # dot files come from file managers and archivers and are never part of a table
        if entry.name.startswith(".") or entry.is_dir():
            continue
        if entry.name == "table.lock":
            shutil.copyfile(entry, view / entry.name)
        else:
            (view / entry.name).symlink_to(entry.resolve())


def _copy_subtables(original: Path, view: Path) -> list[str]:
    """Copy the subtables; large ones that calibration does not need lose their rows.

    Links would not do here: a task that copies a subtable copies its links, and its next write
    then goes to the original.
    """
    notes = []
    for entry in sorted(original.iterdir()):
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        place, size = view / entry.name, tree_bytes(entry)
        if entry.name == _LINKED_LATER and _copy_empty(entry, place):
            continue
        if entry.name in KEPT or size <= COPY_BELOW_BYTES:
            _copy_tree(entry, place, shutil.copyfile)
        elif (entry / "table.dat").exists():
            with _linked(entry, view / f"{entry.name}.linked") as linked:
                _copy_structure(linked, place)
            notes.append(f"subtable {entry.name} ({size / 1e6:.0f} MB) was left out")
        else:  # parts of a multi-measurement-set, which the main table refers to
            _copy_tree(entry, place, _link)
    return notes


def _copy_empty(entry: Path, place: Path) -> bool:
    """Copy a subtable without its rows; return False where it is broken."""
    if not (entry / "table.dat").exists():
        return False
    with _linked(entry, place.with_name(f"{entry.name}.linked")) as linked:
        if not _is_sound(linked):
            return False
        _copy_structure(linked, place)
    return True


def _copy_tree(origin: Path, target: Path, copy: Callable[[Path, Path], Any]) -> None:
    """Copy a folder without its permissions: the input may be read-only, the view must not be."""
    target.mkdir()
    for entry in sorted(origin.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            _copy_tree(entry, target / entry.name, copy)
        else:
            copy(entry, target / entry.name)


def _link(origin: Path, target: Path) -> None:
    if origin.name == "table.lock":
        shutil.copyfile(origin, target)
    else:
        target.symlink_to(origin.resolve())


@contextmanager
def _linked(table_path: Path, place: Path) -> Iterator[Path]:
    _copy_tree(table_path, place, _link)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _copy_structure(origin: Path, target: Path) -> None:
    with open_table(origin) as opened:
        opened.copy(str(target), deep=True, valuecopy=True, copynorows=True).close()


def _subtables(path: Path) -> dict[str, Path]:
    """Return the subtables that the keywords of a table name, with their paths."""
    with open_table(path) as opened:
        keywords = opened.getkeywords()
    return {
        name: Path(value.removeprefix("Table: ").strip())
        for name, value in keywords.items()
        if isinstance(value, str) and value.startswith("Table: ")
    }


def _is_sound(subtable: Path) -> bool:
    if not (subtable / "table.dat").exists():
        return False
    try:
        with open_table(subtable) as opened:
            return bool(opened.nrows() >= 0)
    except InputError:
        return False


def _stand_in(place: Path) -> None:
    """Put an empty table in the place of a subtable."""
    from casacore.tables import table

    if place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    table(str(place), {}, nrow=0, ack=False).close()


def _repair_subtables(original: Path, view: Path) -> tuple[list[str], list[str]]:
    replaced, notes = [], []
    for name, place in _subtables(view).items():
        if _is_sound(place):
            continue
        if name in ESSENTIAL:
            raise InputError(
                f"subtable {name} of {original} is missing or broken",
                "copy the measurement set again from where it came",
            )
        if not place.is_relative_to(view):
            raise InputError(
                f"subtable {name} of {original} is said to be in {place}, which has no table",
                "copy the measurement set again from where it came",
            )
        _stand_in(place)
        replaced.append(name)
        notes.append(f"subtable {name} is missing or broken in the input and was left out")
    return replaced, notes


def _fill_state(view: Path) -> list[str]:
    """Give an empty STATE subtable one row, because rows of the data refer to state 0."""
    state = view / "STATE"
    if not (state / "table.dat").exists():
        return []
    with open_table(state) as opened:
        if opened.nrows() or "OBS_MODE" not in opened.colnames():
            return []
    with open_table(view) as opened:
        known = opened.nrows() and "STATE_ID" in opened.colnames()
        if not known or opened.getcell("STATE_ID", 0) < 0:
            return []
    with open_table(state, write=True) as opened:
        opened.addrows(1)
    return ["subtable STATE was empty though the data refer to it; one state was added"]


@contextmanager
def read_view(
    original: str | Path, scratch: str | Path | None = None, *, subtables: bool = True
) -> Iterator[MsView]:
    """Yield a view of a measurement set for the duration of the context.

    Parameters
    ----------
    original : path
        Measurement set, never written; it may be a symbolic link or in a read-only folder.
    scratch : path, optional
        Folder in which the view is built, created when missing; default a temporary one.
    subtables : bool
        False saves the copies when only columns of the main table are read.

    Raises
    ------
    InputError
        The path is not a measurement set, or an essential subtable is missing or broken.
    """
    original = Path(original).resolve()
    own = tempfile.mkdtemp(prefix="selfcal_") if scratch is None else None
    view = Path(own or scratch or "").resolve() / f"view_{original.name}"
    if view.exists():
        shutil.rmtree(view)
    try:
        _mirror(original, view)
        replaced: list[str] = []
        notes: list[str] = []
        if subtables:
            notes += _copy_subtables(original, view)
            replaced, repaired = _repair_subtables(original, view)
            notes += [*repaired, *_fill_state(view)]
        for note in notes:
            log.warning("%s: %s", original.name, note)
        yield MsView(view, tuple(replaced), tuple(notes))
    finally:
        shutil.rmtree(own or view, ignore_errors=True)


def own_every_file(ms: Path) -> int:
    """Replace every link (symbolic or hard) inside a copy by a file of its own.

    A tool that copies a whole subtable of the view may copy the links, and a later write into the
    copy would then reach the original.

    Returns
    -------
    int
        Number of files that were links.
    """
    links = 0
    for entry in sorted(ms.rglob("*")):
        if entry.is_symlink() or (entry.is_file() and entry.stat().st_nlink > 1):
            links += 1
            own = entry.with_name(entry.name + ".own")
            if entry.is_dir():
                shutil.copytree(entry, own)
            else:
                shutil.copyfile(entry, own)
            entry.unlink()
            own.rename(entry)
    return links


def fill_observation(ms: Path) -> list[str]:
    """Give a copy the one observation that its rows refer to, of a telescope without a name.

    Returns
    -------
    list of str
        One line for the record where there was none.
    """
    with open_table(ms) as opened:
        there = "OBSERVATION" in opened.keywordnames()
    if not there:
        add_empty_subtable("OBSERVATION", ms)
    with open_table(f"{ms}::OBSERVATION", write=True) as opened:
        if opened.nrows():
            return []
        opened.addrows(1)
    return ["there is no observation in the input: the telescope is not known"]


def put_descriptions(view: Path, numbers: Sequence[int], spw: int, setup: int) -> None:
    """Let data descriptions of a view, of which no row is used, name a window and correlations."""
    if not numbers:
        return
    with open_table(f"{view}::DATA_DESCRIPTION", write=True) as opened:
        for number in numbers:
            opened.putcell("SPECTRAL_WINDOW_ID", number, spw)
            opened.putcell("POLARIZATION_ID", number, setup)
