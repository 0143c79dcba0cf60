"""Subtables read once for as long as their files stay as they are."""

from __future__ import annotations

from pathlib import Path

from libs.ms.subtables import Subtables
from libs.ms.unchanged import ValueKeeper, subtables_state

__all__ = ["kept_subtables"]

_NAMES = (
    "ANTENNA", "FIELD", "SPECTRAL_WINDOW", "DATA_DESCRIPTION", "POLARIZATION", "OBSERVATION",
    "STATE",
)  # fmt: skip
_KEEPER: ValueKeeper[Subtables] = ValueKeeper()


def kept_subtables(path: str | Path) -> Subtables:
    """Return the subtables of a measurement set; they are read again only after a change.

    Several callers share the records and their arrays, which must not be changed.
    """
    place = Path(path)
    return _KEEPER.get(place, lambda: subtables_state(place, _NAMES), lambda: Subtables(place))
