"""Scans: which fields were observed when, and scan numbers made anew where they say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.ms.rows import stretches
from libs.ms.tables import open_table

__all__ = ["Visit", "number_scans", "read_visits"]

GAP_INTEGRATIONS = 5.0


@dataclass(frozen=True)
class Visit:
    """A field observed without a break.

    Attributes
    ----------
    field, scan : int
        FIELD_ID; SCAN_NUMBER, or the number it should have.
    begin_s, end_s : float
        First and last time stamp, MJD seconds.
    integrations : int
    """

    field: int
    scan: int
    begin_s: float
    end_s: float
    integrations: int


def _stamps(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct time stamps with field and scan, in order of time; autocorrelations count too."""
    parts = []
    with open_table(path) as opened:
        for low, count in stretches(opened.nrows()):
            columns = [opened.getcol(n, low, count) for n in ("TIME", "FIELD_ID", "SCAN_NUMBER")]
            parts.append(np.unique(np.stack(columns).astype(np.float64), axis=1))
    time, field, scan = np.unique(np.concatenate(parts, axis=1), axis=1)
    return time, field.astype(np.int64), scan.astype(np.int64)


def _numbers(time_s: NDArray[np.float64], field: NDArray[np.int64]) -> NDArray[np.int64]:
    """Scan numbers from 1, new at each change of field or gap of 5 integrations, (nstamp,)."""
    if not len(time_s):
        return np.zeros(0, np.int64)
    step = np.diff(time_s)
    usual = float(np.median(step[step > 0])) if (step > 0).any() else np.inf
    new = (np.diff(field) != 0) | (step > GAP_INTEGRATIONS * usual)
    return 1 + np.concatenate([[0], np.cumsum(new)]).astype(np.int64)


def read_visits(path: Path) -> list[Visit]:
    """Return the scans of a measurement set in order of time.

    A scan number that several visits share is kept for each.
    """
    time, field, scan = _stamps(path)
    number = _numbers(time, field)
    change = np.diff(number, prepend=0) != 0
    change[1:] |= np.diff(scan) != 0
    starts = np.flatnonzero(change)
    return [
        Visit(int(field[a]), int(scan[a]), float(time[a]), float(time[b - 1]), int(b - a))
        for a, b in zip(starts, np.append(starts[1:], len(time)), strict=True)
    ]


def number_scans(path: Path) -> tuple[int, int]:
    """Number the scans of a measurement set anew, from 1, in order of time.

    A scan ends where the field changes and at a gap of 5 integrations. It is worth doing where
    visits to several fields, or with gaps between them, have one number, as after joining
    converted files: solution intervals break at scans.

    Returns
    -------
    before, after : int
        Numbers of distinct scan numbers.
    """
    time, field, scan = _stamps(path)
    number = _numbers(time, field)
    with open_table(path, write=True) as opened:
        for low, count in stretches(opened.nrows()):
            at = opened.getcol("TIME", low, count)
            own = opened.getcol("FIELD_ID", low, count)
            new = np.zeros(count, np.int32)
            for one in np.unique(own):
                mine, known = own == one, field == one
                new[mine] = number[known][np.searchsorted(time[known], at[mine])]
            opened.putcol("SCAN_NUMBER", new, low, count)
    return len(np.unique(scan)), int(number.max(initial=0))
