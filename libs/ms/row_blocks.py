"""Rows of a measurement set in blocks of one shape and bounded size, read into reused arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.tables import RowFilter, open_table, stretches

__all__ = ["RowBlock", "read_block", "row_blocks", "row_sets", "write_block"]

# Runs shorter than this are faster read through a reference table than one by one.
_SHORT_RUN = 8


@dataclass(frozen=True)
class RowBlock:
    """Rows of one data description, as runs of consecutive rows.

    Attributes
    ----------
    data_desc_id : int
    rows : (nrow,) int64
        Row numbers, increasing.
    starts, counts : (nrun,) int64
        The same rows as runs.
    """

    data_desc_id: int
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]


def _block(data_desc_id: int, rows: NDArray[np.int64]) -> RowBlock:
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = np.concatenate([[0], breaks, [len(rows)]])
    return RowBlock(data_desc_id, rows, rows[edges[:-1]], np.diff(edges))


def _data_desc_ids(opened: Any) -> Callable[[int, int], NDArray[np.int32]]:
    """Return what reads DATA_DESC_ID of a stretch; not read where the data set has only one."""
    path = opened.getkeyword("DATA_DESCRIPTION").removeprefix("Table: ")
    with open_table(path) as descriptions:
        if descriptions.nrows() == 1:
            return lambda low, count: np.zeros(count, np.int32)
    return lambda low, count: np.asarray(opened.getcol("DATA_DESC_ID", low, count), np.int32)


def row_sets(
    opened: Any, wanted: RowFilter | None = None
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the rows of each data description of a stretch, then those of the next stretch.

    Parameters
    ----------
    opened : casacore table
        The main table of a measurement set; its rows may be in any order.
    wanted : callable, optional
        (table, first row, number of rows) -> (n,) bool: rows that take part; default all. It is
        asked once for each of `libs.ms.tables.stretches`, in their order.

    Yields
    ------
    data_desc_id : int
    rows : (nrow,) int64
        Increasing.
    """
    ids_of = _data_desc_ids(opened)
    for low, count in stretches(opened.nrows()):
        some = np.ones(count, bool) if wanted is None else wanted(opened, low, count)
        if not some.any():
            continue
        ids = ids_of(low, count)
        for ddid in np.unique(ids[some]).tolist():
            yield ddid, low + np.flatnonzero((ids == ddid) & some)


def row_blocks(
    opened: Any,
    max_rows: Callable[[int, NDArray[np.int64]], int],
    wanted: RowFilter | None = None,
) -> Iterator[RowBlock]:
    """Cut a table into blocks of one data description each, none of more than one stretch.

    Parameters
    ----------
    opened : casacore table
        As for `row_sets`.
    max_rows : callable
        (data description, its rows in the first stretch that has any) -> most rows in a block.
    wanted : callable, optional
        As for `row_sets`.
    """
    limits: dict[int, int] = {}
    for ddid, rows in row_sets(opened, wanted):
        if ddid not in limits:
            limits[ddid] = max(1, max_rows(ddid, rows))
        for start in range(0, len(rows), limits[ddid]):
            yield _block(ddid, rows[start : start + limits[ddid]])


def read_block(opened: Any, name: str, block: RowBlock, buffer: dict[str, Any]) -> NDArray[Any]:
    """Read a column of a block.

    Parameters
    ----------
    opened : casacore table
    name : str
        Column.
    block : RowBlock
    buffer : dict
        Arrays kept between calls, by column; the result is a view of one of them and holds
        until the next call with the same column and buffer.

    Returns
    -------
    (nrow, ...) array
        In (row, chan, corr) order.
    """
    if len(block.starts) * _SHORT_RUN > len(block.rows):
        return np.asarray(opened.selectrows(block.rows).getcol(name))
    first = np.asarray(opened.getcell(name, int(block.starts[0])))
    if first.ndim == 0 or first.dtype.kind not in "cfb":
        return _scalars(opened, name, block)
    whole = _array_for(buffer, name, (len(block.rows), *first.shape), first.dtype)
    offset = 0
    for start, count in zip(block.starts.tolist(), block.counts.tolist(), strict=True):
        opened.getcolnp(name, whole[offset : offset + count], start, count)
        offset += count
    return whole


def _scalars(opened: Any, name: str, block: RowBlock) -> NDArray[Any]:
    """Read a column of single values, whose type only a column read tells."""
    runs = zip(block.starts.tolist(), block.counts.tolist(), strict=True)
    parts = [np.asarray(opened.getcol(name, start, count)) for start, count in runs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _array_for(
    buffer: dict[str, Any], name: str, shape: tuple[int, ...], dtype: Any
) -> NDArray[Any]:
    kept = buffer.get(name)
    if kept is None or kept.dtype != dtype or kept.shape[1:] != shape[1:] or len(kept) < shape[0]:
        kept = np.empty(shape, dtype)
        buffer[name] = kept
    return kept[: shape[0]]


def write_block(opened: Any, name: str, block: RowBlock, values: NDArray[Any]) -> None:
    """Write a column of a block; ``values`` as `read_block` returns them."""
    if len(block.starts) * _SHORT_RUN > len(block.rows):
        opened.selectrows(block.rows).putcol(name, values)
        return
    offset = 0
    for start, count in zip(block.starts.tolist(), block.counts.tolist(), strict=True):
        opened.putcol(name, values[offset : offset + count], start, count)
        offset += count
