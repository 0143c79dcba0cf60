"""A look at an input before it is copied, to find the rows that can be used at all.

Rows that name what the subtables do not have, that have no values or no time, and those of
windows without frequencies are left out of the working copy, and counted: tools would stop at
them, or pass over them without a word. What can be flagged instead is left to
`libs.ms.sanitise`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.ms.rows import stretches
from libs.ms.selection import RowChoice
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["FirstLook", "first_look", "rows_without_values"]

# No observation lasts longer, so a time farther from the median is a wrong number.
_LONGEST_S = 100 * 365.25 * 86400.0
_LATEST_S = 1e11  # MJD seconds, the year 5000
_LISTED = 4  # names in a message


@dataclass(frozen=True)
class FirstLook:
    """Result of a look at an input.

    Attributes
    ----------
    left_out : (n,) int64
        Row numbers that cannot be used, increasing.
    notes : tuple of str
        Reasons, one line each, with the number of rows.
    loose : tuple of int
        Data descriptions that name a window or correlations that are not there.
    """

    left_out: NDArray[np.int64]
    notes: tuple[str, ...]
    loose: tuple[int, ...] = ()


def first_look(view: Path, column: str, choice: RowChoice) -> FirstLook:
    """Find the rows of a measurement set that cannot be used.

    Parameters
    ----------
    view : Path
        Measurement set.
    column : str
        Column of visibilities to be copied.
    choice : RowChoice
        Selection of rows; other rows do not matter.

    Raises
    ------
    InputError
        No selected row can be used, or visibilities have another shape than their window.
    """
    found = Subtables(view)
    with open_table(view) as opened:
        judge = _Judge(found, column, rows_without_values(opened, column), _usual_time(opened))
        asked = usable = 0
        first_rows: dict[int, int] = {}
        for low, count in stretches(opened.nrows()):
            chosen = choice(opened, low, count)
            asked += int(chosen.sum())
            good = judge.usable(opened, low, chosen)
            usable += int(good.sum())
            ids = opened.getcol("DATA_DESC_ID", low, count)
            for ddid in np.unique(ids[good]).tolist():
                first = low + int(np.flatnonzero(good & (ids == ddid))[0])
                first_rows.setdefault(ddid, first)
        reasons = judge.reasons()
        if asked and not usable:
            raise InputError(
                "no row of the input can be used: they " + "; ".join(why for _, why in reasons),
                "copy the measurement set again from where it came, or select another part",
            )
        _check_shapes(opened, column, found, first_rows)
    return FirstLook(
        np.sort(np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in reasons)])),
        tuple(f"{len(rows)} rows {why}: left out" for rows, why in reasons),
        tuple(judge.loose),
    )


def rows_without_values(opened: Any, column: str) -> NDArray[np.int64]:
    """Return the rows of a column that hold no array."""
    description = opened.getcoldesc(column)
    if "shape" in description or int(description.get("option", 0)) & 4:
        return np.zeros(0, np.int64)  # cells of a fixed shape always hold something
    found = opened.query(f"!isdefined({column})")
    rows = np.asarray(found.rownumbers(), np.int64)
    found.close()
    return rows


def _usual_time(opened: Any) -> float:
    """Return the median of finite times, MJD seconds, from rows spread over the table."""
    rows = np.unique(np.linspace(0, opened.nrows() - 1, 1000).astype(int))
    time_s = np.array([float(opened.getcell("TIME", int(row))) for row in rows])
    known = time_s[np.abs(time_s) < _LATEST_S]  # NaN is not
    return float(np.median(known)) if len(known) else 0.0


def _listed(names: Iterable[Any]) -> str:
    every = [str(name) for name in names]
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more


class _Judge:
    """Test of the rows, stretch by stretch; it keeps those that cannot be used."""

    def __init__(
        self, found: Subtables, column: str, empty: NDArray[np.int64], usual_time_s: float
    ) -> None:
        self.found = found
        self.column = column
        self.empty = empty
        self.usual_time_s = usual_time_s
        self.broken = [
            number
            for number, window in enumerate(found.windows)
            if not (np.isfinite(window.frequency_hz) & (window.frequency_hz > 0)).all()
        ]
        self.loose = [
            number
            for number, each in enumerate(found.descriptions)
            if each.spw not in range(len(found.windows))
            or each.setup not in range(len(found.setups))
        ]
        self.rows: dict[str, list[NDArray[np.int64]]] = {}
        self.named: dict[str, set[int]] = {}

    def usable(self, opened: Any, low: int, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of the chosen rows from ``low`` on can be used."""
        good, count = chosen.copy(), len(chosen)

        def lose(why: str, wrong: NDArray[np.bool_], named: NDArray[Any]) -> None:
            wrong &= good
            if wrong.any():
                self.rows.setdefault(why, []).append(low + np.flatnonzero(wrong))
                self.named.setdefault(why, set()).update(np.unique(named[wrong]).tolist())
                good[wrong] = False

        for subtable, name, size in (
            ("DATA_DESCRIPTION", "DATA_DESC_ID", len(self.found.descriptions)),
            ("FIELD", "FIELD_ID", len(self.found.fields)),
            ("ANTENNA", "ANTENNA1", len(self.found.antennas)),
            ("ANTENNA", "ANTENNA2", len(self.found.antennas)),
        ):
            ids = opened.getcol(name, low, count)
            why = f"name row {{}} of the {subtable} table, which has {size}"
            lose(why, (ids < 0) | (ids >= size), ids)
        time_s = opened.getcol("TIME", low, count)
        with np.errstate(invalid="ignore"):
            lost = ~(np.abs(time_s - self.usual_time_s) < _LONGEST_S)
        lose("have no time, or one a century from the others", lost, np.zeros(count, int))
        described = opened.getcol("DATA_DESC_ID", low, count)
        why = "are of data description {}, which names a window or correlations that are not there"
        lose(why, np.isin(described, self.loose), described)
        window = np.full(count, -1)
        window[good] = self.found.spw_of[described[good]]
        why = "are of window {}, whose frequencies are not positive numbers"
        lose(why, np.isin(window, self.broken), window)
        first, end = np.searchsorted(self.empty, (low, low + count))
        without = np.zeros(count, bool)
        without[self.empty[first:end] - low] = True
        lose(f"have no {self.column} (window {{}})", without, window)
        return good

    def reasons(self) -> list[tuple[NDArray[np.int64], str]]:
        """Return the rows that cannot be used, (n,) each, and the reasons."""
        return [
            (np.concatenate(rows), why.format(_listed(sorted(self.named[why]))))
            for why, rows in self.rows.items()
        ]


def _check_shapes(opened: Any, column: str, found: Subtables, first_rows: dict[int, int]) -> None:
    """Refuse visibilities whose shape differs from that of their window and correlations."""
    for ddid, row in first_rows.items():
        shape = np.shape(opened.getcell(column, row))
        each = found.descriptions[ddid]
        expected = (found.windows[each.spw].channels, len(found.setups[each.setup].codes))
        if shape != expected:
            raise InputError(
                f"{column} of window {each.spw} holds {' x '.join(map(str, shape))} channels x "
                f"correlations where its subtables say {expected[0]} x {expected[1]}",
                "copy the measurement set again from where it came",
            )
