"""How well the first model and the final image agree with the closure quantities of the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from libs import tables
from libs.closure import BaselineVisibilities
from libs.closure_agreement import ClosureAgreement, agreement, within_baselines
from libs.closure_ms import hands_are_copies, read_visibilities
from libs.component_model import GaussianComponent, component_visibilities
from libs.errors import InputError
from libs.imager import open_image
from selfcal.context import Context
from selfcal.options import Option
from selfcal.step import Skip, Step, StepResult
from steps.data_state import ensure_tables, fill_model, measurement_sets
from steps.images import best_result, imaging_options, model_files

__all__ = ["ClosureCheck"]


class ClosureCheck(Step):
    """Reduced chi2 of closure phases and log closure amplitudes: first model and final image.

    Station gains do not touch closure quantities, so self-calibration cannot make an image that
    agrees with them out of one that does not: an independent test of the result.
    """

    uses = ("imager", "threads")
    options = (
        Option("average", "time", "0s", "averaging before closures are formed; 0: none",
               minimum=0),
        Option("interval", "time", "60s", "averaging of the bispectra, short for the source's"
               " changes", minimum=0),
        Option("phase_floor", "float", 0.02, "non-closing error of the phases, rad", minimum=0),
        Option("amplitude_floor", "float", 0.02, "non-closing error of the amplitudes", minimum=0),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Compare on the baselines of the judged images; leave MODEL_DATA the final image's."""
        ensure_tables(context, ())
        ms = max(measurement_sets(context), key=lambda ms: tables.summarise(ms).rows)
        context.progress.activity(f"closure quantities of {ms.name}")
        best = best_result(context)
        try:
            data = self._read(context, ms, "DATA")
            limits = (best.metrics["judged_with"]["uvmin"], best.metrics["judged_with"]["uvmax"])
            chosen = within_baselines(data, *limits)
            found = {
                name: self._compare(context, chosen, model)
                for name, model in (
                    ("initial_model", _components(context, chosen)),
                    ("final_image", self._image(context, ms)),
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

    def _read(self, context: Context, ms: Path, column: str) -> BaselineVisibilities:
        return read_visibilities(
            ms,
            column=column,
            average_s=context.options["average"],
            # hands of a model are always alike: those of the data decide
            combine_hands=hands_are_copies(ms),
            noise_from_data=column == "DATA",
        )

    def _compare(
        self, context: Context, data: BaselineVisibilities, model: Any
    ) -> ClosureAgreement:
        return agreement(
            data,
            model,
            context.options["interval"],
            phase_floor_rad=context.options["phase_floor"],
            amplitude_floor=context.options["amplitude_floor"],
        )

    def _image(self, context: Context, ms: Path) -> Any:
        """Visibilities of the best image's CLEAN model; None where it is empty."""
        best = best_result(context)
        models = model_files(context, best.products)
        if not any(np.any(open_image(path)[0]) for path in models):
            return None
        options = imaging_options(
            context, best.metrics["judged_with"], models[0].parent, "model", ()
        )
        fill_model(context, models, options)
        return self._read(context, ms, "MODEL_DATA").vis

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
    name = str(context.metric("closure_model", ""))
    if not name:
        return None
    found = json.loads((context.workdir / name).read_text())
    components = tuple(GaussianComponent(**values) for values in found["components"])
    by_time = component_visibilities(components, data.uvw_m, data.frequency_hz)
    return np.ascontiguousarray(by_time.transpose(0, 2, 1))
