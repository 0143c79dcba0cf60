"""A subtable that a working copy shares with its original by hard links.

POINTING of long observations takes gigabytes and no calibration changes it. Its files in the copy
are links to those of the original; only the lock, which every reader touches, is the copy's own.
`libs.ms.tables.open_table` gives a table files of its own before it opens it to be written.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from libs.ms.tables import open_table

__all__ = ["link_pointing"]

_NAME = "POINTING"


def link_pointing(ms: Path, original: Path) -> list[str]:
    """Make the POINTING subtable of a copy that of the original, by hard links.

    Parameters
    ----------
    ms : Path
        Copy, whose own POINTING is replaced.
    original : Path
        Measurement set with the same antennas. It is only read.

    Returns
    -------
    list of str
        Note where the file system has no such links: the subtable is then left empty.
    """
    origin, place = original / _NAME, ms / _NAME
    if not (origin / "table.dat").exists() or not (place / "table.dat").exists():
        return []
    linked = ms / f"{_NAME}.linked"
    shutil.rmtree(linked, ignore_errors=True)
    linked.mkdir()
    try:
        for file in sorted(origin.iterdir()):
            if file.name.startswith(".") or file.is_dir():
                continue
            if file.name == "table.lock":
                shutil.copyfile(file, linked / file.name)
            else:
                os.link(file.resolve(), linked / file.name)
    except OSError as error:
        shutil.rmtree(linked)
        _leave_empty(place)
        why = error.strerror or str(error)
        return [f"POINTING is left empty, because it cannot be linked to the input's ({why})"]
    shutil.rmtree(place)
    linked.rename(place)
    return []


def _leave_empty(place: Path) -> None:
    with open_table(place, write=True) as opened:
        opened.removerows(list(range(opened.nrows())))
