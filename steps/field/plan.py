"""Loop 1: the sources of a field, layer by layer, from bright calibrators to faint sources.

The layers are steps of the one engine: for each there is a step that calibrates its sources, a
step that merges their solutions into the global table and a step that subtracts them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from libs.catalogues.matching import cross_match, make_layers, select_sources
from libs.catalogues.query import SERVICES, query_catalogue
from libs.catalogues.source_list import FieldSource, read_catalogue, with_components
from libs.core.errors import InputError
from libs.core.files import write_atomically
from libs.directions.phase_shift import ShiftOptions, plan_shift
from libs.inputs.working_copy import check_disk
from libs.ms.summary import MsSummary, describe_ms, summarise
from selfcal.settings import Settings
from selfcal.step import Step, StepResult
from steps.context import Context
from steps.field.field_again import LayerAgain
from steps.field.field_layer import LayerMerge, LayerSources, LayerSubtract, make_task
from steps.field.field_list import source_row, write_sources_csv
from steps.field.field_settings import FLUX
from steps.field.field_source import source_averaging
from steps.field.known_data import FOLDER, data_identity, know_data

__all__ = ["FieldStartup", "field_steps"]


def field_steps(settings: Settings) -> list[Step]:
    """Return the steps of a field: startup, then three for each layer and three to look again."""
    steps: list[Step] = [FieldStartup("field_startup")]
    for number in range(1, len(settings["layers"]) + 1):
        steps += [
            LayerSources(f"layer_{number}", number),
            LayerMerge(f"merge_{number}", number),
            LayerSubtract(f"subtract_{number}", number),
        ]
        if settings["again"] != "never":
            steps += [
                LayerAgain(f"again_{number}", number),
                LayerMerge(f"merge_again_{number}", number, again=True),
                LayerSubtract(f"subtract_again_{number}", number, again=True),
            ]
    return steps


class FieldStartup(Step):
    """Read or ask for the lists of sources, share them among layers, foresee the disk needed."""

    uses = (
        "vis", "sources", "lbcs", "components", "flux_unit", "layers", "radius",
        "calibrator_radius", "map_size", "average_time", "average_frequency", "smearing", "again",
    )  # fmt: skip

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return what tells these data and lists from others."""
        settings = context.settings
        vis = [Path(name).absolute() for name in settings["vis"]]
        for ms in vis:
            describe_ms(ms)
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
        summaries = [summarise(ms) for ms in vis]
        centre = tuple(float(angle) for angle in summaries[0].direction_rad)
        for summary in summaries[1:]:
            if not np.allclose(summary.direction_rad, centre, atol=1e-6):
                raise InputError(f"{summary.path} is another field", "give the data of one field")
        layers = self._layers(context, centre)
        self._clear(context.workdir)
        rows = [source_row(s, number) for number, layer in enumerate(layers, 1) for s in layer]
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
        summaries: Sequence[MsSummary],
        layers: Sequence[Sequence[FieldSource]],
    ) -> tuple[int, int]:
        """Bytes of all small data, and of disk needed in all: runs copy and image them."""
        size = 0
        folder = context.workdir / FOLDER
        known = [(one.path, know_data(one.path, folder, one)) for one in summaries]
        for number, layer in enumerate(layers, 1):
            for source in layer:
                task = make_task(context, source_row(source, number), [], None, "")
                for ms, data in known:
                    options = ShiftOptions((0.0, 0.0), "", *source_averaging(task, data))
                    size += plan_shift(ms, options, data.survey).size_bytes
        looks = 1 if context.settings["again"] == "never" else 2
        copies = sum(summary.size_bytes for summary in summaries) * len(layers) * looks
        return size, 6 * size * looks + int(1.5 * copies)
