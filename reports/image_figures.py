"""Figures of images: before and after with one colour scale, residuals, the history of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from libs.image_statistics import mad_std
from reports.image_view import Box, View, mask_box, read_view
from reports.style import (
    ACCEPTED,
    INK,
    MUTED,
    REJECTED,
    SKIPPED,
    format_number,
    new_figure,
    prefixed,
    styled,
)

__all__ = [
    "ColourScale",
    "Panel",
    "compare_images",
    "compare_residuals",
    "image_history",
    "round_images",
    "shared_scale",
]

BRIGHTNESS_MAP, RESIDUAL_MAP = "inferno", "RdBu_r"
MASK_COLOUR, BEAM_COLOUR = "#5ee0ff", "#ffffff"
STATUS_COLOUR = {"done": ACCEPTED, "rejected": REJECTED, "failed": REJECTED, "skipped": SKIPPED}


@dataclass(frozen=True)
class Panel:
    """One image of a figure.

    Attributes
    ----------
    label : str
        Its name, above it.
    image : Path
        FITS image of one plane, Jy/beam.
    residual, mask : Path or None
        Of the same grid.
    caption : str
        Its statistics, one line.
    status : str
        Status of the step that made it: the colour of its frame in the history.
    """

    label: str
    image: Path
    residual: Path | None = None
    mask: Path | None = None
    caption: str = ""
    status: str = ""


@dataclass(frozen=True)
class ColourScale:
    """One mapping from brightness to colour for all images of a run.

    Linear within ``linear_width_jy`` around zero, where the noise is, and logarithmic beyond
    (asinh), so that noise, artefacts and peak are seen at once.
    """

    low_jy: float
    high_jy: float
    linear_width_jy: float

    def norm(self) -> AsinhNorm:
        """Return a matplotlib norm of this scale."""
        return AsinhNorm(self.linear_width_jy, self.low_jy, self.high_jy)


def shared_scale(images: Sequence[Path]) -> ColourScale:
    """Return the scale that shows the noise of the best image and the peak of the brightest.

    Parameters
    ----------
    images : sequence of Path
        FITS images of one plane, Jy/beam.

    Returns
    -------
    ColourScale
        From -4 times the lowest rms to the highest peak, linear within 3 times that rms.
    """
    planes = [read_view(path).plane for path in images]
    peak = max((float(np.nanmax(p)) for p in planes if np.isfinite(p).any()), default=0.0)
    noise = min((rms for p in planes if (rms := mad_std(p)) > 0), default=0.0)
    if peak <= 0:
        peak = max((float(np.nanmax(np.abs(p))) for p in planes if np.isfinite(p).any()), default=0)
        peak = peak or 1.0
    # a noiseless model or an all-zero image has no MAD
    noise = min(noise or peak / 1000, peak / 5)
    return ColourScale(-4 * noise, peak, 3 * noise)


def _offset_unit(view: View) -> tuple[float, str]:
    """Return the factor from arcsec and the name of the unit that suits the size of a view."""
    span = abs(view.extent_arcsec[0] - view.extent_arcsec[1])
    if span > 900:
        return 1 / 60, "arcmin"
    return (1000.0, "mas") if span < 0.5 else (1.0, "arcsec")


def _draw(
    axes: Axes, view: View, scale: ColourScale | None, panel: Panel, box: Box | None, *, mask: bool
) -> AxesImage:
    """Draw a view on offset axes with the beam and, when asked, the outline of the mask."""
    factor, unit = _offset_unit(view)
    left, right, bottom, top = (edge * factor for edge in view.extent_arcsec)
    extent = (left, right, bottom, top)
    image = axes.imshow(
        view.plane, extent=extent, origin="lower", cmap=BRIGHTNESS_MAP, aspect="equal",
        norm=scale.norm() if scale else None,
    )  # fmt: skip
    if mask and panel.mask is not None:
        inside = read_view(panel.mask, box)
        if (inside.plane > 0).any() and not (inside.plane > 0).all():
            axes.contour(
                inside.plane > 0, levels=[0.5], extent=extent, origin="lower",
                colors=MASK_COLOUR, linewidths=0.8,
            )  # fmt: skip
    _draw_beam(axes, view, factor)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"Right ascension offset ({unit})")
    axes.set_ylabel(f"Declination offset ({unit})")
    for spine in axes.spines.values():
        spine.set_visible(True)
    return image


def _draw_beam(axes: Axes, view: View, factor: float) -> None:
    """Draw the restoring beam to scale in the lower left corner (east is left)."""
    if view.beam_arcsec_deg is None:
        return
    bmaj, bmin, angle = view.beam_arcsec_deg
    left, right, bottom, top = (edge * factor for edge in view.extent_arcsec)
    pad = 0.04 * (top - bottom) + 0.5 * bmaj * factor
    centre = (left + math.copysign(pad, right - left), bottom + pad)
    # x grows to the east in data coordinates, so north through east is clockwise there
    beam = Ellipse(
        centre, bmin * factor, bmaj * factor, angle=-angle, fc="none", ec=BEAM_COLOUR, lw=1.0,
        gid="beam",
    )  # fmt: skip
    axes.add_patch(beam)


def _colour_bar(figure: Figure, image: AxesImage, axes: list[Axes], scale: ColourScale) -> None:
    factor, unit = prefixed(scale.high_jy, "Jy/beam")
    bar = figure.colorbar(image, ax=axes, extend="min", pad=0.012, aspect=34, fraction=0.05)
    ticks = _scale_ticks(scale, factor)
    bar.ax.yaxis.set_major_locator(FixedLocator([tick / factor for tick in ticks]))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x * factor)))
    bar.set_label(unit, labelpad=4)
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]


def _plain(value: float) -> str:
    text = f"{value:.3g}"
    return f"{float(text):g}" if "e" in text else text


def _scale_ticks(scale: ColourScale, factor: float) -> list[float]:
    """Return decades from the noise up, zero and the peak, without two that would touch."""
    high = scale.high_jy * factor
    width = scale.linear_width_jy * factor
    ticks = [0.0]
    for decade in range(math.floor(math.log10(width)), math.floor(math.log10(high)) + 1):
        tick = 10.0**decade
        if tick >= 0.6 * width and tick < 0.62 * high:
            ticks.append(tick)
    return [*ticks, high]


def _zoom_box(panels: Sequence[Panel]) -> Box | None:
    """Return the box around the last mask there is: the deepest; None without one or if it is all.

    Only grids of one shape can share a box.
    """
    masked = [panel for panel in panels if panel.mask is not None]
    if not masked or masked[-1].mask is None:
        return None
    box = mask_box(masked[-1].mask, masked[-1].image)
    shapes = {read_view(panel.image, max_side=64).extent_arcsec for panel in panels}
    whole = read_view(masked[-1].image, box, max_side=64)
    full = read_view(masked[-1].image, max_side=64)
    if len(shapes) > 1 and max(abs(a[0] - b[0]) for a in shapes for b in shapes) > 1e-3:
        return None
    width, full_width = (abs(v.extent_arcsec[0] - v.extent_arcsec[1]) for v in (whole, full))
    return box if width < 0.8 * full_width else None


def _finish_panel(axes: Axes, panel: Panel, column: int, *, caption: bool) -> None:
    if caption:
        axes.set_title(panel.label, fontsize=10.5, pad=18 if panel.caption else 6, weight="bold")
        if panel.caption:
            axes.text(0, 1.015, panel.caption, transform=axes.transAxes, fontsize=8, color=MUTED)
    if column:
        axes.set_ylabel("")


@styled
def compare_images(panels: Sequence[Panel], title: str = "") -> Figure:
    """Draw images beside each other with one colour scale: the masked region, then all of it.

    Parameters
    ----------
    panels : sequence of Panel
        For example the first image, the last and that of the untouched data.
    title : str
        Heading.

    Returns
    -------
    Figure
        One row zoomed on the last mask, with its outline, and one of the full images; only the
        latter when there is no mask or it fills the image.
    """
    zoom = _zoom_box(panels)
    rows = 2 if zoom else 1
    figure = new_figure(3.75 * len(panels) + 0.9, 3.75 * rows + 0.55)
    axes = figure.subplots(rows, len(panels), squeeze=False)
    scale = shared_scale([panel.image for panel in panels])
    for column, panel in enumerate(panels):
        for row, box in enumerate((zoom, None) if zoom else (None,)):
            view = read_view(panel.image, box)
            drawn = _draw(axes[row, column], view, scale, panel, box, mask=True)
            _finish_panel(axes[row, column], panel, column, caption=row == 0)
            if box is None and zoom:
                _mark_zoom(axes[row, column], read_view(panel.image, zoom, max_side=64))
    _colour_bar(figure, drawn, list(axes.flat), scale)
    _heading(figure, title, read_view(panels[-1].image, max_side=64).centre)
    return figure


def _mark_zoom(axes: Axes, view: View) -> None:
    """Outline in a full view what the zoomed one shows."""
    # the full view may be in another unit than the zoomed one
    factor = {"(arcmin)": 1 / 60, "(mas)": 1000.0}.get(axes.get_xlabel().split()[-1], 1.0)
    left, right, bottom, top = (edge * factor for edge in view.extent_arcsec)
    axes.add_patch(
        Rectangle((right, bottom), left - right, top - bottom, fc="none", ec="#ffffff", lw=0.7,
                  ls=(0, (4, 3)), gid="zoom")
    )  # fmt: skip


def _heading(figure: Figure, title: str, centre: str) -> None:
    text = title
    if centre:
        text += f"{'   ' if title else ''}offsets from {centre}"
    if text:
        figure.suptitle(text, x=0.01, ha="left", fontsize=9, color=MUTED)


@styled
def compare_residuals(panels: Sequence[Panel], title: str = "") -> Figure | None:
    """Draw residual images beside each other with one scale, symmetric about zero.

    Parameters
    ----------
    panels : sequence of Panel
        Those without a residual are left out.
    title : str
        Heading.

    Returns
    -------
    Figure or None
        None when no panel has a residual.
    """
    shown = [panel for panel in panels if panel.residual is not None]
    if not shown:
        return None
    views = [read_view(panel.residual) for panel in shown if panel.residual is not None]
    rms = [mad_std(view.plane) for view in views]
    width, limit = _residual_scale(views, rms)
    figure = new_figure(3.75 * len(shown) + 0.9, 4.25)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for column, (panel, view) in enumerate(zip(shown, views, strict=True)):
        image = _draw(axes[column], view, None, panel, None, mask=True)
        image.set_cmap(RESIDUAL_MAP)
        image.set_norm(AsinhNorm(width, -limit, limit))
        _dark_outlines(axes[column])
        factor, unit = prefixed(rms[column], "Jy/beam")
        caption = f"rms (MAD) {format_number(rms[column] * factor)} {unit}"
        _finish_panel(
            axes[column], Panel(panel.label, panel.image, caption=caption), column, caption=True
        )
    factor, unit = prefixed(limit, "Jy/beam")
    bar = figure.colorbar(image, ax=list(axes), extend="both", pad=0.012, aspect=30, fraction=0.05)
    ticks = [-limit, -limit / 10, 0, limit / 10, limit]
    bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x * factor)))
    bar.set_label(f"Residual ({unit})")
    _heading(figure, title, views[-1].centre)
    return figure


def _residual_scale(views: Sequence[View], rms: Sequence[float]) -> tuple[float, float]:
    """Return linear width and limit: the noise of the best, the artefacts of the worst."""
    quantiles = [
        float(np.percentile(np.abs(v.plane[np.isfinite(v.plane)]), 99.8))
        for v in views
        if np.isfinite(v.plane).any()
    ]
    limit = max(quantiles, default=0.0) or 1.0
    noise = min((value for value in rms if value > 0), default=limit / 5)
    limit = max(limit, 5 * noise)
    return 3 * noise, limit


def _dark_outlines(axes: Axes) -> None:
    """Draw beam and mask dark, for maps that are white at zero."""
    for patch in axes.patches:
        patch.set_edgecolor(INK)
    for collection in axes.collections:
        collection.set_edgecolor(INK)


@styled
def image_history(panels: Sequence[Panel], title: str = "") -> Figure:
    """Draw the image of every step as a strip of thumbnails with one scale and one region.

    Parameters
    ----------
    panels : sequence of Panel
        In the order of the run; ``status`` colours the frame.
    title : str
        Heading.

    Returns
    -------
    Figure
        Up to six thumbnails a row.
    """
    columns = min(6, max(1, len(panels)))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(1.75 * columns + 0.8, 2.2 * rows + 0.35)
    axes = figure.subplots(rows, columns, squeeze=False)
    zoom = _zoom_box(panels)
    scale = shared_scale([panel.image for panel in panels])
    for panel, cell in zip(panels, axes.flat, strict=False):
        view = read_view(panel.image, zoom, max_side=320)
        drawn = _draw(cell, view, scale, panel, zoom, mask=False)
        cell.set(xlabel="", ylabel="", xticks=[], yticks=[])
        colour = STATUS_COLOUR.get(panel.status, MUTED)
        for spine in cell.spines.values():
            spine.set(edgecolor=colour, linewidth=2.2)
        cell.set_title(panel.label, fontsize=9.5, pad=4, weight="bold", color=colour)
        cell.text(0, -0.03, panel.caption, transform=cell.transAxes, fontsize=7.5, va="top")
    for spare in axes.flat[len(panels) :]:
        spare.set_visible(False)
    _colour_bar(figure, drawn, list(axes.flat), scale)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=MUTED)
    return figure


@styled
def round_images(panel: Panel, scale: ColourScale, zoom: Box | None = None) -> Figure:
    """Draw the image of one step in the run's colour scale: the masked region, all, and residual.

    Parameters
    ----------
    panel : Panel
    scale : ColourScale
        Of the whole run, so that steps can be compared.
    zoom : tuple of int or None
        Box of the zoomed view; None takes it from the panel's mask.

    Returns
    -------
    Figure
    """
    zoom = zoom or _zoom_box([panel])
    views: list[tuple[str, Path, Box | None]] = [("Full image", panel.image, None)]
    if zoom:
        views.insert(0, ("Masked region", panel.image, zoom))
    if panel.residual is not None:
        views.append(("Residual", panel.residual, None))
    figure = new_figure(3.35 * len(views) + 0.9, 3.4)
    axes = figure.subplots(1, len(views), squeeze=False)[0]
    for column, (label, path, box) in enumerate(views):
        view = read_view(path, box)
        drawn = _draw(axes[column], view, scale, panel, box, mask=True)
        axes[column].set_title(label)
        if column:
            axes[column].set_ylabel("")
    _colour_bar(figure, drawn, list(axes), scale)
    return figure
