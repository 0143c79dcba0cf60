"""Time stamps of a measurement set and their rows, found in one pass over small columns.

Passes over the data in order of time need no more than this. It grows with the number of
integrations and not with the number of baselines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.files import replacing
from libs.ms.rows import stretches
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = [
    "TimeSurvey",
    "first_of_stamps",
    "read_survey",
    "rows_by_slot",
    "survey_times",
    "write_survey",
]

_NAMES = ("TIME", "SCAN_NUMBER", "DATA_DESC_ID", "FIELD_ID", "INTERVAL")


@dataclass(frozen=True)
class TimeSurvey:
    """Time stamps of the field of the first row, and properties of all rows.

    Attributes
    ----------
    time_s : (ntime,) float64
        Distinct TIME of the field's rows, MJD seconds, increasing.
    scan : (ntime,) int64
        SCAN_NUMBER of the first row of each stamp.
    interval_s : (ntime,) float64
        INTERVAL of the first row of each stamp, s.
    rows : (ntime, nddid) int64
        Number of the field's rows of each stamp, by data description.
    first, last : (ntime,) int64
        First and last of these rows.
    field_id : int
        FIELD_ID of the first row.
    field_ids, ddids : (n,) int64
        Distinct FIELD_ID and DATA_DESC_ID of all rows.
    median_interval_s : float
        Median INTERVAL of all rows.
    in_order : bool
        True when TIME never decreases from one row to the next.
    """

    time_s: NDArray[np.float64]
    scan: NDArray[np.int64]
    interval_s: NDArray[np.float64]
    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    field_id: int
    field_ids: NDArray[np.int64]
    ddids: NDArray[np.int64]
    median_interval_s: float
    in_order: bool

    @property
    def spacing_s(self) -> float:
        """Median spacing of the time stamps, s; 0 for a single one."""
        return float(np.median(np.diff(self.time_s))) if len(self.time_s) > 1 else 0.0


def survey_times(ms: Path) -> TimeSurvey:
    """Return the time stamps of a measurement set, from one pass over it.

    Raises
    ------
    InputError
        The path is not a measurement set, or it has no rows.
    """
    pieces: list[tuple[NDArray[Any], ...]] = []
    ids: dict[str, NDArray[np.int64]] = {
        name: np.zeros(0, np.int64) for name in ("FIELD_ID", "DATA_DESC_ID")
    }
    lengths, counts = np.zeros(0), np.zeros(0, np.int64)
    in_order, latest = True, -np.inf
    known = len(Subtables(ms).spw_of)
    with open_table(ms) as opened:
        if not opened.nrows():
            raise InputError(f"{ms} has no rows", "check the selection that made it")
        field_id = int(opened.getcell("FIELD_ID", 0))
        for low, count in stretches(opened.nrows()):
            columns = {name: np.asarray(opened.getcol(name, low, count)) for name in _NAMES}
            time = columns["TIME"]
            in_order &= bool(time[0] >= latest) and not bool((np.diff(time) < 0).any())
            latest = float(time[-1])
            own = np.flatnonzero(columns["FIELD_ID"] == field_id)
            for name in ("FIELD_ID", "DATA_DESC_ID"):
                ids[name] = np.union1d(ids[name], columns[name]).astype(np.int64)
            lengths, counts = _tally(lengths, counts, columns["INTERVAL"])
            if len(own):
                pieces.append(_stamps(columns, own, low, known))
    found = _joined(pieces)
    return TimeSurvey(
        **found, field_id=field_id, field_ids=ids["FIELD_ID"], ddids=ids["DATA_DESC_ID"],
        median_interval_s=_weighted_median(lengths, counts), in_order=in_order,
    )  # fmt: skip


def first_of_stamps(opened: Any, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the distinct TIME of all rows, and other columns of the first row of each stamp.

    Parameters
    ----------
    opened : casacore table
        The main table of a measurement set.
    names : sequence of str
        Columns of single values.

    Returns
    -------
    dict of str to (ntime,) arrays
        TIME, increasing, and the columns asked for.
    """
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in ("TIME", *names)}
    for low, count in stretches(opened.nrows()):
        time, first = np.unique(opened.getcol("TIME", low, count), return_index=True)
        found["TIME"].append(time)
        for name in names:
            found[name].append(np.asarray(opened.getcol(name, low, count))[first])
    columns = {name: np.concatenate(parts or [np.zeros(0)]) for name, parts in found.items()}
    _, first = np.unique(columns["TIME"], return_index=True)
    return {name: values[first] for name, values in columns.items()}


def _stamps(
    columns: dict[str, NDArray[Any]], own: NDArray[np.int64], low: int, known: int
) -> tuple[NDArray[Any], ...]:
    """Return time, scan, interval, row count, first and last row of each stamp of a stretch."""
    time, first, place = np.unique(columns["TIME"][own], return_index=True, return_inverse=True)
    cell = place * known + columns["DATA_DESC_ID"][own]
    rows = np.bincount(cell, minlength=len(time) * known).reshape(len(time), known)
    last = np.zeros(len(time), np.int64)
    np.maximum.at(last, place, own)
    start = own[first]
    scan, interval = columns["SCAN_NUMBER"][start], columns["INTERVAL"][start]
    return time, scan, interval, rows, low + start, low + last


def _joined(pieces: list[tuple[NDArray[Any], ...]]) -> dict[str, NDArray[Any]]:
    """Join the stamps of stretches, which come in the order of rows."""
    time, scan, interval, rows, first, last = (
        np.concatenate(parts) for parts in zip(*pieces, strict=True)
    )
    unique, earliest, place = np.unique(time, return_index=True, return_inverse=True)
    total, end = np.zeros((len(unique), rows.shape[1]), np.int64), np.zeros(len(unique), np.int64)
    np.add.at(total, place, rows)
    np.maximum.at(end, place, last)
    return {
        "time_s": unique, "scan": scan[earliest].astype(np.int64),
        "interval_s": interval[earliest].astype(np.float64), "rows": total,
        "first": first[earliest].astype(np.int64), "last": end,
    }  # fmt: skip


def _tally(
    values: NDArray[np.float64], counts: NDArray[np.int64], more: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Add values to the distinct ones, and count how often each occurred."""
    new, often = np.unique(more, return_counts=True)
    union, place = np.unique(np.concatenate([values, new]), return_inverse=True)
    total = np.zeros(len(union), np.int64)
    np.add.at(total, place, np.concatenate([counts, often]))
    return union, total


def _weighted_median(values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Return the lower median of values that occurred several times."""
    return float(values[np.searchsorted(np.cumsum(counts), 0.5 * counts.sum())])


def write_survey(path: Path, survey: TimeSurvey) -> None:
    """Write a survey for other processes; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as stream:
        np.savez(stream, **asdict(survey))


def read_survey(path: Path) -> TimeSurvey:
    """Read a survey written by `write_survey`.

    Raises
    ------
    InputError
        The file does not exist or is not a survey.
    """
    try:
        with np.load(path) as stored:
            values: dict[str, Any] = {
                field.name: stored[field.name] for field in fields(TimeSurvey)
            }
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a survey of time stamps ({error})", "remove it") from error
    for name, kind in (("field_id", int), ("median_interval_s", float), ("in_order", bool)):
        values[name] = kind(values[name])
    return TimeSurvey(**values)


# -- rows, some integrations at a time ------------------------------------------------------------

# Rows with a wanted stamp may lie among others. Looking that many times at each row is cheaper
# than an index of all rows.
_MOST_LOOKS = 4


def rows_by_slot(
    opened: Any, survey: TimeSurvey, slot: NDArray[np.int64], most: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the field's rows in pieces of whole slots of time.

    If the data are in order of time, or nearly so, only a piece's rows are held in memory.
    Otherwise the order of all rows is kept, 8 bytes for each.

    Parameters
    ----------
    opened : casacore table
        The main table of the measurement set.
    survey : TimeSurvey
    slot : (ntime,) int64
        Slot of each time stamp: 0, 1, 2..., not decreasing.
    most : int
        Most rows of a piece; a slot with more rows is a piece of its own.

    Yields
    ------
    rows : (nrow,) int64
        Row numbers, increasing.
    slots : (nrow,) int64
        Slot of each row.
    """
    starts = np.flatnonzero(np.diff(slot, prepend=-1))
    edges = np.concatenate([[0], np.cumsum(np.add.reduceat(survey.rows.sum(axis=1), starts))])
    first = np.minimum.reduceat(survey.first, starts)
    last = np.maximum.reduceat(survey.last, starts)
    pieces = list(_pieces(edges, most))
    spans = [(int(first[a:b].min()), int(last[a:b].max()) + 1) for a, b in pieces]
    if sum(end - low for low, end in spans) <= _MOST_LOOKS * opened.nrows():
        for (a, b), (low, end) in zip(pieces, spans, strict=True):
            yield _within(opened, survey, slot, (a, b), (low, end))
        return
    order = _order(opened, survey, slot, edges)
    for a, b in pieces:
        rows = np.sort(order[edges[a] : edges[b]])
        part = opened.selectrows(rows)
        yield rows, slot[np.searchsorted(survey.time_s, part.getcol("TIME"))]
        part.close()


def _pieces(edges: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Yield first slot and the one past the last of pieces with at most so many rows."""
    low, count = 0, len(edges) - 1
    while low < count:
        high = max(low + 1, int(np.searchsorted(edges, edges[low] + most, side="right")) - 1)
        yield low, high
        low = high


def _within(
    opened: Any,
    survey: TimeSurvey,
    slot: NDArray[np.int64],
    wanted: tuple[int, int],
    span: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the field's rows of some slots, and their slots, from a stretch of the table."""
    found = []
    for low, count in stretches(span[1] - span[0]):
        start = span[0] + low
        here = _slots(opened, survey, slot, start, count)
        own = np.flatnonzero((here >= wanted[0]) & (here < wanted[1]))
        found.append((start + own, here[own]))
    rows, slots = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, slots


def _slots(
    opened: Any, survey: TimeSurvey, slot: NDArray[np.int64], low: int, count: int
) -> NDArray[np.int64]:
    """Return the slot of each row of a stretch, -1 for rows of other fields."""
    time = opened.getcol("TIME", low, count)
    place = np.minimum(np.searchsorted(survey.time_s, time), len(slot) - 1)
    own = opened.getcol("FIELD_ID", low, count) == survey.field_id
    return np.where(own, slot[place], -1)


def _order(
    opened: Any, survey: TimeSurvey, slot: NDArray[np.int64], edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the field's rows in order of slot."""
    order = np.empty(int(edges[-1]), np.int64)
    filled = edges[:-1].copy()
    for low, count in stretches(opened.nrows()):
        here = _slots(opened, survey, slot, low, count)
        rows = np.argsort(here, kind="stable")
        rows = rows[np.searchsorted(here[rows], 0) :]
        members = np.bincount(here[rows], minlength=len(filled))
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(members) - members, members)
        order[filled[here[rows]] + rank] = low + rows
        filled += members
    return order
