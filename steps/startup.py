"""The first step: working copies, so that the input is never written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from libs import ingest, tables
from libs.errors import ConfigError
from selfcal.context import Context
from selfcal.options import Option
from selfcal.step import Step, StepResult
from steps.instruments import identify

__all__ = ["Startup"]

GIB = 1024**3


class Startup(Step):
    """Make the folders and a working copy of each input; say what the data hold."""

    uses = ("vis", "field", "spw", "datacolumn", "instrument", "band")
    options = (
        Option("disk_factor", "float", 4.0,
               "free disk needed, in sizes of the input: columns, images, splits", minimum=1),
    )  # fmt: skip

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return what tells one input from another."""
        sources = ingest.resolve_inputs(context.settings["vis"])
        return {"input": [ingest.identity(source) for source in sources]}

    def run(self, context: Context) -> StepResult:
        """Copy the selected data, column by column, beside the input."""
        sources = ingest.resolve_inputs(context.settings["vis"])
        folders = ("data", "images", "tables", "plots", "logs")
        for name in folders:
            (context.workdir / name).mkdir(exist_ok=True)
        size = sum(ingest.copy_size_bytes(source) for source in sources)
        context.progress.activity(f"working copy of {size / GIB:.2f} GiB")
        ingest.check_disk(context.workdir, int(size * context.options["disk_factor"]))
        for old in (context.workdir / "data").iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        copies, used = [], []
        for source in sources:
            copy = ingest.make_working_copy(
                source,
                context.workdir / "data" / f"{source.name}.ms",
                field=context.settings["field"],
                spw=context.settings["spw"],
                datacolumn=context.settings["datacolumn"],
                session=context.tools.session,
                log=context.workdir / "logs" / "startup.log",
                progress=context.progress.activity,
            )
            summary = tables.summarise(copy.ms)
            ingest.check_usable(summary, copy)
            if len(summary.fields_used) > 1:
                names = ", ".join(summary.field[number] for number in summary.fields_used)
                raise ConfigError(
                    f"the selection holds {len(summary.fields_used)} fields: {names}",
                    "name one with field = ...; each target is a run of its own",
                )
            copies.append(copy)
            used.append(summary)
        return _describe(context, copies, used)


def _describe(
    context: Context, copies: list[ingest.WorkingCopy], used: list[tables.MsSummary]
) -> StepResult:
    repairs = [note for copy in copies for note in copy.notes]
    first = used[0]
    instrument, band = identify(
        first.telescope,
        first.mean_frequency_hz,
        context.settings["instrument"],
        context.settings["band"],
    )
    metrics = {
        "working_copies": [copy.ms.name for copy in copies],
        "instrument": instrument,
        "band": band,
        "telescope": first.telescope,
        "field": first.field[first.fields_used[0]],
        "frequency_hz": first.mean_frequency_hz,
        "min_frequency_hz": min(summary.min_frequency_hz for summary in used),
        "max_frequency_hz": max(summary.max_frequency_hz for summary in used),
        "antennas": max(len(summary.antennas_used) for summary in used),
        "dish_diameter_m": first.dish_diameter_m,
        "longest_baseline_m": max(summary.longest_baseline_m for summary in used),
        "shortest_baseline_m": min(summary.shortest_baseline_m for summary in used),
        "integration_s": first.integration_s,
        "scans": sum(summary.scans for summary in used),
        "rows": sum(summary.rows for summary in used),
        "channels": first.channels,
        "spws": len(first.spws_used),
        "right_ascension_rad": float(first.direction_rad[0]),
        "declination_rad": float(first.direction_rad[1]),
        "flagged_fraction": sum(s.flagged_fraction * s.rows for s in used)
        / sum(s.rows for s in used),
        "repairs": repairs,
        "datacolumn": copies[0].datacolumn,
    }
    reason = (
        f"{metrics['field']}, {instrument} {band or ''} {first.mean_frequency_hz / 1e9:.3f} GHz,"
        f" {metrics['antennas']} antennas, {metrics['rows']} rows,"
        f" {metrics['flagged_fraction']:.1%} flagged" + "".join(f"; {text}" for text in repairs)
    )
    products = {f"working_copy_{i}": context.relative(copy.ms) for i, copy in enumerate(copies)}
    for i, copy in enumerate(copies):
        if copy.untouched is not None:
            products[f"untouched_{i}"] = context.relative(copy.untouched)
        if copy.truth is not None:
            products[f"truth_{i}"] = context.relative(copy.truth)
    return StepResult("done", reason, products=products, metrics=metrics)
