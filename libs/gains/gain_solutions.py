"""Antenna gains in memory: the one form that solver, gain tables, h5parm and figures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["GainSolutions", "concatenate"]


@dataclass(frozen=True)
class GainSolutions:
    """Antenna-based complex gains on a (time, frequency, antenna, polarization) grid.

    The gain corrupts: V_observed = g_p conj(g_q) V_true, so applying it divides.

    Attributes
    ----------
    time_s : (ntime,) float64
        Centres of the solution intervals, MJD seconds as in the TIME column.
    interval_s : (ntime,) float64
        Lengths of the solution intervals, seconds.
    frequency_hz : (nfreq,) float64
        Centre of each frequency block, Hz.
    spw : (nfreq,) int64
        Spectral window each frequency block belongs to (its id in the MS).
    antenna : tuple of str, length nant
        Antenna names in the order of the ANTENNA subtable.
    position_m : (nant, 3) float64
        ITRF positions, m.
    polarization : tuple of str, length npol
        Feed of each gain, e.g. ``("R", "L")``, ``("X", "Y")`` or ``("I",)`` for a gain
        common to both (gaintype T).
    gain : (ntime, nfreq, nant, npol) complex128
        1+0j where flagged.
    flag : (ntime, nfreq, nant, npol) bool
        True where there is no valid solution.
    snr : (ntime, nfreq, nant, npol) float64
        Signal-to-noise ratio of each solution; 0 where flagged.
    """

    time_s: NDArray[np.float64]
    interval_s: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    spw: NDArray[np.int64]
    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
    polarization: tuple[str, ...]
    gain: NDArray[np.complex128]
    flag: NDArray[np.bool_]
    snr: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = (
            len(self.time_s),
            len(self.frequency_hz),
            len(self.antenna),
            len(self.polarization),
        )
        for name in ("gain", "flag", "snr"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, axes say {shape}")
        if self.interval_s.shape != self.time_s.shape:
            raise ValueError("interval_s and time_s differ in length")
        if self.spw.shape != self.frequency_hz.shape:
            raise ValueError("spw and frequency_hz differ in length")
        if self.position_m.shape != (len(self.antenna), 3):
            raise ValueError("position_m must be (nant, 3)")

    @property
    def shape(self) -> tuple[int, ...]:
        """(ntime, nfreq, nant, npol)."""
        return self.gain.shape

    @property
    def flagged_fraction(self) -> float:
        """Fraction of all solutions that are flagged, 0 to 1; 1 for an empty table."""
        return float(self.flag.mean()) if self.flag.size else 1.0


def concatenate(parts: Sequence[GainSolutions]) -> GainSolutions:
    """Join the solutions of several executions of one target along time.

    Antennas are the union by name, frequencies and polarizations the union of all; what an
    execution does not have is flagged.

    Parameters
    ----------
    parts : sequence of GainSolutions
        At least one; their times may interleave.

    Raises
    ------
    ValueError
        There are none, or they are of different feeds.
    """
    if not parts:
        raise ValueError("no solutions to join")
    if len(parts) == 1:
        return parts[0]
    positions = {
        name: place for part in parts
        for name, place in zip(part.antenna, part.position_m, strict=True)
    }  # fmt: skip
    blocks = sorted({
        (float(hz), int(spw)) for part in parts
        for hz, spw in zip(part.frequency_hz, part.spw, strict=True)
    })  # fmt: skip
    antenna = tuple(positions)
    polarization = max((part.polarization for part in parts), key=len)
    # a gain common to both polarizations is one for each
    parts = [_for_each(part, polarization) for part in parts]
    if any(part.polarization != polarization for part in parts):
        raise ValueError("the solutions differ in polarization")
    shape = (sum(len(part.time_s) for part in parts), len(blocks), len(antenna), len(polarization))
    gain, flag, snr = np.ones(shape, complex), np.ones(shape, bool), np.zeros(shape)
    start = 0
    for part in parts:
        rows = np.arange(start, start + len(part.time_s))
        columns = [
            blocks.index((float(hz), int(spw)))
            for hz, spw in zip(part.frequency_hz, part.spw, strict=True)
        ]
        places = [antenna.index(name) for name in part.antenna]
        where = np.ix_(rows, np.array(columns), np.array(places))
        gain[where], flag[where], snr[where] = part.gain, part.flag, part.snr
        start += len(part.time_s)
    time_s = np.concatenate([part.time_s for part in parts])
    order = np.argsort(time_s, kind="stable")
    return GainSolutions(
        time_s=time_s[order],
        interval_s=np.concatenate([part.interval_s for part in parts])[order],
        frequency_hz=np.array([hz for hz, _ in blocks]),
        spw=np.array([spw for _, spw in blocks], dtype=np.int64),
        antenna=antenna,
        position_m=np.array([positions[name] for name in antenna]),
        polarization=polarization,
        gain=gain[order],
        flag=flag[order],
        snr=snr[order],
    )


def _for_each(part: GainSolutions, polarization: tuple[str, ...]) -> GainSolutions:
    """Repeat gains common to both polarizations for each of them."""
    if part.polarization != ("I",) or len(polarization) == 1:
        return part
    repeats = len(polarization)
    return replace(
        part,
        polarization=polarization,
        gain=np.repeat(part.gain, repeats, axis=3),
        flag=np.repeat(part.flag, repeats, axis=3),
        snr=np.repeat(part.snr, repeats, axis=3),
    )
