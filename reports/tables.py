"""Tables: the result printed at the end of a run, and CSV rows of gain solutions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from libs.core.files import replacing
from libs.core.numbers import MISSING, common_unit, format_number
from libs.core.text_table import aligned
from libs.gains.table_rows import GAIN_COLUMNS, gains_rows
from reports.records import as_number

__all__ = ["GAIN_COLUMNS", "final_rows", "final_table", "gains_rows", "write_csv"]

FINAL_COLUMNS = (
    ("peak_jy_beam", "peak", "Jy/beam"),
    ("rms_jy_beam", "rms", "Jy/beam"),
    ("snr", "SNR", ""),
    ("dynamic_range", "dynamic range", ""),
    ("total_flux_jy", "total flux", "Jy"),
)
STATES = (("initial", "initial"), ("final", "final"), ("untouched", "untouched data"))


def final_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return heading and rows of the result: initial, final and, where imaged, untouched data.

    Parameters
    ----------
    summary : mapping
        Contents of ``summary.json``, or one of its ``targets``.

    Returns
    -------
    list of tuple of str
        Rows, of which the first is the heading; empty when there are no statistics.
    """
    states = [(label, summary[key]) for key, label in STATES if summary.get(key)]
    if not states:
        return []
    units: list[tuple[float, str]] = []
    for name, _, unit in FINAL_COLUMNS:
        known = [as_number(values.get(name)) for _, values in states]
        # one unit for each column, so that rows can be compared easily
        units.append(common_unit(known, unit))
    heading = [""]
    for (_, label, _), (_, unit) in zip(FINAL_COLUMNS, units, strict=True):
        heading.append(f"{label} ({unit})" if unit else label)
    rows = [tuple(heading)]
    for label, values in states:
        cells = [label]
        for (name, _, _), (factor, _) in zip(FINAL_COLUMNS, units, strict=True):
            cells.append(format_number(as_number(values.get(name)) * factor, 4))
        rows.append(tuple(cells))
    return rows


def _ascii(cell: str) -> str:
    """Return a cell for terminals that show ASCII only."""
    return cell.replace("\u202f", "").replace("µ", "u").replace(MISSING, "-")


def final_table(summary: Mapping[str, Any]) -> str:
    """Return the result as lines for a terminal.

    Parameters
    ----------
    summary : mapping
        Contents of ``summary.json``.

    Returns
    -------
    str
        Aligned columns without a trailing newline; several targets have their names as headings;
        empty when no image was ever measured.
    """
    targets = summary.get("targets")
    if isinstance(targets, Mapping):
        parts = [f"{name}\n{final_table(part)}" for name, part in targets.items() if part]
        return "\n\n".join(parts)
    rows = [tuple(map(_ascii, row)) for row in final_rows(summary)]
    if not rows:
        return ""
    lines = aligned(rows, left=(0,), ruled=True)
    return "\n".join([*lines, *_closure_lines(summary.get("closure", {}))])


def _closure_lines(closure: Mapping[str, Any]) -> list[str]:
    """Return a line on the closure quantities of models; empty where nothing was checked."""
    parts = []
    for key, label in (("initial_model", "first model"), ("final_image", "final image")):
        if key in closure:
            phase, amplitude = (
                _ascii(format_number(as_number(closure[key].get(name)), 3))
                for name in ("phase_chi2", "amplitude_chi2")
            )
            parts.append(f"{label} {phase} and {amplitude}")
    if not parts:
        return []
    heading = "reduced chi2 of closure phases and log closure amplitudes: "
    return [heading + ", ".join(parts)]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a CSV file aside, sync it to disk and rename it.

    Parameters
    ----------
    path : Path
        File to write; an existing one is replaced.
    columns : sequence of str
        Heading, in this order.
    rows : iterable of mapping
        Rows; keys outside the columns are an error, missing ones are empty.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        A row has a key that is not a column.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path
