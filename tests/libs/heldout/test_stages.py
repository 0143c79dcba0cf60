"""Gains on top of others, all of them solved for without the baselines that are held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from libs.gains.normal_equations import NormalEquations
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN
from libs.heldout.evidence import model_evidence
from libs.heldout.folds import FOLDS, Candidate, folds_of, solve_stages_without
from tests.libs.simulated_sums import sums_of, walk

FAST = Candidate(PER_INTEGRATION)
SLOW = Candidate(PER_SCAN, calmode="ap")


def data(rng: np.random.Generator, noise: float) -> NormalEquations:
    """A point behind phases that wander fast and amplitudes that stand still."""
    gain = walk(rng, 32, 10, 0.5) * rng.uniform(0.7, 1.3, (1, 1, 10, 1))
    return sums_of(gain, noise, rng)


def test_fast_phases_under_slow_amplitudes_explain_more_than_either(
    rng: np.random.Generator,
) -> None:
    equations = data(rng, 0.3)
    both = model_evidence(equations, (FAST, SLOW))
    for other in ((FAST,), (SLOW,)):
        assert both.against(model_evidence(equations, other)).sigma > 3
    power = np.abs(equations.vis) ** 2 / equations.weight - 2.0  # without the noise's own
    assert both.explained == pytest.approx(float(power.sum()), rel=0.1)


def test_stages_predict_what_the_product_of_the_gains_predicts(rng: np.random.Generator) -> None:
    equations = data(rng, 1e-6)
    held_out = folds_of(equations.antenna1, equations.antenna2)
    seen = np.zeros(len(held_out), bool)
    for used, fits in solve_stages_without(equations, (FAST, SLOW), (), 4):
        mine = fits.held_out >= 0
        inner, norm, *_ = fits.project(used)
        assert inner[:, mine] == pytest.approx(norm[:, mine], rel=1e-4), "no noise is left"
        assert not inner[:, ~mine].any()
        seen |= mine
    assert seen.all() and len(np.unique(held_out)) == FOLDS


def test_what_has_no_gain_is_left_out(rng: np.random.Generator) -> None:
    equations = data(rng, 0.1)
    dead = (equations.antenna1 == 3) | (equations.antenna2 == 3)
    equations = replace(
        equations,
        vis=np.where(dead[None, None, :, None], 0, equations.vis),
        weight=np.where(dead[None, None, :, None], 0, equations.weight),
    )
    evidence = model_evidence(equations, (FAST, SLOW))
    assert not evidence.norm[:, dead].any() and evidence.norm[:, ~dead].all()
