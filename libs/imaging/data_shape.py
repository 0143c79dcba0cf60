"""What measurement sets hold that an imager has to be told: hands, empty windows, shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from libs.ms.rows import chunks
from libs.ms.subtables import Subtables

__all__ = ["DataShape", "longest_w", "most_channels", "read_shape"]


@dataclass(frozen=True)
class DataShape:
    """Of the rows of one field in one or more measurement sets.

    Attributes
    ----------
    hand : str
        The only hand with data, ``"LL"``; empty: both have, or Stokes I itself.
    empty : bool
        Whether a window is flagged throughout.
    windows : tuple of int
        Those with data in any set.
    alike : bool
        Whether all windows have the same number of channels and correlations.
    """

    hand: str
    empty: bool
    windows: tuple[int, ...]
    alike: bool


def read_shape(vis: Sequence[Path], field_id: int) -> DataShape:
    """Look for data in each window and hand; what is found early is not looked for again."""
    shapes: set[tuple[int, int]] = set()
    hands: set[str] = set()
    there: set[int] = set()
    seen: set[int] = set()
    together = False
    for ms in vis:
        found = Subtables(ms)
        settled: set[int] = set()  # data descriptions of which all is known
        for chunk in chunks(ms, ("FLAG", "FLAG_ROW"), where=f"FIELD_ID == {field_id}"):
            ddid = chunk.data_desc_id
            shapes.add(chunk["FLAG"].shape[1:])
            seen.add(chunk.spw)
            if ddid in settled:
                continue
            setup = found.setup_of[ddid]
            good = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None])[:, :, list(setup.parallel)]
            alive = good.any(axis=(0, 1))
            if alive.any():
                there.add(chunk.spw)
            hands |= {setup.correlations[setup.parallel[i]] for i in np.flatnonzero(alive)}
            if good.shape[2] > 1 and good.all(axis=2).any():
                together = True
                settled.add(ddid)
    lone = next(iter(hands)) if len(hands) == 1 and not together and hands != {"I"} else ""
    return DataShape(lone, there != seen, tuple(sorted(there)), len(shapes) == 1)


def most_channels(vis: Sequence[Path]) -> int:
    """Return the number of channels of all windows with rows, of the set that has most."""
    found = map(Subtables, vis)
    return max(
        (sum(one.windows[spw].channels for spw in np.unique(one.spw_of)) for one in found),
        default=0,
    )


def longest_w(vis: Sequence[Path], field_id: int) -> tuple[float, float]:
    """Return the largest |w| of a field, m, and the highest frequency, Hz."""
    longest = highest = 0.0
    for ms in vis:
        for chunk in chunks(ms, ("UVW",), where=f"FIELD_ID == {field_id}"):
            longest = max(longest, float(np.abs(chunk["UVW"][:, 2]).max(initial=0.0)))
        highest = max(highest, *(float(hz.max()) for hz in Subtables(ms).channel_hz))
    return longest, highest
