"""Rows of a measurement set in blocks of one shape and bounded size, read into reused arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.tables import open_table, stretches

__all__ = ["RowBlock", "data_desc_ids", "first_rows", "read_block", "row_blocks", "write_block"]

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


def data_desc_ids(opened: Any) -> NDArray[np.int32]:
    """Return DATA_DESC_ID of every row; not read where the data set has only one."""
    path = opened.getkeyword("DATA_DESCRIPTION").removeprefix("Table: ")
    with open_table(path) as descriptions:
        if descriptions.nrows() == 1:
            return np.zeros(opened.nrows(), np.int32)
    return np.asarray(opened.getcol("DATA_DESC_ID"), np.int32)


def first_rows(
    data_desc_id: NDArray[Any], wanted: NDArray[np.bool_] | None = None
) -> dict[int, NDArray[np.int64]]:
    """Return rows of each data description that occurs: those of the first slab that has any.

    Parameters
    ----------
    data_desc_id : (nrow,) int
        Of every row of the table.
    wanted : (nrow,) bool, optional
        Rows that take part; default all.
    """
    found: dict[int, NDArray[np.int64]] = {}
    for low, count in stretches(len(data_desc_id)):
        ids = data_desc_id[low : low + count]
        if wanted is not None:
            ids = np.where(wanted[low : low + count], ids, -1)
        for number in np.unique(ids[ids >= 0]).tolist():
            if number not in found:
                found[number] = low + np.flatnonzero(ids == number)
    return found


def row_blocks(
    data_desc_id: NDArray[Any],
    max_rows: dict[int, int],
    wanted: NDArray[np.bool_] | None = None,
) -> Iterator[RowBlock]:
    """Cut a table into blocks of one data description each.

    Parameters
    ----------
    data_desc_id : (nrow,) int
        Of every row of the table.
    max_rows : dict
        Most rows in a block, by data description.
    wanted : (nrow,) bool, optional
        Rows that take part; default all.
    """
    for low, count in stretches(len(data_desc_id)):
        ids = data_desc_id[low : low + count]
        some = np.ones(count, bool) if wanted is None else wanted[low : low + count]
        for ddid in np.unique(ids[some]):
            rows = low + np.flatnonzero((ids == ddid) & some)
            step = max(1, max_rows[int(ddid)])
            for start in range(0, len(rows), step):
                yield _block(int(ddid), rows[start : start + step])


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
