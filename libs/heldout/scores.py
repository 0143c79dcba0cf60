"""Scores of solves by the baselines held out of them, and the choice of one or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from libs.gains.normal_equations import NormalEquations
from libs.heldout.folds import FOLDS, Candidate, solve_without

__all__ = ["FOLD_SCATTER", "HeldOutChoice", "Score", "score_candidate", "verdict"]

# What noise makes of a sum over folds is to first order a sum of a_bc n_b n_c over pairs of
# baselines of different folds. A pair comes twice, once with each of the two held out. Were the
# folds independent, these would be two terms that scatter each for itself; but a_bc = a_cb, and
# they are one term, doubled. The variance of the sum is therefore twice that of independent folds.
FOLD_SCATTER = 2.0**0.5


@dataclass(frozen=True)
class Score:
    """How well a candidate predicts held-out visibilities.

    Attributes
    ----------
    candidate : Candidate
    fall : float
        Fall of sum w |V - G M|^2 over the held-out visibilities against no gains.
    power : float
        Sum of w |G - 1|^2 |M|^2, which carries the noise of the data into ``fall``.
    noise : float
        Variance of the data in units of 1 / weight, in each of real and imaginary part, and what
        the gains did not follow: from the parts of held-out visibilities at right angles to the
        phases predicted.
    predicted : int
        Number of visibilities (averaged over the shortest interval) that were predicted.
    """

    candidate: Candidate
    fall: float
    power: float
    noise: float
    predicted: int

    def error(self, noise: float) -> float:
        """Standard deviation of ``fall`` from noise of this variance, were folds independent.

        Of the difference of two candidates, whose noise is mostly common, it is a safe bound.
        """
        return float(2 * np.sqrt(self.power * noise))

    def significance(self, noise: float) -> float:
        """``fall`` over its error with `FOLD_SCATTER`; 0 where nothing could be predicted."""
        error = FOLD_SCATTER * self.error(noise)
        return self.fall / error if error > 0 else 0.0


@dataclass(frozen=True)
class HeldOutChoice:
    """The candidate to solve with, or None when no gains are worth trusting.

    Attributes
    ----------
    best : Candidate or None
    reason : str
        One line for the record.
    scores : tuple of Score
        All that was tried, in order: the curve to draw.
    noise : float
        The lowest of their noises: that of the data, as far as any of them can tell.
    sigma : float
        Significance of the best candidate, whether it is trusted or not.
    """

    best: Candidate | None
    reason: str
    scores: tuple[Score, ...]
    noise: float
    sigma: float = np.nan


def score_candidate(
    equations: NormalEquations,
    candidate: Candidate,
    *,
    refants: Sequence[int] = (),
    minblperant: int = 4,
    folds: int = FOLDS,
) -> Score:
    """Solve with each fold of baselines held out and predict it.

    With S = sum w V conj(M) and W = sum w |M|^2 of a baseline and short interval, gains G =
    g_p conj(g_q) change its chi2 by -2 Re(conj(G - 1) (S - W)) + |G - 1|^2 W, and the noise of
    the data, of variance s^2 / w in each of real and imaginary part, makes the sum of these
    scatter by 2 s sqrt(sum W |G - 1|^2), G being independent of the noise it is tested on. s^2
    comes from the parts of the held-out visibilities at right angles to the phases predicted, so
    the scale of the weights does not matter, nor do errors of amplitude.

    Parameters
    ----------
    equations : NormalEquations
        At the shortest interval.
    candidate : Candidate
    refants : sequence of int
        Antennas in order of preference, to reference the phases to.
    minblperant : int
        Fewest baselines of an antenna.
    folds : int

    Returns
    -------
    Score
    """
    change = power = across = 0.0
    count = 0
    for fits in solve_without(equations, candidate, refants, minblperant, folds):
        parts = fits.predict(equations)
        change, power, across = change + parts[0], power + parts[1], across + parts[2]
        count += parts[3]
    return Score(candidate, change, power, across / count if count else np.inf, count)


def verdict(
    best: Score, scores: Sequence[Score], noise: float, least: float, nothing: str
) -> HeldOutChoice:
    """Return the choice of the best solve, or of none where it is not significant.

    Parameters
    ----------
    best : Score
    scores : sequence of Score
        Of all that were tried.
    noise : float
        As in `HeldOutChoice`.
    least : float
        The significance asked for, sigma.
    nothing : str
        What it means that none is significant.
    """
    sigma = best.significance(noise)
    if not sigma >= least:
        reason = (
            f"{nothing} (the best of them, {best.candidate}, change chi2 by {-sigma:+.1f} sigma; a"
            f" fall of {least:.3g} sigma is asked for)"
        )
        return HeldOutChoice(None, reason, tuple(scores), noise, sigma)
    reason = (
        f"{best.candidate}: these predict the held-out baselines best (chi2 falls by"
        f" {sigma:.0f} sigma)"
    )
    return HeldOutChoice(best.candidate, reason, tuple(scores), noise, sigma)
