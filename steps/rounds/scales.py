"""Whether the best state's image is better with extended components of CLEAN.

Points alone leave part of an extended source in the residual. Phases hardly notice; amplitudes
take the missing flux up, so that it has to be in the model before they are freed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from libs.closure.agreement import ClosureAgreement
from libs.core.errors import InputError
from libs.core.numbers import format_number
from libs.imaging.judging import Limits, judge
from libs.imaging.statistics import ImageStatistics
from selfcal.step import StepResult
from steps.context import Context
from steps.data_state import ensure_tables
from steps.images import (
    Imaged,
    ImageRecord,
    image_products,
    imaging_options,
    make_image,
)
from steps.mosaics import is_mosaic
from steps.rounds.closure_judging import image_agreement
from steps.rounds.ladder import on_ladder
from steps.rounds.record import BestState, Closeness, RoundRecord
from steps.rounds.round_model import RoundCycle
from steps.rounds.solving import adaptive, set_by_user

__all__ = ["ScalesTried", "holds_more_than_a_point", "same_gains", "with_scales"]

# A source whose flux is the peak's to so many errors is a point.
_RESOLVED_SIGMA = 3.0

# Gain of SNR, a fraction, below which two images are the same.
_LEAST_GAIN = 0.01


@dataclass(frozen=True)
class ScalesTried:
    """What became of the image with scales.

    Attributes
    ----------
    best : BestState
        With the better of both images.
    said : str
        For the round's reason; empty where nothing was tried or changed.
    images : tuple of Imaged
        The image with scales, where one was made.
    agreement : ClosureAgreement or None
        Of that image's model with closure quantities, where it was asked for.
    """

    best: BestState
    said: str = ""
    images: tuple[Imaged, ...] = ()
    agreement: ClosureAgreement | None = None

    def shown_by(self, record: RoundRecord) -> RoundRecord:
        """Return the record of the cycle before, shown by the image with scales."""
        found, closeness = self.agreement, record.closeness
        if found is not None:
            before = closeness.closure_chi2_before if closeness else None
            closeness = Closeness(found.chi2, found.phase_chi2, found.amplitude_chi2, before)
        return replace(
            record,
            statistics=self.images[-1].statistics,
            closeness=closeness,
            judged_with=dict(self.best.image.judged_with),
        )


def with_scales(context: Context, best: BestState, cycle: RoundCycle) -> ScalesTried:
    """Image the best state with extended components too, and keep the better image.

    Tried on calibrated data, of a source that is no point, where the user has not said whether
    ``with_multiscale`` it shall be. The two images are judged like those of a round: the noise,
    also near the source, must be lower on the whole, and closure quantities must agree as well.

    Parameters
    ----------
    context : Context
    best : BestState
    cycle : RoundCycle
        That is about to begin.
    """
    if not _worth_trying(context, best):
        return ScalesTried(best)
    judged_with = {**best.image.judged_with, "with_multiscale": True}
    name = f"scales_{cycle.step}{cycle.suffix}"
    options = imaging_options(context, judged_with, cycle.folder, name, best.tables)
    ensure_tables(context, best.tables)
    image = make_image(context, options)
    if image.fault:
        return ScalesTried(best, images=(image,))
    found, closure = _closures(context, best, image, judged_with)
    limits = Limits(
        snr_gain=max(context.options["min_snr_gain"], _LEAST_GAIN),
        snr_loss=context.options["max_snr_loss"],
        flux_loss=context.options["max_flux_loss"],
        closure_rise=context.options["max_closure_rise"],
    )
    before = best.image.statistics
    verdict = judge(image.statistics.as_row(), before.as_row(), limits, closure_chi2=closure)
    if not verdict.accepted:
        return ScalesTried(best, images=(image,))
    said = (
        "with extended components in CLEAN's model the same data have an SNR of"
        f" {format_number(image.statistics.snr, 4)}, without {format_number(before.snr, 4)}"
    )
    record = ImageRecord(
        image.statistics, best.image.judged, judged_with, image_products(context, image)
    )
    chi2 = closure[0] if closure else best.closure_chi2
    return ScalesTried(replace(best, image=record, closure_chi2=chi2), said, (image,), found)


def same_gains(
    context: Context, name: str, scales: ScalesTried, kept: StepResult, why: str
) -> StepResult:
    """Return the result of a round that brought no gains, but an image with extended components.

    Parameters
    ----------
    context : Context
    name : str
        The round.
    scales : ScalesTried
    kept : StepResult
        Result that led to the state, whose gains stay.
    why : str
        Reason why no other gains were taken.
    """
    own = RoundRecord(judged=name)
    of_the_gains = ("flux_factor", "held_out_sigma", "incremental_on")
    return StepResult(
        reason=f"{scales.said}; no other gains were taken: {why}",
        tables=kept.tables,
        template=context.template,
        products=dict(scales.best.image.products),
        metrics={key: kept.metrics[key] for key in of_the_gains if key in kept.metrics}
        | scales.shown_by(own).as_metrics(),
    )


def _worth_trying(context: Context, best: BestState) -> bool:
    """Whether data are calibrated, the source is resolved, and nobody has decided."""
    if not adaptive(context) or not best.tables or on_ladder(context):
        return False
    if is_mosaic(context):  # its flux is that of several sources
        return False
    if best.image.judged_with["with_multiscale"] or set_by_user(context, "with_multiscale"):
        return False
    return holds_more_than_a_point(best.image.statistics)


def holds_more_than_a_point(image: ImageStatistics) -> bool:
    """Return whether an image holds more flux than a point of its peak."""
    beyond = image.total_flux_jy - image.peak_jy_beam
    return bool(beyond > _RESOLVED_SIGMA * max(image.flux_error_jy, image.rms_jy_beam))


def _closures(
    context: Context, best: BestState, image: Imaged, judged_with: Mapping[str, Any]
) -> tuple[ClosureAgreement | None, tuple[float, float] | None]:
    """Agreement of the image with scales; its chi2 and that of the one without, where known."""
    if not context.options["closure_test"]:
        return None, None
    try:
        new = image_agreement(context, image_products(context, image), judged_with)
        old = best.closure_chi2
        if old is None:
            found = image_agreement(context, best.image.products, best.image.judged_with)
            old = found.chi2 if found else None
    except InputError as error:
        context.progress.activity(f"scales judged without closure quantities: {error.cause}")
        return None, None
    return new, (new.chi2, old) if new is not None and old is not None else None
