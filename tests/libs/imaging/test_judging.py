"""Judgement of rounds: each criterion at its boundary, and the ladder of baseline lengths."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.imaging.judging import Limits, judge, judge_ladder, ladder_uvmax_m

BEST = {
    "snr": 1000.0, "near_field_snr": 500.0, "dynamic_range": 800.0, "rms_jy_beam": 1e-3,
    "beam_area_arcsec2": 2.0, "total_flux_jy": 1.0, "flux_error_jy": 0.001, "peak_jy_beam": 1.0,
}  # fmt: skip


def changed(**factors: float) -> dict[str, float]:
    """The best image's statistics with some multiplied."""
    return {name: value * factors.get(name, 1.0) for name, value in BEST.items()}


def test_an_image_as_good_is_accepted() -> None:
    verdict = judge(BEST, BEST)
    assert verdict.accepted and not verdict.warnings
    assert verdict.reason == "SNR 1000 to 1000, rms +0.0%, peak +0.0%, flux +0.0%"


@pytest.mark.parametrize(
    ("name", "within", "beyond", "said"),
    [
        ("snr", 0.991, 0.989, "SNR fell from 1000 to 989.0"),
        ("near_field_snr", 0.991, 0.989, "SNR near the source fell from 500.0 to 494.5"),
        ("dynamic_range", 0.991, 0.989, "dynamic range fell from 800.0 to 791.2"),
        ("rms_jy_beam", 1.049, 1.051, "rms rose by 5.1%"),
        ("beam_area_arcsec2", 1.049, 1.051, "beam area grew by 5.1%"),
        ("total_flux_jy", 0.901, 0.899, "total flux fell by 10.1%"),
    ],
)
def test_each_criterion_at_its_limit(name: str, within: float, beyond: float, said: str) -> None:
    assert judge(changed(**{name: within}), BEST).accepted
    verdict = judge(changed(**{name: beyond}), BEST)
    assert not verdict.accepted
    assert verdict.reason.startswith(said + " (")


def test_the_limits_are_the_callers() -> None:
    fallen = changed(snr=0.95)
    assert not judge(fallen, BEST).accepted
    assert judge(fallen, BEST, Limits(snr_loss=0.06)).accepted


def test_a_noise_that_rises_less_than_the_snr_is_the_source_coming_up() -> None:
    assert judge(changed(rms_jy_beam=1.2, snr=1.21), BEST).accepted
    assert not judge(changed(rms_jy_beam=1.2, snr=1.19), BEST).accepted


def test_a_noise_that_rises_beside_a_decisive_snr_is_sidelobes_that_phases_had_scattered() -> None:
    better = {"near_field_snr": 1.7, "dynamic_range": 1.7, "peak_jy_beam": 4.0}
    assert judge(changed(rms_jy_beam=2.3, snr=1.7, **better), BEST).accepted
    assert not judge(changed(rms_jy_beam=2.3, snr=1.4, **better), BEST).accepted
    assert not judge(changed(rms_jy_beam=2.3, snr=1.7, dynamic_range=0.5), BEST).accepted


def test_a_flux_lost_within_three_errors_is_not_held_against_a_round() -> None:
    # 0.2 Jy lost; the error of the difference is 0.05 hypot 0.05 = 0.0707 Jy
    uncertain = {**BEST, "flux_error_jy": 0.05}
    lost = {**changed(total_flux_jy=0.8), "flux_error_jy": 0.05}
    assert judge(lost, uncertain).accepted
    assert not judge({**lost, "total_flux_jy": 0.78}, uncertain).accepted


def test_more_flux_is_no_fault_of_a_phase_round() -> None:
    assert judge(changed(total_flux_jy=1.5), BEST).accepted


@pytest.mark.parametrize("flux", [1.02, 0.98])
def test_an_amplitude_round_may_not_trade_flux_for_little_snr(flux: float) -> None:
    assert not judge(changed(total_flux_jy=flux, snr=1.01), BEST, amplitude=True).accepted
    assert judge(changed(total_flux_jy=flux, snr=1.03), BEST, amplitude=True).accepted
    assert judge(changed(total_flux_jy=flux, snr=1.01), BEST).accepted, "phases keep the scale"


def test_the_drift_of_an_amplitude_round_at_its_limit() -> None:
    assert judge(changed(total_flux_jy=0.9975), BEST, amplitude=True).accepted
    verdict = judge(changed(total_flux_jy=0.9965), BEST, amplitude=True)
    assert not verdict.accepted and "which the little SNR gained does not warrant" in verdict.reason


def test_a_change_of_flux_by_amplitudes_is_a_warning_even_when_accepted() -> None:
    assert not judge(changed(total_flux_jy=1.029, snr=2), BEST, amplitude=True).warnings
    verdict = judge(changed(total_flux_jy=1.031, snr=2), BEST, amplitude=True)
    assert verdict.accepted
    assert verdict.warnings == ("the amplitude round changed the total flux by +3.1%",)
    uncertain = {**BEST, "flux_error_jy": 0.02}
    assert not judge(changed(total_flux_jy=1.031, snr=2), uncertain, amplitude=True).warnings


def test_all_faults_are_named() -> None:
    verdict = judge(changed(snr=0.5, beam_area_arcsec2=2), BEST)
    assert "SNR fell" in verdict.reason and "; beam area grew by 100.0% (" in verdict.reason


def test_statistics_of_an_empty_best_image_divide_nothing() -> None:
    empty = dict.fromkeys(BEST, 0.0)
    assert judge(BEST, empty).accepted


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.booleans())
def test_the_scale_of_the_flux_does_not_matter(snr: float, flux: float, amplitude: bool) -> None:
    units = ("rms_jy_beam", "total_flux_jy", "flux_error_jy", "peak_jy_beam")
    new = changed(snr=snr, total_flux_jy=flux)
    same = judge(new, BEST, amplitude=amplitude).accepted
    louder = [{k: v * (4.0 if k in units else 1.0) for k, v in one.items()} for one in (new, BEST)]
    assert judge(louder[0], louder[1], amplitude=amplitude).accepted == same


@given(st.floats(0.2, 3), st.floats(1.0, 3))
def test_more_snr_never_turns_acceptance_into_rejection(snr: float, better: float) -> None:
    if judge(changed(snr=snr), BEST).accepted:
        assert judge(changed(snr=snr * better), BEST).accepted


@given(
    coherent=st.floats(1, 3e6), bottom=st.floats(1e3, 2e5), factor=st.floats(1, 30),
    rungs=st.integers(2, 8),
)  # fmt: skip
def test_the_ladder_climbs_from_the_bottom_to_the_top(
    coherent: float, bottom: float, factor: float, rungs: int
) -> None:
    top = bottom * factor
    climb = [ladder_uvmax_m(coherent, bottom, top, rung, rungs) for rung in range(rungs + 2)]
    assert climb[0] == pytest.approx(max(coherent, bottom))
    assert climb[rungs - 1] == pytest.approx(max(top, coherent))
    assert climb[rungs:] == [climb[rungs - 1]] * 2, "beyond the top there is nothing"
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(climb))
    steps = [high / low for low, high in pairwise(climb[:rungs])]
    assert steps == pytest.approx([steps[0]] * len(steps)), "by equal factors"


def test_known_rungs() -> None:
    climb = [ladder_uvmax_m(50e3, 80e3, 800e3, rung, 3) for rung in range(3)]
    assert climb == pytest.approx([80e3, 252982.2, 800e3])


def test_a_rung_is_judged_by_coherence_and_flux_not_by_peak_or_noise() -> None:
    finer = changed(snr=0.2, rms_jy_beam=3, peak_jy_beam=0.3, beam_area_arcsec2=0.1)
    verdict = judge_ladder(finer, BEST, Limits(), 0.9, 0.5)
    assert verdict.accepted
    assert not judge(finer, BEST).accepted
    assert "90% of the stations coherent" in verdict.reason


def test_a_rung_at_its_limits() -> None:
    assert judge_ladder(BEST, BEST, Limits(), 0.5, 0.5).accepted
    verdict = judge_ladder(BEST, BEST, Limits(), 0.49, 0.5)
    assert not verdict.accepted
    assert verdict.reason.startswith("solutions are coherent on only 49% of the stations")
    assert judge_ladder(changed(total_flux_jy=0.901), BEST, Limits(), 1, 0.5).accepted
    assert not judge_ladder(changed(total_flux_jy=0.899), BEST, Limits(), 1, 0.5).accepted
    doubtful = {**changed(total_flux_jy=0.8), "flux_error_jy": 0.07}
    assert judge_ladder(doubtful, BEST, Limits(), 1, 0.5).accepted


def test_a_flux_that_the_amplitudes_explain_is_no_drift() -> None:
    heavy = changed(total_flux_jy=1.075)
    assert not judge(heavy, BEST, amplitude=True).accepted
    verdict = judge(heavy, BEST, amplitude=True, expected_flux=1.08)
    assert verdict.accepted and not verdict.warnings
    assert not judge(heavy, BEST, amplitude=True, expected_flux=1.07).accepted
    assert not judge(heavy, BEST, amplitude=True, expected_flux=0.92).accepted
    assert judge(changed(total_flux_jy=1.0), BEST, amplitude=True, expected_flux=1.08).accepted


def test_a_round_whose_image_agrees_better_with_closures_may_change_flux_and_noise() -> None:
    brighter = changed(rms_jy_beam=1.8, peak_jy_beam=1.9, total_flux_jy=1.8, near_field_snr=0.9)
    assert not judge(brighter, BEST, amplitude=True).accepted
    assert not judge(brighter, BEST, amplitude=True, closure_chi2=(1.95, 2.0)).accepted
    verdict = judge(brighter, BEST, amplitude=True, closure_chi2=(1.3, 2.0))
    assert verdict.accepted
    assert "closure chi2 from 2 to 1.3" in verdict.reason
    assert verdict.warnings, "the flux is said all the same"
    noisier = {**brighter, "snr": 900.0}
    assert not judge(noisier, BEST, amplitude=True, closure_chi2=(1.3, 2.0)).accepted
    blurred = {**brighter, "beam_area_arcsec2": 2.2}
    assert not judge(blurred, BEST, amplitude=True, closure_chi2=(1.3, 2.0)).accepted


@pytest.mark.parametrize("amplitude", [False, True])
def test_a_round_whose_image_agrees_worse_with_closures_is_taken_back(amplitude: bool) -> None:
    better = changed(snr=2.0, near_field_snr=2.0, dynamic_range=2.0, rms_jy_beam=0.5)
    assert judge(better, BEST, amplitude=amplitude, closure_chi2=(2.09, 2.0)).accepted
    verdict = judge(better, BEST, amplitude=amplitude, closure_chi2=(2.11, 2.0))
    assert not verdict.accepted
    assert verdict.reason.startswith("closure chi2 rose from 2 to 2.11 (")
    assert not judge(better, BEST, closure_chi2=(float("nan"), 2.0)).accepted


def test_closures_within_their_errors_decide_nothing() -> None:
    assert judge(BEST, BEST, closure_chi2=(0.99, 0.6)).accepted
    assert not judge(changed(total_flux_jy=0.8), BEST, closure_chi2=(0.6, 0.99)).accepted


def test_closures_that_agree_better_are_gain_enough() -> None:
    limits = Limits(snr_gain=0.02)
    assert not judge(BEST, BEST, limits, closure_chi2=(1.96, 2.0)).accepted
    assert judge(BEST, BEST, limits, closure_chi2=(1.8, 2.0)).accepted


def test_neither_flux_nor_noise_are_compared_where_stations_fix_the_scale() -> None:
    brighter = changed(rms_jy_beam=1.5, peak_jy_beam=1.5, total_flux_jy=1.5)
    assert not judge(brighter, BEST, amplitude=True).accepted
    verdict = judge(brighter, BEST, amplitude=True, flux_known=True)
    assert verdict.accepted and not verdict.warnings
    fainter = changed(total_flux_jy=0.5)
    assert judge(fainter, BEST, amplitude=True, flux_known=True).accepted
    assert not judge(changed(snr=0.98), BEST, amplitude=True, flux_known=True).accepted


# a first image of badly phased data: more flux than the source has, in a mask of many beams
BADLY_PHASED = {
    **BEST, "snr": 186.0, "near_field_snr": 150.0, "dynamic_range": 100.0, "rms_jy_beam": 1.3e-4,
    "peak_jy_beam": 0.024, "total_flux_jy": 0.19, "flux_error_jy": 0.012, "mask_beams": 60.0,
}  # fmt: skip
PHASED = {
    **BEST, "snr": 2535.0, "near_field_snr": 2000.0, "dynamic_range": 2000.0, "rms_jy_beam": 2e-5,
    "peak_jy_beam": 0.05, "total_flux_jy": 0.108, "flux_error_jy": 1e-3, "mask_beams": 50.0,
}  # fmt: skip


def test_artefacts_that_went_are_no_flux_that_was_lost() -> None:
    """The badly phased image shows 0.19 Jy, of which 0.07 Jy where the better one has 0.108."""
    verdict = judge(PHASED, BADLY_PHASED, flux_within=(0.108, 0.07))
    assert verdict.accepted, verdict.reason


def test_flux_that_fell_where_the_source_is_counts_however_good_the_image() -> None:
    lost = {**changed(snr=3.0, total_flux_jy=0.7), "mask_beams": 1.0}
    verdict = judge(lost, BEST, flux_within=(0.7, 0.99))
    assert not verdict.accepted
    assert verdict.reason.startswith("flux within the source fell by 29.3%")
    assert not judge(changed(snr=1.2, total_flux_jy=0.7), BEST, flux_within=(0.7, 0.7)).accepted, (
        "an image that is a little better does not say where the source is"
    )


def test_a_residual_above_that_of_the_better_image_is_in_the_error() -> None:
    noisy = {**BEST, "snr": 900.0, "rms_jy_beam": 5e-3, "mask_beams": 20.0}
    lost = changed(total_flux_jy=0.8, snr=1.2)
    assert judge(lost, noisy).accepted, "3 sqrt(25 - 1) mJy in 20 beams are 0.29 Jy"
    assert not judge(lost, {**noisy, "mask_beams": 5.0}).accepted


@pytest.mark.parametrize(
    ("name", "said"),
    [("near_field_snr", "SNR near the source fell"), ("dynamic_range", "dynamic range fell")],
)
def test_other_looks_at_the_noise_are_weighed_against_the_snr(name: str, said: str) -> None:
    worse = judge(changed(snr=1.1, **{name: 0.9}), BEST)
    assert not worse.accepted and said in worse.reason, "1.1 x 0.9 is less than 1"
    better = judge(changed(snr=1.12, **{name: 0.9}), BEST)
    assert better.accepted and f"outweighed by the SNR: {said}" in better.reason


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"beam_area_arcsec2": 1.1}, "beam area grew by 10.0%"),
        ({}, "12.4% of the visibilities are flagged, 1.0% were before"),
    ],
)
def test_a_decisive_gain_of_snr_outweighs_what_was_lost(loss: dict, said: str) -> None:
    flagged = (0.01, 0.124) if not loss else (0.0, 0.0)
    small = judge(changed(snr=1.3, **loss), BEST, flagged=flagged)
    assert not small.accepted and said in small.reason
    large = judge(changed(snr=10.0, **loss), BEST, flagged=flagged)
    assert large.accepted
    assert "outweighed by the SNR: " + said in large.reason


def test_losses_multiply() -> None:
    poor = changed(snr=3.0, near_field_snr=0.8, beam_area_arcsec2=1.6)
    assert judge(poor, BEST, flagged=(0.0, 0.05)).accepted, "3 x 0.8 / 1.6 is 1.5"
    assert not judge(poor, BEST, flagged=(0.0, 0.2)).accepted, "a fifth less is not"


@given(st.floats(0.2, 30.0), st.floats(0.0, 0.9))
def test_more_snr_never_turns_a_round_down(gain: float, flagged: float) -> None:
    one = judge(changed(snr=gain), BEST, flagged=(0.0, flagged))
    more = judge(changed(snr=1.5 * gain), BEST, flagged=(0.0, flagged))
    assert more.accepted or not one.accepted


@given(st.floats(0.005, 0.3), st.floats(0.0, 0.3))
def test_a_fall_of_the_snr_near_the_source_within_twice_its_error_is_none(
    fall: float, error: float
) -> None:
    verdict = judge(changed(near_field_snr=1 - fall), BEST, near_field_error=error)
    assert verdict.accepted is (fall < 2 * error or fall <= Limits().snr_loss)
    if fall < 2 * error:
        assert "within twice its error" in verdict.reason
