"""Coherence of closure phases against baseline length, and the statistic of each station."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reports.records import Run, StepRow, as_number
from reports.style import ACCEPTED, GRID, INK, MUTED, REJECTED, format_number, new_figure, styled

__all__ = ["ClosureRecords", "closure_figure", "read_closures"]

_MOST_NAMED = 90  # stations; more are drawn without their names


@dataclass(frozen=True)
class ClosureRecords:
    """Contents of the step's CSV files, as rows.

    Attributes
    ----------
    stations : list of dict
        Rows with station, coherence, threshold, coherent.
    bins : list of dict
        Rows with shortest_km, longest_km, coherence, threshold, coherent.
    baselines : list of dict
        Rows with length_km, coherence; empty in records of earlier versions.
    longest_km : float
        Longest coherent baseline; 0: none.
    """

    stations: list[dict[str, str]]
    bins: list[dict[str, str]]
    baselines: list[dict[str, str]]
    longest_km: float


def read_closures(run: Run, row: StepRow) -> ClosureRecords | None:
    """Return a step's records of closure phases; None where it recorded nothing."""
    names = ("closure", "closure_baselines", "closure_pairs")
    paths = [run.file(row.products.get(name)) for name in names]
    if paths[0] is None or paths[1] is None:
        return None
    stations, bins, baselines = (_rows(path) if path else [] for path in paths)
    if not stations:
        return None
    longest = row.metric("max_coherent_km")
    return ClosureRecords(stations, bins, baselines, longest if math.isfinite(longest) else 0.0)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _numbers(rows: Sequence[dict[str, str]], name: str) -> np.ndarray:
    return np.array([as_number(row.get(name)) for row in rows], dtype=float)


@styled
def closure_figure(records: ClosureRecords) -> Figure:
    """Draw the coherence against baseline length, and that of each station beside it.

    Parameters
    ----------
    records : ClosureRecords

    Returns
    -------
    Figure
        Figure in which 0 is noise and 1 a closure phase that does not change. A tick is the value
        that noise exceeds at the false-alarm rate; blue is above it, orange below.
    """
    count = len(records.stations)
    height = min(9.0, max(3.0, 0.9 + 0.155 * count))
    figure = new_figure(8.4, height)
    left, right = figure.subplots(1, 2, width_ratios=(1.45, 1.0))
    _draw_lengths(left, records)
    _draw_stations(right, records.stations)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure


def _coherences(rows: Sequence[dict[str, str]]) -> np.ndarray:
    """Return coherences; an estimate free of the noise's bias may exceed 1, the quantity cannot."""
    return np.minimum(_numbers(rows, "coherence"), 1.0)


def _draw_lengths(axes: Any, records: ClosureRecords) -> None:
    single = _numbers(records.baselines, "length_km"), _coherences(records.baselines)
    if len(single[0]):
        axes.plot(*single, ".", ms=2.5, color=MUTED, alpha=0.45, label="baseline", rasterized=True)
    low, high = _numbers(records.bins, "shortest_km"), _numbers(records.bins, "longest_km")
    value, limit = _coherences(records.bins), _numbers(records.bins, "threshold")
    good = np.array([row.get("coherent") == "True" for row in records.bins], dtype=bool)
    for chosen, colour, label in ((good, ACCEPTED, "coherent"), (~good, REJECTED, "noise")):
        if chosen.any():
            axes.hlines(value[chosen], low[chosen], high[chosen], color=colour, lw=3, label=label)
    drawn = np.isfinite(limit)
    if drawn.any():
        axes.hlines(limit[drawn], low[drawn], high[drawn], color=INK, lw=0.9, ls=(0, (3, 2)),
                    label="limit of noise")  # fmt: skip
    if records.longest_km > 0:
        axes.axvline(
            records.longest_km, color=ACCEPTED, lw=0.9, ls=":",
            label=f"coherent to {format_number(records.longest_km)} km",
        )  # fmt: skip
    axes.axhline(0, color=GRID, lw=0.8, zorder=0)
    lengths = np.concatenate([single[0], low, high])
    lengths = lengths[np.isfinite(lengths) & (lengths > 0)]
    if len(lengths) and lengths.max() > 8 * lengths.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set_xlabel("Longest baseline of the triangle (km)")
    axes.set_ylabel("Coherence of closure phases")
    axes.set_title("By baseline length")


def _draw_stations(axes: Any, rows: Sequence[dict[str, str]]) -> None:
    value, limit = _coherences(rows), _numbers(rows, "threshold")
    place = np.arange(len(rows))
    for good, colour in ((True, ACCEPTED), (False, REJECTED)):
        chosen = np.array([(row.get("coherent") == "True") is good for row in rows], dtype=bool)
        # stations without data have no limit
        chosen &= np.isfinite(limit)
        axes.hlines(place[chosen], 0, value[chosen], color=colour, lw=0.8)
        axes.plot(value[chosen], place[chosen], "o", ms=3.5, color=colour)
    axes.plot(limit, place, "|", ms=6, mew=1.1, color=INK)
    for y in place[~np.isfinite(limit)]:
        axes.text(0, y, " no data", va="center", fontsize=6.5, color=MUTED)
    axes.axvline(0, color=GRID, lw=0.8, zorder=0)
    if len(rows) <= _MOST_NAMED:
        size = min(8.0, 520.0 / max(len(rows), 1))
        axes.set_yticks(place, [row.get("station", "") for row in rows], fontsize=size)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("Coherence of closure phases")
    axes.set_title("By station")
