"""By how much self-calibration raises a source: phases that are solved for follow the noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw

from libs.gains.gain_solutions import GainSolutions
from libs.gains.two_factors import FACTORS

__all__ = ["noise_followed", "unknown_phases"]


def unknown_phases(solutions: GainSolutions, solution: str) -> int:
    """Return the number of phases that a solve was free to choose.

    The phase of one antenna of each solve is a reference and no unknown.

    Parameters
    ----------
    solutions : GainSolutions
        Solved phases, with amplitudes or without; those that are flagged do not count.
    solution : str
        Kind of solve, as in `libs.gains.solver.SolveOptions`.
    """
    good: NDArray[np.bool_] = np.logical_not(solutions.flag)
    if solution in ("gain", "bandpass"):
        return _free(good)
    windows = np.stack([np.max(good[:, solutions.spw == spw], axis=1)
                        for spw in np.unique(solutions.spw)], axis=1)  # fmt: skip
    if solution == "delay+phase":
        return 2 * _free(windows)
    common = _free(np.max(good, axis=(1, 3), keepdims=True))
    if solution in FACTORS:
        return common + _free(np.max(windows, axis=0, keepdims=True))
    return 2 * common if solution == "tec+phase" else common


def _free(good: NDArray[np.bool_]) -> int:
    """Return the number of good (ntime, nfreq, nant, npol) but for one antenna of each solve."""
    return int(np.maximum(good.sum(axis=2) - 1, 0).sum())


def noise_followed(unknowns: float, explained: float) -> float:
    """Return the fraction by which phases that follow the noise raise the flux of a source.

    Parameters
    ----------
    unknowns : float
        Number of phases that were solved for, P.
    explained : float
        Fall of chi2 by the source on visibilities that were held out of the solves: its flux
        there times the sum of w M Re(V conj(G)), w = 1 / sigma^2 of real and imaginary part.

    Returns
    -------
    float
        Infinite where the visibilities held out show no source; not a number where what they
        show is not known.

    Notes
    -----
    A fit of P phases lowers chi2 = sum w |V - G M|^2 by P below that of the true gains. Phases do
    not change sum w |G M|^2, so that 2 Re sum w V conj(G M) rises by P, and with it the flux that
    calibrated data have of the model, by x = P / (2 S), S being sum w |M|^2 with the source's
    flux. (Marti-Vidal & Marcaide 2008, A&A 480, 289, on sources that noise alone makes in this
    way.) The model's flux is that of an image that was not phased and may be any part of the
    source's; the visibilities held out tell it, since their noise took no part in the gains.
    The same noise makes the phase of each antenna err by a variance of x and lowers the flux that
    is seen there by exp(-x), so that P / (2 explained) = x exp(2 x), which Lambert's function
    solves.
    """
    if math.isnan(explained):
        return math.nan
    if not explained > 0:
        return math.inf if unknowns else 0.0
    return float(0.5 * lambertw(unknowns / explained).real)
