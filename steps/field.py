"""Loop 1: the sources of a field, layer by layer, from bright calibrators to faint sources.

The layers are steps of the one engine: for each there is a step that calibrates its sources, a
step that merges their solutions into the global table and a step that subtracts them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from libs import tables
from libs.best_solutions import best
from libs.catalogue import (
    FieldSource,
    cross_match,
    make_layers,
    read_catalogue,
    select_sources,
    with_components,
)
from libs.catalogue_entry import find_entry
from libs.catalogue_query import SERVICES, query_catalogue
from libs.direction_gains import DirectionGains
from libs.errors import InputError, ToolError
from libs.ingest import check_disk
from libs.phase_shift import ShiftOptions, plan_shift
from libs.safe_files import replacing
from libs.solution_store import list_entries, merge_into, write_with_entries
from libs.subtract import SkyModel, image_model, subtract_sources
from selfcal.cluster import Outcome, run_all
from selfcal.context import Context
from selfcal.settings import Settings
from selfcal.state import write_atomically
from selfcal.step import Skip, Step, StepResult
from steps.field_settings import FLUX, threads_of
from steps.field_source import (
    SourceTask,
    averaging,
    calibrate_source,
    data_identity,
    failed,
    running_step,
)

__all__ = ["FieldStartup", "LayerMerge", "LayerSources", "LayerSubtract", "field_steps"]

_COLUMNS = (
    "name", "ra_deg", "dec_deg", "flux_jy", "lbcs_flags", "layer", "status",
    "longest_baseline_km", "snr", "dynamic_range", "rms_jy_beam", "total_flux_jy", "seconds",
    "h5parm", "image", "reason",
)  # fmt: skip


def field_steps(settings: Settings) -> list[Step]:
    """Return the steps of a field: startup, then three for each layer."""
    steps: list[Step] = [FieldStartup("field_startup")]
    for number in range(1, len(settings["layers"]) + 1):
        steps += [
            LayerSources(f"layer_{number}", number),
            LayerMerge(f"merge_{number}", number),
            LayerSubtract(f"subtract_{number}", number),
        ]
    return steps


# -- the list of sources --------------------------------------------------------------------------


class FieldStartup(Step):
    """Read or ask for the lists of sources, share them among layers, foresee the disk needed."""

    uses = (
        "vis", "sources", "lbcs", "components", "flux_unit", "layers", "radius",
        "calibrator_radius", "map_size", "average_time", "average_frequency", "smearing",
    )  # fmt: skip

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return what tells these data and lists from others."""
        settings = context.settings
        vis = [Path(name).absolute() for name in settings["vis"]]
        for ms in vis:
            tables.summarise(ms)
        lists = [*settings["sources"], settings["lbcs"], settings["components"]]
        stamps = {
            name: [Path(name).stat().st_size, Path(name).stat().st_mtime_ns]
            for name in lists
            if name and Path(name).is_file()
        }
        return {"data": data_identity(vis, None), "lists": stamps}

    def run(self, context: Context) -> StepResult:
        """Write sources.json and sources.csv."""
        vis = [Path(name).absolute() for name in context.settings["vis"]]
        summaries = [tables.summarise(ms) for ms in vis]
        centre = tuple(float(angle) for angle in summaries[0].direction_rad)
        for summary in summaries[1:]:
            if not np.allclose(summary.direction_rad, centre, atol=1e-6):
                raise InputError(f"{summary.path} is another field", "give the data of one field")
        layers = self._layers(context, centre)
        self._clear(context.workdir)
        rows = [_source_row(s, number) for number, layer in enumerate(layers, 1) for s in layer]
        write_atomically(context.workdir / "sources.json", json.dumps(rows, indent=1))
        write_sources_csv(context.workdir)
        size, need = self._sizes(context, summaries, layers)
        context.progress.activity(
            f"small data of {size / 1e9:.3g} GB in all, {need / 1e9:.3g} GB of disk needed"
        )
        check_disk(context.workdir, need)
        counts = [len(layer) for layer in layers]
        return StepResult(
            reason=f"{sum(counts)} sources in {len(counts)} layers ({', '.join(map(str, counts))}),"
            f" small data {size / 1e6:.4g} MB",
            products={"sources": "sources.json"},
            metrics={
                "sources": sum(counts),
                "centre_deg": [math.degrees(angle) for angle in centre],
                "right_ascension_rad": centre[0],
                "declination_rad": centre[1],
                "longest_baseline_km": max(s.longest_baseline_m for s in summaries) / 1e3,
                "small_data_bytes": size,
                "disk_bytes": need,
            },
        )

    def _clear(self, workdir: Path) -> None:
        for name in ("data", "sources", "tables"):
            (workdir / name).mkdir(parents=True, exist_ok=True)

    def _layers(self, context: Context, centre: tuple[float, ...]) -> list[list[FieldSource]]:
        settings = context.settings
        ra, dec = centre
        unit = settings["flux_unit"]
        folder = context.workdir / "catalogues"

        def read(name: str, radius_arcsec: float) -> list[FieldSource]:
            path = Path(name)
            if name in SERVICES and not path.exists():
                context.progress.activity(f"asking {name}")
                path = query_catalogue(name, ra, dec, radius_arcsec / 3600, folder)
                return read_catalogue(path, flux_unit=unit or "mJy")
            return read_catalogue(path, flux_unit=unit)

        sources: list[FieldSource] = []
        for name in settings["sources"]:
            sources = cross_match(sources, read(name, settings["radius"]))
        if settings["lbcs"]:
            sources = cross_match(sources, read(settings["lbcs"], settings["calibrator_radius"]))
        if settings["components"]:
            sources = with_components(sources, Path(settings["components"]), flux_unit=unit)
        limits = [FLUX.parse(text) for text in settings["layers"]]
        chosen = select_sources(
            sources, ra, dec, calibrator_radius_deg=settings["calibrator_radius"] / 3600,
            radius_deg=settings["radius"] / 3600, min_flux_jy=limits[-1],
        )  # fmt: skip
        if not chosen:
            raise InputError(
                f"none of {len(sources)} sources is near and bright enough",
                "enlarge radius or lower the last of layers",
            )
        return make_layers(chosen, limits)

    def _sizes(
        self,
        context: Context,
        summaries: Sequence[tables.MsSummary],
        layers: Sequence[Sequence[FieldSource]],
    ) -> tuple[int, int]:
        """Bytes of all small data, and of disk needed in all: runs copy and image them."""
        size = 0
        for number, layer in enumerate(layers, 1):
            for source in layer:
                task = make_task(context, _source_row(source, number), [], None, "")
                for summary in summaries:
                    options = ShiftOptions((0.0, 0.0), "", *averaging(task, summary))
                    size += plan_shift(summary.path, options).size_bytes
        copies = sum(summary.size_bytes for summary in summaries) * len(layers)
        return size, 6 * size + int(1.5 * copies)


def _source_row(source: FieldSource, layer: int) -> dict[str, Any]:
    """A source as sources.json holds it; a neighbour is a source of its own, and no part of it."""
    entry = find_entry([source], source.ra_rad, source.dec_rad)
    assert entry is not None
    return {
        "name": source.name, "layer": layer,
        "ra_rad": source.ra_rad, "dec_rad": source.dec_rad,
        "flux_jy": source.flux_jy if math.isfinite(source.flux_jy) else None,
        "lbcs_flags": source.lbcs_flags, "resolved": entry.resolved,
        "map_arcsec": entry.map_arcsec, "entry": entry.as_json() if source.components else "",
    }  # fmt: skip


def read_sources(workdir: Path, layer: int = 0) -> list[dict[str, Any]]:
    """Return the sources of a field (of one layer), each with its result where there is one."""
    rows = json.loads((workdir / "sources.json").read_text())
    results: dict[str, dict[str, Any]] = {}
    for path in sorted((workdir / "tables").glob("layer_*.json")):
        results |= {result["name"]: result for result in json.loads(path.read_text())}
    merged = []
    for row in rows:
        if layer and row["layer"] != layer:
            continue
        merged.append({**row, **results.get(row["name"], {"status": "waiting", "reason": ""})})
    return merged


def write_sources_csv(workdir: Path) -> None:
    """Write sources.csv: a line for each source and what came of it."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in read_sources(workdir):
        folder = f"sources/{row['name']}"
        place = {
            "ra_deg": round(math.degrees(row["ra_rad"]), 7),
            "dec_deg": round(math.degrees(row["dec_rad"]), 7),
        }
        files = {key: f"{folder}/{row[key]}" for key in ("h5parm", "image") if row.get(key)}
        writer.writerow({**row, **place, **files})
    write_atomically(workdir / "sources.csv", stream.getvalue())


# -- a layer --------------------------------------------------------------------------------------


class LayerStep(Step):
    """A step of one layer."""

    def __init__(self, name: str, layer: int) -> None:
        super().__init__(name)
        self.layer = layer

    def sources(self, context: Context) -> list[dict[str, Any]]:
        """Return the layer's sources; skip where there are none."""
        rows = read_sources(context.workdir, self.layer)
        if not rows:
            raise Skip(f"no sources in layer {self.layer}")
        return rows

    def vis(self, context: Context) -> list[Path]:
        """Return the data the layer starts from: without the sources of the layers before."""
        for number in range(self.layer - 1, 0, -1):
            earlier = context.results[f"subtract_{number}"]
            if earlier.status == "done":
                names = sorted(name for name in earlier.products if name.startswith("ms_"))
                return [context.workdir / earlier.products[name] for name in names]
        return [Path(name).absolute() for name in context.settings["vis"]]

    def column(self, context: Context) -> str:
        """Return the column of these data."""
        original = [Path(name).absolute() for name in context.settings["vis"]]
        return str(context.settings["datacolumn"]) if self.vis(context) == original else "DATA"

    def table(self, context: Context, number: int) -> Path | None:
        """Return the global table as it was after a layer; after layer 0 what a user gave."""
        for layer in range(number, 0, -1):
            path = context.workdir / "tables" / f"after_layer_{layer}.h5"
            if context.results[f"merge_{layer}"].status == "done" and path.exists():
                return path
        given = context.settings["initial_solutions"]
        return Path(given).absolute() if given else None


def make_task(
    context: Context, row: Mapping[str, Any], vis: Sequence[Path], table: Path | None, column: str
) -> SourceTask:
    """Return what a worker is asked to do for a source."""
    settings = context.settings
    size = row["map_arcsec"] if settings["map_size"] == "auto" else settings["map_size"]
    return SourceTask(
        row["name"], row["ra_rad"], row["dec_rad"],
        str(context.workdir / "sources" / row["name"]), tuple(map(str, vis)), column,
        str(table or ""), size, _confusion(context, row), settings, data_identity(list(vis), table),
        row["entry"],
    )  # fmt: skip


def _confusion(context: Context, row: Mapping[str, Any]) -> float:
    """Flux of all other sources still in the data over the source's own."""
    path = context.workdir / "sources.json"
    if not path.exists() or not row["flux_jy"]:
        return 0.0
    gone: set[str] = set()
    for number in range(1, int(row["layer"])):
        result = context.results.get(f"subtract_{number}")
        if result is not None and result.status == "done":
            gone |= set(result.metrics["subtracted"])
    others = [
        float(other["flux_jy"] or 0.0)
        for other in read_sources(context.workdir)
        if other["name"] not in gone | {row["name"]}
    ]
    return round(math.sqrt(sum(flux**2 for flux in others)) / float(row["flux_jy"]), 4)


class LayerSources(LayerStep):
    """Calibrate the sources of a layer, side by side."""

    uses = (
        "datacolumn", "initial_solutions", "average_time", "average_frequency", "smearing",
        "prepare", "phase_up", "uvmin", "map_size", "cell", "min_good_fraction",
        "min_coherence", "max_separation", "source_config", "source_steps", "overrides",
        "source_settings",
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Run every source; report those that failed and go on with the others."""
        rows = self.sources(context)
        vis, table = self.vis(context), self.table(context, self.layer - 1)
        column = self.column(context)
        tasks = [make_task(context, row, vis, table, column) for row in rows]
        path = context.workdir / "tables" / f"layer_{self.layer}.json"
        board = _Board(context, tasks)
        results: dict[str, dict[str, Any]] = {}

        def on_done(outcome: Outcome) -> None:
            name = outcome.item.name
            results[name] = outcome.value if outcome.ok else failed(name, outcome.error)
            write_atomically(path, json.dumps(list(results.values()), indent=1))
            write_sources_csv(context.workdir)
            board.done(results[name])

        with context.clock.time("solving"):
            run_all(
                calibrate_source, tasks, context.settings["cluster"], on_done, on_wait=board.show
            )
        ordered = [results[task.name] for task in tasks]
        write_atomically(path, json.dumps(ordered, indent=1))
        write_sources_csv(context.workdir)
        return self._result(context, path, ordered)

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


class _Board:
    """The progress over all sources of a layer: who is done, who is at which step."""

    def __init__(self, context: Context, tasks: Sequence[SourceTask]) -> None:
        self.progress = context.progress
        self.left = {task.name: Path(task.folder) for task in tasks}
        self.total = len(tasks)
        self.shown = ""

    def show(self) -> None:
        """Show who is where, when that has changed."""
        at = [
            f"{name} {step}" for name, folder in self.left.items() if (step := running_step(folder))
        ]
        text = f"{self.total - len(self.left)} of {self.total} done; " + ", ".join(at)
        if at and text != self.shown:
            self.shown = text
            self.progress.activity(text)
        self.progress.tick()

    def done(self, result: Mapping[str, Any]) -> None:
        """Note that a source is done."""
        self.left.pop(result["name"], None)
        self.progress.note(
            f"    {result['name']}: {result['status']}, {result['longest_baseline_km']:.0f} km;"
            f" {result['reason']}",
            warning=result["status"] == "failed",
        )


class LayerMerge(LayerStep):
    """Merge the layer's solutions into the global table, in one go."""

    uses = ("min_good_fraction", "min_coherence", "max_separation")

    def run(self, context: Context) -> StepResult:
        """Write the table after this layer; every direction gets an entry for each station."""
        rows = self.sources(context)
        before = self.table(context, self.layer - 1)
        target = context.workdir / "tables" / f"after_layer_{self.layer}.h5"
        files = [
            context.workdir / "sources" / row["name"] / row["h5parm"]
            for row in rows
            if row.get("h5parm")
        ]
        if not files and before is None:
            raise Skip("no source has solutions")
        with replacing(target) as part:
            part.unlink(missing_ok=True)
            if before is not None:
                shutil.copyfile(before, part)
            if files:
                merge_into(part, files)
            filled = sum(self._complete(context, part, row) for row in rows)
            part.with_name(part.name + ".lock").unlink(missing_ok=True)
        with replacing(context.workdir / "solutions.h5") as part:
            shutil.copyfile(target, part)
        entries = list_entries(target)
        directions = {item.entry.direction for item in entries}
        return StepResult(
            reason=f"{len(entries)} entries of {len(directions)} directions; {filled} of this"
            " layer's taken from neighbours",
            products={"table": context.relative(target), "h5parm": "solutions.h5"},
            metrics={
                "entries": len(entries),
                "directions": len(directions),
                "from_neighbours": filled,
            },
        )

    def _complete(self, context: Context, table: Path, row: Mapping[str, Any]) -> int:
        """Give a direction the best solutions of other directions for stations it lacks."""
        entries = list_entries(table)
        have = {e.entry.station for e in entries if e.entry.direction == row["name"]}
        stations = {e.entry.station for e in entries}
        if have >= stations:
            return 0
        settings = context.settings
        farthest = settings["max_separation"]
        try:
            found = best(
                table, row["ra_rad"], row["dec_rad"], name=row["name"],
                min_good_fraction=settings["min_good_fraction"],
                min_coherence=settings["min_coherence"],
                max_separation_deg=math.inf if farthest == "inf" else farthest / 3600,
            )  # fmt: skip
        except InputError:
            return 0  # nothing good anywhere: the direction stays without
        own = [i for i, name in enumerate(found.solset.antenna) if name in have]
        found.solset.weight[:, :, own] = 0.0
        lacking = [entry for entry in found.entries if entry.station not in have]
        if not lacking:
            return 0
        path = context.workdir / "sources" / row["name"] / "neighbours.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_with_entries(path, found.solset, lacking, made_here=False)
        merge_into(table, [path])
        return len(lacking)


class LayerSubtract(LayerStep):
    """Subtract the layer's models, through their solutions, from the unaveraged data."""

    uses = ("subtract_snr",)

    def run(self, context: Context) -> StepResult:
        """Write new copies of the data; the input stays."""
        rows = self.sources(context)
        table = self.table(context, self.layer)
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
        folder = context.workdir / "data" / f"after_layer_{self.layer}"
        folder.mkdir(parents=True, exist_ok=True)
        products = {}
        threads = threads_of(context.settings)
        for number, ms in enumerate(self.vis(context)):
            models = [self._model(context, row, ms, table, threads) for row in chosen]
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

    def _model(
        self, context: Context, row: Mapping[str, Any], ms: Path, table: Path, threads: int
    ) -> SkyModel:
        folder = context.workdir / "sources" / row["name"]
        return SkyModel(
            row["name"],
            (row["ra_rad"], row["dec_rad"]),
            image_model([folder / name for name in row["models"]], threads=threads),
            DirectionGains.read(table, ms, row["name"]),
        )
