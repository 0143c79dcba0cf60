"""The best solutions for a position: per station the nearest direction that is good there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.errors import InputError
from libs.h5parm import read_h5parm
from libs.provenance import Entry, entries_of
from libs.solset import Solset, blank, copy_stations, separation_rad
from libs.solution_store import write_with_entries

__all__ = ["Best", "Choice", "best"]

_TIE_ARCSEC = 1.0
Entries = dict[tuple[str, str], Entry]


@dataclass(frozen=True)
class Choice:
    """Where the best solutions of one station come from.

    Attributes
    ----------
    station : str
    direction : str or None
        None when no direction has good solutions of this station.
    separation_deg : float
        NaN when there is none.
    good_fraction, coherence : float
    note : str
        A tie, or why there is none.
    """

    station: str
    direction: str | None
    separation_deg: float
    good_fraction: float
    coherence: float
    note: str = ""


@dataclass(frozen=True)
class Best:
    """The best solutions for one direction, station by station.

    Attributes
    ----------
    solset : Solset
        One direction.
    choices : tuple of Choice
        In the order of ``solset.antenna``.
    entries : tuple of Entry
        Provenance of each station that has solutions.
    """

    solset: Solset
    choices: tuple[Choice, ...]
    entries: tuple[Entry, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Stations for which nothing is good anywhere."""
        return tuple(c.station for c in self.choices if c.direction is None)

    def write(self, path: Path) -> None:
        """Write an h5parm with its provenance."""
        write_with_entries(path, self.solset, self.entries, made_here=False)


def best(
    store: Path,
    ra_rad: float,
    dec_rad: float,
    *,
    name: str = "best",
    min_good_fraction: float = 0.5,
    min_coherence: float = 0.5,
    max_separation_deg: float = np.inf,
    missing: Literal["flag", "unit"] = "flag",
) -> Best:
    """Choose, station by station, the nearest direction whose solutions there are good.

    Parameters
    ----------
    store : Path
    ra_rad, dec_rad : float
        The position asked for (J2000), rad.
    name : str
        Name of the direction of the result.
    min_good_fraction : float
        Least fraction of unflagged solutions, 0 to 1.
    min_coherence : float
        Least coherence, 0 to 1; solutions whose coherence was not measured pass.
    max_separation_deg : float
        Farther directions are not used, deg.
    missing : str
        Stations with nothing good have no solutions (``flag``: applying the result flags
        them) or gains of 1 (``unit``: they stay as they are).

    Returns
    -------
    Best
        Directions equally near (within 1 arcsec): the more coherent wins, then the one with
        more solutions, the newer, the first by name; the choice says so.

    Raises
    ------
    InputError
        No h5parm, or no station has good solutions anywhere.
    """
    store = Path(store)
    solset = read_h5parm(store)
    entries = entries_of(store, solset)
    place = np.array([ra_rad, dec_rad])
    apart_deg = np.rad2deg(separation_rad(solset.direction_rad, place))
    choices: list[Choice] = []
    origins: list[Entry] = []
    taken: list[int | None] = []
    for station, fraction in zip(solset.antenna, solset.good_fraction, strict=True):
        good = [
            j
            for j, direction in enumerate(solset.direction)
            if (found := entries.get((direction, station))) is not None
            and fraction[j] >= min_good_fraction
            and not found.coherence < min_coherence
            and apart_deg[j] <= max_separation_deg
        ]
        if not good:
            choices.append(Choice(station, None, np.nan, 0.0, np.nan, _why_not(fraction)))
            taken.append(None)
            continue
        j, note = _nearest(good, apart_deg, fraction, station, solset, entries)
        origin = entries[(solset.direction[j], station)]
        choices.append(
            Choice(
                station,
                solset.direction[j],
                float(apart_deg[j]),
                float(fraction[j]),
                origin.coherence,
                note,
            )
        )
        origins.append(replace(origin, direction=name, input=str(store)))
        taken.append(j)
    if not origins:
        raise InputError(
            f"{store} has no good solutions of any station for this direction",
            "lower min_good_fraction or min_coherence, or allow a larger separation",
        )
    result = _gathered(solset, taken, name, place, missing)
    return Best(result, tuple(choices), tuple(origins))


def _why_not(fraction: NDArray[np.float64]) -> str:
    if not fraction.any():
        return "no solutions in any direction"
    return f"no good solutions: at best {fraction.max():.0%} unflagged, or incoherent or too far"


def _nearest(
    good: list[int],
    apart_deg: NDArray[np.float64],
    fraction: NDArray[np.float64],
    station: str,
    solset: Solset,
    entries: Entries,
) -> tuple[int, str]:
    """Return the direction to use and, at a tie, a note."""
    least = min(apart_deg[j] for j in good)
    tied = [j for j in good if (apart_deg[j] - least) * 3600 <= _TIE_ARCSEC]

    def rank(j: int) -> tuple[float, float, str]:
        entry = entries[(solset.direction[j], station)]
        return np.nan_to_num(entry.coherence, nan=-1.0), fraction[j], entry.date

    top = max(rank(j) for j in tied)
    chosen = min((j for j in tied if rank(j) == top), key=lambda j: solset.direction[j])
    others = [solset.direction[j] for j in tied if j != chosen]
    return chosen, f"as near as {', '.join(others)}" if others else ""


def _gathered(
    solset: Solset,
    taken: Sequence[int | None],
    name: str,
    place: NDArray[np.float64],
    missing: str,
) -> Solset:
    """Take direction ``taken[i]`` for station i (None: none)."""
    result = blank(solset, solset.antenna, solset.position_m, (name,), place[np.newaxis])
    for i, j in enumerate(taken):
        if j is not None:
            copy_stations(solset, [i], j, result, [i], 0)
        elif missing == "unit":
            result.weight[:, :, i] = 1.0
    return result
