"""Held-out baselines asked which of two states, each with its own model and gains, is better.

Solved against a poor model, gains take up what the model lacks and predict held-out baselines
better than no gains do, though there is nothing to correct. So the gains of a round are judged
together with the model that its image gave, against the best state's own model with its own gains,
or with none where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.gains.caltable import read_solutions
from libs.gains.normal_equations import NormalEquations, accumulate
from libs.gains.solver import SolveOptions
from libs.heldout.evidence import (
    Evidence,
    ModelComparison,
    joined,
    model_evidence,
    unsolved_evidence,
)
from libs.heldout.folds import Candidate
from libs.imaging.interface import ImagingOptions
from libs.ms.summary import summarise
from selfcal.step import TableRef
from steps.context import Context
from steps.data_state import fill_model, measurement_sets, restore_base_flags
from steps.images import imaging_options, model_files, options_of_model
from steps.mosaics import is_mosaic
from steps.rounds.held_out import shortest_interval
from steps.rounds.record import BestState, Trial
from steps.rounds.solving import adaptive, solved_before

__all__ = ["compare_states"]

# How the gains of a state were solved for, those beneath first, by working copy.
_Stages = Mapping[str, tuple[SolveOptions, ...]]


def compare_states(context: Context, best: BestState, trial: Trial) -> ModelComparison | None:
    """Return by how much more the trial's model and gains explain than the best state's.

    Gains on top of others are solved for with all those beneath, each without the baselines that
    are held out. Stations that either state is without are left out: a model that has seen their
    data explains more of them.

    Parameters
    ----------
    context : Context
    best : BestState
    trial : Trial
        Imaged.

    Returns
    -------
    ModelComparison or None
        None where gains were not all solved for in this run, for mosaics, for images of other
        baselines, for rounds that do not ask held-out data, and where both states predict the
        same.
    """
    if not adaptive(context) or is_mosaic(context):
        return None
    if trial.judged_with["uvmax"] != best.image.uvmax_m:
        return None
    own = {one.ms: one.options for one in trial.solved}
    new = _stages(context, trial.refs, trial.refs[-1].round, own)
    mine = {ms: SolveOptions.from_record(stored) for ms, stored in best.solve_options.items()}
    old = _stages(context, best.tables, best.image.judged, mine)
    if new is None or old is None:
        return None
    folder = trial.image.products.image.parent
    options = imaging_options(context, trial.judged_with, folder, trial.image.name, trial.refs)
    blocks = {
        ms: max((one.channels_per_block for one in (*new[ms], *old[ms])), default=0) for ms in new
    }
    first = trial.solved[0].options  # all are solved on the same baselines
    without = _stations_without(context, (*trial.refs, *best.tables))
    asked = _Asked(SolveOptions(uvmin_m=first.uvmin_m, uvmax_m=first.uvmax_m), blocks, without)
    after = _explained(context, trial.image.products.models, options, new, asked, {})
    noise = {ms: one.noise for ms, one in after.items()}
    before = _explained(
        context, model_files(context, best.image.products), options_of_model(context, best.image),
        old, asked, noise,
    )  # fmt: skip
    step = joined(list(after.values())).against(joined(list(before.values())))
    return step if step.error > 0 else None


@dataclass(frozen=True)
class _Asked:
    """The data that both states are compared on.

    Attributes
    ----------
    baselines : SolveOptions
        Limits of the baselines' lengths; nothing else of it is used.
    blocks : mapping of str to int
        Channels of a frequency block by working copy; 0: one block each window.
    without : set of str
        Stations that take no part.
    """

    baselines: SolveOptions
    blocks: Mapping[str, int]
    without: set[str]

    def sums(self, ms: Path) -> NormalEquations:
        """Return the sums of a working copy's data and the model in MODEL_DATA."""
        block = self.blocks[ms.name]
        each = replace(self.baselines, solint=shortest_interval(summarise(ms), block))
        sums = accumulate(ms, each, channels_per_block=block or None, corr_dep_flags=True)
        there = np.array([name not in self.without for name in sums.antenna])
        kept = (there[sums.antenna1] & there[sums.antenna2])[:, None]
        return replace(sums, vis=sums.vis * kept, weight=sums.weight * kept)


def _stages(
    context: Context, refs: Sequence[TableRef], last: str, own: Mapping[str, SolveOptions]
) -> _Stages | None:
    """Return how the gains of a state were solved for; None where that is not known of all."""
    found: dict[str, tuple[SolveOptions, ...]] = {}
    for ms in (ms.name for ms in measurement_sets(context)):
        stages: list[SolveOptions] = []
        for ref in refs:
            if ref.ms != ms:
                continue
            if ref.round == last and ms in own:
                stages.append(own[ms])
                continue
            stored = solved_before(context, ref.round).solve_options.get(ms)
            if stored is None:
                return None
            stages.append(SolveOptions.from_record(stored))
        if any(stage.solution in ("bandpass", "delay") for stage in stages):
            return None
        found[ms] = tuple(stages)
    return found


def _stations_without(context: Context, refs: Sequence[TableRef]) -> set[str]:
    """Return the stations of which all solutions of a table are flagged."""
    found: set[str] = set()
    for path in {ref.path for ref in refs}:
        solutions = read_solutions(context.workdir / path)
        lost = np.flatnonzero(solutions.flag.all(axis=(0, 1, 3)))
        found |= {solutions.antenna[number] for number in lost}
    return found


def _explained(
    context: Context,
    models: Sequence[Path],
    imaged: ImagingOptions,
    stages: _Stages,
    asked: _Asked,
    noise: Mapping[str, float],
) -> dict[str, Evidence]:
    """Return what a model explains by working copy, without gains where there are no stages.

    ``noise`` is that of data without gains; where it is not known, the mean of the other copies'.
    """
    fill_model(context, models, imaged)
    found: dict[str, Evidence] = {}
    unsolved: dict[str, NormalEquations] = {}
    for ms in measurement_sets(context):
        restore_base_flags(context, ms)
        solves, equations = stages[ms.name], asked.sums(ms)
        if not solves:
            unsolved[ms.name] = equations
            continue
        last = solves[-1]
        refants = [equations.antenna.index(one) for one in last.refant if one in equations.antenna]
        found[ms.name] = model_evidence(
            equations, [_candidate(one) for one in solves], refants=refants,
            minblperant=last.minblperant,
        )  # fmt: skip
    usual = float(np.mean([one.noise for one in found.values()])) if found else np.nan
    for name, equations in unsolved.items():
        found[name] = unsolved_evidence(equations, noise.get(name, usual))
    return {ms.name: found[ms.name] for ms in measurement_sets(context)}


def _candidate(options: SolveOptions) -> Candidate:
    """Return a solve as one to be held out."""
    how: dict[str, Any] = {
        "gaintype": options.gaintype, "calmode": options.calmode, "solution": options.solution
    }  # fmt: skip
    return Candidate(
        options.solint, combine_scan="scan" in options.combine,
        combine_spw="spw" in options.combine, channels_per_block=options.channels_per_block, **how,
    )  # fmt: skip
