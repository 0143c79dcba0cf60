"""Interpolation of gains to another grid of times and frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import wrap_rad
from libs.h5parm.solset import FREQUENCY_TOLERANCE_HZ, TIME_TOLERANCE_S, Solset, neutral_amplitude

__all__ = ["regrid", "union_axis", "union_grid"]

Array = NDArray[np.float64]
_TINY = 1e-30


def union_axis(axes: Sequence[Array], tolerance: float) -> Array:
    """Return the union of several increasing axes; values closer than ``tolerance`` are merged.

    An axis of one value belongs to a solution that is constant along it. It adds nothing to a
    longer axis and is left out.
    """
    several = [axis for axis in axes if len(axis) > 1]
    values = np.sort(np.concatenate(several or list(axes)))
    kept = [values[0]]
    for value in values[1:]:
        if value - kept[-1] > tolerance:
            kept.append(value)
    return np.array(kept)


def union_grid(solsets: Sequence[Solset]) -> tuple[Array, Array]:
    """Return the union of the times (s) and of the frequencies (Hz) of several tables."""
    return (
        union_axis([s.time_s for s in solsets], TIME_TOLERANCE_S),
        union_axis([s.frequency_hz for s in solsets], FREQUENCY_TOLERANCE_HZ),
    )


def regrid(solset: Solset, time_s: Array, frequency_hz: Array) -> Solset:
    """Interpolate solutions to other times and frequencies.

    Between two valid neighbours phases turn the short way round (linear in the unwrapped phase,
    never an average across a wrap), and the logarithm of the amplitude is linear. So the
    interpolation of a product is the product of the interpolated gains, and an inverse stays one.
    Where only one neighbour is valid, its value holds up to half way; beyond the first and last
    sample the edge value holds. A time nearest to a missing solution has none.

    Off-diagonal elements of Jones matrices, which may pass through zero, are interpolated linearly
    as complex numbers relative to the phase of the diagonal element of their row.

    Parameters
    ----------
    time_s, frequency_hz : (n,) float64
        New times (MJD s) and frequencies (Hz), increasing.

    Returns
    -------
    Solset
        Solutions on the new grid; TEC stays TEC.
    """
    if not _same(solset.time_s, time_s, TIME_TOLERANCE_S):
        solset = _along(solset, 0, solset.time_s, time_s, TIME_TOLERANCE_S)
    else:
        solset = replace(solset, time_s=np.asarray(time_s, dtype=float))
    if not _same(solset.frequency_hz, frequency_hz, FREQUENCY_TOLERANCE_HZ):
        return _along(solset, 1, solset.frequency_hz, frequency_hz, FREQUENCY_TOLERANCE_HZ)
    return replace(solset, frequency_hz=np.asarray(frequency_hz, dtype=float))


def _same(old: Array, new: Array, tolerance: float) -> bool:
    return len(old) == len(new) and bool((np.abs(old - new) <= tolerance).all())


def _along(solset: Solset, axis: int, old: Array, new: Array, tolerance: float) -> Solset:
    """Interpolate along time (axis 0) or frequency (axis 1)."""
    left, right, fraction = _bracket(old, np.asarray(new, dtype=float), tolerance)
    shape = [1] * 5
    shape[axis] = len(new)
    between = _effective(solset.valid, axis, left, right, fraction.reshape(shape))
    phase = [np.take(solset.phase_rad, i, axis) for i in (left, right)]
    amplitude = [np.take(solset.amplitude, i, axis) for i in (left, right)]
    weight = [np.take(solset.weight, i, axis) for i in (left, right)]
    new_phase = phase[0] + between * wrap_rad(phase[1] - phase[0])
    logs = [np.log(np.maximum(a, _TINY)) for a in amplitude]
    new_amplitude = np.exp(_linear(logs, between))
    if solset.full_jones:
        _off_diagonal(phase, amplitude, between, new_phase, new_amplitude)
    new_weight = _linear(weight, between)
    missing = new_weight == 0
    new_phase[missing] = 0.0
    new_amplitude[missing] = neutral_amplitude(missing.shape)[missing]
    tec = solset.tec_tecu
    if tec is not None and axis == 0:
        known = np.asarray(solset.valid.any(axis=(1, 4)))
        part = _effective(known, 0, left, right, fraction.reshape(-1, 1, 1))
        tec = _linear([np.take(tec, left, 0), np.take(tec, right, 0)], part)
    values = np.asarray(new, dtype=float)
    return replace(
        solset,
        time_s=values if axis == 0 else solset.time_s,
        frequency_hz=values if axis == 1 else solset.frequency_hz,
        phase_rad=new_phase,
        amplitude=new_amplitude,
        weight=new_weight,
        tec_tecu=tec,
    )


def _bracket(
    old: Array, new: Array, tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return the neighbours of each new value and its position between them, 0 to 1."""
    right = np.clip(np.searchsorted(old, new), 0, len(old) - 1)
    left = np.where(new < old[right], np.maximum(right - 1, 0), right)
    # Past the end the last sample is both neighbours; before the start the first one is.
    span = old[right] - old[left]
    fraction = np.where(span > 0, (new - old[left]) / np.where(span > 0, span, 1.0), 0.0)
    fraction = np.clip(fraction, 0.0, 1.0)
    fraction[np.abs(new - old[left]) <= tolerance] = 0.0
    fraction[(np.abs(old[right] - new) <= tolerance) & (span > 0)] = 1.0
    return left, right, fraction


def _effective(
    valid: NDArray[np.bool_],
    axis: int,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    fraction: Array,
) -> Array:
    """Return the position between neighbours; 0 or 1 (the nearer) unless both are valid."""
    both = np.take(valid, left, axis) & np.take(valid, right, axis)
    return np.where(both, fraction, (fraction >= 0.5).astype(float))


def _linear(pair: list[Array], between: Array) -> Array:
    # Weights may be infinite (exact gains), and 0 * inf is NaN.
    first = np.where(between < 1, pair[0] * np.where(between < 1, 1 - between, 1), 0.0)
    second = np.where(between > 0, pair[1] * np.where(between > 0, between, 1), 0.0)
    return np.asarray(first + second)


def _off_diagonal(
    phase: list[Array], amplitude: list[Array], between: Array, new_phase: Array, new_amp: Array
) -> None:
    """Interpolate XY and YX relative to the phase of XX and YY, in place."""
    for element, row in ((1, 0), (2, 3)):
        relative = [
            a[..., element] * np.exp(1j * (p[..., element] - p[..., row]))
            for a, p in zip(amplitude, phase, strict=True)
        ]
        part = between[..., element]
        value = (1 - part) * relative[0] + part * relative[1]
        new_phase[..., element] = np.angle(value) + new_phase[..., row]
        new_amp[..., element] = np.abs(value)
