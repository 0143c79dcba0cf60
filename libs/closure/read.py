"""Averaged baseline visibilities for closure quantities, read from a measurement set."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities, time_blocks
from libs.core.errors import InputError
from libs.ms.rows import Chunk, chunks
from libs.ms.subtables import PolarizationSetup, Subtables
from libs.ms.summary import MsSummary, summarise
from libs.ms.tables import open_table

__all__ = ["BLOCK_FRACTION", "hands_are_copies", "read_visibilities"]

log = logging.getLogger(__name__)

Float = NDArray[np.float64]

BLOCK_FRACTION = 0.02  # widest frequency block, as a fraction of its frequency
_CHUNK_BYTES = 8 * 1024**2
# Limit on averages held, at the integrations of the data and at the intervals of the closures.
# Beyond it, evenly spread stretches of the observation are read; so many closure quantities
# are enough.
_MOST_CELLS, _MOST_AVERAGES = 4e6, 1e6
_STRETCH_S = 600.0
_MIN_DIFFERENCES = 30  # fewer do not determine the noise


@dataclass
class _Grid:
    """Sums over the rows in each cell; nblock counts frequency blocks and hands."""

    stamps: Float  # all times of the data
    block_of_stamp: NDArray[np.int64]
    baseline: NDArray[np.int64]  # (nant, nant), -1 where there is none
    value: NDArray[np.complex128]  # (nbl, nblock, ntime)
    weight: Float
    uvw: Float  # (nbl, ntime, 3), sums
    rows: Float  # (nbl, ntime)
    noise: Float  # (nbl, 2): sum of squared channel differences in units of the weights, count


def read_visibilities(
    ms: str | Path,
    *,
    column: str = "DATA",
    field: int | None = None,
    spws: Collection[int] = (),
    average_s: float = 0.0,
    block_hz: float = 0.0,
    combine_hands: bool | None = None,
    stations: Collection[str] = (),
    noise_from_data: bool = True,
    interval_s: float = 60.0,
    most_cells: float = _MOST_CELLS,
) -> BaselineVisibilities:
    """Read parallel hands with their noise, averaged over channels (and ``average_s``).

    Memory is bounded: evenly spread stretches of time are read of large data, see ``most_cells``.

    Parameters
    ----------
    ms : path
        Measurement set.
    column : str
        Column to read, ``DATA`` or ``CORRECTED_DATA``.
    field : int, optional
        Field id; default: the first one used.
    spws : collection of int
        Spectral windows; default: all.
    average_s : float
        Averaging before closure quantities are formed, s; shorter than the phases change.
    block_hz : float
        Widest frequency block, Hz; default 2 % of the frequency, and never more than one spw.
    combine_hands : bool, optional
        True averages both parallel hands, for data whose hands agree in phase. Otherwise each hand
        is a block of its own, because closures of a mixture of two phases do not close. Default:
        True when the hands are copies of one another (`hands_are_copies`).
    stations : collection of str
        Stations to read; default: all.
    noise_from_data : bool
        True scales the noise of each baseline by differences of neighbouring channels (three or
        more channels in a block), because weights are often only relative.
    interval_s : float
        Averaging time of the closure quantities, s.
    most_cells : float
        Largest number of averages (baselines x blocks x times) that are held.

    Raises
    ------
    InputError
        There are no unflagged data.
    """
    summary = summarise(ms)
    wanted = tuple(s for s in summary.spws_used if not spws or s in spws)
    field = summary.fields_used[0] if field is None else field
    where = f"FIELD_ID == {field} && ANTENNA1 != ANTENNA2"
    blocks = _frequency_blocks(summary, wanted, block_hz)
    if combine_hands is None:
        combine_hands = hands_are_copies(ms, column, where)
    hands = 1 if combine_hands else 2
    times, present = _times_and_baselines(ms, summary, where, stations, blocks)
    size = int(present.sum()) * hands * sum(len(b) for b in blocks.values())
    length_s = max(summary.integration_s, average_s, 1e-3)
    share = min(1.0, length_s / max(interval_s, 1e-3))
    most = min(most_cells, _MOST_AVERAGES * most_cells / _MOST_CELLS / share)
    kept = _spread(times, int(most / size * length_s / max(summary.integration_s, 1e-3)))
    if len(kept) < len(times):
        log.info("closure quantities of %d of %d integrations", len(kept), len(times))
    grid, ant1, ant2 = _empty_grid(kept, present, average_s, blocks, hands)

    def wanted_rows(opened: Any, low: int, count: int) -> NDArray[np.bool_]:
        good = np.isin(opened.getcol("TIME", low, count), kept)
        good &= opened.getcol("FIELD_ID", low, count) == field
        return np.asarray(
            good & (opened.getcol("ANTENNA1", low, count) != opened.getcol("ANTENNA2", low, count))
        )

    names = ["TIME", "ANTENNA1", "ANTENNA2", "UVW", "FLAG", "FLAG_ROW", "WEIGHT", column]
    with open_table(ms) as opened:
        spectrum = "WEIGHT_SPECTRUM" in opened.colnames() and opened.iscelldefined(
            "WEIGHT_SPECTRUM", 0
        )
    names += ["WEIGHT_SPECTRUM"] if spectrum else []
    setup_of = Subtables(ms).setup_of
    for chunk in chunks(ms, names, max_bytes=_CHUNK_BYTES, where=wanted_rows):
        if chunk.spw in wanted:
            setup = setup_of[chunk.data_desc_id]
            _add(grid, chunk, column, setup, blocks[chunk.spw], hands, summary.weights_positive)
    return _finish(grid, ant1, ant2, summary, blocks, hands, noise_from_data)


def hands_are_copies(ms: str | Path, column: str = "DATA", where: str = "") -> bool:
    """Return whether both parallel hands hold the same values, as RR and LL made of Stokes I do.

    Used separately, copies would count the same noise twice. The first chunk of rows (TaQL
    ``where``) with both hands decides.
    """
    setup_of = Subtables(ms).setup_of
    for chunk in chunks(ms, [column, "FLAG", "FLAG_ROW"], where=where):
        data, hands = chunk[column], setup_of[chunk.data_desc_id].parallel
        if len(hands) < 2:
            continue
        used = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None])
        first, last = data[:, :, hands[0]], data[:, :, hands[1]]
        # two flagged or empty hands agree, and say nothing
        both = used[:, :, hands[0]] & used[:, :, hands[1]] & (first != 0)
        if both.any():
            return bool(np.array_equal(first[both], last[both]))
    return False


def _frequency_blocks(
    summary: MsSummary, spws: tuple[int, ...], block_hz: float
) -> dict[int, list[tuple[int, slice, float]]]:
    """Return for each spw the number, channels and frequency of its blocks."""
    blocks: dict[int, list[tuple[int, slice, float]]] = {}
    number = 0
    for spw in spws:
        frequency = summary.frequency_hz[spw]
        width = abs(np.ptp(frequency)) * (1 + 1 / max(len(frequency) - 1, 1))
        count = int(np.ceil(width / (block_hz or BLOCK_FRACTION * frequency.mean())))
        edges = np.linspace(0, len(frequency), min(max(count, 1), len(frequency)) + 1).astype(int)
        blocks[spw] = []
        for first, last in pairwise(edges):
            centre = float(frequency[first:last].mean())
            blocks[spw].append((number, slice(int(first), int(last)), centre))
            number += 1
    return blocks


def _times_and_baselines(
    ms: str | Path,
    summary: MsSummary,
    where: str,
    stations: Collection[str],
    blocks: dict[int, list[tuple[int, slice, float]]],
) -> tuple[Float, NDArray[np.bool_]]:
    """Return all times of the data, ascending, and the pairs of stations present, (nant, nant)."""
    stamps: set[float] = set()
    nant = len(summary.antenna)
    present = np.zeros((nant, nant), bool)
    for chunk in chunks(ms, ["TIME", "ANTENNA1", "ANTENNA2"], where=where):
        if chunk.spw in blocks:
            stamps.update(np.unique(chunk["TIME"]).tolist())
            first = np.minimum(chunk["ANTENNA1"], chunk["ANTENNA2"])
            present[first, np.maximum(chunk["ANTENNA1"], chunk["ANTENNA2"])] = True
    used = np.zeros(nant, bool)
    used[list(summary.antennas_used)] = True
    used &= np.array([not stations or name in stations for name in summary.antenna], bool)
    present &= used[:, None] & used[None, :]
    if not present.any() or not stamps:
        raise InputError(f"{ms} has no unflagged baselines to read", "check field, spw and flags")
    return np.array(sorted(stamps)), present


def _spread(times: Float, most: int) -> Float:
    """Return at most ``most`` times, in evenly spread stretches of ten minutes, or in three."""
    most = max(most, 2)
    if len(times) <= most:
        return times
    step = float(np.median(np.diff(times)))
    length = max(10, int(np.ceil(_STRETCH_S / max(step, 1e-3))))
    count = max(1, most // length, min(3, most // 10))
    length = min(most // count, len(times) // count)
    starts = np.linspace(0, len(times) - length, count).astype(int)
    return times[np.unique(starts[:, None] + np.arange(length))]


def _empty_grid(
    times: Float,
    present: NDArray[np.bool_],
    average_s: float,
    blocks: dict[int, list[tuple[int, slice, float]]],
    hands: int,
) -> tuple[_Grid, NDArray[np.int64], NDArray[np.int64]]:
    """Return an empty grid of these times and pairs of stations."""
    ant1, ant2 = np.nonzero(present)
    baseline = np.full(present.shape, -1, np.int64)
    baseline[ant1, ant2] = np.arange(len(ant1))
    edges = time_blocks(times, max(average_s, 0.0))
    ntime = len(edges) - 1
    shape = (len(ant1), hands * sum(len(b) for b in blocks.values()), ntime)
    return (
        _Grid(
            times,
            np.repeat(np.arange(ntime), np.diff(edges)),
            baseline,
            np.zeros(shape, complex),
            np.zeros(shape),
            np.zeros((len(ant1), ntime, 3)),
            np.zeros((len(ant1), ntime)),
            np.zeros((len(ant1), 2)),
        ),
        ant1,
        ant2,
    )


def _weights(chunk: Chunk, shape: tuple[int, ...], usable: bool) -> Float:
    """Return weights, (nrow, nchan, ncorr), 0 where flagged or not finite."""
    weight = np.ones(shape)
    if usable:
        spectrum = chunk.columns.get("WEIGHT_SPECTRUM")
        source = chunk["WEIGHT"][:, None, :] if spectrum is None else spectrum
        weight = np.broadcast_to(np.asarray(source, float), shape).copy()
        if spectrum is not None and not (spectrum > 0).any():  # defined, never filled
            weight = np.broadcast_to(chunk["WEIGHT"][:, None, :], shape).astype(float)
    bad = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None] | ~np.isfinite(weight) | (weight <= 0)
    return np.where(bad, 0.0, weight)


def _add(
    grid: _Grid,
    chunk: Chunk,
    column: str,
    setup: PolarizationSetup,
    blocks: list[tuple[int, slice, float]],
    hands: int,
    usable: bool,
) -> None:
    """Add the rows of a chunk to the grid."""
    first = np.minimum(chunk["ANTENNA1"], chunk["ANTENNA2"])
    second = np.maximum(chunk["ANTENNA1"], chunk["ANTENNA2"])
    keep = grid.baseline[first, second] >= 0
    if not keep.any():
        return
    baseline = grid.baseline[first, second][keep]
    swap = (chunk["ANTENNA1"] > chunk["ANTENNA2"])[keep]
    time = grid.block_of_stamp[np.searchsorted(grid.stamps, chunk["TIME"][keep])]
    data = chunk[column]
    pick = list(setup.parallel)
    weight = _weights(chunk, data.shape, usable)[keep][:, :, pick]
    value = data[keep][:, :, pick].astype(complex)
    value = np.where(np.isfinite(value) & (weight > 0), value, 0.0)
    weight = np.where(np.isfinite(data[keep][:, :, pick]), weight, 0.0)
    value[swap] = np.conj(value[swap])
    uvw = np.where(swap[:, None], -chunk["UVW"][keep], chunk["UVW"][keep])
    np.add.at(grid.uvw, (baseline, time), uvw)
    np.add.at(grid.rows, (baseline, time), 1.0)
    for number, channels, _ in blocks:
        part, w = value[:, channels], weight[:, channels]
        for hand, feed in enumerate(setup.feeds):
            block = number * hands + min(feed, hands - 1)
            np.add.at(grid.value, (baseline, block, time), (part * w)[:, :, hand].sum(axis=1))
            np.add.at(grid.weight, (baseline, block, time), w[:, :, hand].sum(axis=1))
        _add_noise(grid.noise, baseline, part, w)


def _add_noise(
    noise: Float, baseline: NDArray[np.int64], value: NDArray[np.complex128], weight: Float
) -> None:
    """Add second differences of channels, which are free of the source and of delays."""
    if value.shape[1] < 3:
        return
    good = (weight[:, 2:] > 0) & (weight[:, 1:-1] > 0) & (weight[:, :-2] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(weight > 0, 1 / weight, 0.0)
    variance = 2 * (inverse[:, 2:] + 4 * inverse[:, 1:-1] + inverse[:, :-2])
    change = value[:, 2:] - 2 * value[:, 1:-1] + value[:, :-2]
    ratio = np.where(good, np.abs(change) ** 2 / np.where(good, variance, 1.0), 0.0)
    np.add.at(noise[:, 0], baseline, ratio.sum(axis=(1, 2)))
    np.add.at(noise[:, 1], baseline, good.sum(axis=(1, 2)))


def _finish(
    grid: _Grid,
    ant1: NDArray[np.int64],
    ant2: NDArray[np.int64],
    summary: MsSummary,
    blocks: dict[int, list[tuple[int, slice, float]]],
    hands: int,
    noise_from_data: bool,
) -> BaselineVisibilities:
    """Return means, noise and times from the sums."""
    scale = np.ones(len(ant1))
    enough = grid.noise[:, 1] >= _MIN_DIFFERENCES
    # noise-free data give no estimate; among noisy baselines one without noise is dead
    if noise_from_data and grid.noise[enough, 0].any():
        scale[enough] = grid.noise[enough, 0] / grid.noise[enough, 1]
        scale[~enough] = np.median(scale[enough])
        log.info(
            "the noise is %.3g times that expected from the weights",
            np.sqrt(np.median(scale[enough])),
        )
    good = (grid.weight > 0) & (scale > 0)[:, None, None]
    if not good.any():
        raise InputError(f"{summary.path} has no data with a weight", "check flags and weights")
    with np.errstate(divide="ignore", invalid="ignore"):
        # in place, because these are the largest arrays
        vis, sigma = grid.value, grid.weight
        vis /= grid.weight
        vis[~good] = 0.0
        np.divide(scale[:, None, None], sigma, out=sigma)
        np.sqrt(sigma, out=sigma)
        sigma[~good] = np.inf
        uvw = np.where(grid.rows[..., None] > 0, grid.uvw / grid.rows[..., None], 0.0)
    counts = np.bincount(grid.block_of_stamp)
    time_s = np.bincount(grid.block_of_stamp, weights=grid.stamps) / counts
    frequency = [centre for spw in blocks.values() for _, _, centre in spw]
    some = good.any(axis=(0, 2))
    kept: Any = slice(None) if some.all() else np.flatnonzero(some)
    return BaselineVisibilities(
        time_s,
        summary.antenna,
        ant1.astype(np.int64),
        ant2.astype(np.int64),
        np.repeat(frequency, hands)[kept],
        uvw,
        np.ascontiguousarray(vis[:, kept]),
        np.ascontiguousarray(sigma[:, kept]),
    )
