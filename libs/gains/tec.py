"""Total electron content of each station, straight from the sums of a gain solve.

A layer of free electrons turns the phase by ``TEC_PHASE_HZ * TEC / frequency``. One number a
station and interval then stands for the phases of the whole band: all of it contributes to the
solution, however wide the band and however weak the source in any part of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.core.errors import InputError
from libs.gains import tec_kernels

__all__ = ["LARGEST_TECU", "TecFit", "concatenate_fits", "reference_tec", "solve_tec"]

logger = logging.getLogger(__name__)

LARGEST_TECU = 5.0
GRID_STEP_RAD = 0.7  # of phase, at the end of the band where it changes fastest
MAX_STEPS = 30
TOLERANCE_RAD = 1e-6


@dataclass(frozen=True)
class TecFit:
    """TEC, and constant phases where asked for, of each station and interval.

    Attributes
    ----------
    tec_tecu : (ntime, nant) float64
        Relative to one antenna, the same in no two intervals until referenced; 0 where not
        solved.
    phase_rad : (ntime, nant, ngain) float64
        Phase at infinite frequency, 0 unless solved for.
    flag : (ntime, nant, ngain) bool
        Too few baselines or too low an SNR.
    attempted : (ntime,) bool
        Whether any antenna had baselines enough.
    chi2 : (ntime,) float64
        Sum of weight (residual)^2 of the averaged visibilities, in quadrature with the model.
    freedom, samples : (ntime,) int64
        Degrees of freedom of chi2; averaged visibilities that took part.
    centre_hz, scale : float
        ``slope = (1 / frequency - 1 / centre) TEC_PHASE_HZ / scale``, or without constant
        phases ``centre / frequency``: the terms in which `covariance` is given.
    with_phase : bool
    covariance : (ntime, nant, ngain, 3) float64
        (var y, cov y phi, var phi) of phase = slope y + phi, rad^2.
    trust : (ntime, nant, ngain) float64
        0 to 1: SNR is reduced by this factor for the number of TECs that were tried.
    """

    tec_tecu: NDArray[np.float64]
    phase_rad: NDArray[np.float64]
    flag: NDArray[np.bool_]
    attempted: NDArray[np.bool_]
    chi2: NDArray[np.float64]
    freedom: NDArray[np.int64]
    samples: NDArray[np.int64]
    centre_hz: float
    scale: float
    with_phase: bool
    covariance: NDArray[np.float64]
    trust: NDArray[np.float64]

    def gain(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Gains of unit amplitude, (ntime, nfreq, nant, ngain)."""
        phase = tec_phase(self.tec_tecu, frequency_hz)[..., None] + self.phase_rad[:, None]
        return np.asarray(np.exp(1j * phase))

    def without_phases(self) -> TecFit:
        """Return the TECs alone, as of all polarizations."""
        flag = np.asarray(self.flag.all(axis=2, keepdims=True), bool)
        return replace(
            self, flag=flag, phase_rad=np.zeros(flag.shape), covariance=self.covariance[:, :, :1],
            trust=self.trust[:, :, :1],
        )  # fmt: skip

    def snr(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1 / error of the phase in rad, (ntime, nfreq, nant, ngain); 0 where unsolved."""
        slope = _slope(frequency_hz, self.centre_hz, self.scale, self.with_phase)
        c = slope[None, :, None, None]
        part = self.covariance[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = c**2 * part[..., 0] + 2 * c * part[..., 1] + part[..., 2]
            snr = 1 / np.sqrt(np.maximum(variance, 0))
        snr = np.where(np.isnan(snr), 0, np.minimum(snr, tec_kernels.INFINITE_SNR))
        return np.asarray(snr * self.trust[:, None])


def tec_phase(
    tec_tecu: NDArray[np.float64], frequency_hz: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Phase of TECs (ntime, nant) at frequencies, (ntime, nfreq, nant), rad."""
    return np.asarray(TEC_PHASE_HZ * tec_tecu[:, None] / frequency_hz[None, :, None])


def _slope(
    frequency_hz: NDArray[np.float64], centre_hz: float, scale: float, with_phase: bool
) -> NDArray[np.float64]:
    per_tecu = TEC_PHASE_HZ / np.asarray(frequency_hz)
    offset = TEC_PHASE_HZ / centre_hz if with_phase else 0.0
    return np.asarray((per_tecu - offset) / scale)


def _terms(frequency_hz: NDArray[np.float64], with_phase: bool) -> tuple[float, float]:
    """Centre and scale that make TEC and phase nearly independent unknowns, both in rad."""
    per_tecu = TEC_PHASE_HZ / frequency_hz
    centre = float(TEC_PHASE_HZ / per_tecu.mean())
    spread = float(per_tecu.std())
    return centre, spread if with_phase else float(per_tecu.mean())


def search_range_tecu(
    frequency_hz: NDArray[np.float64], largest_tecu: float = LARGEST_TECU
) -> float:
    """Return the largest TEC difference that blocks so far apart can tell from another, TECU.

    Phases of neighbouring blocks must differ by less than half a turn.
    """
    per_tecu = np.sort(np.abs(TEC_PHASE_HZ / np.asarray(frequency_hz)))
    step = float(np.median(np.diff(per_tecu)))
    return min(largest_tecu, np.pi / step) if step > 0 else largest_tecu


def solve_tec(
    vis: NDArray[np.complex128],
    weight: NDArray[np.float64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    nant: int,
    frequency_hz: NDArray[np.float64],
    *,
    with_phase: bool = False,
    gaintype: Literal["G", "T"] = "T",
    minblperant: int = 4,
    minsnr: float = 3.0,
    largest_tecu: float = LARGEST_TECU,
    baseline_mask: NDArray[np.bool_] | None = None,
    start: TecFit | None = None,
) -> TecFit:
    """Solve V_pq = exp(i (theta_p - theta_q)) M_pq with theta = TEC_PHASE_HZ TEC / nu (+ phase).

    Maximises the sum over baselines and frequency blocks of Re(S conj(exp(i (theta_p -
    theta_q)))), S = sum of w V conj(M): least squares for phases. The start is global: antennas
    are placed one after another at the best point of a grid of TECs, given those placed before,
    and then each again until none moves; Newton's method refines. The TEC is common to both
    polarizations; constant phases are those of each with gaintype G.

    The SNR is 1 / error of the phase, from the scatter of the visibilities in quadrature with
    the fitted model, the other antennas held fixed as in `libs.gains.native.solve_gains`. The
    best of many trial TECs fits noise too. Of all stations' trials together the best has on noise a
    significance squared of 4 ln(trials) for each station (the largest of trials^(nant - 1)
    Gaussian sums, shared among them): so much is taken off.

    Parameters
    ----------
    vis : (ntime, nblock, nbl, npol) complex128
        Sum of w V conj(M).
    weight : (ntime, nblock, nbl, npol) float64
        Sum of w |M|^2; 0 where there are no data.
    antenna1, antenna2 : (nbl,) int64
    nant : int
    frequency_hz : (nblock,) float64
        Centres of the blocks.
    with_phase : bool
        Solve for a constant phase too.
    gaintype, minblperant, minsnr
        As in `libs.gains.solver.SolveOptions`.
    largest_tecu : float
        Largest difference from the antenna with most signal that is searched for; less when
        the blocks are too far apart to tell it, see `search_range_tecu`.
    baseline_mask : (nbl,) bool, optional
        Baselines that take part; default all.
    start : TecFit, optional
        A solve of the same intervals for TECs alone to refine, in place of a search over all TECs.

    Returns
    -------
    TecFit
        ngain is 1 for gaintype T, else npol.

    Raises
    ------
    InputError
        Fewer than two frequencies (three with a constant phase).
    """
    frequency_hz = np.asarray(frequency_hz, np.float64)
    needed = 3 if with_phase else 2
    if len(np.unique(frequency_hz)) < needed:
        raise InputError(
            f"a TEC needs {needed} frequency blocks, there are {len(np.unique(frequency_hz))}",
            "use fewer channels per block, or solve for gains",
        )
    ntime, _, nbl, npol = vis.shape
    centre, scale = _terms(frequency_hz, with_phase)
    slope = _slope(frequency_hz, centre, scale, with_phase)
    step = GRID_STEP_RAD / np.abs(slope).max()
    reach = abs(scale) * search_range_tecu(frequency_hz, largest_tecu)
    half = int(np.ceil(reach / step))
    grid = np.arange(-half, half + 1) * step if start is None else np.zeros(0)
    wide = npol if gaintype == "G" else 1
    ngain = wide if with_phase else 1
    shape = (ntime, nant, ngain)
    y = np.zeros((ntime, nant)) if start is None else start.tec_tecu * scale
    phi = np.zeros(shape)
    solved, strength = np.zeros(shape, bool), np.zeros(shape)
    covariance = np.zeros((*shape, 3))
    covariance[..., [0, 2]] = np.inf
    chi2, converged = np.zeros(ntime), np.zeros(ntime, bool)
    freedom, samples = np.zeros(ntime, np.int64), np.zeros(ntime, np.int64)
    mask = np.ones(nbl, bool) if baseline_mask is None else np.asarray(baseline_mask, bool)
    tec_kernels.tec_kernel(
        np.ascontiguousarray(vis), np.ascontiguousarray(weight), mask,
        np.asarray(antenna1, np.int64), np.asarray(antenna2, np.int64), slope, grid, with_phase,
        minblperant, MAX_STEPS, TOLERANCE_RAD, y, phi, solved, covariance, strength, chi2,
        freedom, samples, converged,
    )  # fmt: skip
    if not converged.all():
        logger.debug("%d TEC solves did not converge", (~converged).sum())
    # independent places on the grid; a phase fitted at each is worth a factor e more
    turns = np.e * np.ptp(slope) if with_phase else np.abs(slope).max()
    trials = max(1.0, 2 * reach * turns / np.pi)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = 1 - 4 * np.log(trials) / strength
    trust = np.where(solved & (strength > 0), np.sqrt(np.clip(left, 0, 1)), 0)
    tec = y / scale
    phase = phi - TEC_PHASE_HZ / centre * tec[..., None] if with_phase else phi
    fit = TecFit(
        np.where(solved.any(axis=2), tec, 0), np.where(solved, phase, 0), ~solved,
        np.asarray(solved.any(axis=(1, 2))), chi2, freedom, samples, centre, scale, with_phase,
        covariance, trust,
    )  # fmt: skip
    return _flagged(fit, minsnr, wide)


def _flagged(fit: TecFit, minsnr: float, ngain: int) -> TecFit:
    """Flag what does not exceed minsnr at the centre of the band; repeat what both feeds share."""
    low = ~(fit.snr(np.array([fit.centre_hz]))[:, 0] > minsnr)
    parts = dict(vars(fit), flag=fit.flag | low)
    if fit.flag.shape[2] != ngain:
        for name in ("phase_rad", "flag", "covariance", "trust"):
            parts[name] = np.repeat(parts[name], ngain, axis=2)
    return TecFit(**parts)


def concatenate_fits(fits: Sequence[TecFit]) -> TecFit:
    """Join fits of the same frequencies along time."""
    along = (
        "tec_tecu", "phase_rad", "flag", "attempted", "chi2", "freedom", "samples",
        "covariance", "trust",
    )  # fmt: skip
    joined = {name: np.concatenate([getattr(fit, name) for fit in fits]) for name in along}
    return TecFit(**{**vars(fits[0]), **joined})


def reference_tec(
    tec_tecu: NDArray[np.float64], phase_rad: NDArray[np.float64], used: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Make TECs and phases relative to the reference antenna of each interval.

    Parameters
    ----------
    tec_tecu : (ntime, nant) float64
    phase_rad : (ntime, nant, ngain) float64
    used : (ntime,) int64
        Reference antenna, -1 for none. When it changes hands the new one keeps the value it
        had, as in `libs.gains.native.reference_phases`.
    """
    tec, phase = tec_tecu.copy(), phase_rad.copy()
    last = -1
    for t in range(len(used)):
        ref = int(used[t])
        if ref < 0:
            continue
        turn_tec, turn_phase = tec[t, ref], phase[t, ref].copy()
        if last >= 0:
            turn_tec, turn_phase = turn_tec - tec[last, ref], turn_phase - phase[last, ref]
        tec[t] -= turn_tec
        phase[t] -= turn_phase
        last = t
    return tec, phase
