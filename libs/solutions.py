"""Antenna gains in memory: the one form that solver, gain tables, h5parm and figures share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GainSolutions"]


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
