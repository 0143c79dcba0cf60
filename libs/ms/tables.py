"""Opening of casacore tables, on which everything else in this room rests.

Only python-casacore is used, in (row, channel, correlation) order; casatools, whose arrays are
(correlation, channel, row), is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libs.core.errors import InputError

__all__ = ["column_names", "open_table", "settle_rows"]


@contextmanager
def open_table(path: str | Path, *, write: bool = False) -> Iterator[Any]:
    """Open a casacore table (``"data.ms"`` or ``"data.ms::SPECTRAL_WINDOW"``).

    A subtable to be written is opened in its own folder: by way of the table it belongs to,
    casacore would open that one for writing too, whose files may be links to read-only data.

    Raises
    ------
    InputError
        The path does not exist or is not a table.
    """
    from casacore.tables import table

    place = Path(str(path).replace("::", "/"))
    if write:
        _own_files(place)
    name = place if write and (place / "table.dat").exists() else path
    try:
        opened = table(str(name), readonly=not write, ack=False, lockoptions="autonoread")
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be opened as a table ({str(error).strip().splitlines()[0]})",
            "name a measurement set",
        ) from error
    try:
        yield opened
    finally:
        opened.close()


def _own_files(folder: Path) -> None:
    """Give a table files of its own in place of hard links, so that no other one is written."""
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if file.is_file() and not file.is_symlink() and file.stat().st_nlink > 1:
            own = file.with_name(f"{file.name}.own")
            shutil.copy2(file, own)
            own.replace(file)


def column_names(path: str | Path) -> list[str]:
    """Return the names of a table's columns."""
    with open_table(path) as opened:
        return list(opened.colnames())


def settle_rows(path: str | Path) -> None:
    """Make a table's own files hold its number of rows, which else only its lock may hold.

    casacore writes the description of a table anew only when something in it has changed.
    """
    name = "selfcal_settled"
    with open_table(path, write=True) as opened:
        opened.putkeyword(name, True)
        opened.flush()
        opened.removekeyword(name)
        opened.flush()
