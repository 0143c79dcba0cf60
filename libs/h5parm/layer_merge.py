"""The global table after a layer of a field: new directions are merged and their gaps filled.

The table is written once, direction by direction, beside its place, and then renamed. A process
that dies meanwhile leaves the previous table, from which the work can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.files import replacing
from libs.h5parm.combine import nearest_within
from libs.h5parm.global_table import Merging, begin_merge, finish_merge, plan_merge
from libs.h5parm.listing import Listing, keep_listing
from libs.h5parm.nearest import Table, best
from libs.h5parm.start import StartLimits

__all__ = ["LayerTable", "merge_layer"]

Places = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class LayerTable:
    """Contents of the table after a layer.

    Attributes
    ----------
    listings : tuple of Listing
        Entries of every (direction, station) that has solutions.
    filled : int
        Number of those that were taken from other directions.
    """

    listings: tuple[Listing, ...]
    filled: int


def merge_layer(
    target: Path,
    before: Path | None,
    sources: Sequence[Path],
    wanted: Places,
    limits: StartLimits,
) -> LayerTable:
    """Write the global table after a layer.

    Parameters
    ----------
    target : Path
        Table to write; it is replaced as a whole.
    before : Path or None
        Table before the layer; None: there is none.
    sources : sequence of Path
        Files (h5parm) of the layer's directions.
    wanted : mapping of str to (2,) float64
        Directions and their positions (rad) that get the best solutions of other directions for
        the stations they lack; each may use what earlier ones were given.
    limits : StartLimits
        Limits for good solutions.

    Raises
    ------
    InputError
        A file is not an h5parm, or there are no solutions.
    """
    parts, entries, _ = plan_merge(before, sources)
    if not parts:
        raise InputError("there are no solutions to merge", "see the logs of the sources' runs")
    known = {name: place for part in parts for name, place in part.places.items()}
    names = {name: _known_as(known, name, place) for name, place in wanted.items()}
    more = {names[name]: place for name, place in wanted.items() if names[name] not in known}
    with replacing(target) as part:
        merging = begin_merge(part, parts, entries, more)
        filled = sum(
            _fill(merging, names[name], place, limits, target) for name, place in wanted.items()
        )
        have = {direction for direction, _ in merging.entries}
        finish_merge(merging, set(more) - have)
    listings = tuple(merging.listings[key] for key in sorted(merging.listings))
    keep_listing(target, listings)
    return LayerTable(listings, filled)


def _known_as(known: Places, name: str, place: NDArray[np.float64]) -> str:
    """Return a table's name for a position."""
    same = nearest_within(np.array(list(known.values())), place)
    return name if same is None else list(known)[same]


def _fill(
    merging: Merging, name: str, place: NDArray[np.float64], limits: StartLimits, target: Path
) -> int:
    """Give a direction the best solutions of others for stations it lacks; return their number."""
    have = {station for direction, station in merging.entries if direction == name}
    if have >= {station for _, station in merging.entries}:
        return 0
    table = Table(merging.like.antenna, list(merging.listings.values()), merging.read)
    try:
        found = best(
            target, float(place[0]), float(place[1]), name=name, table=table,
            min_good_fraction=limits.min_good_fraction, min_coherence=limits.min_coherence,
            max_separation_deg=limits.max_separation_deg,
        )  # fmt: skip
    except InputError:
        return 0  # there are no good solutions: the direction stays without
    lacking = [entry for entry in found.entries if entry.station not in have]
    own = [i for i, station in enumerate(found.solset.antenna) if station in have]
    found.solset.weight[:, :, own] = 0.0
    if lacking:
        merging.add(found.solset, lacking)
    return len(lacking)
