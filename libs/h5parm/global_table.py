"""The global table: solutions over (direction, station), each with its own origin."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.files import locked, replacing
from libs.h5parm.combine import combine, match_direction, nearest_within
from libs.h5parm.listing import Listing, list_entries, listed
from libs.h5parm.phase_reference import common_station, phase_aligned
from libs.h5parm.provenance import (
    DATASET,
    Entry,
    as_rows,
    entries_of,
    read_entries,
    rows_of,
    stamped,
)
from libs.h5parm.reader import as_written, direction_places, read_h5parm, write_h5parm
from libs.h5parm.regrid import regrid, union_grid
from libs.h5parm.solset import Solset, blank, copy_stations
from libs.h5parm.writer import TableWriter

__all__ = [
    "Listing",
    "MergeReport",
    "Merging",
    "begin_merge",
    "combine_files",
    "finish_merge",
    "list_entries",
    "merge_into",
    "plan_merge",
    "write_with_entries",
]

log = logging.getLogger(__name__)

Key = tuple[str, str]
Entries = dict[Key, Entry]
Places = dict[str, NDArray[np.float64]]

_OUTCOMES = ("added", "replaced", "unchanged", "older", "incoherent")


@dataclass(frozen=True)
class MergeReport:
    """Result of a merge; entries are (direction, station).

    Attributes
    ----------
    added, replaced, unchanged : tuple of (str, str)
        Entries of the sources by what became of them.
    older : tuple of (str, str)
        Entries of the sources that are older than those of the store, which were kept.
    incoherent : tuple of (str, str)
        Entries of the sources that are incoherent where those of the store, kept, are not.
    renamed : tuple of (str, str)
        Directions that were renamed because the store uses their name for another position.
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
    """A table that takes part in a merge: its provenance, and the solutions taken from it.

    ``places`` are its directions by their names in the merged table, ``named`` their names in the
    file; ``grid`` is one of its directions, for its axes.
    """

    path: Path
    soltabs: Sequence[str] | None
    grid: Solset
    places: Places
    named: dict[str, str]
    entries: Entries
    keys: set[Key]

    def read(self, direction: str) -> Solset:
        """Read one direction by its name in the merged table."""
        one = read_h5parm(self.path, self.soltabs, direction=self.named[direction])
        return replace(as_written(one), direction=(direction,))

    @property
    def usable(self) -> set[Key]:
        """Return solutions, taken or not, that are not known to be incoherent."""
        return {key for key, entry in self.entries.items() if entry.usable}


def write_with_entries(
    path: Path, solset: Solset, entries: Sequence[Entry], *, made_here: bool = True
) -> None:
    """Write an h5parm with its provenance; ``made_here`` as in `libs.h5parm.provenance.rows_of`."""
    solset = as_written(solset)
    write_h5parm(path, solset, {DATASET: rows_of(solset, entries, made_here=made_here)})


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

    Directions are identified by position. Of two solutions of one station in one direction a
    coherent one is preferred to an incoherent one, then the newer one (for equal dates, the one
    with the greater digest). Merges therefore give the same table in any order, and the same merge
    twice changes nothing. Where stations of two solves remain in one direction, their phases get
    one reference station. The table is on the union of all times and frequencies ever merged.

    Parameters
    ----------
    store : Path
        Global table, created if necessary; it is replaced as a whole, under a lock.
    sources : sequence of Path
    force : bool
        True prefers the solutions of the sources whatever their date.
    soltabs : sequence of str, optional
        Soltabs of the sources to use, as in `libs.h5parm.reader.read_h5parm`.
    timeout_s : float
        Longest wait for other writers, s.

    Raises
    ------
    InputError
        A file is not an h5parm, or a lock is held too long; nothing is changed then.
    """
    store = Path(store)
    if not sources:
        raise InputError("nothing to merge", "name the h5parms to merge")
    read = [_opened(Path(path), soltabs) for path in sources]
    with locked(store, timeout_s):
        parts, entries, report = plan_merge(store if store.exists() else None, read, force=force)
        if report.changed:
            with replacing(store) as part:
                finish_merge(begin_merge(part, parts, entries), [])
    return report


def plan_merge(
    store: Path | None, sources: Sequence[Path | Part], *, force: bool = False
) -> tuple[list[Part], Entries, MergeReport]:
    """Return the tables of a merge with the solutions taken, the entries, and the changes.

    Parameters
    ----------
    store : Path or None
        Table before the merge; None: there is none.
    sources : sequence of Path or Part
    force : bool
        Preference as in `merge_into`.
    """
    tally: dict[str, list[Key]] = {name: [] for name in _OUTCOMES}
    renamed: list[tuple[str, str]] = []
    parts: list[Part] = []
    entries: Entries = {}
    places: Places = {}
    if store is not None:
        table = _opened(store, None)
        entries, places = table.entries, dict(table.places)
        parts.append(replace(table, keys=set(entries)))
    for source in sources:
        part, names = _fit_names(
            places, source if isinstance(source, Part) else _opened(Path(source), None)
        )
        renamed += names
        taken = _decide(entries, part.entries, force, tally)
        entries = entries | {key: part.entries[key] for key in taken}
        if taken:
            parts.append(replace(part, keys=set(taken)))
            places = part.places | places
    return (
        parts,
        entries,
        MergeReport(**{name: tuple(keys) for name, keys in tally.items()}, renamed=tuple(renamed)),
    )


def _opened(path: Path, soltabs: Sequence[str] | None) -> Part:
    """Read the properties of a table, direction by direction."""
    places = direction_places(path, soltabs)
    known = {entry.key: entry for entry in read_entries(path)}
    entries: Entries = {}
    grid: Solset | None = None
    for direction in places:
        one = as_written(read_h5parm(path, soltabs, direction=direction))
        entries |= entries_of(path, one, known)
        grid = grid or _axes_of(one)
    if grid is None:
        raise InputError(f"{path} has no directions", "give an h5parm")
    return Part(path, soltabs, grid, places, {name: name for name in places}, entries, set())


def _axes_of(one: Solset) -> Solset:
    """Return the table without its solutions, which takes hardly any memory."""
    zero = np.broadcast_to(0.0, one.shape)
    tec = None if one.tec_tecu is None else np.broadcast_to(0.0, one.tec_tecu.shape)
    return replace(
        one, phase_rad=zero, weight=zero, amplitude=np.broadcast_to(1.0, one.shape), tec_tecu=tec
    )


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
    """Return the rank of a solution among those of one station in one direction."""
    return entry.usable, entry.date, entry.digest


def _fit_names(places: Places, part: Part) -> tuple[Part, list[tuple[str, str]]]:
    """Rename directions to the table's names for their positions, or to free names."""
    if not places:
        return part, []
    known = np.array(list(places.values()))
    rename = {}
    for name, place in part.places.items():
        same = nearest_within(known, place)
        new = name if same is None else list(places)[same]
        if same is None and name in places:
            ra, dec = np.rad2deg(place)
            new = f"{name}_{ra % 360:.4f}{dec:+.4f}"
        rename[name] = new
    moved = {
        (rename[d], s): replace(entry, direction=rename[d])
        for (d, s), entry in part.entries.items()
    }
    changed = [(old, new) for old, new in rename.items() if old != new]
    fitted = replace(
        part,
        places={rename[name]: place for name, place in part.places.items()},
        named={new: old for old, new in rename.items()},
        entries=moved,
    )
    return fitted, changed


@dataclass
class Merging:
    """A merged table whose directions are in its file, while entries may still be added.

    Attributes
    ----------
    writer : TableWriter
    places : dict of str to (2,) float64
        Positions of the directions (RA, Dec), rad.
    like : Solset
        Table without solutions, of one direction, on the grid of the result.
    entries : dict of (str, str) to Entry
        Entries in the file.
    listings : dict of (str, str) to Listing
        The same entries with positions and good fractions.
    """

    writer: TableWriter
    places: Places
    like: Solset
    entries: Entries
    listings: dict[Key, Listing]

    def add(self, one: Solset, entries: Sequence[Entry]) -> None:
        """Add stations to a direction, as the merge of a table with only these would."""
        direction = one.direction[0]
        before = [entry for entry in self.entries.values() if entry.direction == direction]
        result = (
            self.read(direction)
            if before
            else blank(
                self.like, self.like.antenna, self.like.position_m, one.direction, one.direction_rad
            )
        )
        usable = [{e.key for e in known if e.usable} for known in (entries, before)]
        _put({entry.key for entry in entries}, usable[0], one, result, usable[1])
        self.put(result, [*before, *entries])

    def put(self, one: Solset, entries: Iterable[Entry]) -> None:
        """Write a direction with its entries; entries without solutions are left out."""
        one = as_written(one)
        self.writer.put([one])
        known = stamped(one, list(entries), made_here=False)
        self.entries |= {entry.key: entry for entry in known}
        self.listings |= {item.entry.key: item for item in listed(one, known)}

    def read(self, direction: str) -> Solset:
        """Read a direction from the file."""
        return as_written(read_h5parm(self.writer.path, direction=direction))


def begin_merge(
    path: Path, parts: Sequence[Part], entries: Entries, more: Places | None = None
) -> Merging:
    """Write the chosen solutions of several tables into one; later ones replace earlier ones.

    Directions and stations are sorted by name, so the table does not depend on the order of
    merges. The directions are read and written one at a time.

    Parameters
    ----------
    path : Path
        File to write.
    parts, entries
        Results of `plan_merge`.
    more : mapping of str to (2,) float64, optional
        Further directions, which have no solutions yet.
    """
    grids = [part.grid for part in parts]
    time_s, frequency_hz = union_grid(grids)
    polarization = max((grid.polarization for grid in grids), key=len)
    places: Places = {}
    positions: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        for name, place in part.places.items():
            places.setdefault(name, place)
        for name, position in zip(part.grid.antenna, part.grid.position_m, strict=True):
            positions.setdefault(name, position)
    places = dict(sorted(((more or {}) | places).items()))
    antenna = tuple(sorted(positions))
    with_tec = next((grid for grid in grids if grid.tec_tecu is not None), grids[-1])

    def fitted(solset: Solset) -> Solset:
        return regrid(solset, time_s, frequency_hz).with_polarization(polarization)

    like = blank(
        fitted(with_tec), antenna, np.array([positions[name] for name in antenna]),
        (next(iter(places)),), next(iter(places.values()))[np.newaxis],
    )  # fmt: skip
    merging = Merging(TableWriter(path, as_written(like), places), places, like, {}, {})
    by_direction: dict[str, list[Entry]] = {}
    for (direction, _), entry in entries.items():
        by_direction.setdefault(direction, []).append(entry)
    for direction, place in places.items():
        result = blank(like, antenna, like.position_m, (direction,), np.asarray(place)[np.newaxis])
        usable: set[Key] = set()
        for part in parts:
            if direction in part.places:
                _put(part.keys, part.usable, fitted(part.read(direction)), result, usable)
            usable = (usable - part.keys) | (part.usable & part.keys)
        if direction in by_direction:
            merging.put(result, by_direction[direction])
    return merging


def finish_merge(merging: Merging, dropped: Iterable[str]) -> None:
    """Add the provenance; rewrite the table without the directions ``dropped``, if any."""
    rows = as_rows([merging.entries[key] for key in sorted(merging.entries)])
    gone = set(dropped)
    if gone:
        kept = {name: place for name, place in merging.places.items() if name not in gone}
        path = merging.writer.path
        smaller = TableWriter(
            path.with_name(f"{path.name}.kept.tmp"), as_written(merging.like), kept
        )
        smaller.put(merging.read(name) for name in kept)
        smaller.finish({DATASET: rows})
        smaller.path.replace(path)
    else:
        merging.writer.finish({DATASET: rows})


def _put(
    keys: set[Key], part_usable: set[Key], one: Solset, result: Solset, usable: set[Key]
) -> None:
    """Copy the chosen solutions, ``keys``, of one direction of a table into the merged ones.

    Where stations of an earlier table stay beside them, the phases are brought to the same
    reference: a station that is coherent in both, ``usable`` in the merged one.
    """
    direction = result.direction[0]
    names = [name for name in one.antenna if (direction, name) in keys]
    stay = {
        name
        for name, fraction in zip(result.antenna, result.good_fraction[:, 0], strict=True)
        if fraction and name not in names
    }
    if stay and names:
        trusted = [
            [station for there, station in known if there == direction]
            for known in (part_usable, usable)
        ]
        station = common_station([one, result], trusted)
        if station is None:
            log.warning(
                "%s: no station is coherent in all tables, so phases keep their references",
                direction,
            )
        else:
            one = phase_aligned(one, result, station)
    here = [one.antenna.index(name) for name in names]
    there = [result.antenna.index(name) for name in names]
    copy_stations(one, here, 0, result, there, 0)


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

    A station that both have gets the second's provenance, refined from the first's source; a
    station that only one has keeps its own.

    Parameters
    ----------
    first, second, out : Path
        Initial and incremental h5parm, and the product to write.
    frequency_hz : (nfreq,) float64, optional
        Frequencies of the product instead of the union.
    soltabs : sequence of str, optional
        Soltabs to use, as in `libs.h5parm.reader.read_h5parm`.

    Returns
    -------
    tuple of str
        Remarks for the user, as in `libs.h5parm.combine.Combined`.

    Raises
    ------
    InputError
        The errors are those of `read_h5parm`, `combine` and `write_h5parm`.
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
    """Return the name of the direction that is in the product at ``place``."""
    same = match_direction(table, place)
    if same is None:
        return table.direction[0] if len(table.direction) == 1 else ""
    return table.direction[same]
