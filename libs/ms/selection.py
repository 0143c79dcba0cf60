"""Selections of rows by field and spectral window, and matching of windows by frequency."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError
from libs.ms.subtables import Subtables

__all__ = ["RowChoice", "choose_fields", "match_windows", "parse_windows"]

# A selection copies channel frequencies; those of other executions differ by the Doppler shift.
_SAME_HZ = 1.0
_PART = re.compile(r"(\*|\d+(?:~\d+)?)(:.+)?")


@dataclass(frozen=True)
class RowChoice:
    """Rows of a measurement set by field and data description; a `libs.ms.rows.RowFilter`.

    Attributes
    ----------
    fields : frozenset of int or None
        FIELD_ID of the rows; None: all.
    data_descriptions : frozenset of int or None
        DATA_DESC_ID of the rows; None: all.
    """

    fields: frozenset[int] | None = None
    data_descriptions: frozenset[int] | None = None

    @property
    def everything(self) -> bool:
        """True when no row is left out."""
        return self.fields is None and self.data_descriptions is None

    def __call__(self, opened: Any, low: int, count: int) -> NDArray[np.bool_]:
        """Return which of ``count`` rows from ``low`` on are chosen, (count,)."""
        chosen = np.ones(count, bool)
        for name, wanted in (
            ("FIELD_ID", self.fields),
            ("DATA_DESC_ID", self.data_descriptions),
        ):
            if wanted is not None:
                chosen &= np.isin(opened.getcol(name, low, count), list(wanted))
        return chosen


def choose_fields(ms: str | Path, names: str | Sequence[str]) -> frozenset[int] | None:
    """Return the ids of all fields with the given names; mosaics use one name several times.

    Parameters
    ----------
    ms : path
    names : str or sequence of str
        Names, comma separated if given as one text; ``all`` means every field.

    Returns
    -------
    frozenset of int or None
        Ids; None: all.

    Raises
    ------
    ConfigError
        No name is given, or no row of the data belongs to such a field.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in wanted if name.strip()]
    if wanted == ["all"]:
        return None
    known = [field.name.strip() for field in Subtables(ms).fields]
    found = {name: {i for i, other in enumerate(known) if other == name} for name in wanted}
    missing = [name for name, ids in found.items() if not ids]
    if missing or not wanted:
        raise ConfigError(
            f"{ms} has no field {', '.join(missing) or 'without a name'}",
            f"--field takes names or all; its fields are {_listed(known)}",
        )
    return frozenset().union(*found.values())


def _listed(names: Iterable[str], most: int = 20) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - most} more" if len(distinct) > most else ""
    return ", ".join(distinct[:most]) + more


def parse_windows(spw: str, count: int) -> dict[int, str]:
    """Return the windows named by a selection, each with its own part of the selection.

    Parameters
    ----------
    spw : str
        CASA syntax with windows by number: ``"0~3:10~50,7"``; empty: all.
    count : int
        Number of windows in the data.

    Returns
    -------
    dict of int to str
        Selection of each window, ``"0:10~50"`` or ``"7"``, in order of number.

    Raises
    ------
    ConfigError
        Windows are named by something other than their number, or one does not exist.
    """
    found: dict[int, list[str]] = {}
    for part in (spw or "*").split(","):
        read = _PART.fullmatch(part.strip())
        if not read:
            raise ConfigError(
                f"spw = {spw!r} does not name windows by number", "write it as 0~3:10~50,7"
            )
        first, _, last = read[1].partition("~")
        low, high = (0, count - 1) if first == "*" else (int(first), int(last or first))
        if high >= count:
            raise ConfigError(
                f"spw = {spw!r} names window {high}", f"the windows are 0 to {count - 1}"
            )
        for number in range(low, high + 1):
            found.setdefault(number, []).append((read[2] or "").removeprefix(":"))
    return {
        number: str(number) if "" in parts else f"{number}:{';'.join(parts)}"
        for number, parts in sorted(found.items())
    }


def match_windows(
    ours: Sequence[NDArray[np.float64]],
    theirs: Sequence[NDArray[np.float64]],
    chosen: Collection[int] | None = None,
) -> tuple[int, ...]:
    """Match windows by the frequencies of their channels.

    Parameters
    ----------
    ours, theirs : sequence of (nchan,) float64
        Channel centres, Hz; ours may be a selection of windows and channels of theirs, in
        their order.
    chosen : collection of int, optional
        Numbers of those of theirs from which ours were selected.

    Returns
    -------
    tuple of int
        Number among theirs of each of ours.

    Raises
    ------
    InputError
        One of ours is missing, or several of theirs match it.
    """
    numbers = [n for n in range(len(theirs)) if chosen is None or n in chosen]
    fits = [tuple(n for n in numbers if _holds(theirs[n], own)) for own in ours]
    found: list[int] = []
    for place, candidates in enumerate(fits):
        # windows with the same channels keep their order if all of them were selected
        alike = [i for i, other in enumerate(fits) if other == candidates]
        if len(alike) != len(candidates):
            what = "is not among" if not candidates else "could be several of"
            raise InputError(
                f"spectral window {place} at {ours[place].mean() / 1e9:.6f} GHz {what} those of"
                " the data",
                "name the data it was made from",
            )
        found.append(candidates[alike.index(place)])
    return tuple(found)


def _holds(whole: NDArray[np.float64], part: NDArray[np.float64]) -> bool:
    """Return True when every channel of a part is in the whole."""
    return bool((np.abs(whole[:, None] - part[None, :]) < _SAME_HZ).any(axis=0).all())
