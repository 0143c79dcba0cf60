"""Visibilities kept aside before a step changes them, and put back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.ms.columns import ensure_data_column
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.subtables import Subtables
from libs.ms.tables import column_names, open_table

__all__ = ["copy_column", "keep_column", "move_and_scale", "scale_weights"]


def keep_column(ms: Path, name: str) -> None:
    """Copy DATA to a column of another name, which is made or filled again."""
    ensure_data_column(ms, name, copy="DATA", refill=True)


def copy_column(ms: Path, source: str, target: str = "DATA") -> None:
    """Copy one column of visibilities over another that exists."""
    _change(ms, source, target, lambda rows, hz: rows[source])


def move_and_scale(ms: Path, source: str, offset_rad: tuple[float, float], scale: float) -> None:
    """Write DATA as another column with the sky moved back and the flux scale divided out.

    Parameters
    ----------
    ms : Path
    source : str
        Column with the visibilities as they were; may not be DATA, so that it can be repeated.
    offset_rad : (float, float)
        Direction cosines (l, m) by which the sky of the data lies too far east and north.
    scale : float
        Factor by which its fluxes are too high.

    Raises
    ------
    ValueError
        ``source`` is DATA.
    """
    if source == "DATA":
        raise ValueError("the source of the visibilities must be kept")
    l_rad, m_rad = offset_rad

    def moved(rows: dict[str, NDArray[Any]], hz: NDArray[np.float64]) -> NDArray[np.complex64]:
        path_m = rows["UVW"][:, 0] * l_rad + rows["UVW"][:, 1] * m_rad
        turns = path_m[:, None] * (hz / SPEED_OF_LIGHT_M_S)[None]
        factor = np.exp(-2j * np.pi * turns) / scale
        return np.asarray(rows[source] * factor[:, :, None], np.complex64)

    _change(ms, source, "DATA", moved)


def _change(
    ms: Path,
    source: str,
    target: str,
    change: Callable[[dict[str, NDArray[Any]], NDArray[np.float64]], NDArray[np.complex64]],
) -> None:
    tables = Subtables(ms)
    with open_table(ms, write=True) as opened:
        for ddid, number in row_pieces(opened, (source,)):
            rows = read_rows(opened, ("UVW", source), number)
            hz = tables.channel_hz[int(tables.spw_of[ddid])]
            write_rows(opened, number, {target: change(rows, hz)})


def scale_weights(ms: Path, scale: float) -> None:
    """Make weights and sigmas those of visibilities that were divided by a factor, in place."""
    powers = {"WEIGHT": 2, "SIGMA": -1, "WEIGHT_SPECTRUM": 2, "SIGMA_SPECTRUM": -1}
    names = [name for name in powers if name in column_names(ms)]
    with open_table(ms, write=True) as opened:
        for _, number in row_pieces(opened, ("DATA",)):
            defined = [name for name in names if opened.iscelldefined(name, int(number[0]))]
            rows = read_rows(opened, defined, number)
            write_rows(
                opened,
                number,
                {n: np.asarray(rows[n] * scale ** powers[n], rows[n].dtype) for n in defined},
            )
