"""The main source of the final image with its 68 % intervals, as the page shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from libs.core.angles import direction_text
from libs.core.numbers import prefixed
from reports.html_parts import Markup, cell, table, tag
from reports.records import as_number
from reports.style import format_angle, format_number

__all__ = ["main_source_table"]

_ROWS = (
    ("peak_jy_beam", "Peak", "Jy/beam"),
    ("total_flux_jy", "Total flux", "Jy"),
    ("ra_deg", "Right ascension (J2000)", ""),
    ("dec_deg", "Declination", ""),
    ("major_arcsec", "Major axis, beam included", "arcsec"),
    ("minor_arcsec", "Minor axis", "arcsec"),
)


def main_source_table(summary: Mapping[str, Any]) -> Markup:
    """Return the table of the main source; empty where its errors are not known."""
    source = summary.get("main_source") or {}
    rows = []
    for name, label, unit in _ROWS:
        one = source.get(name) or {}
        value, error = as_number(one.get("value")), as_number(one.get("error"))
        if math.isfinite(value):
            rows.append((tag("th", label, scope="row"), *_cells(name, value, error, unit, source)))
    if not rows:
        return Markup("")
    caption = (
        "The main source of the final image. Errors are those of 68 % confidence, without that of"
        " the data's own flux scale."
    )
    return table(["", "Value", "Error"], rows, class_="result", caption=caption)


def _cells(
    name: str, value: float, error: float, unit: str, source: Mapping[str, Any]
) -> tuple[Markup, Markup]:
    if unit:
        factor, shown = prefixed(value, unit) if unit != "arcsec" else (1.0, unit)
        spread = (
            f"{format_number(factor * error, 2)} {shown}" if math.isfinite(error) else "unknown"
        )
        if unit == "arcsec" and math.isfinite(error):
            spread = format_angle(error, 2)
        said = f"{format_number(factor * value, 4)} {shown}"
        if unit == "arcsec":
            said = format_angle(value)
        return cell(said), cell(spread)
    right, declination = (
        as_number((source.get(key) or {}).get("value")) for key in ("ra_deg", "dec_deg")
    )
    angles = math.radians(right), math.radians(declination)
    # decimals of the seconds that the error leaves, of an arcsec; 15 arcsec are a second of RA
    digits = max(0, math.ceil(-math.log10(error)) + 1) if error > 0 else 2
    texts = direction_text(*angles, ("hms", "dms"), (digits + 1, digits))
    said = format_angle(error, 2) if math.isfinite(error) else "unknown"
    return cell(texts[0 if name == "ra_deg" else 1]), cell(said)
