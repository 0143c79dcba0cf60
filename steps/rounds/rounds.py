"""Rounds of self-calibration: image, solve, apply, judge; p0, p1, ap1 ... differ by options."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from libs.core.errors import InputError, SolveError
from libs.gains.table_rows import gains_rows
from libs.imaging import masks
from libs.imaging.align import compare
from libs.imaging.interface import open_image, write_masked_model
from libs.imaging.judging import Limits, judge, judge_ladder, ladder_uvmax_m
from libs.ms.summary import flagged_fraction, summarise
from selfcal.context import Context
from selfcal.options import Option
from selfcal.step import Skip, Step, StepResult, TableRef
from selfcal.template_choice import choose_template
from steps.closure_model import fill_component_model
from steps.data_state import (
    ensure_tables,
    fill_model,
    measurement_sets,
)
from steps.images import (
    Imaged,
    best_result,
    clean_folder,
    image_products,
    image_row,
    imaging_options,
    judged_image,
    make_image,
    model_files,
)
from steps.imaging import measured_for_rules
from steps.rounds.closure_judging import image_agreement
from steps.rounds.round_options import ROUND_OPTIONS
from steps.rounds.solving import (
    Solved,
    adaptive,
    renew_tables,
    set_by_user,
    solve_metrics,
    solve_round,
)
from steps.solution_file import solutions_of, write_solutions

__all__ = ["GainRound", "PhaseRound"]


@dataclass(frozen=True)
class Best:
    """The best state so far: its judged image, statistics and tables."""

    metrics: Mapping[str, Any]
    products: Mapping[str, str]
    tables: tuple[TableRef, ...]


@dataclass(frozen=True)
class Trial:
    """One cycle of a round: solved, applied and, unless flags forbade it, imaged.

    Attributes
    ----------
    refs : tuple of TableRef
        The state it would lead to.
    solved : tuple of Solved
    flagged : (float, float)
        Fraction of the visibilities flagged before and with it.
    images : tuple of Imaged
        Start image (where one was made) and judged image.
    mask_file : Path or None
        None when the model came from closure quantities.
    mask_reason : str
    model_from : str
        The image that gave the model, or ``initial_model``.
    """

    refs: tuple[TableRef, ...]
    solved: tuple[Solved, ...]
    flagged: tuple[float, float]
    images: tuple[Imaged, ...]
    mask_file: Path | None
    mask_reason: str
    model_from: str


def _closer(metrics: Mapping[str, Any]) -> float:
    """By what fraction the chi2 of the closure quantities fell, what is below 1 left aside."""
    if "closure_chi2_before" not in metrics:
        return 0.0
    return 1 - max(metrics["closure_chi2"], 1.0) / max(metrics["closure_chi2_before"], 1.0)


class GainRound(Step):
    """One round of self-calibration on the best state so far, in one or more cycles."""

    needs = ("test_image",)
    uses = ("imager", "solver", "template", "rounds", "threads")
    options: ClassVar[tuple[Option, ...]] = ROUND_OPTIONS
    from_template = True
    amplitude = False

    @property
    @abstractmethod
    def calmode(self) -> str:
        """``p``, ``a`` or ``ap``."""

    def run(self, context: Context) -> StepResult:
        """Image with a mask, solve, apply, image again, judge; again while it helps."""
        earlier = best_result(context)
        self._check_rung(context)
        best = Best(earlier.metrics, earlier.products, context.tables)
        folder = clean_folder(context, self.name)
        self.prepare(context)
        accepted: StepResult | None = None
        images: list[Mapping[str, Any]] = []
        warnings: list[str] = []
        for cycle in range(1, context.options["max_cycles"] + 1):
            try:
                result = self._cycle(context, best, folder, cycle)
            except Skip:
                # nothing to do in a later cycle takes nothing from those before it
                if accepted is None:
                    ensure_tables(context, context.tables)
                    raise
                break
            images += result.images
            if result.status != "done":
                accepted = accepted or result
                break
            warnings += [result.metrics["warning"]] if "warning" in result.metrics else []
            gained = max(result.metrics["snr"] / best.metrics["snr"] - 1, _closer(result.metrics))
            accepted = result
            best = Best(result.metrics, result.products, result.tables)
            if gained < context.options["min_cycle_gain"]:
                break
        assert accepted is not None
        if accepted.status == "done":
            accepted = self._conclude(context, earlier, accepted, cycle, warnings)
        ensure_tables(context, accepted.tables)
        return replace(accepted, images=tuple(images))

    def _check_rung(self, context: Context) -> None:
        """Skip a rung above one that did not hold: the ladder goes on only while it does."""
        if context.options["uvmax"] != "ladder" or context.options["ladder_rung"] == 0:
            return
        last, result = list(context.results.items())[-1]
        if result.status != "done":
            raise Skip(f"the ladder ended at {last}")
        best = Best(result.metrics, result.products, context.tables)
        at_top = self._judged_with(context, best)["uvmax"] == result.metrics["judged_with"]["uvmax"]
        if at_top and context.metric("closure_model_complete", False):
            raise Skip(f"{last} had every baseline, against a model that describes them")

    def prepare(self, context: Context) -> None:
        """What is done before the round; amplitude rounds split the data."""

    def _cycle(self, context: Context, best: Best, folder: Path, cycle: int) -> StepResult:
        """Solve against the best state's model and judge what comes of it."""
        suffix = "" if cycle == 1 else f"_{cycle}"
        mask_file, mask_reason, start = self._fill_model(context, best, folder, suffix)
        model_from = "initial_model" if mask_file is None else best.products["image"]
        started = (start,) if start else ()
        prior = self._prior(context)
        try:
            if adaptive(context):
                prior = renew_tables(context, prior, self.name, suffix, model_from)
            refs, solved = solve_round(context, self.name, self.calmode, prior, suffix)
        except SolveError as error:
            return self._rejected(context, error.cause, {}, started, ())
        flagged = ensure_tables(context, refs)
        trial = Trial(refs, solved, flagged, started, mask_file, mask_reason, model_from)
        if self._newly_flagged(context, trial) > context.options["max_new_flags"]:
            metrics = self._metrics(context, trial, {})
            reason = f"flagged {flagged[0]:.1%} -> {flagged[1]:.1%} of the visibilities"
            return self._rejected(context, reason, metrics, started, refs)
        image = judged_image(
            context, folder, f"selfcal_{self.name}{suffix}", refs, self._judged_with(context, best)
        )
        return self._judge(context, best, replace(trial, images=(*started, image)), image)

    def _newly_flagged(self, context: Context, trial: Trial) -> float:
        """Fraction of the visibilities flagged anew, apart from antennas that are incoherent."""
        before, after = trial.flagged
        dropped = {one.ms: one.dropped for one in trial.solved}
        if not any(dropped.values()):
            return after - before
        others, rows = 0.0, 0
        for ms in measurement_sets(context):
            summary = summarise(ms)
            lost = [summary.antenna.index(name) for name in dropped.get(ms.name, ())]
            others += summary.rows * flagged_fraction(ms, without=lost)
            rows += summary.rows
        return others / rows - before

    def _judged_with(self, context: Context, best: Best) -> dict[str, Any]:
        """Parameters of the judged image: those of the best, or with the ladder's next limit."""
        options = dict(best.metrics["judged_with"])
        if context.options["uvmax"] == "ladder":
            options["uvmax"] = ladder_uvmax_m(
                1000 * float(context.metric("max_coherent_km", 0.0)),
                context.options["ladder_bottom"],
                context.options["ladder_top"],
                context.options["ladder_rung"],
                context.options["ladder_rungs"],
            )
        elif context.options["uvmax"]:
            options["uvmax"] = context.options["uvmax"]
        return options

    # -- image and solve ----------------------------------------------------------------------

    def _fill_model(
        self, context: Context, best: Best, folder: Path, suffix: str
    ) -> tuple[Path | None, str, Imaged | None]:
        """Fill MODEL_DATA with what the best state's image holds within a mask.

        With a number for ``robust`` that image is made anew with the round's own parameters;
        with ``auto`` the judged image serves. Before any round was accepted, a model fitted to
        closure quantities is better than either; where it is complete, up the whole ladder.
        """
        components = str(context.metric("closure_model", ""))
        # A complete model also starts the amplitudes off: CLEAN's has absorbed their errors.
        fresh = self.amplitude and not suffix and context.metric("closure_model_complete", False)
        # An image of the shorter baselines would let the source drift, by its noise over a wide
        # beam, from where a model that describes all of them holds it.
        climbing = context.options["uvmax"] == "ladder" and context.metric(
            "closure_model_complete", False
        )
        if components and (fresh or climbing or not best.tables):
            fill_component_model(context, context.workdir / components)
            origin = context.metric("model_origin", "closures")
            return None, f"model of {origin}", None
        made = masks.make_mask(
            context.workdir / best.products["image"],
            folder / f"mask{suffix}.fits",
            masks.MaskOptions(
                sigma=self._sigma_mask(context),
                floor=context.options["sigma_mask_floor"],
                dilate_beams=context.options["mask_dilation"],
            ),
        )
        if made.path is None:
            raise Skip(made.reason)
        start: Imaged | None = None
        own = set_by_user(context, "robust") or not adaptive(context)
        if context.options["robust"] == "auto" or not own:
            models = model_files(context, best.products)
            options = imaging_options(
                context, best.metrics["judged_with"], folder, f"model{suffix}", best.tables
            )
        else:
            ensure_tables(context, best.tables)
            options = imaging_options(
                context,
                {**context.options, "uvmax": self._judged_with(context, best)["uvmax"]},
                folder,
                f"start_{self.name}{suffix}",
                best.tables,
                mask=made.path,
            )
            start = make_image(context, options, made.path)
            models = list(start.products.models)
        masked = [
            write_masked_model(model, made.path, folder / f"model{suffix}_{number}_masked.fits")
            for number, model in enumerate(models)
        ]
        if not any(np.any(open_image(path)[0]) for path in masked):
            raise Skip("CLEAN found nothing within the mask: no model to calibrate against")
        fill_model(context, masked, options)
        return made.path, made.reason, start

    def _sigma_mask(self, context: Context) -> float:
        """The mask's threshold: with a model that needs no shielding from artefacts, the floor.

        High thresholds keep the artefacts of badly phased data out of the model. An adaptive
        run starts from a better one, and a mask that cuts real emission drains flux.
        """
        if adaptive(context) and not set_by_user(context, "sigma_mask"):
            return float(context.options["sigma_mask_floor"])
        return float(context.options["sigma_mask"])

    def _prior(self, context: Context) -> tuple[TableRef, ...]:
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
                return tuple(
                    ref
                    for name in group
                    for ref in [r for r in last if r.round == name]
                    or [r for r in done[name] if r.round == name]
                )
        return ()

    # -- judge and record ---------------------------------------------------------------------

    def _judge(self, context: Context, best: Best, trial: Trial, image: Imaged) -> StepResult:
        """Accept the cycle or go back."""
        statistics = image.statistics.as_row()
        options = context.options
        limits = Limits(
            snr_gain=options["min_snr_gain"],
            snr_loss=options["max_snr_loss"],
            rms_rise=options["max_rms_rise"],
            # what antennas that are flagged as incoherent lent to the beam was noise
            beam_growth=np.inf
            if any(one.dropped for one in trial.solved)
            else options["max_beam_growth"],
            flux_loss=options["max_flux_loss"],
            flux_warning=options["flux_warning"],
            closure_rise=options["max_closure_rise"],
            closure_fall=options["min_closure_fall"],
        )
        limit_m = self._judged_with(context, best)["uvmax"]
        before_m = best.metrics["judged_with"]["uvmax"]
        closure: dict[str, Any] = {}
        if limit_m != before_m:
            coherent = solve_metrics(trial.solved).get("coherent_fraction", 1.0)
            reach_m = 1000 * solve_metrics(trial.solved).get("longest_baseline_km", np.inf)
            if best.tables and before_m and reach_m <= before_m < limit_m:
                beyond = f"no coherent solutions beyond {reach_m / 1000:.4g} km"
                return self._rejected(
                    context, beyond, self._metrics(context, trial, statistics), trial.images,
                    trial.refs,
                )  # fmt: skip
            verdict = judge_ladder(
                statistics, best.metrics, limits, coherent, options["min_coherent"]
            )
        else:
            closure = self._closure_test(context, best, image)
            verdict = judge(
                statistics,
                best.metrics,
                limits,
                amplitude=self.amplitude,
                expected_flux=solve_metrics(trial.solved)["flux_factor"]
                / best.metrics.get("flux_factor", 1.0),
                flux_known=self.amplitude and options["flux_from"] == "sites",
                closure_chi2=(closure["closure_chi2"], closure["closure_chi2_before"])
                if "closure_chi2_before" in closure
                else None,
            )
        metrics = {**self._metrics(context, trial, statistics), **closure}
        try:
            aligned = compare(context.workdir / best.products["image"], image.products.image)
            metrics["shift_arcsec"] = aligned.shift_arcsec
        except InputError as error:
            # an image of unphased data and one of phased data may have nothing in common
            metrics["shift"] = f"unknown: {error.cause}"
        if not verdict.accepted:
            # what is taken back needs no warning
            return self._rejected(context, verdict.reason, metrics, trial.images, trial.refs)
        if verdict.warnings:
            metrics["warning"] = "; ".join(verdict.warnings)
        reason = verdict.reason + "".join(f"; WARNING: {text}" for text in verdict.warnings)
        metrics["judged_with"] = self._judged_with(context, best)
        metrics["judged"] = self.name
        products = image_products(context, image)
        if trial.mask_file is not None:
            products["mask"] = context.relative(trial.mask_file)
        if len(trial.images) > 1:
            products["start_image"] = context.relative(trial.images[0].products.image)
        known = {ref.path for result in context.results.values() for ref in result.tables}
        for number, ref in enumerate(ref for ref in trial.refs if ref.path not in known):
            products[f"table_{number}"] = ref.path
        return StepResult(
            reason=reason,
            tables=trial.refs,
            template=context.template,
            products=products,
            metrics=metrics,
            images=tuple(image_row(context, self.name, item) for item in trial.images),
        )

    def _closure_test(self, context: Context, best: Best, image: Imaged) -> dict[str, Any]:
        """Reduced chi2 of the closure quantities: of the new image's model and of the best's.

        Empty where it is not asked for or there is nothing to compare.
        """
        if not context.options["closure_test"]:
            return {}
        judged_with = self._judged_with(context, best)
        before = best.metrics.get("closure_chi2")
        try:
            if before is None:
                old = image_agreement(context, best.products, judged_with)
                before = None if old is None else old.chi2
            found = image_agreement(context, image_products(context, image), judged_with)
        except InputError as error:
            context.progress.activity(f"judged without closure quantities: {error.cause}")
            return {}
        if found is None:
            return {}
        metrics = {
            "closure_chi2": found.chi2,
            "closure_phase_chi2": found.phase_chi2,
            "closure_amplitude_chi2": found.amplitude_chi2,
        }
        return metrics if before is None else {**metrics, "closure_chi2_before": before}

    def _conclude(
        self,
        context: Context,
        earlier: StepResult,
        accepted: StepResult,
        cycles: int,
        warnings: Sequence[str],
    ) -> StepResult:
        """Write the h5parm, choose the template anew, sum up all cycles."""
        write_solutions(context, accepted.tables, self.name, accepted.metrics)
        own = context.workdir / "tables" / f"{self.name}.h5"
        products = dict(accepted.products)
        if own.exists():
            products["h5parm"] = context.relative(own)
        metrics = dict(accepted.metrics)
        template, why = self._template(context, metrics)
        change = metrics["total_flux_jy"] / earlier.metrics["total_flux_jy"] - 1
        metrics["cycles"] = cycles
        if warnings:
            metrics["warning"] = "; ".join(dict.fromkeys(warnings))
        metrics["flux_change_percent"] = 100 * change
        reason = accepted.reason
        if cycles > 1:
            reason = (
                f"SNR {earlier.metrics['snr']:.4g} -> {metrics['snr']:.4g} in {cycles} cycles,"
                f" flux {change:+.1%}; last: {reason}"
            )
        return replace(
            accepted,
            reason=reason + why,
            template=template,
            products=products,
            metrics=metrics,
            gains=tuple(self._gain_rows(context, accepted.tables)),
        )

    def _template(self, context: Context, metrics: dict[str, Any]) -> tuple[str, str]:
        """The template from here on, chosen anew where the options say so."""
        if not context.options["reselect_template"]:
            return context.template, ""
        choice = choose_template(
            measured_for_rules(context, metrics), wanted=context.settings["template"]
        )
        return choice.template, f"; from here {choice.reason}"

    def _metrics(
        self, context: Context, trial: Trial, statistics: Mapping[str, float]
    ) -> dict[str, Any]:
        """What the record says of the round beside the image's statistics."""
        return {
            **statistics,
            **solve_metrics(trial.solved),
            "calmode": self.calmode,
            "minsnr": context.options["minsnr"],
            "mask": trial.mask_reason,
            "model_from": trial.model_from,
            "flagged_before": trial.flagged[0],
            "flagged_after": trial.flagged[1],
            "incremental_on": sorted({ref.round for ref in trial.refs} - {self.name}),
        }

    def _rejected(
        self,
        context: Context,
        reason: str,
        metrics: dict[str, Any],
        images: Sequence[Imaged],
        refs: Sequence[TableRef],
    ) -> StepResult:
        """Go back to the best state."""
        products = {}
        if "snr" in metrics:
            products["image"] = context.relative(images[-1].products.image)
            products["residual"] = context.relative(images[-1].products.residual)
        return StepResult(
            "rejected",
            reason,
            tables=context.tables,
            template=context.template,
            products=products,
            metrics=metrics,
            images=tuple(image_row(context, self.name, image) for image in images),
            gains=tuple(self._gain_rows(context, refs)),
        )

    def _gain_rows(self, context: Context, refs: Sequence[TableRef]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for ref in refs:
            if ref.round == self.name:
                gains = solutions_of(context, ref)
                for row in gains_rows(gains, step=self.name, ms=ref.ms):
                    rows.append(dict(row))
        return rows


class PhaseRound(GainRound):
    """A phase-only round; its table is normalised in nothing."""

    @property
    def calmode(self) -> str:
        """Phase only."""
        return "p"
