"""What a run hands over: the calibrated data, their images, the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from libs.core.geometry import ARCSEC_PER_RAD
from libs.directions.subtract import add_source
from libs.ms import split
from libs.ms.summary import summarise
from selfcal.options import Option
from selfcal.step import Step, StepResult
from steps.context import Context
from steps.data_state import ensure_tables, measurement_sets
from steps.facts import grid_facts
from steps.images import (
    ImageRecord,
    best_image,
    clean_folder,
    image_products,
    image_row,
    imaging_options,
    make_image,
)
from steps.main_source import main_source
from steps.peel import peeled_models
from steps.primary_beam import BEAM_SETTING, beam_correction
from steps.solution_file import write_solutions
from steps.user_mask import MASK_SETTING
from steps.window_images import PER_WINDOW_SETTING, image_windows

__all__ = ["ReportResults", "SplitTrial"]


class SplitTrial(Step):
    """Split the calibrated data and image them with two weightings."""

    needs = ("test_image",)
    uses = ("imager", "threads", "memory", "stokes", BEAM_SETTING)
    uses_files = (MASK_SETTING,)
    options = (
        Option("robust_values", "names", ["-0.5", "0.5"], "Briggs' robust of the images made"),
        Option("keep_flagged", "bool", True, "keep rows that are flagged throughout"),
        Option("with_multiscale", "bool", True, "extended CLEAN components as well as points"),
        Option("pb_limit", "float", 0.2, "images are not corrected for the primary beam where its"
               " power is lower", minimum=0.02),
        Option("average_time", "time", "0s", "integration of the calibrated data; 0: as they are;"
               " auto: as long as the map allows", words=("auto",), minimum=0),
        Option("average_channels", "int", 1, "channels averaged into one; auto: as many as the map"
               " allows", words=("auto",), minimum=1),
        Option("restore_peeled", "bool", False, "sources that were peeled are put back into the"
               " calibrated data, without their gains"),
        Option("smearing", "float", 0.02, "amplitude that auto averaging may cost at the map's"
               " edge", minimum=0.0001),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Split CORRECTED_DATA (DATA when nothing was accepted); image it."""
        ensure_tables(context, context.tables)
        folder = clean_folder(context, self.name)
        products, metrics = self._split(context)
        images = []
        judged_with = ImageRecord.of(context.results["test_image"]).judged_with
        correction = beam_correction(context)
        for value in context.options["robust_values"]:
            options = imaging_options(
                context, judged_with, folder, f"robust_{float(value):+.1f}", context.tables,
                robust=float(value), multiscale=context.options["with_multiscale"],
                stokes=context.settings["stokes"],
            )  # fmt: skip
            image = make_image(context, options)
            images.append(image)
            for plane in (image.products, *image.products.others):
                letter = "" if plane is image.products else f"{plane.stokes}_"
                name = f"{letter}{float(value):+.1f}"
                products[f"image_{name}"] = context.relative(plane.image)
                products |= correction.products(replace(image, products=plane), options, name)
        return StepResult(
            reason="; ".join(filter(None, (_said(context, products, metrics), correction.said))),
            tables=context.tables,
            template=context.template,
            products=products,
            metrics=metrics,
            images=tuple(image_row(context, self.name, image) for image in images),
        )

    def _split(self, context: Context) -> tuple[dict[str, str], dict[str, Any]]:
        """Split every working copy, averaged as the options say; products and metrics."""
        products: dict[str, str] = {}
        times, widths, size = [], [], 0
        grid = grid_facts(context)
        assert grid.imsize and grid.cell_arcsec, "test_image chooses a grid"
        half_width_rad = 0.5 * max(grid.imsize) * grid.cell_arcsec / ARCSEC_PER_RAD
        for number, ms in enumerate(measurement_sets(context)):
            target = ms.with_name(f"{ms.stem}.calibrated.ms")
            context.progress.activity(f"split {target.name}")
            time_s, width = split.averaging(
                summarise(ms),
                context.options["average_time"],
                context.options["average_channels"],
                half_width_rad,
                context.options["smearing"],
            )  # fmt: skip
            options = split.SplitOptions(
                datacolumn="corrected" if context.tables else "data",
                keepflags=context.options["keep_flagged"],
                timebin_s=time_s,
                width=width,
            )
            log = context.workdir / "logs" / "split.log"
            made = split.split_calibrated(
                ms, target, context.tools.session, options=options, log=log
            )
            if context.options["restore_peeled"]:
                for source in peeled_models(context):
                    add_source(target, source)
            name = "calibrated_ms" if number == 0 else f"calibrated_ms_{number}"
            products[name] = context.relative(target)
            times.append(time_s)
            widths.append(width)
            size += made.size_bytes
        return products, {
            "average_time_s": times, "average_channels": widths, "calibrated_bytes": size
        }  # fmt: skip


def _said(context: Context, products: Mapping[str, str], metrics: Mapping[str, Any]) -> str:
    """What a split says of itself."""
    names = [path for name, path in products.items() if name.startswith("calibrated_ms")]
    what = "calibrated data" if context.tables else "the data as they came"
    text = f"{what} in {', '.join(names)}"
    averaged = [f"{time_s:.4g} s" for time_s in set(metrics["average_time_s"]) if time_s]
    averaged += [f"{width} channels" for width in set(metrics["average_channels"]) if width > 1]
    return text + (f", averaged over {' and '.join(averaged)}" if averaged else "")


class ReportResults(Step):
    """Image untouched data where there are any; the report is drawn when the run ends."""

    uses = ("imager", "threads", "memory")
    uses_files = (MASK_SETTING,)
    options = (
        Option("error_bars", "bool", True, "errors of the main source from the scatter of times,"
               " antennas and gains"),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Leave CORRECTED_DATA calibrated; measure the main source, and untouched data alike."""
        metrics: dict[str, Any] = {}
        products: dict[str, str] = {}
        rows: list[Mapping[str, Any]] = []
        reason = "gains.csv, images.csv, summary.json, plots/, report.html"
        untouched = context.results["startup"].products.get("untouched_0")
        imaged = "test_image" in context.results
        if context.settings[PER_WINDOW_SETTING] and imaged:
            windows = image_windows(context, self.name, clean_folder(context, self.name))
            products, rows = dict(windows.products), list(windows.rows)
            metrics = windows.metrics
            reason += "".join(f"; WARNING: {text}" for text in windows.warnings)
        if untouched and imaged:
            image = self._untouched(context, untouched)
            metrics |= {f"untouched_{k}": v for k, v in image.statistics.as_row().items()}
            products |= image_products(context, image)
            rows.append(image_row(context, self.name, image))
        ensure_tables(context, context.tables)
        if context.options["error_bars"]:
            source, why = main_source(context)
            metrics |= source.as_metrics() if source else {}
            reason += f"; {source.said() if source else why}"
        # rounds that were taken back since it was last written are no part of it
        write_solutions(context, context.tables)
        return StepResult(
            reason=reason,
            tables=context.tables,
            template=context.template,
            products=products,
            metrics=metrics,
            images=tuple(rows),
        )

    def _untouched(self, context: Context, untouched: str) -> Any:
        folder = context.workdir / "images" / self.name
        if not context.settings[PER_WINDOW_SETTING]:
            folder = clean_folder(context, self.name)
        options = imaging_options(
            context,
            best_image(context).judged_with,
            folder,
            "untouched",
            (),
            vis=(context.workdir / untouched,),
        )
        return make_image(context, options)
