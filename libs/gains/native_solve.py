"""Gains of antennas from normal equations, by alternating direction solves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.gains import kernels

__all__ = ["MAX_ITERATIONS", "GainFit", "solve_gains"]

logger = logging.getLogger(__name__)

_MODE = {"p": kernels.PHASE, "a": kernels.AMPLITUDE, "ap": kernels.BOTH}
MAX_ITERATIONS = 400
TOLERANCE = 1e-7  # relative change of the gains in one averaged step
STUDENT_FREEDOM = 4.0
_SHORTFALL_SIGMA = 3.0


@dataclass(frozen=True)
class GainFit:
    """Gains solved from normal equations.

    Attributes
    ----------
    gain : (ntime, nfreq, nant, ngain) complex128
        1 where not solved; their common phase is arbitrary until referenced. For ``calmode="p"``
        of unit amplitude only after `reference_phases`.
    flag : (ntime, nfreq, nant, ngain) bool
        Too few baselines or too low an SNR.
    snr : (ntime, nfreq, nant, ngain) float64
        0 where there is no solution at all.
    attempted : (ntime, nfreq) bool
        Whether any antenna had baselines enough.
    chi2 : (ntime, nfreq) float64
        Sum of weight |residual|^2 of the averaged visibilities.
    samples : (ntime, nfreq) int64
        Averaged visibilities that took part.
    """

    gain: NDArray[np.complex128]
    flag: NDArray[np.bool_]
    snr: NDArray[np.float64]
    attempted: NDArray[np.bool_]
    chi2: NDArray[np.float64]
    samples: NDArray[np.int64]


def solve_gains(
    vis: NDArray[np.complex128],
    weight: NDArray[np.float64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    nant: int,
    *,
    calmode: Literal["p", "a", "ap"] = "p",
    gaintype: Literal["G", "T"] = "G",
    combine_blocks: bool = False,
    minblperant: int = 4,
    minsnr: float = 3.0,
    spare: Sequence[int] = (),
    outlier_weights: bool = False,
    guess_from: Sequence[int] = (),
    baseline_mask: NDArray[np.bool_] | None = None,
) -> GainFit:
    """Solve V_pq = g_p conj(g_q) M_pq for the antenna gains.

    The sums are divided into averaged visibilities V / M. Phase-only solves keep the phase of
    those and move their squared amplitude into the weight, amplitude-only solves keep the
    amplitude. The fit is then made for complex gains in all modes, as gaincal does, by StEFCal
    (Salvini & Wijnholds 2014, A&A 571, A97). SNR is |g| / err with err^2 = 2 chi2 / (dof h),
    h the sum of weight |g_q|^2 over the antenna's baselines, dof = 2 (visibilities - gains) and
    chi2 over both polarizations: gaincal's definition, which scales with the scatter of the data
    and not with the scale of the weights.

    Parameters
    ----------
    vis : (ntime, nblock, nbl, npol) complex128
        Sum of w V conj(M).
    weight : (ntime, nblock, nbl, npol) float64
        Sum of w |M|^2; 0 where there are no data.
    antenna1, antenna2 : (nbl,) int64
        Antennas p and q of each baseline; p != q.
    nant : int
    calmode, gaintype, minblperant, minsnr, outlier_weights
        As in `libs.gains.solver.SolveOptions`.
    combine_blocks : bool
        One gain for all blocks instead of one for each.
    spare : sequence of int
        Antennas whose solutions below ``minsnr`` stay unless they fall short of the model.
    guess_from : sequence of int
        Antennas whose baselines give the first guess, in order of preference.
    baseline_mask : (nbl,) bool, optional
        Baselines that take part; default all.

    Returns
    -------
    GainFit
        ngain is 1 for ``"T"``, else npol; nfreq 1 with ``combine_blocks``, else nblock.
    """
    ntime, nblock, nbl, npol = vis.shape
    nfreq, ngain = (1 if combine_blocks else nblock), (1 if gaintype == "T" else npol)
    shape = (ntime, nfreq, nant, ngain)
    gain, solved, snr = np.ones(shape, np.complex128), np.zeros(shape, bool), np.zeros(shape)
    chi2, samples = np.zeros(shape[:2]), np.zeros(shape[:2], np.int64)
    converged = np.zeros(shape[:2], bool)
    mask = np.ones(nbl, bool) if baseline_mask is None else np.asarray(baseline_mask, bool)
    order = list(dict.fromkeys([*guess_from, *range(nant)]))
    kernels.solve_kernel(
        vis, weight, mask, np.asarray(antenna1, np.int64), np.asarray(antenna2, np.int64),
        np.array(order, np.int64), _MODE[calmode], ngain == 1 and npol >= 1, combine_blocks,
        minblperant, STUDENT_FREEDOM if outlier_weights else 0.0, MAX_ITERATIONS, TOLERANCE,
        gain, solved, snr, chi2, samples, converged,
    )  # fmt: skip
    if not converged.all():
        logger.debug("%d solves stopped at %d iterations", (~converged).sum(), MAX_ITERATIONS)
    attempted = np.asarray(solved.any(axis=(2, 3)), bool)
    # gaincal flags what does not exceed minsnr
    flag = np.ones(shape, bool)
    flag[solved & (snr > minsnr)] = False
    if calmode == "p" and len(spare):
        own = np.zeros(nant, bool)
        own[list(spare)] = True
        freedom = 2.0 * np.maximum(samples - solved.sum(axis=(2, 3)), 1)
        scatter = 2 * chi2 / freedom
        promised = _promised_snr(
            np.where(mask[:, None], weight, 0.0), antenna1, antenna2, shape, scatter
        )
        flag[solved & own[:, None] & (promised - snr < _SHORTFALL_SIGMA)] = False
    return GainFit(
        np.where(solved, gain, 1), flag, np.where(solved, snr, 0), attempted, chi2, samples
    )


def _promised_snr(
    weight: NDArray[np.float64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    shape: tuple[int, ...],
    scatter: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the SNR that gains of 1 would have by the model alone, (ntime, nfreq, nant, ngain).

    An antenna that sees nothing falls short of it. One whose baselines resolve the source has a
    low SNR because the model promises no more: its phase is as good as its data, and flagging it
    would only take these away.

    Parameters
    ----------
    weight : (ntime, nblock, nbl, npol)
        Sums of w |M|^2 of the baselines that take part.
    shape : tuple of int
        Of the result.
    scatter : (ntime, nfreq)
        Variance of the data in units of 1 / w, by the residuals of the solve.
    """
    if shape[1] == 1:
        weight = weight.sum(axis=1, keepdims=True)
    if shape[3] == 1:
        weight = weight.sum(axis=3, keepdims=True)
    total = np.zeros(shape)
    by_antenna, by_baseline = np.moveaxis(total, 2, 0), np.moveaxis(weight, 2, 0)
    np.add.at(by_antenna, antenna1, by_baseline)
    np.add.at(by_antenna, antenna2, by_baseline)
    return np.sqrt(total / np.maximum(scatter, 1e-300)[:, :, None, None])
