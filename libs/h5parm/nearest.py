"""The best solutions for a position: per station the nearest direction that is good there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import separation_rad
from libs.core.errors import InputError
from libs.h5parm.global_table import write_with_entries
from libs.h5parm.phase_reference import common_station, referred
from libs.h5parm.provenance import LEAST_COHERENCE, Entry, entries_of
from libs.h5parm.reader import read_h5parm
from libs.h5parm.solset import Solset, blank, copy_stations

__all__ = ["NearestSolutions", "StationChoice", "best"]

log = logging.getLogger(__name__)
_TIE_ARCSEC = 1.0


@dataclass(frozen=True)
class StationChoice:
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
class NearestSolutions:
    """The best solutions for one direction, station by station.

    Attributes
    ----------
    solset : Solset
        One direction.
    choices : tuple of StationChoice
        In the order of ``solset.antenna``.
    entries : tuple of Entry
        Provenance of each station that has solutions.
    reference : str or None
        The station to whose phase those of all directions used are referred; None when they
        come from one direction, or when no station has solutions in all of them.
    """

    solset: Solset
    choices: tuple[StationChoice, ...]
    entries: tuple[Entry, ...]
    reference: str | None = None

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions used, by name."""
        return tuple(sorted({c.direction for c in self.choices if c.direction is not None}))

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
    min_coherence: float = LEAST_COHERENCE,
    max_separation_deg: float = np.inf,
    missing: Literal["flag", "unit"] = "flag",
) -> NearestSolutions:
    """Choose, station by station, the nearest direction whose solutions there are good.

    When several directions are used their phases are referred to one station they all have,
    see `libs.h5parm.phase_reference`.

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
    NearestSolutions
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
    fraction = solset.good_fraction
    choices: list[StationChoice] = []
    for i, station in enumerate(solset.antenna):
        candidates = [
            _Candidate(entry, float(apart_deg[j]), float(fraction[i, j]))
            for j, direction in enumerate(solset.direction)
            if (entry := entries.get((direction, station))) is not None
        ]
        good = [
            c
            for c in candidates
            if c.good_fraction >= min_good_fraction
            and not c.entry.coherence < min_coherence
            and c.separation_deg <= max_separation_deg
        ]
        choices.append(_choice(station, good, candidates))
    used = sorted({c.direction for c in choices if c.direction is not None})
    trusted = [
        {station for (there, station), entry in entries.items()
         if there == direction and not entry.coherence < min_coherence}
        for direction in used
    ]  # fmt: skip
    solset, reference = _on_one_reference(solset, used, trusted)
    result = NearestSolutions(
        _gathered(solset, choices, name, place, missing),
        tuple(choices),
        tuple(
            replace(entries[(c.direction, c.station)], direction=name, input=str(store))
            for c in choices
            if c.direction is not None
        ),
        reference,
    )
    if not result.entries:
        raise InputError(
            f"{store} has no good solutions of any station for this direction",
            "lower min_good_fraction or min_coherence, or allow a larger separation",
        )
    return result


@dataclass(frozen=True)
class _Candidate:
    """Solutions of one station in one direction."""

    entry: Entry
    separation_deg: float
    good_fraction: float

    @property
    def rank(self) -> tuple[float, float, str]:
        """Of candidates equally near the one of the greatest rank is used."""
        coherence = -1.0 if np.isnan(self.entry.coherence) else self.entry.coherence
        return coherence, self.good_fraction, self.entry.date


def _choice(station: str, good: list[_Candidate], candidates: list[_Candidate]) -> StationChoice:
    """Choose the nearest; at a tie, or when there is nothing good, with a note."""
    if not good:
        note = "no solutions in any direction"
        if candidates:
            most = max(c.good_fraction for c in candidates)
            note = f"no good solutions: at best {most:.0%} unflagged, or incoherent or too far"
        return StationChoice(station, None, np.nan, 0.0, np.nan, note)
    least = min(c.separation_deg for c in good)
    tied = [c for c in good if (c.separation_deg - least) * 3600 <= _TIE_ARCSEC]
    tied.sort(key=lambda c: c.entry.direction)
    chosen = max(tied, key=lambda c: c.rank)  # the first by name of equal ranks
    others = [c.entry.direction for c in tied if c is not chosen]
    return StationChoice(
        station,
        chosen.entry.direction,
        chosen.separation_deg,
        chosen.good_fraction,
        chosen.entry.coherence,
        f"as near as {', '.join(others)}" if others else "",
    )


def _on_one_reference(
    solset: Solset, used: Sequence[str], trusted: Sequence[set[str]]
) -> tuple[Solset, str | None]:
    """Refer the phases of the directions used to one station that is coherent in all of them."""
    if len(used) < 2:
        return solset, None
    solset = solset.select_directions([solset.direction.index(d) for d in used])
    station = common_station([solset.in_direction(d) for d in used], trusted)
    if station is None:
        log.warning(
            "no station has coherent solutions in all of %s: their phases keep their references",
            ", ".join(used),
        )
        return solset, None
    return referred(solset, station), station


def _gathered(
    solset: Solset,
    choices: Sequence[StationChoice],
    name: str,
    place: NDArray[np.float64],
    missing: str,
) -> Solset:
    """Take the chosen direction of each station."""
    result = blank(solset, solset.antenna, solset.position_m, (name,), place[np.newaxis])
    for i, choice in enumerate(choices):
        if choice.direction is not None:
            j = solset.direction.index(choice.direction)
            copy_stations(solset, [i], j, result, [i], 0)
        elif missing == "unit":
            result.weight[:, :, i] = 1.0
    return result
