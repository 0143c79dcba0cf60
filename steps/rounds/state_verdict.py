"""The verdict on a round by its image and by what held-out baselines say of both states.

An image tells what gains did to its noise only as far as its noise is theirs: where sidelobes that
CLEAN cannot follow are many times the thermal noise, it may be better with worse gains; and gains
solved against a poor model leave an image as good as it was. Held-out baselines compare the model
and gains of one state with those of the other (`libs.heldout.evidence`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from libs.core.numbers import format_number
from libs.heldout.choose import ADVANTAGE, SIGNIFICANCE
from libs.heldout.evidence import ModelComparison
from libs.imaging.judging import Fault, Limits, Verdict

__all__ = ["states_said", "weigh_states"]

# Where the noise of an image is so many times the thermal noise, three quarters of its power are
# sidelobes.
_ARTEFACTS = 2.0


def weigh_states(
    verdict: Verdict,
    step: ModelComparison | None,
    new: Mapping[str, float],
    best: Mapping[str, float],
    limits: Limits,
    *,
    closer: bool = False,
) -> Verdict:
    """Return the verdict on a round by its image and by held-out baselines.

    Where an image is only somewhat better, held-out baselines must prefer the new model and gains:
    these may otherwise follow noise, or take up what the model lacks. Held-out baselines overrule a
    changed flux, and the noise of images in which sidelobes exceed the thermal noise. They do not
    overrule a loss of resolution or of data, closure quantities, or a rise of the SNR that is asked
    for.

    Parameters
    ----------
    verdict : Verdict
        By the image.
    step : ModelComparison or None
        By how much more the new model and gains explain than the best state's; None where that is
        not known, and the image decides.
    new, best : mapping
        Image statistics: ``snr``, ``rms_jy_beam``, and where it is known ``thermal_rms_jy_beam``.
    limits : Limits
    closer : bool
        The new image agrees better with closure quantities.
    """
    if step is None:
        return verdict
    said = states_said(step)
    if verdict.accepted:
        decisive = closer or new["snr"] >= limits.decisive * best["snr"]
        if decisive or step.sigma >= ADVANTAGE:
            return replace(verdict, reason=f"{verdict.reason}; {said}")
        unproven = f"nothing shows that these gains are better: {said}; {ADVANTAGE:g} are asked for"
        return replace(verdict, accepted=False, reason=f"{unproven} ({verdict.reason})")
    artefacts = all(
        one["rms_jy_beam"] > _ARTEFACTS * one.get("thermal_rms_jy_beam", float("inf"))
        for one in (new, best)
    )
    by_flux = verdict.faults <= {Fault.FLUX} and step.sigma >= ADVANTAGE
    by_noise = verdict.faults <= {Fault.FLUX, Fault.NOISE} and artefacts
    if by_flux or (by_noise and step.sigma >= SIGNIFICANCE):
        why = "" if by_flux else ", and the noise of both images is mostly that of sidelobes"
        return replace(
            verdict, accepted=True, faults=frozenset(),
            reason=f"{said}{why}; that outweighs what the image says: {verdict.reason}",
        )  # fmt: skip
    return replace(verdict, reason=f"{verdict.reason}; {said}")


def states_said(step: ModelComparison) -> str:
    """Return in words what held-out baselines say of the new state against the one before."""
    moved = "lower" if step.chi2 >= 0 else "raise"
    return (
        f"this image's model and gains {moved} chi2 of held-out baselines by"
        f" {format_number(abs(step.chi2), 3)} against those before ({step.sigma:+.1f} sigma)"
    )
