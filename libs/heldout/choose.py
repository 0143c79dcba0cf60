"""Choosing how to solve by how well gains predict visibilities that took no part in the solve.

Baselines are held out in turn, a share of each antenna's, so that every antenna is solved in
every fold. The gains of the others, interpolated as they would be applied, predict the
visibilities held out; the fall of chi2 against no gains at all is the score. An interval too
long misses the changes of the gains, one too short predicts noise; both lower the score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from libs.gains.frequency_blocks import merge_blocks, spw_groups, tec_distinguishable
from libs.gains.normal_equations import NormalEquations
from libs.gains.solution_interval import PER_SCAN, SolutionInterval
from libs.gains.solver import Solution
from libs.gains.two_factors import FACTORS
from libs.heldout.folds import SOLVED_BY_WINDOW, Candidate, folds_of
from libs.heldout.interval_ladder import interval_ladder, own_ladder
from libs.heldout.scores import HeldOutChoice, Score, score_candidate, verdict

__all__ = [
    "Candidate",
    "choose_solve",
    "folds_of",
    "interval_ladder",
    "own_ladder",
]

# sigma that the best candidate must reach for any gains to be trusted. Where a source is seen,
# gains that follow noise predict worse, not no better, and 1000 sets of noise stay below 0.8; where
# there is none, a wrong model's gains are as good as no gains, and the best of a ladder of solves
# reaches more (python -m benchmarks.false_alarms). Of gains that reached 2 sigma all were in truth
# better than none (python -m benchmarks.held_out_power)
SIGNIFICANCE = 3.0
# the same for delays, which are sought over many places: of 30 sets of noise one reached 3.3
DELAY_SIGNIFICANCE = 5.0
# the same for constants, whose folds start from those of all baselines: of 60 sets one reached 3.1
CONSTANTS_SIGNIFICANCE = 5.0
LEAST_BLOCKS = 4  # of each spectral window, for a delay and a phase of it
ADVANTAGE = 2.0  # sigma by which one model of the sky must beat another
# Error bounds by which a more flexible solve must beat a plainer one. Most of the noise of two
# solves of the same data is common, so that the bound is several errors of their difference.
FLEXIBLE = 1.5


def choose_solve(
    equations: NormalEquations,
    *,
    calmode: Literal["p", "a", "ap"] = "p",
    refants: Sequence[int] = (),
    minblperant: int = 4,
    ladder: Sequence[SolutionInterval] = (),
    channels_per_block: int = 0,
    solution: Solution | Literal["auto"] = "auto",
    progress: Callable[[str], None] | None = None,
) -> HeldOutChoice:
    """Return how to solve: interval, spectral windows together or apart, polarizations alike.

    First the ladder of intervals with all windows and polarizations in one solution, the form
    that stands the most noise; then windows and polarizations apart, on the ladder from the best
    interval on, taken only when they predict better by more than chance. Last, for phases
    and blocks finer than a window: phases of each block, around the best interval so far, or on
    all where one phase for the band failed at every one; a TEC where the band is wide
    enough to show it, which has fewer unknowns than phases of each window or block and therefore
    wins when it is as good; a TEC with a constant phase; constant delays beneath a TEC. Where
    a TEC cannot be told, delays and phases of windows: constant beneath a common phase, or on
    every interval.

    Parameters
    ----------
    equations : NormalEquations
        At the shortest interval.
    calmode : str
    refants : sequence of int
    minblperant : int
    ladder : sequence of SolutionInterval
        Intervals to try, shortest first; default `interval_ladder` of the data.
    channels_per_block : int
        Width of the frequency blocks of ``equations``; 0: one each spectral window.
    solution : str
        ``auto``, or the only one to try.
    progress : callable, optional
        Told each candidate.

    Returns
    -------
    HeldOutChoice
        ``best`` is None when no candidate lowers chi2 significantly: the source is too faint, or
        there is nothing left to correct.
    """
    scores: list[Score] = []
    windows = merge_blocks(equations, spw_groups(equations.spw))

    def tried(candidates: Iterable[Candidate]) -> list[Score]:
        new = []
        for candidate in candidates:
            if progress:
                progress(f"held-out data: {candidate}")
            fine = candidate.solution not in SOLVED_BY_WINDOW or candidate.channels_per_block
            new.append(
                score_candidate(
                    equations if fine else windows, candidate, refants=refants,
                    minblperant=minblperant,
                )
            )  # fmt: skip
        scores.extend(new)
        return new

    steps = list(ladder) or own_ladder(equations)
    plain = [Candidate(step, calmode=calmode) for step in steps]
    if len(np.unique(equations.scan)) > 1:
        plain.append(Candidate(PER_SCAN, combine_scan=True, calmode=calmode))
    if solution != "auto" and solution in FACTORS:
        blocks = 0 if solution in SOLVED_BY_WINDOW else channels_per_block
        plain = [two_factors(one, solution, blocks) for one in plain]
    elif solution in ("tec", "tec+phase", "delay+phase"):
        plain = [
            replace(one, solution=solution, combine_spw=False,
                    channels_per_block=channels_per_block)
            for one in plain
        ]  # fmt: skip
    best = max(tried(plain), key=lambda score: score.fall)
    if solution in ("auto", "gain"):
        best = _freed(equations, best, scores, plain, tried)
    if calmode == "p" and solution == "auto":
        best = _by_constants(equations, best, scores, plain, tried)
    if calmode == "p" and solution in ("auto", "gain"):
        solutions = ("tec", "tec+phase") if solution == "auto" else ()
        best = _by_frequency(equations, best, scores, plain, channels_per_block, solutions, tried)
        if solution == "auto":
            best = _by_delay_and_tec(equations, best, scores, plain, channels_per_block, tried)
        if solution == "auto":
            best = _by_delay(equations, best, scores, plain, channels_per_block, tried)
    nothing = (
        "nothing was solved for: gains do not predict the held-out baselines better than no gains"
        " do"
    )
    return verdict(best, scores, _noise(scores), SIGNIFICANCE, nothing)


def _noise(scores: Sequence[Score]) -> float:
    """The lowest noise that solves found, but for those whose folds share a start.

    These are not quite independent of what they leave out, which lowers their noise.
    """
    others = [one.noise for one in scores if one.candidate.solution not in FACTORS]
    return min(others or [one.noise for one in scores])


def _surely(scores: Sequence[Score]) -> Callable[[Score], bool]:
    """Return the test whether a solve is worth trusting, by the noise that solves found so far."""
    return lambda score: score.significance(_noise(scores)) > SIGNIFICANCE


def two_factors(
    candidate: Candidate, solution: Solution = "constants+phase", channels_per_block: int = 0
) -> Candidate:
    """Return the solve for constants of windows and polarizations beneath a common factor."""
    return replace(
        candidate, solution=solution, combine_spw=False, gaintype="G",
        channels_per_block=channels_per_block,
    )  # fmt: skip


def _by_constants(
    equations: NormalEquations,
    best: Score,
    scores: Sequence[Score],
    plain: Sequence[Candidate],
    tried: Callable[[Iterable[Candidate]], list[Score]],
) -> Score:
    """Return the best solve for constants beneath a common phase, if it beats the best so far.

    It has a few unknowns more than one phase for all, and many fewer than phases of each window or
    polarization, before which it therefore wins when it is as good.
    """
    if len(equations.polarization) * len(np.unique(equations.spw)) < 2:
        return best

    sure = _surely(scores)
    near = _summit([two_factors(one) for one in plain], best, sure, tried)
    noise = _noise(scores)
    freed = best.candidate.gaintype == "G" or not best.candidate.combine_spw
    margin = FLEXIBLE * max(near.error(noise), best.error(noise))
    if not near.significance(noise) > CONSTANTS_SIGNIFICANCE:
        return best
    return near if near.fall - best.fall > (-margin if freed else margin) else best


def _by_frequency(
    equations: NormalEquations,
    best: Score,
    scores: Sequence[Score],
    plain: Sequence[Candidate],
    channels_per_block: int,
    solutions: Sequence[str],
    tried: Callable[[Iterable[Candidate]], list[Score]],
) -> Score:
    """Return the best of phases of each block and TECs, if it beats the best so far."""
    sure = _surely(scores)

    def better(score: Score, by: float) -> Score:
        noise = _noise(scores)
        margin = by * max(score.error(noise), best.error(noise))
        return score if score.fall - best.fall > margin else best

    def top(near: Score, **change: object) -> Score:
        forms = [replace(one, gaintype=gaintype, **change) for one in plain]  # type: ignore[arg-type]
        return _summit(forms, near, sure, tried)

    gaintype = best.candidate.gaintype
    wide = {"combine_spw": False, "channels_per_block": channels_per_block}
    near = best
    if channels_per_block and len(equations.spw) > len(np.unique(equations.spw)):
        near = top(near, **wide)
        best = better(near, FLEXIBLE)
    blocks = len(np.unique(equations.frequency_hz))
    if blocks < 3 or not tec_distinguishable(equations.frequency_hz):
        return best
    for solution in solutions:
        plainer = best.candidate.solution == "gain" and not best.candidate.combine_spw
        near = top(near if sure(near) else best, solution=solution, **wide)
        best = better(near, -FLEXIBLE if plainer else FLEXIBLE)
    return best


def _by_delay(
    equations: NormalEquations,
    best: Score,
    scores: Sequence[Score],
    plain: Sequence[Candidate],
    channels_per_block: int,
    tried: Callable[[Iterable[Candidate]], list[Score]],
) -> Score:
    """Return the best solve for delays and phases of windows, if it beats the best so far.

    Constant delays beneath a common phase have the fewest unknowns: delays and phases of windows
    on every interval must beat them. The unknowns of these are fewer than those of phases of each
    block, more than those of other forms.
    """
    blocks = np.unique(equations.spw, return_counts=True)[1]
    if not channels_per_block or blocks.min() < LEAST_BLOCKS:
        return best
    if tec_distinguishable(equations.frequency_hz):
        return best  # what goes with frequency there is the ionosphere's

    sure = _surely(scores)
    forms = [
        replace(one, gaintype=gaintype, solution="delay+phase", combine_spw=False,
                channels_per_block=channels_per_block)
        for gaintype in ("T", "G") for one in plain
    ]  # fmt: skip
    constant = [two_factors(one, "constant_delay+phase", channels_per_block) for one in plain]
    near = _summit(constant, best, sure, tried)
    half = len(plain)
    start = near if sure(near) else best
    tops = [_summit(forms[k : k + half], start, sure, tried) for k in (0, half)]
    noise = _noise(scores)

    def beats(score: Score, other: Score, by: float) -> bool:
        return score.fall - other.fall > by * max(score.error(noise), other.error(noise))

    for top in tops:
        near = top if beats(top, near, FLEXIBLE) else near
    if not near.significance(noise) > DELAY_SIGNIFICANCE:
        return best
    of_blocks = best.candidate.solution == "gain" and best.candidate.channels_per_block
    return near if beats(near, best, -FLEXIBLE if of_blocks else FLEXIBLE) else best


def _by_delay_and_tec(
    equations: NormalEquations,
    best: Score,
    scores: Sequence[Score],
    plain: Sequence[Candidate],
    channels_per_block: int,
    tried: Callable[[Iterable[Candidate]], list[Score]],
) -> Score:
    """Return the best solve for constant delays beneath TECs, if it beats the best so far.

    Stations' clocks are told from the ionosphere by how phases go with frequency. On an interval it
    has fewer unknowns than a TEC and a phase, or than phases of blocks, and need be no worse than
    these. It must be better than a TEC alone, or there are no clocks, and than the same delays
    beneath a phase, or there is no TEC: then these are the best.
    """
    blocks = np.unique(equations.spw, return_counts=True)[1]
    if not channels_per_block or blocks.min() < LEAST_BLOCKS:
        return best
    if best.candidate.combine_spw or not tec_distinguishable(equations.frequency_hz):
        return best

    sure = _surely(scores)
    forms = [two_factors(one, "delay+tec", channels_per_block) for one in plain]
    near = _summit(forms, best, sure, tried)
    noise = _noise(scores)
    if not near.significance(noise) > CONSTANTS_SIGNIFICANCE:
        return best
    margin = FLEXIBLE * max(near.error(noise), best.error(noise))
    as_good = best.candidate.solution != "tec"
    if not near.fall - best.fall > (-margin if as_good else margin):
        return best
    forms = [two_factors(one, "constant_delay+phase", channels_per_block) for one in plain]
    calm = _summit(forms, near, sure, tried)
    return near if near.fall - calm.fall > margin else calm


def _summit(
    forms: Sequence[Candidate],
    near: Score,
    sure: Callable[[Score], bool],
    tried: Callable[[Iterable[Candidate]], list[Score]],
) -> Score:
    """The best of one form of solve on a ladder of intervals, the shortest first.

    The score rises with the interval to one maximum and falls again, and the maximum of one form
    lies near that of another: so from there to shorter intervals while they are better, then to
    longer ones. Without a form that is above the noise all intervals are tried.
    """
    found: dict[int, Score] = {}

    def at(number: int) -> Score:
        if number not in found:
            found[number] = tried([forms[number]])[0]
        return found[number]

    if sure(near):
        intervals = [(one.interval, one.combine_scan) for one in forms]
        here = intervals.index((near.candidate.interval, near.candidate.combine_scan))
        for step in (-1, 1):
            while 0 <= here + step < len(forms) and at(here + step).fall > at(here).fall:
                here += step
        if sure(at(here)):
            return at(here)
    best = at(0)
    for number in range(1, len(forms)):
        best = max(at(number), best, key=lambda score: score.fall)
        # well past the best interval, longer ones only get worse
        last = max(at(number).fall, at(number - 1).fall)
        if sure(best) and number > 1 and last < 0.5 * best.fall:
            break
    return max(found.values(), key=lambda score: score.fall)


def _freed(
    equations: NormalEquations,
    best: Score,
    scores: Sequence[Score],
    plain: Sequence[Candidate],
    tried: Callable[[Iterable[Candidate]], list[Score]],
) -> Score:
    """Return the best of solves with polarizations, windows or both apart, if any beats the best.

    Hands or windows that differ make one solution for all of them poor at any interval, so the
    interval that was best for it says little: each form finds its own.
    """
    sure = _surely(scores)

    def better(best: Score, **change: object) -> Score:
        forms = [replace(one, **change) for one in plain]  # type: ignore[arg-type]
        freer = _summit(forms, best, sure, tried)
        noise = _noise(scores)
        margin = FLEXIBLE * max(freer.error(noise), best.error(noise))
        return freer if freer.fall - best.fall > margin else best

    hands, windows = len(equations.polarization) > 1, len(np.unique(equations.spw)) > 1
    if hands:
        best = better(best, gaintype="G")
    if windows:
        best = better(best, gaintype=best.candidate.gaintype, combine_spw=False)
    if hands and windows and not sure(best):
        best = better(best, gaintype="G", combine_spw=False)
    return best
