"""How well the first model and the final image agree with the closure quantities of the data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from libs.closure.agreement import ClosureAgreement
from libs.closure.formation import BaselineVisibilities
from libs.core.errors import InputError
from libs.core.gaussian import GaussianComponent, component_visibilities
from selfcal.step import Skip, Step, StepResult
from steps.context import Context
from steps.facts import model_facts
from steps.images import best_image
from steps.mosaics import single_fields_only
from steps.rounds.closure_judging import (
    CLOSURE_OPTIONS,
    compared,
    image_visibilities,
    read_closing,
)
from steps.start_model import ORIGIN, start_visibilities

__all__ = ["ClosureCheck"]


class ClosureCheck(Step):
    """Reduced chi2 of closure phases and log closure amplitudes: first model and final image.

    Station gains do not touch closure quantities, so self-calibration cannot make an image that
    agrees with them out of one that does not: an independent test of the result.
    """

    needs = ("test_image",)
    uses = ("imager", "threads", "memory")
    options = CLOSURE_OPTIONS
    needs = ("test_image",)

    def run(self, context: Context) -> StepResult:
        """Compare on the baselines of the judged images; leave MODEL_DATA the final image's."""
        single_fields_only(context, "closure quantities")
        best = best_image(context)
        judged_with = best.judged_with
        try:
            ms, data = read_closing(context, judged_with)
            found = {
                name: compared(context, data, model)
                for name, model in (
                    ("initial_model", _components(context, data)),
                    ("final_image", image_visibilities(context, ms, best.products, judged_with)),
                )
                if model is not None
            }
        except InputError as error:
            raise Skip(f"no closure quantities: {error}") from error
        if not found:
            raise Skip("no closure model, and CLEAN found nothing: there is no model to check")
        return StepResult(
            reason=self._said(context, found),
            tables=context.tables,
            template=context.template,
            metrics=self._metrics(context, found),
        )

    def _said(self, context: Context, found: dict[str, ClosureAgreement]) -> str:
        parts = [
            f"{name.replace('_', ' ')} {one.phase_chi2:.3g} and {one.amplitude_chi2:.3g}"
            for name, one in found.items()
        ]
        any_one = next(iter(found.values()))
        return (
            "reduced chi2 of closure phases and log closure amplitudes: " + ", ".join(parts)
            + f"; {any_one.n_phase} and {any_one.n_amplitude} of them,"
            f" floors {np.rad2deg(context.options['phase_floor']):.2g} deg"
            f" and {context.options['amplitude_floor']:.2g}"
        )  # fmt: skip

    def _metrics(self, context: Context, found: dict[str, ClosureAgreement]) -> dict[str, Any]:
        any_one = next(iter(found.values()))
        metrics: dict[str, Any] = {
            "closure_phases": any_one.n_phase,
            "closure_amplitudes": any_one.n_amplitude,
            "phase_floor_rad": context.options["phase_floor"],
            "amplitude_floor": context.options["amplitude_floor"],
        }
        for name, one in found.items():
            # none of a kind, none on record
            for part, value in (("phase", one.phase_chi2), ("amplitude", one.amplitude_chi2)):
                if np.isfinite(value):
                    metrics[f"{name}_{part}_chi2"] = value
        return metrics


def _components(context: Context, data: BaselineVisibilities) -> Any:
    """Visibilities of the accepted closure model; None where there is none."""
    name = model_facts(context).closure_model
    if not name:
        return None
    if model_facts(context).model_origin == ORIGIN:
        return start_visibilities(context, context.workdir / name, data)
    found = json.loads((context.workdir / name).read_text())
    components = tuple(GaussianComponent(**values) for values in found["components"])
    by_time = component_visibilities(components, data.uvw_m, data.frequency_hz)
    return np.ascontiguousarray(by_time.transpose(0, 2, 1))
