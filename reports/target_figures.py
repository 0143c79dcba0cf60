"""Figures of a target: its spectral windows before and after, and what is flagged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from libs.record.schema import FlagShare, TargetEntry
from reports.image_panels import colour_bar, draw_view, panel_grid, shared_scale
from reports.image_view import read_shown
from reports.style import ACCEPTED, MUTED, format_number, new_figure, styled

__all__ = ["flags_figure", "windows_figure"]

MOST_WINDOWS, MOST_EXECUTIONS = 12, 8
_SIDE_INCH = 1.9
_STATES = {"initial": 1, "final": 3}


@styled
def windows_figure(folder: Path, target: TargetEntry) -> Figure | None:
    """Draw the images of each spectral window before and after, in one colour scale each.

    Parameters
    ----------
    folder : Path
        Work directory of the target's run, with ``products/``.
    target : TargetEntry

    Returns
    -------
    Figure or None
        None where the images are not there. Above `MOST_WINDOWS` windows only the first are shown.
    """
    pairs = []
    for number in list(target.window_results)[:MOST_WINDOWS]:
        names = [f"products/*.spw{number}.cont.I.iter{i}.image.fits" for i in _STATES.values()]
        found = [next(iter(sorted(folder.glob(name))), None) for name in names]
        if all(found):
            pairs.append((number, [path for path in found if path is not None]))
    if not pairs:
        return None
    figure, panels, bars = panel_grid(len(pairs), 2, _SIDE_INCH, (1,))
    scale = shared_scale([path for _, paths in pairs for path in paths])
    for row, (number, paths) in zip(panels, pairs, strict=True):
        for axes, path, state in zip(row, paths, _STATES, strict=True):
            drawn = draw_view(axes, read_shown(path), scale)
            snr = target.window_results[number].get(state, {}).get("snr")
            word = "before" if state == "initial" else "after"
            text = f", SNR {format_number(float(snr), 3)}" if isinstance(snr, float) else ""
            axes.set_title(f"spw {number} {word}{text}")
            if row is not panels[-1]:
                axes.set_xlabel("")
    colour_bar(drawn, bars[0], scale)
    return figure


@styled
def flags_figure(target: TargetEntry) -> Figure:
    """Draw the visibilities flagged before and after, by antenna and by length of the baseline.

    Of more than `MOST_EXECUTIONS` executions only the first are shown.
    """
    shown = dict(list(target.flags.items())[:MOST_EXECUTIONS])
    rows = len(shown)
    widest = max(len(change.antennas) for change in shown.values())
    figure = new_figure(min(13.0, 6.0 + 0.16 * widest), 2.6 * rows + 0.5)
    grid = figure.subplots(rows, 2, squeeze=False, width_ratios=(2, 1))
    for (left, right), (name, change) in zip(grid, shown.items(), strict=True):
        antennas = list(change.antennas)
        _bars(left, antennas, list(change.antennas.values()), turned=len(antennas) > 12)
        left.set_title(f"{name}: by antenna")
        labels = [f"{_km(each.low_m)}–{_km(each.high_m)}" for each in change.lengths]
        _bars(right, labels, [each.share for each in change.lengths], turned=True)
        right.set_title("by length of the baseline, km")
        left.set_ylabel("Flagged, %")
    grid[0, 0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=2)
    return figure


def _bars(axes: Axes, labels: list[str], shares: list[FlagShare], *, turned: bool) -> None:
    place = np.arange(len(labels))
    for offset, name, colour in ((-0.2, "before", MUTED), (0.2, "after", ACCEPTED)):
        values = [100 * getattr(share, name) for share in shares]
        axes.bar(place + offset, values, 0.4, color=colour, label=name)
    axes.set_xticks(place, labels, rotation=90 if turned else 0, fontsize=7)
    axes.set_ylim(0, max(5.0, *(110 * share.after for share in shares)) if shares else 5.0)


def _km(length_m: float) -> str:
    return f"{length_m / 1000:.3g}"
