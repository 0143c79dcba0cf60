"""The targets: a dirty image of each, then an ordinary self-calibration run of its own."""

from __future__ import annotations

import json
from typing import Any

from libs.core.errors import SelfcalError
from selfcal.cluster import shared_threads
from selfcal.step import Skip, Step, StepResult
from steps.calibrate.session_data import (
    file_name,
    roles_of,
    split_path,
    tunings_of,
    write_record,
)
from steps.calibrate.session_images import session_imaging
from steps.context import Context
from steps.ready_configs import load_ready_config
from steps.targets.plan import Target, TargetPart
from steps.targets.run import FOLDER, TargetTask, run_targets, target_config

__all__ = ["TargetImages", "TargetsNotDone"]

_ROBUST_TARGET = 0.5


class TargetsNotDone(SelfcalError):  # noqa: N818 - what happened, not a kind of error
    """Some targets' runs failed, the others are done (exit code 1)."""


class TargetImages(Step):
    """Image and self-calibrate the targets."""

    needs = ("combine", "identify", "calibrate", "apply_calibration")
    uses = (
        "imager", "imsize", "cell", "solver", "threads", "target_config", "target_settings",
        "overrides", "global_parameters", "tool_stall",
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Run every target; record what came of each in targets.json."""
        roles = roles_of(context)
        if not roles.targets:
            raise Skip("there are only calibrators")
        tasks, products = [], {}
        for tuning in tunings_of(context):
            for name in roles.targets:
                ms = split_path(context, tuning, name)
                stem = f"{file_name(name)}{tuning.suffix}"
                context.progress.activity(f"dirty image of {stem}")
                folder = context.workdir / "IMAGES" / file_name(name)
                options = session_imaging(context, ms, folder, f"{stem}_dirty", _ROBUST_TARGET)
                with context.clock.time("imaging"):
                    made = context.tools.imager.image(options)
                products[f"{stem}_dirty"] = context.relative(made.image)
                tasks.append(_task(context, Target(stem, name, "", (TargetPart(str(ms), (), ""),))))
        results = run_targets(tasks, context.settings["cluster"], context.progress)
        write_record(context.workdir / "targets.json", results)
        failed = [f"{r['label']}: {r['reason']}" for r in results if r["status"] == "failed"]
        if failed:
            raise TargetsNotDone(
                f"{len(failed)} of {len(results)} targets failed; " + "; ".join(failed),
                "the others are done; the same command tries again",
            )
        said = [f"{result['label']} {result['status']}" for result in results]
        return StepResult(reason="; ".join(said), products={"targets": "targets.json", **products})


def _task(context: Context, target: Target) -> TargetTask:
    settings = context.settings
    folder = context.workdir / FOLDER / target.label
    name = settings["target_config"]
    config: dict[str, Any] = {}
    if name != "auto":
        config, _ = load_ready_config(name, "target_config")
    for key in ("imager", "solver", "overrides", "global_parameters", "threads"):
        config[key] = settings[key]
    config |= settings["target_settings"]
    plain = target_config(config, target, folder, quiet=True)
    return TargetTask(
        target, str(folder), json.loads(json.dumps(plain)), (), str(context.workdir),
        shared_threads(settings["cluster"]), 2 * settings["tool_stall"] + 60.0,
    )  # fmt: skip
