"""h5parm solutions as a CASA gain table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.h5parm.combine import on_axes
from libs.h5parm.reader import read_h5parm
from libs.h5parm.regrid import regrid
from libs.h5parm.solset import Solset
from libs.ms.subtables import Subtables, Window

__all__ = ["export_caltable", "gains_for"]


def export_caltable(
    h5parm: Path,
    ms: Path,
    table: Path,
    direction: str | None = None,
    *,
    soltabs: Sequence[str] | None = None,
) -> GainSolutions:
    """Write the solutions of one direction as a CASA gain table for a measurement set.

    Parameters
    ----------
    h5parm : Path
    ms : Path
        Measurement set to which the table is to be applied.
    table : Path
        Gain table to write; an existing one is replaced.
    direction : str, optional
        Name of the direction, needed when the h5parm has several.
    soltabs : sequence of str, optional
        Soltabs to use, as in `libs.h5parm.reader.read_h5parm`.

    Returns
    -------
    GainSolutions
        Solutions as written: of type G, or B where the h5parm has several frequencies in a
        spectral window.

    Raises
    ------
    InputError
        Solutions are Jones matrices, the direction is unknown, or the data have none of the
        antennas.
    """
    gains = gains_for(read_h5parm(h5parm, soltabs), ms, direction)
    write_caltable(table, gains, ms)
    return gains


def gains_for(solset: Solset, ms: Path, direction: str | None = None) -> GainSolutions:
    """Return solutions on the antennas and spectral windows of a measurement set.

    Antennas without solutions are flagged. A spectral window takes the frequencies of
    ``solset`` that lie in it, or the solution interpolated to its centre.

    Raises
    ------
    InputError
        The errors are those of `export_caltable`.
    """
    found = Subtables(ms)
    names, position = found.antenna_names, found.position_m
    if not set(names) & set(solset.antenna):
        raise InputError(
            f"{ms} and the solutions have no antenna in common", "name the data they are for"
        )
    feeds = ("R", "L") if found.setups[0].circular else ("X", "Y")
    frequency_hz, spw = _blocks(solset.frequency_hz, found.windows)
    unique_hz, place = np.unique(frequency_hz, return_inverse=True)
    gains = on_axes(regrid(solset, solset.time_s, unique_hz), names, position)
    one = gains.to_gain_solutions(direction, polarization=feeds)
    return GainSolutions(
        time_s=one.time_s,
        interval_s=one.interval_s,
        frequency_hz=frequency_hz,
        spw=spw,
        antenna=names,
        position_m=position,
        polarization=one.polarization,
        gain=one.gain[:, place],
        flag=one.flag[:, place],
        snr=one.snr[:, place],
    )


def _blocks(
    solved_hz: NDArray[np.float64], found: Sequence[Window]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the frequencies of the table's blocks and the spectral window of each."""
    blocks: list[float] = []
    windows: list[int] = []
    for spw, window in enumerate(found):
        channel_hz, edge_hz = window.frequency_hz, np.abs(window.width_hz).max() / 2
        inside = solved_hz[
            (solved_hz >= channel_hz.min() - edge_hz) & (solved_hz <= channel_hz.max() + edge_hz)
        ]
        own = inside if len(inside) > 1 else np.array([channel_hz.mean()])
        blocks.extend(own)
        windows.extend([spw] * len(own))
    return np.array(blocks), np.array(windows, dtype=np.int64)
