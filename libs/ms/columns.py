"""Columns of visibilities beside DATA: MODEL_DATA, CORRECTED_DATA."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.tables import open_table

__all__ = ["add_data_column", "ensure_data_column"]

_TILE = (4, 64, 1024)  # correlations, channels, rows


def add_data_column(path: str | Path, name: str) -> bool:
    """Add a column described like DATA, when missing, without values.

    Parameters
    ----------
    path : path
        The measurement set.
    name : str
        Column to add; every row must be written before any is read.

    Returns
    -------
    bool
        True when it was missing.
    """
    from casacore.tables import makecoldesc, makedminfo, maketabdesc

    with open_table(path, write=True) as opened:
        if name in opened.colnames():
            return False
        description = opened.getcoldesc("DATA")
        for key in ("dataManagerType", "dataManagerGroup"):
            description.pop(key, None)
        tabdesc = maketabdesc(makecoldesc(name, description))
        info = makedminfo(tabdesc)
        for entry in info.values():
            entry["TYPE"], entry["NAME"] = "TiledShapeStMan", f"Tiled{name}"
            entry["SPEC"] = {"DEFAULTTILESHAPE": np.array(_TILE, dtype=np.int32)}
        opened.addcols(tabdesc, info)
    return True


def ensure_data_column(
    path: str | Path, name: str, *, copy: str = "", refill: bool = False
) -> None:
    """Add a column of visibilities such as MODEL_DATA, and fill it, if it is missing.

    Parameters
    ----------
    path : path
        The measurement set.
    name : str
        Column to add.
    copy : str
        Column whose values it starts with. Empty: zeros, so that a solve against a model that was
        never filled fails instead of passing for a point source.
    refill : bool
        True fills the column even where it exists, because its filling was cut short.
    """
    if not add_data_column(path, name) and not refill:
        return
    with open_table(path, write=True) as opened:
        for _, rows in row_pieces(opened, ("DATA",)):
            if copy:
                values = read_rows(opened, (copy,), rows)[copy]
            else:
                shape = np.shape(opened.getcell("DATA", int(rows[0])))
                values = np.zeros((len(rows), *shape), np.complex64)
            write_rows(opened, rows, {name: values})
