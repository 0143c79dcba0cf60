"""One look for every figure: colours, fonts, units, and saving without a display."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from libs.safe_files import replacing

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
    "format_number",
    "format_quantity",
    "format_seconds",
    "new_figure",
    "prefixed",
    "save_figure",
    "styled",
]

INK, MUTED, GRID, PAPER = "#1b2530", "#6b7681", "#dde2e7", "#ffffff"
MISSING, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"
# Okabe & Ito (2008): told apart with every kind of colour vision
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
    "axes.titley": 1.0,  # else its place is searched for, a fifth of the time of a figure
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

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function with the report's style; the caller's own settings come back."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width_inch: float, height_inch: float, *, placed: bool = False) -> Figure:
    """Return an empty figure that draws with Agg, whatever the session's backend.

    ``placed`` says that the caller places its axes; otherwise matplotlib fits them.
    """
    figure = Figure(figsize=(width_inch, height_inch), layout=None if placed else "constrained")
    FigureCanvasAgg(figure)
    return figure


@styled
def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, aside and renamed, so that no reader finds half a file.

    Returns
    -------
    Path
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=DPI, pil_kwargs={"compress_level": 4})
    return path


_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def prefixed(value: float, unit: str) -> tuple[float, str]:
    """Return the factor and unit that bring a value between 1 and 1000.

    Parameters
    ----------
    value : float
        In ``unit``.
    unit : str
        For example ``"Jy/beam"``.

    Returns
    -------
    factor : float
        ``value * factor`` is in the second return value.
    unit : str
        Prefixed, for example ``"mJy/beam"``.
    """
    size = abs(value)
    if not math.isfinite(size) or size == 0:
        return 1.0, unit
    for scale, prefix in _PREFIXES:
        # not 0.999... of the next prefix through rounding
        if size >= scale * 0.99995:
            return 1.0 / scale, prefix + unit
    return 1e9, "n" + unit


def common_unit(values: Sequence[float], unit: str) -> tuple[float, str]:
    """Return factor and prefixed unit for a column of values: those of its geometric middle.

    Values that are 0 or not finite do not count; an empty ``unit`` is no unit.
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not unit or not sizes:
        return 1.0, unit
    return prefixed(math.sqrt(min(sizes)) * math.sqrt(max(sizes)), unit)


def format_number(value: float, digits: int = 3) -> str:
    """Return a number to ``digits`` significant digits, without exponent from 1e-3 to 1e7.

    Examples
    --------
    >>> format_number(1234.5), format_number(0.012345), format_number(2e-9)
    ('1234', '0.0123', '2.00e-09')
    """
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -3 or size > 7:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - size)
    # thin spaces part thousands only where they help: from five digits on
    text = f"{value:,.{decimals}f}" if abs(value) >= 9999.5 else f"{value:.{decimals}f}"
    return text.replace(",", "\u202f")


def format_seconds(seconds: float) -> str:
    """Return an interval to three digits: ``"10 s"`` for 9.99987, ``"0.5 s"``, ``"1200 s"``."""
    return f"{float(f'{seconds:.3g}'):g} s"


def format_quantity(value: float, unit: str, digits: int = 3) -> str:
    """Return a number with a prefixed unit, for example ``"1.23 mJy/beam"``."""
    if not math.isfinite(value):
        return MISSING
    factor, name = prefixed(value, unit)
    return f"{format_number(value * factor, digits)} {name}"
