"""The steps of a layer of a field: its sources calibrated, their solutions merged, subtracted."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from libs.core.errors import ToolError
from libs.core.files import replacing, write_atomically
from libs.directions.subtract import SkyModel, image_model, subtract_sources
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.global_table import list_entries
from libs.h5parm.layer_merge import merge_layer
from libs.h5parm.start import StartLimits
from selfcal.child_runs import Board, run_side_by_side
from selfcal.cluster import Outcome
from selfcal.step import Skip, Step, StepResult
from steps.context import Context
from steps.field.field_list import read_sources, result_file, write_sources_csv
from steps.field.field_settings import threads_of
from steps.field.field_source import (
    SourceTask,
    calibrate_source,
    failed,
)
from steps.field.known_data import FOLDER, data_identity, know_data

__all__ = ["LayerMerge", "LayerSources", "LayerStep", "LayerSubtract", "make_task"]


class LayerStep(Step):
    """A step of one layer, at its first look or, once it was subtracted, at the second."""

    def __init__(self, name: str, layer: int, *, again: bool = False) -> None:
        super().__init__(name)
        self.layer = layer
        self.again = again

    def sources(self, context: Context) -> list[dict[str, Any]]:
        """Return the layer's sources; skip where there are none."""
        rows = read_sources(context.workdir, self.layer, again=self.again)
        if not rows:
            raise Skip(f"no sources in layer {self.layer}")
        return rows

    def vis(self, context: Context) -> list[Path]:
        """Return the data the layer starts from: without the sources of the layers before."""
        return data_after(context, self.layer - 1) or [
            Path(name).absolute() for name in context.settings["vis"]
        ]

    def column(self, context: Context) -> str:
        """Return the column of these data."""
        original = [Path(name).absolute() for name in context.settings["vis"]]
        return str(context.settings["datacolumn"]) if self.vis(context) == original else "DATA"

    def table(self, context: Context, number: int, *, again: bool = True) -> Path | None:
        """Return the global table as it was after a layer; after layer 0 what a user gave."""
        for layer in range(number, 0, -1):
            for step, end in ((f"merge_again_{layer}", "_again"), (f"merge_{layer}", "")):
                path = context.workdir / "tables" / f"after_layer_{layer}{end}.h5"
                wanted = again or layer < number or not end
                if wanted and _done(context, step) and path.exists():
                    return path
        given = context.settings["initial_solutions"]
        return Path(given).absolute() if given else None


def data_after(context: Context, number: int) -> list[Path]:
    """Return the data without the layers up to one; empty: nothing was subtracted."""
    for layer in range(number, 0, -1):
        for step in (f"subtract_again_{layer}", f"subtract_{layer}"):
            if _done(context, step):
                products = context.results[step].products
                names = sorted(name for name in products if name.startswith("ms_"))
                return [context.workdir / products[name] for name in names]
    return []


def subtracted(context: Context, layer: int) -> set[str]:
    """Return the sources of a layer that its data were last made without."""
    for step in (f"subtract_again_{layer}", f"subtract_{layer}"):
        if _done(context, step):
            return set(context.results[step].metrics["subtracted"])
    return set()


def _done(context: Context, step: str) -> bool:
    result = context.results.get(step)
    return result is not None and result.status == "done"


def make_task(
    context: Context,
    row: Mapping[str, Any],
    vis: Sequence[Path],
    table: Path | None,
    column: str,
    identity: str = "",
) -> SourceTask:
    """Return what a worker is asked to do for a source.

    ``identity`` is that of the data and the table, `steps.field.known_data.data_identity`, which
    all sources of a layer share.
    """
    settings = context.settings
    size = row["map_arcsec"] if settings["map_size"] == "auto" else settings["map_size"]
    return SourceTask(
        row["name"], row["ra_rad"], row["dec_rad"],
        str(context.workdir / "sources" / row["name"]), tuple(map(str, vis)), column,
        str(table or ""), size, confusion(context, row, int(row["layer"]) - 1), settings,
        identity, row["entry"], surveys=str(context.workdir / FOLDER),
    )  # fmt: skip


def confusion(context: Context, row: Mapping[str, Any], layers: int) -> float:
    """Flux of all other sources in the data after some layers over the source's own."""
    path = context.workdir / "sources.json"
    if not path.exists() or not row["flux_jy"]:
        return 0.0
    gone = {row["name"]}.union(*(subtracted(context, n) for n in range(1, layers + 1)))
    others = [
        float(other["flux_jy"] or 0.0)
        for other in read_sources(context.workdir)
        if other["name"] not in gone
    ]
    return round(math.sqrt(sum(flux**2 for flux in others)) / float(row["flux_jy"]), 4)


class LayerSources(LayerStep):
    """Calibrate the sources of a layer, side by side."""

    uses: ClassVar[tuple[str, ...]] = (
        "datacolumn", "initial_solutions", "average_time", "average_frequency", "smearing",
        "prepare", "phase_up", "uvmin", "map_size", "cell", "min_good_fraction",
        "min_coherence", "max_separation", "source_config", "source_steps", "overrides",
        "source_settings",
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Run every source; report those that failed and go on with the others."""
        rows = self.sources(context)
        result_file(context.workdir, self.layer, again=True).unlink(missing_ok=True)
        vis, table = self.vis(context), self.table(context, self.layer - 1)
        column = self.column(context)
        identity = data_identity(list(vis), table)
        tasks = [make_task(context, row, vis, table, column, identity) for row in rows]
        results = self.calibrate(context, tasks)
        path = result_file(context.workdir, self.layer, again=False)
        return self._result(context, path, results)

    def calibrate(self, context: Context, tasks: Sequence[SourceTask]) -> list[dict[str, Any]]:
        """Run the sources, side by side; return their results in the order of the tasks."""
        for ms in tasks[0].vis if tasks else ():
            know_data(Path(ms), context.workdir / FOLDER)  # once, for all workers
        runs = {task.name: Path(task.folder) / "run" for task in tasks}
        board = Board(context.progress, runs)
        results: dict[str, dict[str, Any]] = {}

        def on_done(outcome: Outcome) -> None:
            name = outcome.item.name
            result = outcome.value if outcome.ok else failed(name, outcome.error)
            results[name] = result
            self.record(context, list(results.values()))
            text = f"{result['longest_baseline_km']:.0f} km, {result['reason']}"
            board.done(name, result["status"], text)

        with context.clock.time("solving"):
            run_side_by_side(calibrate_source, tasks, context.settings["cluster"], board, on_done)
        ordered = [results[task.name] for task in tasks]
        self.record(context, ordered)
        return ordered

    def record(self, context: Context, results: Sequence[Mapping[str, Any]]) -> None:
        """Write what is known of the layer's sources so far."""
        path = result_file(context.workdir, self.layer, again=False)
        write_atomically(path, json.dumps(results, indent=1))
        write_sources_csv(context.workdir)

    def _result(
        self, context: Context, path: Path, results: Sequence[Mapping[str, Any]]
    ) -> StepResult:
        bad = [r for r in results if r["status"] == "failed"]
        good = [r for r in results if r["status"] == "calibrated"]
        if len(bad) == len(results):
            raise ToolError(
                f"every source of layer {self.layer} failed; {bad[0]['name']}: {bad[0]['reason']}",
                "correct the cause and start again",
            )
        metrics: dict[str, Any] = {
            "calibrated": len(good),
            "unchanged": len(results) - len(good) - len(bad),
            "failed": [r["name"] for r in bad],
            "longest_baseline_km": max((r["longest_baseline_km"] for r in good), default=0.0),
        }
        reason = f"{len(good)} of {len(results)} sources calibrated"
        if bad:
            metrics["warning"] = "; ".join(f"{r['name']} failed: {r['reason']}" for r in bad)
            reason += f"; WARNING: {metrics['warning']} (--from {self.name} tries again)"
        products = {"results": context.relative(path)}
        for result in results:
            for kind in ("h5parm", "image"):
                if result[kind]:
                    name = result["name"]
                    products[f"{name}_{kind}"] = f"sources/{name}/{result[kind]}"
        return StepResult(reason=reason, products=products, metrics=metrics)


class LayerMerge(LayerStep):
    """Merge the layer's solutions into the global table, in one go."""

    uses = ("min_good_fraction", "min_coherence", "max_separation")

    def run(self, context: Context) -> StepResult:
        """Write the table after this layer; every direction gets an entry for each station."""
        rows = self.sources(context)
        if self.again:
            looked_again(context, self.layer)
        before = self.table(context, self.layer - 1)
        end = "_again" if self.again else ""
        target = context.workdir / "tables" / f"after_layer_{self.layer}{end}.h5"
        files = [
            context.workdir / "sources" / row["name"] / row["h5parm"]
            for row in rows
            if row.get("h5parm")
        ]
        if not files and before is None:
            raise Skip("no source has solutions")
        settings = context.settings
        farthest = settings["max_separation"]
        made = merge_layer(
            target, before, files,
            {row["name"]: np.array([row["ra_rad"], row["dec_rad"]]) for row in rows},
            StartLimits(
                settings["min_good_fraction"], settings["min_coherence"],
                math.inf if farthest == "inf" else farthest / 3600.0,
            ),
        )  # fmt: skip
        with replacing(context.workdir / "solutions.h5") as part:
            shutil.copyfile(target, part)
        directions = {item.entry.direction for item in made.listings}
        return StepResult(
            reason=f"{len(made.listings)} entries of {len(directions)} directions;"
            f" {made.filled} of this layer's taken from neighbours",
            products={"table": context.relative(target), "h5parm": "solutions.h5"},
            metrics={
                "entries": len(made.listings),
                "directions": len(directions),
                "from_neighbours": made.filled,
            },
        )


class LayerSubtract(LayerStep):
    """Subtract the layer's models, through their solutions, from the unaveraged data."""

    uses = ("subtract_snr",)

    def run(self, context: Context) -> StepResult:
        """Write new copies of the data; the input stays."""
        rows = self.sources(context)
        if self.again:
            looked_again(context, self.layer)
        table = self.table(context, self.layer, again=self.again)
        if table is None:
            raise Skip("no solutions to subtract with")
        known = {item.entry.direction for item in list_entries(table)}
        chosen: list[dict[str, Any]] = []
        left: list[dict[str, Any]] = []
        for row in rows:
            good = row.get("models") and (row.get("snr") or 0.0) >= context.settings["subtract_snr"]
            (chosen if good and row["name"] in known else left).append(row)
        if not chosen:
            raise Skip("no source is good enough to be subtracted")
        end = "_again" if self.again else ""
        folder = context.workdir / "data" / f"after_layer_{self.layer}{end}"
        folder.mkdir(parents=True, exist_ok=True)
        products = {}
        threads = threads_of(context.settings)
        for number, ms in enumerate(self.vis(context)):
            models = [source_model(context, row, ms, table, threads) for row in chosen]
            target = folder / f"{number}_{Path(context.settings['vis'][number]).name}"
            context.progress.activity(f"{len(models)} sources from {ms.name}")
            subtract_sources(
                ms, target, models, column=self.column(context),
                on_chunk=lambda part: context.progress.tick(),
            )  # fmt: skip
            products[f"ms_{number:03d}"] = context.relative(target)
        reason = f"subtracted {', '.join(row['name'] for row in chosen)}"
        if left:
            reason += f"; left in: {', '.join(row['name'] for row in left)}"
        return StepResult(
            reason=reason,
            products=products,
            metrics={"subtracted": [r["name"] for r in chosen], "left": [r["name"] for r in left]},
        )


def source_model(
    context: Context, row: Mapping[str, Any], ms: Path, table: Path, threads: int
) -> SkyModel:
    """Return a source as it is subtracted from data: its model seen through its solutions."""
    folder = context.workdir / "sources" / row["name"]
    return SkyModel(
        row["name"],
        (row["ra_rad"], row["dec_rad"]),
        image_model([folder / name for name in row["models"]], threads=threads),
        DirectionGains.read(table, ms, row["name"]),
    )


def looked_again(context: Context, layer: int) -> None:
    """Skip what follows a second look where there was none, or nothing came of it.

    Raises
    ------
    Skip
        The first look's results hold.
    """
    if not _done(context, f"again_{layer}"):
        raise Skip(f"the first look at layer {layer} holds")
