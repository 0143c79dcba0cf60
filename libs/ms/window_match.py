"""Spectral windows of a selection of data found again in the data it was made from."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError

__all__ = ["match_windows", "parse_windows"]

# a selection copies channel frequencies; those of other executions differ by the Doppler shift
_SAME_HZ = 1.0
_PART = re.compile(r"(\*|\d+(?:~\d+)?)(:.+)?")


def parse_windows(spw: str, count: int) -> dict[int, str]:
    """Return the windows that a selection names, each with its own part of the selection.

    Parameters
    ----------
    spw : str
        CASA syntax with windows by number: ``"0~3:10~50,7"``; empty: all.
    count : int
        How many windows there are.

    Returns
    -------
    dict of int to str
        Window to ``"0:10~50"`` or ``"7"``, in order of number.

    Raises
    ------
    ConfigError
        It names windows by anything but their number, or one that is not there.
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
            raise ConfigError(f"spw = {spw!r} names window {high}", f"there are 0 to {count - 1}")
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
    """Find windows again by the frequencies of their channels.

    Parameters
    ----------
    ours, theirs : sequence of (nchan,) float64
        Channel centres, Hz; ours may be a selection of windows and channels of theirs, in
        their order.
    chosen : collection of int, optional
        Those of theirs that ours were selected from.

    Returns
    -------
    tuple of int
        For each of ours its number among theirs.

    Raises
    ------
    InputError
        One of ours is not there, or several could be the one.
    """
    numbers = [n for n in range(len(theirs)) if chosen is None or n in chosen]
    fits = [tuple(n for n in numbers if _holds(theirs[n], own)) for own in ours]
    found: list[int] = []
    for place, candidates in enumerate(fits):
        # windows of the same channels keep their order, when all of them were selected
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
    """Whether every channel of a part is one of the whole."""
    return bool((np.abs(whole[:, None] - part[None, :]) < _SAME_HZ).any(axis=0).all())
