"""Whether amplitudes are worth solving for, by baselines that took no part in the solve.

An amplitude solve has phases in it, which may help or harm on their own, on top of those that
were solved before. What speaks for amplitudes is therefore by how much a solve for amplitudes and
phases predicts better than one for phases alone of the same form: interval, polarizations and
spectral windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from libs.heldout.choose import SIGNIFICANCE
from libs.heldout.folds import Candidate
from libs.heldout.scores import FOLD_SCATTER, HeldOutChoice, Score

__all__ = ["amplitudes_worth_it"]

_MOST_FORMS = 6  # of the best amplitude solves that are set beside phase solves


def amplitudes_worth_it(
    amplitude: HeldOutChoice, score: Callable[[Candidate], Score]
) -> HeldOutChoice:
    """Return the amplitude solve that adds most to phases, or none where nothing is added surely.

    Parameters
    ----------
    amplitude : HeldOutChoice
        Of solves for amplitudes, with phases or without.
    score : callable
        Function that scores a candidate.
    """
    useful = sorted(amplitude.scores, key=lambda one: one.fall, reverse=True)[:_MOST_FORMS]
    pairs = [(one, score(replace(one.candidate, calmode="p"))) for one in useful]
    scores = (*(phases for _, phases in pairs), *amplitude.scores)
    noise = min(one.noise for one in scores)

    def added(pair: tuple[Score, Score]) -> float:
        """Fall of chi2 by amplitudes, in units of its error; where phases harm, by both."""
        both, phases = pair
        error = FOLD_SCATTER * max(both.error(noise), phases.error(noise))
        return (both.fall - max(phases.fall, 0.0)) / error if error > 0 else 0.0

    pair = max(pairs, key=lambda pair: pair[0].fall - max(pair[1].fall, 0.0))
    best, sigma = pair[0], added(pair)
    if not sigma >= SIGNIFICANCE:
        reason = (
            "amplitudes were not solved for: they predict the held-out baselines no better than"
            f" phases alone do (the best of them, {best.candidate}, change chi2 by {-sigma:+.1f}"
            f" sigma; a fall of {SIGNIFICANCE:.3g} sigma is asked for)"
        )
        return HeldOutChoice(None, reason, scores, noise, sigma)
    reason = (
        f"{best.candidate}: amplitudes predict the held-out baselines better than such phases"
        f" alone (chi2 falls by {sigma:.0f} sigma)"
    )
    return HeldOutChoice(best.candidate, reason, scores, noise, sigma)
