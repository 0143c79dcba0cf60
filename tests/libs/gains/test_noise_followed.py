"""By how much phases that follow the noise raise a source, against what solves make of noise."""

from __future__ import annotations

import numpy as np
import pytest

from libs.gains.gain_solutions import GainSolutions
from libs.gains.native_solve import solve_gains
from libs.gains.noise_followed import noise_followed


def solutions(flag: np.ndarray) -> GainSolutions:
    ntime, nfreq, nant, npol = flag.shape
    return GainSolutions(
        np.arange(ntime) * 10.0, np.full(ntime, 10.0), np.linspace(1e9, 2e9, nfreq),
        np.arange(nfreq), tuple(f"A{i}" for i in range(nant)), np.zeros((nant, 3)),
        ("R", "L")[:npol] if npol > 1 else ("I",), np.ones(flag.shape, complex), flag,
        np.where(flag, 0.0, 5.0),
    )  # fmt: skip


@pytest.mark.parametrize(("antennas", "snr"), [(30, 0.8), (30, 1.5), (12, 2.0)])
def test_it_is_what_solves_make_of_noise(antennas: int, snr: float) -> None:
    """A point of ``snr`` times a visibility's noise; gaincal's weights follow a little less."""
    rng = np.random.default_rng(5)
    times = 400
    one, two = np.triu_indices(antennas, 1)
    true = np.exp(2j * np.pi * rng.random((times, antennas)))
    noise = rng.normal(size=(times, len(one))) + 1j * rng.normal(size=(times, len(one)))
    vis = snr * true[:, one] * np.conj(true[:, two]) + noise
    weight = np.full((times, 1, len(one), 1), snr**2)
    fit = solve_gains(
        snr * vis[:, None, :, None], weight, one, two, antennas, calmode="p", gaintype="T",
        combine_blocks=True, minblperant=4, minsnr=0.0, guess_from=[0],
    )  # fmt: skip
    gain = fit.gain[:, 0, :, 0] / np.abs(fit.gain[:, 0, :, 0])
    raised = (vis * np.conj(gain[:, one]) * gain[:, two]).real.mean() / snr - 1.0
    told = noise_followed(solutions(fit.flag), float(weight.sum()), "gain")
    assert told == pytest.approx(raised, rel=0.35)


def test_flagged_antennas_and_each_reference_are_no_unknowns() -> None:
    flag = np.zeros((3, 2, 5, 2), bool)
    assert noise_followed(solutions(flag), 100.0, "gain") == pytest.approx(3 * 2 * 4 * 2 / 200)
    flag[:, :, 4] = True
    assert noise_followed(solutions(flag), 100.0, "gain") == pytest.approx(3 * 2 * 3 * 2 / 200)


def test_tecs_have_one_unknown_for_all_frequencies() -> None:
    flag = np.zeros((3, 8, 5, 1), bool)
    assert noise_followed(solutions(flag), 100.0, "tec") == pytest.approx(3 * 4 / 200)
    assert noise_followed(solutions(flag), 100.0, "tec+phase") == pytest.approx(3 * 4 * 2 / 200)


def test_without_weight_it_is_unknown() -> None:
    assert np.isnan(noise_followed(solutions(np.zeros((1, 1, 4, 1), bool)), 0.0, "gain"))
