"""Normal equations of a gain solve: sums over the visibilities of each baseline and interval."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.gains.interpolation import GainInterpolator, gains_for_rows
from libs.gains.intervals import Intervals, find_intervals
from libs.gains.kernels import accumulate_rows
from libs.gains.solution_interval import SolutionInterval
from libs.gains.solver import AppliedTable, SolveOptions
from libs.ms.kept_subtables import kept_subtables
from libs.ms.rows import RowBlock, RowFilter, read_block, row_blocks, row_sets
from libs.ms.subtables import PARALLEL_HANDS
from libs.ms.tables import open_table

__all__ = ["NormalEquations", "accumulate", "accumulate_batches", "weight_column"]

NEGLIGIBLE = 1e-16  # of the largest weight, that is 1e-8 of the model's amplitude

logger = logging.getLogger(__name__)

CHUNK_BYTES = 32 * 1024**2
SUM_BYTES = 192 * 1024**2
_FEEDS = {"R": 0, "L": 1, "X": 0, "Y": 1, "I": 0}


@dataclass(frozen=True)
class NormalEquations:
    """Sums over the visibilities V and model M, with weights w, of each solution interval.

    A solve needs nothing else of the data, and sums of short intervals add up to those of
    longer ones (`merged`), so one pass over the data serves many solves.

    Attributes
    ----------
    time_s, interval_s : (ntime,) float64
        Centres, weighted by w |M|^2, and lengths of the intervals, MJD seconds and s.
    scan, field, observation : (ntime,) int64
    frequency_hz : (nblock,) float64
        Centre of each frequency block.
    spw : (nblock,) int64
    antenna : tuple of str
    position_m : (nant, 3) float64
        ITRF.
    antenna1, antenna2 : (nbl,) int64
        All pairs with antenna1 < antenna2, in the order of ``numpy.triu_indices``.
    polarization : tuple of str
        Feed of each parallel hand, e.g. ``("R", "L")``.
    vis : (ntime, nblock, nbl, npol) complex128
        Sum of w V conj(M), Jy^2 x weight.
    weight : (ntime, nblock, nbl, npol) float64
        Sum of w |M|^2.
    time_weight : (ntime,) float64
        Sum of ``weight`` that ``time_s`` was weighted with.
    """

    time_s: NDArray[np.float64]
    interval_s: NDArray[np.float64]
    scan: NDArray[np.int64]
    field: NDArray[np.int64]
    observation: NDArray[np.int64]
    frequency_hz: NDArray[np.float64]
    spw: NDArray[np.int64]
    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
    antenna1: NDArray[np.int64]
    antenna2: NDArray[np.int64]
    polarization: tuple[str, ...]
    vis: NDArray[np.complex128]
    weight: NDArray[np.float64]
    time_weight: NDArray[np.float64]

    def merged(self, group: NDArray[np.int64]) -> NormalEquations:
        """Return the normal equations of longer intervals.

        Parameters
        ----------
        group : (ntime,) int64
            Index of the longer interval each interval becomes part of, 0 to n-1, none empty.
        """
        count = int(group.max()) + 1
        if (np.diff(group) >= 0).all():  # ten times faster
            starts = np.searchsorted(group, np.arange(count))
            vis = np.add.reduceat(self.vis, starts, axis=0)
            weight = np.add.reduceat(self.weight, starts, axis=0)
        else:
            vis = np.zeros((count, *self.vis.shape[1:]), np.complex128)
            weight = np.zeros((count, *self.weight.shape[1:]))
            np.add.at(vis, group, self.vis)
            np.add.at(weight, group, self.weight)
        time_weight = np.zeros(count)
        np.add.at(time_weight, group, self.time_weight)
        origin = self.time_s.min()
        plain = np.bincount(group, self.time_s - origin, count) / np.bincount(group)
        heavy = np.bincount(group, (self.time_s - origin) * self.time_weight, count)
        with np.errstate(invalid="ignore", divide="ignore"):
            time = np.where(time_weight > 0, heavy / time_weight, plain) + origin
        begin, end = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(begin, group, self.time_s - self.interval_s / 2)
        np.maximum.at(end, group, self.time_s + self.interval_s / 2)
        first = np.full(count, len(group))
        np.minimum.at(first, group, np.arange(len(group)))
        return replace(
            self, time_s=time, interval_s=end - begin, scan=self.scan[first],
            field=self.field[first], observation=self.observation[first],
            vis=vis, weight=weight, time_weight=time_weight,
        )  # fmt: skip

    def binned(self, interval: SolutionInterval, *, combine_scan: bool = False) -> NormalEquations:
        """Return the normal equations of a longer solution interval.

        Bins start with the first interval of each scan (of all, with ``combine_scan``).
        """
        scan = np.zeros_like(self.scan) if combine_scan else self.scan
        key = np.zeros(len(scan), [(n, "i8") for n in ("observation", "scan", "field", "bin")])
        key["observation"], key["scan"], key["field"] = self.observation, scan, self.field
        if interval.per_integration:
            key["bin"] = np.unique(self.time_s, return_inverse=True)[1]
        elif not interval.per_scan:
            # scan numbers are names: they may be negative, or of ten digits
            names, place = np.unique(scan, return_inverse=True)
            first = np.full(len(names), np.inf)
            np.minimum.at(first, place, self.time_s)
            key["bin"] = np.floor((self.time_s - first[place] + 1e-3) / interval.seconds)
        unique, inverse = np.unique(key, return_inverse=True)
        # in order of time, whatever the numbers of scans and fields
        start = np.full(len(unique), np.inf)
        np.minimum.at(start, inverse, self.time_s)
        rank = np.empty(len(unique), np.int64)
        rank[np.argsort(start, kind="stable")] = np.arange(len(unique))
        return self.merged(rank[inverse])


@dataclass(frozen=True)
class _Setup:
    """Facts of a measurement set that every block of rows needs."""

    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
    spw_of: NDArray[np.int64]
    hands: tuple[NDArray[np.int64], ...]
    feeds: tuple[str, ...]
    channel_hz: tuple[NDArray[np.float64], ...]
    channel_block: dict[int, NDArray[np.int64]]
    block_hz: NDArray[np.float64]
    block_spw: NDArray[np.int64]


def parallel_hands(names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the places of the parallel hands among correlations, and their feeds."""
    found = sorted((_FEEDS[n[0]], i, n[0]) for i, n in enumerate(names) if n in PARALLEL_HANDS)
    return np.array([i for _, i, _ in found], np.int64), tuple(feed for _, _, feed in found)


def _setup(ms: Path, spws: NDArray[np.int64], channels_per_block: int | None) -> _Setup:
    found = kept_subtables(ms)
    each = [parallel_hands(setup.correlations) for setup in found.setup_of]
    channel_hz = found.channel_hz
    feeds: tuple[str, ...] = ()
    for _, own in each:
        if not own:
            raise InputError(
                f"{ms} has a polarization setup without parallel hands", "select XX/YY, RR/LL or I"
            )
        feeds = max(feeds, own, key=len)
    channel_block: dict[int, NDArray[np.int64]] = {}
    block_hz: list[float] = []
    block_spw: list[int] = []
    for spw in spws:
        frequency = channel_hz[spw]
        size = channels_per_block or len(frequency)
        part = np.arange(len(frequency)) // size
        channel_block[int(spw)] = part + len(block_hz)
        block_hz += [float(frequency[part == k].mean()) for k in range(part[-1] + 1)]
        block_spw += [int(spw)] * (int(part[-1]) + 1)
    return _Setup(
        found.antenna_names, found.position_m, found.spw_of,
        tuple(places for places, _ in each), feeds,
        channel_hz, channel_block, np.array(block_hz), np.array(block_spw, np.int64),
    )  # fmt: skip


def weight_column(opened: Any, rows: NDArray[np.int64]) -> tuple[str, bool]:
    """Return the column that holds the weights of rows, and whether it is a sigma.

    CASA solves and applies with 1 / SIGMA_SPECTRUM^2, or 1 / SIGMA^2 when there is none, and
    takes no notice of WEIGHT; so does this, but for data whose SIGMA holds nothing usable.

    Parameters
    ----------
    opened : casacore table
    rows : (nrow,) int64
        Rows of one data description.
    """
    first = int(rows[0])
    found = _usable_sigma(opened, lambda: [rows])
    if found:
        return found, True
    logger.warning("SIGMA holds nothing usable; the weights are those of WEIGHT")
    if "WEIGHT_SPECTRUM" in opened.colnames() and opened.iscelldefined("WEIGHT_SPECTRUM", first):
        return "WEIGHT_SPECTRUM", False
    return "WEIGHT", False


def _usable_sigma(opened: Any, pieces: Callable[[], Iterable[NDArray[np.int64]]]) -> str:
    """Return the first column of sigmas with anything usable in the pieces of rows, or ""."""
    for name in ("SIGMA_SPECTRUM", "SIGMA"):
        if name not in opened.colnames():
            continue
        for number, rows in enumerate(pieces()):
            first = int(rows[0])
            if not number and not (
                opened.iscelldefined(name, first) and opened.getcell(name, first).size
            ):
                break
            for low in range(0, len(rows), 4096):
                sigma = opened.selectrows(rows[low : low + 4096]).getcol(name)
                if (np.isfinite(sigma) & (sigma > 0)).any():
                    return name
    return ""


def _row_bytes(opened: Any, row: int) -> int:
    shape = opened.getcell("DATA", row).shape
    return int(np.prod(shape)) * (8 + 8 + 1 + 4) + 64


def _wanted_rows(options: SolveOptions) -> RowFilter | None:
    """Rows within the limits of the uv distance and of the fields; None for all.

    Where fields share solutions, intervals do not tell them apart: rows do.
    """
    fields = list(options.fields) if "field" in options.combine else []
    limited = bool(options.uvmin_m or options.uvmax_m)
    if not (limited or fields):
        return None

    def wanted(opened: Any, low: int, count: int) -> NDArray[np.bool_]:
        good = np.ones(count, bool)
        if fields:
            good &= np.isin(opened.getcol("FIELD_ID", low, count), fields)
        if limited:
            uvw = opened.getcol("UVW", low, count)
            distance = np.hypot(uvw[:, 0], uvw[:, 1])
            good &= (distance >= options.uvmin_m) & (distance <= (options.uvmax_m or np.inf))
        return good

    return wanted


def _runs_of(intervals: Intervals, fields: Sequence[int]) -> list[tuple[int, int]]:
    """First and one past the last of runs of intervals of some fields; of all without any.

    Raises
    ------
    InputError
        No row is of these fields.
    """
    mine = np.isin(intervals.field, list(fields)) if fields else np.ones(len(intervals), bool)
    if not mine.any():
        raise InputError(f"no data of the fields {list(fields)}", "name fields that have rows")
    edges = np.flatnonzero(np.diff(mine.astype(np.int8), prepend=0, append=0))
    return [(int(low), int(high)) for low, high in edges.reshape(-1, 2)]


def accumulate_batches(
    ms: Path,
    options: SolveOptions,
    prior: Sequence[AppliedTable] = (),
    *,
    channels_per_block: int | None = None,
    corr_dep_flags: bool = False,
    data_column: str = "DATA",
    sum_bytes: int = SUM_BYTES,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[NormalEquations]:
    """Sum the normal equations of a measurement set, a batch of solution intervals at a time.

    Rows may be in any order and of any number; memory is bounded by ``sum_bytes``,
    ``chunk_bytes`` and the number of integrations. Flagged, autocorrelated, non-finite and
    weightless samples take no part, nor do samples that ``prior`` has no solution for.

    Parameters
    ----------
    ms : Path
    options : SolveOptions
        Of these solint, combine scan and field, the fields and the uv limits matter here.
    prior : sequence of AppliedTable
        Applied to the data first, their amplitudes to the weights too.
    channels_per_block : int, optional
        Frequency blocks of so many channels; default one block for each spw.
    corr_dep_flags : bool
        False, as in gaincal: a sample with any correlation flagged takes no part. True:
        each correlation has its own flag.
    data_column : str
    sum_bytes, chunk_bytes : int
        Most memory for the sums of a batch and for a chunk of data.

    Yields
    ------
    NormalEquations
        Batches in order of time.

    Raises
    ------
    InputError
        A needed column is missing.
    """
    with open_table(ms) as opened:
        for name in (data_column, "MODEL_DATA"):
            if name not in opened.colnames():
                raise InputError(f"{ms} has no column {name}", "predict a model first")
        together = "field" in options.combine
        intervals = find_intervals(opened, options.solint, "scan" in options.combine, together)
        spws = np.unique(kept_subtables(ms).spw_of[list({ddid for ddid, _ in row_sets(opened)})])
        setup = _setup(ms, spws, channels_per_block)
        wanted = _wanted_rows(options)
        tables = [GainInterpolator.open(item, setup.channel_hz) for item in prior]
        nbl = len(setup.antenna) * (len(setup.antenna) - 1) // 2
        each = 24 * max(1, nbl * len(setup.block_hz) * len(setup.feeds))
        step = max(1, sum_bytes // each)
        reader = _Reader(opened, setup, data_column, corr_dep_flags, tables, chunk_bytes)
        for first, past in _runs_of(intervals, () if together else options.fields):
            for low in range(first, past, step):
                yield reader.batch(intervals, low, min(low + step, past), wanted)


def accumulate(
    ms: Path, options: SolveOptions, prior: Sequence[AppliedTable] = (), **how: Any
) -> NormalEquations:
    """Return `accumulate_batches` as one: all intervals in memory.

    With ``sum_bytes`` they are made in batches; joining these takes their memory once more.
    """
    parts = list(accumulate_batches(ms, options, prior, **{"sum_bytes": sys.maxsize, **how}))
    along_time = (
        "time_s", "interval_s", "scan", "field", "observation", "vis", "weight", "time_weight",
    )  # fmt: skip
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in along_time
    }
    return replace(parts[0], **joined)


class _Reader:
    """Reads blocks of rows and adds them to sums."""

    def __init__(
        self,
        opened: Any,
        setup: _Setup,
        data_column: str,
        corr_dep_flags: bool,
        tables: Sequence[GainInterpolator],
        chunk_bytes: int,
    ) -> None:
        self.opened = opened
        self.setup = setup
        self.data_column = data_column
        self.corr_dep_flags = corr_dep_flags
        self.tables = tables
        self.chunk_bytes = chunk_bytes
        self.buffer: dict[str, Any] = {}
        self.weights: dict[int, tuple[str, bool]] = {}

    def batch(
        self,
        intervals: Intervals,
        low: int,
        high: int,
        wanted: RowFilter | None,
    ) -> NormalEquations:
        """Return the sums of intervals ``low`` to ``high``."""
        setup, nant = self.setup, len(self.setup.antenna)
        first, second = np.triu_indices(nant, 1)
        shape = (high - low, len(setup.block_hz), len(first), len(setup.feeds))
        threads = numba.get_num_threads()
        vis, weight = np.zeros(shape, np.complex128), np.zeros(shape)
        times = np.zeros((threads, *shape[:2], 2))
        origin = float(intervals.time_s[low])

        def mine(opened: Any, start: int, count: int) -> NDArray[np.bool_]:
            some = intervals.within(opened, start, count, (low, high))
            return some & wanted(opened, start, count) if wanted and some.any() else some

        for block in row_blocks(self.opened, self._most_rows, mine):
            slot = intervals.of_rows(self.opened, block.rows) - np.int32(low)
            self._add(block, slot, origin, threads, vis, weight, times)
        # a model that is resolved out leaves sums that divide to nonsense, or not at all
        faint = weight < NEGLIGIBLE * weight.max(initial=0.0)
        vis[faint], weight[faint] = 0.0, 0.0
        total = times.sum(axis=(0, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = origin + total[:, 0] / total[:, 1]
        return NormalEquations(
            np.where(total[:, 1] > 0, centre, intervals.time_s[low:high]),
            intervals.interval_s[low:high], intervals.scan[low:high], intervals.field[low:high],
            intervals.observation[low:high], setup.block_hz, setup.block_spw, setup.antenna,
            setup.position_m, first, second, setup.feeds, vis, weight, total[:, 1],
        )  # fmt: skip

    def _most_rows(self, number: int, rows: NDArray[np.int64]) -> int:
        """Rows of a block of a data description; its weights are looked for on the way."""
        if number not in self.weights:

            def every() -> Iterator[NDArray[np.int64]]:
                return (found for ddid, found in row_sets(self.opened) if ddid == number)

            # SIGMA may still be usable further on
            name = _usable_sigma(self.opened, lambda: [rows]) or _usable_sigma(self.opened, every)
            self.weights[number] = (name, True) if name else weight_column(self.opened, rows)
        return self.chunk_bytes // _row_bytes(self.opened, int(rows[0]))

    def _add(
        self,
        block: RowBlock,
        slot: NDArray[np.int32],
        origin: float,
        threads: int,
        vis: NDArray[np.complex128],
        weight: NDArray[np.float64],
        times: NDArray[np.float64],
    ) -> None:
        setup = self.setup
        spw = int(setup.spw_of[block.data_desc_id])
        name, is_sigma = self.weights[block.data_desc_id]
        read = {
            column: read_block(self.opened, column, block, self.buffer)
            for column in (
                self.data_column, "MODEL_DATA", "FLAG", "FLAG_ROW", name, "TIME",
                "ANTENNA1", "ANTENNA2",
            )
        }  # fmt: skip
        values = read[name] if read[name].ndim == 3 else read[name][:, None, :]
        found = gains_for_rows(
            self.tables, spw, setup.channel_hz[spw], read["TIME"], len(setup.antenna),
            len(setup.feeds),
        )  # fmt: skip
        if found is None:
            return
        gains, solved, gain_row = found
        accumulate_rows(
            read[self.data_column], read["MODEL_DATA"], read["FLAG"], read["FLAG_ROW"], values,
            is_sigma, read["ANTENNA1"], read["ANTENNA2"], slot, read["TIME"] - origin,
            setup.channel_block[spw], setup.hands[block.data_desc_id], gains, solved, gain_row,
            len(setup.antenna), self.corr_dep_flags, threads, vis, weight, times,
        )  # fmt: skip
