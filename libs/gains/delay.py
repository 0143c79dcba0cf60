"""Delay of each antenna and polarization, straight from the sums of a gain solve.

A delay turns the phase in proportion to frequency. The start is found over all delays that the
channels can tell apart, by Fourier transforms over frequency; a solver of slopes without such a
start stops at the nearest of many maxima.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.gains import tec_kernels

__all__ = ["DelayFit", "DelaySolutions", "reference_delays", "solve_delays"]

MAX_STEPS = 30
TOLERANCE_RAD = 1e-6
_MAX_SWEEPS = 4
_PADDING = 4  # points of the Fourier transform for each independent delay
# significance squared, in ln(trials), that noise reaches: 4 in the mean (`solve_tec`); with 6, of
# 6 to 27 antennas and 16 to 128 channels, 1 to 7 % of solutions of noise still pass an SNR of 3
_TRIALS_COST = 6.0
_OFF_GRID = 0.02  # channels; windows so far off a common grid get a finer one


@dataclass(frozen=True)
class DelayFit:
    """Delays, and the phases that go with them, of each antenna and interval.

    Attributes
    ----------
    delay_ns : (ntime, nant, ngain) float64
        Phase = 2 pi delay (frequency - reference) + phase; 0 where not solved. The common part
        of all antennas is arbitrary until referenced.
    phase_rad : (ntime, nant, ngain) float64
        Phase at the reference frequency.
    error_ns : (ntime, nant, ngain) float64
        Infinite where not solved.
    flag : (ntime, nant, ngain) bool
        Too few baselines or too low an SNR.
    snr : (ntime, nant, ngain) float64
        1 / error of the phase in the middle of the band, less what the best of as many trial
        delays reaches on noise.
    attempted : (ntime,) bool
        Whether any antenna had baselines enough.
    chi2 : (ntime,) float64
        Sum of weight (residual)^2 of the averaged visibilities, in quadrature with the model.
    samples : (ntime,) int64
        Averaged visibilities that took part.
    reference_hz : float
    """

    delay_ns: NDArray[np.float64]
    phase_rad: NDArray[np.float64]
    error_ns: NDArray[np.float64]
    flag: NDArray[np.bool_]
    snr: NDArray[np.float64]
    attempted: NDArray[np.bool_]
    chi2: NDArray[np.float64]
    samples: NDArray[np.int64]
    reference_hz: float

    def gain(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Gains of unit amplitude, (ntime, nfreq, nant, ngain)."""
        turns = 1e-9 * self.delay_ns[:, None] * (
            frequency_hz[None, :, None, None] - self.reference_hz
        )  # fmt: skip
        return np.asarray(np.exp(1j * (2 * np.pi * turns + self.phase_rad[:, None])))


@dataclass(frozen=True)
class DelaySolutions:
    """Delays of antennas on a (time, spectral window, antenna, polarization) grid.

    Attributes
    ----------
    time_s, interval_s : (ntime,) float64
        Centres and lengths of the solution intervals, MJD seconds and s.
    scan, field, observation : (ntime,) int64
        Of the first integration of each interval.
    spw : (nspw,) int64
        Spectral windows in the measurement set.
    reference_hz : (nspw,) float64
        Frequency at which the delays turn no phase.
    antenna : tuple of str
    position_m : (nant, 3) float64
        ITRF.
    polarization : tuple of str
        Feed of each delay, e.g. ``("R", "L")``.
    delay_ns, phase_rad, error_ns : (ntime, nspw, nant, npol) float64
        Delays and, at the reference frequency, phases relative to the reference antenna; a
        table keeps the delays only.
    flag : (ntime, nspw, nant, npol) bool
    snr : (ntime, nspw, nant, npol) float64
    refant : (ntime, nspw) int64
        Id of the reference antenna, -1 for none.
    """

    time_s: NDArray[np.float64]
    interval_s: NDArray[np.float64]
    scan: NDArray[np.int64]
    field: NDArray[np.int64]
    observation: NDArray[np.int64]
    spw: NDArray[np.int64]
    reference_hz: NDArray[np.float64]
    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
    polarization: tuple[str, ...]
    delay_ns: NDArray[np.float64]
    phase_rad: NDArray[np.float64]
    error_ns: NDArray[np.float64]
    flag: NDArray[np.bool_]
    snr: NDArray[np.float64]
    refant: NDArray[np.int64]


def solve_delays(
    vis: NDArray[np.complex128],
    weight: NDArray[np.float64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    nant: int,
    frequency_hz: NDArray[np.float64],
    *,
    minblperant: int = 4,
    minsnr: float = 3.0,
    baseline_mask: NDArray[np.bool_] | None = None,
) -> DelayFit:
    """Solve V_pq = exp(i (theta_p - theta_q)) M_pq with theta linear in frequency.

    Each polarization is solved by itself. As in `libs.gains.tec.solve_tec` the sum over baselines
    and channels of Re(S conj(exp(i (theta_p - theta_q)))), S = sum of w V conj(M), is maximised
    by Newton's method. For the start, antennas are placed one after another at the peak of the
    Fourier transform, over frequency, of what they see of those placed before, and then each
    again until none moves.

    Parameters
    ----------
    vis : (ntime, nblock, nbl, npol) complex128
        Sum of w V conj(M).
    weight : (ntime, nblock, nbl, npol) float64
        Sum of w |M|^2; 0 where there are no data.
    antenna1, antenna2 : (nbl,) int64
    nant : int
    frequency_hz : (nblock,) float64
        Centres of the channels. Their mean is the reference.
    minblperant, minsnr
        As in `libs.gains.solver.SolveOptions`.
    baseline_mask : (nbl,) bool, optional
        Baselines that take part; default all.

    Returns
    -------
    DelayFit
        ngain is npol.

    Raises
    ------
    InputError
        There is only one frequency.
    """
    frequency_hz = np.asarray(frequency_hz, np.float64)
    if len(np.unique(frequency_hz)) < 2:
        raise InputError(
            "a delay is asked for of a single channel",
            "solve for gains, or combine spectral windows",
        )
    mask = np.ones(len(antenna1), bool) if baseline_mask is None else np.asarray(baseline_mask)
    grid = _Grid.of(frequency_hz)
    parts = [
        _solve_hand(
            np.ascontiguousarray(np.where(mask[:, None], vis[..., k : k + 1], 0)),
            np.ascontiguousarray(np.where(mask[:, None], weight[..., k : k + 1], 0)),
            np.asarray(antenna1, np.int64), np.asarray(antenna2, np.int64), nant, grid,
            minblperant,
        )
        for k in range(vis.shape[3])
    ]  # fmt: skip
    y, phi, solved, covariance, strength, chi2, samples = (
        np.concatenate(item, axis=-1) for item in zip(*parts, strict=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        left = 1 - _TRIALS_COST * np.log(grid.trials) / strength
        snr = np.sqrt(np.clip(left, 0, 1) / covariance[2])
    snr = np.where(solved & (strength > 0), np.minimum(snr, tec_kernels.INFINITE_SNR), 0)
    # the fit's phase is at the centre of its slope, which is the reference
    return DelayFit(
        np.where(solved, y * grid.ns_per_rad, 0), np.where(solved, phi, 0),
        np.where(solved, np.sqrt(covariance[0]) * grid.ns_per_rad, np.inf),
        ~solved | ~(snr > minsnr), snr, np.asarray(solved.any(axis=(1, 2))),
        chi2.sum(axis=-1), samples.sum(axis=-1), grid.reference_hz,
    )  # fmt: skip


@dataclass(frozen=True)
class _Grid:
    """Frequencies on the even grid of a Fourier transform.

    Attributes
    ----------
    reference_hz : float
        Mean of the frequencies.
    slope : (nblock,) float64
        Frequency from the reference in units of the spread, so that y and phase are alike.
    ns_per_rad : float
        Delay for each radian of y.
    place : (nblock,) int64
        Point of the grid of each channel.
    size : int
        Points of the transform.
    slope_of : (size,) float64
        Values of y for each point of the transform.
    within : (size,) bool
        Delays that the spacing of the channels can tell apart.
    trials : float
        Independent delays among them.
    """

    reference_hz: float
    slope: NDArray[np.float64]
    ns_per_rad: float
    place: NDArray[np.int64]
    size: int
    slope_of: NDArray[np.float64]
    within: NDArray[np.bool_]
    trials: float

    @classmethod
    def of(cls, frequency_hz: NDArray[np.float64]) -> _Grid:
        reference = float(frequency_hz.mean())
        offset = frequency_hz - reference
        spread = float(offset.std())
        gaps = np.diff(np.unique(frequency_hz))
        spacing = step = float(gaps[gaps > 1e-3 * gaps.max()].min())
        away = (frequency_hz - frequency_hz.min()) / spacing
        if np.abs(away - np.round(away)).max() > _OFF_GRID:
            step = spacing / 4
        place = np.round((frequency_hz - frequency_hz.min()) / step).astype(np.int64)
        size = 1 << int(np.ceil(np.log2(_PADDING * (place.max() + 1))))
        delay_s = np.fft.fftfreq(size, step)
        band = float(np.ptp(frequency_hz)) + spacing
        return cls(
            reference, offset / spread, 1e9 / (2 * np.pi * spread), place, size,
            np.asarray(2 * np.pi * spread * delay_s, np.float64), np.abs(delay_s) <= 0.5 / spacing,
            max(1.0, np.e * band / spacing),
        )  # fmt: skip

    def peak(self, spectrum: NDArray[np.complex128]) -> tuple[float, float]:
        """Return y and phase at the strongest delay of a spectrum, (nblock,)."""
        even = np.zeros(self.size, np.complex128)
        np.add.at(even, self.place, spectrum)
        power = np.abs(np.fft.fft(even))
        power[~self.within] = 0
        best = int(np.argmax(power))
        left, top, right = (float(power[(best + k) % self.size]) for k in (-1, 0, 1))
        bend = left - 2 * top + right
        shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
        step = self.slope_of[1] - self.slope_of[0]
        y = float(self.slope_of[best] + np.clip(shift, -0.5, 0.5) * step)
        return y, float(np.angle(np.sum(spectrum * np.exp(-1j * self.slope * y))))


def _solve_hand(
    vis: NDArray[np.complex128],
    weight: NDArray[np.float64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    nant: int,
    grid: _Grid,
    minblperant: int,
) -> tuple[NDArray[np.generic], ...]:
    """Solve one polarization of all intervals; (ntime, nant, 1) and (3, ...), (ntime, 1)."""
    ntime = len(vis)
    shape = (ntime, nant, 1)
    y, phi = np.zeros((ntime, nant)), np.zeros(shape)
    for t in range(ntime):
        y[t], phi[t, :, 0] = _start(vis[t, :, :, 0], antenna1, antenna2, nant, grid)
    solved, strength = np.zeros(shape, bool), np.zeros(shape)
    covariance = np.zeros((*shape, 3))
    covariance[..., [0, 2]] = np.inf
    chi2, converged = np.zeros(ntime), np.zeros(ntime, bool)
    freedom, samples = np.zeros(ntime, np.int64), np.zeros(ntime, np.int64)
    tec_kernels.tec_kernel(
        vis, weight, np.ones(len(antenna1), bool), antenna1, antenna2, grid.slope, np.zeros(0),
        True, minblperant, MAX_STEPS, TOLERANCE_RAD, y, phi, solved, covariance, strength, chi2,
        freedom, samples, converged,
    )  # fmt: skip
    return (
        y[..., None], phi, solved, np.moveaxis(covariance, -1, 0), strength, chi2[:, None],
        samples[:, None],
    )  # fmt: skip


def _start(
    sums: NDArray[np.complex128],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    nant: int,
    grid: _Grid,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return y and phase, (nant,), of antennas placed one by one at the peak of a transform.

    Parameters
    ----------
    sums : (nblock, nbl) complex128
    """
    nblock = len(sums)
    dense = np.zeros((nant, nant, nblock), np.complex128)
    dense[antenna1, antenna2] = sums.T
    dense[antenna2, antenna1] = sums.T.conj()
    size = np.abs(dense).sum(axis=2)
    seen = size.any(axis=1)
    y, phi = np.zeros(nant), np.zeros(nant)
    phasor = np.ones((nant, nblock), np.complex128)
    total = np.zeros((nant, nblock), np.complex128)
    left = set(np.flatnonzero(seen).tolist())
    new = int(np.argmax(size.sum(axis=1)))
    first = True
    while left:
        if not first:
            new = max(left, key=lambda p: float(np.abs(total[p]).sum()))
            y[new], phi[new] = grid.peak(total[new])
            phasor[new] = np.exp(1j * (grid.slope * y[new] + phi[new]))
        first = False
        left.discard(new)
        total += dense[:, new] * phasor[new]
    apart = 2 * np.pi / max(float(np.ptp(grid.slope)), 1e-300) / _PADDING
    for _ in range(_MAX_SWEEPS):
        moved = False
        for p in np.flatnonzero(seen):
            there, turn = grid.peak(np.einsum("qb,qb->b", dense[p], phasor))
            moved |= abs(there - y[p]) > apart
            y[p], phi[p] = there, turn
            phasor[p] = np.exp(1j * (grid.slope * y[p] + phi[p]))
        if not moved:
            break
    return y, phi


def reference_delays(
    fit: DelayFit, choices: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return delays and phases relative to a reference antenna, flags and the antenna.

    In each interval it is the first of ``choices`` with a solution in every polarization that any
    antenna has. An interval without one is flagged.

    Parameters
    ----------
    fit : DelayFit
    choices : (nant,) int64
        As `libs.gains.referencing.refant_choices` returns them.

    Returns
    -------
    delay_ns, phase_rad : (ntime, nant, ngain) float64
    flag : (ntime, nant, ngain) bool
    used : (ntime,) int64
        Reference antenna, -1 for none.
    """
    delay, phase, flag = fit.delay_ns.copy(), fit.phase_rad.copy(), fit.flag.copy()
    used = np.full(len(delay), -1, np.int64)
    for t in range(len(delay)):
        there = (~flag[t]).any(axis=0)
        for one in choices:
            if there.any() and (~flag[t, one])[there].all():
                used[t] = one
                break
        if used[t] < 0:
            flag[t] = True
            continue
        delay[t] -= delay[t, used[t]].copy()
        phase[t] -= phase[t, used[t]].copy()
    delay[flag] = 0
    phase[flag] = 0
    return delay, phase, flag, used
