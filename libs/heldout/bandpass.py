"""Bandpasses chosen by how well they predict visibilities that took no part in the solve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from libs.gains.frequency_blocks import merge_blocks
from libs.gains.native_solve import MAX_ITERATIONS
from libs.gains.normal_equations import NormalEquations
from libs.gains.referencing import refant_choices, reference_phases
from libs.gains.relative_bandpass import block_groups, made_relative
from libs.gains.solution_interval import PER_SCAN
from libs.heldout import kernels
from libs.heldout.choose import FLEXIBLE
from libs.heldout.folds import FOLDS, MODE, TOLERANCE, Candidate, FoldFits, folds_of
from libs.heldout.scores import HeldOutChoice, Score, verdict

__all__ = ["BANDPASS_SIGNIFICANCE", "choose_bandpass"]

BANDPASS_SIGNIFICANCE = 5.0
"""Sigma that the best of many forms of bandpasses must reach to be trusted."""


@dataclass(frozen=True)
class _Trials:
    """The candidates of one working copy and their scores."""

    equations: NormalEquations
    block: int
    refants: Sequence[int]
    minblperant: int
    progress: Callable[[str], None] | None
    scores: list[Score]

    def score(self, candidate: Candidate) -> Score:
        if self.progress:
            self.progress(f"held-out data: {candidate}")
        fits = self._solved(candidate)
        change, power, across, count = fits.predict(self.equations)
        found = Score(candidate, change, power, across / count if count else np.inf, count)
        self.scores.append(found)
        return found

    def _solved(self, candidate: Candidate) -> FoldFits:
        """Relative bandpasses of each fold, solved without the baselines that it holds out."""
        one = self.equations
        longer = one.binned(PER_SCAN, combine_scan=candidate.combine_scan)
        place = block_groups(one.spw, candidate.channels_per_block // self.block)
        blocks = merge_blocks(longer, place)
        ngain = len(one.polarization) if candidate.gaintype == "G" else 1
        shape = (FOLDS, len(blocks.time_s), len(blocks.spw), len(one.antenna), ngain)
        gain, good = np.ones(shape, np.complex128), np.zeros(shape, bool)
        held_out = folds_of(one.antenna1, one.antenna2)
        order = np.array(list(dict.fromkeys([*self.refants, *range(shape[3])])), np.int64)
        kernels.solve_folds(
            blocks.vis, blocks.weight, held_out, one.antenna1, one.antenna2, order,
            MODE[candidate.calmode], candidate.gaintype == "T", False, self.minblperant,
            MAX_ITERATIONS, TOLERANCE, gain, good,
        )  # fmt: skip
        for own, known in zip(gain, good, strict=True):
            choices = refant_choices(list(self.refants), one.position_m, ~known)
            turned, flag, _ = reference_phases(own, ~known, choices, candidate.calmode)
            own[:] = made_relative(turned, ~flag, blocks.spw)
            known[:] = ~flag
        return FoldFits(blocks.time_s, held_out, place, gain, good)


def choose_bandpass(
    equations: NormalEquations,
    *,
    block: int = 1,
    calmodes: Sequence[str] = ("ap", "p"),
    refants: Sequence[int] = (),
    minblperant: int = 4,
    progress: Callable[[str], None] | None = None,
) -> HeldOutChoice:
    """Return how to solve for bandpasses, or that there are none to be seen.

    The widths of blocks are tried first, twice as wide each time, with one bandpass for all scans,
    amplitudes and phases of each polarization. Then plainer solves, which win when they are as
    good: phases alone, both polarizations together. Last one bandpass for each scan, which must
    predict better by more than chance.

    Parameters
    ----------
    equations : NormalEquations
        At one interval per scan, or one for all scans, of blocks of ``block`` channels.
    block : int
    calmodes : sequence of str
        What may be solved for: the first, or others that are plainer.
    refants : sequence of int
        Antennas in order of preference, to reference the phases to.
    minblperant : int
        Fewest baselines of an antenna.
    progress : callable, optional
        Told each candidate.
    """
    trials = _Trials(equations, block, refants, minblperant, progress, [])
    first = Candidate(
        PER_SCAN, combine_scan=True, combine_spw=False, gaintype="G", calmode=calmodes[0],  # type: ignore[arg-type]
        solution="bandpass", channels_per_block=block,
    )  # fmt: skip
    best = max(map(trials.score, _widths(equations, first)), key=lambda score: score.fall)

    def margin(one: Score, other: Score) -> float:
        noise = min(score.noise for score in trials.scores)
        return FLEXIBLE * max(one.error(noise), other.error(noise))

    plainer: list[dict[str, str]] = [{"calmode": mode} for mode in calmodes[1:]]
    if len(equations.polarization) > 1:
        plainer.append({"gaintype": "T"})
    for change in plainer:
        other = trials.score(replace(best.candidate, **change))  # type: ignore[arg-type]
        best = other if other.fall > best.fall - margin(other, best) else best
    if len(np.unique(equations.scan)) > 1:
        other = trials.score(replace(best.candidate, combine_scan=False))
        best = other if other.fall > best.fall + margin(other, best) else best
    noise = min(score.noise for score in trials.scores)
    nothing = (
        "no bandpass was solved for: none predicts the held-out baselines better than no bandpass"
        " does"
    )
    return verdict(best, trials.scores, noise, BANDPASS_SIGNIFICANCE, nothing)


def _widths(equations: NormalEquations, first: Candidate) -> Iterator[Candidate]:
    """The solves in blocks of one, two, four ... as long as the narrowest window has two blocks."""
    least = int(np.unique(equations.spw, return_counts=True)[1].min())
    size = 1
    while 2 * size <= least:
        yield replace(first, channels_per_block=first.channels_per_block * size)
        size *= 2
