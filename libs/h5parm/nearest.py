"""The best solutions for a position: for each station the nearest direction that is good there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import separation_rad
from libs.core.errors import InputError
from libs.h5parm.global_table import Listing, list_entries, write_with_entries
from libs.h5parm.phase_reference import common_station, referred
from libs.h5parm.provenance import LEAST_COHERENCE, Entry
from libs.h5parm.reader import direction_places, read_h5parm
from libs.h5parm.solset import Solset, blank, copy_stations

__all__ = ["NearestSolutions", "StationChoice", "Table", "best"]

log = logging.getLogger(__name__)
_TIE_ARCSEC = 1.0


@dataclass(frozen=True)
class StationChoice:
    """Origin of the best solutions of one station.

    Attributes
    ----------
    station : str
    direction : str or None
        Name of the direction; None when no direction has good solutions of this station.
    separation_deg : float
        Distance of the direction; NaN when there is none.
    good_fraction, coherence : float
        Fraction of unflagged solutions, and their coherence, 0 to 1.
    note : str
        Remark on a tie, or the reason why there is none.
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
        Solutions of one direction.
    choices : tuple of StationChoice
        Choices in the order of ``solset.antenna``.
    entries : tuple of Entry
        Provenance of each station that has solutions.
    reference : str or None
        Station to whose phase all directions used are referred. None when only one direction is
        used, or when no station has solutions in all of them.
    """

    solset: Solset
    choices: tuple[StationChoice, ...]
    entries: tuple[Entry, ...]
    reference: str | None = None

    @property
    def directions(self) -> tuple[str, ...]:
        """Names of the directions used."""
        return tuple(sorted({c.direction for c in self.choices if c.direction is not None}))

    @property
    def missing(self) -> tuple[str, ...]:
        """Stations without good solutions in any direction."""
        return tuple(c.station for c in self.choices if c.direction is None)

    def write(self, path: Path) -> None:
        """Write an h5parm with its provenance."""
        write_with_entries(path, self.solset, self.entries, made_here=False)


@dataclass(frozen=True)
class Table:
    """A table of many directions, of which few are read.

    Attributes
    ----------
    antenna : tuple of str
    listings : sequence of Listing
    read : callable
        Function that returns the solutions of a direction by its name.
    """

    antenna: tuple[str, ...]
    listings: Sequence[Listing]
    read: Callable[[str], Solset]

    @classmethod
    def of(cls, store: Path) -> Table:
        """Return the table in an h5parm.

        Raises
        ------
        InputError
            The file is not an h5parm.
        """
        listings = list_entries(store)
        first = next(iter(direction_places(store)))
        antenna = read_h5parm(store, direction=first).antenna
        return cls(antenna, listings, lambda name: read_h5parm(store, direction=name))

    @cached_property
    def _of_station(self) -> dict[str, list[Listing]]:
        found: dict[str, list[Listing]] = {}
        for item in self.listings:
            found.setdefault(item.entry.station, []).append(item)
        return found

    def near(self, station: str, place: NDArray[np.float64]) -> list[tuple[Listing, float]]:
        """Return a station's solutions and their distances from a position, deg."""
        items = self._of_station.get(station, [])
        if not items:
            return []
        there = np.array([(item.ra_rad, item.dec_rad) for item in items])
        apart = np.rad2deg(separation_rad(there, place)).tolist()
        return list(zip(items, apart, strict=True))


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
    table: Table | None = None,
) -> NearestSolutions:
    """Choose, station by station, the nearest direction whose solutions there are good.

    When several directions are used, their phases are referred to one station they all have,
    see `libs.h5parm.phase_reference`.

    Parameters
    ----------
    store : Path
    ra_rad, dec_rad : float
        Position (J2000).
    name : str
        Name of the result's direction.
    min_good_fraction : float
        Least fraction of unflagged solutions, 0 to 1.
    min_coherence : float
        Least coherence, 0 to 1; solutions whose coherence was not measured pass.
    max_separation_deg : float
        Largest distance of a direction that is used, deg.
    missing : str
        Treatment of stations without good solutions: ``flag`` gives no solutions, so that applying
        the result flags their data; ``unit`` gives gains of 1, which changes nothing.
    table : Table, optional
        Contents of ``store``, if known.

    Returns
    -------
    NearestSolutions
        Solutions of the nearest directions. Of directions equally near (within 1 arcsec) the more
        coherent is used, then the one with more solutions, the newer, the first by name; the
        choice's note says so.

    Raises
    ------
    InputError
        The file is not an h5parm, or no station has good solutions in any direction.
    """
    store = Path(store)
    table = table or Table.of(store)
    place = np.array([ra_rad, dec_rad])
    choices: list[StationChoice] = []
    for station in table.antenna:
        candidates = [
            _Candidate(item.entry, apart_deg, item.good_fraction)
            for item, apart_deg in table.near(station, place)
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
    if not used:
        raise InputError(
            f"{store} has no good solutions of any station for this direction",
            "lower min_good_fraction or min_coherence, or allow a larger separation",
        )
    trusted = [
        {item.entry.station for item in table.listings
         if item.entry.direction == direction and not item.entry.coherence < min_coherence}
        for direction in used
    ]  # fmt: skip
    known = {item.entry.key: item.entry for item in table.listings}
    solsets, reference = _on_one_reference([table.read(d) for d in used], trusted)
    return NearestSolutions(
        _gathered(dict(zip(used, solsets, strict=True)), choices, name, place, missing),
        tuple(choices),
        tuple(
            replace(known[(c.direction, c.station)], direction=name, input=str(store))
            for c in choices
            if c.direction is not None
        ),
        reference,
    )


@dataclass(frozen=True)
class _Candidate:
    """Solutions of one station in one direction."""

    entry: Entry
    separation_deg: float
    good_fraction: float

    @property
    def rank(self) -> tuple[float, float, str]:
        """Return the rank among candidates equally near; the greatest is used."""
        coherence = -1.0 if np.isnan(self.entry.coherence) else self.entry.coherence
        return coherence, self.good_fraction, self.entry.date


def _choice(station: str, good: list[_Candidate], candidates: list[_Candidate]) -> StationChoice:
    """Choose the nearest; the note tells of a tie, or why there is none."""
    if not good:
        note = "no solutions in any direction"
        if candidates:
            most = max(c.good_fraction for c in candidates)
            note = f"no good solutions: at best {most:.0%} unflagged, or incoherent or too far"
        return StationChoice(station, None, np.nan, 0.0, np.nan, note)
    least = min(c.separation_deg for c in good)
    tied = [c for c in good if (c.separation_deg - least) * 3600 <= _TIE_ARCSEC]
    tied.sort(key=lambda c: c.entry.direction)
    chosen = max(tied, key=lambda c: c.rank)  # of equal ranks, the first by name
    others = [c.entry.direction for c in tied if c is not chosen]
    return StationChoice(
        station,
        chosen.entry.direction,
        chosen.separation_deg,
        chosen.good_fraction,
        chosen.entry.coherence,
        f"equally near: {', '.join(others)}" if others else "",
    )


def _on_one_reference(
    solsets: list[Solset], trusted: Sequence[set[str]]
) -> tuple[list[Solset], str | None]:
    """Refer the phases of the directions used to one station that is coherent in all of them."""
    if len(solsets) < 2:
        return solsets, None
    station = common_station(solsets, trusted)
    if station is None:
        log.warning(
            "no station has coherent solutions in all of %s, so their phases keep their references",
            ", ".join(one.direction[0] for one in solsets),
        )
        return solsets, None
    return [referred(one, station) for one in solsets], station


def _gathered(
    solsets: Mapping[str, Solset],
    choices: Sequence[StationChoice],
    name: str,
    place: NDArray[np.float64],
    missing: str,
) -> Solset:
    """Take each station's solutions from the direction chosen for it."""
    like = next(iter(solsets.values()))
    result = blank(like, like.antenna, like.position_m, (name,), place[np.newaxis])
    for i, choice in enumerate(choices):
        if choice.direction is not None:
            copy_stations(solsets[choice.direction], [i], 0, result, [i], 0)
        elif missing == "unit":
            result.weight[:, :, i] = 1.0
    return result
