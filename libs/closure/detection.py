"""Significance of the agreement between closure phases and a model.

Phases of noise are independent and uniform. Their agreement with any model is a sum of cosines
with weights that do not depend on the phases. Its distribution is known for any number of phases
and any weights, however few of them dominate the sum. A normal distribution is not enough: its
largest value, for phases that agree exactly, is the root of twice the number of phases, so ten
phases that agree within a few degrees would be taken for noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import i0e, i1e, ndtri

__all__ = ["Agreement", "agreement_of_phases"]

Float = NDArray[np.float64]

# limits of the exponential tilt in which the saddle point is sought: agreement within exp(-18)
# of chance or of perfection cannot be distinguished from either
_LEAST, _MOST = -18.0, 18.0


@dataclass(frozen=True)
class Agreement:
    """Agreement of closure phases with a model.

    Attributes
    ----------
    sigma : float
        Probability that uniform phases agree as well, as standard deviations of a normal
        distribution.
    information : float
        Number of phases times the information of each, 1 / variance, from their scatter about the
        model. It is at least the number of phases.
    """

    sigma: float
    information: float

    def limit(self, false_alarm: float, parameters: int) -> float:
        """Return the sigma that noise exceeds with the probability ``false_alarm``.

        A fit of p parameters increases the agreement of noise. Each parameter is known to one part
        in the root of the information, so there are about that many different values to choose
        from; as in BIC, twice the logarithm of that number is added to the square.
        """
        square = ndtri(false_alarm) ** 2 + parameters * np.log(max(self.information, 2.0))
        return float(np.sqrt(square))


def agreement_of_phases(difference_rad: Float, weight: Float) -> Agreement:
    """Compare closure phases with those of a model.

    Parameters
    ----------
    difference_rad : (n,) float64
        Closure phase minus the model's.
    weight : (n,) float64
        Positive weights, independent of the phases; only their ratios matter.

    Returns
    -------
    Agreement

    Notes
    -----
    The statistic is the signed root of the likelihood ratio with the correction of
    Barndorff-Nielsen, r + ln(q/r) / r (Jensen 1995, *Saddlepoint Approximations*, sect. 3.3). The
    cumulant generating function of ``sum w cos x`` for uniform x is ``sum ln I0(t w)``.
    """
    weight = np.asarray(weight, float) / max(float(np.max(weight, initial=0.0)), 1e-300)
    summed = float((weight * np.cos(difference_rad)).sum())
    spread = float(np.sqrt((weight**2).sum() / 2))
    if summed <= 1e-6 * spread or spread == 0:
        return Agreement(summed / max(spread, 1e-300), float(len(weight)))

    def slope(log_tilt: float) -> float:
        concentration = np.exp(log_tilt) * weight
        mean = i1e(concentration) / i0e(concentration)
        return float((weight * mean).sum()) - summed

    if slope(_MOST) <= 0:
        tilt = np.exp(_MOST)
    elif slope(_LEAST) >= 0:
        tilt = np.exp(_LEAST)
    else:
        tilt = np.exp(brentq(slope, _LEAST, _MOST, xtol=1e-10))
    concentration = tilt * weight
    mean = i1e(concentration) / i0e(concentration)
    cumulant = float((np.log(i0e(concentration)) + concentration).sum())
    # derivative of I1 / I0 is 1 - (I1 / I0)^2 - I1 / (I0 x); 1/2 at x = 0
    bend = np.where(concentration > 1e-4, 1 - mean**2 - mean / np.maximum(concentration, 1e-4), 0.5)
    root = np.sqrt(max(2 * (tilt * summed - cumulant), 0.0))
    curvature = tilt * np.sqrt(max(float((weight**2 * bend).sum()), 1e-300))
    sigma = summed / spread if root < 1e-3 else root + np.log(curvature / root) / root
    return Agreement(float(sigma), float(max(concentration.sum(), len(weight))))
