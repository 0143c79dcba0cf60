"""Held-out data asked how a round should solve, and whether it should."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.numbers import format_number
from libs.gains.frequency_blocks import (
    channels_for_blocks,
    merge_blocks,
    spw_groups,
    tec_distinguishable,
)
from libs.gains.normal_equations import NormalEquations, accumulate
from libs.gains.solution_interval import PER_INTEGRATION, SolutionInterval
from libs.gains.solver import AppliedTable, SolveOptions
from libs.gains.tec_table import DELAY_SOLUTIONS
from libs.heldout.amplitudes import amplitudes_worth_it
from libs.heldout.choose import Candidate, choose_solve
from libs.heldout.coherence import HeldOutCoherence, held_out_coherence
from libs.heldout.delays import channels_for_delays
from libs.heldout.scores import FOLD_SCATTER, HeldOutChoice, score_candidate
from libs.ms.summary import MsSummary, summarise
from steps.context import Context

__all__ = [
    "HeldOut",
    "ask_held_out",
    "chosen_options",
    "curve",
    "evidence_said",
    "held_out_sigma",
]

MOST_BYTES = 128 * 1024**2
BYTES_PER_SUM = 24  # a complex sum and a real weight
_MOST_ANSWERS = 16
# A round that was refused or left out leaves data and model as they were, and the next asks the
# same again. Answers follow from nothing but the sums, so that a resumed run finds them anew.
_ANSWERED: dict[str, HeldOut] = {}


def shortest_interval(summary: MsSummary, channels_per_block: int = 0) -> SolutionInterval:
    """Return the normal equations' interval: an integration, or more where memory asks for it."""
    baselines = len(summary.antenna) * (len(summary.antenna) - 1) // 2
    integrations = max(1.0, summary.rows / max(1, baselines * len(summary.spws_used)))
    channels = [len(summary.frequency_hz[spw]) for spw in summary.spws_used]
    blocks = sum(-(-count // (channels_per_block or count)) for count in channels)
    size = integrations * baselines * blocks * 2 * BYTES_PER_SUM
    if size <= MOST_BYTES:
        return PER_INTEGRATION
    return SolutionInterval(float(np.ceil(size / MOST_BYTES) * summary.integration_s))


def block_channels(context: Context, summary: MsSummary, calmode: str) -> int:
    """Return the channels a frequency block must have to tell a TEC; 0: windows will do.

    Only phases are solved block by block, only by the native solver, and only where the band
    is wide enough for a TEC to show.
    """
    wanted = int(context.options.get("block", 0))
    channels = [np.asarray(summary.frequency_hz[spw]) for spw in summary.spws_used]
    if calmode != "p" or context.tools.solver.name != "native":
        return 0
    if wanted or not tec_distinguishable(np.concatenate(channels)):
        return wanted
    return channels_for_blocks(channels)


def delay_block(
    context: Context, ms: Path, options: SolveOptions, prior: Sequence[AppliedTable]
) -> int:
    """Channels of a frequency block where the data may hold delays, else 0."""
    if options.calmode != "p" or context.tools.solver.name != "native":
        return 0
    return channels_for_delays(ms, options, prior)


@dataclass(frozen=True)
class HeldOut:
    """What held-out data say of one working copy.

    Attributes
    ----------
    choice : HeldOutChoice
    coherence : HeldOutCoherence or None
        Of the chosen solve, None when there is none; of antennas with a fallback the value is
        that of their longer interval, whose solutions they keep.
    fallback : dict of str to Candidate or None
        For each incoherent antenna the solve of the shortest longer interval at which it is
        coherent; None where there is no such interval. Antennas in phase with neighbours only
        are not among them when there is none: they keep their own solutions.
    longest_m : float
        Longest baseline between two coherent antennas, m.
    """

    choice: HeldOutChoice
    coherence: HeldOutCoherence | None = None
    fallback: dict[str, Candidate | None] = field(default_factory=dict)
    longest_m: float = 0.0


def ask_held_out(
    context: Context, ms: Path, options: SolveOptions, prior: Sequence[AppliedTable]
) -> HeldOut:
    """Return how one working copy should be solved, by its held-out baselines.

    An amplitude solve is chosen only when it predicts better than a phase solve of the same form
    by more than chance.
    """
    summary = summarise(ms)
    block = block_channels(context, summary, options.calmode)
    if not block and context.options.get("solution", "auto") in ("auto", *DELAY_SOLUTIONS):
        block = delay_block(context, ms, options, prior)
    interval = shortest_interval(summary, block)
    equations = accumulate(
        ms,
        replace(options, solint=interval, combine=options.combine & {"field"}),
        prior,
        channels_per_block=block or None,
        corr_dep_flags=True,
    )
    # gaincal knows no TEC
    native = context.tools.solver.name == "native"
    solution: Any = context.options.get("solution", "auto") if native else "gain"
    refants = [
        equations.antenna.index(name) for name in options.refant if name in equations.antenna
    ]
    used = {summary.antenna[i] for i in summary.antennas_used}
    asked = (options.calmode, options.minblperant, block, solution, refants, sorted(used))
    question = _digest(equations, asked)
    if question in _ANSWERED:
        return _ANSWERED[question]

    def ask(calmode: str) -> HeldOutChoice:
        return choose_solve(
            equations,
            calmode=calmode,  # type: ignore[arg-type]
            refants=refants,
            minblperant=options.minblperant,
            channels_per_block=block,
            solution=solution if calmode == "p" else "gain",
            progress=lambda text: context.progress.tick(),
        )

    choice = ask(options.calmode)
    if options.calmode != "p":
        windows = merge_blocks(equations, spw_groups(equations.spw))
        choice = amplitudes_worth_it(
            choice,
            lambda form: score_candidate(
                windows, form, refants=refants, minblperant=options.minblperant
            ),
        )
    found = HeldOut(choice)
    if choice.best is not None:
        found = _with_coherence(equations, choice, refants, options.minblperant, used)
    while len(_ANSWERED) >= _MOST_ANSWERS:
        del _ANSWERED[next(iter(_ANSWERED))]
    _ANSWERED[question] = found
    return found


def _digest(equations: NormalEquations, asked: tuple[object, ...]) -> str:
    """Return a digest of all that an answer depends on."""
    digest = hashlib.blake2b(repr((equations.antenna, asked)).encode())
    for sums in (
        equations.vis, equations.weight, equations.time_s, equations.interval_s, equations.scan,
        equations.frequency_hz, equations.spw,
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(sums).tobytes())
    return digest.hexdigest()


def _with_coherence(
    equations: NormalEquations,
    choice: HeldOutChoice,
    refants: Sequence[int],
    minblperant: int,
    used: Collection[str],
) -> HeldOut:
    """Test every antenna at the chosen interval, the incoherent ones at longer ones too.

    An antenna of ``used``, which has data, but none that the model lets it be tested on is as
    incoherent as one that fails: its coherence is 0.
    """
    best = choice.best
    assert best is not None
    coherence = held_out_coherence(equations, best, refants=refants, minblperant=minblperant)
    values = coherence.coherence.copy()
    lost = {
        name
        for name, good in zip(coherence.antenna, coherence.coherent, strict=True)
        if name in used and not good
    }
    fallback: dict[str, Candidate | None] = dict.fromkeys(sorted(lost))
    longer = {s.candidate.interval for s in choice.scores if s.candidate.interval > best.interval}
    for interval in sorted(longer) if lost else ():
        candidate = replace(best, interval=interval)
        again = held_out_coherence(equations, candidate, refants=refants, minblperant=minblperant)
        for i, (name, good) in enumerate(zip(again.antenna, again.coherent, strict=True)):
            if good and name in lost:
                fallback[name] = candidate
                values[i] = again.coherence[i]
                lost.discard(name)
    for name in lost:
        place = coherence.antenna.index(name)
        values[place] = np.nan_to_num(values[place])
        if name in coherence.apart:
            # gains of 1 would leave the baselines among them as they came, out of phase
            del fallback[name]
    coherence = replace(coherence, coherence=values)
    seen = np.flatnonzero(coherence.coherent)
    apart = equations.position_m[seen][:, None] - equations.position_m[seen][None]
    longest = float(np.linalg.norm(apart, axis=-1).max()) if len(seen) > 1 else 0.0
    return HeldOut(choice, coherence, fallback, longest)


def held_out_sigma(each: Sequence[HeldOut]) -> float:
    """Return how many times its error chi2 of held-out baselines falls with the gains chosen.

    Parameters
    ----------
    each : sequence of HeldOut
        Of the working copies that were solved.

    Returns
    -------
    float
        Negative where it rises; not a number where nothing was held out.
    """
    fall = variance = 0.0
    for choice in (one.choice for one in each):
        for score in choice.scores:
            if score.candidate == choice.best and choice.noise > 0:
                fall += score.fall / choice.noise
                variance += (FOLD_SCATTER * score.error(choice.noise) / choice.noise) ** 2
                break
    return fall / math.sqrt(variance) if variance > 0 else math.nan


def evidence_said(sigma: float, before: tuple[str, float] = ("", math.nan)) -> str:
    """Return in words how much better gains predict baselines held out of the solve.

    Parameters
    ----------
    sigma : float
        As of `held_out_sigma`; not a number: nothing is said.
    before : (str, float), optional
        The round whose gains these would replace, and the same of its gains and model.
    """
    if math.isnan(sigma):
        return ""
    moved = "falls" if sigma >= 0 else "rises"
    said = (
        f"with such gains chi2 of baselines held out of the solve {moved} by"
        f" {format_number(abs(sigma), 3)} times its error"
    )
    name, was = before
    if name and not math.isnan(was):
        said += f" (with model and gains of {name}: {format_number(was, 3)})"
    return said


def chosen_options(options: SolveOptions, best: Candidate, fixed: Sequence[str]) -> SolveOptions:
    """Return the options as held-out data want them; what the user fixed stays."""
    combine = {
        name for name, wanted in (("spw", best.combine_spw), ("scan", best.combine_scan)) if wanted
    }
    changes: dict[str, Any] = {}
    if "solint" not in fixed:
        changes["solint"] = best.interval
    if "combine" not in fixed:
        changes["combine"] = frozenset(combine) | (options.combine & {"field"})
    if "gaintype" not in fixed:
        changes["gaintype"] = best.gaintype
    if "solution" not in fixed:
        changes["solution"] = best.solution
    if "block" not in fixed:
        changes["channels_per_block"] = best.channels_per_block
    return replace(options, **changes)


def curve(choice: HeldOutChoice) -> list[dict[str, Any]]:
    """Return the scores as the record keeps them, in units of the data's noise."""
    noise = choice.noise if np.isfinite(choice.noise) and choice.noise > 0 else 1.0
    rows = []
    for score in choice.scores:
        candidate = score.candidate
        rows.append({
            "calmode": candidate.calmode,
            "gaintype": candidate.gaintype,
            "solint_s": candidate.interval.recorded,
            "combine_scan": candidate.combine_scan,
            "combine_spw": candidate.combine_spw,
            "solution": candidate.solution,
            "channels_per_block": candidate.channels_per_block,
            "gain": score.fall / noise,
            "error": score.error(noise) / noise,
        })  # fmt: skip
    return rows
