"""Solutions of a combined station, given to its member stations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.h5parm.combine import combine
from libs.h5parm.global_table import write_with_entries
from libs.h5parm.provenance import entries_of
from libs.h5parm.reader import read_h5parm
from libs.h5parm.solset import Solset

__all__ = ["spread_station", "write_spread"]


def spread_station(
    solset: Solset, station: str, members: Sequence[str], position_m: NDArray[np.float64]
) -> Solset:
    """Return a table in which a combined station's gains are given to its members.

    Visibilities were added after correcting each member with the table's solutions for it, so a
    member's gain is its own, if it has one, times that of the combined station.

    Parameters
    ----------
    solset : Solset
    station : str
        Name of the combined station, which the result does not have.
    members : sequence of str
    position_m : (nmember, 3) float64
        Positions of the members, ITRF, m.

    Raises
    ------
    InputError
        The table has no such station.
    """
    if station not in solset.antenna:
        raise InputError(f"no solutions of {station}", f"there are {', '.join(solset.antenna)}")
    number = solset.antenna.index(station)
    own = _antennas(solset, [number] * len(members), tuple(members), position_m)
    kept = [i for i, name in enumerate(solset.antenna) if name != station]
    if not kept:
        return own
    names = tuple(solset.antenna[i] for i in kept)
    return combine(_antennas(solset, kept, names, solset.position_m[kept]), own).solset


def _antennas(
    solset: Solset, index: Sequence[int], names: tuple[str, ...], position_m: NDArray[np.float64]
) -> Solset:
    """Return the solutions of some antennas (some perhaps several times) under new names."""
    keep = list(index)
    return replace(
        solset,
        antenna=names,
        position_m=np.asarray(position_m, dtype=float),
        phase_rad=solset.phase_rad[:, :, keep],
        amplitude=solset.amplitude[:, :, keep],
        weight=solset.weight[:, :, keep],
        tec_tecu=None if solset.tec_tecu is None else solset.tec_tecu[:, keep],
    )


def write_spread(
    source: Path,
    target: Path,
    station: str,
    members: Sequence[str],
    position_m: NDArray[np.float64],
) -> None:
    """Write an h5parm from `spread_station`; each member gets the combined station's provenance."""
    solset = read_h5parm(source)
    entries = entries_of(source, solset)
    made = []
    for (direction, name), entry in entries.items():
        if name == station:
            for member in members:
                base = entries.get((direction, member))
                before = base.source if base else entry.refined_from
                made.append(replace(entry, station=member, refined_from=before))
        elif name not in members or (direction, station) not in entries:
            made.append(entry)
    write_with_entries(target, spread_station(solset, station, members, position_m), made)
