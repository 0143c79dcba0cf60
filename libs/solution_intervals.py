"""Solution intervals of a measurement set: which rows share a solution, as gaincal groups them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from libs.tables import open_table

__all__ = ["Intervals", "find_intervals", "integration_s"]

# gaincal starts its time bins this much before the first integration of a scan, so that rounding
# of TIME never moves an integration across a bin's edge.
BIN_LEAD_S = 1e-3
_ROWS = 2**20


@dataclass(frozen=True)
class Intervals:
    """Solution intervals in order of time.

    Attributes
    ----------
    time_s : (ninterval,) float64
        Mean of the integrations of each, MJD seconds.
    interval_s : (ninterval,) float64
        From the start of the first integration to the end of the last, s.
    scan, field, observation : (ninterval,) int64
        Ids of the first integration in each.
    row : (nrow,) int32
        Interval of each row of the table.
    """

    time_s: NDArray[np.float64]
    interval_s: NDArray[np.float64]
    scan: NDArray[np.int64]
    field: NDArray[np.int64]
    observation: NDArray[np.int64]
    row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.time_s)


_KEYS = np.dtype([("observation", "i4"), ("scan", "i4"), ("field", "i4"), ("time", "f8")])


def _integrations(opened: Any) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Distinct (observation, scan, field, time) of a table, and the one of each row.

    Rows of one integration follow each other in nearly every data set, so runs of equal keys
    are found first and only they are sorted.
    """
    columns = {"scan": "SCAN_NUMBER", "time": "TIME"}
    for key, subtable in (("observation", "OBSERVATION"), ("field", "FIELD")):
        with open_table(opened.getkeyword(subtable).removeprefix("Table: ")) as rows:
            if rows.nrows() > 1:  # otherwise every row has id 0
                columns[key] = f"{subtable}_ID"
    firsts, lengths = [], []
    for low in range(0, opened.nrows(), _ROWS):
        count = min(_ROWS, opened.nrows() - low)
        keys = np.zeros(count, _KEYS)
        for name, column in columns.items():
            keys[name] = opened.getcol(column, low, count)
        change = np.zeros(count, bool)
        change[0] = True
        for name in columns:
            change[1:] |= keys[name][1:] != keys[name][:-1]
        starts = np.flatnonzero(change)
        firsts.append(keys[starts])
        lengths.append(np.diff(np.append(starts, count)))
    runs = np.concatenate(firsts)
    unique, inverse = np.unique(runs, return_inverse=True)
    return unique, np.repeat(inverse.astype(np.int32), np.concatenate(lengths))


def integration_s(time_s: NDArray[np.float64], scan: NDArray[np.int64]) -> float:
    """Return the median spacing of the time stamps within scans, s; 0 when there is none.

    INTERVAL may disagree with the true spacing, so it is not asked.
    """
    steps = [np.diff(np.unique(time_s[scan == number])) for number in np.unique(scan)]
    spacing = np.concatenate(steps) if steps else np.empty(0)
    return float(np.median(spacing)) if spacing.size else 0.0


def _bins(
    keys: NDArray[Any], solint: float | Literal["int", "inf"], combine_scan: bool
) -> NDArray[np.int64]:
    """Time bin of each integration, counted from the first of its scan (or of all)."""
    if solint == "inf":
        return np.zeros(len(keys), np.int64)
    if solint == "int":
        return np.unique(keys["time"], return_inverse=True)[1].astype(np.int64)
    if combine_scan:
        start = np.full(len(keys), keys["time"].min())
    else:
        scans, inverse = np.unique(keys["scan"], return_inverse=True)
        first = np.full(len(scans), np.inf)
        np.minimum.at(first, inverse, keys["time"])
        start = first[inverse]
    elapsed = keys["time"] - start + BIN_LEAD_S
    return np.asarray(np.floor(elapsed / float(solint)), np.int64)


def find_intervals(
    opened: Any, solint: float | Literal["int", "inf"], combine_scan: bool
) -> Intervals:
    """Group the rows of a measurement set into solution intervals.

    One solution is made for each observation, field, time bin and, unless combined, scan. Bins
    start with the first integration of the scan, or of all data with combine scan.

    Parameters
    ----------
    opened : casacore table
        The main table; its rows may be in any order.
    solint : float or str
        As in `libs.calibration.SolveOptions`.
    combine_scan : bool
    """
    keys, row = _integrations(opened)
    group = np.empty(len(keys), [(name, "i8") for name in ("observation", "scan", "field", "bin")])
    group["observation"], group["field"] = keys["observation"], keys["field"]
    group["scan"] = 0 if combine_scan else keys["scan"]
    group["bin"] = _bins(keys, solint, combine_scan)
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    count = np.bincount(inverse)
    origin = keys["time"].min()
    mean = origin + np.bincount(inverse, keys["time"] - origin) / count
    last = np.full(len(first), -np.inf)
    np.maximum.at(last, inverse, keys["time"])
    begin = np.full(len(first), np.inf)
    np.minimum.at(begin, inverse, keys["time"])
    length = last - begin + integration_s(keys["time"], keys["scan"])
    order = np.argsort(mean, kind="stable")
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    return Intervals(
        time_s=mean[order],
        interval_s=length[order],
        scan=keys["scan"][first][order].astype(np.int64),
        field=keys["field"][first][order].astype(np.int64),
        observation=keys["observation"][first][order].astype(np.int64),
        row=place[inverse.astype(np.int32)][row],
    )
