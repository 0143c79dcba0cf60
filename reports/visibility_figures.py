"""Amplitude and phase against baseline length, before and after, as densities.

The visibilities are read in chunks and only binned counts are kept, so memory does not grow
with the data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.ms.rows import RowFilter, chunks, distinct
from libs.ms.subtables import Subtables
from libs.ms.tables import column_names, open_table
from reports.style import MUTED, PALETTE, new_figure, prefixed, styled

__all__ = ["VisibilityDensity", "VisibilitySource", "visibility_density", "visibility_figure"]

CHUNK_BYTES = 48 * 1024**2
MAX_ROWS = 2_000_000
BINS = (
    150,
    111,
)  # along uv distance; along amplitude or phase (odd, so that 0 deg is the middle of a bin)
MODEL_BINS = 60
SAMPLE_PER_CHUNK = 4000
# not from white, so that single points remain visible
DENSITY_MAP = LinearSegmentedColormap.from_list(
    "density", ["#cfe1f2", "#93c4de", "#4a98c9", "#1764ab", "#08306b"]
)


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
class VisibilityDensity:
    """Numbers of visibilities on grids of uv distance and amplitude or phase.

    Attributes
    ----------
    label : str
    uv_edges : (nuv + 1,) float64
        Edges of the bins in uv distance, wavelengths.
    amplitude_edges : (nbin + 1,) float64
        Edges of the bins in amplitude, Jy.
    phase_edges_deg : (nbin + 1,) float64
    amplitude, phase : (nuv, nbin) float64
        Numbers of points in each bin; phases are relative to the model where there is one.
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
    amplitude_edges: NDArray[np.float64]
    phase_edges_deg: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    model_uv: NDArray[np.float64]
    model_amplitude: NDArray[np.float64]
    relative: bool
    count: int


Points = tuple[NDArray[np.float64], NDArray[np.complex128], NDArray[np.float64]]


def _points(source: VisibilitySource, column: str, max_rows: int) -> Iterator[Points]:
    """Yield uv distance (wavelengths), channel-averaged parallel-hand visibilities, their phases.

    Unflagged channels of a row are averaged, because single channels of a faint source are noise
    around the origin. Autocorrelations are left out. Phases (deg) are those of the mean of data
    times the conjugated model, where a model other than the column itself is there.
    """
    model = source.model_column if _has_model(source) and column != source.model_column else ""
    for ms in source.ms:
        yield from _points_of(ms, column, model, max_rows // len(source.ms))


def _has_model(source: VisibilitySource) -> bool:
    """Return True where all data sets of a source have the column of its model."""
    return bool(source.model_column) and all(
        source.model_column in column_names(ms) for ms in source.ms
    )


def _points_of(ms: Path, column: str, model: str, max_rows: int) -> Iterator[Points]:
    frequency_hz, parallel = _axes_of(ms)
    names = (column, "FLAG", "FLAG_ROW", "UVW", "ANTENNA1", "ANTENNA2", *([model] if model else []))
    for chunk in chunks(ms, names, max_bytes=CHUNK_BYTES, where=_sampling(ms, max_rows)):
        keep = parallel[chunk.data_desc_id]
        cross = (chunk["ANTENNA1"] != chunk["ANTENNA2"]) & ~chunk["FLAG_ROW"]
        data = chunk[column][cross][:, :, keep]
        good = ~chunk["FLAG"][cross][:, :, keep] & np.isfinite(data)
        number = good.sum(axis=1)
        mean = np.where(good, data, 0).sum(axis=1) / np.maximum(number, 1)
        wavelengths = np.hypot(chunk["UVW"][cross, 0], chunk["UVW"][cross, 1])
        wavelengths = wavelengths * frequency_hz[chunk.spw] / SPEED_OF_LIGHT_M_S
        used = number > 0
        turned = mean
        if model:
            against = chunk[model][cross][:, :, keep].conj()
            turned = np.where(good, data * against, 0).sum(axis=1)
        phase = np.degrees(np.angle(turned))
        yield np.broadcast_to(wavelengths[:, None], mean.shape)[used], mean[used], phase[used]


def _axes_of(ms: Path) -> tuple[list[float], list[list[int]]]:
    """Return the mean frequency of each spw and the parallel hands of each data description."""
    found = Subtables(ms)
    hands = [
        list(setup.parallel) or list(range(len(setup.correlations))) for setup in found.setup_of
    ]
    return [window.mean_hz for window in found.windows], hands


def _sampling(ms: Path, max_rows: int) -> RowFilter | str:
    """Return a condition that selects whole, evenly spread integrations of a large data set.

    Whole integrations represent every baseline and are read from few places on the disk.
    """
    with open_table(ms) as opened:
        total = opened.nrows()
        if total <= max_rows:
            return ""
        times = distinct(opened, "TIME")
    wanted = max(1, min(200, int(len(times) * max_rows / total)))
    length = max(1, int(len(times) * max_rows / total / wanted))
    starts = np.linspace(0, len(times) - length, wanted).astype(int)
    first, last = times[starts] - 1e-3, times[starts + length - 1] + 1e-3

    def within(opened: Any, low: int, count: int) -> NDArray[np.bool_]:
        time_s = opened.getcol("TIME", low, count)
        place = np.searchsorted(first, time_s) - 1
        return np.asarray((place >= 0) & (time_s < last[place]), bool)

    return within


def _ranges(sources: Sequence[VisibilitySource], max_rows: int) -> tuple[float, float]:
    """Return the longest uv distance (wavelengths) and the 99.7 % quantile of amplitude (Jy).

    The quantile is that of an even sample of each chunk, so that memory is bounded.
    """
    longest, sample = 0.0, []
    for source in sources:
        for distance, value, _ in _points(source, source.column, max_rows):
            if not distance.size:
                continue
            longest = max(longest, float(distance.max()))
            stride = max(1, value.size // SAMPLE_PER_CHUNK)
            sample.append(np.abs(value[::stride]))
    if not sample:
        return 0.0, 0.0
    return longest, float(np.percentile(np.concatenate(sample), 99.7)) * 1.12


def visibility_density(
    sources: Sequence[VisibilitySource], *, max_rows: int = MAX_ROWS
) -> list[VisibilityDensity]:
    """Bin the visibilities of several columns on the same grids.

    Parameters
    ----------
    sources : sequence of VisibilitySource
    max_rows : int
        Approximate number of rows read of a larger data set, as evenly spread integrations.

    Returns
    -------
    list of VisibilityDensity
        Densities of each source; empty when nothing is unflagged.

    Raises
    ------
    InputError
        A data set cannot be opened.
    """
    longest, brightest = _ranges(sources, max_rows)
    if longest <= 0:
        return []
    uv = np.linspace(0, longest * 1.01, BINS[0] + 1)
    amplitude = np.linspace(0, brightest or 1.0, BINS[1] + 1)
    phase = np.linspace(-180, 180, BINS[1] + 1)
    densities = [_density(source, uv, amplitude, phase, max_rows) for source in sources]
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


def _density(
    source: VisibilitySource,
    uv: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    phase: NDArray[np.float64],
    max_rows: int,
) -> VisibilityDensity:
    counts = (np.zeros(BINS), np.zeros(BINS))
    total = 0
    for distance, value, degrees in _points(source, source.column, max_rows):
        total += value.size
        counts[0][...] += np.histogram2d(distance, np.abs(value), bins=(uv, amplitude))[0]
        counts[1][...] += np.histogram2d(distance, degrees, bins=(uv, phase))[0]
    centres, model_amplitude = _model(source, uv, amplitude, max_rows)
    return VisibilityDensity(
        source.label, uv, amplitude, phase, *counts, centres, model_amplitude,
        _has_model(source), total,
    )  # fmt: skip


def _model(
    source: VisibilitySource,
    uv: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    max_rows: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return percentiles of the model's amplitude in bins of uv distance."""
    edges = np.linspace(0, uv[-1], MODEL_BINS + 1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    if not _has_model(source):
        return centres, np.full((3, MODEL_BINS), np.nan)
    fine = np.linspace(0, amplitude[-1] * 2, 1001)
    counts = np.zeros((MODEL_BINS, 1000))
    for distance, value, _ in _points(source, source.model_column, max_rows):
        counts += np.histogram2d(distance, np.abs(value), bins=(edges, fine))[0]
    return centres, _percentiles(counts, fine)


def _percentiles(counts: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 16th, 50th and 84th percentiles along the second axis of counts; NaN if too few."""
    total = counts.sum(axis=1)
    cumulative = np.cumsum(counts, axis=1)
    result = np.full((3, len(counts)), np.nan)
    for row, share in enumerate((0.16, 0.5, 0.84)):
        index = (cumulative >= share * np.maximum(total, 1)[:, None]).argmax(axis=1)
        values = 0.5 * (edges[index] + edges[index + 1])
        result[row] = np.where(total >= 3, values, np.nan)
    return result


@styled
def visibility_figure(densities: Sequence[VisibilityDensity], title: str = "") -> Figure | None:
    """Draw amplitude (top) and phase (bottom) against uv distance, one column for each source.

    Phases are those of data over model where there is one: those of a source away from the phase
    centre turn with the baseline and say nothing.

    Parameters
    ----------
    densities : sequence of VisibilityDensity
        Densities from :func:`visibility_density`; all share axes and colour scale.
    title : str
        Heading of the figure.

    Returns
    -------
    Figure or None
        Figure; None when there is nothing to draw.
    """
    if not densities:
        return None
    # placed by hand, because fitting the axes takes longer than drawing them
    width, height = 5.1 * len(densities) + 0.8, 5.6
    figure = new_figure(width, height, placed=True)
    axes = figure.subplots(
        2, len(densities), sharex=True, sharey="row", squeeze=False,
        gridspec_kw={
            "left": 0.68 / width, "right": 1 - 1.05 / width, "top": 1 - 0.55 / height,
            "bottom": 0.45 / height, "hspace": 0.06, "wspace": 0.05,
        },
    )  # fmt: skip
    uv_factor, uv_unit = prefixed(float(densities[0].uv_edges[-1]), "λ")
    factor, unit = prefixed(float(densities[0].amplitude_edges[-1]), "Jy")
    most = max(max(d.amplitude.max(), d.phase.max()) for d in densities)
    norm = LogNorm(1, max(float(most), 2.0))
    for column, density in enumerate(densities):
        top, bottom = axes[:, column]
        uv = density.uv_edges * uv_factor
        for panel, counts, edges in (
            (top, density.amplitude, density.amplitude_edges * factor),
            (bottom, density.phase, density.phase_edges_deg),
        ):
            shown = np.ma.masked_equal(counts.T, 0)
            mesh = panel.pcolormesh(uv, edges, shown, norm=norm, cmap=DENSITY_MAP, rasterized=True)
        centres = density.model_uv * uv_factor
        _draw_model(top, centres, density.model_amplitude * factor)
        top.set_title(density.label)
        bottom.set_xlabel(f"uv distance ({uv_unit})")
        bottom.axhline(0, color=MUTED, lw=0.5)
    axes[0, 0].set_ylabel(f"Amplitude ({unit})")
    relative = all(density.relative for density in densities)
    axes[1, 0].set_ylabel("Phase less the model's (deg)" if relative else "Phase (deg)")
    axes[1, 0].set(ylim=(-180, 180), yticks=np.arange(-180, 181, 90))
    axes[0, 0].set(xlim=(0, densities[0].uv_edges[-1] * uv_factor), ylim=(0, None))
    bar = figure.add_axes((1 - 0.93 / width, 0.45 / height, 0.13 / width, 1 - 1.0 / height))
    figure.colorbar(mesh, cax=bar, label="Visibilities per cell")
    if any(np.isfinite(density.model_amplitude).any() for density in densities):
        figure.legend(handles=[_model_handle()], loc="upper right", bbox_to_anchor=(1.0, 1.0))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=MUTED)
    return figure


def _draw_model(axes: Axes, centres: NDArray[np.float64], percentiles: NDArray[np.float64]) -> None:
    if not np.isfinite(percentiles).any():
        return
    colour = PALETTE[1]
    axes.fill_between(centres, percentiles[0], percentiles[2], color=colour, alpha=0.22, lw=0)
    axes.plot(centres, percentiles[1], color=colour, lw=1.4)


def _model_handle() -> Line2D:
    return Line2D([], [], color=PALETTE[1], lw=1.6, label="model: median, 16 to 84 %")
