"""Solution intervals of a measurement set: which rows share a solution, as gaincal groups them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.gains.solution_interval import SolutionInterval
from libs.ms.integration import integration_time_s
from libs.ms.rows import stretch_of, stretches
from libs.ms.tables import open_table

__all__ = ["Intervals", "find_intervals"]

# gaincal starts its time bins this much before the first integration of a scan, so that rounding
# of TIME never moves an integration across a bin's edge.
BIN_LEAD_S = 1e-3
_MOST_PARTS = 16
_KEYS = np.dtype([("observation", "i4"), ("scan", "i4"), ("field", "i4"), ("time", "f8")])


@dataclass(frozen=True)
class _Integrations:
    """Distinct (observation, scan, field, time) of a table, ascending.

    Attributes
    ----------
    keys : (nintegration,) of `_KEYS`
    columns : dict of str to str
        Columns that tell them apart: key and name.
    """

    keys: NDArray[Any]
    columns: dict[str, str]

    @classmethod
    def of(cls, opened: Any, combine_field: bool) -> _Integrations:
        """Find those of a table; with ``combine_field`` all fields are one."""
        columns = {"scan": "SCAN_NUMBER", "time": "TIME"}
        apart = [("observation", "OBSERVATION"), *([] if combine_field else [("field", "FIELD")])]
        for key, subtable in apart:
            with open_table(opened.getkeyword(subtable).removeprefix("Table: ")) as rows:
                if rows.nrows() > 1:  # otherwise every row has id 0
                    columns[key] = f"{subtable}_ID"
        found = cls(np.zeros(0, _KEYS), columns)
        parts: list[NDArray[Any]] = []
        for low, count in stretches(opened.nrows()):
            parts.append(np.unique(found.runs(opened, low, count)[1]))
            if len(parts) == _MOST_PARTS:  # stretches may repeat one another's
                parts = [np.unique(np.concatenate(parts))]
        return cls(np.unique(np.concatenate(parts)), columns)

    def runs(self, opened: Any, low: int, count: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return lengths and keys of runs of rows of one integration.

        Rows of one integration follow each other in nearly every data set, so that only runs
        need to be sorted.
        """
        keys = np.zeros(count, _KEYS)
        for name, column in self.columns.items():
            keys[name] = opened.getcol(column, low, count)
        change = np.zeros(count, bool)
        change[0] = True
        for name in self.columns:
            change[1:] |= keys[name][1:] != keys[name][:-1]
        starts = np.flatnonzero(change)
        return np.diff(np.append(starts, count)), keys[starts]


@dataclass
class _Stretch:
    """The stretch of rows that was asked for last, and the reach of all that ever were.

    Attributes
    ----------
    low, count : int
        First row and number of rows; 0 rows before any was asked for.
    row : (count,) int32
        Interval of each row.
    ends : dict of (int, int) to (int, int)
        First and last interval in a stretch, by its first row and number of rows.
    """

    low: int = 0
    count: int = 0
    row: NDArray[np.int32] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    ends: dict[tuple[int, int], tuple[int, int]] = dataclasses.field(default_factory=dict)


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
    integrations : _Integrations
        All of the table, ascending.
    place : (nintegration,) int32
        Interval of each.
    """

    time_s: NDArray[np.float64]
    interval_s: NDArray[np.float64]
    scan: NDArray[np.int64]
    field: NDArray[np.int64]
    observation: NDArray[np.int64]
    integrations: _Integrations
    place: NDArray[np.int32]
    _last: _Stretch = dataclasses.field(default_factory=_Stretch, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.time_s)

    def of_stretch(self, opened: Any, low: int, count: int) -> NDArray[np.int32]:
        """Return the interval of each of ``count`` rows from ``low`` on, (count,).

        Not held for all rows of a table, of which there may be any number, but for the last
        stretch asked for.
        """
        last = self._last
        if (last.low, last.count) != (low, count):
            lengths, keys = self.integrations.runs(opened, low, count)
            which = np.searchsorted(self.integrations.keys, keys)
            last.row = np.repeat(self.place[which], lengths)
            last.low, last.count = low, count
            last.ends[low, count] = int(last.row.min()), int(last.row.max())
        return last.row

    def within(self, opened: Any, low: int, count: int, ends: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which rows of a stretch are in the intervals from one up to another, (count,)."""
        seen = self._last.ends.get((low, count))
        if seen is not None and (seen[1] < ends[0] or seen[0] >= ends[1]):
            return np.zeros(count, bool)
        row = self.of_stretch(opened, low, count)
        return np.asarray((row >= ends[0]) & (row < ends[1]))

    def of_rows(self, opened: Any, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the interval of rows of one of `libs.ms.rows.stretches`, (nrow,)."""
        low, count = stretch_of(opened, int(rows[0]))
        return np.asarray(self.of_stretch(opened, low, count)[rows - low])


def _bins(keys: NDArray[Any], interval: SolutionInterval, combine_scan: bool) -> NDArray[np.int64]:
    """Time bin of each integration, counted from the first of its scan (or of all)."""
    if interval.per_scan:
        return np.zeros(len(keys), np.int64)
    if interval.per_integration:
        return np.unique(keys["time"], return_inverse=True)[1].astype(np.int64)
    if combine_scan:
        start = np.full(len(keys), keys["time"].min())
    else:
        scans, inverse = np.unique(keys["scan"], return_inverse=True)
        first = np.full(len(scans), np.inf)
        np.minimum.at(first, inverse, keys["time"])
        start = first[inverse]
    elapsed = keys["time"] - start + BIN_LEAD_S
    return np.asarray(np.floor(elapsed / interval.seconds), np.int64)


def find_intervals(
    opened: Any, interval: SolutionInterval, combine_scan: bool, combine_field: bool = False
) -> Intervals:
    """Group the rows of a measurement set into solution intervals.

    One solution is made for each observation, time bin and, unless combined, field and scan. Bins
    start with the first integration of the scan, or of all data with combine scan.

    Parameters
    ----------
    opened : casacore table
        The main table; its rows may be in any order.
    interval : SolutionInterval
    combine_scan : bool
        Scans share solutions; with one solution per scan there is then one in all.
    combine_field : bool
        Fields share solutions.
    """
    integrations = _Integrations.of(opened, combine_field)
    keys = integrations.keys
    group = np.empty(len(keys), [(name, "i8") for name in ("observation", "scan", "field", "bin")])
    group["observation"], group["field"] = keys["observation"], keys["field"]
    group["scan"] = 0 if combine_scan else keys["scan"]
    group["bin"] = _bins(keys, interval, combine_scan)
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    count = np.bincount(inverse)
    origin = keys["time"].min()
    mean = origin + np.bincount(inverse, keys["time"] - origin) / count
    last = np.full(len(first), -np.inf)
    np.maximum.at(last, inverse, keys["time"])
    begin = np.full(len(first), np.inf)
    np.minimum.at(begin, inverse, keys["time"])
    length = last - begin + integration_time_s(keys["time"], keys["scan"])
    order = np.argsort(mean, kind="stable")
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    return Intervals(
        time_s=mean[order],
        interval_s=length[order],
        scan=keys["scan"][first][order].astype(np.int64),
        field=keys["field"][first][order].astype(np.int64),
        observation=keys["observation"][first][order].astype(np.int64),
        integrations=integrations,
        place=place[inverse],
    )
