"""Agreement of models with closure quantities: known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.closure_cases import LOFAR_STATIONS, Gaussian, simulate
from libs.closure.agreement import ClosureAgreement, agreement, within_baselines
from libs.closure.formation import BaselineVisibilities
from libs.core.errors import InputError
from libs.imaging.judging import judge

FEW = dict(list(LOFAR_STATIONS.items())[:7])
TRUTH = (Gaussian(1.0), Gaussian(0.5, 0.9, -0.5))
WRONG = (Gaussian(1.0), Gaussian(0.5, -0.9, 0.5))  # turned about: only closure phases tell


def observe(source=TRUTH, sigma_jy: float = 0.02, **keywords) -> BaselineVisibilities:
    return simulate(
        FEW, source, sigma_jy=sigma_jy, frequency_hz=[140e6, 150e6], dec_deg=55, hours=0.5,
        integration_s=10, **keywords,
    )  # fmt: skip


def clean(source=TRUTH) -> np.ndarray:
    return observe(source, 1e-12).vis


def test_the_truth_agrees_behind_any_gains() -> None:
    data = observe(walk_deg_per_10min=300, amplitude_error=0.5)
    found = agreement(data, clean(), 60)
    blocks = 2 * 30
    assert found.n_phase == blocks * 15  # (7 - 1) (7 - 2) / 2
    assert found.n_amplitude == blocks * 14  # 7 (7 - 3) / 2
    assert found.phase_chi2 == pytest.approx(1, abs=0.12)
    assert found.amplitude_chi2 == pytest.approx(1, abs=0.12)


def test_a_model_of_another_scale_and_place_agrees_as_well() -> None:
    data = observe()
    u, v = np.moveaxis(data.uvw_m[..., :2], -1, 0) * 1e-7
    turned = 7 * clean() * np.exp(1j * (u + v))[:, None, :]
    one, other = agreement(data, clean(), 60), agreement(data, turned, 60)
    assert other.phase_chi2 == pytest.approx(one.phase_chi2, rel=1e-3)
    assert other.amplitude_chi2 == pytest.approx(one.amplitude_chi2, rel=1e-6)


def test_a_wrong_model_does_not() -> None:
    data = observe()
    turned = agreement(data, clean(WRONG), 60)
    assert turned.phase_chi2 > 10
    assert turned.amplitude_chi2 == pytest.approx(agreement(data, clean(), 60).amplitude_chi2)
    assert agreement(data, clean((Gaussian(1.0),)), 60).amplitude_chi2 > 10


def test_floors_lower_chi2_by_what_they_say() -> None:
    data = observe(sigma_jy=1e-4)
    model = clean((Gaussian(1.0), Gaussian(0.5, 0.95, -0.5)))
    strict = agreement(data, model, 60)
    lax = agreement(data, model, 60, phase_floor_rad=0.1, amplitude_floor=0.1)
    assert lax.phase_chi2 < strict.phase_chi2 / 100
    assert lax.amplitude_chi2 < strict.amplitude_chi2 / 100
    # with errors far below the floor it is the mean square over the floor's
    twice = agreement(data, model, 60, phase_floor_rad=0.2, amplitude_floor=0.2)
    assert lax.phase_chi2 / twice.phase_chi2 == pytest.approx(4, rel=0.01)
    assert lax.amplitude_chi2 / twice.amplitude_chi2 == pytest.approx(4, rel=0.01)


def test_noise_agrees_with_anything() -> None:
    data = observe((Gaussian(1e-9),), sigma_jy=1.0)
    assert agreement(data, clean(WRONG), 60).phase_chi2 == pytest.approx(1, abs=0.15)


def test_what_has_no_model_is_left_out() -> None:
    data = observe()
    model = clean()
    model[-1] = 0
    found = agreement(data, model, 60)
    assert found.n_phase == 60 * 14  # one triangle of the set needs this baseline
    assert found.phase_chi2 == pytest.approx(1, abs=0.15)
    nothing = agreement(data, np.zeros_like(model), 60)
    assert nothing.n_phase == nothing.n_amplitude == 0
    assert np.isnan(nothing.phase_chi2) and np.isnan(nothing.amplitude_chi2)
    with pytest.raises(ValueError, match="model has shape"):
        agreement(data, model[:, :1], 60)


def test_limits_of_baseline_length() -> None:
    data = observe()
    length = np.hypot(data.uvw_m[..., 0], data.uvw_m[..., 1])
    middle = float(np.median(length))
    far, near = within_baselines(data, middle), within_baselines(data, 0.0, middle)
    assert (np.isfinite(far.sigma[:, 0]) == (length >= middle)).all()
    assert (np.isfinite(near.sigma[:, 1]) == (length <= middle)).all()
    assert np.array_equal(within_baselines(data).sigma, data.sigma)
    with pytest.raises(InputError, match="no data on baselines"):
        within_baselines(data, 1e9)
    flagged = replace(data, sigma=np.full_like(data.sigma, np.inf))
    with pytest.raises(InputError):
        within_baselines(flagged)


def test_both_kinds_together_count_each_quantity_once() -> None:
    both = ClosureAgreement(1.0, 4.0, 20, 10)
    assert both.chi2 == pytest.approx(2.0)
    assert ClosureAgreement(1.5, float("nan"), 20, 0).chi2 == 1.5
    assert np.isnan(ClosureAgreement(float("nan"), float("nan"), 0, 0).chi2)


def test_a_good_amplitude_round_is_kept_and_a_bad_one_taken_back() -> None:
    """By closures alone: the image statistics say that both changed flux and noise alike."""
    data = observe(walk_deg_per_10min=300, amplitude_error=0.5)
    bent = clean((Gaussian(1.0), Gaussian(0.6, 0.9, -0.5), Gaussian(0.05, 0.3, 0.8)))
    before = agreement(data, bent, 60).chi2
    good = agreement(data, clean(), 60).chi2
    # an image that took the errors of the gains for structure
    bad = agreement(data, clean((Gaussian(1.0), Gaussian(0.3, 0.9, -0.5))), 60).chi2
    assert good < 1.2 < before < bad
    best = dict.fromkeys(
        ("snr", "near_field_snr", "dynamic_range", "rms_jy_beam", "beam_area_arcsec2",
         "total_flux_jy", "peak_jy_beam"), 1.0,
    )  # fmt: skip
    new = {**best, "total_flux_jy": 1.6, "peak_jy_beam": 1.6, "rms_jy_beam": 1.6}
    assert not judge(new, best, amplitude=True).accepted
    assert judge(new, best, amplitude=True, closure_chi2=(good, before)).accepted
    assert not judge(new, best, amplitude=True, closure_chi2=(bad, before)).accepted
    assert not judge(best, best, amplitude=True, closure_chi2=(bad, before)).accepted
