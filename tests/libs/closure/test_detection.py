"""Agreement of closure phases: the distribution on noise, and power where few phases carry it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from libs.closure.detection import agreement_of_phases


@pytest.mark.parametrize(
    "weight",
    [np.ones(1), np.ones(3), np.array([1.0, 0.5, 0.1, 0.01]), np.geomspace(1, 1e-3, 40)],
    ids=["one", "three", "one that dominates", "many weights"],
)
@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_noise_exceeds_a_sigma_as_often_as_a_normal_does(weight: np.ndarray, rate: float) -> None:
    random = np.random.default_rng(5)
    draws = 8000
    sigma = [
        agreement_of_phases(random.uniform(-np.pi, np.pi, len(weight)), weight).sigma
        for _ in range(draws)
    ]
    found = int(np.sum(np.array(sigma) > norm.isf(rate)))
    # 20 % for the approximation, 4 sigma of the binomial for the draws
    assert abs(found - rate * draws) < 0.2 * rate * draws + 4 * np.sqrt(rate * draws)


def test_a_single_phase_is_exact() -> None:
    for difference in (0.5, 0.1, 0.01):
        expected = norm.isf(difference / np.pi)
        found = agreement_of_phases(np.array([difference]), np.ones(1)).sigma
        assert found == pytest.approx(expected, abs=0.06)


def test_few_phases_that_agree_within_degrees_are_no_chance() -> None:
    """A sum of cosines over the root of half their number could never exceed sqrt(2 n)."""
    difference = np.random.default_rng(1).normal(0, 0.05, 8)
    found = agreement_of_phases(difference, np.ones(8))
    assert found.sigma > 5 > np.sqrt(2 * 8)
    assert found.sigma > found.limit(0.01, parameters=2)


@given(st.integers(1, 30), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_only_the_ratios_of_the_weights_count(n: int, factor: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    difference, weight = random.uniform(-np.pi, np.pi, n), random.uniform(0.01, 1, n)
    one = agreement_of_phases(difference, weight)
    other = agreement_of_phases(difference, factor * weight)
    assert other.sigma == pytest.approx(one.sigma, rel=1e-5, abs=1e-6)
    assert other.information >= n


def test_the_limit_grows_with_every_parameter() -> None:
    found = agreement_of_phases(np.full(20, 0.2), np.ones(20))
    limits = [found.limit(0.01, p) for p in range(6)]
    assert limits == sorted(limits)
    assert limits[0] == pytest.approx(norm.isf(0.01))
