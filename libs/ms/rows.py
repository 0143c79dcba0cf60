"""Rows of a measurement set: read and written in chunks and blocks of bounded memory.

`chunks` reads columns into new arrays; `row_blocks` with `read_block` reads them into arrays that
are used again, for passes over all of the data. Both go through stretches of `SLAB_ROWS` rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = [
    "Chunk",
    "RowBlock",
    "RowFilter",
    "chunks",
    "distinct",
    "put_rows",
    "read_block",
    "read_column",
    "read_rows",
    "row_blocks",
    "row_pieces",
    "row_sets",
    "sample_baselines",
    "stretch_of",
    "stretches",
    "write_block",
    "write_rows",
]

CHUNK_BYTES = 32 * 1024**2  # the arrays derived from a chunk take several times as much
SLAB_ROWS = 2**20  # rows whose numbers and ids are held at once
RowFilter = Callable[[Any, int, int], NDArray[np.bool_]]
_ENDS = ("ANTENNA1", "ANTENNA2")
_SHORT_RUN = 32  # rows; runs shorter than this are faster read through a selection
# the same limit where a run is read into an array that exists already
_SHORT_BLOCK_RUN = 8


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a measurement set that share one data description.

    Attributes
    ----------
    rows : (nrow,) int64
        Row numbers.
    data_desc_id, spw : int
        Their data description and spectral window.
    columns : dict of str to array
        Values of the columns asked for; the first axis is the row.
    """

    rows: NDArray[np.int64]
    data_desc_id: int
    spw: int
    columns: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]


def _row_bytes(opened: Any, names: Sequence[str], first_row: int) -> int:
    total = 0
    for name in names:
        cell = opened.getcell(name, first_row) if opened.iscelldefined(name, first_row) else 0.0
        total += np.asarray(cell).nbytes
    return max(total, 1)


def chunks(
    path: str | Path,
    names: Sequence[str],
    *,
    max_bytes: int = CHUNK_BYTES,
    where: str | RowFilter = "",
) -> Iterator[Chunk]:
    """Read columns of a measurement set in chunks of one spectral window each.

    Parameters
    ----------
    path : path
        The measurement set.
    names : sequence of str
        Columns to read.
    max_bytes : int
        Upper bound of the bytes read for one chunk.
    where : str or callable
        Rows to read: a TaQL condition, empty for all; or a function (table, first row, number of
        rows) -> (n,) bool.

    Yields
    ------
    Chunk
        Chunks in order of data description within each `SLAB_ROWS` rows, then in row order.
    """
    spw_of = Subtables(path).spw_of
    with open_table(path) as opened:
        for ddid, rows in row_pieces(opened, names, max_bytes=max_bytes, where=where):
            yield Chunk(rows, ddid, int(spw_of[ddid]), read_rows(opened, names, rows))


def row_pieces(
    opened: Any,
    names: Sequence[str],
    *,
    max_bytes: int = CHUNK_BYTES,
    where: str | RowFilter = "",
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield data description and row numbers of pieces whose columns fit in ``max_bytes``.

    Parameters
    ----------
    opened : casacore table
        The main table of a measurement set.
    names, max_bytes, where
        As in `chunks`; only DATA_DESC_ID and the columns of the condition are read.
    """
    for low, count in stretches(opened.nrows()):
        ids = opened.getcol("DATA_DESC_ID", low, count)
        wanted = _condition(opened, where, low, count)
        for ddid in np.unique(ids[wanted]).tolist():
            rows = low + np.flatnonzero((ids == ddid) & wanted)
            step = max(1, max_bytes // _row_bytes(opened, names, int(rows[0])))
            for start in range(0, len(rows), step):
                yield ddid, rows[start : start + step]


def _condition(opened: Any, where: str | RowFilter, low: int, count: int) -> NDArray[np.bool_]:
    """Return which rows of a slab are wanted."""
    if callable(where):
        return where(opened, low, count)
    if not where:
        return np.ones(count, bool)
    slab = opened.selectrows(np.arange(low, low + count))
    wanted = np.asarray(slab.calc(where), bool)
    slab.close()
    return wanted


def read_rows(
    opened: Any, names: Sequence[str], rows: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return columns of some rows, (nrow,) increasing; long runs are read without a selection."""
    runs = _runs(rows)
    if not runs:
        part = opened.selectrows(rows)
        columns = {name: part.getcol(name) for name in names}
        part.close()
        return columns
    columns = {}
    for name in names:
        parts = [opened.getcol(name, first, count) for first, count in runs]
        columns[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return columns


def read_column(opened: Any, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return a column of some rows, (nrow,) increasing."""
    return np.asarray(read_rows(opened, (name,), rows)[name])


def _runs(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return first row and length of runs of consecutive rows; none where a selection is faster."""
    starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
    if len(starts) * _SHORT_RUN > len(rows):
        return [(int(rows[0]), len(rows))] if len(starts) == 1 else []
    lengths = np.diff(starts, append=len(rows))
    return list(zip(rows[starts].tolist(), lengths.tolist(), strict=True))


def put_rows(path: str | Path, rows: NDArray[np.int64], columns: dict[str, NDArray[Any]]) -> None:
    """Write columns of some rows of a measurement set.

    Parameters
    ----------
    path : path
        The measurement set, a working copy.
    rows : (nrow,) int64
        Row numbers.
    columns : dict of str to array
        Values; the first axis is the row.
    """
    with open_table(path, write=True) as opened:
        write_rows(opened, rows, columns)


def write_rows(opened: Any, rows: NDArray[np.int64], columns: dict[str, NDArray[Any]]) -> None:
    """Write columns of some rows, (nrow,) increasing, of a table that is open for writing."""
    runs = _runs(rows)
    if not runs:
        part = opened.selectrows(rows)
        for name, values in columns.items():
            part.putcol(name, values)
        part.close()
    for name, values in columns.items():
        place = 0
        for first, count in runs:
            opened.putcol(name, values[place : place + count], first, count)
            place += count


def stretches(rows: int) -> Iterator[tuple[int, int]]:
    """Yield first row and number of rows of pieces of a table, so that columns fit in memory."""
    most = SLAB_ROWS
    for low in range(0, rows, most):
        yield low, min(most, rows - low)


def stretch_of(opened: Any, row: int) -> tuple[int, int]:
    """Return first row and number of rows of that stretch of `stretches` that holds a row."""
    low = row // SLAB_ROWS * SLAB_ROWS
    return low, min(SLAB_ROWS, opened.nrows() - low)


def distinct(opened: Any, name: str) -> NDArray[Any]:
    """Return the sorted distinct values of a column of single values."""
    values: NDArray[Any] = np.empty(0)
    for number, (low, count) in enumerate(stretches(opened.nrows())):
        part = np.unique(opened.getcol(name, low, count))
        values = np.union1d(values, part) if number else part
    return values


def sample_baselines(opened: Any, names: Sequence[str], most: int = 32) -> dict[str, NDArray[Any]]:
    """Return columns of all rows, or of some baselines' rows where there are millions of rows.

    The size of the result grows with the length of the observation only, not with the antennas.

    Parameters
    ----------
    opened : casacore table
        The main table of a measurement set.
    names : sequence of str
        Columns of single values.
    most : int
        Most baselines taken from a large table, spread over those at its start.

    Returns
    -------
    dict of str to (n,) arrays
    """
    chosen: NDArray[np.int64] | None = None
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for low, count in stretches(opened.nrows()):
        ends = [opened.getcol(name, low, count).astype(np.int64) for name in _ENDS]
        pair = ends[0] * 2**32 + ends[1]
        if chosen is None and opened.nrows() > SLAB_ROWS:
            pairs = np.unique(pair)
            # at most SLAB_ROWS rows in all, where one baseline has fewer
            most = max(1, min(most, SLAB_ROWS * len(pairs) // opened.nrows()))
            chosen = pairs[np.unique(np.linspace(0, len(pairs) - 1, most).astype(int))]
        for name in names:
            values = opened.getcol(name, low, count)
            parts[name].append(values if chosen is None else values[np.isin(pair, chosen)])
    return {name: np.concatenate(values) for name, values in parts.items()}


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
    """Return a reader of DATA_DESC_ID of a stretch; it reads nothing where there is only one id."""
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
        Function (table, first row, number of rows) -> (n,) bool that chooses rows; default all.
        It is called once for each of `stretches`, in their order.

    Yields
    ------
    data_desc_id : int
    rows : (nrow,) int64
        Row numbers, increasing.
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
    """Cut a table into blocks of one data description, each within one stretch.

    Parameters
    ----------
    opened : casacore table
        As in `row_sets`.
    max_rows : callable
        Function (data description, its rows in the first stretch that has any) -> most rows in a
        block.
    wanted : callable, optional
        As in `row_sets`.
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
        Name of the column.
    block : RowBlock
    buffer : dict
        Arrays kept between calls, by column. The result is a view of one of them and is valid
        until the next call with the same column and buffer.

    Returns
    -------
    (nrow, ...) array
        Values in (row, channel, correlation) order.
    """
    if len(block.starts) * _SHORT_BLOCK_RUN > len(block.rows):
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
    """Read a column of single values, whose type is known only after a read."""
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
    """Write a column of a block; ``values`` are laid out as `read_block` returns them."""
    if len(block.starts) * _SHORT_BLOCK_RUN > len(block.rows):
        opened.selectrows(block.rows).putcol(name, values)
        return
    offset = 0
    for start, count in zip(block.starts.tolist(), block.counts.tolist(), strict=True):
        opened.putcol(name, values[offset : offset + count], start, count)
        offset += count
