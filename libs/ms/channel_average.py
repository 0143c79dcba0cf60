"""Averaging the channels of a measurement set, each window by a number of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.ms.subset import choose_subset
from libs.ms.subset_copy import copy_subset
from libs.ms.subtables import Subtables

__all__ = ["average_channels", "bin_starts", "widest_channel_hz"]

# Widest channels of continuum for self-calibration, Hz, from each frequency on: those to which the
# pipeline of ALMA and of the VLA averages.
_WIDEST_HZ = (
    (50e9, 15.625e6), (40e9, 16e6), (26e9, 8e6), (18e9, 16e6), (8e9, 8e6), (2e9, 4e6), (0.0, 2e6),
)  # fmt: skip
_GAP = 1.5  # channel widths between centres, from which on two channels do not touch


def widest_channel_hz(frequency_hz: float) -> float:
    """Return how wide channels of continuum may be at a frequency, Hz."""
    return next(width for lowest, width in _WIDEST_HZ if frequency_hz >= lowest)


def bin_starts(
    frequency_hz: NDArray[np.float64], width_hz: NDArray[np.float64], widest_hz: float
) -> NDArray[np.int64]:
    """Return the first channel of each average.

    Averages have the same number of channels where a number close to the largest allowed divides
    those there are, else numbers that differ by one. None spans a gap between channels.

    Parameters
    ----------
    frequency_hz, width_hz : (nchan,) float64
        Channel centres and widths, Hz.
    widest_hz : float
        Widest average, Hz.

    Returns
    -------
    (nbin,) int64
    """
    step = np.abs(width_hz).mean()
    most = max(1, int(widest_hz / step + 1e-3)) if step > 0 else 1
    edges = np.flatnonzero(np.abs(np.diff(frequency_hz)) > _GAP * step) + 1
    starts: list[int] = []
    for run in np.split(np.arange(len(frequency_hz)), edges):
        divisor = max(n for n in range(1, min(most, len(run)) + 1) if len(run) % n == 0)
        count = len(run) // divisor if 2 * divisor > most else -(-len(run) // most)
        starts += [int(part[0]) for part in np.array_split(run, count)]
    return np.array(starts, np.int64)


def average_channels(
    ms: Path, widest_hz: Callable[[float], float], progress: Callable[[str], None] | None = None
) -> list[str]:
    """Average channels by weight, in place; flagged ones have none.

    Parameters
    ----------
    ms : Path
        Working copy without scratch columns. It gets a WEIGHT_SPECTRUM: the sums of the weights.
    widest_hz : callable
        Function of a window's mean frequency, Hz, that returns the widest average, Hz.
    progress : callable, optional
        Function that receives the progress in a few words.

    Returns
    -------
    list of str
        A line that says what was averaged; none where nothing was.

    Raises
    ------
    NotUnderstoodError
        A window has several polarization setups.
    """
    windows = Subtables(ms).windows
    starts = [bin_starts(w.frequency_hz, w.width_hz, widest_hz(w.mean_hz)) for w in windows]
    before = [window.channels for window in windows]
    if [len(each) for each in starts] == before:
        return []
    subset = replace(choose_subset(ms, autocorrelations=True), bin_starts=tuple(starts))
    made = ms.with_name(f"{ms.name}.averaged")
    copy_subset(ms, made, subset, progress=progress)
    shutil.rmtree(ms)
    made.rename(ms)
    return [f"channels averaged: {_said(before, [len(each) for each in starts])}"]


def _said(before: Sequence[int], after: Sequence[int]) -> str:
    """How many channels windows had and have, alike ones once."""
    pairs = list(zip(before, after, strict=True))
    return ", ".join(
        f"{old} to {new}" + (f" in {pairs.count((old, new))} windows" if len(pairs) > 1 else "")
        for old, new in dict.fromkeys(pairs)
    )
