"""A working copy of a set of many fields and four hands, row by row the same."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.core.errors import InputError
from libs.core.files import fsync_tree, tree_bytes
from libs.inputs.input_data import identity, resolve_inputs
from libs.inputs.working_copy import check_disk
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from selfcal.step import Step, StepResult
from steps.context import Context

__all__ = ["VlassStartup", "working_copy"]


def working_copy(context: Context) -> Path:
    """Return the path of the working copy; it bears the name of the user's set."""
    return context.workdir / "data" / Path(context.settings["vis"]).name


class VlassStartup(Step):
    """Copy the set; flag versions restored later belong to its rows, so that none is left out."""

    uses = ("vis",)

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return what tells these data from others."""
        return {"data": [identity(one) for one in resolve_inputs([context.settings["vis"]])]}

    def changes_data(self, context: Context) -> bool:
        """Return True: it makes the data."""
        return True

    def run(self, context: Context) -> StepResult:
        """Make the copy and look at what it holds."""
        source = Path(context.settings["vis"])
        if not (source / "table.dat").exists():
            raise InputError(f"{source} is no measurement set", "correct vis")
        target = working_copy(context)
        part = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        size = tree_bytes(source)
        check_disk(target.parent, size)
        context.progress.activity(f"copying {source.name} ({size / 1e9:.3g} GB)")
        shutil.copytree(source, part, copy_function=shutil.copyfile)
        facts = _facts(part, source)
        fsync_tree(part)
        for leftover in (
            target,
            *(Path(f"{target}.{kind}versions") for kind in ("flag", "weight")),
        ):
            shutil.rmtree(leftover, ignore_errors=True)
        part.rename(target)
        return StepResult(
            reason=f"{facts['rows']} rows, {facts['fields']} fields,"
            f" windows {', '.join(map(str, facts['spws']))}",
            products={"working_copy": context.relative(target)},
            metrics=facts,
        )


def _facts(ms: Path, source: Path) -> dict[str, Any]:
    """Return what the set holds; it must have the four hands of polarized images."""
    found = Subtables(ms)
    with open_table(ms) as opened:
        rows = opened.nrows()
        ids = sorted(set(opened.getcol("DATA_DESC_ID").tolist())) if rows else []
        fields = sorted(set(opened.getcol("FIELD_ID").tolist())) if rows else []
    if not rows:
        raise InputError(f"{source} has no rows", "give the set that the continuum run left")
    for ddid in ids:
        names = found.setup_of[ddid].correlations
        if len(names) < 4:
            raise InputError(
                f"{source} has only {', '.join(names)} in window {int(found.spw_of[ddid])}",
                "images of Stokes I, Q, U and V need all four hands",
            )
    return {
        "rows": rows, "fields": len(fields), "field_ids": fields,
        "spws": sorted({int(found.spw_of[ddid]) for ddid in ids}),
        "dish_diameter_m": float(max(antenna.diameter_m for antenna in found.antennas)),
    }  # fmt: skip
