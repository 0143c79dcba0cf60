"""Figures of gain solutions: phase and amplitude against time per antenna, and their SNR."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from libs.gains.gain_solutions import GainSolutions
from reports.panel_page import PanelPage, new_page
from reports.style import INK, MINUS, PALETTE, REJECTED, format_number, new_figure, styled
from reports.time_axis import TimeAxis, make_time_axis

__all__ = ["amplitude_figures", "phase_figures", "snr_histogram"]

PANELS_PER_PAGE = 30
NO_PHASE_DEG = 1e-3
COLUMNS = 5
MOST_BLOCKS = 8
_TICKS = MaxNLocator(4, steps=[1, 2, 5, 10])
PHASE_LIMITS_DEG = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0)


@styled
def phase_figures(solutions: GainSolutions, title: str = "") -> list[Figure]:
    """Draw gain phase against time, one panel for each antenna.

    Every polarization and frequency block is drawn; flagged solutions are ticks at the bottom of
    their panel. All panels share both axes, so that a bad antenna stands out.

    Parameters
    ----------
    solutions : GainSolutions
    title : str
        Heading of the figures.

    Returns
    -------
    list of Figure
        Pages of at most 30 antennas; none for a table of amplitudes, whose phases are all 0.
    """
    phase_deg = np.degrees(np.angle(solutions.gain))
    if np.abs(phase_deg[~solutions.flag]).max(initial=0.0) < NO_PHASE_DEG:
        return []
    largest = float(np.abs(phase_deg[~solutions.flag]).max(initial=0.0))
    limit = next(limit for limit in PHASE_LIMITS_DEG if largest <= limit * 0.98 or limit == 180)
    return _pages(solutions, phase_deg, (-limit, limit), "Gain phase (deg)", title, 180.0)


@styled
def amplitude_figures(solutions: GainSolutions, title: str = "") -> list[Figure]:
    """Draw gain amplitude against time, one panel for each antenna.

    Parameters
    ----------
    solutions : GainSolutions
    title : str
        Heading of the figures.

    Returns
    -------
    list of Figure
        Pages of at most 30 antennas; none for a phase-only table, whose amplitudes are all 1.
    """
    amplitude = np.abs(solutions.gain)
    good = amplitude[~solutions.flag]
    if not good.size or np.abs(good - 1.0).max() < 1e-4:
        return []
    # a few outliers must not compress all other solutions to a line
    low, high = np.percentile(good, [0.5, 99.5])
    low, high = min(float(low), 1.0), max(float(high), 1.0)
    margin = 0.15 * (high - low) + 0.005
    limits = (max(0.0, low - margin), high + margin)
    return _pages(solutions, amplitude, limits, "Gain amplitude", title, math.inf)


def _pages(
    solutions: GainSolutions,
    value: NDArray[np.float64],
    limits: tuple[float, float],
    label: str,
    title: str,
    jump: float,
) -> list[Figure]:
    shown = np.flatnonzero(~solutions.flag.all(axis=(0, 1, 3)))
    silent = [name for i, name in enumerate(solutions.antenna) if i not in set(shown.tolist())]
    if silent:
        said = f"Without solutions, not shown: {shortened(silent)}"
        title = f"{title}. {said}" if title else said
    pages = max(1, math.ceil(len(shown) / PANELS_PER_PAGE))
    figures = []
    for page in range(pages):
        antennas = shown[page * PANELS_PER_PAGE : (page + 1) * PANELS_PER_PAGE].tolist()
        heading = title + (f" (page {page + 1} of {pages})" if pages > 1 else "")
        figures.append(_page(solutions, value, limits, label, heading, jump, antennas))
    return figures


def _page(
    solutions: GainSolutions,
    value: NDArray[np.float64],
    limits: tuple[float, float],
    label: str,
    title: str,
    jump: float,
    antennas: Sequence[int],
) -> Figure:
    times = make_time_axis(solutions.time_s, solutions.interval_s)
    span = limits[1] - limits[0]
    page = new_page(
        len(antennas), COLUMNS, _time_limits(times),
        (limits[0] - 0.06 * span, limits[1] + 0.06 * span),
    )  # fmt: skip
    _curves(page, solutions, value, antennas, times, limits, jump)
    _flags(page, solutions, antennas, times)
    still = _without_phase(solutions)
    for panel, antenna in enumerate(antennas):
        note = _note(solutions, value, antenna, alone=still == [antenna])
        page.name(panel, solutions.antenna[antenna], note)
    page.levels(0.0 if limits[0] < 0 else 1.0)
    page.cuts(times.cuts)
    page.frames(times.ticks(), _value_ticks(limits))
    page.titles(title, times.label, label)
    width = page.size[0]
    page.figure.legend(
        handles=_legend(solutions), loc="upper right", bbox_to_anchor=(1 - 0.06 / width, 1.0),
        ncols=6, handletextpad=0.4, columnspacing=1.3,
    )  # fmt: skip
    return page.figure


def _time_limits(times: TimeAxis) -> tuple[float, float]:
    if not times.x.size:
        return 0.0, 1.0
    pad = max(0.03 * float(np.ptp(times.x)), 1.0)
    return float(times.x.min()) - pad, float(times.x.max()) + pad


def _value_ticks(limits: tuple[float, float]) -> tuple[list[float], list[str]]:
    """Return places and labels of a few ticks: of phases the limits and zero."""
    low, high = limits
    if low == -high:
        places = [low, 0.0, high]
    else:
        places = [float(v) for v in _TICKS.tick_values(low, high) if low <= v <= high]
    return places, [f"{place:.6g}".replace("-", MINUS) for place in places]


def _curves(
    page: PanelPage,
    solutions: GainSolutions,
    value: NDArray[np.float64],
    antennas: Sequence[int],
    times: TimeAxis,
    limits: tuple[float, float],
    jump: float,
) -> None:
    """Draw a line for each polarization and frequency block, broken at gaps."""
    dense = solutions.flag.shape[0] > 60
    blocks = _shown_blocks(solutions)
    for pol, name in enumerate(solutions.polarization):
        for order, block in reversed(list(enumerate(blocks))):  # the darkest on top
            curves = []
            for panel, antenna in enumerate(antennas):
                series, good = (
                    value[:, block, antenna, pol],
                    ~solutions.flag[:, block, antenna, pol],
                )
                x, y = _broken(times, solutions, series, good, jump)
                curves.append((panel, x, np.clip(y, *limits)))
            page.curve(
                curves, color=_shade(PALETTE[pol % len(PALETTE)], order, len(blocks)), lw=0.7,
                marker="o", ms=1.2 if dense else 2.2, mew=0, zorder=3 + pol, label=str(name),
            )  # fmt: skip


def _flags(
    page: PanelPage, solutions: GainSolutions, antennas: Sequence[int], times: TimeAxis
) -> None:
    """Draw flagged solutions as ticks at the bottom of their panels.

    A tick is the more opaque the larger the flagged fraction of the antenna's solutions then.
    """
    x, y, alpha = [], [], []
    for panel, antenna in enumerate(antennas):
        flag = solutions.flag[:, :, antenna, :]
        flagged = flag.any(axis=(1, 2))
        x.append(page.x(panel, times.x[flagged]))
        y.append(np.full(flagged.sum(), page.corner(panel)[1] + 0.035 * page.panel_size[1]))
        alpha.append(0.25 + 0.75 * flag.mean(axis=(1, 2))[flagged])
    if any(len(part) for part in x):
        page.axes.scatter(
            np.concatenate(x), np.concatenate(y), marker="|", s=22, lw=0.9, c=REJECTED,
            alpha=np.concatenate(alpha), zorder=6 + len(solutions.polarization), label="flagged",
        )  # fmt: skip


def shortened(names: Sequence[str], most: int = 8) -> str:
    """Return names in a list that ends with the number of those left out."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _without_phase(solutions: GainSolutions) -> list[int]:
    """Return the antennas whose phases are zero throughout; a lone one is the reference."""
    phase = np.where(solutions.flag, 0.0, np.angle(solutions.gain))
    largest = np.degrees(np.abs(phase)).max(axis=(0, 1, 3))
    used = ~solutions.flag.all(axis=(0, 1, 3))
    return [int(i) for i in np.flatnonzero((largest < NO_PHASE_DEG) & used)]


def _note(
    solutions: GainSolutions, value: NDArray[np.float64], antenna: int, *, alone: bool
) -> str:
    """Return what is said of an antenna beside its name."""
    flag = solutions.flag[:, :, antenna, :]
    if np.abs(value[:, :, antenna, :][~flag]).max() < NO_PHASE_DEG:
        return "reference" if alone else "phase 0"
    return f"{100 * flag.mean():.0f}% flagged" if flag.mean() >= 0.005 else ""


def _broken(
    times: TimeAxis,
    solutions: GainSolutions,
    value: NDArray[np.float64],
    good: NDArray[np.bool_],
    jump: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return unflagged points with NaN between those that no line should join.

    A line ends at a gap that was cut or exceeds 2.5 intervals, and where a phase wraps.
    """
    index = np.flatnonzero(good)
    x, y = times.x[index], value[index]
    if index.size < 2:
        return x, y
    spacing = float(np.median(np.diff(times.time_s)))
    typical = max(float(np.median(solutions.interval_s)), spacing, 1e-6)
    scan = np.searchsorted(np.asarray(times.cuts), x)
    ends = np.diff(times.time_s[index]) > 2.5 * typical
    ends |= (np.diff(scan) > 0) | (np.abs(np.diff(y)) > jump)
    place = np.flatnonzero(ends) + 1
    return np.insert(x, place, x[place]), np.insert(y, place, np.nan)


def _shown_blocks(solutions: GainSolutions) -> list[int]:
    """Return the frequency blocks to draw: all of a few, an even selection of many."""
    count = len(solutions.frequency_hz)
    if count <= MOST_BLOCKS:
        return list(range(count))
    return [int(block) for block in np.linspace(0, count - 1, MOST_BLOCKS).round()]


def _shade(colour: str, block: int, blocks: int) -> tuple[float, float, float]:
    """Lighten a colour with the frequency block, so that spectral windows can be distinguished."""
    share = 0.55 * block / max(1, blocks - 1) if blocks > 1 else 0.0
    red, green, blue = to_rgb(colour)
    return (red + share * (1 - red), green + share * (1 - green), blue + share * (1 - blue))


def _legend(solutions: GainSolutions) -> list[Line2D]:
    handles = [
        Line2D([], [], color=PALETTE[pol % len(PALETTE)], marker="o", ms=4, lw=1,
               label="both polarizations" if name == "I" else name)
        for pol, name in enumerate(solutions.polarization)
    ]  # fmt: skip
    blocks = len(solutions.frequency_hz)
    if blocks > 1:
        shown = len(_shown_blocks(solutions))
        words = f"{blocks} frequency blocks" if shown == blocks else f"{shown} of {blocks} blocks"
        handles.append(
            Line2D([], [], color=_shade(INK, shown - 1, shown), marker="o", ms=4, lw=1,
                   label=f"{words}, dark to light")
        )  # fmt: skip
    if solutions.flag.any():
        handles.append(
            Line2D([], [], color=REJECTED, marker="|", ms=6, mew=1.2, lw=0, label="flagged")
        )
    return handles


@styled
def snr_histogram(solutions: GainSolutions, minsnr: float | None = None, title: str = "") -> Figure:
    """Draw a histogram of the signal-to-noise ratios of solutions.

    Parameters
    ----------
    solutions : GainSolutions
    minsnr : float or None
        Limit below which solutions were flagged; drawn as a line.
    title : str
        Heading of the figure.

    Returns
    -------
    Figure
        Bars stacked by polarization on a logarithmic axis, with the number of flagged solutions
        (whose SNR is not kept) beside them.
    """
    figure = new_figure(7.2, 2.7, placed=True)
    axes = figure.add_axes((0.085, 0.18, 0.68, 0.72))
    good = ~solutions.flag & (solutions.snr > 0)
    values = solutions.snr[good]
    if values.size:
        low, high = float(values.min()), float(values.max())
        low = min(low, minsnr) if minsnr else low
        edges = np.geomspace(low / 1.15, high * 1.15, 41)
        parts = [solutions.snr[..., pol][good[..., pol]] for pol in range(good.shape[3])]
        names = ["both polarizations" if n == "I" else n for n in solutions.polarization]
        axes.hist(
            parts, bins=list(edges), stacked=True, color=PALETTE[: len(parts)],
            label=names, edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda x, _: format_number(x, 1))
        axes.xaxis.set_minor_formatter(NullFormatter())
        median = float(np.median(values))
        axes.axvline(median, color=INK, lw=1, ls=(0, (4, 2)),
                     label=f"median {format_number(median)}")  # fmt: skip
    else:
        axes.text(0.5, 0.5, "no unflagged solution", transform=axes.transAxes, ha="center")
    if minsnr:
        axes.axvline(minsnr, color=REJECTED, lw=1.2, label=f"minsnr {minsnr:g}")
    axes.set_xlabel("Signal-to-noise ratio of a solution")
    axes.set_ylabel("Solutions")
    axes.set_title(title)
    total, flagged = solutions.flag.size, int(solutions.flag.sum())
    note = f"{total - flagged} of {total} good\n{100 * solutions.flagged_fraction:.1f}% flagged"
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1.04),
        title=note,
        alignment="left",
        title_fontsize=8,
    )
    return figure
