"""Contents of a table of many directions, read by direction or kept in a file beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from libs.core.files import replacing
from libs.h5parm.provenance import Entry, entries_of, read_entries
from libs.h5parm.reader import direction_places, read_h5parm
from libs.h5parm.solset import Solset

__all__ = ["Listing", "keep_listing", "list_entries", "listed"]


@dataclass(frozen=True)
class Listing:
    """An entry of the table with its direction's position and its fraction of valid solutions.

    Attributes
    ----------
    entry : Entry
    ra_rad, dec_rad : float
        Position of the direction (J2000), rad.
    good_fraction : float
        Fraction of the solutions that are not flagged, 0 to 1.
    """

    entry: Entry
    ra_rad: float
    dec_rad: float
    good_fraction: float


def list_entries(store: Path) -> list[Listing]:
    """Return every (direction, station) that has solutions, sorted; read by direction.

    A listing that `keep_listing` left beside the table is used while the table is unchanged.
    """
    store = Path(store)
    kept = _kept_listing(store)
    if kept is not None:
        return kept
    known = {entry.key: entry for entry in read_entries(store)}
    listings = []
    for direction in direction_places(store):
        one = read_h5parm(store, direction=direction)
        listings += listed(one, entries_of(store, one, known).values())
    return sorted(listings, key=lambda item: item.entry.key)


def listed(one: Solset, entries: Iterable[Entry]) -> list[Listing]:
    """Return the listings of the stations of one direction."""
    good = dict(zip(one.antenna, one.good_fraction[:, 0].tolist(), strict=True))
    ra, dec = one.direction_rad[0].tolist()
    return [Listing(entry, ra, dec, good[entry.station]) for entry in entries]


def keep_listing(store: Path, listings: Sequence[Listing]) -> None:
    """Write the listing of a table beside it, so that readers need not read the whole table."""
    rows = [asdict(item) for item in sorted(listings, key=lambda item: item.entry.key)]
    with replacing(_listing_beside(store)) as part:
        part.write_text(json.dumps({"table": _stamp(store), "rows": rows}))


def _kept_listing(store: Path) -> list[Listing] | None:
    """Return the listing beside a table; None if it is missing or the table has changed."""
    beside = _listing_beside(store)
    if not beside.exists() or not store.exists():
        return None
    found = json.loads(beside.read_text())
    if found["table"] != _stamp(store):
        return None
    return [Listing(Entry(**row.pop("entry")), **row) for row in found["rows"]]


def _listing_beside(store: Path) -> Path:
    return store.with_name(f".{store.name}.listing.json")


def _stamp(store: Path) -> list[int]:
    state = store.stat()
    return [state.st_size, state.st_mtime_ns]
