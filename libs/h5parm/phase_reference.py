"""Phases of several tables referred to one reference station.

Phases of a solve are relative to its reference antenna, so only differences between stations have
a meaning. Stations from solves with different references would otherwise differ by the phase
between these, which changes with time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import wrap_rad
from libs.h5parm.solset import Solset, neutral_amplitude

__all__ = ["common_station", "phase_aligned", "referred"]

Array = NDArray[np.float64]


def common_station(
    tables: Sequence[Solset], trusted: Sequence[Collection[str]] | None = None
) -> str | None:
    """Return the station best suited as reference of several tables of one direction each.

    It is the station whose fewest solutions in any table are the most; of equals the one whose
    phases are nearest to zero (the present reference), then the first by name. None when no
    station has solutions in all of them.

    Parameters
    ----------
    tables : sequence of Solset
    trusted : sequence of collections of str, optional
        Stations of each table that may be the reference. Phases of an incoherent station are
        noise, or zero as if it were the reference.
    """
    known = trusted or [table.antenna for table in tables]
    shared = sorted(set.intersection(*(set(names) for names in known)))

    def merit(station: str) -> tuple[float, float]:
        places = [(table, table.antenna.index(station)) for table in tables]
        fraction = min(float(table.good_fraction[i].mean()) for table, i in places)
        phase = sum(float(np.abs(table.total_phase_rad[:, :, i]).mean()) for table, i in places)
        return fraction, -phase

    merits = {station: merit(station) for station in shared}
    chosen = max(shared, key=lambda station: merits[station], default=None)
    return chosen if chosen is not None and merits[chosen][0] > 0 else None


def referred(solset: Solset, station: str) -> Solset:
    """Return the table with the phases of ``station`` zero in every direction.

    The phase of each feed is referred to that of the same feed, Jones matrices to the phase of
    XX. Solutions at times and frequencies where ``station`` has none are removed.
    """
    i = solset.antenna.index(station)
    tec = None if solset.tec_tecu is None else -solset.tec_tecu[:, i : i + 1]
    return _turned(solset, -solset.phase_rad[:, :, i : i + 1], solset.valid[:, :, i : i + 1], tec)


def phase_aligned(solset: Solset, to: Solset, station: str) -> Solset:
    """Return the table with the phases of ``station`` as they are in ``to``.

    Both have the same grid, directions and polarizations. Solutions are removed where ``station``
    has none in either table.
    """
    i, k = solset.antenna.index(station), to.antenna.index(station)
    turn = to.phase_rad[:, :, k : k + 1] - solset.phase_rad[:, :, i : i + 1]
    known = solset.valid[:, :, i : i + 1] & to.valid[:, :, k : k + 1]
    tec = None
    if solset.tec_tecu is not None or to.tec_tecu is not None:
        tec = _tec(to)[:, k : k + 1] - _tec(solset)[:, i : i + 1]
    return _turned(solset, turn, known, tec)


def _turned(
    solset: Solset, turn_rad: Array, known: NDArray[np.bool_], tec_tecu: Array | None
) -> Solset:
    """Add a phase (ntime, nfreq, 1, ndir, npol), and a TEC, to all stations."""
    if solset.full_jones:
        turn_rad, known = turn_rad[..., :1], known[..., :1]
    kept = solset.valid & known
    tec = None if tec_tecu is None else _tec(solset) + tec_tecu
    return replace(
        solset,
        phase_rad=np.where(kept, wrap_rad(solset.phase_rad + turn_rad), 0.0),
        amplitude=np.where(kept, solset.amplitude, neutral_amplitude(solset.shape)),
        weight=np.where(kept, solset.weight, 0.0),
        tec_tecu=None if tec is None else np.where(kept.any(axis=(1, 4)), tec, 0.0),
    )


def _tec(solset: Solset) -> Array:
    """Return TECs (ntime, nant, ndir), 0 where the table has none."""
    if solset.tec_tecu is not None:
        return solset.tec_tecu
    return np.zeros((solset.shape[0], *solset.shape[2:4]))
