"""The choice of reference antennas."""

from __future__ import annotations

import numpy as np

from libs.core.errors import SolveError
from libs.gains.caltable import read_solutions
from libs.gains.solution_interval import SolutionInterval
from libs.gains.solver import SolveOptions
from libs.ms.summary import describe_ms, summarise
from selfcal.options import Option
from selfcal.step import Skip, Step, StepResult
from steps.context import Context
from steps.data_state import ensure_tables, fill_model, measurement_sets
from steps.facts import RefantFacts, as_metrics
from steps.images import best_image, model_files, options_of_model
from steps.mosaics import common_to_fields

__all__ = ["SelectRefant"]


class SelectRefant(Step):
    """Order the antennas by how well they solve; the whole list goes to the solver."""

    needs = ("test_image",)
    uses = ("refant", "solver")
    needs = ("test_image",)
    options = (
        Option("solint", "time", "inf", "interval of the test solve", words=("int", "inf")),
        Option("minblperant", "int", 3, "fewest baselines an antenna must have", minimum=2),
        Option("minsnr", "float", 3.0, "solutions below this SNR are flagged"),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Solve for test gains against the test image's model; sort the antennas."""
        wanted = context.settings["refant"]
        known = {name for ms in measurement_sets(context) for name in describe_ms(ms).antenna}
        if wanted != "auto":
            missing = [name for name in wanted if name not in known]
            if missing:
                from selfcal.options import unknown_name

                raise unknown_name("antenna in refant", missing[0], sorted(known))
            return _result(context, list(wanted), "set by the config")
        ensure_tables(context, ())
        best = best_image(context)
        fill_model(context, model_files(context, best.products), options_of_model(context, best))
        score = self._score(context)
        if not score:
            raise Skip("no test solution; the solver takes its own choice of reference antenna")
        order = sorted(score, key=lambda name: score[name], reverse=True)
        best_fraction = score[order[0]][0]
        return _result(
            context,
            order,
            f"{order[0]} first of {len(order)}: {best_fraction:.1%} of its solutions are good",
        )

    def _score(self, context: Context) -> dict[str, tuple[float, float]]:
        """Antenna -> (fraction of good solutions, nearness to the array's middle)."""
        options = SolveOptions(
            solint=SolutionInterval.parse(context.options["solint"]),
            calmode="p",
            gaintype="G",
            minsnr=context.options["minsnr"],
            minblperant=context.options["minblperant"],
            combine=common_to_fields(context),
        )
        good: dict[str, list[float]] = {}
        distance: dict[str, float] = {}
        for ms in measurement_sets(context):
            table = context.workdir / "tables" / f"{self.name}.{ms.stem}.gcal"
            try:
                with context.clock.time("solving"):
                    context.tools.solver.solve(ms, table, options)
            except SolveError as error:
                context.progress.note(f"{ms.name}: {error}", warning=True)
                continue
            gains = read_solutions(table, ms)
            used = summarise(ms).antennas_used
            middle = np.median(gains.position_m[list(used)], axis=0)
            for index in used:
                name = gains.antenna[index]
                good.setdefault(name, []).append(float((~gains.flag[:, :, index]).mean()))
                distance[name] = float(np.linalg.norm(gains.position_m[index] - middle))
        return {name: (float(np.mean(part)), -distance[name]) for name, part in good.items()}


def _result(context: Context, order: list[str], why: str) -> StepResult:
    return StepResult(
        reason=f"refant {','.join(order[:3])}{'...' if len(order) > 3 else ''}: {why}",
        tables=context.tables,
        template=context.template,
        metrics=as_metrics(RefantFacts(tuple(order))),
    )
