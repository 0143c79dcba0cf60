"""How long visibilities may be averaged is seen in the visibilities themselves."""

from __future__ import annotations

import numpy as np
import pytest

from libs.closure.coherence_time import ENOUGH_SNR, averaged, coherence_time
from libs.closure.formation import BaselineVisibilities

STEP_S = 10.0


def visibilities(
    rng: np.random.Generator, *, snr: float, drift_rad: float = 0.0, times: int = 64, nant: int = 8
) -> BaselineVisibilities:
    """A point behind phases that drift by so much in a step, each antenna its own way."""
    one, two = np.triu_indices(nant, 1)
    rate = drift_rad * rng.choice([-1.0, 1.0], nant)
    phase = rate[:, None] * np.arange(times) + rng.uniform(-np.pi, np.pi, (nant, 1))
    signal = np.exp(1j * (phase[one] - phase[two]))[:, None, :]
    noise = rng.normal(size=(*signal.shape, 2)) @ np.array([1.0, 1j]) / snr
    return BaselineVisibilities(
        STEP_S * np.arange(times), tuple(f"A{n}" for n in range(nant)), one, two,
        np.array([1e9]), rng.normal(0.0, 1e3, (len(one), times, 3)), signal + noise,
        np.full(signal.shape, 1.0 / snr),
    )  # fmt: skip


def test_steady_phases_are_averaged_as_the_snr_needs(rng: np.random.Generator) -> None:
    found = coherence_time(visibilities(rng, snr=1.0, times=256), longest_s=1300.0)
    assert found.coherent_s == 1280.0 and found.snr == pytest.approx(1.0, abs=0.1)
    assert found.average_s == pytest.approx(ENOUGH_SNR**2 * STEP_S, rel=0.4)


def test_bright_visibilities_and_noise_are_not_averaged(rng: np.random.Generator) -> None:
    assert coherence_time(visibilities(rng, snr=20.0)).average_s == 0
    noise = coherence_time(visibilities(rng, snr=1e-3))
    assert noise.average_s == 0 and noise.coherent_s == 0


def test_phases_that_drift_end_the_average(rng: np.random.Generator) -> None:
    # baselines drift by up to 0.1 rad a step: cos of it is below 0.97 after three steps
    found = coherence_time(visibilities(rng, snr=2.0, drift_rad=0.05))
    assert found.coherent_s <= 40.0
    steady = coherence_time(visibilities(rng, snr=2.0))
    assert steady.coherent_s > 4 * found.coherent_s


def test_averages_are_weighted_means_within_gaps(rng: np.random.Generator) -> None:
    data = visibilities(rng, snr=5.0, times=9)
    data.sigma[0, 0, 1] = np.inf
    data.sigma[1, 0, :3] = np.inf
    mean = averaged(data, 3 * STEP_S)
    assert mean.vis.shape[-1] == 3
    np.testing.assert_allclose(mean.vis[2, 0, 0], data.vis[2, 0, :3].mean())
    np.testing.assert_allclose(mean.vis[0, 0, 0], data.vis[0, 0, [0, 2]].mean())
    assert mean.sigma[0, 0, 0] == pytest.approx(0.2 / np.sqrt(2))
    assert np.isinf(mean.sigma[1, 0, 0]) and mean.vis[1, 0, 0] == 0
    np.testing.assert_allclose(mean.uvw_m[0, 0], data.uvw_m[0, [0, 2]].mean(axis=0))
    assert averaged(data, 0.0) is data
