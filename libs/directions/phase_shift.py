"""A small data set for one direction: its phase centre is moved, it is corrected and averaged.

A visibility about a phase centre is V = sum I exp(2 pi i (b . s - w) / lambda), with b the
baseline and w its component toward the centre. About another centre only w differs, so
V' = V exp(2 pi i (w - w') / lambda), and (u', v', w') is b along the new axes. This is exact,
however far the centre moves (Thompson, Moran & Swenson 2017, section 3.1).
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from libs.core.coordinates import rotation
from libs.core.errors import ConfigError, InputError
from libs.core.files import fsync_tree
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.h5parm.direction_gains import DirectionGains, correlation_feeds
from libs.ms.create import Layout, create_like, read_layout
from libs.ms.integration import integration_time_s
from libs.ms.rows import read_column
from libs.ms.tables import open_table
from libs.ms.time_survey import TimeSurvey, rows_by_slot, survey_times

__all__ = [
    "ShiftOptions",
    "ShiftPlan",
    "plan_shift",
    "shift_data",
]

log = logging.getLogger(__name__)
CHUNK_BYTES = 64 * 1024**2
_CARRIED = ("ARRAY_ID", "FEED1", "FEED2", "OBSERVATION_ID", "PROCESSOR_ID", "STATE_ID")
_ROW_BYTES = 140  # of a row without its visibilities


@dataclass(frozen=True)
class ShiftOptions:
    """Direction, averaging and column of a small data set.

    Attributes
    ----------
    direction_rad : (float, float)
        New phase centre, J2000 RA and Dec.
    field : str
        Name of the field; empty: unchanged.
    average_s, average_hz : float
        Longest integration and widest channel; 0: unchanged. Integrations are averaged by whole
        numbers, and channels by whole divisors of a window's number of channels.
    column : str
        Column of the visibilities.
    uvmin_m : float
        Shortest baseline kept, m. Shorter ones are flagged, because averaging does not remove the
        field's other sources from them.
    """

    direction_rad: tuple[float, float]
    field: str = ""
    average_s: float = 0.0
    average_hz: float = 0.0
    column: str = "DATA"
    uvmin_m: float = 0.0

    def __post_init__(self) -> None:
        if self.average_s < 0 or self.average_hz < 0:
            raise ConfigError(
                f"averaging of {self.average_s} s and {self.average_hz} Hz", "use 0 or more"
            )


@dataclass(frozen=True)
class ShiftPlan:
    """Properties of a data set, known before it is made.

    Attributes
    ----------
    integration_s : float
        Integration time after averaging.
    widths : tuple of int
        Channels averaged into one, by spectral window.
    rows : int
    size_bytes : int
        Size on disk.
    """

    integration_s: float
    widths: tuple[int, ...]
    rows: int
    size_bytes: int


# -- plan -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Slots:
    """The new integrations.

    ``of_stamp`` gives the new integration of each old time stamp; ``time_s``, ``interval_s`` and
    ``scan`` belong to the new ones.
    """

    of_stamp: NDArray[np.int64]
    time_s: NDArray[np.float64]
    interval_s: NDArray[np.float64]
    scan: NDArray[np.int64]


def _slots(survey: TimeSurvey, average_s: float) -> _Slots:
    unique, scan = survey.time_s, survey.scan
    integration = integration_time_s(unique, scan)
    count = max(1, math.floor(average_s / integration + 1e-3)) if integration else 1
    # bins start at a scan's first integration; a gap within a scan makes a bin shorter
    slot = np.zeros(len(unique), dtype=np.int64)
    start, last = unique[0], -1
    for i, stamp in enumerate(unique):
        if i and scan[i] != scan[i - 1]:
            start, last = stamp, int(slot[i - 1])
        bin_ = int((stamp - start) / integration + 0.5) // count if integration else i
        slot[i] = last + 1 + bin_
    _, first, slot = np.unique(slot, return_index=True, return_inverse=True)
    members = np.bincount(slot)
    return _Slots(
        slot, _mean_times(unique, slot), members.astype(np.float64) * (integration or 1.0),
        scan[first],
    )  # fmt: skip


def _mean_times(time_s: NDArray[np.float64], slot: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean time of each slot; offsets are summed to preserve precision."""
    offset = np.bincount(slot, time_s - time_s[0]) / np.bincount(slot)
    return np.asarray(time_s[0] + offset, dtype=np.float64)


def _width(channel_hz: NDArray[np.float64], average_hz: float) -> int:
    """Return the largest divisor of the channels that is not wider than requested."""
    count = len(channel_hz)
    if count < 2 or average_hz <= 0:
        return 1
    step = float(np.abs(np.diff(channel_hz)).mean())
    wanted = max(1, math.floor(average_hz / step + 1e-3))
    return max(d for d in range(1, min(count, wanted) + 1) if count % d == 0)


def plan_shift(ms: Path, options: ShiftOptions, survey: TimeSurvey | None = None) -> ShiftPlan:
    """Return the plan of what `shift_data` will make, without reading visibilities.

    Parameters
    ----------
    ms : Path
    options : ShiftOptions
    survey : TimeSurvey, optional
        Time stamps of ``ms``, if known; otherwise they are read.

    Returns
    -------
    ShiftPlan
        Plan; the actual rows and bytes are more where integrations of one average have different
        baselines.
    """
    survey = survey or survey_times(Path(ms))
    return _plan(survey, _slots(survey, options.average_s), read_layout(Path(ms)), options)


def _plan(survey: TimeSurvey, slots: _Slots, layout: Layout, options: ShiftOptions) -> ShiftPlan:
    widths = tuple(_width(f, options.average_hz) for f in layout.frequency_hz)
    starts = np.flatnonzero(np.diff(slots.of_stamp, prepend=-1))
    rows = np.maximum.reduceat(survey.rows, starts).sum(axis=0)
    size = sum(int(count) * _row_size(layout, widths, ddid) for ddid, count in enumerate(rows))
    return ShiftPlan(float(np.median(slots.interval_s)), widths, int(rows.sum()), size)


def _row_size(layout: Layout, widths: tuple[int, ...], ddid: int) -> int:
    """Return the size of a new row, bytes."""
    spw = layout.spw_of[ddid]
    cells = len(layout.frequency_hz[spw]) // widths[spw] * len(layout.corr_types[ddid])
    return int(cells * (8 + 4 + 1 / 8) + _ROW_BYTES)


# -- making ---------------------------------------------------------------------------------------


def shift_data(
    ms: Path,
    target: Path,
    options: ShiftOptions,
    gains: DirectionGains | None = None,
    *,
    survey: TimeSurvey | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> ShiftPlan:
    """Make a small data set of one field: phase centre moved, corrected, averaged.

    Gains are divided out before averaging, so that fast phases lose no amplitude. A baseline
    without solutions is flagged. Averages are weighted by WEIGHT_SPECTRUM (or WEIGHT) of
    unflagged visibilities, times the squared gains; weights are summed.

    Parameters
    ----------
    ms : Path
        Measurement set, never written.
    target : Path
        New set; an existing one is replaced. It appears complete or not at all.
    options : ShiftOptions
    gains : DirectionGains, optional
        Gains of the data's antennas for the new direction.
    survey : TimeSurvey, optional
        Time stamps of ``ms``, if known; otherwise they are read.
    chunk_bytes : int
        Memory limit for the visibilities of a chunk.

    Returns
    -------
    ShiftPlan
        Plan with the rows and size of the result.

    Raises
    ------
    InputError
        The path is not a measurement set, or it lacks rows or the column.
    """
    ms, target = Path(ms), Path(target)
    survey = survey or survey_times(ms)
    layout, slots = read_layout(ms), _slots(survey, options.average_s)
    plan = _plan(survey, slots, layout, options)
    part = target.with_name(f".{target.name}.part")
    count_of = {len(f): w for f, w in zip(layout.frequency_hz, plan.widths, strict=True)}
    create_like(
        ms, part, direction_rad=options.direction_rad, field=options.field,
        width=lambda channels: count_of[channels],
    )  # fmt: skip
    with open_table(ms) as source, open_table(part, write=True) as made:
        if options.column not in source.colnames():
            raise InputError(f"{ms} has no column {options.column}", "name another")
        rows = size = 0
        for chunk in _chunks(source, survey, slots, layout, chunk_bytes):
            cells = _averaged(source, survey, slots, chunk, layout, plan, options, gains)
            _write(made, cells)
            rows += len(cells["TIME"])
            size += len(cells["TIME"]) * _row_size(layout, plan.widths, chunk.ddid)
    plan = replace(plan, rows=rows, size_bytes=size)
    fsync_tree(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    log.info("%s: %d rows, %.1f s", target.name, plan.rows, plan.integration_s)
    return plan


@dataclass(frozen=True)
class _Chunk:
    """Rows of one data description, increasing, that make up whole new integrations."""

    ddid: int
    number: NDArray[np.int64]
    slot: NDArray[np.int64]


def _chunks(
    source: Any, survey: TimeSurvey, slots: _Slots, layout: Layout, chunk_bytes: int
) -> Iterator[_Chunk]:
    """Yield the rows of the field in order of new integrations."""
    cells = max(
        len(layout.frequency_hz[layout.spw_of[d]]) * len(layout.corr_types[d])
        for d in np.flatnonzero(survey.rows.any(axis=0))
    )
    most = max(1, chunk_bytes // (cells * 30))
    for rows, slot in rows_by_slot(source, survey, slots.of_stamp, most):
        ddids = read_column(source, "DATA_DESC_ID", rows)
        for ddid in np.unique(ddids).tolist():
            here = ddids == ddid
            yield _Chunk(ddid, rows[here], slot[here])


def _averaged(
    source: Any,
    survey: TimeSurvey,
    slots: _Slots,
    chunk: _Chunk,
    layout: Layout,
    plan: ShiftPlan,
    options: ShiftOptions,
    gains: DirectionGains | None,
) -> dict[str, NDArray[Any]]:
    """Return the columns of the new rows that come from a chunk."""
    spw = int(layout.spw_of[chunk.ddid])
    frequency = layout.frequency_hz[spw]
    number = chunk.number
    ends = [read_column(source, name, number).astype(np.int64) for name in ("ANTENNA1", "ANTENNA2")]
    group, first, member = np.unique(
        (chunk.slot * layout.antennas + ends[0]) * layout.antennas + ends[1],
        return_index=True, return_inverse=True,
    )  # fmt: skip
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(len(group) + 1))
    uvw = read_column(source, "UVW", number)
    turned = uvw @ rotation(layout.direction_rad, options.direction_rad).T
    data = read_column(source, options.column, number)
    flag = (
        read_column(source, "FLAG", number) | read_column(source, "FLAG_ROW", number)[:, None, None]
    )
    weight = _weights(source, number)
    if gains is None:
        gain = np.ones((1, 1, 1, 2), np.complex128)
        valid, moment = np.ones(gain.shape, bool), np.zeros(len(number), np.int64)
    else:
        found = gains.at(read_column(source, "TIME", number), frequency)
        gain, valid, moment = found.gain, found.valid, found.row
    size = np.diff(starts)
    new_uvw = np.stack([np.bincount(member, turned[:, i]) / size for i in range(3)], axis=1)
    step = plan.widths[spw]
    shape = (len(group), len(frequency) // step, data.shape[2])
    out, weights = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    flags = np.zeros(shape, bool)
    _shift_average(
        data, flag, weight, order, starts, uvw[:, 2] - turned[:, 2],
        frequency / SPEED_OF_LIGHT_M_S, gain, valid, moment,
        *ends, correlation_feeds(layout.corr_types[chunk.ddid]),
        gains is not None, step, out, weights, flags,
    )  # fmt: skip
    flags |= (np.hypot(new_uvw[:, 0], new_uvw[:, 1]) < options.uvmin_m)[:, None, None]
    slot = chunk.slot[first]
    exposure = np.bincount(member, read_column(source, "EXPOSURE", number))
    return {
        "TIME": slots.time_s[slot], "TIME_CENTROID": slots.time_s[slot],
        "INTERVAL": slots.interval_s[slot], "EXPOSURE": exposure,
        "UVW": new_uvw,
        "ANTENNA1": ends[0][first], "ANTENNA2": ends[1][first],
        "DATA_DESC_ID": np.full(len(group), chunk.ddid), "SCAN_NUMBER": slots.scan[slot],
        "FIELD_ID": np.full(len(group), survey.field_id),
        "DATA": out, "FLAG": flags, "WEIGHT_SPECTRUM": weights,
        **{name: read_column(source, name, number)[first] for name in _CARRIED},
    }  # fmt: skip


def _weights(source: Any, number: NDArray[np.int64]) -> NDArray[np.float32]:
    """WEIGHT_SPECTRUM, or WEIGHT for every channel, (nrow, nchan or 1, ncorr)."""
    name = "WEIGHT_SPECTRUM"
    if name in source.colnames() and source.iscelldefined(name, int(number[0])):
        return np.asarray(read_column(source, name, number), dtype=np.float32)
    return np.asarray(read_column(source, "WEIGHT", number), dtype=np.float32)[:, None, :]


def _write(made: Any, cells: dict[str, NDArray[Any]]) -> None:
    start, count = made.nrows(), len(cells["TIME"])
    made.addrows(count)
    weight = cells["WEIGHT_SPECTRUM"].mean(axis=1)
    sigma = np.where(weight > 0, 1 / np.sqrt(np.where(weight > 0, weight, 1.0)), 0.0)
    columns = {**cells, "WEIGHT": weight, "SIGMA": sigma.astype(np.float32)}
    for name, values in columns.items():
        if values.dtype == np.int64:
            columns[name] = values.astype(np.int32)
    columns["FLAG_ROW"] = cells["FLAG"].all(axis=(1, 2))
    for name, values in columns.items():
        made.putcol(name, np.ascontiguousarray(values), start, count)


@njit(parallel=True, cache=True)
def _shift_average(
    data: NDArray[np.complex64],
    flag: NDArray[np.bool_],
    weight: NDArray[np.float32],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    path_m: NDArray[np.float64],
    per_m: NDArray[np.float64],
    gain: NDArray[np.complex128],
    valid: NDArray[np.bool_],
    moment: NDArray[np.int64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    feeds: NDArray[np.int64],
    correct: bool,
    step: int,
    out: NDArray[np.complex64],
    weights: NDArray[np.float32],
    flags: NDArray[np.bool_],
) -> None:
    """Turn, correct and average; where all is flagged, the average of all, flagged."""
    ncorr = data.shape[2]
    one_gain = gain.shape[1] == 1
    one_weight = weight.shape[1] == 1
    for g in prange(len(starts) - 1):
        for c_out in range(out.shape[1]):
            for k in range(ncorr):
                total, total_all = 0j, 0j
                weight_sum, weight_all, count = 0.0, 0.0, 0
                for place in range(starts[g], starts[g + 1]):
                    r = order[place]
                    p, q, t = antenna1[r], antenna2[r], moment[r]
                    for c in range(c_out * step, (c_out + 1) * step):
                        value = data[r, c, k]
                        bad = flag[r, c, k] or not np.isfinite(value.real + value.imag)
                        if not np.isfinite(value.real + value.imag):
                            value = 0j
                        w = weight[r, 0 if one_weight else c, k]
                        if not (w > 0.0 and np.isfinite(w)):
                            w, bad = 0.0, True
                        angle = 2.0 * np.pi * path_m[r] * per_m[c]
                        turned = value * complex(np.cos(angle), np.sin(angle))
                        if correct:
                            cg = 0 if one_gain else c
                            factor = gain[t, cg, p, feeds[k, 0]] * np.conj(
                                gain[t, cg, q, feeds[k, 1]]
                            )
                            power = factor.real**2 + factor.imag**2
                            solved = valid[t, cg, p, feeds[k, 0]] and valid[t, cg, q, feeds[k, 1]]
                            if not solved or power == 0.0:
                                bad = True
                            else:
                                turned = turned / factor
                                w = w * power
                        total_all += turned
                        weight_all += w
                        count += 1
                        if not bad:
                            total += w * turned
                            weight_sum += w
                if weight_sum > 0.0:
                    out[g, c_out, k] = total / weight_sum
                    weights[g, c_out, k] = weight_sum
                else:
                    out[g, c_out, k] = total_all / count
                    weights[g, c_out, k] = weight_all
                    flags[g, c_out, k] = True
