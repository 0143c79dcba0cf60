"""What a run hands over: the calibrated data, their images, the report."""

from __future__ import annotations

from typing import Any

from libs import splitting
from selfcal.context import Context
from selfcal.options import Option
from selfcal.step import Step, StepResult
from steps.data_state import ensure_tables, measurement_sets
from steps.images import (
    clean_folder,
    image_products,
    image_row,
    imaging_options,
    make_image,
)

__all__ = ["ReportResults", "SplitTrial"]


class SplitTrial(Step):
    """Split the calibrated data and image them with two weightings."""

    uses = ("imager", "threads")
    options = (
        Option("robust_values", "names", ["-0.5", "0.5"], "Briggs' robust of the images made"),
        Option("keep_flagged", "bool", True, "keep rows that are flagged throughout"),
        Option("with_multiscale", "bool", True, "extended CLEAN components as well as points"),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Split CORRECTED_DATA (DATA when nothing was accepted); image it."""
        ensure_tables(context, context.tables)
        folder = clean_folder(context, self.name)
        products: dict[str, str] = {}
        for number, ms in enumerate(measurement_sets(context)):
            target = ms.with_name(f"{ms.stem}.selfcal.ms")
            context.progress.activity(f"split {target.name}")
            splitting.split_calibrated(
                ms,
                target,
                context.tools.session,
                options=splitting.SplitOptions(
                    datacolumn="corrected" if context.tables else "data",
                    keepflags=context.options["keep_flagged"],
                ),
                log=context.workdir / "logs" / "split.log",
            )
            products["calibrated_ms" if number == 0 else f"calibrated_ms_{number}"] = (
                context.relative(target)
            )
        images = []
        judged_with = context.results["test_image"].metrics["judged_with"]
        for value in context.options["robust_values"]:
            options = imaging_options(
                context, judged_with, folder, f"robust_{float(value):+.1f}", context.tables,
                robust=float(value), multiscale=context.options["with_multiscale"],
            )  # fmt: skip
            image = make_image(context, options)
            images.append(image)
            products[f"image_{float(value):+.1f}"] = context.relative(image.products.image)
        return StepResult(
            reason="calibrated data in " + ", ".join(
                path for name, path in products.items() if name.startswith("calibrated_ms")
            ),
            tables=context.tables,
            template=context.template,
            products=products,
            images=tuple(image_row(context, self.name, image) for image in images),
        )  # fmt: skip


class ReportResults(Step):
    """Image untouched data where there are any; the report is drawn when the run ends."""

    uses = ("imager", "threads")

    def run(self, context: Context) -> StepResult:
        """Leave CORRECTED_DATA calibrated; image a demonstration's untouched data alike."""
        metrics: dict[str, Any] = {}
        products: dict[str, str] = {}
        rows = []
        reason = "gains.csv, images.csv, summary.json, plots/, report.html"
        untouched = context.results["startup"].products.get("untouched_0")
        if untouched and "test_image" in context.results:
            image = self._untouched(context, untouched)
            metrics = {f"untouched_{k}": v for k, v in image.statistics.as_row().items()}
            products = image_products(context, image)
            rows.append(image_row(context, self.name, image))
        ensure_tables(context, context.tables)
        return StepResult(
            reason=reason,
            tables=context.tables,
            template=context.template,
            products=products,
            metrics=metrics,
            images=tuple(rows),
        )

    def _untouched(self, context: Context, untouched: str) -> Any:
        folder = clean_folder(context, self.name)
        options = imaging_options(
            context,
            context.results["test_image"].metrics["judged_with"],
            folder,
            "untouched",
            (),
            vis=(context.workdir / untouched,),
        )
        return make_image(context, options)
