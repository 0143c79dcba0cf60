"""The product of two gain tables that apply one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import separation_rad, wrap_rad
from libs.core.errors import InputError
from libs.h5parm.regrid import regrid, union_grid
from libs.h5parm.solset import Solset, blank

__all__ = [
    "BOTH",
    "DIRECTION_TOLERANCE_ARCSEC",
    "FIRST",
    "NEITHER",
    "SECOND",
    "Combined",
    "combine",
    "inverse",
    "match_direction",
    "nearest_within",
    "on_axes",
    "tec_to_phase",
]

DIRECTION_TOLERANCE_ARCSEC = 1.0
"""Directions closer than this count as one direction."""

NEITHER, FIRST, SECOND, BOTH = 0, 1, 2, 3


@dataclass(frozen=True)
class Combined:
    """The product of two tables and the origin of each of its solutions.

    Attributes
    ----------
    solset : Solset
        Product of the tables.
    origin : (ntime, nfreq, nant, ndir, npol) uint8
        Origin, `BOTH`; `FIRST` or `SECOND` where only that table has a solution; `NEITHER`.
    notes : tuple of str
        Remarks for the user: a direction-independent table that was applied to all directions,
        antennas that only one table has.
    """

    solset: Solset
    origin: NDArray[np.uint8]
    notes: tuple[str, ...]


def combine(a: Solset, b: Solset, frequency_hz: NDArray[np.float64] | None = None) -> Combined:
    """Multiply two tables of which ``b`` was solved on data corrected with ``a``.

    V_observed = (g_a g_b)_p conj((g_a g_b)_q) V_true; for Jones matrices the product is
    J_a J_b, so order matters there. The result is on the union of times, frequencies, antennas and
    directions; `libs.h5parm.regrid.regrid` describes the interpolation. A solution that only one
    table has is kept as it is. Variances of the phases add:
    1/weight = 1/weight_a + 1/weight_b. TECs add and stay TECs: the phase of the product is its
    ``total_phase_rad``.

    Parameters
    ----------
    a, b : Solset
        Tables, whose directions are matched by position. A table of one direction that matches
        none of the other's applies to all of them; one against one takes the direction of ``b``.
    frequency_hz : (nfreq,) float64, optional
        Frequencies of the result instead of the union.

    Raises
    ------
    InputError
        Both tables have several directions and none in common.
    """
    a, b, notes = _align_directions(a, b)
    time_s, union_hz = union_grid([a, b])
    frequency_hz = union_hz if frequency_hz is None else np.asarray(frequency_hz, dtype=float)
    antenna = a.antenna + tuple(name for name in b.antenna if name not in a.antenna)
    polarization = max(a.polarization, b.polarization, key=len)
    for one, other, which in ((a, b, "second"), (b, a, "first")):
        only = [name for name in other.antenna if name not in one.antenna]
        if only:
            notes.append(f"only the {which} table has {', '.join(only)}, so its solutions are kept")
    parts = []
    for part in (a, b):
        part = regrid(part, time_s, frequency_hz)
        parts.append(on_axes(part.with_polarization(polarization), antenna, _position(a, b)))
    return _product(parts[0], parts[1], notes)


def inverse(solset: Solset) -> Solset:
    """Return the table that undoes ``solset``; missing solutions stay missing."""
    tec = None if solset.tec_tecu is None else -solset.tec_tecu
    if not solset.full_jones:
        return replace(
            solset, phase_rad=-solset.phase_rad, amplitude=1 / solset.amplitude, tec_tecu=tec
        )
    jones = solset.amplitude * np.exp(1j * solset.phase_rad)
    matrix = np.linalg.inv(jones.reshape(*jones.shape[:-1], 2, 2)).reshape(jones.shape)
    phase_rad = np.asarray(np.angle(matrix), dtype=np.float64)
    return replace(solset, phase_rad=phase_rad, amplitude=np.abs(matrix), tec_tecu=tec)


def tec_to_phase(solset: Solset) -> Solset:
    """Return the table with its TEC converted to phase at its frequencies."""
    if solset.tec_tecu is None:
        return solset
    phase = np.where(solset.valid, solset.total_phase_rad, 0.0)
    return replace(solset, phase_rad=phase, tec_tecu=None)


def match_direction(solset: Solset, direction_rad: NDArray[np.float64]) -> int | None:
    """Return the index of the direction at this position (within the tolerance), or None."""
    return nearest_within(solset.direction_rad, direction_rad)


def nearest_within(
    places_rad: NDArray[np.float64], direction_rad: NDArray[np.float64]
) -> int | None:
    """Return the index of the nearest of several (RA, Dec) within the tolerance, or None."""
    apart = separation_rad(places_rad, direction_rad)
    nearest = int(np.argmin(apart))
    return nearest if np.rad2deg(apart[nearest]) * 3600 <= DIRECTION_TOLERANCE_ARCSEC else None


def on_axes(solset: Solset, antenna: tuple[str, ...], position_m: NDArray[np.float64]) -> Solset:
    """Return the table on another antenna axis; antennas it lacks have no solutions."""
    if antenna == solset.antenna:
        return solset
    old = [i for i, name in enumerate(solset.antenna) if name in antenna]
    new = [antenna.index(solset.antenna[i]) for i in old]
    result = blank(solset, antenna, position_m, solset.direction, solset.direction_rad)
    for name in ("phase_rad", "amplitude", "weight"):
        getattr(result, name)[:, :, new] = getattr(solset, name)[:, :, old]
    if result.tec_tecu is not None and solset.tec_tecu is not None:
        result.tec_tecu[:, new] = solset.tec_tecu[:, old]
    return result


def _position(a: Solset, b: Solset) -> NDArray[np.float64]:
    new = [i for i, name in enumerate(b.antenna) if name not in a.antenna]
    return np.concatenate([a.position_m, b.position_m[new]])


def _align_directions(a: Solset, b: Solset) -> tuple[Solset, Solset, list[str]]:
    """Put both tables on the union of their directions."""
    if len(a.direction) == len(b.direction) == 1:
        return replace(a, direction=b.direction, direction_rad=b.direction_rad), b, []
    match = [match_direction(a, position) for position in b.direction_rad]
    if all(i is None for i in match):
        if len(b.direction) == 1:
            note = f"{b.direction[0]} of the second table applied to all {len(a.direction)}"
            return a, _spread(b, a), [f"{note} directions of the first"]
        if len(a.direction) == 1:
            note = f"{a.direction[0]} of the first table applied to all {len(b.direction)}"
            return _spread(a, b), b, [f"{note} directions of the second"]
        raise InputError(
            "the tables have several directions each and none in common",
            "merge them instead, or make one of them again for the directions of the other",
        )
    extra = [j for j, i in enumerate(match) if i is None]
    names = list(a.direction)
    for j in extra:
        names.append(_free_name(b.direction[j], names))
    positions = np.concatenate([a.direction_rad, b.direction_rad[extra]])
    of_b: list[int | None] = [None] * len(names)
    for j, i in enumerate(match):
        of_b[len(a.direction) + extra.index(j) if i is None else i] = j
    of_a: list[int | None] = [*range(len(a.direction)), *[None] * len(extra)]
    target = (tuple(names), positions)
    return _place(a, of_a, *target), _place(b, of_b, *target), []


def _free_name(name: str, taken: list[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _spread(one: Solset, other: Solset) -> Solset:
    """Repeat the only direction of ``one`` at every direction of ``other``."""
    return _place(one, [0] * len(other.direction), other.direction, other.direction_rad)


def _place(
    solset: Solset,
    source: Sequence[int | None],
    names: tuple[str, ...],
    position: NDArray[np.float64],
) -> Solset:
    """Put direction ``source[i]`` (None: no solutions) in place i."""
    new = [k for k, i in enumerate(source) if i is not None]
    old = [i for i in source if i is not None]
    result = blank(solset, solset.antenna, solset.position_m, names, position)
    for name in ("phase_rad", "amplitude", "weight"):
        getattr(result, name)[:, :, :, new] = getattr(solset, name)[:, :, :, old]
    if result.tec_tecu is not None and solset.tec_tecu is not None:
        result.tec_tecu[:, :, new] = solset.tec_tecu[:, :, old]
    return result


def _product(a: Solset, b: Solset, notes: list[str]) -> Combined:
    """Multiply tables on the same axes."""
    origin = (a.valid * FIRST + b.valid * SECOND).astype(np.uint8)
    with np.errstate(divide="ignore"):
        variance = np.where(a.valid, 1 / a.weight, 0) + np.where(b.valid, 1 / b.weight, 0)
        weight = np.where(origin == NEITHER, 0.0, 1 / variance)
    if a.full_jones:
        phase, amplitude = _jones_product(a, b)
    else:
        # Missing solutions have phase 0 and amplitude 1, which leaves the other table's gain.
        phase, amplitude = wrap_rad(a.phase_rad + b.phase_rad), a.amplitude * b.amplitude
    tec = None
    if a.tec_tecu is not None or b.tec_tecu is not None:
        tec = sum(s.tec_tecu for s in (a, b) if s.tec_tecu is not None)
    solset = replace(
        a,
        phase_rad=phase,
        amplitude=amplitude,
        weight=weight,
        tec_tecu=None if tec is None else np.asarray(tec),
    )
    return Combined(solset, origin, tuple(notes))


def _jones_product(a: Solset, b: Solset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = (
        (s.amplitude * np.exp(1j * s.phase_rad)).reshape(*s.shape[:-1], 2, 2) for s in (a, b)
    )
    product = (first @ second).reshape(a.shape)
    return np.angle(product), np.abs(product)
