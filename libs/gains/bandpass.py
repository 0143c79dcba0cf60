"""Bandpasses: B Jones tables of the native solver made relative, with gaps filled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.gains.interpolation import interpolate_frequency
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["BandpassFinish", "fill_gaps", "finish_bandpass", "relative_bandpass"]


@dataclass(frozen=True)
class BandpassFinish:
    """What was done to a table of bandpasses: fractions of its channels, 0 to 1.

    Attributes
    ----------
    filled : float
        Solved by interpolation between their neighbours.
    flagged : float
        Still without a solution: edges, and antennas that have none at all.
    """

    filled: float
    flagged: float


def relative_bandpass(
    gain: NDArray[np.complexfloating], flag: NDArray[np.bool_]
) -> tuple[NDArray[np.complexfloating], NDArray[np.float64]]:
    """Divide bandpasses by the root of their mean power and by the phase of their mean.

    What they had in common with all channels is left to the gains solved afterwards.

    Parameters
    ----------
    gain, flag : (nrow, nchan, npol)

    Returns
    -------
    gain : (nrow, nchan, npol)
    size : (nrow, npol) float64
        The amplitude divided by, 1 where nothing is solved.
    """
    good = ~flag
    count = np.maximum(good.sum(axis=1), 1)
    power = np.where(good, np.abs(gain) ** 2, 0).sum(axis=1) / count
    size = np.where(power > 0, np.sqrt(np.where(power > 0, power, 1)), 1.0)
    mean = np.where(good, gain, 0).sum(axis=1)
    turn = np.where(np.abs(mean) > 0, mean / np.where(np.abs(mean) > 0, np.abs(mean), 1), 1)
    return np.where(good, gain / (size * turn)[:, None], gain), size


def fill_gaps(
    gain: NDArray[np.complexfloating], flag: NDArray[np.bool_], frequency_hz: NDArray[np.float64]
) -> tuple[NDArray[np.complexfloating], NDArray[np.bool_]]:
    """Interpolate flagged channels between good ones; edges stay flagged.

    Parameters
    ----------
    gain, flag : (nrow, nchan, npol)
    frequency_hz : (nchan,) float64

    Returns
    -------
    gain, flag : (nrow, nchan, npol)
    """
    good = ~flag
    inside = (
        np.maximum.accumulate(good, axis=1) & np.maximum.accumulate(good[:, ::-1], axis=1)[:, ::-1]
    )
    gap = inside & flag
    if not gap.any():
        return gain, flag
    filled, _ = interpolate_frequency(
        gain[:, :, None].astype(np.complex128), good[:, :, None], frequency_hz, frequency_hz
    )
    return np.where(gap, filled[:, :, 0], gain).astype(gain.dtype), flag & ~gap


def finish_bandpass(table: Path) -> BandpassFinish:
    """Make the bandpasses of a B Jones table relative and fill their gaps, in place."""
    filled = flagged = total = 0
    channel_hz = Subtables(table).channel_hz
    with open_table(table, write=True) as opened:
        for spw in np.unique(opened.getcol("SPECTRAL_WINDOW_ID")).tolist():
            part = opened.query(f"SPECTRAL_WINDOW_ID == {spw}")
            flag, error = part.getcol("FLAG"), part.getcol("PARAMERR")
            gain, size = relative_bandpass(part.getcol("CPARAM"), flag)
            gain, left = fill_gaps(gain, flag, channel_hz[spw])
            part.putcol("CPARAM", gain.astype(np.complex64))
            part.putcol("PARAMERR", (error / size[:, None]).astype(np.float32))
            part.putcol("FLAG", left)
            part.close()
            filled += int((flag & ~left).sum())
            flagged += int(left.sum())
            total += flag.size
    return BandpassFinish(filled / max(total, 1), flagged / max(total, 1))
