"""Columns of the main table that a set should have and lacks, and what stands for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["StandIns", "missing_columns"]

_IDS = ("ARRAY_ID", "FEED1", "FEED2", "OBSERVATION_ID", "PROCESSOR_ID", "SCAN_NUMBER", "STATE_ID")
# in order of preference: copied from the column, or made
_FROM = {
    "TIME_CENTROID": "TIME", "EXPOSURE": "INTERVAL", "INTERVAL": "EXPOSURE",
}  # fmt: skip
_WEIGHTS = {"WEIGHT": "SIGMA", "SIGMA": "WEIGHT"}
_SPACING = "the spacing of TIME"


def missing_columns(columns: Sequence[str]) -> dict[str, str]:
    """Return the columns that are missing, each with what stands for it.

    Parameters
    ----------
    columns : sequence of str
        Columns of the main table.

    Returns
    -------
    dict of str to str
        Names, and a column's name, a value, or words.
    """
    found: dict[str, str] = {name: "0" for name in _IDS if name not in columns}
    if "FLAG_ROW" not in columns:
        found["FLAG_ROW"] = "no row flagged"
    for name, other in _FROM.items():
        if name not in columns:
            found[name] = other if other in columns else _SPACING
    for name, other in _WEIGHTS.items():
        if name not in columns:
            found[name] = other if other in columns else "1"
    return found


class StandIns:
    """Columns of an open main table, with stand-ins for those that are missing.

    Attributes
    ----------
    missing : dict of str to str
        As `missing_columns` returns them.
    """

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self.missing = missing_columns(opened.colnames())
        self._spacing_s = _spacing_s(opened) if _SPACING in self.missing.values() else 0.0

    def scalars(self, name: str, low: int, count: int) -> NDArray[Any]:
        """Return a column without arrays of some rows, (count,)."""
        stands = self.missing.get(name)
        if stands is None or stands in _FROM.values():
            return np.asarray(self._opened.getcol(stands or name, low, count))
        if stands == _SPACING:
            return np.full(count, self._spacing_s)
        if name == "FLAG_ROW":
            return np.zeros(count, bool)
        return np.zeros(count, np.int32)

    def note(self) -> list[str]:
        """Return one line that names what is missing; none where nothing is."""
        said = [f"{name} ({stands})" for name, stands in sorted(self.missing.items())]
        if not said:
            return []
        plural = "s are" if len(said) > 1 else " is"
        return [f"the column{plural} missing, what stands for them in brackets: {', '.join(said)}"]


def _spacing_s(opened: Any) -> float:
    """Return the usual distance of one time from the next, s, from the first rows."""
    times = np.unique(opened.getcol("TIME", 0, min(opened.nrows(), 200_000)))
    steps = np.diff(times[np.isfinite(times)])
    steps = steps[steps > 1e-3]
    return float(np.median(steps)) if len(steps) else 1.0
