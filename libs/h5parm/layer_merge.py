"""The global table after a layer of a field: its new directions merged, what they lack filled in.

The table is written once, direction by direction, beside its place, and takes it whole. A process
that dies meanwhile leaves the table before, from which all of it can be done again.
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
    """Content of the table after a layer.

    Attributes
    ----------
    listings : tuple of Listing
        Every (direction, station) that has solutions.
    filled : int
        Number of those that came from other directions.
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
        Replaced as a whole.
    before : Path or None
        The table before the layer.
    sources : sequence of Path
        h5parms of the layer's directions.
    wanted : mapping of str to (2,) float64
        Directions, and where they are (rad), that get the best solutions of other directions for
        the stations they lack; each may take what those before it were given.
    limits : StartLimits
        What counts as good for that.

    Raises
    ------
    InputError
        A file that is no h5parm, or no solutions at all.
    """
    parts, entries, _ = plan_merge(before, sources)
    if not parts:
        raise InputError("there are no solutions to merge", "see why the sources have none")
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
    """The name a table has for a place."""
    same = nearest_within(np.array(list(known.values())), place)
    return name if same is None else list(known)[same]


def _fill(
    merging: Merging, name: str, place: NDArray[np.float64], limits: StartLimits, target: Path
) -> int:
    """Give a direction the best solutions of others for stations it lacks; return how many."""
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
        return 0  # nothing good anywhere: the direction stays without
    lacking = [entry for entry in found.entries if entry.station not in have]
    own = [i for i, station in enumerate(found.solset.antenna) if station in have]
    found.solset.weight[:, :, own] = 0.0
    if lacking:
        merging.add(found.solset, lacking)
    return len(lacking)
