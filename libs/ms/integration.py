"""Integration time of visibilities from their time stamps, because INTERVAL may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.rows import distinct

__all__ = ["integration_time_s", "integrations_per_scan", "read_integration_time_s"]


def integration_time_s(time_s: NDArray[np.float64], *keys: NDArray[Any]) -> float:
    """Return the median spacing of successive time stamps that share all keys, s; 0 if no two do.

    The keys choose whose stamps are compared. With scan and antennas this is the integration time
    of a baseline, also where the stamps of baselines differ by a fraction of an integration. With
    the scan only, it is the spacing at which any data are stamped. Without keys, gaps between
    scans count as well, as they do for a program that expects a regular grid of times.

    Parameters
    ----------
    time_s : (n,) float64
        TIME of rows in any order; a stamp may occur any number of times.
    *keys : (n,) arrays
        Columns of the same rows: SCAN_NUMBER, ANTENNA1, ...
    """
    spacing = _spacings(time_s, *keys)
    return float(np.median(spacing)) if spacing.size else 0.0


def _spacings(time_s: NDArray[np.float64], *keys: NDArray[Any]) -> NDArray[np.float64]:
    """Return the differences between successive, different stamps that share all keys, s."""
    if not keys:
        return np.asarray(np.diff(np.unique(time_s)))
    order = np.lexsort((time_s, *keys))
    same = np.all([np.diff(key[order]) == 0 for key in keys], axis=0)
    steps = np.diff(time_s[order])[same]
    return np.asarray(steps[steps > 0])


def read_integration_time_s(opened: Any, keys: Sequence[str], most_rows: int = 2**21) -> float:
    """Return `integration_time_s` of a table, of which at most ``most_rows`` rows are read.

    Parameters
    ----------
    opened : casacore table
        Table; stretches of consecutive rows are read of a large one.
    keys : sequence of str
        Names of the key columns.
    most_rows : int
        Largest number of rows that are read.
    """
    total = opened.nrows()
    pieces = 1 if total <= most_rows else 8
    length = min(total, most_rows) // pieces
    found = []
    for low in np.linspace(0, total - length, pieces).astype(int).tolist():
        values = [opened.getcol(name, low, length) for name in keys]
        found.append(_spacings(opened.getcol("TIME", low, length), *values))
    spacing = np.concatenate(found)
    if not spacing.size and pieces > 1:  # an integration has more rows than a stretch
        spacing = np.diff(distinct(opened, "TIME"))
    return float(np.median(spacing)) if spacing.size else 0.0


def integrations_per_scan(time_s: NDArray[np.float64], *keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of different time stamps of each combination of keys, (ncombination,).

    The parameters are those of `integration_time_s`. With scan and antennas among the keys, these
    are the integrations of each baseline in each scan.
    """
    order = np.lexsort((time_s, *keys))
    new = [np.diff(key[order], prepend=key[order][:1] - 1) != 0 for key in (time_s, *keys)]
    begins = np.any(new[1:], axis=0)
    return np.bincount(np.cumsum(begins)[begins | new[0]] - 1)
