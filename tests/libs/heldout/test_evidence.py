"""What a model explains of held-out baselines tells the right one from others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from libs.gains.normal_equations import NormalEquations
from libs.gains.solution_interval import PER_SCAN
from libs.heldout.evidence import ModelComparison, joined, model_evidence
from libs.heldout.folds import Candidate
from tests.libs.simulated_sums import repeated, sums_of, walk

FORM = Candidate(PER_SCAN)


def data(rng: np.random.Generator, noise: float = 0.3) -> NormalEquations:
    """A point behind phases that stand still."""
    return sums_of(repeated(walk(rng, 1, 10, 0.0), 32, 1), noise, rng)


def seen_with(equations: NormalEquations, model: np.ndarray) -> NormalEquations:
    """The same data, a point of 1 Jy, beside another model of each baseline, (nbl,)."""
    other = model[None, None, :, None]
    return replace(
        equations,
        vis=equations.vis * np.conj(other),
        weight=equations.weight * np.abs(other) ** 2,
    )


def test_the_right_model_explains_more_than_a_wrong_one(rng: np.random.Generator) -> None:
    equations = data(rng)
    count = len(equations.antenna1)
    wrong = 1.0 + 0.5 * np.exp(2j * np.pi * rng.random(count))
    right = model_evidence(equations, (FORM,))
    other = model_evidence(seen_with(equations, wrong), (FORM,))
    step = right.against(other)
    assert step.sigma > 5 and step.difference > 0
    assert other.against(right).difference == pytest.approx(-step.difference)
    everything = float(equations.weight.sum())
    assert right.explained == pytest.approx(everything, rel=0.05), "the power of the source"


def test_the_flux_of_a_model_does_not_matter_and_is_found(rng: np.random.Generator) -> None:
    equations = data(rng)
    one = model_evidence(equations, (FORM,))
    twice = model_evidence(seen_with(equations, np.full(len(equations.antenna1), 2.0)), (FORM,))
    assert twice.explained == pytest.approx(one.explained, rel=1e-4)
    assert one.flux_factor == pytest.approx(1.0, abs=0.05)
    assert twice.flux_factor == pytest.approx(one.flux_factor / 2, rel=1e-4)


def test_noise_is_not_significant_and_sets_add_up(rng: np.random.Generator) -> None:
    equations = data(rng)
    shape = equations.vis.shape
    noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    nothing = replace(equations, vis=np.sqrt(equations.weight) * noise)
    assert abs(model_evidence(nothing, (FORM,)).significance) < 4
    one = model_evidence(equations, (FORM,))
    assert one.significance > 20
    both = joined([one, one])
    assert both.explained == pytest.approx(2 * one.explained)
    assert both.noise == pytest.approx(one.noise)


def test_a_small_fall_of_chi2_is_little_evidence_however_little_it_scatters() -> None:
    assert ModelComparison(0.25, 0.01, 1.0).sigma == pytest.approx(0.5)
    assert ModelComparison(-8.0, 0.1, 2.0).sigma == pytest.approx(-2.0)
    assert ModelComparison(100.0, 20.0, 1.0).sigma == pytest.approx(5.0)
