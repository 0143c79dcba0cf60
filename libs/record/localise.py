"""Gain tables rewritten for the ids of another measurement set of the same observation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from libs.core.errors import ConfigError
from libs.ms.subtables import Subtables, copy_subtable
from libs.ms.tables import open_table

__all__ = ["localise_table", "spwmap_by_id"]


def localise_table(
    table: Path, antennas: Sequence[str], target: Path, ms: Path, field: int
) -> Path:
    """Copy a gain table and give it the antennas and fields of a measurement set.

    The copy holds the values itself, whatever the table refers to, and only the copy is written.

    Parameters
    ----------
    table : Path
        Gain table; it is only read.
    antennas : sequence of str
        Names of its antennas, in the order of its own ids.
    target : Path
        Path of the copy; an older one is replaced.
    ms : Path
        Measurement set that the copy is for.
    field : int
        FIELD_ID of its solutions, which are of one target.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    ConfigError
        The table has other antennas than the record says.
    """
    if len(Subtables(table).antennas) != len(antennas):
        raise ConfigError(
            f"{table.name} has {len(Subtables(table).antennas)} antennas, the record says"
            f" {len(antennas)}",
            "make the bundle again from the run",
        )
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with open_table(table) as origin:
        origin.copy(str(part), deep=True, valuecopy=True).close()
    place = {name: number for number, name in enumerate(Subtables(ms).antenna_names)}
    ids = np.array([place[name] for name in antennas], np.int32)
    with open_table(part, write=True) as opened:
        if opened.nrows():
            opened.putcol("ANTENNA1", ids[opened.getcol("ANTENNA1")])
            second = opened.getcol("ANTENNA2")  # the reference antenna, -1 for none
            opened.putcol("ANTENNA2", np.where(second < 0, -1, ids[second]).astype(np.int32))
            opened.putcol("FIELD_ID", np.full(opened.nrows(), field, np.int32))
        opened.putkeyword("MSName", ms.name)
    for name in ("ANTENNA", "FIELD"):
        copy_subtable(ms, name, part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def spwmap_by_id(
    spwmap: Mapping[str, str], table_windows: Sequence[str], window: Mapping[str, int], count: int
) -> tuple[int, ...]:
    """Return a map of windows by label as a list by the ids of a measurement set.

    Parameters
    ----------
    spwmap : mapping of str to str
        For each window's label that of the window whose solutions it takes.
    table_windows : sequence of str
        Labels in the order of the table's own ids.
    window : mapping of str to int
        Id in the measurement set, by label.
    count : int
        Number of windows in the measurement set.

    Returns
    -------
    tuple of int
        Id of the table's window for each window of the data. Those that are not calibrated name
        the first that is used; their rows are never selected.
    """
    order = {label: number for number, label in enumerate(table_windows)}
    used = [order[source] for source in spwmap.values()]
    found = [used[0] if used else 0] * count
    for label, source in spwmap.items():
        found[window[label]] = order[source]
    return tuple(found)
