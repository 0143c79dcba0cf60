"""A config with targets: list, plan or run each of them, then tell what came of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from libs.core.errors import SelfcalError
from selfcal.progress import Progress
from selfcal.settings import Settings
from selfcal.state import hold_workdir
from steps import STANDARD, build_steps
from steps.commands.command_line import Reports, RunArguments, pipeline_of, show_plan
from steps.commands.run_log import log_to
from steps.preflight import check_data
from steps.record.merge import write_targets_record
from steps.targets.neighbours import find_attempts, judge_attempt
from steps.targets.run import FOLDER, TargetTask, plan_targets, run_targets
from steps.work_directory import note_owner

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
                estimate = check_data(task.settings, steps) if arguments.planned else None
                show_plan(pipeline_of(task.settings, steps, quiet), arguments)
                print("\n".join(estimate.lines if estimate else []))
        return
    # steps that are not there are told before the first target runs
    pipeline_of(tasks[0].settings, steps, quiet).plan(**arguments.steps)
    with hold_workdir(settings.workdir), log_to(settings.workdir / "run.log", arguments.log_json):
        note_owner(settings)
        calibrate_targets(tasks, settings, reports, arguments.progress(quiet=settings["quiet"]))


def calibrate_targets(
    tasks: Sequence[TargetTask],
    settings: Settings,
    reports: Reports,
    progress: Progress | None = None,
) -> None:
    """Run every target; write summary and report and print the table.

    Raises
    ------
    TargetsFailed
        A target failed; the others are done.
    """
    progress = progress or Progress(quiet=settings["quiet"])
    progress.note(f"{len(tasks)} targets -> {settings.workdir / FOLDER}")
    results = run_targets(tasks, settings["cluster"], progress)
    results = _with_neighbours(tasks, results, settings, progress)
    write_targets_record(settings.workdir, results, settings["oussid"])
    progress.result(reports.targets(settings.workdir, results))
    progress.note(f"report: {settings.workdir / 'report.html'}")
    failed = [f"{r['label']}: {r['reason']}" for r in results if r["status"] == "failed"]
    if failed:
        raise TargetsFailed(
            f"{len(failed)} of {len(results)} targets failed; " + "; ".join(failed),
            "the others are done; the same command tries again",
        )


def _with_neighbours(
    tasks: Sequence[TargetTask],
    results: list[dict[str, Any]],
    settings: Settings,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Try neighbours' solutions on targets that stayed as they were; return all results."""
    attempts = find_attempts(tasks, results, settings)
    if not attempts:
        return results
    for attempt in attempts:
        label = tasks[attempt.place].target.label
        progress.note(f"{label} did not improve: trying the solutions of {attempt.neighbour}")
    again = run_targets([attempt.task for attempt in attempts], settings["cluster"], progress)
    found = list(results)
    for attempt, second in zip(attempts, again, strict=True):
        found[attempt.place] = judge_attempt(attempt, results[attempt.place], second)
        progress.note(f"    {found[attempt.place]['label']}: {found[attempt.place]['notes'][-1]}")
    return found
