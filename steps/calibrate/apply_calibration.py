"""The calibration applied: to calibrators from themselves, to targets between calibrators."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

from libs.core.errors import InputError
from libs.core.files import fsync_tree
from libs.gains.solver import AppliedTable
from libs.ms.subset import choose_subset
from libs.ms.subset_copy import copy_subset
from selfcal.step import Step, StepResult
from steps.calibrate.flag_calibrators import flagged_fields
from steps.calibrate.roles import Roles
from steps.calibrate.session_data import (
    restore_flags,
    roles_of,
    split_path,
    tunings_of,
)
from steps.calibrate.solve import SOLVED_FLAGS, table_of
from steps.context import Context

__all__ = ["ApplyCalibration", "tables_for"]

_MOST_FLAGGED = 0.9999


class ApplyCalibration(Step):
    """Apply the tables to every field; split ``FIELD_noauto_1GC.ms``."""

    needs = ("combine", "identify", "calibrate")
    uses = ("solver",)

    def changes_data(self, context: Context) -> bool:
        """Return True: data without solutions are flagged."""
        return True

    def run(self, context: Context) -> StepResult:
        """Correct and split the fields one after another."""
        roles = roles_of(context)
        path = context.product("calibration")
        if path is None or not path.exists():
            raise InputError("there is no calibration", "run the step calibrate first")
        records = {item["tuning"]: item for item in json.loads(path.read_text())}
        products, said = {}, []
        for tuning in tunings_of(context):
            ms = restore_flags(context, tuning, SOLVED_FLAGS)
            for name in roles.fields:
                context.progress.activity(f"{tuning.name} {name}".strip())
                tables = tables_for(records[tuning.name], roles, name, context)
                context.tools.solver.apply(ms, tables, fields=roles.ids[name])
            shares = flagged_fields(ms)
            for name in roles.fields:
                flagged = max(shares.get(i, 1.0) for i in roles.ids[name])
                if flagged > _MOST_FLAGGED:
                    raise InputError(
                        f"nothing of {name} is left: its data or its solutions are all flagged",
                        "look at the flags of the calibrators, or leave it out of targets",
                    )
                target = split_path(context, tuning, name)
                part = target.with_name(f".{target.name}.part")
                ids = ",".join(map(str, roles.ids[name]))
                if not copy_subset(ms, part, choose_subset(ms, field=ids, column="CORRECTED_DATA")):
                    raise InputError(f"{name} has no data", "leave it out of targets")
                fsync_tree(part)
                shutil.rmtree(target, ignore_errors=True)
                part.rename(target)
                products[f"split_{target.stem}"] = context.relative(target)
                said.append(f"{name}{tuning.suffix} {100 * flagged:.0f} % flagged")
        return StepResult(reason="; ".join(said), products=products)


def tables_for(
    record: dict[str, Any], roles: Roles, name: str, context: Context
) -> list[AppliedTable]:
    """Return the tables that correct a field, each with the fields that it takes solutions of.

    Delays and bandpass come from the flux calibrator. A calibrator takes its own gains, the
    nearest in time; a target those of its phase calibrator, linear in time.
    """
    flux = roles.ids[roles.flux_calibrator]
    tables = []
    for kind in ("K0", "B0"):
        item = table_of(record, kind, context.workdir)
        if item is not None:
            tables.append(replace(item, fields=flux, interp="nearest"))
    gains = table_of(record, "G1flux", context.workdir)
    assert gains is not None
    own = name in roles.calibrators
    source = name if own else roles.calibrator_of[name]
    interp = "nearest" if own else "linear"
    return [*tables, replace(gains, fields=roles.ids[source], interp=interp)]  # type: ignore[arg-type]
