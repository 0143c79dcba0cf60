"""Solves that leave baselines out, fold by fold, and what they predict for those.

Baselines are held out in turn, a share of each antenna's, so that every antenna is solved in
every fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from libs.gains.delay import DelayFit, solve_delays
from libs.gains.frequency_blocks import merge_blocks, spw_groups
from libs.gains.kernels import AMPLITUDE, BOTH, PHASE
from libs.gains.native_solve import MAX_ITERATIONS
from libs.gains.normal_equations import NormalEquations
from libs.gains.referencing import refant_choices, reference_phases
from libs.gains.solution_interval import PER_SCAN, SolutionInterval
from libs.gains.solver import Solution
from libs.gains.tec import solve_tec
from libs.gains.two_factors import FACTORS, fit_two_factors
from libs.heldout import kernels

__all__ = [
    "FOLDS",
    "MODE",
    "SOLVED_BY_WINDOW",
    "TOLERANCE",
    "Candidate",
    "FoldFits",
    "folds_of",
    "solve_stages_without",
    "solve_without",
]

FOLDS = 8
# Gains are told by the noise of the data; solutions need not be much better than that.
TOLERANCE = 1e-5
MOST_GAIN_BYTES = 48 * 1024**2
_SOLVED_FOR = {"p": "phases", "a": "amplitudes", "ap": "amplitudes and phases"}
# Starting from those of all baselines, constants settle in two or three rounds where the data tell
# them; on noise they never do.
_ROUNDS_OF_A_FOLD = 6
MODE = {"p": PHASE, "a": AMPLITUDE, "ap": BOTH}


SOLVED_BY_WINDOW = ("gain", "constants+phase")
"""Solutions that need no more than the sums over whole windows."""

_SOLUTIONS = {
    "tec": "a TEC", "tec+phase": "a TEC and a phase",
    "delay+phase": "a delay and a phase of each spectral window",
    "constants+phase": "a constant of each window and polarization beneath a common phase",
    "constant_delay+phase": "a constant delay of each window and polarization beneath a common"
    " phase",
    "delay+tec": "a constant delay of each window and polarization beneath a TEC",
}  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A way to solve.

    Attributes
    ----------
    interval : SolutionInterval
        In seconds also where that is an integration's length, or one per scan.
    combine_scan, combine_spw : bool
        One solution for all scans, for all spectral windows.
    gaintype : str
        ``T`` or ``G``.
    calmode : str
        ``p``, ``a`` or ``ap``.
    solution : str
        ``gain``; ``tec`` or ``tec+phase``, for the whole band; ``delay+phase``, of each window;
        ``constants+phase``, constants of each window and polarization and a common phase;
        ``constant_delay+phase``, ``delay+tec``, constant delays and a common phase or TEC;
        ``bandpass``, relative gains of each block.
    channels_per_block : int
        Width of the frequency blocks of the normal equations; 0: one block each spectral window.
    """

    interval: SolutionInterval
    combine_scan: bool = False
    combine_spw: bool = True
    gaintype: Literal["G", "T"] = "T"
    calmode: Literal["p", "a", "ap"] = "p"
    solution: Solution = "gain"
    channels_per_block: int = 0

    def __str__(self) -> str:
        length = "one for all scans" if self.combine_scan else str(self.interval)
        windows = "all spectral windows together" if self.combine_spw else "each spectral window"
        if self.channels_per_block:
            windows = f"each block of {self.channels_per_block} channels"
        if self.solution in FACTORS:
            return f"{_SOLVED_FOR[self.calmode]}, {length}, {_SOLUTIONS[self.solution]}"
        if self.solution == "bandpass":
            number = self.channels_per_block
            windows = f"a bandpass of {'each channel' if number == 1 else f'{number} channels'}"
        elif self.solution != "gain":
            windows = _SOLUTIONS[self.solution]
        hands = "both polarizations together" if self.gaintype == "T" else "each polarization"
        return f"{_SOLVED_FOR[self.calmode]}, {length}, {hands}, {windows}"


def folds_of(
    antenna1: NDArray[np.int64], antenna2: NDArray[np.int64], folds: int = FOLDS
) -> NDArray[np.int64]:
    """Return the fold in which each baseline is held out.

    Baseline (p, q) belongs to fold (p + q) mod n: each antenna then loses in each fold the same
    share of its baselines, one in n, within less than two baselines.
    """
    return np.asarray((antenna1 + antenna2) % folds, dtype=np.int64)


def _longer(equations: NormalEquations, candidate: Candidate) -> NormalEquations:
    if candidate.combine_scan:
        return equations.binned(PER_SCAN, combine_scan=True)
    # a hair less than a whole number of integrations still holds that many
    return equations.binned(SolutionInterval(candidate.interval.seconds * 0.999))


@dataclass(frozen=True)
class FoldFits:
    """Solves of some folds, each without the baselines it holds out.

    Attributes
    ----------
    time_s : (nlong,) float64
        Of the intervals solved for.
    held_out : (nbl,) int64
        Which of the folds here holds a baseline out, -1 for none of them.
    place : (nblock,) int64
        The frequency of the gains that belongs to each block of the equations.
    gain : (nfold, nlong, nfreq, nant, ngain) complex128
    good : same shape, bool
    """

    time_s: NDArray[np.float64]
    held_out: NDArray[np.int64]
    place: NDArray[np.int64]
    gain: NDArray[np.complex128]
    good: NDArray[np.bool_]

    def _between(
        self, wanted_s: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Intervals before and after each time, and its place between; edges hold the nearest."""
        last = len(self.time_s) - 1
        right = np.clip(np.searchsorted(self.time_s, wanted_s), min(1, last), last)
        left = np.maximum(right - 1, 0)
        span = self.time_s[right] - self.time_s[left]
        share = np.clip((wanted_s - self.time_s[left]) / np.where(span > 0, span, 1), 0, 1)
        return left, right, np.where(span > 0, share, 0.0)

    def predict(self, equations: NormalEquations) -> tuple[float, float, float, int]:
        """Fall of chi2 of the baselines held out, sum of W |G - 1|^2, what is across, their number.

        What is across is the chi2 of the parts of the visibilities at right angles to the phases
        predicted.
        """
        ntime = len(equations.time_s)
        fall, power, across = (np.zeros(ntime) for _ in range(3))
        count = np.zeros(ntime, np.int64)
        kernels.predict_folds(
            equations.vis, equations.weight, *self._between(equations.time_s), self.gain,
            self.good, self.place, self.held_out, equations.antenna1, equations.antenna2,
            fall, power, across, count,
        )  # fmt: skip
        return float(fall.sum()), float(power.sum()), float(across.sum()), int(count.sum())

    def multiplied(self, equations: NormalEquations, fold: int) -> NormalEquations:
        """Return the normal equations of the model multiplied by one fold's gains.

        Visibilities of antennas without a gain are left out.

        Parameters
        ----------
        equations : NormalEquations
        fold : int
            Number of the fold among those here.
        """
        mine = slice(fold, fold + 1)
        at = kernels.gains_at_times(
            *self._between(equations.time_s), self.gain[mine], self.good[mine]
        )[:, 0, self.place]
        gain = at[:, :, equations.antenna1] * at[:, :, equations.antenna2].conj()
        return replace(
            equations, vis=equations.vis * gain.conj(), weight=equations.weight * np.abs(gain) ** 2
        )

    def project(
        self, equations: NormalEquations
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float, int]:
        """(ntime, nbl) sums of w Re(V conj(G M)) and w |G M|^2; what is across, their number."""
        shape = (len(equations.time_s), len(equations.antenna1))
        inner, norm, across = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])
        count = np.zeros(shape[0], np.int64)
        kernels.project_folds(
            equations.vis, equations.weight, *self._between(equations.time_s), self.gain,
            self.good, self.place, self.held_out, equations.antenna1, equations.antenna2,
            inner, norm, across, count,
        )  # fmt: skip
        return inner, norm, float(across.sum()), int(count.sum())


def solve_without(
    equations: NormalEquations,
    candidate: Candidate,
    refants: Sequence[int],
    minblperant: int,
    folds: int = FOLDS,
) -> Iterator[FoldFits]:
    """Solve once for each fold, without its baselines, as many folds at a time as memory allows.

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
    """
    longer = _longer(equations, candidate)
    fold = folds_of(equations.antenna1, equations.antenna2, folds)
    shape = _gain_shape(longer, candidate)
    step = max(1, int(MOST_GAIN_BYTES // (24 * np.prod(shape))))
    for low in range(0, folds, step):
        number = np.where((fold >= low) & (fold < low + step), fold - low, -1)
        size = min(step, folds - low)
        yield _solver_of(candidate)(longer, candidate, refants, minblperant, number, size)


def solve_stages_without(
    equations: NormalEquations,
    candidates: Sequence[Candidate],
    refants: Sequence[int],
    minblperant: int,
    folds: int = FOLDS,
) -> Iterator[tuple[NormalEquations, FoldFits]]:
    """Solve for gains on top of others, all of them without the baselines that a fold holds out.

    Parameters
    ----------
    equations : NormalEquations
        At the shortest interval.
    candidates : sequence of Candidate
        In the order in which they are solved for and applied.
    refants, minblperant, folds
        As for `solve_without`.

    Yields
    ------
    NormalEquations
        Of the model with all gains but the last.
    FoldFits
        The last of them.
    """
    first, *others = candidates
    for fits in solve_without(equations, first, refants, minblperant, folds):
        if not others:
            yield equations, fits
            continue
        for number in np.unique(fits.held_out[fits.held_out >= 0]):
            alone = np.where(fits.held_out == number, 0, -1)
            used, own = fits.multiplied(equations, int(number)), fits
            for place, candidate in enumerate(others, start=1):
                own = _solver_of(candidate)(
                    _longer(used, candidate), candidate, refants, minblperant, alone, 1
                )
                if place < len(others):
                    used = own.multiplied(used, 0)
            yield used, own


def _solver_of(candidate: Candidate) -> Callable[..., FoldFits]:
    """Return the function that solves for the gains of a candidate, fold by fold."""
    other = _two_factor_folds if candidate.solution in FACTORS else _tec_folds
    return {"gain": _gain_folds, "delay+phase": _delay_folds}.get(candidate.solution, other)


def _gain_shape(longer: NormalEquations, candidate: Candidate) -> tuple[int, int, int, int]:
    """(nlong, nfreq, nant, ngain) of the gains of one fold."""
    ngain = len(longer.polarization) if candidate.gaintype == "G" else 1
    blocks = 1 if candidate.combine_spw else len(longer.spw)
    return len(longer.time_s), blocks, len(longer.antenna), ngain


def _gain_folds(
    longer: NormalEquations,
    candidate: Candidate,
    refants: Sequence[int],
    minblperant: int,
    held_out: NDArray[np.int64],
    folds: int,
) -> FoldFits:
    """Gains of each fold, referenced."""
    place = np.arange(len(longer.spw)) if candidate.channels_per_block else spw_groups(longer.spw)
    blocks = merge_blocks(longer, place)
    shape = (folds, *_gain_shape(blocks, candidate))
    gain, solved = np.ones(shape, np.complex128), np.zeros(shape, bool)
    order = np.array(list(dict.fromkeys([*refants, *range(shape[3])])), np.int64)
    kernels.solve_folds(
        blocks.vis, blocks.weight, held_out, blocks.antenna1, blocks.antenna2, order,
        MODE[candidate.calmode], candidate.gaintype == "T", candidate.combine_spw, minblperant,
        MAX_ITERATIONS, TOLERANCE, gain, solved,
    )  # fmt: skip
    if candidate.combine_spw:
        place = np.zeros_like(place)
    _reference(gain, solved, longer, candidate, refants)
    return FoldFits(longer.time_s, held_out, place, gain, solved)


def _tec_folds(
    longer: NormalEquations,
    candidate: Candidate,
    refants: Sequence[int],
    minblperant: int,
    held_out: NDArray[np.int64],
    folds: int,
) -> FoldFits:
    """Gains that the TECs of each fold make of the blocks, referenced."""
    gains, goods = [], []
    for number in range(folds):
        tec = solve_tec(
            longer.vis, longer.weight, longer.antenna1, longer.antenna2, len(longer.antenna),
            longer.frequency_hz, with_phase=candidate.solution == "tec+phase",
            gaintype=candidate.gaintype, minblperant=minblperant, minsnr=0.0,
            baseline_mask=held_out != number,
        )  # fmt: skip
        gains.append(tec.gain(longer.frequency_hz))
        goods.append(np.broadcast_to(~tec.flag[:, None], gains[-1].shape))
    gain, good = np.stack(gains), np.stack(goods)
    _reference(gain, good, longer, candidate, refants)
    return FoldFits(longer.time_s, held_out, np.arange(len(longer.spw)), gain, good)


def _delay_folds(
    longer: NormalEquations,
    candidate: Candidate,
    refants: Sequence[int],
    minblperant: int,
    held_out: NDArray[np.int64],
    folds: int,
) -> FoldFits:
    """Gains that the delays of each fold make of the blocks, referenced.

    The search over all delays is made once, with all baselines; each fold refines what it found
    without its own.
    """
    nant, ngain = len(longer.antenna), 1 if candidate.gaintype == "T" else longer.vis.shape[3]
    shape = (folds, len(longer.time_s), len(longer.spw), nant, ngain)
    gain, good = np.ones(shape, np.complex128), np.zeros(shape, bool)
    for spw in np.unique(longer.spw):
        mine = longer.spw == spw

        def solved(mine: NDArray[np.bool_] = mine, **how: Any) -> DelayFit:
            return solve_delays(
                longer.vis[:, mine], longer.weight[:, mine], longer.antenna1, longer.antenna2,
                nant, longer.frequency_hz[mine], gaintype=candidate.gaintype,
                minblperant=minblperant, minsnr=0.0, **how,
            )  # fmt: skip

        whole = solved()
        for number in range(folds):
            fit = solved(baseline_mask=held_out != number, start=whole)
            gain[number][:, mine] = fit.gain(longer.frequency_hz[mine])[..., :ngain]
            good[number][:, mine] = ~fit.flag[:, None, :, :ngain]
    _reference(gain, good, longer, candidate, refants)
    return FoldFits(longer.time_s, held_out, np.arange(len(longer.spw)), gain, good)


def _two_factor_folds(
    longer: NormalEquations,
    candidate: Candidate,
    refants: Sequence[int],
    minblperant: int,
    held_out: NDArray[np.int64],
    folds: int,
) -> FoldFits:
    """Products of constants and common factors of each fold, referenced.

    Each fold starts from the constants of all baselines, as the search for delays does.
    """
    constant, common = FACTORS[candidate.solution]
    how: dict[str, Any] = {
        "minblperant": minblperant, "guess_from": refants, "constant": constant, "common": common
    }  # fmt: skip
    place = spw_groups(longer.spw) if constant == "phase" else np.arange(len(longer.spw))
    blocks = merge_blocks(longer, place)
    whole = fit_two_factors(blocks, **how)
    parts = [
        fit_two_factors(
            blocks,
            baseline_mask=held_out != number,
            start=whole,
            most_rounds=_ROUNDS_OF_A_FOLD,
            **how,
        )
        for number in range(folds)
    ]
    gain, good = np.stack([fit.gain for fit in parts]), np.stack([~fit.flag for fit in parts])
    _reference(gain, good, longer, candidate, refants)
    return FoldFits(longer.time_s, held_out, place, gain, good)


def _reference(
    gain: NDArray[np.complex128],
    good: NDArray[np.bool_],
    longer: NormalEquations,
    candidate: Candidate,
    refants: Sequence[int],
) -> None:
    """Reference the phases of every fold in place, so that they can be interpolated."""
    for one, known in zip(gain, good, strict=True):
        choices = refant_choices(list(refants), longer.position_m, ~known)
        one[:], flag, _ = reference_phases(one, ~known, choices, candidate.calmode)
        known[:] = ~flag
