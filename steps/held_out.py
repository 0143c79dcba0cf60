"""Held-out data asked how a round should solve, and whether it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from libs import tables
from libs.calibration import AppliedTable, SolveOptions
from libs.gain_sums import NormalEquations, accumulate
from libs.holdout import ADVANTAGE, Candidate, HeldOutChoice, choose_solve
from selfcal.context import Context

__all__ = ["chosen_options", "curve", "held_out_choice"]

MOST_BYTES = 400 * 1024**2
BYTES_PER_SUM = 24  # a complex sum and a real weight


def shortest_interval(summary: tables.MsSummary) -> float | str:
    """Return the interval the sums are made at: an integration, or more where memory asks for it."""
    baselines = len(summary.antenna) * (len(summary.antenna) - 1) // 2
    integrations = max(1.0, summary.rows / max(1, baselines * len(summary.spws_used)))
    size = integrations * baselines * len(summary.spws_used) * 2 * BYTES_PER_SUM
    if size <= MOST_BYTES:
        return "int"
    return float(np.ceil(size / MOST_BYTES) * summary.integration_s)


def held_out_choice(
    context: Context, ms: Path, options: SolveOptions, prior: Sequence[AppliedTable]
) -> HeldOutChoice:
    """Return how one working copy should be solved, by its held-out baselines.

    An amplitude solve is chosen only when it predicts better than a phase solve by more than
    chance.
    """
    summary = tables.summarise(ms)
    sums = accumulate(
        ms,
        replace(options, solint=shortest_interval(summary), combine=frozenset()),  # type: ignore[arg-type]
        prior,
        corr_dep_flags=True,
    )
    refants = [sums.antenna.index(name) for name in options.refant if name in sums.antenna]

    def ask(calmode: str) -> HeldOutChoice:
        return choose_solve(
            sums,
            calmode=calmode,  # type: ignore[arg-type]
            refants=refants,
            minblperant=options.minblperant,
            progress=lambda text: context.progress.tick(),
        )

    choice = ask(options.calmode)
    if options.calmode == "p" or choice.best is None:
        return choice
    return _amplitude_worth_it(choice, ask("p"))


def _amplitude_worth_it(amplitude: HeldOutChoice, phase: HeldOutChoice) -> HeldOutChoice:
    """The amplitude choice, unless a phase solve predicts as well."""
    noise = min(amplitude.noise, phase.noise)
    best = max(amplitude.scores, key=lambda score: score.fall)
    plain = max(phase.scores, key=lambda score: score.fall)
    if best.fall - plain.fall > ADVANTAGE * max(best.error(noise), plain.error(noise)):
        return replace(amplitude, scores=(*phase.scores, *amplitude.scores))
    return HeldOutChoice(
        None,
        "amplitude gains predict held-out data no better than phases alone",
        (*phase.scores, *amplitude.scores),
        noise,
    )


def chosen_options(options: SolveOptions, best: Candidate, fixed: Sequence[str]) -> SolveOptions:
    """Return the options as held-out data want them; what the user fixed stays."""
    combine = {
        name
        for name, wanted in (("spw", best.combine_spw), ("scan", best.combine_scan))
        if wanted
    }
    changes: dict[str, Any] = {}
    if "solint" not in fixed:
        changes["solint"] = "inf" if np.isinf(best.solint_s) else best.solint_s
    if "combine" not in fixed:
        changes["combine"] = frozenset(combine)
    if "gaintype" not in fixed:
        changes["gaintype"] = best.gaintype
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
            "solint_s": candidate.solint_s if np.isfinite(candidate.solint_s) else "scan",
            "combine_scan": candidate.combine_scan,
            "combine_spw": candidate.combine_spw,
            "gain": score.fall / noise,
            "error": score.error(noise) / noise,
        })  # fmt: skip
    return rows
