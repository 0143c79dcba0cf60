"""Parts of figures of images: panels on offset axes, beam, mask, colour scales and bars."""

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

from libs.imaging.statistics import mad_std
from reports.image_view import Box, View, read_shown
from reports.style import INK, new_figure, prefixed

__all__ = [
    "ColourScale",
    "colour_bar",
    "draw_residual",
    "draw_view",
    "mark_zoom",
    "panel_grid",
    "residual_scale",
    "shared_scale",
]

BRIGHTNESS_MAP, RESIDUAL_MAP = "inferno", "RdBu_r"
MASK_COLOUR, BEAM_COLOUR = "#5ee0ff", "#ffffff"
# margins of panels, inches, for tick labels, titles and colour bars
LEFT, BETWEEN, BOTTOM, TOP, ROW_GAP = 0.72, 0.52, 0.5, 0.72, 0.55
BAR_GAP, BAR_WIDTH, BAR_ROOM = 0.12, 0.13, 0.8


@dataclass(frozen=True)
class ColourScale:
    """A mapping from brightness to colour.

    It is linear within ``linear_width_jy`` around zero, where the noise is, and logarithmic beyond
    (asinh), so that noise, artefacts and peak are visible together.
    """

    low_jy: float
    high_jy: float
    linear_width_jy: float

    def norm(self) -> AsinhNorm:
        """Return a matplotlib norm of this scale."""
        return AsinhNorm(self.linear_width_jy, self.low_jy, self.high_jy)

    def ticks(self) -> list[float]:
        """Return zero, the decades above the noise, and the ends, spaced so that none touch."""
        factor, _ = prefixed(self.high_jy, "")
        high, width = self.high_jy * factor, self.linear_width_jy * factor
        first, last = math.floor(math.log10(width)), math.floor(math.log10(high))
        decades = [10.0**power for power in range(first, last + 1)]
        shown = [tick for tick in decades if 0.6 * width <= tick < 0.55 * high] + [high]
        if self.low_jy == -self.high_jy:
            shown = [-tick for tick in reversed(shown)] + [0.0] + shown
        else:
            shown.insert(0, 0.0)
        return [tick / factor for tick in shown]


def shared_scale(images: Sequence[Path]) -> ColourScale:
    """Return the scale that shows the noise of the best image and the peak of the brightest.

    Parameters
    ----------
    images : sequence of Path
        FITS images of one plane, Jy/beam.

    Returns
    -------
    ColourScale
        Scale from -4 times the lowest rms to the highest peak, linear within 3 times that rms.
    """
    planes = [read_shown(path).plane for path in images]
    planes = [plane for plane in planes if np.isfinite(plane).any()]
    peak = max((float(np.nanmax(plane)) for plane in planes), default=0.0)
    if peak <= 0:
        peak = max((float(np.nanmax(np.abs(plane))) for plane in planes), default=0.0) or 1.0
    noise = min((rms for plane in planes if (rms := mad_std(plane)) > 0), default=0.0)
    # a noiseless or all-zero image has no MAD
    noise = min(noise or peak / 1000, peak / 5)
    return ColourScale(-4 * noise, peak, 3 * noise)


def residual_scale(views: Sequence[View]) -> ColourScale:
    """Return a scale symmetric about zero: the noise of the best, the artefacts of the worst."""
    planes = [view.plane[np.isfinite(view.plane)] for view in views]
    limit = max((float(np.percentile(np.abs(p), 99.8)) for p in planes if p.size), default=0.0)
    limit = limit or 1.0
    noise = min((rms for plane in planes if (rms := mad_std(plane)) > 0), default=limit / 5)
    limit = max(limit, 5 * noise)
    return ColourScale(-limit, limit, 3 * noise)


def panel_grid(
    rows: int,
    columns: int,
    side_inch: float,
    bars_after: Sequence[int],
    *,
    ticks: bool = True,
    top_inch: float = TOP,
) -> tuple[Figure, list[list[Axes]], list[Axes]]:
    """Return a figure of square panels of one size, and colour bars after some columns.

    Parameters
    ----------
    rows, columns : int
    side_inch : float
        Side of a panel.
    bars_after : sequence of int
        Indices of columns after which a colour bar follows.
    ticks : bool
        True leaves space for tick labels.
    top_inch : float
        Space for headings.

    Returns
    -------
    figure : Figure
    panels : list of list of Axes
        ``panels[row][column]``.
    bars : list of Axes
        Axes of the colour bars, as high as all rows.
    """
    left, between = (LEFT, BETWEEN) if ticks else (0.08, 0.1)
    bottom, gap = (BOTTOM, ROW_GAP) if ticks else (0.3, 0.52)
    height = bottom + rows * side_inch + (rows - 1) * gap + top_inch
    starts, bar_starts, x = [], [], left
    for column in range(columns):
        starts.append(x)
        x += side_inch
        if column in bars_after:
            bar_starts.append(x + BAR_GAP)
            x += BAR_GAP + BAR_WIDTH + BAR_ROOM - between
        x += between
    width = x
    figure = new_figure(width, height, placed=True)

    def place(x_inch: float, y_inch: float, w_inch: float, h_inch: float) -> Axes:
        rect = (x_inch / width, y_inch / height, w_inch / width, h_inch / height)
        return figure.add_axes(rect)

    panels = [
        [
            place(start, bottom + (rows - 1 - row) * (side_inch + gap), side_inch, side_inch)
            for start in starts
        ]
        for row in range(rows)
    ]
    full = rows * side_inch + (rows - 1) * gap
    return figure, panels, [place(start, bottom, BAR_WIDTH, full) for start in bar_starts]


def _offset_unit(view: View) -> tuple[float, str]:
    """Return the factor from arcsec, and the name of the unit that suits the size of a view."""
    span = abs(view.extent_arcsec[0] - view.extent_arcsec[1])
    if span > 900:
        return 1 / 60, "arcmin"
    return (1000.0, "mas") if span < 0.5 else (1.0, "arcsec")


def draw_view(
    axes: Axes, view: View, scale: ColourScale, mask: Path | None = None, box: Box | None = None
) -> AxesImage:
    """Draw a view on offset axes with the beam and the outline of a mask.

    Parameters
    ----------
    axes : Axes
    view : View
    scale : ColourScale
    mask : Path or None
        FITS mask on the grid of the image, zero outside.
    box : tuple of int or None
        Box that the view shows.

    Returns
    -------
    AxesImage
        Image, for a colour bar.
    """
    return _draw(axes, view, scale, mask, box, (BRIGHTNESS_MAP, MASK_COLOUR, BEAM_COLOUR))


def draw_residual(
    axes: Axes, view: View, scale: ColourScale, mask: Path | None = None
) -> AxesImage:
    """Draw a whole residual image; the map is white at zero, so outlines are dark."""
    return _draw(axes, view, scale, mask, None, (RESIDUAL_MAP, INK, INK))


def _draw(
    axes: Axes,
    view: View,
    scale: ColourScale,
    mask: Path | None,
    box: Box | None,
    colours: tuple[str, str, str],
) -> AxesImage:
    cmap, mask_colour, beam_colour = colours
    factor, unit = _offset_unit(view)
    left, right, bottom, top = (edge * factor for edge in view.extent_arcsec)
    extent = (left, right, bottom, top)
    image = axes.imshow(
        view.plane, extent=extent, origin="lower", cmap=cmap, aspect="equal", norm=scale.norm()
    )
    if mask is not None:
        inside = read_shown(mask, box).plane > 0
        if inside.any() and not inside.all():
            axes.contour(
                inside, levels=[0.5], extent=extent, origin="lower", colors=mask_colour,
                linewidths=0.8,
            )  # fmt: skip
    _draw_beam(axes, view, factor, beam_colour)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel(f"Right ascension offset ({unit})", labelpad=2)
    axes.set_ylabel(f"Declination offset ({unit})", labelpad=1)
    for spine in axes.spines.values():
        spine.set_visible(True)
    return image


def _draw_beam(axes: Axes, view: View, factor: float, colour: str) -> None:
    """Draw the restoring beam to scale in the lower left corner (east is left)."""
    if view.beam_arcsec_deg is None:
        return
    bmaj, bmin, angle = view.beam_arcsec_deg
    left, right, bottom, top = (edge * factor for edge in view.extent_arcsec)
    pad = 0.04 * (top - bottom) + 0.5 * bmaj * factor
    centre = (left + math.copysign(pad, right - left), bottom + pad)
    # x grows to the east in data coordinates, so north through east is clockwise there
    beam = Ellipse(
        centre, bmin * factor, bmaj * factor, angle=-angle, fc="none", ec=colour, lw=1.0,
        gid="beam",
    )  # fmt: skip
    axes.add_patch(beam)


def mark_zoom(axes: Axes, view: View) -> None:
    """Outline in a full view the region of the zoomed one."""
    # the full view may have another unit than the zoomed one
    factor = {"(arcmin)": 1 / 60, "(mas)": 1000.0}.get(axes.get_xlabel().split()[-1], 1.0)
    left, right, bottom, top = (edge * factor for edge in view.extent_arcsec)
    axes.add_patch(
        Rectangle((right, bottom), left - right, top - bottom, fc="none", ec="#ffffff", lw=0.7,
                  ls=(0, (4, 3)), gid="zoom")
    )  # fmt: skip


def colour_bar(image: AxesImage, axes: Axes, scale: ColourScale, label: str = "") -> None:
    """Fill axes with the colour bar of a scale, in the unit of its upper end."""
    factor, unit = prefixed(scale.high_jy, "Jy/beam")
    extend = "both" if scale.low_jy == -scale.high_jy else "min"
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(image, cax=axes, extend=extend, extendfrac=0.02)
    bar.ax.yaxis.set_major_locator(FixedLocator(scale.ticks()))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x * factor)))
    bar.set_label(f"{label} ({unit})" if label else unit, labelpad=2)
    bar.outline.set_linewidth(0.5)


def _plain(value: float) -> str:
    text = f"{value:.3g}"
    text = f"{float(text):g}" if "e" in text else text
    return text.replace("-", "\u2212")
