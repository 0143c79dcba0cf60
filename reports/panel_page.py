"""A page of many small panels of the same axes, drawn as one.

An `Axes` of matplotlib for each panel takes ten times as long as what is drawn in it: its ticks
alone are dozens of objects. Here the page is a single one, in inches, and frames, ticks and
curves of all panels are one line object of each kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reports.style import INK, MUTED, new_figure

__all__ = ["PanelPage", "new_page"]

# Margins of the page, inches, and the gaps between panels in widths and heights of a panel.
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.66, 0.12, 0.62, 0.5
_GAP_ACROSS, _GAP_DOWN = 0.13, 0.42

_POINT = 1.0 / 72.0  # inch
_TICK = 3.0 * _POINT
_LABEL_PAD = 6.5 * _POINT
_FRAME_COLOUR = "#9aa5b1"
_CUT_COLOUR = "#b8c1ca"


@dataclass(frozen=True)
class PanelPage:
    """A page and where its panels are.

    Attributes
    ----------
    figure : Figure
    axes : Axes
        The only one: the whole page, in inches from the lower left corner.
    count, columns, rows : int
        Number of panels, filled row by row from the top.
    xlim, ylim : (float, float)
        Limits that all panels share.
    """

    figure: Figure
    axes: Axes
    count: int
    columns: int
    rows: int
    xlim: tuple[float, float]
    ylim: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the page."""
        width, height = self.figure.get_size_inches()
        return float(width), float(height)

    @property
    def panel_size(self) -> tuple[float, float]:
        """Width and height of a panel."""
        width, height = self.size
        return (
            (width - _LEFT - _RIGHT) / (self.columns + _GAP_ACROSS * (self.columns - 1)),
            (height - _TOP - _BOTTOM) / (self.rows + _GAP_DOWN * (self.rows - 1)),
        )

    def corner(self, panel: int) -> tuple[float, float]:
        """Return the lower left corner of a panel."""
        row, column = divmod(panel, self.columns)
        width, height = self.panel_size
        below = self.rows - 1 - row
        return (
            _LEFT + column * width * (1 + _GAP_ACROSS),
            _BOTTOM + below * height * (1 + _GAP_DOWN),
        )

    def x(self, panel: int, value: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return where values of the horizontal axis are on the page."""
        share = (np.asarray(value, float) - self.xlim[0]) / (self.xlim[1] - self.xlim[0])
        return self.corner(panel)[0] + share * self.panel_size[0]

    def y(self, panel: int, value: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return where values of the vertical axis are on the page."""
        share = (np.asarray(value, float) - self.ylim[0]) / (self.ylim[1] - self.ylim[0])
        return self.corner(panel)[1] + share * self.panel_size[1]

    def name(self, panel: int, name: str, note: str = "") -> None:
        """Write a panel's name above it at the left and a note at the right."""
        left, below = self.corner(panel)
        width, height = self.panel_size
        above = below + height + 2 * _POINT
        self.axes.text(left, above, name, fontsize=8.5, gid="name")
        if note:
            self.axes.text(
                left + width, above, note, fontsize=7, ha="right", color=MUTED, gid="note"
            )

    def shade(self, panel: int, colour: str) -> None:
        """Give a panel a background."""
        self.axes.add_patch(
            Rectangle(self.corner(panel), *self.panel_size, fc=colour, lw=0, zorder=-1)
        )

    def curve(
        self,
        curves: Sequence[tuple[int, NDArray[np.float64], NDArray[np.float64]]],
        **style: Any,
    ) -> None:
        """Draw curves, each a panel with x and y, as one line object."""
        across: list[NDArray[np.float64]] = []
        up: list[NDArray[np.float64]] = []
        for panel, x, y in curves:
            if across:  # no line from one panel to the next
                across.append(np.full(1, np.nan))
                up.append(np.full(1, np.nan))
            across.append(self.x(panel, x))
            up.append(self.y(panel, y))
        if across:
            self.axes.plot(np.concatenate(across), np.concatenate(up), clip_on=False, **style)

    def levels(self, value: float) -> None:
        """Draw a horizontal line in all panels."""
        width = self.panel_size[0]
        places = [(self.corner(p)[0], float(self.y(p, value))) for p in range(self.count)]
        lines = [[(x, y), (x + width, y)] for x, y in places]
        self.axes.add_collection(LineCollection(lines, colors=MUTED, lw=0.5, zorder=1))

    def cuts(self, values: Sequence[float]) -> None:
        """Draw dotted vertical lines in all panels."""
        height = self.panel_size[1]
        places = [
            (float(self.x(p, value)), self.corner(p)[1])
            for p in range(self.count)
            for value in values
        ]
        lines = [[(x, y), (x, y + height)] for x, y in places]
        self.axes.add_collection(
            LineCollection(lines, colors=_CUT_COLOUR, lw=0.6, ls=(0, (1, 2)), zorder=0)
        )

    def frames(
        self, xticks: tuple[Sequence[float], Sequence[str]],
        yticks: tuple[Sequence[float], Sequence[str]],
    ) -> None:  # fmt: skip
        """Draw the axes of all panels; labels are at the outer ones only."""
        width, height = self.panel_size
        lines = []
        for panel in range(self.count):
            left, below = self.corner(panel)
            lines.append([(left, below + height), (left, below), (left + width, below)])
            for value in xticks[0]:
                x = float(self.x(panel, value))
                lines.append([(x, below), (x, below - _TICK)])
            for value in yticks[0]:
                y = float(self.y(panel, value))
                lines.append([(left, y), (left - _TICK, y)])
            if panel + self.columns >= self.count:  # the lowest of its column
                for value, label in zip(*xticks, strict=True):
                    x = float(self.x(panel, value))
                    self._label(x, below - _LABEL_PAD, label, ha="center", va="top")
            if panel % self.columns == 0:
                for value, label in zip(*yticks, strict=True):
                    y = float(self.y(panel, value))
                    self._label(left - _LABEL_PAD, y, label, ha="right", va="center_baseline")
        self.axes.add_collection(LineCollection(lines, colors=_FRAME_COLOUR, lw=0.7, zorder=2.5))

    def _label(self, x: float, y: float, label: str, **place: Any) -> None:
        self.axes.text(x, y, label, fontsize=7, color=INK, gid="tick", **place)

    def titles(self, title: str, xlabel: str, ylabel: str) -> None:
        """Write the heading of the page and the labels of the axes."""
        width, height = self.size
        self.axes.text(0.12, height / 2, ylabel, rotation=90, va="center", ha="center", fontsize=9)
        self.axes.text(width / 2, 0.1, xlabel, ha="center", fontsize=9)
        if title:
            self.axes.text(0.1, height - 0.12, title, va="top", fontsize=11, gid="title")


def new_page(
    count: int, most_columns: int, xlim: tuple[float, float], ylim: tuple[float, float]
) -> PanelPage:
    """Return a page with room for some panels.

    Parameters
    ----------
    count : int
        Number of panels.
    most_columns : int
    xlim, ylim : (float, float)
        Limits that all panels share.
    """
    columns = min(most_columns, max(1, count))
    rows = max(1, -(-count // columns))
    width, height = 0.75 + 1.92 * columns, 1.12 + 1.12 * rows
    figure = new_figure(width, height, placed=True)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, width)
    axes.set_ylim(0.0, height)
    return PanelPage(figure, axes, count, columns, rows, xlim, ylim)
