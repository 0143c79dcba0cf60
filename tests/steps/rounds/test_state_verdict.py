"""What held-out baselines say of two states, beside what their images say."""

from __future__ import annotations

import pytest

from libs.heldout.evidence import ModelComparison
from libs.imaging.judging import Fault, Limits, Verdict
from steps.rounds.state_verdict import weigh_states

BEST = {"snr": 100.0, "rms_jy_beam": 1e-3, "thermal_rms_jy_beam": 1e-4}
BETTER = Verdict(True, "SNR 100 to 105")


def step(sigma: float) -> ModelComparison:
    """A comparison of so many sigma."""
    return ModelComparison(sigma, 1.0, 1e-3)


def verdict(before: Verdict, sigma: float, snr: float = 105.0, **changed: float) -> Verdict:
    new = BEST | {"snr": snr} | changed
    return weigh_states(before, step(sigma), new, BEST, Limits())


@pytest.mark.parametrize(
    ("sigma", "snr", "accepted"),
    [(2.1, 105.0, True), (1.9, 105.0, False), (-5.0, 141.0, False), (-5.0, 142.0, True)],
)
def test_an_image_that_is_somewhat_better_needs_held_out_baselines(
    sigma: float, snr: float, accepted: bool
) -> None:
    found = verdict(BETTER, sigma, snr)
    assert found.accepted == accepted
    assert "SNR 100 to 105" in found.reason and f"{sigma:.1f} sigma" in found.reason
    assert accepted or found.reason.startswith("nothing shows that these gains are better")


def test_closure_quantities_that_agree_better_decide_alone() -> None:
    new = BEST | {"snr": 105.0}
    assert weigh_states(BETTER, step(-1.0), new, BEST, Limits(), closer=True).accepted


@pytest.mark.parametrize(
    ("faults", "sigma", "accepted"),
    [
        ({Fault.FLUX}, 2.1, True),
        ({Fault.FLUX}, 1.9, False),
        ({Fault.NOISE}, 3.1, True),
        ({Fault.NOISE, Fault.FLUX}, 3.1, True),
        ({Fault.NOISE}, 2.9, False),
        ({Fault.NOISE, Fault.DATA}, 30.0, False),
        ({Fault.CLOSURE}, 30.0, False),
        ({Fault.NO_RISE}, 30.0, False),
    ],
)
def test_what_they_outweigh(faults: set[Fault], sigma: float, accepted: bool) -> None:
    refused = Verdict(False, "it is worse", ("a warning",), frozenset(faults))
    found = verdict(refused, sigma, 90.0)
    assert found.accepted == accepted and found.warnings == refused.warnings
    assert "it is worse" in found.reason


@pytest.mark.parametrize("changed", [{"rms_jy_beam": 1.9e-4}, {"thermal_rms_jy_beam": 6e-4}])
def test_noise_that_is_thermal_tells_of_the_gains(changed: dict[str, float]) -> None:
    refused = Verdict(False, "it is noisier", faults=frozenset({Fault.NOISE}))
    assert not verdict(refused, 30.0, 90.0, **changed).accepted


def test_without_thermal_noise_or_a_comparison_the_image_decides() -> None:
    refused = Verdict(False, "it is noisier", faults=frozenset({Fault.NOISE}))
    unknown = {"snr": 90.0, "rms_jy_beam": 1e-3}
    assert not weigh_states(refused, step(30.0), unknown, unknown, Limits()).accepted
    assert weigh_states(BETTER, None, BEST, BEST, Limits()) is BETTER
