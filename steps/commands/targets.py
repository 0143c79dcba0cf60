"""A config with targets: list, plan or run each of them, then tell what came of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from libs.core.errors import SelfcalError
from selfcal.progress import Progress
from selfcal.settings import Settings
from selfcal.state import hold_workdir
from steps import STANDARD, build_steps
from steps.commands.command_line import Reports, RunArguments, log_to, pipeline_of, show_plan
from steps.targets.run import FOLDER, TargetTask, plan_targets, run_targets

__all__ = ["TargetsFailed", "calibrate_targets", "run_every_target"]


class TargetsFailed(SelfcalError):  # noqa: N818 - what happened, not a kind of error
    """Some targets failed, the others are done (exit code 1)."""


def run_every_target(
    arguments: RunArguments, config: Mapping[str, Any], settings: Settings, reports: Reports
) -> None:
    """Run, list or plan every target, each as a run of its own.

    Parameters
    ----------
    arguments : RunArguments
    config : mapping
        What the config file assigns and, over it, the command line.
    settings : Settings
        The same, checked.
    reports : Reports
    """
    tasks = plan_targets(arguments.words, config, settings)
    quiet = Progress(quiet=True)
    steps = build_steps(settings["steps"] or STANDARD)
    if arguments.listed or arguments.planned:
        for task in tasks:
            print("\n".join(task.lines))
            if not task.target.problem:
                show_plan(pipeline_of(task.settings, steps, quiet), arguments)
        return
    # steps that are not there are told before the first target runs
    pipeline_of(tasks[0].settings, steps, quiet).plan(**arguments.steps)
    with hold_workdir(settings.workdir), log_to(settings.workdir / "run.log"):
        calibrate_targets(tasks, settings, reports)


def calibrate_targets(tasks: Sequence[TargetTask], settings: Settings, reports: Reports) -> None:
    """Run every target; write summary and report and print the table.

    Raises
    ------
    TargetsFailed
        A target failed; the others are done.
    """
    progress = Progress(quiet=settings["quiet"])
    progress.note(f"{len(tasks)} targets -> {settings.workdir / FOLDER}")
    results = run_targets(tasks, settings["cluster"], progress)
    print(reports.targets(settings.workdir, results), flush=True)
    progress.note(f"report: {settings.workdir / 'report.html'}")
    failed = [f"{r['label']}: {r['reason']}" for r in results if r["status"] == "failed"]
    if failed:
        raise TargetsFailed(
            f"{len(failed)} of {len(results)} targets failed; " + "; ".join(failed),
            "the others are done; the same command tries again",
        )
