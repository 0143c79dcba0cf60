"""Pointings of a mosaic in a target's details: figures and images of each, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from libs.record.schema import TargetEntry
from reports.html_parts import Markup, cell, table, tag
from reports.image_panels import colour_bar, draw_view, panel_grid, shared_scale
from reports.image_view import read_shown
from reports.records import as_number, read_run
from reports.style import MISSING, format_number, format_quantity, styled

__all__ = ["pointing_table", "pointings_figure"]

MOST_POINTINGS = 12
_SIDE_INCH = 1.9


def pointing_table(target: TargetEntry) -> Markup:
    """Return the table of the pointings' own images and of what the joint model has of each."""
    rows = [
        [
            tag("th", name, scope="row"),
            *(cell(format_number(as_number(s.get("snr")), 4)) for s in pair),
            *(cell(format_quantity(as_number(s.get("peak_jy_beam")), "Jy/beam", 3)) for s in pair),
            *(cell(format_quantity(as_number(s.get("rms_jy_beam")), "Jy/beam", 3)) for s in pair),
            *(cell(_share(s)) for s in pair),
        ]
        for name, states in target.field_results.items()
        for pair in [(states.get("initial", {}), states.get("final", {}))]
    ]
    heading = [
        "Pointing", "SNR\nbefore", "SNR\nafter", "Peak\nbefore", "Peak\nafter", "Noise\nbefore",
        "Noise\nafter", "Model\nbefore", "Model\nafter",
    ]  # fmt: skip
    caption = "Images of single pointings; the model's part of the flux in the data"
    return table(heading, rows, caption=caption)


def _share(state: Mapping[str, Any]) -> str:
    share, error = (as_number(state.get(name)) for name in ("model_share", "model_share_error"))
    return f"{share:.0%} ± {error:.0%}" if share == share and error == error else MISSING


@dataclass(frozen=True)
class _Shown:
    """A pointing: its number, and image and SNR before and after."""

    number: int
    images: tuple[Path, Path]
    snr: tuple[float, float]


def _shown(folder: Path) -> list[_Shown]:
    """Return the pointings whose images are there."""
    if not (folder / "steps.csv").exists():
        return []
    rounds = [row for row in read_run(folder).rounds if row.status == "done"]
    if not rounds:
        return []
    states = (
        rounds[0].metrics.get("pointings_before"),
        rounds[-1].metrics.get("pointings_measured"),
    )
    found = []
    for number, pair in enumerate(zip(*(state or () for state in states), strict=False)):
        if not all(one and one.get("image") for one in pair):
            continue
        first, last = (folder / one["image"] for one in pair)
        if first.exists() and last.exists():
            snr = as_number(pair[0].get("snr")), as_number(pair[1].get("snr"))
            found.append(_Shown(number, (first, last), snr))
    return found


@styled
def pointings_figure(folder: Path) -> Figure | None:
    """Draw the image of each pointing before and after, all in one colour scale.

    Parameters
    ----------
    folder : Path
        Work directory of the target's run.

    Returns
    -------
    Figure or None
        None where the images are not there. Above `MOST_POINTINGS` only the first are shown.
    """
    shown = _shown(folder)[:MOST_POINTINGS]
    if not shown:
        return None
    figure, panels, bars = panel_grid(len(shown), 2, _SIDE_INCH, (1,))
    scale = shared_scale([path for each in shown for path in each.images])
    for row, each in zip(panels, shown, strict=True):
        for axes, path, snr, word in zip(
            row, each.images, each.snr, ("before", "after"), strict=True
        ):
            drawn = draw_view(axes, read_shown(path), scale)
            axes.set_title(f"pointing {each.number} {word}, SNR {format_number(snr, 3)}")
            if row is not panels[-1]:
                axes.set_xlabel("")
    colour_bar(drawn, bars[0], scale)
    return figure
