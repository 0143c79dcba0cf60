"""What the model in MODEL_DATA explains of held-out baselines, over all working copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from libs.gains.normal_equations import NormalEquations, accumulate
from libs.gains.solution_interval import PER_SCAN
from libs.gains.solver import SolveOptions
from libs.heldout.choose import own_ladder
from libs.heldout.evidence import Evidence, joined, model_evidence
from libs.heldout.folds import Candidate
from libs.ms.summary import summarise
from steps.context import Context
from steps.data_state import measurement_sets, restore_base_flags
from steps.facts import refant_facts
from steps.rounds.held_out import shortest_interval

__all__ = ["ModelEvidence", "evidence_of_model"]


@dataclass(frozen=True)
class ModelEvidence:
    """What a model explains, and with which solves.

    Attributes
    ----------
    evidence : Evidence
        Over all working copies.
    forms : mapping of str to Candidate
        By working copy, the solve with which it explains the most of those tried.
    """

    evidence: Evidence
    forms: Mapping[str, Candidate]

    @property
    def near(self) -> dict[str, tuple[Candidate, ...]]:
        """By working copy, solves like the best: what another model needs is not far from it."""
        return {
            ms: (
                best,
                replace(best, gaintype="T" if best.gaintype == "G" else "G"),
                replace(best, interval=PER_SCAN),
            )
            for ms, best in self.forms.items()
        }


def evidence_of_model(
    context: Context,
    options: SolveOptions,
    forms: Mapping[str, Sequence[Candidate]] | None = None,
) -> ModelEvidence:
    """Return what the model in MODEL_DATA explains, with phases solved on the data as they came.

    Tables beneath a round were solved with every baseline and with an older model, which they
    would favour.

    Parameters
    ----------
    context : Context
    options : SolveOptions
        Of these the limits of baselines and of their number count.
    forms : mapping of str to sequence of Candidate, optional
        By working copy, the solves of which the best counts; default: a ladder of intervals, with
        polarizations and windows together and apart.
    """
    found: dict[str, Evidence] = {}
    used: dict[str, Candidate] = {}
    with context.clock.time("solving"):
        for ms in measurement_sets(context):
            restore_base_flags(context, ms)
            own = forms.get(ms.name, ()) if forms else ()
            block = max((form.channels_per_block for form in own), default=0)
            each = replace(options, solint=shortest_interval(summarise(ms), block))
            equations = accumulate(ms, each, channels_per_block=block or None, corr_dep_flags=True)
            found[ms.name], used[ms.name] = _best(context, equations, options, own)
    return ModelEvidence(joined(list(found.values())), used)


def _best(
    context: Context, equations: NormalEquations, options: SolveOptions, own: Sequence[Candidate]
) -> tuple[Evidence, Candidate]:
    refants = [
        equations.antenna.index(name)
        for name in refant_facts(context).refant
        if name in equations.antenna
    ]
    tried = [
        (model_evidence(equations, (form,), refants=refants,
                        minblperant=options.minblperant), form)
        for form in own or _ladder(equations)
    ]  # fmt: skip
    return max(tried, key=lambda item: item[0].explained)


def _ladder(equations: NormalEquations) -> Sequence[Candidate]:
    """Every other interval of the ladder; polarizations and windows together and apart."""
    steps = own_ladder(equations)
    forms = [Candidate(step) for step in [*steps[::2], *steps[-1:]][: len(steps)]]
    if len(equations.polarization) > 1:
        forms += [replace(form, gaintype="G") for form in forms]
    if len(np.unique(equations.spw)) > 1:
        forms += [replace(form, combine_spw=False) for form in forms]
    return forms
