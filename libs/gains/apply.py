"""Native application of gain tables: CORRECTED_DATA, flags and weights, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.gains.apply_kernels import apply_gains
from libs.gains.interpolation import GainInterpolator, gains_for_rows
from libs.gains.solver import AppliedTable, ApplyResult
from libs.ms.columns import add_data_column, ensure_data_column
from libs.ms.kept_subtables import kept_subtables
from libs.ms.rows import RowBlock, read_block, row_blocks, write_block
from libs.ms.selection import RowChoice
from libs.ms.tables import open_table

__all__ = ["apply_tables"]

CHUNK_BYTES = 32 * 1024**2
_FEED = {"R": 0, "L": 1, "X": 0, "Y": 1}


@dataclass(frozen=True)
class _Layout:
    """Facts of the data that every block needs."""

    nant: int
    spw_of: NDArray[Any]
    feeds: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]
    channel_hz: tuple[NDArray[np.float64], ...]


def _layout(ms: Path) -> _Layout:
    found = kept_subtables(ms)
    feeds = tuple(_feeds(setup.correlations) for setup in found.setup_of)
    return _Layout(len(found.antennas), found.spw_of, feeds, found.channel_hz)


def _feeds(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which gain each correlation takes from its first and second antenna."""
    if len(names) == 1:  # scalar data take the first gain, whatever their feed, as in CASA
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    first = [_FEED.get(name[0], 0) for name in names]
    second = [_FEED.get(name[-1], 0) for name in names]
    return np.array(first, np.int64), np.array(second, np.int64)


def apply_tables(
    ms: Path,
    tables: Sequence[AppliedTable],
    *,
    calwt: bool = False,
    flag_unsolved: bool = True,
    rows: RowChoice | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> ApplyResult:
    """Divide DATA by the product of the gains of tables, as applycal does.

    Parameters
    ----------
    ms : Path
        CORRECTED_DATA is created when missing.
    tables : sequence of AppliedTable
    calwt : bool
        Weights become those of SIGMA times the squared gains.
    flag_unsolved : bool
        Flag visibilities without a solution (applymode ``calflag``); otherwise a missing gain
        counts as 1 (``calonly``).
    rows : RowChoice, optional
        Rows that are written; the others keep what they have, or get DATA in a CORRECTED_DATA
        that was missing. Default all.
    chunk_bytes : int
        Most memory for a chunk of data.

    Raises
    ------
    InputError
        A table is not one of complex gains, or not for this array.
    """
    start = time.monotonic()
    layout = _layout(ms)
    interpolators = [GainInterpolator.open(item, layout.channel_hz) for item in tables]
    for item in interpolators:
        if len(item.table.antenna) != layout.nant:
            raise InputError(
                f"a table has {len(item.table.antenna)} antennas, {ms} has {layout.nant}",
                "apply tables to the data set they were solved on",
            )
    rows = rows or RowChoice()
    if rows.everything:
        add_data_column(ms, "CORRECTED_DATA")  # every row is written presently
    else:
        ensure_data_column(ms, "CORRECTED_DATA", copy="DATA")
    before = after = total = 0
    buffer: dict[str, Any] = {}
    with open_table(ms, write=True) as opened:

        def most_rows(number: int, first: NDArray[np.int64]) -> int:
            shape = opened.getcell("DATA", int(first[0])).shape
            return chunk_bytes // (int(np.prod(shape)) * 22 + 64)

        for block in row_blocks(opened, most_rows, None if rows.everything else rows):
            found = _apply_block(opened, block, layout, interpolators, calwt, flag_unsolved, buffer)
            before, after, total = before + found[0], after + found[1], total + found[2]
    share = max(total, 1)
    return ApplyResult(before / share, after / share, time.monotonic() - start)


def _apply_block(
    opened: Any,
    block: RowBlock,
    layout: _Layout,
    interpolators: Sequence[GainInterpolator],
    calwt: bool,
    flag_unsolved: bool,
    buffer: dict[str, Any],
) -> tuple[int, int, int]:
    """Correct one block; returns its flagged visibilities before and after, and all."""
    spw = int(layout.spw_of[block.data_desc_id])
    data = read_block(opened, "DATA", block, buffer)
    flag = read_block(opened, "FLAG", block, buffer)
    flag_row = read_block(opened, "FLAG_ROW", block, buffer)
    before = _count_flagged(flag, flag_row)
    first, second = layout.feeds[block.data_desc_id]
    npol = 2 if len(first) > 1 else 1
    stamps = read_block(opened, "TIME", block, buffer)
    found = gains_for_rows(interpolators, spw, layout.channel_hz[spw], stamps, layout.nant, npol)
    if found is None or not len(found[2]):
        write_block(opened, "CORRECTED_DATA", block, data)
        return before, before, flag.size
    gains, solved, row = found
    weights = _base_weights(opened, block, buffer) if calwt else np.empty((0, 0, 0), np.float32)
    corrected = buffer.get("corrected")
    if corrected is None or corrected.shape[1:] != data.shape[1:] or len(corrected) < len(data):
        corrected = buffer["corrected"] = np.empty(data.shape, np.complex64)
    corrected = corrected[: len(data)]
    apply_gains(
        data, flag, weights, read_block(opened, "ANTENNA1", block, buffer),
        read_block(opened, "ANTENNA2", block, buffer), row, gains, solved, first, second,
        flag_unsolved, corrected,
    )  # fmt: skip
    write_block(opened, "CORRECTED_DATA", block, corrected)
    after = _count_flagged(flag, flag_row)
    if flag_unsolved and after != before:
        write_block(opened, "FLAG", block, flag)
    if calwt:
        _write_weights(opened, block, weights)
    return before, after, flag.size


def _count_flagged(flag: NDArray[np.bool_], flag_row: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(flag | flag_row[:, None, None]))


def _base_weights(opened: Any, block: RowBlock, buffer: dict[str, Any]) -> NDArray[np.float32]:
    """Weights (row, chan or 1, corr) before calibration: 1 / sigma^2, 0 where sigma is not > 0."""
    first = int(block.rows[0])
    spectral = "SIGMA_SPECTRUM" in opened.colnames() and opened.iscelldefined(
        "SIGMA_SPECTRUM", first
    )
    sigma = read_block(opened, "SIGMA_SPECTRUM" if spectral else "SIGMA", block, buffer)
    sigma = sigma if sigma.ndim == 3 else sigma[:, None, :]
    good = np.isfinite(sigma) & (sigma > 0)
    return np.divide(1.0, sigma**2, out=np.zeros(sigma.shape, np.float32), where=good)


def _write_weights(opened: Any, block: RowBlock, weights: NDArray[np.float32]) -> None:
    """WEIGHT_SPECTRUM, when there is one, and WEIGHT: its median over channels."""
    first = int(block.rows[0])
    name = "WEIGHT_SPECTRUM"
    if name in opened.colnames() and opened.iscelldefined(name, first):
        channels = opened.getcell(name, first).shape[0]
        shape = (len(weights), channels, weights.shape[2])
        write_block(opened, name, block, np.ascontiguousarray(np.broadcast_to(weights, shape)))
    write_block(opened, "WEIGHT", block, np.median(weights, axis=1).astype(np.float32))
