"""Headers of tables, which a kill may cut short, saved and restored.

casacore truncates and rewrites the header of a tiled column whenever a table that was written to
is closed. A process killed in that moment leaves a header too short to read, and a table that no
program opens. A header says where the tiles are, not what they hold, so it does not change once
every row is written. The same holds for ``table.dat``, which lists the columns.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.core.errors import InputError
from libs.core.files import fsync_tree
from libs.ms.tables import open_table

__all__ = ["guarded", "mend_headers", "save_headers", "take_back"]


def _folder(ms: Path) -> Path:
    return ms.with_name(ms.name + ".headers")


def _put_back(saved: Path, present: Path) -> None:
    part = present.with_name(present.name + ".part")
    shutil.copyfile(saved, part)
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(present)


def save_headers(ms: str | Path) -> Path:
    """Copy a table's description and its tiled columns' headers to a folder beside it.

    Parameters
    ----------
    ms : path
        Measurement set whose columns all exist and are filled; it is only read.

    Returns
    -------
    Path
        Folder ``<ms>.headers``; an older one is replaced.
    """
    ms = Path(ms)
    final = _folder(ms)
    part = final.with_name(final.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    tiled = {path.name.partition("_TSM")[0] for path in ms.glob("table.f*_TSM*")}
    # table.lock holds the number of columns that the last writer left
    for name in ("table.dat", "table.lock", *sorted(tiled)):
        shutil.copyfile(ms / name, part / name)
    fsync_tree(part)
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    return final


def mend_headers(ms: str | Path) -> tuple[str, ...]:
    """Restore the headers that were cut short since :func:`save_headers`.

    Parameters
    ----------
    ms : path
        Measurement set to which nothing is writing. Without saved headers it is left alone.

    Returns
    -------
    tuple of str
        Names of the restored files.
    """
    ms = Path(ms)
    mended = []
    for saved in sorted(_folder(ms).glob("table.*")):
        present = ms / saved.name
        if saved.name == "table.lock":
            continue
        if not present.exists() or present.stat().st_size < saved.stat().st_size:
            _put_back(saved, present)
            mended.append(saved.name)
    return tuple(mended)


def take_back(ms: str | Path) -> None:
    """Make readable again a table whose writer, inside :func:`guarded`, was killed.

    A header cut short is restored. A column that was being added and keeps the table from opening
    is dropped. A table that opens keeps its contents, whoever has written to it since.
    """
    ms = Path(ms)
    if not _folder(ms).exists():
        return
    mend_headers(ms)
    try:
        with open_table(ms):
            pass
    except InputError:
        for saved in sorted(_folder(ms).glob("table.*")):
            _put_back(saved, ms / saved.name)
    shutil.rmtree(_folder(ms), ignore_errors=True)


@contextmanager
def guarded(ms: str | Path) -> Iterator[None]:
    """Write to a table that is not a working copy so that a kill can be undone.

    The copies of the headers are removed when the block ends, with or without an error.

    Parameters
    ----------
    ms : path
        Measurement set to which only this process writes.
    """
    ms = Path(ms)
    take_back(ms)
    save_headers(ms)
    try:
        yield
    finally:
        shutil.rmtree(_folder(ms), ignore_errors=True)
