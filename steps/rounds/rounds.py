"""Rounds of self-calibration: image, solve, apply, judge; p0, p1, ap1 ... differ by options."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from libs.core.errors import ImageError, SolveError
from libs.core.numbers import format_number
from libs.gains.solver import AppliedTable, SolveOptions
from libs.gains.table_rows import gains_rows
from selfcal.options import Option
from selfcal.step import Skip, Step, StepResult, TableRef
from selfcal.template_choice import choose_template
from steps.context import Context
from steps.data_state import ensure_tables
from steps.images import (
    Imaged,
    best_result,
    clean_folder,
    image_products,
    image_row,
    judged_image,
)
from steps.imaging import measured_for_rules
from steps.rounds.held_out import HeldOut
from steps.rounds.judging_round import judge_trial, newly_flagged, record_of, with_held_out
from steps.rounds.ladder import check_rung, judged_parameters
from steps.rounds.mosaic_state import (
    measured_pointings,
    newest,
    restricted,
    settled,
    taking_part,
)
from steps.rounds.record import BestState, CycleCount, Refusal, RoundRecord, Trial
from steps.rounds.round_model import ModelCandidate, RoundCycle, round_models
from steps.rounds.round_options import ROUND_OPTIONS
from steps.rounds.scales import ScalesTried, same_gains, with_scales
from steps.rounds.solving import (
    adaptive,
    gain_options,
    renew_tables,
    set_by_user,
    solve_round,
)
from steps.solution_file import solutions_of, write_solutions
from steps.user_mask import MASK_SETTING

__all__ = ["GainRound", "PhaseRound"]


@dataclass(frozen=True)
class _Outcome:
    """What came of a cycle: the result as if the round ended there, and the record behind it."""

    result: StepResult
    record: RoundRecord

    @property
    def accepted(self) -> bool:
        return self.result.status == "done"


@dataclass
class _Cycles:
    """The cycles of a round so far.

    Attributes
    ----------
    accepted : list of _Outcome
    images : list of mapping
        Rows for images.csv, of refused cycles too.
    refused : _Outcome or None
        The cycle that ended the round.
    ended : str
        Why the last cycle was refused or not made; empty where it was accepted.
    scales : str
        What extended components brought, where the round goes on with them.
    shown : ScalesTried or None
        The image with them, of the state from which the round began.
    """

    accepted: list[_Outcome] = field(default_factory=list)
    images: list[Mapping[str, Any]] = field(default_factory=list)
    refused: _Outcome | None = None
    ended: str = ""
    scales: str = ""
    shown: ScalesTried | None = None

    def count(self, flux_change: float) -> CycleCount:
        """Return the record of them."""
        tried = len(self.accepted) + (self.refused is not None)
        return CycleCount(len(self.accepted), tried, 100 * flux_change, self.ended or None)


class GainRound(Step):
    """One round of self-calibration on the best state so far, in one or more cycles."""

    needs = ("test_image",)
    uses = ("imager", "solver", "template", "rounds", "threads", "memory")
    uses_files = (MASK_SETTING,)
    options: ClassVar[tuple[Option, ...]] = ROUND_OPTIONS
    from_template = True
    amplitude = False

    @abstractmethod
    def calmode(self, context: Context) -> str:
        """Return ``p``, ``a`` or ``ap``."""

    def run(self, context: Context) -> StepResult:
        """Image with a mask, solve, apply, image again, judge; again while it helps."""
        earlier = BestState.of(best_result(context), context.tables)
        check_rung(context)
        cycles = self._cycles(context, earlier)
        if cycles.accepted:
            result = self._conclude(context, earlier, cycles)
        elif cycles.shown is not None:
            kept = best_result(context)
            result = same_gains(context, self.name, cycles.shown, kept, cycles.ended)
            cycles.scales = ""  # it says so first
        else:
            assert cycles.refused is not None
            result = cycles.refused.result
        ensure_tables(context, result.tables)
        reason = "; ".join(filter(None, (result.reason, cycles.scales)))
        return replace(result, reason=reason, images=tuple(cycles.images))

    def solve_options(
        self,
        context: Context,
        ms: Path,
        calmode: str,
        prior: Sequence[AppliedTable],
        fields: Sequence[int] = (),
    ) -> tuple[SolveOptions, HeldOut | None]:
        """Return how to solve a working copy, and what held-out data said of it."""
        return gain_options(context, ms, calmode, prior, fields)

    def prepare(self, context: Context) -> None:
        """What is done before the round; amplitude rounds split the data."""

    def _cycles(self, context: Context, best: BestState) -> _Cycles:
        """Repeat the round while it helps."""
        folder = clean_folder(context, self.name)
        self.prepare(context)
        if not best.pointings:
            measured = measured_pointings(context, best, folder, "before")
            best = replace(best, pointings=measured)
        cycles, scales = _Cycles(), ScalesTried(best)
        for number in range(1, context.options["max_cycles"] + 1):
            cycle = RoundCycle(self.name, number, folder)
            scales = with_scales(context, best, cycle)
            cycles.images += [image_row(context, self.name, image) for image in scales.images]
            best, cycles.scales = scales.best, scales.said or cycles.scales
            if number == 1 and scales.said:
                cycles.shown = scales
            try:
                outcome = self._best_cycle(context, best, cycle)
            except Skip as skip:
                # nothing to do in a later cycle takes nothing from those before it
                if not (cycles.accepted or cycles.shown):
                    ensure_tables(context, context.tables)
                    raise
                cycles.ended = str(skip)
                break
            cycles.images += outcome.result.images
            if not outcome.accepted:
                cycles.refused, cycles.ended = outcome, outcome.result.reason
                break
            cycles.accepted.append(outcome)
            scales = ScalesTried(best)
            previous, best = best, BestState.of(outcome.result, outcome.result.tables)
            if _progress(previous, best, outcome.record) < context.options["min_cycle_gain"]:
                break
        if scales.said and cycles.accepted:
            # the cycle that began with them was refused, but they show the one before better
            cycles.accepted[-1] = _shown_with(scales, cycles.accepted[-1])
        return cycles

    def _best_cycle(self, context: Context, best: BestState, cycle: RoundCycle) -> _Outcome:
        """Solve against the models of the best state in turn, until one makes a better image.

        CLEAN's components were found in the very data that its model predicts, so that what a
        model explains is no more than a reason to try it first.
        """
        models = round_models(context, best, cycle, self.amplitude)
        tries = [(replace(cycle, model=number), one) for number, one in enumerate(models, start=1)]
        outcome, tries = self._first_cycle(context, best, tries)
        images = list(outcome.result.images)
        if self._lost_antennas(context, outcome):
            tries.insert(0, (replace(cycle, keeps_all=True), models[0]))
        for other, model in tries:
            if outcome.accepted or not self._may_try_again(context, best, outcome):
                break
            try:
                again = self._cycle(context, best, other, model)
            except Skip:
                continue  # held-out data trust no gains of this model
            images += again.result.images
            if again.accepted:
                outcome = _second_try(again, outcome, other, model)
        return replace(outcome, result=replace(outcome.result, images=tuple(images)))

    def _first_cycle(
        self, context: Context, best: BestState, tries: Sequence[tuple[RoundCycle, ModelCandidate]]
    ) -> tuple[_Outcome, list[tuple[RoundCycle, ModelCandidate]]]:
        """Solve against the first model of which held-out data trust any gains.

        Returns
        -------
        _Outcome
        list of (RoundCycle, ModelCandidate)
            What was not tried.

        Raises
        ------
        Skip
            There is none; what is said of the first.
        """
        refused: Skip | None = None
        for number, (cycle, model) in enumerate(tries, start=1):
            try:
                outcome = self._cycle(context, best, cycle, model)
            except Skip as skip:
                refused = refused or skip
                continue
            if refused is not None:
                reason = f"{outcome.result.reason}; it was solved against {model.name}"
                outcome = replace(outcome, result=replace(outcome.result, reason=reason))
            return outcome, list(tries[number:])
        assert refused is not None
        raise refused

    def _may_try_again(self, context: Context, best: BestState, outcome: _Outcome) -> bool:
        """Whether another model or other flags might do better than a cycle that was refused.

        Where the image is as good as before there is nothing to make good.
        """
        if outcome.record.refusal is Refusal.FLAGGED:
            return True
        new = outcome.record.statistics
        if outcome.record.refusal is not Refusal.NOT_BETTER or new is None:
            return False
        kept = (1 - context.options["max_snr_loss"]) * best.image.statistics.snr
        return new.snr < kept or self._lost_antennas(context, outcome)

    def _lost_antennas(self, context: Context, outcome: _Outcome) -> bool:
        """Whether a cycle was refused that flagged antennas, which the user did not ask for.

        A source that long baselines resolve says nothing of their antennas' phases. That is no
        reason to leave the others as they came, nor to give up the resolution.
        """
        trial = outcome.record.trial
        if outcome.accepted or trial is None or not adaptive(context):
            return False
        by_user = set_by_user(context, "minsnr") or set_by_user(context, "incoherent")
        return trial.flagged_after > trial.flagged_before and not by_user

    def _cycle(
        self, context: Context, best: BestState, cycle: RoundCycle, candidate: ModelCandidate
    ) -> _Outcome:
        """Solve against a model and judge what comes of it."""
        taking = taking_part(context, best)
        candidate.fill()
        model = candidate.model
        prior = self.prior_tables(context)
        calmode = self.calmode(context)
        try:
            if adaptive(context):
                prior = renew_tables(context, prior, self.name, cycle.suffix, model.origin)
            new, solved = solve_round(
                context, self.name, calmode, prior, cycle.suffix, self.solve_options,
                keeps_all=cycle.keeps_all, fields=taking,
            )  # fmt: skip
        except SolveError as error:
            nothing = RoundRecord(refusal=Refusal.NO_SOLUTION)
            return self._refused(context, error.cause, nothing, model.images, ())
        refs = restricted(new, taking, best.tables, len(best.pointings)) if taking else new
        flagged = ensure_tables(context, refs)
        trial = Trial(
            refs=refs,
            solved=solved,
            flagged=flagged,
            newly_flagged=newly_flagged(context, flagged, solved),
            images=model.images,
            mask_file=model.mask_file,
            mask_reason=model.mask_reason,
            model_from=model.origin,
            judged_with=judged_parameters(context, best.image.judged_with),
        )
        record = record_of(context, trial, self.name, solved[0].options.calmode)
        over = trial.newly_flagged > context.options["max_new_flags"]
        # at another resolution SNR cannot tell whether the loss was worth it
        if over and trial.judged_with["uvmax"] != best.image.uvmax_m:
            return self._flagged_out(context, trial, record)
        name = f"selfcal_{self.name}{cycle.suffix}"
        try:
            image = judged_image(context, cycle.folder, name, refs, trial.judged_with)
        except ImageError:
            if not over:
                raise
            return self._flagged_out(context, trial, record)
        trial = replace(trial, images=(*model.images, image))
        if taking:
            trial = settled(context, best, trial, new, taking, cycle.folder)
        return self._judge(context, best, trial, record)

    def _flagged_out(self, context: Context, trial: Trial, record: RoundRecord) -> _Outcome:
        """Go back: too few data are left to say anything by their image."""
        before, after = trial.flagged
        reason = (
            f"too much was flagged: {after:.1%} of the visibilities, against {before:.1%} before"
        )
        record = replace(record, refusal=Refusal.FLAGGED)
        return self._refused(context, reason, record, trial.images, trial.refs)

    def prior_tables(self, context: Context) -> tuple[TableRef, ...]:
        """The tables kept beneath: those of the first group of rounds that were all accepted.

        They are taken as the last of the group had them, which may have renewed the others.
        """
        done = {
            name: result.tables
            for name, result in context.results.items()
            if result.status == "done"
        }
        for group in context.options["incremental_on"]:
            if all(any(ref.round == name for ref in done.get(name, ())) for name in group):
                last = done[group[-1]] if group else ()
                return newest(
                    ref
                    for name in group
                    for ref in [r for r in last if r.round == name]
                    or [r for r in done[name] if r.round == name]
                )
        return ()

    def _judge(
        self, context: Context, best: BestState, trial: Trial, record: RoundRecord
    ) -> _Outcome:
        """Accept the cycle or go back."""
        judged = judge_trial(context, best, trial, self.amplitude, record)
        reason = "; ".join(filter(None, (judged.reason, trial.pointings_said)))
        judged = with_held_out(best, trial, replace(judged, reason=reason))
        if not judged.accepted:
            return self._refused(context, judged.reason, judged.record, trial.images, trial.refs)
        record = replace(judged.record, judged=self.name)
        products = image_products(context, trial.image)
        if trial.mask_file is not None:
            products["mask"] = context.relative(trial.mask_file)
        if len(trial.images) > 1:
            products["start_image"] = context.relative(trial.images[0].products.image)
        known = {ref.path for result in context.results.values() for ref in result.tables}
        for number, ref in enumerate(ref for ref in trial.refs if ref.path not in known):
            products[f"table_{number}"] = ref.path
        result = StepResult(
            reason=judged.reason,
            tables=trial.refs,
            template=context.template,
            products=products,
            metrics=record.as_metrics(),
            images=tuple(image_row(context, self.name, item) for item in trial.images),
        )
        return _Outcome(result, record)

    def _conclude(self, context: Context, earlier: BestState, cycles: _Cycles) -> StepResult:
        """Write the h5parm, choose the template anew, sum up all cycles."""
        last = cycles.accepted[-1]
        statistics, solve = last.record.statistics, last.record.solve
        assert statistics is not None and solve is not None
        tested = solve.held_out.coherence if solve.held_out else None
        coherence = tested.station_coherence if tested else None
        write_solutions(context, last.result.tables, self.name, coherence)
        own = context.workdir / "tables" / f"{self.name}.h5"
        products = dict(last.result.products)
        if own.exists():
            products["h5parm"] = context.relative(own)
        template, why = self._template(context, last.record)
        before = earlier.image.statistics
        change = statistics.total_flux_jy / before.total_flux_jy - 1
        warnings = [one.record.warning for one in cycles.accepted if one.record.warning]
        record = replace(
            last.record,
            count=cycles.count(change),
            warning="; ".join(dict.fromkeys(warnings)) or None,
        )
        reason = last.result.reason
        if len(cycles.accepted) > 1:
            reason = (
                f"{len(cycles.accepted)} cycles were accepted, in which the SNR went from"
                f" {format_number(before.snr, 4)} to {format_number(statistics.snr, 4)} and the"
                f" total flux by {change:+.1%}; the last of them: {reason}"
            )
        if cycles.ended:
            reason += f"; cycle {len(cycles.accepted) + 1} was not accepted: {cycles.ended}"
        return replace(
            last.result,
            reason=reason + why,
            template=template,
            products=products,
            metrics=record.as_metrics(),
            gains=tuple(self._gain_rows(context, last.result.tables)),
        )

    def _template(self, context: Context, record: RoundRecord) -> tuple[str, str]:
        """The template from here on, chosen anew where the options say so."""
        if not context.options["reselect_template"]:
            return context.template, ""
        assert record.statistics is not None
        choice = choose_template(
            measured_for_rules(context, record.statistics), wanted=context.settings["template"]
        )
        return choice.template, f"; from here {choice.reason}"

    def _refused(
        self,
        context: Context,
        reason: str,
        record: RoundRecord,
        images: Sequence[Imaged],
        refs: Sequence[TableRef],
    ) -> _Outcome:
        """Go back to the best state."""
        products = {}
        if record.statistics is not None:
            products["image"] = context.relative(images[-1].products.image)
            products["residual"] = context.relative(images[-1].products.residual)
        result = StepResult(
            "rejected",
            reason,
            tables=context.tables,
            template=context.template,
            products=products,
            metrics=record.as_metrics(),
            images=tuple(image_row(context, self.name, image) for image in images),
            gains=tuple(self._gain_rows(context, refs)),
        )
        return _Outcome(result, record)

    def _gain_rows(self, context: Context, refs: Sequence[TableRef]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for ref in refs:
            if ref.round == self.name:
                gains = solutions_of(context, ref)
                for row in gains_rows(gains, step=self.name, ms=ref.ms):
                    rows.append(dict(row))
        return rows


def _shown_with(scales: ScalesTried, outcome: _Outcome) -> _Outcome:
    """Return an accepted cycle with the image of extended components in place of its own."""
    record = scales.shown_by(outcome.record)
    products = {**outcome.result.products, **scales.best.image.products}
    result = replace(outcome.result, products=products, metrics=record.as_metrics())
    return _Outcome(result, record)


def _second_try(
    again: _Outcome, refused: _Outcome, cycle: RoundCycle, model: ModelCandidate
) -> _Outcome:
    """Say of a cycle that was accepted what it did otherwise than the one that was refused."""
    how = (
        "antennas whose phases cannot be told were left as they came"
        if cycle.keeps_all
        else f"it was solved against {model.name}"
    )
    reason = f"{again.result.reason}; {how}, since otherwise {refused.result.reason}"
    return replace(again, result=replace(again.result, reason=reason))


def _progress(before: BestState, after: BestState, record: RoundRecord) -> float:
    """What a cycle brought: the rise of the SNR or, if that is more, the fall of closure chi2."""
    rise = after.image.statistics.snr / before.image.statistics.snr - 1
    return max(rise, record.closeness.fell if record.closeness else 0.0)


class PhaseRound(GainRound):
    """A phase-only round; its table is normalised in nothing."""

    def calmode(self, context: Context) -> str:
        """Phase only."""
        return "p"
