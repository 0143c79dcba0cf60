"""The evidence for and against a cycle of a round, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from libs.core.errors import InputError
from libs.heldout.choose import SIGNIFICANCE
from libs.imaging.align import LEAST_CORRELATION, compare
from libs.imaging.judging import Limits, Verdict, judge, judge_ladder
from libs.imaging.near_field import near_field_error
from libs.imaging.statistics import fluxes_within
from libs.ms.summary import flagged_fraction, summarise
from steps.context import Context
from steps.data_state import measurement_sets
from steps.images import image_products
from steps.rounds.closure_judging import image_agreement
from steps.rounds.held_out import evidence_said, held_out_sigma
from steps.rounds.record import BestState, Closeness, Refusal, RoundRecord, Trial, TrialRecord
from steps.rounds.solve_record import Solved, SolveRecord
from steps.rounds.state_evidence import compare_states
from steps.rounds.state_verdict import weigh_states

__all__ = ["Judged", "judge_trial", "newly_flagged", "record_of", "with_held_out"]


@dataclass(frozen=True)
class Judged:
    """The verdict on a cycle and the record of it.

    Attributes
    ----------
    accepted : bool
    reason : str
    record : RoundRecord
    """

    accepted: bool
    reason: str
    record: RoundRecord


def newly_flagged(
    context: Context, flagged: tuple[float, float], solved: tuple[Solved, ...]
) -> float:
    """Return the fraction flagged anew, apart from antennas that are incoherent."""
    before, after = flagged
    dropped = {one.ms: one.dropped for one in solved}
    if not any(dropped.values()):
        return after - before
    others, rows = 0.0, 0
    for ms in measurement_sets(context):
        summary = summarise(ms)
        lost = [summary.antenna.index(name) for name in dropped.get(ms.name, ())]
        others += summary.rows * flagged_fraction(ms, without=lost)
        rows += summary.rows
    return others / rows - before


def record_of(context: Context, trial: Trial, name: str, calmode: str) -> RoundRecord:
    """Return the record of a cycle as far as it is solved and applied."""
    return RoundRecord(
        trial=TrialRecord(
            calmode=calmode,
            minsnr=context.options["minsnr"],
            mask=trial.mask_reason,
            model_from=trial.model_from,
            flagged_before=trial.flagged[0],
            flagged_after=trial.flagged[1],
            limit_m=trial.judged_with["uvmax"],
            incremental_on=tuple(sorted({ref.round for ref in trial.refs} - {name})),
        ),
        solve=SolveRecord.of(trial.solved),
    )


def judge_trial(
    context: Context, best: BestState, trial: Trial, amplitude: bool, record: RoundRecord
) -> Judged:
    """Accept a cycle that was imaged, or not.

    An image of other baselines than the best state's has another resolution: it is judged as a
    rung of the ladder, by its flux and by the coherence of the stations.
    """
    record = replace(
        record, statistics=trial.image.statistics, pointings_measured=trial.pointings,
        pointings_before=best.pointings,
    )  # fmt: skip
    limits = _limits(context, trial)
    climbs = trial.judged_with["uvmax"] != best.image.uvmax_m
    if climbs:
        beyond = _beyond_reach(best, trial)
        if beyond:
            return Judged(False, beyond, replace(record, refusal=Refusal.INCOHERENT))
        assert record.solve is not None
        verdict = judge_ladder(
            trial.image.statistics.as_row(),
            best.image.statistics.as_row(),
            limits,
            record.solve.coherent_fraction,
            context.options["min_coherent"],
        )
    else:
        record = replace(record, closeness=_closeness(context, best, trial))
        verdict = _judge_alike(context, best, trial, amplitude, limits, record)
        step = compare_states(context, best, trial)
        record = replace(record, states_sigma=None if step is None else step.sigma)
        fell = record.closeness.fell if record.closeness else 0.0
        verdict = weigh_states(
            verdict, step, trial.image.statistics.as_row(), best.image.statistics.as_row(), limits,
            closer=fell > limits.closure_fall,
        )  # fmt: skip
    record = _with_shift(context, best, trial, record)
    if not verdict.accepted:
        # what is taken back needs no warning
        refusal = Refusal.INCOHERENT if climbs else Refusal.NOT_BETTER
        return Judged(False, verdict.reason, replace(record, refusal=refusal))
    if verdict.warnings:
        record = replace(record, warning="; ".join(verdict.warnings))
    reason = verdict.reason + "".join(f"; WARNING: {text}" for text in verdict.warnings)
    return Judged(True, reason, replace(record, judged_with=dict(trial.judged_with)))


def with_held_out(best: BestState, trial: Trial, judged: Judged) -> Judged:
    """Add what held-out baselines say of the cycle; they may refuse what the image accepted.

    Where its gains would take the place of the best state's, both were asked of the same data.
    Gains and model that predict these worse, by a larger factor than the SNR rose and by more
    than chance, fit an image and not the sky. Phases whose mean square error is a radian follow the
    noise more than the source: noise then adds as much to the source as there is of it.

    Parameters
    ----------
    best : BestState
    trial : Trial
    judged : Judged
        By the image.
    """
    sigma = held_out_sigma([one.held_out for one in trial.solved if one.held_out])
    beneath = judged.record.trial.incremental_on if judged.record.trial else ()
    name, before = best.held_out_of(beneath)
    if trial.judged_with["uvmax"] != best.image.uvmax_m:
        before = np.nan  # other baselines
    if judged.record.states_sigma is not None:
        before = np.nan  # each with its own model they were compared already
    if trial.pointings:
        before = np.nan  # maybe other pointings of a mosaic
    accepted, reason, record = judged.accepted, judged.reason, judged.record
    record = replace(record, held_out_sigma=None if np.isnan(sigma) else sigma)
    rise = trial.image.statistics.snr / best.image.statistics.snr
    if accepted and before - sigma > SIGNIFICANCE * np.sqrt(2.0) and sigma * rise < before:
        accepted, record = False, replace(record, refusal=Refusal.NOT_BETTER, warning=None)
        reason = f"held-out baselines are predicted worse than by {name} ({reason})"
    followed = record.solve.noise_followed if record.solve else np.nan
    if accepted and followed > 1.0:
        accepted, record = False, replace(record, refusal=Refusal.NOT_BETTER, warning=None)
        reason = (
            f"the phases follow the noise: noise that they turn into the source's shape is"
            f" {followed:.1f} times as bright as the source itself ({reason})"
        )
    said = evidence_said(sigma, (name, before))
    return Judged(accepted, "; ".join(filter(None, (reason, said))), record)


def _limits(context: Context, trial: Trial) -> Limits:
    """How much worse is still accepted."""
    options = context.options
    return Limits(
        snr_gain=options["min_snr_gain"],
        snr_loss=options["max_snr_loss"],
        rms_rise=options["max_rms_rise"],
        # what antennas that are flagged as incoherent lent to the beam was noise
        beam_growth=np.inf
        if any(one.dropped for one in trial.solved)
        else options["max_beam_growth"],
        new_flags=options["max_new_flags"],
        flux_loss=options["max_flux_loss"],
        flux_warning=options["flux_warning"],
        closure_rise=options["max_closure_rise"],
        closure_fall=options["min_closure_fall"],
    )


def _beyond_reach(best: BestState, trial: Trial) -> str:
    """Why a rung with longer baselines is refused unseen; empty where it is not."""
    reach_m = SolveRecord.of(trial.solved).reach_m
    before_m, limit_m = best.image.uvmax_m, trial.judged_with["uvmax"]
    if best.tables and before_m and reach_m <= before_m < limit_m:
        return f"no coherent solutions beyond {reach_m / 1000:.4g} km"
    return ""


def _judge_alike(
    context: Context,
    best: BestState,
    trial: Trial,
    amplitude: bool,
    limits: Limits,
    record: RoundRecord,
) -> Verdict:
    """Compare two images made alike."""
    assert record.solve is not None
    before = trial.flagged[0]
    return judge(
        trial.image.statistics.as_row(),
        best.image.statistics.as_row(),
        limits,
        amplitude=amplitude,
        expected_flux=record.solve.flux_factor / best.flux_factor,
        flux_known=amplitude and context.options.get("flux_from") == "sites",
        flagged=(before, before + trial.newly_flagged),
        flux_within=_flux_within(context, best, trial, limits),
        closure_chi2=record.closeness.pair if record.closeness else None,
        near_field_error=_near_field_error(context, best, trial),
    )


def _near_field_error(context: Context, best: BestState, trial: Trial) -> float:
    """Error of the change of the SNR near the source; 0 where it did not fall."""
    if trial.image.statistics.near_field_snr >= best.image.statistics.near_field_snr:
        return 0.0
    files = trial.image.products
    before = context.workdir / best.image.products["residual"]
    error = near_field_error(files.image, files.residual, before)
    return error if np.isfinite(error) else 0.0


def _with_shift(
    context: Context, best: BestState, trial: Trial, record: RoundRecord
) -> RoundRecord:
    """Add by how much the image is shifted against the best one."""
    try:
        aligned = compare(
            context.workdir / best.image.products["image"], trial.image.products.image
        )
    except InputError as error:
        # an image of unphased data and one of phased data may have nothing in common
        return replace(record, shift=f"unknown: {error.cause}")
    if aligned.correlation < LEAST_CORRELATION:
        return replace(
            record, shift=f"unknown: the images correlate by {aligned.correlation:.2f} only"
        )
    return replace(record, shift_arcsec=aligned.shift_arcsec)


def _flux_within(
    context: Context, best: BestState, trial: Trial, limits: Limits
) -> tuple[float, float] | None:
    """Fluxes of the new and the best image where the new one has its source.

    None unless the new image lost flux and is decisively the better one.
    """
    new, old = trial.image.statistics, best.image.statistics
    if new.snr < limits.decisive * old.snr or new.total_flux_jy >= old.total_flux_jy:
        return None
    files = trial.image.products
    before = context.workdir / best.image.products["image"]
    return fluxes_within(files.image, files.residual, before)


def _closeness(context: Context, best: BestState, trial: Trial) -> Closeness | None:
    """Agreement of the new image's model with closure quantities, and of the best's.

    None where it is not asked for or there is nothing to compare.
    """
    if not context.options["closure_test"]:
        return None
    before = best.closure_chi2
    try:
        if before is None:
            old = image_agreement(context, best.image.products, trial.judged_with)
            before = None if old is None else old.chi2
        found = image_agreement(context, image_products(context, trial.image), trial.judged_with)
    except InputError as error:
        context.progress.activity(f"judged without closure quantities: {error.cause}")
        return None
    if found is None:
        return None
    return Closeness(found.chi2, found.phase_chi2, found.amplitude_chi2, before)
