"""Delays and phases of windows and polarizations that hold for the whole of an execution.

The electronics and the geometry give each antenna a delay that hardly changes within an hour,
while the atmosphere turns its phase within seconds. Solved for on the atmosphere's intervals, a
delay and a phase of each window and polarization are noise for the most part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.gains.delay import DelayFit, solve_delays
from libs.gains.normal_equations import NormalEquations
from libs.gains.windows_apart import by_bandwidth, donors, median_snr

__all__ = [
    "ConstantDelays",
    "DelaysAndTec",
    "first_delays",
    "fit_delays_and_tec",
    "solve_constant_delays",
]

_LEAST_SNR = 3.0  # of the phase of a block that a TEC is fitted to
_ALMOST_NOTHING = 1e-3
_MOST_LOOKS = 16  # intervals of an execution by which delays are first found

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class ConstantDelays:
    """Delays and phases of windows in each part of an execution.

    Attributes
    ----------
    spw : (nspw,) int64
    reference_hz : (nspw,) float64
        Frequency at which the delays of a window turn no phase.
    delay_ns, phase_rad : (nspan, nspw, nant, npol) float64
    snr : (nspan, nspw, nant, npol) float64
        0 where there is no solution.
    """

    spw: NDArray[np.int64]
    reference_hz: Float
    delay_ns: Float
    phase_rad: Float
    snr: Float

    def gain(self, frequency_hz: Float, spw: NDArray[np.int64]) -> Complex:
        """Return gains of unit amplitude at frequencies of windows, (nspan, nfreq, nant, npol)."""
        mine = np.searchsorted(self.spw, spw)
        away = (frequency_hz - self.reference_hz[mine])[None, :, None, None]
        phase = 2e-9 * np.pi * away * self.delay_ns[:, mine] + self.phase_rad[:, mine]
        return np.asarray(np.exp(1j * phase))

    def snr_of(self, spw: NDArray[np.int64]) -> Float:
        """Return the SNR at blocks of windows, (nspan, nfreq, nant, npol)."""
        return np.asarray(self.snr[:, np.searchsorted(self.spw, spw)])


def first_delays(
    equations: NormalEquations, span: NDArray[np.int64], minblperant: int, mask: NDArray[np.bool_]
) -> ConstantDelays:
    """Find delays, without phases, from some intervals of each part of an execution.

    Parameters
    ----------
    equations : NormalEquations
        Several blocks each window.
    span : (ntime,) int64
        Part of the execution that each interval belongs to.
    minblperant : int
    mask : (nbl,) bool
        Baselines that take part.
    """
    windows = np.unique(equations.spw)
    shape = (int(span.max()) + 1, len(windows), len(equations.antenna), equations.vis.shape[3])
    delay, reference = np.zeros(shape), np.zeros(len(windows))
    for number in range(shape[0]):
        own = np.flatnonzero(span == number)
        some = own[:: max(1, len(own) // _MOST_LOOKS)]
        for place, spw in enumerate(windows):
            mine = np.flatnonzero(equations.spw == spw)
            fit = solve_delays(
                equations.vis[np.ix_(some, mine)], equations.weight[np.ix_(some, mine)],
                equations.antenna1, equations.antenna2, shape[2], equations.frequency_hz[mine],
                minblperant=minblperant, baseline_mask=mask,
            )  # fmt: skip
            delay[number, place] = _mean_delay(fit)
            reference[place] = fit.reference_hz
    return ConstantDelays(windows, reference, delay, np.zeros(shape), np.zeros(shape))


def _mean_delay(fit: DelayFit) -> Float:
    """Return the mean delay of each antenna and polarization, (nant, npol), ns; 0 where unknown."""
    # each interval has a delay of its own in common
    held = np.ma.array(fit.delay_ns, mask=fit.flag)
    common = np.ma.filled(np.ma.median(held, axis=1, keepdims=True), 0.0)
    weight = np.where(fit.flag, 0, 1 / np.maximum(fit.error_ns, 1e-9) ** 2)
    total = weight.sum(axis=0)
    mean = (weight * (fit.delay_ns - common)).sum(axis=0)
    return np.where(total > 0, mean / np.where(total > 0, total, 1), 0.0)


def solve_constant_delays(
    equations: NormalEquations, vis: Complex, weight: Float, minblperant: int,
    mask: NDArray[np.bool_], start: ConstantDelays | None,
) -> ConstantDelays:  # fmt: skip
    """Solve sums over parts of an execution for delays and phases of windows.

    A window too weak for delays of its own takes those of the nearest good one.

    Parameters
    ----------
    equations : NormalEquations
        Those that were summed: antennas, blocks and, for windows observed in turn, where data are.
    vis, weight : (nspan, nblock, nbl, npol)
        Sums, with phases that change divided out.
    minblperant : int
    mask : (nbl,) bool
        Baselines that take part.
    start : ConstantDelays, optional
        Solution to refine; default a search over all delays.
    """
    windows = np.unique(equations.spw)
    fits = []
    for place, spw in enumerate(windows):
        mine = equations.spw == spw
        fits.append(
            solve_delays(
                vis[:, mine], weight[:, mine], equations.antenna1, equations.antenna2,
                len(equations.antenna), equations.frequency_hz[mine], minblperant=minblperant,
                minsnr=0.0, baseline_mask=mask,
                start=None if start is None else _of_window(start, place),
            )
        )  # fmt: skip
    found = ConstantDelays(
        windows, np.array([fit.reference_hz for fit in fits]),
        *(np.stack([getattr(fit, name) for fit in fits], axis=1)
          for name in ("delay_ns", "phase_rad", "snr")),
    )  # fmt: skip
    total = np.array([weight[:, equations.spw == spw].sum() for spw in windows])
    there = np.stack(
        [(equations.weight[:, equations.spw == spw] > 0).any(axis=(1, 2, 3)) for spw in windows],
        axis=1,
    )
    strength = by_bandwidth(median_snr(found.snr), total)
    # where the best of many trial delays is no more than noise the SNR is 0: the data are there
    strength = np.where(total > 0, np.maximum(strength, _ALMOST_NOTHING), 0.0)
    source = donors(strength, found.reference_hz, there)
    return ConstantDelays(
        windows, found.reference_hz, found.delay_ns[:, source], found.phase_rad[:, source],
        found.snr[:, source],
    )  # fmt: skip


def _of_window(known: ConstantDelays, place: int) -> DelayFit:
    """Return what a solve needs to start from: delays and phases of one window."""
    delay = known.delay_ns[:, place]
    nothing = np.zeros(len(delay))
    none = nothing.astype(np.int64)
    return DelayFit(
        delay, known.phase_rad[:, place], np.full(delay.shape, np.inf), np.zeros(delay.shape, bool),
        known.snr[:, place], np.ones(len(delay), bool), nothing, none, none,
        float(known.reference_hz[place]),
    )  # fmt: skip


@dataclass(frozen=True)
class DelaysAndTec:
    """Delays and phases of windows, and a TEC to add to those of all intervals.

    Attributes
    ----------
    delays : ConstantDelays
    tec_tecu : (nspan, nant) float64
    """

    delays: ConstantDelays
    tec_tecu: Float


def fit_delays_and_tec(
    phase_rad: Float, snr: Float, frequency_hz: Float, spw: NDArray[np.int64],
    delays: ConstantDelays,
) -> DelaysAndTec:  # fmt: skip
    """Fit what is left of phases by more delay and phase of each window and one TEC.

    Parameters
    ----------
    phase_rad, snr : (nspan, nblock, nant, npol) float64
        Phases that the delays leave, of less than half a turn; SNR 0 where there is none.
    frequency_hz, spw : (nblock,)
    delays : ConstantDelays
        Delays to add to.
    """
    nspan, nblock, nant, npol = phase_rad.shape
    windows = len(delays.spw)
    place = np.searchsorted(delays.spw, spw)
    # unknowns: one TEC, then a delay and a phase of each polarization and window
    terms = np.zeros((npol, nblock, 1 + 2 * npol * windows))
    for k in range(npol):
        first = 1 + 2 * (k * windows + place)
        terms[k, np.arange(nblock), first] = (
            2e-9 * np.pi * (frequency_hz - delays.reference_hz[place])
        )
        terms[k, np.arange(nblock), first + 1] = 1.0
        terms[k, :, 0] = TEC_PHASE_HZ / frequency_hz
    tec = np.zeros((nspan, nant))
    more = np.zeros((nspan, nant, npol, windows, 2))
    for number in range(nspan):
        for antenna in range(nant):
            weight = snr[number, :, antenna].T.ravel()
            good = weight > _LEAST_SNR
            if good.sum() <= terms.shape[2]:
                continue
            own = terms.reshape(-1, terms.shape[2])[good] * weight[good, None]
            scale = np.maximum(np.linalg.norm(own, axis=0), 1e-300)
            value = phase_rad[number, :, antenna].T.ravel()[good] * weight[good]
            found = np.linalg.lstsq(own / scale, value, rcond=1e-9)[0] / scale
            tec[number, antenna] = found[0]
            more[number, antenna] = found[1:].reshape(npol, windows, 2)
    added = np.moveaxis(more, (3, 1, 2), (1, 2, 3))
    return DelaysAndTec(
        replace(
            delays,
            delay_ns=delays.delay_ns + added[..., 0],
            phase_rad=delays.phase_rad + added[..., 1],
        ),
        tec,
    )
