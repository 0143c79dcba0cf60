"""Integration time of visibilities, from their time stamps: INTERVAL may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.rows import distinct

__all__ = ["integration_time_s", "integrations_per_scan", "read_integration_time_s"]


def integration_time_s(time_s: NDArray[np.float64], *keys: NDArray[Any]) -> float:
    """Return the median spacing of successive time stamps that share all keys, s; 0: no two do.

    The keys say whose stamps are compared. With scan and antennas this is the integration time
    of a baseline, also where the stamps of baselines differ by a fraction of an integration;
    with the scan only, the spacing at which any data are stamped; without keys, gaps between
    scans count as well, as they do for a program that expects a regular grid of times.

    Parameters
    ----------
    time_s : (n,) float64
        TIME of rows in any order; a stamp may occur any number of times.
    *keys : (n,) arrays
        SCAN_NUMBER, ANTENNA1, ... of the same rows.
    """
    spacing = _spacings(time_s, *keys)
    return float(np.median(spacing)) if spacing.size else 0.0


def _spacings(time_s: NDArray[np.float64], *keys: NDArray[Any]) -> NDArray[np.float64]:
    """Differences between successive, different stamps that share all keys, s."""
    if not keys:
        return np.asarray(np.diff(np.unique(time_s)))
    order = np.lexsort((time_s, *keys))
    same = np.all([np.diff(key[order]) == 0 for key in keys], axis=0)
    steps = np.diff(time_s[order])[same]
    return np.asarray(steps[steps > 0])


def read_integration_time_s(opened: Any, keys: Sequence[str], most_rows: int = 2**21) -> float:
    """Return `integration_time_s` of a table, of which no more than some rows are read.

    Parameters
    ----------
    opened : casacore table
        Of a large one, stretches of consecutive rows are looked at.
    keys : sequence of str
        Columns.
    most_rows : int
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
    """Return how many different time stamps each combination of keys has, (ncombination,).

    Parameters as for `integration_time_s`; with scan and antennas among the keys these are the
    integrations of each baseline in each scan.
    """
    order = np.lexsort((time_s, *keys))
    new = [np.diff(key[order], prepend=key[order][:1] - 1) != 0 for key in (time_s, *keys)]
    begins = np.any(new[1:], axis=0)
    return np.bincount(np.cumsum(begins)[begins | new[0]] - 1)
