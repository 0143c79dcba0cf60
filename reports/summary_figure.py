"""Figure of the image statistics after each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.records import Run, StepRow, as_number
from reports.style import ACCEPTED, MUTED, REJECTED, format_number, new_figure, prefixed, styled

__all__ = ["summary_figure"]


@dataclass(frozen=True)
class _Curve:
    """A statistic: its name in the records, its label and unit, and the better direction."""

    name: str
    label: str
    unit: str
    better: str


CURVES = (
    _Curve("peak_jy_beam", "Peak", "Jy/beam", "higher"),
    _Curve("rms_jy_beam", "Noise (rms)", "Jy/beam", "lower"),
    _Curve("dynamic_range", "Dynamic range", "", "higher"),
    _Curve("snr", "Signal-to-noise ratio", "", "higher"),
    _Curve("total_flux_jy", "Total flux density", "Jy", "steady"),
    _Curve("flagged_after", "Flagged visibilities", "%", "lower"),
)


@styled
def summary_figure(run: Run, steps: Sequence[StepRow] | None = None) -> Figure:
    """Draw peak, rms, dynamic range, SNR, total flux and flagged fraction against the steps.

    Parameters
    ----------
    run : Run
    steps : sequence of StepRow or None
        Steps to show; None: all that have an image.

    Returns
    -------
    Figure
        Six panels. The first image and accepted rounds are dots joined by a line, rejected ones
        crosses; later images of the calibrated data, made otherwise, are rings; a dotted line is
        the untouched data, where the run imaged it.
    """
    steps = run.imaged() if steps is None else steps
    steps = [row for row in steps if row.status != "skipped"]
    figure = new_figure(11.4, 5.2, placed=True)
    axes = figure.subplots(
        2, 3, sharex=True,
        gridspec_kw={"left": 0.05, "right": 0.99, "top": 0.9, "bottom": 0.12, "hspace": 0.25,
                     "wspace": 0.2},
    )  # fmt: skip
    for panel, curve in zip(axes.flat, CURVES, strict=True):
        _panel(panel, run, steps, curve)
    handles = [Line2D([], [], color=ACCEPTED, marker="o", ms=5, label="accepted")]
    if any(_is_product(run, row) for row in steps):
        handles.append(Line2D([], [], color=ACCEPTED, marker="o", mfc="none", ms=5, lw=0,
                              label="further images of the result"))  # fmt: skip
    if any(not row.accepted for row in steps):
        handles.append(Line2D([], [], color=REJECTED, marker="X", ms=6, lw=0, label="rejected"))
    if "untouched" in run.summary:
        handles.append(Line2D([], [], color=MUTED, ls=":", label="untouched data"))
    figure.legend(handles=handles, loc="upper right", ncols=3)
    return figure


def _is_product(run: Run, row: StepRow) -> bool:
    """Return True for an image made after the last round: no state that rounds are judged by."""
    names = [step.step for step in run.steps]
    rounds = [names.index(step.step) for step in run.rounds]
    return bool(rounds) and row.accepted and names.index(row.step) > max(rounds)


def _values(run: Run, steps: Sequence[StepRow], curve: _Curve) -> list[float]:
    if curve.name == "flagged_after":
        return [100 * _flagged(row) for row in steps]
    return [run.statistic(row, curve.name) for row in steps]


def _flagged(row: StepRow) -> float:
    value = row.metric("flagged_after")
    return value if math.isfinite(value) else row.metric("flagged_fraction")


def _panel(axes: Axes, run: Run, steps: Sequence[StepRow], curve: _Curve) -> None:
    values = np.array(_values(run, steps, curve), dtype=float)
    untouched = as_number((run.summary.get("untouched") or {}).get(curve.name))
    known = [v for v in (*values, untouched) if math.isfinite(v)]
    factor, unit = (1.0, curve.unit)
    if curve.unit.startswith("Jy") and known:
        factor, unit = prefixed(float(np.median(np.abs(known))), curve.unit)
    x = np.arange(len(steps))
    good = np.isfinite(values)
    later = good & np.array([_is_product(run, row) for row in steps], dtype=bool)
    kept = good & np.array([row.accepted for row in steps], dtype=bool) & ~later
    axes.plot(x[kept], values[kept] * factor, color=ACCEPTED, marker="o", ms=5, zorder=3)
    bad = good & ~kept & ~later
    if later.any():
        axes.plot(x[later], values[later] * factor, "o", color=ACCEPTED, mfc="none", ms=5, zorder=3)
    if bad.any():
        axes.plot(x[bad], values[bad] * factor, "X", color=REJECTED, ms=7, zorder=4)
    if math.isfinite(untouched):
        axes.axhline(untouched * factor, color=MUTED, ls=":", lw=1.2, zorder=1)
    _limits(axes, [value * factor for value in known], curve)
    _annotate_last(axes, x, values * factor, kept)
    axes.set_title(f"{curve.label}{f' ({unit})' if unit else ''}")
    axes.grid(axis="y", which="major")
    axes.set_xticks(x, [row.step for row in steps], rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, max(len(steps) - 0.35, 0.5))
    if not known:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED)
        axes.set_yticks([])


def _limits(axes: Axes, known: Sequence[float], curve: _Curve) -> None:
    """Set a logarithmic axis for large changes, else one that does not exaggerate noise."""
    if not known:
        return
    low, high = min(known), max(known)
    if curve.unit == "%":
        axes.set_ylim(0, max(1.0, 1.25 * high))
    elif low > 0 and high / low > 4:
        axes.set_yscale("log")
        margin = (high / low) ** 0.17
        axes.set_ylim(low / margin, high * margin)
        axes.yaxis.set_major_formatter(lambda value, _: format_number(value, 1))
        axes.yaxis.set_minor_formatter(lambda value, _: _minor(value, high / low))
        axes.tick_params(axis="y", which="minor", labelsize=7)
    else:
        span = max(high - low, 0.06 * abs(high), 1e-30)
        middle = 0.5 * (high + low)
        axes.set_ylim(middle - 0.72 * span, middle + 0.72 * span)


def _minor(value: float, ratio: float) -> str:
    """Return labels for 2 and 5 of a decade where few decades are shown."""
    leading = value / 10 ** math.floor(math.log10(value) + 1e-9)
    return format_number(value, 1) if ratio < 100 and round(leading) in (2, 5) else ""


def _annotate_last(
    axes: Axes, x: np.ndarray, values: np.ndarray, kept: np.ndarray
) -> None:  # numpy arrays of one length
    """Write first and last accepted value beside their dots, on the side away from the line."""
    index = np.flatnonzero(kept)
    for end, beside in ((0, 1), (-1, -2)) if index.size > 1 else ((0, 0),) if index.size else ():
        place, neighbour = index[end], index[beside]
        below = values[neighbour] > values[place]
        axes.annotate(
            format_number(float(values[place])), (x[place], values[place]),
            xytext=(0, -8 if below else 6), textcoords="offset points", ha="center",
            va="top" if below else "bottom", fontsize=7.5,
        )  # fmt: skip
