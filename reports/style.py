"""Common style of all figures: colours, fonts, units, and saving without a display."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from libs.core.files import replacing
from libs.core.numbers import (
    MINUS,
    MISSING,
    TIMES,
    common_unit,
    format_number,
    format_quantity,
    format_seconds,
    prefixed,
)

__all__ = [
    "ACCEPTED",
    "GRID",
    "INK",
    "MINUS",
    "MISSING",
    "MUTED",
    "PALETTE",
    "REJECTED",
    "SKIPPED",
    "TIMES",
    "common_unit",
    "format_angle",
    "format_number",
    "format_quantity",
    "format_seconds",
    "new_figure",
    "prefixed",
    "save_figure",
    "styled",
]

INK, MUTED, GRID, PAPER = "#1b2530", "#6b7681", "#dde2e7", "#ffffff"
# Okabe & Ito (2008): distinguishable with every kind of colour vision
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
ACCEPTED, REJECTED, SKIPPED = PALETTE[0], PALETTE[1], "#9aa5b1"
DPI = 140

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # otherwise finding its place takes a fifth of a figure's time
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.formatter.use_mathtext": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": "#9aa5b1",
    "ytick.color": "#9aa5b1",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.8,
    "ytick.minor.size": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.2,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "image.interpolation": "nearest",
    "image.origin": "lower",
}


def format_angle(arcsec: float, digits: int = 4) -> str:
    """Return an angle in arcsec, milliarcsec or microarcsec."""
    size = abs(arcsec)
    for smallest, factor, unit in ((0.01, 1.0, "arcsec"), (1e-4, 1e3, "mas")):
        if size >= smallest or size == 0:
            return f"{format_number(arcsec * factor, digits)} {unit}"
    return f"{format_number(arcsec * 1e6, digits)} \u00b5as"


P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function with the report's style, then restore the caller's settings."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width_inch: float, height_inch: float, *, placed: bool = False) -> Figure:
    """Return an empty figure that draws with Agg, whatever the session's backend.

    With ``placed`` the caller places the axes; otherwise matplotlib fits them.
    """
    figure = Figure(figsize=(width_inch, height_inch), layout=None if placed else "constrained")
    FigureCanvasAgg(figure)
    return figure


@styled
def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, aside and renamed, so that no reader finds an incomplete file.

    Returns
    -------
    Path
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=DPI, pil_kwargs={"compress_level": 4})
    return path
