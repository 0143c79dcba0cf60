"""Typical power of visibilities, against which sources left in the data are measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.rows import read_column
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["typical_power"]

_PIECES, _PIECE_ROWS = 64, 2048


def typical_power(ms: Path, *, uvmin_m: float = 0.0, column: str = "DATA") -> float:
    """Return the typical |V|^2 of unflagged visibilities, from evenly spread pieces of the data.

    It is the median over ln 2, which equals the mean for noise (whose |V|^2 is exponential) and
    which interference hardly affects.

    Parameters
    ----------
    ms : Path
    uvmin_m : float
        Shortest baseline that counts, m; autocorrelations never count.
    column : str
        Column of visibilities.

    Returns
    -------
    float
        Typical power, Jy^2; NaN without unflagged data.

    Raises
    ------
    InputError
        The path is not a measurement set.
    """
    found = []
    setup_of = Subtables(ms).setup_of
    with open_table(ms) as opened:
        total = opened.nrows()
        starts = np.unique(np.linspace(0, max(0, total - _PIECE_ROWS), _PIECES).astype(np.int64))
        for start in starts:
            piece = np.arange(start, min(total, start + _PIECE_ROWS))
            descriptions = read_column(opened, "DATA_DESC_ID", piece)
            for ddid in np.unique(descriptions).tolist():
                # of four correlations the cross hands hold no source
                hands = list(setup_of[ddid].parallel)
                rows = piece[descriptions == ddid]
                found.append(_powers(opened, column, rows, hands, uvmin_m))
    power = np.concatenate(found) if found else np.zeros(0)
    return float(np.median(power)) / math.log(2.0) if power.size else math.nan


def _powers(
    opened: Any, column: str, rows: NDArray[np.int64], hands: list[int], uvmin_m: float
) -> NDArray[np.floating]:
    """Return |V|^2 of the unflagged visibilities of some rows of one shape, (n,), Jy^2."""
    one, two = (read_column(opened, name, rows) for name in ("ANTENNA1", "ANTENNA2"))
    length_m = np.hypot(*read_column(opened, "UVW", rows)[:, :2].T)
    flag = read_column(opened, "FLAG", rows).astype(bool)
    flag |= read_column(opened, "FLAG_ROW", rows)[:, None, None]
    flag |= ((one == two) | (length_m < uvmin_m))[:, None, None]
    data = read_column(opened, column, rows)[:, :, hands]
    return np.asarray(np.abs(data[~flag[:, :, hands] & np.isfinite(data)]) ** 2)
