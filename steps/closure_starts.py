"""Which of several models fitted to closure quantities explains the most of held-out baselines."""

from __future__ import annotations

from collections.abc import Mapping

from libs.closure.model import ComponentModel
from libs.gains.solver import SolveOptions
from libs.heldout.choose import ADVANTAGE
from libs.heldout.evidence import Evidence
from steps.context import Context
from steps.model_components import fill_components
from steps.rounds.model_evidence import evidence_of_model

__all__ = ["most_evident"]


def most_evident(
    context: Context,
    models: Mapping[float, ComponentModel],
    centres_rad: Mapping[float, tuple[float, float]],
) -> float:
    """Return the key of the model that explains the most; the first unless one is surely better.

    Parameters
    ----------
    context : Context
    models : mapping of float to ComponentModel
    centres_rad : mapping of float to (float, float)
        Where the origin of each is put, offset (l, m) from the phase centre, rad. Phases absorb it.
    """
    best: tuple[float, Evidence] | None = None
    forms = None
    for key, model in models.items():
        fill_components(context, model.components, centres_rad[key])
        found = evidence_of_model(context, SolveOptions(), forms)
        forms = found.near
        if best is None or found.evidence.against(best[1]).sigma > ADVANTAGE:
            best = key, found.evidence
    assert best is not None
    return best[0]
