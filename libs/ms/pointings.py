"""Pointings of a mosaic: which belong together, and one numbering of them in all working copies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import separation_rad
from libs.core.errors import InputError
from libs.ms.field_directions import SAME_PLACE_RAD, j2000_directions
from libs.ms.rows import stretches
from libs.ms.scans import GAP_INTEGRATIONS, read_visits
from libs.ms.subtables import Subtables
from libs.ms.summary import describe_ms
from libs.ms.tables import open_table

__all__ = ["common_pointings", "linked", "number_pointings", "number_visit_groups"]

Place = tuple[float, float]

_FRAMES = ("J2000", "ICRS")  # apart by 20 mas at most, which is nothing for a pointing
_BREAK = 3.0  # a break between scans, in ways from one pointing to the next
_COLUMNS = ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR")


def linked(places: Sequence[Place], apart_rad: float) -> list[list[int]]:
    """Return groups of places that a chain of steps no longer than a limit joins.

    Parameters
    ----------
    places : sequence of (float, float)
        RA and Dec, rad.
    apart_rad : float
        Longest step, rad.

    Returns
    -------
    list of list of int
        Indices, ascending; the groups are in order of their first.
    """
    groups: list[list[int]] = []
    for number, place in enumerate(places):
        near = [
            group for group in groups
            if any(_apart(place, places[other]) <= apart_rad for other in group)
        ]  # fmt: skip
        groups = [group for group in groups if group not in near]
        groups.append(sorted([*(one for group in near for one in group), number]))
    return sorted(groups)


def _apart(one: Place, two: Place) -> float:
    return float(separation_rad(np.array(one), np.array(two)))


def common_pointings(copies: Sequence[Path]) -> list[tuple[str, Place]]:
    """Return name and J2000 direction of each pointing of working copies, those of one place once.

    They are in the order of the copies and of the ids in them.
    """
    found: list[tuple[str, Place]] = []
    for ms in copies:
        summary, places = describe_ms(ms), j2000_directions(ms)
        for number in summary.fields_used:
            if not any(_apart(places[number], known) <= SAME_PLACE_RAD for _, known in found):
                found.append((summary.field[number].strip(), places[number]))
    return found


def number_pointings(ms: Path, pointings: Sequence[tuple[str, Place]]) -> None:
    """Number the fields of a working copy as all copies of a mosaic have them, in place.

    Pointing k becomes field k, also where the copy has no data of it; other fields go.

    Parameters
    ----------
    ms : Path
        A working copy whose fields have one position each.
    pointings : sequence of (str, (float, float))
        Name and J2000 direction, rad, of each.

    Raises
    ------
    InputError
        A pointing that this copy lacks cannot be given in the frame of its positions.
    """
    places = j2000_directions(ms)
    used = describe_ms(ms).fields_used
    own = [
        next((n for n in used if _apart(places[n], place) <= SAME_PLACE_RAD), None)
        for _, place in pointings
    ]
    new = np.full(len(places), -1, np.int32)
    for number, old in enumerate(own):
        if old is not None:
            new[old] = number
    spare = used[0]
    if None in own and Subtables(ms).fields[spare].frame not in _FRAMES:
        missing = ", ".join(
            name for (name, _), old in zip(pointings, own, strict=True) if old is None
        )
        raise InputError(
            f"{ms.name} has no data of pointings of {missing}, and gives positions in"
            f" {Subtables(ms).fields[spare].frame}",
            "convert its positions to J2000, or image its pointings without the other executions",
        )
    with open_table(f"{ms}::FIELD", write=True) as fields:
        rows = [_row(fields, spare if old is None else old) for old in own]
        for (name, place), old, row in zip(pointings, own, rows, strict=True):
            if old is None:
                row |= {"NAME": name} | {column: np.array([place]) for column in _COLUMNS}
        if fields.nrows() < len(rows):
            fields.addrows(len(rows) - fields.nrows())
        elif fields.nrows() > len(rows):
            fields.removerows(list(range(len(rows), fields.nrows())))
        for number, row in enumerate(rows):
            for name, value in row.items():
                fields.putcell(name, number, value)
    with open_table(ms, write=True) as opened:
        for low, count in stretches(opened.nrows()):
            opened.putcol("FIELD_ID", new[opened.getcol("FIELD_ID", low, count)], low, count)


def _row(opened: Any, number: int) -> dict[str, Any]:
    """Return the defined cells of a row by column."""
    return {
        name: opened.getcell(name, number)
        for name in opened.colnames()
        if opened.iscelldefined(name, number)
    }


def number_visit_groups(ms: Path) -> tuple[int, int]:
    """Number the scans of a mosaic's working copy anew: one for each stretch without a break.

    Between visits to the calibrator the array goes from pointing to pointing, for each of which
    some arrays begin a scan. A break is a gap between two scans that is three times as long as
    the way from one pointing to the next usually takes.

    Returns
    -------
    before, after : int
        Numbers of scans.
    """
    visits = read_visits(ms)
    gap = np.array([b.begin_s - a.end_s for a, b in pairwise(visits)])
    usual = float(np.median(gap)) if len(gap) else 0.0
    least = max(_BREAK * usual, GAP_INTEGRATIONS * describe_ms(ms).integration_s)
    number = 1 + np.concatenate([[0], np.cumsum(gap > least)]).astype(np.int32)
    begins = np.array([visit.begin_s for visit in visits])
    with open_table(ms, write=True) as opened:
        for low, count in stretches(opened.nrows()):
            time: NDArray[np.float64] = opened.getcol("TIME", low, count)
            place = np.searchsorted(begins, time, side="right") - 1
            opened.putcol("SCAN_NUMBER", number[place], low, count)
    return len({visit.scan for visit in visits}), int(number[-1])
