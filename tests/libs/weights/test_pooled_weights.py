"""Weights from noise: pooled as far as bins agree, and no further."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.ms import flag_versions
from libs.ms.tables import open_table
from libs.weights.pooled_weights import pool_variances, pool_weights
from tests.libs.small_ms import make_ms

Bins = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def drawn(truth: NDArray[np.float64], samples: int, seed: int = 3) -> Bins:
    """Logarithms of sample variances for (nant, nant, nbin) true ones, and their indices."""
    rng = np.random.default_rng(seed)
    ant1, ant2 = np.triu_indices(truth.shape[0], 1)
    nbin = truth.shape[2]
    one, two = np.repeat(ant1, nbin), np.repeat(ant2, nbin)
    half = samples - 1
    found = truth[ant1, ant2].ravel() * rng.gamma(half, 1 / half, len(one))
    return np.log(found), np.zeros(len(one), np.int64), one, two


def error_of(truth: NDArray[np.float64], samples: int) -> tuple[float, float, float, float]:
    """Scatter about the truth before and after pooling, and the spreads found."""
    value, group, one, two = drawn(truth, samples)
    pooled = pool_variances(value, np.full(len(value), float(samples)), group, one, two)
    ant1, ant2 = np.triu_indices(truth.shape[0], 1)
    true = np.log(truth[ant1, ant2].ravel())
    before, after = np.std(value - true), np.std(pooled.log_variance - true)
    assert abs(np.mean(pooled.log_variance - true)) < 0.02, "no bias"
    return float(before), float(after), pooled.bin_spread, pooled.baseline_spread


def test_equal_noise_becomes_equal_weights() -> None:
    before, after, bins, baselines = error_of(np.ones((20, 20, 12)), 32)
    assert before == pytest.approx(1 / np.sqrt(31), rel=0.1)
    assert after < 0.02
    assert bins < 0.05 and baselines < 0.05


def test_noise_of_antennas_is_kept() -> None:
    level = np.geomspace(0.1, 10, 20)
    truth = np.repeat((level[:, None] * level[None])[..., None], 12, axis=2)
    before, after, _, baselines = error_of(truth, 32)
    assert after < 0.2 * before and baselines < 0.05


def test_true_differences_are_kept() -> None:
    rng = np.random.default_rng(1)
    truth = np.exp(rng.normal(0, 1.0, (20, 20, 12)))
    before, after, bins, _ = error_of(truth, 32)
    assert bins == pytest.approx(1.0, rel=0.1)
    assert after < before * 1.01


def noisy_ms(path: Path, *, channels: int, smooth: bool = False) -> Path:
    """A strong source whose phases turn, behind noise that grows with the antenna number."""
    rng = np.random.default_rng(5)
    ms = make_ms(path, antennas=8, times=60, channels=channels, interval_s=10.0)
    with open_table(ms, write=True) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        time = opened.getcol("TIME")
        shape = opened.getcol("DATA").shape
        turn = np.exp(0.05j * (time - time[0]) * (one - two))
        noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        if smooth:
            noise[:, 1:-1] = 0.25 * noise[:, :-2] + 0.5 * noise[:, 1:-1] + 0.25 * noise[:, 2:]
        level = 0.1 * np.sqrt((1.0 + one) * (1.0 + two))
        data = 5 * turn[:, None, None] + level[:, None, None] * noise
        opened.putcol("DATA", data.astype(np.complex64))
        opened.putcol("WEIGHT", np.ones((len(one), shape[2]), np.float32))
    flag_versions.save_weights(ms, "as_came")
    return ms


def test_the_noise_is_seen_beneath_a_source_whose_phases_turn(tmp_path: Path) -> None:
    ms = noisy_ms(tmp_path / "a.ms", channels=8)
    done = pool_weights(ms, "as_came", 60.0, column="DATA")
    assert done.changed and done.correlation == pytest.approx(1, abs=0.1)
    with open_table(ms) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        weight, sigma = opened.getcol("WEIGHT"), opened.getcol("SIGMA")
        channels = opened.getcol("WEIGHT_SPECTRUM")
    truth = 1 / (0.01 * (1.0 + one) * (1.0 + two))
    ratio = weight / truth[:, None]
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert np.std(np.log(ratio)) < 0.05
    np.testing.assert_array_equal(channels, np.repeat(weight[:, None, :], 8, axis=1))
    np.testing.assert_allclose(sigma, 1 / np.sqrt(weight), rtol=1e-5)
    again = pool_weights(ms, "as_came", 60.0, column="DATA")
    assert again == done
    with open_table(ms) as opened:
        np.testing.assert_allclose(opened.getcol("WEIGHT"), weight, rtol=1e-6)


def test_correlated_channels_say_nothing(tmp_path: Path) -> None:
    ms = noisy_ms(tmp_path / "a.ms", channels=16, smooth=True)
    done = pool_weights(ms, "as_came", 60.0, column="DATA")
    assert not done.changed and done.correlation > 3
    with open_table(ms) as opened:
        assert (opened.getcol("WEIGHT") == 1).all()


def test_two_channels_are_too_few(tmp_path: Path) -> None:
    ms = noisy_ms(tmp_path / "a.ms", channels=2)
    assert not pool_weights(ms, "as_came", 60.0, column="DATA").changed


def test_bins_without_data_take_their_baselines_mean(tmp_path: Path) -> None:
    ms = noisy_ms(tmp_path / "a.ms", channels=8)
    with open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        early = opened.getcol("TIME") < opened.getcol("TIME").min() + 120
        flag[early] = True
        opened.putcol("FLAG", flag)
    assert pool_weights(ms, "as_came", 60.0, column="DATA").changed
    with open_table(ms) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        ratio = opened.getcol("WEIGHT") * (0.01 * (1.0 + one) * (1.0 + two))[:, None]
    assert np.abs(np.log(ratio[early])).max() < 0.3
