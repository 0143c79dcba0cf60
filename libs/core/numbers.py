"""Numbers and units as figures, tables and the report show them, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "MINUS",
    "MISSING",
    "TIMES",
    "common_unit",
    "counted",
    "format_number",
    "format_quantity",
    "format_seconds",
    "prefixed",
]

MISSING, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun, ``1 scan`` or ``2 scans``.

    Parameters
    ----------
    number : int
    one : str
        Noun in the singular.
    several : str
        Noun in the plural; empty: the singular with an s.
    """
    return f"{number} {one}" if number == 1 else f"{number} {several or one + 's'}"


def prefixed(value: float, unit: str) -> tuple[float, str]:
    """Return the factor and unit that bring a value between 1 and 1000.

    Parameters
    ----------
    value : float
        Value in ``unit``.
    unit : str
        Unit, for example ``"Jy/beam"``.

    Returns
    -------
    factor : float
        Factor such that ``value * factor`` is in the second return value.
    unit : str
        Unit with prefix, for example ``"mJy/beam"``.
    """
    size = abs(value)
    if not math.isfinite(size) or size == 0:
        return 1.0, unit
    for scale, prefix in _PREFIXES:
        # avoids 0.999... of the next prefix after rounding
        if size >= scale * 0.99995:
            return 1.0 / scale, prefix + unit
    return 1e9, "n" + unit


def common_unit(values: Sequence[float], unit: str) -> tuple[float, str]:
    """Return factor and prefixed unit for a column of values, from their geometric mean.

    Values that are 0 or not finite do not count; an empty ``unit`` has no prefix.
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
    # thin spaces separate thousands only from five digits on, where they help
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
