"""Small charts as SVG: they need no script, follow the page's colours and stay sharp in print."""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.encoding import png_uri
from reports.html_parts import Markup
from reports.style import MINUS, format_number

__all__ = ["Cells", "Place", "Series", "chart", "density_chart", "scatter_map"]

WIDTH, HEIGHT = 460, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 34


@dataclass(frozen=True)
class Series:
    """Points of a chart: places, values, errors (0 for none), a class for colour, what to draw.

    ``kind`` is ``line``, ``dots`` or ``both``. ``notes`` are told for each point.
    """

    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] = ()
    name: str = ""
    colour: str = "s0"
    kind: str = "both"
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _Axis:
    """A scale: its limits as they are drawn, whether logarithmic, and its place, px."""

    low: float
    high: float
    log: bool
    start: float
    end: float

    def place(self, value: float) -> float:
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        if self.log:
            low, high = math.floor(self.low), math.ceil(self.high)
            stride = max(1, math.ceil((high - low - 1) / most))
            found = [10.0**power for power in range(low, high + 1, stride)]
            if self.high - self.low < 1.7:  # few decades: 2 and 5 help
                found = [part * value for value in found for part in (1, 2, 5)]
            inside = [v for v in found if v > 0 and self.low <= math.log10(v) <= self.high]
            return inside or [10 ** (0.5 * (self.low + self.high))]
        step = _nice((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        return [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _nice(step: float) -> float:
    power = 10 ** math.floor(math.log10(step))
    return next(power * part for part in (1, 2, 5, 10) if power * part >= step * 0.999)


def _axis(values: Sequence[float], log: bool, start: float, end: float, pad: float) -> _Axis:
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    low, high = (min(known), max(known)) if known else (1.0, 10.0)
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-12 * max(1.0, abs(high)):
        most = max(abs(low), abs(high))
        half = 0.5 * (most if most > sys.float_info.min / 1e-12 else 1.0)
        low, high = low - half, high + half
    margin = pad * (high - low)
    return _Axis(low - margin, high + margin, log, start, end)


def chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    alt: str,
    log_x: bool = False,
    log_y: bool = False,
    names: Sequence[str] = (),
    level: float | None = None,
) -> Markup:
    """Return a chart of points and lines with error bars.

    Parameters
    ----------
    series : sequence of Series
    x_label, y_label, alt : str
        Labels, and a description for readers who cannot see it.
    log_x, log_y : bool
    names : sequence of str
        Names of the places 0, 1, 2, ... in place of numbers.
    level : float, optional
        Value at which a dashed line is drawn.
    """
    bottom = BOTTOM + (34 if names else 0)
    height = HEIGHT + (34 if names else 0)
    xs = [x for one in series for x in one.x]
    ys = [y + sign * e for one in series
          for y, e in zip(one.y, [*one.error, *[0.0] * (len(one.y) - len(one.error))], strict=True)
          for sign in (-1, 1)]  # fmt: skip
    ys += [level] if level is not None else []
    across = _axis(xs, log_x, LEFT, WIDTH - RIGHT, 0.05)
    up = _axis(ys, log_y, height - bottom, TOP, 0.08)
    parts = [_frame_of(across, up, height - bottom, x_label, y_label, names, height)]
    if level is not None:
        y = up.place(level)
        parts.append(
            f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    parts += [_drawn(one, across, up) for one in series]
    legend = "".join(
        f'<span class="{one.colour}">{html.escape(one.name)}</span>' for one in series if one.name
    )
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(alt)}" '
        f'class="chart">{"".join(parts)}</svg>'
    )
    return Markup(svg + (f'<p class="legend">{legend}</p>' if legend else ""))


def _frame_of(
    across: _Axis, up: _Axis, floor: float, x_label: str, y_label: str,
    names: Sequence[str], height: float,
    ticks: tuple[Sequence[float], Sequence[str]] | None = None,
) -> str:  # fmt: skip
    parts = []
    for tick in up.ticks():
        y = up.place(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_tick(tick)}</text>'
        )
    if names:
        for place, name in enumerate(names):
            x = across.place(place)
            parts.append(
                f'<text transform="translate({x:.1f},{floor + 12}) rotate(-32)" '
                f'text-anchor="end">{html.escape(name)}</text>'
            )
    else:
        places = across.ticks() if ticks is None else ticks[0]
        labels = [_tick(tick) for tick in places] if ticks is None else ticks[1]
        for tick, label in zip(places, labels, strict=True):
            x = across.place(tick)
            parts.append(
                f'<text x="{x:.1f}" y="{floor + 13}" text-anchor="middle">{html.escape(label)}'
                "</text>"
            )
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 5}" text-anchor="middle" '
            f'class="label">{html.escape(x_label)}</text>'
        )
    middle = (TOP + floor) / 2
    parts.append(
        f'<text transform="translate(11,{middle:.0f}) rotate(-90)" text-anchor="middle" '
        f'class="label">{html.escape(y_label)}</text>'
    )
    return "".join(parts)


def _tick(value: float) -> str:
    if abs(value) >= 1e5 or (value and abs(value) < 1e-3):
        return f"{value:.0e}".replace("-", MINUS)
    return format_number(float(f"{value:.6g}")).rstrip() if abs(value) >= 1000 else (
        f"{value:.3g}".replace("-", MINUS))  # fmt: skip


def _drawn(one: Series, across: _Axis, up: _Axis) -> str:
    points = [
        (across.place(x), up.place(y), i)
        for i, (x, y) in enumerate(zip(one.x, one.y, strict=True))
        if math.isfinite(x) and math.isfinite(y) and (y > 0 or not up.log)
    ]
    parts = []
    if one.kind in ("line", "both") and len(points) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(f'<polyline points="{path}"/>')
    for x, y, i in points:
        if i < len(one.error) and one.error[i] > 0:
            low, high = (up.place(one.y[i] + sign * one.error[i]) for sign in (-1, 1))
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        if one.kind in ("dots", "both"):
            note = html.escape(one.notes[i]) if i < len(one.notes) else ""
            title = f"<title>{note}</title>" if note else ""
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3">{title}</circle>')
    return f'<g class="{one.colour}">{"".join(parts)}</g>'


@dataclass(frozen=True)
class Cells:
    """Counts on a grid.

    Attributes
    ----------
    counts : (nx, ny) float64
    x, y : (float, float)
        Limits of the grid.
    most : float
        Number that is shown darkest.
    """

    counts: NDArray[np.float64]
    x: tuple[float, float]
    y: tuple[float, float]
    most: float

    def picture(self) -> str:
        """Return the counts as a picture that is clear where there are none."""
        counts = self.counts.T[::-1]
        depth = np.log1p(counts) / math.log1p(max(self.most, 1.0))
        shade = np.where(counts > 0, 70 + 185 * np.clip(depth, 0, 1), 0)
        # the same blue on light and on dark paper
        pixels = np.empty((*counts.shape, 4), np.uint8)
        pixels[..., :3] = (0x2B, 0x86, 0xC5)
        pixels[..., 3] = shade
        return png_uri(pixels)


def density_chart(
    cells: Cells,
    lines: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    alt: str,
    ticks: tuple[Sequence[float], Sequence[str]] | None = None,
    cuts: Sequence[float] = (),
) -> Markup:
    """Return a picture of counts with axes, and lines upon it.

    Parameters
    ----------
    cells : Cells
    lines : sequence of Series
    title, x_label, y_label, alt : str
        Heading, labels, and a description for readers who cannot see it.
    ticks : (places, labels) or None
        Ticks along x where they are no numbers.
    cuts : sequence of float
        Places along x at which a dashed line is drawn.
    """
    floor = HEIGHT - BOTTOM
    across = _Axis(*cells.x, False, LEFT, WIDTH - RIGHT)
    up = _Axis(*cells.y, False, floor, TOP)
    picture = (
        f'<image href="{cells.picture()}" x="{LEFT}" y="{TOP}" width="{WIDTH - RIGHT - LEFT}" '
        f'height="{floor - TOP}" preserveAspectRatio="none" class="cells"/>'
    )
    frame = _frame_of(across, up, floor, x_label, y_label, (), HEIGHT, ticks)
    drawn = "".join(
        f'<line class="level" x1="{across.place(x):.1f}" x2="{across.place(x):.1f}" y1="{TOP}" '
        f'y2="{floor}"/>'
        for x in cuts
    )
    drawn += "".join(_drawn(one, across, up) for one in lines)
    return Markup(
        f'<p class="kicker">{html.escape(title)}</p>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(alt)}" '
        f'class="chart">{frame}{picture}{drawn}</svg>'
    )


@dataclass(frozen=True)
class Place:
    """A point of a map: x, y, the class that colours it, its name and, where it leads, a link.

    ``label`` is written beside it where there is room.
    """

    x: float
    y: float
    colour: str
    name: str
    link: str = ""
    label: str = ""


_MAP_SIDE, _MAP_EDGE = 300.0, 30.0


def scatter_map(places: Sequence[Place], *, label: str, alt: str, unit: str = "") -> Markup:
    """Return a map of points that tell their names and may be links.

    Parameters
    ----------
    places : sequence of Place
    label, alt : str
        Text below the map; what those hear who cannot see it.
    unit : str
        Unit of the coordinates, for a scale bar; empty for none.
    """
    side = _MAP_SIDE
    xs, ys = [p.x for p in places], [p.y for p in places]
    span = max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    scale = (side - 3 * _MAP_EDGE) / span
    parts = [
        f'<rect class="grid" x="1" y="1" width="{side - 2:.0f}" height="{side - 22:.0f}" '
        'fill="none"/>'
    ]
    points = [
        (side / 2 + (one.x - middle[0]) * scale, side / 2 - 10 - (one.y - middle[1]) * scale)
        for one in places
    ]
    for one, (cx, cy) in zip(places, points, strict=True):
        drawn = (
            f'<circle class="{one.colour}" cx="{cx:.1f}" cy="{cy:.1f}" r="6">'
            f"<title>{html.escape(one.name)}</title></circle>"
        )
        parts.append(
            f'<a href="{html.escape(one.link)}" aria-label="{html.escape(one.name)}">{drawn}</a>'
            if one.link
            else drawn
        )
    parts += _labels(places, points)
    parts += _scale_bar(scale, span, unit) if unit and span > 1e-9 else []
    text = html.escape(label)
    parts.append(f'<text x="{side / 2}" y="{side - 4}" text-anchor="middle">{text}</text>')
    # an image to those who cannot see it, unless its points lead somewhere
    role = "group" if any(one.link for one in places) else "img"
    return Markup(
        f'<svg viewBox="0 0 {side:.0f} {side:.0f}" role="{role}" aria-label="{html.escape(alt)}" '
        f'class="chart map">{"".join(parts)}</svg>'
    )


def _labels(places: Sequence[Place], points: Sequence[tuple[float, float]]) -> list[str]:
    """Return the labels for which there is room beside their points."""
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in points]
    parts = []
    for one, (x, y) in zip(places, points, strict=True):
        width = 7.5 * len(one.label)
        left = x + 9 if x + 9 + width < _MAP_SIDE - 4 else x - 9 - width
        box = (left, y - 8, left + width, y + 8)
        free = all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken)
        if one.label and free and left > 4 and 12 < y < _MAP_SIDE - 50:
            parts.append(f'<text x="{left:.1f}" y="{y + 4:.1f}">{html.escape(one.label)}</text>')
            taken.append(box)
    return parts


def _scale_bar(scale: float, span: float, unit: str) -> list[str]:
    """Return a bar of a round length in the lower left corner."""
    length = _nice(span / 4)
    y = _MAP_SIDE - 34
    return [
        f'<line class="level" x1="12" y1="{y:.0f}" x2="{12 + length * scale:.1f}" y2="{y:.0f}"/>',
        f'<text x="12" y="{y - 5:.0f}">{_tick(length)} {html.escape(unit)}</text>',
    ]
