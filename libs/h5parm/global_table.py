"""The global table: solutions over (direction, station), each with its own origin."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.files import locked
from libs.h5parm.combine import combine, match_direction, nearest_within
from libs.h5parm.phase_reference import aligned, common_station
from libs.h5parm.provenance import DATASET, Entry, entries_of, rows_of
from libs.h5parm.reader import as_written, read_h5parm, write_h5parm
from libs.h5parm.regrid import regrid, union_grid
from libs.h5parm.solset import Solset, blank, copy_stations

__all__ = [
    "Listing",
    "MergeReport",
    "combine_files",
    "list_entries",
    "merge_into",
    "write_with_entries",
]

log = logging.getLogger(__name__)

Key = tuple[str, str]
Entries = dict[Key, Entry]

_OUTCOMES = ("added", "replaced", "unchanged", "older", "incoherent")


@dataclass(frozen=True)
class Listing:
    """An entry of the table with the place of its direction and how much of it is valid.

    Attributes
    ----------
    entry : Entry
    ra_rad, dec_rad : float
    good_fraction : float
        Fraction of the solutions that are not flagged, 0 to 1.
    """

    entry: Entry
    ra_rad: float
    dec_rad: float
    good_fraction: float


@dataclass(frozen=True)
class MergeReport:
    """What a merge did; entries are (direction, station).

    Attributes
    ----------
    added, replaced, unchanged : tuple of (str, str)
    older : tuple of (str, str)
        Entries of the sources that are older than what the store has, which stayed.
    incoherent : tuple of (str, str)
        Entries of the sources that are incoherent where those of the store, which stayed, are
        not.
    renamed : tuple of (str, str)
        Directions that got another name because the store has theirs for another place.
    """

    added: tuple[Key, ...]
    replaced: tuple[Key, ...]
    unchanged: tuple[Key, ...]
    older: tuple[Key, ...]
    incoherent: tuple[Key, ...]
    renamed: tuple[tuple[str, str], ...]

    @property
    def changed(self) -> bool:
        """True when the file was written."""
        return bool(self.added or self.replaced)


@dataclass(frozen=True)
class Part:
    """A table that goes into a merge: its provenance, and the solutions taken of it."""

    solset: Solset
    entries: Entries
    keys: set[Key]

    @property
    def usable(self) -> set[Key]:
        """Solutions, taken or not, that are not known to be incoherent."""
        return {key for key, entry in self.entries.items() if entry.usable}


def write_with_entries(
    path: Path, solset: Solset, entries: Sequence[Entry], *, made_here: bool = True
) -> None:
    """Write an h5parm with its provenance; ``made_here`` as in `libs.h5parm.provenance.rows_of`."""
    solset = as_written(solset)
    write_h5parm(path, solset, {DATASET: rows_of(solset, entries, made_here=made_here)})


def list_entries(store: Path) -> list[Listing]:
    """Return every (direction, station) that has solutions, sorted."""
    solset = read_h5parm(store)
    good = solset.good_fraction
    listings = []
    for (direction, station), entry in sorted(entries_of(store, solset).items()):
        j, i = solset.direction.index(direction), solset.antenna.index(station)
        ra, dec = solset.direction_rad[j]
        listings.append(Listing(entry, float(ra), float(dec), float(good[i, j])))
    return listings


# ---------------------------------------------------------------------------------- merging


def merge_into(
    store: Path,
    sources: Sequence[Path],
    *,
    force: bool = False,
    soltabs: Sequence[str] | None = None,
    timeout_s: float = 600.0,
) -> MergeReport:
    """Add the solutions of other files to the global table.

    Directions are told apart by position. Of two solutions of one station in one direction
    a coherent one stays before an incoherent one, else the newer (of the same date: the one with
    the greater digest), so that merges give the same table in whatever order they come, and the
    same merge twice changes nothing.
    Where that leaves stations of two solves in one direction their phases are brought to one
    reference station.
    The table stands on the union of all times and frequencies that were ever merged.

    Parameters
    ----------
    store : Path
        Made when it does not exist; replaced as a whole, under a lock.
    sources : sequence of Path
    force : bool
        Solutions of the sources win whatever their date.
    soltabs : sequence of str, optional
        Soltabs of the sources to use, as in `libs.h5parm.reader.read_h5parm`.
    timeout_s : float
        How long to wait for other writers, seconds.

    Raises
    ------
    InputError
        A file that is no h5parm; nothing is changed then. A lock that is held too long.
    """
    store = Path(store)
    if not sources:
        raise InputError("nothing to merge", "name the h5parms to merge")
    read = []
    for path in map(Path, sources):
        solset = as_written(read_h5parm(path, soltabs))
        read.append((solset, entries_of(path, solset)))
    with locked(store, timeout_s):
        table: Solset | None = None
        entries: Entries = {}
        if store.exists():
            table = as_written(read_h5parm(store))
            entries = entries_of(store, table)
        tally: dict[str, list[Key]] = {name: [] for name in _OUTCOMES}
        renamed: list[tuple[str, str]] = []
        parts: list[Part] = []
        if table is not None:
            parts.append(Part(table, entries, set(entries)))
        places = _places(part.solset for part in parts)
        for solset, found in read:
            solset, found, names = _fit_names(places, solset, found)
            renamed += names
            taken = _decide(entries, found, force, tally)
            entries = entries | {key: found[key] for key in taken}
            if taken:
                parts.append(Part(solset, found, set(taken)))
                places = _places(part.solset for part in parts)
        report = MergeReport(
            **{name: tuple(keys) for name, keys in tally.items()}, renamed=tuple(renamed)
        )
        if report.changed:
            merged = as_written(_assembled(parts))
            write_with_entries(store, merged, list(entries.values()), made_here=False)
    return report


def _decide(
    entries: Entries, found: Entries, force: bool, tally: dict[str, list[Key]]
) -> list[Key]:
    """Return the keys whose solutions are taken."""
    taken = []
    for key, new in found.items():
        old = entries.get(key)
        if old is None:
            tally["added"].append(key)
            taken.append(key)
        elif old.digest == new.digest:
            tally["unchanged"].append(key)
        elif force or _merit(new) > _merit(old):
            tally["replaced"].append(key)
            taken.append(key)
        else:
            tally["older" if new.usable == old.usable else "incoherent"].append(key)
    return taken


def _merit(entry: Entry) -> tuple[bool, str, str]:
    """What decides between two solutions of one station in one direction."""
    return entry.usable, entry.date, entry.digest


Places = dict[str, NDArray[np.float64]]


def _places(parts: Iterable[Solset]) -> Places:
    """Return the directions of several tables, the first of each name."""
    places: Places = {}
    for part in parts:
        for name, place in zip(part.direction, part.direction_rad, strict=True):
            places.setdefault(name, place)
    return places


def _fit_names(
    places: Places, solset: Solset, found: Entries
) -> tuple[Solset, Entries, list[tuple[str, str]]]:
    """Give directions the names the table has for their places, or free ones."""
    if not places:
        return solset, found, []
    known = np.array(list(places.values()))
    rename = {}
    for name, place in zip(solset.direction, solset.direction_rad, strict=True):
        same = nearest_within(known, place)
        new = name if same is None else list(places)[same]
        if same is None and name in places:
            ra, dec = np.rad2deg(place)
            new = f"{name}_{ra % 360:.4f}{dec:+.4f}"
        rename[name] = new
    moved = {(rename[d], s): replace(entry, direction=rename[d]) for (d, s), entry in found.items()}
    changed = [(old, new) for old, new in rename.items() if old != new]
    return replace(solset, direction=tuple(rename.values())), moved, changed


def _assembled(parts: Sequence[Part]) -> Solset:
    """Return one table of the chosen solutions of several; later ones replace earlier ones.

    Directions and stations are sorted by name: the same table whatever the order of merges.
    """
    solsets = [part.solset for part in parts]
    time_s, frequency_hz = union_grid(solsets)
    polarization = max((solset.polarization for solset in solsets), key=len)

    def fitted(solset: Solset) -> Solset:
        return regrid(solset, time_s, frequency_hz).with_polarization(polarization)

    places = dict(sorted(_places(solsets).items()))
    positions: dict[str, NDArray[np.float64]] = {}
    for solset in solsets:
        for name, position in zip(solset.antenna, solset.position_m, strict=True):
            positions.setdefault(name, position)
    antenna = tuple(sorted(positions))
    like = next((solset for solset in solsets if solset.tec_tecu is not None), solsets[-1])
    result = blank(
        fitted(like.select_directions([0])),
        antenna,
        np.array([positions[name] for name in antenna]),
        tuple(places),
        np.array(list(places.values())),
    )
    usable: set[Key] = set()
    for part in parts:
        _put(replace(part, solset=fitted(part.solset)), result, usable)
        usable = (usable - part.keys) | (part.usable & part.keys)
    return result


def _put(part: Part, result: Solset, usable: set[Key]) -> None:
    """Copy the chosen solutions of one table into the merged one.

    Where stations of an earlier table stay beside them, the phases are brought to the same
    reference: a station that is coherent in both, ``usable`` in the merged one.
    """
    row = {name: i for i, name in enumerate(result.antenna)}
    for direction in part.solset.direction:
        one = part.solset.in_direction(direction)
        names = [name for name in one.antenna if (direction, name) in part.keys]
        before = result.in_direction(direction)
        stay = {
            name
            for name, fraction in zip(before.antenna, before.good_fraction[:, 0], strict=True)
            if fraction and name not in names
        }
        if stay and names:
            trusted = [
                [station for there, station in keys if there == direction]
                for keys in (part.usable, usable)
            ]
            station = common_station([one, before], trusted)
            if station is None:
                log.warning(
                    "%s: no common coherent station, phases keep their references", direction
                )
            else:
                one = aligned(one, before, station)
        here = [one.antenna.index(name) for name in names]
        there = [row[name] for name in names]
        copy_stations(one, here, 0, result, there, result.direction.index(direction))


# -------------------------------------------------------------------------------- combination


def combine_files(
    first: Path,
    second: Path,
    out: Path,
    frequency_hz: NDArray[np.float64] | None = None,
    *,
    soltabs: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Multiply two h5parms (initial x incremental) and write the product.

    Provenance: a station that both have is the second's, refined from the first's source;
    what only one has keeps its own.

    Parameters
    ----------
    first, second, out : Path
    frequency_hz : (nfreq,) float64, optional
        Frequencies of the product in place of the union.
    soltabs : sequence of str, optional
        Soltabs to use, as in `libs.h5parm.reader.read_h5parm`.

    Returns
    -------
    tuple of str
        Notes a user should read, as in `libs.h5parm.combine.Combined`.

    Raises
    ------
    InputError
        As `read_h5parm`, `combine` and `write_h5parm` raise it.
    """
    first, second, out = Path(first), Path(second), Path(out)
    a, b = read_h5parm(first, soltabs), read_h5parm(second, soltabs)
    product = combine(a, b, frequency_hz)
    of_first, of_second = entries_of(first, a), entries_of(second, b)
    entries = []
    for j, direction in enumerate(product.solset.direction):
        place = product.solset.direction_rad[j]
        keys = [_direction_at(table, place) for table in (a, b)]
        for station in product.solset.antenna:
            base, top = of_first.get((keys[0], station)), of_second.get((keys[1], station))
            if base and top:
                top = replace(top, refined_from=base.source, input=str(first))
            chosen = top or base
            if chosen:
                entries.append(replace(chosen, direction=direction))
    write_with_entries(out, product.solset, entries)
    return product.notes


def _direction_at(table: Solset, place: NDArray[np.float64]) -> str:
    """Name of the direction that went into the product at ``place``."""
    same = match_direction(table, place)
    if same is None:
        return table.direction[0] if len(table.direction) == 1 else ""
    return table.direction[same]
