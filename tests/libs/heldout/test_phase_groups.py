"""Antennas in phase with one another: the array, islands of their own, and noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from libs.heldout.phase_groups import phase_groups


def baselines(
    rng: np.random.Generator, groups: list[int], snr: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of every baseline: ``snr`` within a group, noise of variance ``norm`` between them."""
    label = np.repeat(np.arange(len(groups)), groups)
    nant = len(label)
    norm = np.triu(rng.uniform(0.5, 2.0, (nant, nant)), 1)
    inner = rng.normal(size=norm.shape) * np.sqrt(norm)
    inner = np.where(label[:, None] == label, inner + snr * np.sqrt(norm), inner)
    inner = np.triu(inner, 1)
    return inner + inner.T, norm + norm.T


def test_two_stations_that_see_only_each_other_are_apart() -> None:
    inner, norm = baselines(np.random.default_rng(1), [20, 2, 1], 8.0)
    found = phase_groups(inner, norm, 1.0, 0.01)
    assert np.flatnonzero(~found.main).tolist() == [20, 21, 22]
    assert np.flatnonzero(found.apart).tolist() == [20, 21]
    assert found.sigma[:20].min() > 10 and np.abs(found.sigma[20:]).max() < 4
    assert np.abs(found.coherence[20:]).max() < 1.0 < found.coherence[:20].min()


def test_three_groups() -> None:
    inner, norm = baselines(np.random.default_rng(2), [10, 4, 3], 6.0)
    found = phase_groups(inner, norm, 1.0, 0.01)
    assert np.flatnonzero(found.main).tolist() == list(range(10))
    assert np.flatnonzero(found.apart).tolist() == list(range(10, 17))


def test_a_faint_source_that_no_baseline_shows_alone() -> None:
    """Each antenna has 0.9 sigma a baseline: sums over 39 of them tell."""
    inner, norm = baselines(np.random.default_rng(3), [40], 0.9)
    assert phase_groups(inner, norm, 1.0, 0.01).main.all()


def test_one_bridge_is_enough() -> None:
    """Two halves that one station sees both of are one array."""
    inner, norm = baselines(np.random.default_rng(4), [6, 6, 1], 8.0)
    inner[12, :12] = inner[:12, 12] = 8.0 * np.sqrt(norm[12, :12])
    assert phase_groups(inner, norm, 1.0, 0.01).main.all()


@pytest.mark.parametrize("nant", [5, 20])
def test_noise_alone_has_hardly_a_group(nant: int) -> None:
    counted = []
    for seed in range(40):
        inner, norm = baselines(np.random.default_rng(seed), [1] * nant, 0.0)
        counted.append(phase_groups(inner, norm, 1.0, 0.001).apart.any())
    assert sum(counted) <= binom.ppf(0.999, 40, 0.01)


def test_antennas_without_data() -> None:
    inner, norm = baselines(np.random.default_rng(5), [6], 8.0)
    inner[2] = inner[:, 2] = norm[2] = norm[:, 2] = 0.0
    found = phase_groups(inner, norm, 1.0, 0.01)
    assert np.flatnonzero(~found.main).tolist() == [2]
    assert np.isnan(found.coherence[2]) and np.isnan(found.sigma[2])
    nothing = phase_groups(0 * inner, 0 * norm, np.inf, 0.01)
    assert not nothing.main.any() and np.isnan(nothing.sigma).all()


@given(seed=st.integers(0, 10_000), groups=st.lists(st.integers(1, 6), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_the_order_of_antennas_does_not_matter(seed: int, groups: list[int]) -> None:
    rng = np.random.default_rng(seed)
    inner, norm = baselines(rng, [8, *groups], 10.0)
    order = rng.permutation(len(inner))
    one = phase_groups(inner, norm, 1.0, 0.01)
    other = phase_groups(inner[np.ix_(order, order)], norm[np.ix_(order, order)], 1.0, 0.01)
    assert one.main[order].tolist() == other.main.tolist()
    assert one.apart[order].tolist() == other.apart.tolist()
    np.testing.assert_allclose(one.sigma[order], other.sigma)
