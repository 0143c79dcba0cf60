"""By how much self-calibration raises a source: phases that are solved for follow the noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from libs.gains.gain_solutions import GainSolutions
from libs.gains.normal_equations import NormalEquations

__all__ = ["explained_weight", "noise_followed"]

# Phases of an antenna in an interval that a solve has as unknowns; of gains each is one.
_UNKNOWNS = {"tec": 1, "tec+phase": 2, "delay+phase": 2}


def explained_weight(
    equations: NormalEquations, gain: NDArray[np.complex128], flag: NDArray[np.bool_]
) -> float:
    """Return the sum of w Re(V conj(G M)): it grows with the source where w |M|^2 does not.

    Parameters
    ----------
    equations : NormalEquations
    gain, flag : (ntime, nblock or 1, nant, npol or 1)
        Solved gains, of which the phases count.
    """
    unit = np.where(flag, 0.0, gain / np.maximum(np.abs(gain), 1e-300))
    pair = unit[:, :, equations.antenna1] * np.conj(unit[:, :, equations.antenna2])
    return float(np.sum((equations.vis * np.conj(pair)).real))


def noise_followed(solutions: GainSolutions, weight: float, solution: str) -> float:
    """Return the fraction by which phases that follow the noise raise the flux of the model.

    Parameters
    ----------
    solutions : GainSolutions
        Solved phases, with amplitudes or without; those that are flagged do not count.
    weight : float
        Sum of w |M|^2 over all visibilities of the solve, w = 1 / sigma^2, if the model has the
        source's flux; else the sum of `explained_weight`.
    solution : str
        Kind of solve, as in `libs.gains.solver.SolveOptions`.

    Returns
    -------
    float
        Not a number without weight.

    Notes
    -----
    A fit of P phases lowers chi2 = sum w |V - G M|^2 by P below that of the true gains. Phases do
    not change sum w |G M|^2, so that 2 Re sum w V conj(G M) rises by P, and with it the flux that
    calibrated data have of the model, by P / (2 sum w |M|^2). The phase of one antenna of each
    solve is a reference and no unknown. (Marti-Vidal & Marcaide 2008, A&A 480, 289, on sources
    that noise alone makes in this way.)
    """
    if not weight > 0:
        return math.nan
    good = ~solutions.flag
    if solution in ("gain", "bandpass"):
        per_solve = good.sum(axis=2)
        unknowns = np.maximum(per_solve - 1, 0).sum()
    else:
        # what windows and hands have of their own is the same at all times, and few beside it
        per_solve = good.any(axis=(1, 3)).sum(axis=1)
        unknowns = np.maximum(per_solve - 1, 0).sum() * _UNKNOWNS.get(solution, 1)
    return float(unknowns) / (2.0 * weight)
