"""A second look at a layer: each source calibrated with the layer's others out of the data.

At the first look the sources of a layer are in each other's data: their fringes turn too fast to
calibrate on but count as noise, in closures, in the choice of intervals and in images, and what
CLEAN makes of that noise is subtracted with the model. Once all of them are subtracted, each is
put back alone, just as it was taken out, and calibrated anew (peeling in parallel).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from libs.core.files import write_atomically
from libs.directions.phase_shift import ShiftOptions, plan_shift
from libs.ms.data_power import typical_power
from selfcal.step import Skip, StepResult
from steps.context import Context
from steps.field.field_layer import LayerSources, confusion, make_task
from steps.field.field_list import read_sources, result_file, write_sources_csv
from steps.field.field_source import SourceTask, source_averaging
from steps.field.known_data import FOLDER as KEPT
from steps.field.known_data import data_identity, know_data

__all__ = ["LayerAgain", "worth_another_look"]

FOLDER = "again"
_LEAST_POWER = 0.25  # of the noise: a quarter more noise power costs a tenth of the SNR


def worth_another_look(flux_jy: Mapping[str, float], noise_jy2: float) -> list[str]:
    """Return the sources whose neighbours add noticeably to the noise of their data.

    Parameters
    ----------
    flux_jy : mapping of str to float
        Fluxes of the sources that were in each other's data.
    noise_jy2 : float
        |V|^2 of what is left in a source's data without any of them; NaN: unknown.

    Returns
    -------
    list of str
        Those for which the squared fluxes of the others, which is what their fringes add to
        |V|^2, exceed a quarter of that.
    """
    total = sum(flux**2 for flux in flux_jy.values())
    return [name for name, flux in flux_jy.items() if total - flux**2 > _LEAST_POWER * noise_jy2]


class LayerAgain(LayerSources):
    """Calibrate the sources of a layer again, each without the others."""

    uses: ClassVar[tuple[str, ...]] = (*LayerSources.uses, "again", "subtract_snr")

    def __init__(self, name: str, layer: int) -> None:
        super().__init__(name, layer, again=True)

    def run(self, context: Context) -> StepResult:
        """Run the sources for which it pays; keep what is better than before."""
        result_file(context.workdir, self.layer, again=True).unlink(missing_ok=True)
        rows = {row["name"]: row for row in self._first(context)}
        left, chosen = self._left(context), self._chosen(context, rows)
        identity = data_identity(left, self.table(context, self.layer - 1))
        tasks = [self._task(context, rows[name], left, identity) for name in chosen]
        found = self.calibrate(context, tasks)
        kept = [result["name"] for result in self._better(context, found)]
        if not kept:
            raise Skip(f"none of {len(found)} sources gained from the others' absence")
        reason = f"{len(kept)} of {len(found)} sources better without the others"
        same = [result["name"] for result in found if result["name"] not in kept]
        if same:
            reason += f"; as before: {', '.join(same)}"
        path = result_file(context.workdir, self.layer, again=True)
        return StepResult(
            reason=reason,
            products={"results": context.relative(path)},
            metrics={"kept": kept, "as_before": same},
        )

    def _first(self, context: Context) -> list[dict[str, Any]]:
        """The sources with the results of the first look."""
        return read_sources(context.workdir, self.layer, again=False)

    def _left(self, context: Context) -> list[Path]:
        """The data without the layer."""
        result = context.results.get(f"subtract_{self.layer}")
        if result is None or result.status != "done":
            raise Skip("nothing was subtracted: the sources are in each other's data as before")
        if context.settings["phase_up"]:
            raise Skip("phase_up: what was subtracted station by station is not put back in sums")
        names = sorted(name for name in result.products if name.startswith("ms_"))
        return [context.workdir / result.products[name] for name in names]

    def _chosen(self, context: Context, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The sources to look at again."""
        names: list[str] = list(context.results[f"subtract_{self.layer}"].metrics["subtracted"])
        if len(names) < 2:
            raise Skip("one source alone was subtracted: no other was in its data")
        if context.settings["again"] == "always":
            return names
        flux = {name: float(rows[name].get("total_flux_jy") or 0.0) for name in names}
        noise = min(
            self._noise(context, ms, make_task(context, rows[names[0]], [], None, ""))
            for ms in self._left(context)
        )
        chosen = worth_another_look(flux, noise)
        if not chosen:
            others = math.sqrt(sum(value**2 for value in flux.values()))
            raise Skip(
                f"{others:.3g} Jy of other sources hardly count beside a noise of"
                f" {math.sqrt(noise / 2):.3g} Jy"
            )
        return chosen

    def _noise(self, context: Context, ms: Path, task: SourceTask) -> float:
        """|V|^2 of what is left, as averaged for a source."""
        data = know_data(ms, context.workdir / KEPT)
        options = ShiftOptions((0.0, 0.0), "", *source_averaging(task, data))
        plan = plan_shift(ms, options, data.survey)
        spacing_s = data.survey.spacing_s or plan.integration_s
        averaged = max(1.0, plan.integration_s / spacing_s) * min(plan.widths)
        return typical_power(ms, uvmin_m=context.settings["uvmin"]) / averaged

    def _task(
        self, context: Context, row: Mapping[str, Any], left: Sequence[Path], identity: str
    ) -> SourceTask:
        """What the first look's worker was asked, but on the data without the layer."""
        folder = context.workdir / "sources" / row["name"]
        table = self.table(context, self.layer - 1)
        first = make_task(context, row, left, table, "DATA", identity)
        return replace(
            first,
            folder=str(folder / FOLDER),
            confusion=confusion(context, row, self.layer),
            taken_with=str(self.table(context, self.layer, again=False)),
            models=tuple(str(folder / name) for name in row["models"]),
        )

    def record(self, context: Context, results: Sequence[Mapping[str, Any]]) -> None:
        """Write those that are better than at the first look."""
        path = result_file(context.workdir, self.layer, again=True)
        write_atomically(path, json.dumps(self._better(context, results), indent=1))
        write_sources_csv(context.workdir)

    def _better(
        self, context: Context, results: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Results that take the place of the first look's, their files found from its folder."""
        before = {row["name"]: float(row.get("snr") or 0.0) for row in self._first(context)}
        better = []
        for result in results:
            if result["status"] != "calibrated" or (result["snr"] or 0.0) < before[result["name"]]:
                continue
            files = {key: f"{FOLDER}/{result[key]}" for key in ("h5parm", "image") if result[key]}
            models = [f"{FOLDER}/{name}" for name in result["models"]]
            better.append({**result, **files, "models": models})
        return better
