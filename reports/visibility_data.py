"""Visibilities of a run for its page and figures: points, densities, windows, thermal noise.

A bounded part of the data is read, in one pass: whole integrations, evenly spread. Channels are
averaged, because single channels of a faint source are noise around the origin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.ms.rows import Chunk, RowFilter, chunks, distinct
from libs.ms.subtables import Subtables
from libs.ms.tables import column_names, open_table
from reports.records import Run
from reports.solved_data import visibility_columns
from reports.time_axis import TimeAxis, make_time_axis

__all__ = [
    "VisibilityDensity",
    "VisibilityPoints",
    "VisibilitySource",
    "WindowRow",
    "natural_noise_jy_beam",
    "read_points",
    "run_points",
    "visibility_density",
    "window_rows",
]

CHUNK_BYTES = 48 * 1024**2
MOST_ROWS = 100_000
MOST_BYTES = 200 * 1024**2  # of data, model and flags, whatever the number of channels
# along uv distance or time; along amplitude or phase (odd, so that 0 deg is the middle of a bin)
BINS = (150, 111)
MODEL_BINS = 60
FEWEST_DIFFERENCES = 20
_BYTES_A_VISIBILITY = 17  # data, model and flag of a channel and correlation
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class VisibilitySource:
    """A column of visibilities, and that of the model where there is one.

    Attributes
    ----------
    label : str
        Heading, for example ``"Before: DATA"``.
    ms : tuple of Path
        Data sets of one target, shown together.
    column : str
        Column, for example ``"CORRECTED_DATA"``.
    model_column : str
        Column of the model; empty for none.
    """

    label: str
    ms: tuple[Path, ...]
    column: str
    model_column: str = ""


@dataclass(frozen=True)
class VisibilityPoints:
    """Channel-averaged, unflagged visibilities of the parallel hands; autocorrelations left out.

    Attributes
    ----------
    time_s : (n,) float64
        Time, MJD seconds.
    window : (n,) int32
        Spectral window; those of several data sets are counted on.
    baseline : (n,) int64
        Number of the data set, the baseline and the hand: points that may be subtracted.
    uv_wavelengths : (n,) float64
    data, model : (n,) complex128
        Mean visibilities, Jy; the model is NaN where there is none.
    turned : (n,) complex128
        Mean of data times the conjugated model; the data where there is no model.
    weight : (n,) float64
        Weight of the mean: WEIGHT times the number of unflagged channels.
    """

    time_s: NDArray[np.float64]
    window: NDArray[np.int32]
    baseline: NDArray[np.int64]
    uv_wavelengths: NDArray[np.float64]
    data: NDArray[np.complex128]
    model: NDArray[np.complex128]
    turned: NDArray[np.complex128]
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class ShownVisibilities:
    """Points of a source, and what else is known of its data.

    Attributes
    ----------
    source : VisibilitySource
    points : VisibilityPoints
    frequency_hz, channels : tuple of float, tuple of int
        Mean frequency and number of channels of each window.
    flagged : tuple of float
        Flagged part of the visibilities of each window that were read, 0 to 1; NaN where none were.
    part : float
        Part of the rows that was read, 0 to 1.
    relative : bool
        True where there is a model.
    """

    source: VisibilitySource
    points: VisibilityPoints
    frequency_hz: tuple[float, ...]
    channels: tuple[int, ...]
    flagged: tuple[float, ...]
    part: float
    relative: bool


def run_points(run: Run) -> list[ShownVisibilities]:
    """Return the visibilities of a run, before and after.

    Raises
    ------
    InputError
        A data set cannot be opened.
    """
    return [read_points(VisibilitySource(*each)) for each in visibility_columns(run)]


def read_points(source: VisibilitySource, *, max_rows: int = MOST_ROWS) -> ShownVisibilities:
    """Read visibilities, at most about ``max_rows`` rows and `MOST_BYTES`.

    Raises
    ------
    InputError
        A data set cannot be opened.
    """
    relative = _has_model(source)
    found: list[VisibilityPoints] = []
    frequency_hz: list[float] = []
    channels: list[int] = []
    counts: dict[int, NDArray[np.int64]] = {}
    read = total = 0
    for number, ms in enumerate(source.ms):
        tables = Subtables(ms)
        rows, sampling = _sampling(ms, max_rows // len(source.ms), tables)
        total += rows
        first = len(frequency_hz)
        frequency_hz += [window.mean_hz for window in tables.windows]
        channels += [window.channels for window in tables.windows]
        model = source.model_column if relative and source.column != source.model_column else ""
        names = (source.column, "FLAG", "FLAG_ROW", "UVW", "ANTENNA1", "ANTENNA2", "TIME",
                 "WEIGHT", *([model] if model else []))  # fmt: skip
        hands = [
            list(setup.parallel) or list(range(len(setup.correlations)))
            for setup in tables.setup_of
        ]
        for chunk in chunks(ms, names, max_bytes=CHUNK_BYTES, where=sampling):
            read += len(chunk.rows)
            points, seen = _of_chunk(chunk, source.column, model, hands, tables, number, first)
            counts[first + chunk.spw] = counts.get(first + chunk.spw, 0) + seen
            found.append(points)
    joined = _joined(found)
    if not relative:
        joined = replace(joined, model=np.full(joined.data.shape, np.nan + 0j))
    flagged = tuple(
        float(counts[i][0] / counts[i][1]) if i in counts and counts[i][1] else math.nan
        for i in range(len(frequency_hz))
    )
    return ShownVisibilities(
        source, joined, tuple(frequency_hz), tuple(channels), flagged,
        read / total if total else 0.0, relative,
    )  # fmt: skip


def _of_chunk(
    chunk: Chunk, column: str, model: str, hands: Sequence[Sequence[int]], tables: Subtables,
    number: int, first: int,
) -> tuple[VisibilityPoints, NDArray[np.int64]]:  # fmt: skip
    """Return the points of a chunk, and the numbers of its flagged and of all its visibilities."""
    keep = hands[chunk.data_desc_id]
    cross = chunk["ANTENNA1"] != chunk["ANTENNA2"]
    data = chunk[column][cross][:, :, keep]
    flag = chunk["FLAG"][cross][:, :, keep] | chunk["FLAG_ROW"][cross][:, None, None]
    good = ~flag & np.isfinite(data)
    count = good.sum(axis=1)
    used = count > 0
    shape = count.shape
    share = np.maximum(count, 1)
    mean = np.where(good, data, 0).sum(axis=1) / share
    turned = modelled = mean
    if model:
        against = np.where(good, chunk[model][cross][:, :, keep], 0)
        modelled = against.sum(axis=1) / share
        turned = (np.where(good, data, 0) * against.conj()).sum(axis=1) / share
    uv_m = np.hypot(chunk["UVW"][cross, 0], chunk["UVW"][cross, 1])
    wavelengths = uv_m * tables.windows[chunk.spw].mean_hz / SPEED_OF_LIGHT_M_S
    ends = chunk["ANTENNA1"][cross].astype(np.int64) << 24 | chunk["ANTENNA2"][cross] << 4
    baseline = (number << 48) + ends[:, None] + np.arange(shape[1])

    def flat(values: NDArray[Any]) -> NDArray[Any]:
        whole = np.broadcast_to(values if values.ndim == 2 else values[:, None], shape)
        return whole[used]

    weight = np.maximum(chunk["WEIGHT"][cross][:, keep], 0) * count
    window = np.full(shape, first + chunk.spw, np.int32)
    points = VisibilityPoints(
        flat(chunk["TIME"][cross]), window[used], baseline[used], flat(wavelengths),
        mean[used].astype(np.complex128), modelled[used].astype(np.complex128),
        turned[used].astype(np.complex128), weight[used].astype(np.float64),
    )  # fmt: skip
    return points, np.array([flag.sum(), flag.size])


def _joined(parts: Sequence[VisibilityPoints]) -> VisibilityPoints:
    kinds = {"window": np.int32, "baseline": np.int64, "data": complex, "model": complex,
             "turned": complex}  # fmt: skip
    return VisibilityPoints(**{
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        if parts else np.zeros(0, kinds.get(field.name, float))
        for field in fields(VisibilityPoints)
    })  # fmt: skip


def _has_model(source: VisibilitySource) -> bool:
    """Return True where all data sets of a source have the column of its model."""
    return bool(source.model_column) and all(
        source.model_column in column_names(ms) for ms in source.ms
    )


def _sampling(ms: Path, max_rows: int, tables: Subtables) -> tuple[int, RowFilter | str]:
    """Return the number of rows, and a condition for whole, evenly spread integrations.

    Whole integrations represent every baseline and are read from few places on the disk. Two
    neighbours at least are taken at each place, so that they can be subtracted.
    """
    widest = max(
        (tables.windows[spw].channels * len(setup.correlations)
         for spw, setup in zip(tables.spw_of, tables.setup_of, strict=True)), default=1,
    )  # fmt: skip
    most = min(max_rows, MOST_BYTES // (widest * _BYTES_A_VISIBILITY))
    with open_table(ms) as opened:
        total = opened.nrows()
        if total <= most:
            return total, ""
        times = distinct(opened, "TIME")
    wanted = max(2, int(len(times) * most / total))
    places = max(1, min(200, wanted // 2))
    length = max(1, wanted // places)
    starts = np.linspace(0, len(times) - length, places).astype(int)
    first, last = times[starts] - 1e-3, times[starts + length - 1] + 1e-3

    def within(opened: Any, low: int, count: int) -> NDArray[np.bool_]:
        time_s = opened.getcol("TIME", low, count)
        place = np.searchsorted(first, time_s) - 1
        return np.asarray((place >= 0) & (time_s < last[place]), bool)

    return total, within


# -- what is made of the points -------------------------------------------------------------------


@dataclass(frozen=True)
class VisibilityDensity:
    """Numbers of visibilities on grids of uv distance or time, and amplitude or phase.

    Attributes
    ----------
    label : str
    uv_edges : (nuv + 1,) float64
        Edges of the bins in uv distance, wavelengths.
    time_axis : TimeAxis
        Axis on which gaps between scans are cut short.
    time_edges_s : (ntime + 1,) float64
        Edges of the bins along that axis, s.
    amplitude_edges : (nbin + 1,) float64
        Edges of the bins in amplitude, Jy.
    phase_edges_deg : (nbin + 1,) float64
    amplitude, phase : (nuv, nbin) float64
        Numbers of points in each bin; phases are relative to the model where there is one.
    phase_by_time : (ntime, nbin) float64
    ratio_edges : (nbin + 1,) float64
        Edges of the bins in amplitude over that of the model.
    ratio_by_time : (ntime, nbin) float64
        Numbers of points whose model is known.
    model_uv : (nmodel,) float64
        Centres, in wavelengths, of the bins of the model.
    model_amplitude : (3, nmodel) float64
        Percentiles 16, 50 and 84 of the model's amplitude, Jy; NaN where unknown.
    relative : bool
        True where phases are those of data over model, which do not turn with a source's offset.
    count : int
        Number of points.
    """

    label: str
    uv_edges: NDArray[np.float64]
    time_axis: TimeAxis
    time_edges_s: NDArray[np.float64]
    amplitude_edges: NDArray[np.float64]
    phase_edges_deg: NDArray[np.float64]
    ratio_edges: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    phase_by_time: NDArray[np.float64]
    ratio_by_time: NDArray[np.float64]
    model_uv: NDArray[np.float64]
    model_amplitude: NDArray[np.float64]
    relative: bool
    count: int


def visibility_density(shown: Sequence[ShownVisibilities]) -> list[VisibilityDensity]:
    """Bin the visibilities of several columns on the same grids; empty where all is flagged."""
    known = [each.points for each in shown if each.points.data.size]
    longest = max((float(p.uv_wavelengths.max()) for p in known), default=0.0)
    if longest <= 0:
        return []
    brightest = max(float(np.percentile(np.abs(p.data), 99.7)) for p in known) * 1.12
    times = np.unique(np.concatenate([np.unique(p.time_s) for p in known]))
    spacing = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    axis = make_time_axis(times, np.full(len(times), spacing))
    ratios = [np.abs(p.turned) / np.abs(p.model) ** 2 for p in known]
    ratios = [r[np.isfinite(r)] for r in ratios]
    top = max((float(np.percentile(r, 99.0)) for r in ratios if r.size), default=2.0)
    grid = _Grid(
        np.linspace(0, longest * 1.01, BINS[0] + 1),
        np.linspace(-0.5 * spacing, axis.x[-1] + 0.5 * spacing, min(BINS[0], len(times)) + 1),
        np.linspace(0, brightest or 1.0, BINS[1] + 1),
        np.linspace(-180, 180, BINS[1] + 1),
        np.linspace(0, min(max(1.5, 1.1 * top), 10.0), BINS[1] + 1),
        axis,
    )
    densities = [_density(each, grid) for each in shown]
    modelled = next((d for d in densities if np.isfinite(d.model_amplitude).any()), None)
    if modelled is None:
        return densities
    # a data set that was split off holds no model; the model it was calibrated with is used
    return [
        density
        if np.isfinite(density.model_amplitude).any()
        else replace(density, model_amplitude=modelled.model_amplitude)
        for density in densities
    ]


@dataclass(frozen=True)
class _Grid:
    uv: NDArray[np.float64]
    time_s: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase_deg: NDArray[np.float64]
    ratio: NDArray[np.float64]
    axis: TimeAxis


def _density(shown: ShownVisibilities, grid: _Grid) -> VisibilityDensity:
    points = shown.points
    since = np.interp(points.time_s, grid.axis.time_s, grid.axis.x)
    degrees = np.degrees(np.angle(points.turned))
    ratio = np.abs(points.turned) / np.abs(points.model) ** 2
    there = np.isfinite(ratio)

    def counted(x: Any, y: Any, *bins: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.histogram2d(x, y, bins=bins)[0], np.float64)

    centres, model = _model(shown, grid)
    return VisibilityDensity(
        shown.source.label, grid.uv, grid.axis, grid.time_s, grid.amplitude, grid.phase_deg,
        grid.ratio,
        counted(points.uv_wavelengths, np.abs(points.data), grid.uv, grid.amplitude),
        counted(points.uv_wavelengths, degrees, grid.uv, grid.phase_deg),
        counted(since, degrees, grid.time_s, grid.phase_deg),
        counted(since[there], ratio[there], grid.time_s, grid.ratio),
        centres, model, shown.relative, points.data.size,
    )  # fmt: skip


def _model(
    shown: ShownVisibilities, grid: _Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return percentiles of the model's amplitude in bins of uv distance."""
    edges = np.linspace(0, grid.uv[-1], MODEL_BINS + 1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    found = np.full((3, MODEL_BINS), np.nan)
    if shown.relative:
        amplitude = np.abs(shown.points.model)
        bins = np.searchsorted(edges, shown.points.uv_wavelengths, side="right") - 1
        for number in np.unique(bins):
            values = amplitude[bins == number]
            if len(values) >= 3:
                found[:, number] = np.percentile(values, (16, 50, 84))
    return centres, found


@dataclass(frozen=True)
class WindowRow:
    """What the visibilities of a spectral window say.

    Attributes
    ----------
    window, channels, points : int
    frequency_hz : float
    flagged : float
        Flagged part, 0 to 1.
    amplitude_ratio : float
        Amplitude of the data over that of the model: sum of data times conjugated model over the
        sum of the squared model; NaN without a model.
    phase_scatter_deg : float
        Scatter of the phase, of that of data over model where there is a model (1.4826 MAD).
    """

    window: int
    channels: int
    points: int
    frequency_hz: float
    flagged: float
    amplitude_ratio: float
    phase_scatter_deg: float


def window_rows(shown: ShownVisibilities) -> Iterator[WindowRow]:
    """Yield what the visibilities of each window say that were read at all."""
    points = shown.points
    for number, flagged in enumerate(shown.flagged):
        if math.isnan(flagged):
            continue
        mine = points.window == number
        turned = points.turned[mine]
        squared = float((np.abs(points.model[mine]) ** 2).sum())
        ratio = abs(turned.sum()) / squared if squared > 0 else math.nan
        scatter = math.nan
        if turned.size:
            middle = np.angle(turned.sum())
            apart = np.degrees(np.abs(np.angle(turned * np.exp(-1j * middle))))
            scatter = _MAD_TO_SIGMA * float(np.median(apart))
        yield WindowRow(
            number, shown.channels[number], int(mine.sum()), shown.frequency_hz[number], flagged,
            float(ratio), scatter,
        )  # fmt: skip


def natural_noise_jy_beam(shown: ShownVisibilities) -> float:
    """Return the thermal noise of a naturally weighted Stokes I image of the data.

    Visibilities of a baseline and hand at neighbouring times are subtracted, which leaves their
    noise whatever the source: with weights w the scatter of d sqrt(w1 w2 / (w1 + w2)) is 1 where
    the weights are 1 / sigma^2, and says by how much they are wrong where they are not. The noise
    of the image is that scatter over the square root of the sum of weights.

    Returns
    -------
    float
        Noise, Jy/beam; NaN where too few neighbours were read.
    """
    points = shown.points
    order = np.lexsort((points.time_s, points.window, points.baseline))
    time_s, weight, data = points.time_s[order], points.weight[order], points.data[order]
    key = np.stack([points.baseline[order], points.window[order]])
    same = (key[:, 1:] == key[:, :-1]).all(axis=0)
    step = np.diff(time_s)
    same &= (weight[1:] > 0) & (weight[:-1] > 0) & (step > 0)
    if same.sum() < FEWEST_DIFFERENCES:
        return math.nan
    same &= step < 1.5 * float(np.percentile(step[same], 20))
    pair = weight[1:][same] * weight[:-1][same] / (weight[1:][same] + weight[:-1][same])
    apart = np.diff(data)[same] * np.sqrt(pair)
    both = np.abs(np.concatenate([apart.real, apart.imag]))
    total = float(weight.sum()) / max(shown.part, 1e-12)
    if len(both) < 2 * FEWEST_DIFFERENCES or not total > 0:
        return math.nan
    return _MAD_TO_SIGMA * float(np.median(both)) / math.sqrt(total)
