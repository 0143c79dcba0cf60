"""Figures of images: before and after in one colour scale, residuals, the history of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from libs.imaging.statistics import mad_std
from reports.image_panels import (
    ColourScale,
    colour_bar,
    draw_residual,
    draw_view,
    mark_zoom,
    panel_grid,
    residual_scale,
    shared_scale,
)
from reports.image_view import Box, bright_box, joint_box, mask_box, read_frame, read_shown
from reports.style import ACCEPTED, MUTED, REJECTED, SKIPPED, format_quantity, styled

__all__ = [
    "Panel",
    "compare_images",
    "compare_residuals",
    "image_history",
    "round_images",
    "zoom_box",
]

STATUS_COLOUR = {"done": ACCEPTED, "rejected": REJECTED, "failed": REJECTED, "skipped": SKIPPED}
HISTORY_COLUMNS = 6


@dataclass(frozen=True)
class Panel:
    """One image of a figure.

    Attributes
    ----------
    label : str
        Name shown above it.
    image : Path
        FITS image of one plane, Jy/beam.
    residual, mask : Path or None
        FITS images on the same grid.
    caption : str
        Statistics in one line.
    status : str
        Status of the step that made it, which colours its frame in the history.
    """

    label: str
    image: Path
    residual: Path | None = None
    mask: Path | None = None
    caption: str = ""
    status: str = ""


def zoom_box(panels: Sequence[Panel]) -> Box | None:
    """Return the pixels around the source: the last mask, the deepest, or what is bright.

    Parameters
    ----------
    panels : sequence of Panel

    Returns
    -------
    tuple of int or None
        Box; None when the source fills the image, or when the grids differ.
    """
    masked = [(panel.mask, panel.image) for panel in panels if panel.mask is not None]
    if not panels:
        return None
    image = masked[-1][1] if masked else panels[-1].image
    box = mask_box(*masked[-1]) if masked else bright_box(image)
    last = next((p for p in reversed(panels) if p.status != "rejected"), panels[-1])
    if masked and last.mask is None:  # CLEAN found by itself what is outside the mask of a round
        box = joint_box(image, box, bright_box(last.image))
    wholes = [read_frame(panel.image).extent_arcsec for panel in panels]
    width = abs(wholes[0][0] - wholes[0][1])
    if not np.allclose(wholes, wholes[0], rtol=0, atol=0.01 * width):
        return None
    left, right, _, _ = read_frame(image, box).extent_arcsec
    return box if abs(left - right) < 0.8 * width else None


def _heading(figure: Figure, title: str, panel: Panel) -> None:
    centre = read_frame(panel.image).centre
    offsets = f"Offsets from {centre}" if centre else ""
    text = ".  ".join(part for part in (title, offsets) if part)
    if text:
        height = figure.get_size_inches()[1]
        figure.text(0.008, 1 - 0.08 / height, text, va="top", fontsize=8, color=MUTED)


@styled
def compare_images(
    panels: Sequence[Panel], title: str = "", scale: ColourScale | None = None
) -> Figure:
    """Draw images side by side in one colour scale: the masked region, then the whole image.

    Parameters
    ----------
    panels : sequence of Panel
        Images, for example the first, the last and that of the untouched data.
    title : str
        Heading of the figure.
    scale : ColourScale or None
        Colour scale; None: chosen from these images.

    Returns
    -------
    Figure
        One row zoomed on the last mask with its outline, and one of the full images; only the
        latter when there is no mask or it fills the image.
    """
    zoom = zoom_box(panels)
    boxes: tuple[Box | None, ...] = (zoom, None) if zoom else (None,)
    side = 3.0 if len(panels) > 2 else 3.7
    figure, grid, bars = panel_grid(len(boxes), len(panels), side, [len(panels) - 1])
    scale = scale or shared_scale([panel.image for panel in panels])
    for column, panel in enumerate(panels):
        for row, box in enumerate(boxes):
            axes = grid[row][column]
            drawn = draw_view(axes, read_shown(panel.image, box), scale, panel.mask, box)
            if zoom and box is None:
                mark_zoom(axes, read_frame(panel.image, zoom))
            if row < len(boxes) - 1:
                axes.set_xlabel("")
            if column:
                axes.set_ylabel("")
        grid[0][column].set_title(panel.label, fontsize=10.5, pad=16, weight="bold")
        grid[0][column].text(
            0, 1.015, panel.caption, transform=grid[0][column].transAxes, fontsize=8, color=MUTED
        )
    colour_bar(drawn, bars[0], scale)
    _heading(figure, title, panels[-1])
    return figure


@styled
def compare_residuals(panels: Sequence[Panel], title: str = "") -> Figure | None:
    """Draw residual images side by side in one scale, symmetric about zero.

    Parameters
    ----------
    panels : sequence of Panel
        Images; those without a residual are left out.
    title : str
        Heading of the figure.

    Returns
    -------
    Figure or None
        Figure; None when no panel has a residual.
    """
    shown = [(panel, read_shown(panel.residual)) for panel in panels if panel.residual is not None]
    if not shown:
        return None
    scale = residual_scale([view for _, view in shown])
    side = 3.0 if len(shown) > 2 else 3.7
    figure, grid, bars = panel_grid(1, len(shown), side, [len(shown) - 1])
    for column, (panel, view) in enumerate(shown):
        axes = grid[0][column]
        drawn = draw_residual(axes, view, scale, panel.mask)
        axes.set_title(panel.label, fontsize=10.5, pad=16, weight="bold")
        rms = f"rms (MAD) {format_quantity(mad_std(view.plane), 'Jy/beam')}"
        axes.text(0, 1.015, rms, transform=axes.transAxes, fontsize=8, color=MUTED)
        if column:
            axes.set_ylabel("")
    colour_bar(drawn, bars[0], scale, "Residual")
    _heading(figure, title, shown[-1][0])
    return figure


@styled
def image_history(panels: Sequence[Panel], scale: ColourScale | None = None) -> Figure:
    """Draw the image of every step as a strip of thumbnails with one scale and one region.

    Parameters
    ----------
    panels : sequence of Panel
        Images in the order of the run; ``status`` colours the frame.
    scale : ColourScale or None
        Colour scale; None: chosen from these images.

    Returns
    -------
    Figure
        Figure with up to six thumbnails in a row.
    """
    columns = min(HISTORY_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, grid, bars = panel_grid(rows, columns, 1.55, [columns - 1], ticks=False, top_inch=0.3)
    zoom = zoom_box(panels)
    scale = scale or shared_scale([panel.image for panel in panels])
    cells = [axes for row in grid for axes in row]
    for panel, axes in zip(panels, cells, strict=False):
        drawn = draw_view(axes, read_shown(panel.image, zoom, max_side=360), scale)
        axes.set(xlabel="", ylabel="", xticks=[], yticks=[])
        colour = STATUS_COLOUR.get(panel.status, MUTED)
        for spine in axes.spines.values():
            spine.set(edgecolor=colour, linewidth=2.0)
        axes.set_title(panel.label, fontsize=9.5, pad=4, weight="bold", color=colour)
        word = "rejected, " if panel.status == "rejected" else ""
        axes.text(0, -0.04, word + panel.caption, transform=axes.transAxes, fontsize=8, va="top")
    for spare in cells[len(panels) :]:
        spare.set_visible(False)
    colour_bar(drawn, bars[0], scale)
    return figure


@styled
def round_images(panel: Panel, scale: ColourScale, zoom: Box | None = None) -> Figure:
    """Draw one step: its masked region and whole image in a given scale, and its residual.

    Parameters
    ----------
    panel : Panel
    scale : ColourScale
        Colour scale of the whole run, so that steps can be compared.
    zoom : tuple of int or None
        Box of the zoomed view; None takes it from the panel's mask.

    Returns
    -------
    Figure
    """
    zoom = zoom or zoom_box([panel])
    boxes: list[Box | None] = [zoom, None] if zoom else [None]
    residual = read_shown(panel.residual) if panel.residual is not None else None
    columns = len(boxes) + (residual is not None)
    bars_after = sorted({len(boxes) - 1, columns - 1})
    figure, grid, bars = panel_grid(1, columns, 2.55, bars_after, top_inch=0.5)
    for column, box in enumerate(boxes):
        drawn = draw_view(grid[0][column], read_shown(panel.image, box), scale, panel.mask, box)
        grid[0][column].set_title("Around the source" if box else "Image")
        if column:
            grid[0][column].set_ylabel("")
    colour_bar(drawn, bars[0], scale)
    if residual is not None:
        own = residual_scale([residual])
        axes = grid[0][-1]
        shown = draw_residual(axes, residual, own, panel.mask)
        axes.set_title("Residual")
        axes.set_ylabel("")
        colour_bar(shown, bars[-1], own)
    _heading(figure, panel.caption, panel)
    return figure
