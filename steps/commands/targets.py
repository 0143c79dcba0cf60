"""A run of several targets and bands: each is an ordinary run in a work directory of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import ConfigError, SelfcalError, ToolError
from libs.core.files import write_atomically
from libs.core.process import run_tool, tail
from libs.inputs.working_copy import resolve_inputs
from selfcal.cluster import Outcome, check_where, run_all
from selfcal.progress import Progress
from selfcal.settings import Settings
from selfcal.state import hold_workdir
from steps.run_options import run_settings
from steps.targets.plan import Target, find_targets, survey

__all__ = [
    "TargetTask",
    "TargetsFailed",
    "calibrate_target",
    "plan_targets",
    "run_targets",
    "target_config",
]

FOLDER = "targets"
_COMMAND = Path(__file__).resolve().parents[2] / "auto_selfcal.py"
# a worker that died a moment ago takes its run with it, but not at once
_LOCK_WAIT_S = 60.0
_SHOW_EVERY_S = 0.5
# what a target has values of its own for
_OWN_KEYS = ("vis", "workdir", "field", "spw", "targets", "cluster", "quiet")

Finish = Callable[[Path, Sequence[Mapping[str, Any]]], str]
"""Writes summary and report from what came of the targets; returns the table to print."""


@dataclass(frozen=True)
class TargetTask:
    """What a worker is asked to do.

    Attributes
    ----------
    target : Target
    folder : str
        The run's work directory, absolute.
    config : dict
        Plain values.
    arguments : tuple of str
        Of the command line, but what ``--set`` assigns: ``--from=p1``.
    cwd : str
        Where relative paths of the config start.
    threads : int
        Of the program itself and of libraries; 0: as many as they like.
    stall_s : float
    """

    target: Target
    folder: str
    config: Mapping[str, Any]
    arguments: tuple[str, ...]
    cwd: str
    threads: int
    stall_s: float

    @property
    def settings(self) -> Settings:
        """The settings of its run, as that will read them."""
        return run_settings(self.config, Path(self.folder) / "config.yaml")

    @property
    def lines(self) -> list[str]:
        """What it is, what is left out and why it cannot run, for a list of targets."""
        target = self.target
        parts = [target.name, *([f"band {target.band}"] if target.band else [])]
        parts += [f"spw {target.spw}"] if target.spw else []
        more = [*target.notes, *filter(None, [target.problem])]
        return [f"== {FOLDER}/{target.label}: {', '.join(parts)}", *(f"   {line}" for line in more)]


def plan_targets(
    arguments: argparse.Namespace, config: Mapping[str, Any], settings: Settings
) -> list[TargetTask]:
    """Return what is to be run: a task for each target in each band.

    Parameters
    ----------
    arguments : namespace
        Of the command line.
    config : mapping
        What the config file assigns and, over it, ``--set``, parameters of steps with a dot.
    settings : Settings
        The same, checked.

    Raises
    ------
    ConfigError
        The settings contradict each other, or a target is not in the data.
    """
    if settings["field"]:
        raise ConfigError("both field and targets are set", "leave field empty")
    check_where(settings["cluster"])
    targets = find_targets(
        [survey(source) for source in resolve_inputs(settings["vis"])], settings["targets"],
        spw=settings["spw"], instrument=settings["instrument"], band=settings["band"],
    )  # fmt: skip
    return [_task(target, arguments, config, settings) for target in targets]


# -- what each target is run with -----------------------------------------------------------------


def target_config(
    config: Mapping[str, Any], target: Target, workdir: Path, *, quiet: bool = False
) -> dict[str, Any]:
    """Return the config of one target's run, as plain values.

    It stands for itself: started from any folder, it is the same run.

    Parameters
    ----------
    config : mapping
        Of all targets. Names with a dot are parameters of steps, as ``--set`` assigns them.
    target : Target
    workdir : Path
        Of its run.
    quiet : bool
    """
    kept = {name: value for name, value in config.items() if name not in _OWN_KEYS}
    if kept.get("start_from"):
        kept["start_from"] = str(Path(kept["start_from"]).expanduser().absolute())
    own = {
        "vis": [_absolute(one) for one in target.vis], "workdir": str(workdir),
        "field": target.field, "spw": target.spw, "quiet": quiet,
    }  # fmt: skip
    plain = dict(json.loads(json.dumps({**own, **kept}, default=str)))
    for dotted in [name for name in plain if "." in name]:
        step, _, name = dotted.partition(".")
        place = plain
        for key in ("global_parameters",) if step == "global_parameters" else ("overrides", step):
            place = place.setdefault(key, {})
        place[name] = plain.pop(dotted)
    return plain


def _absolute(vis: str) -> str:
    return str(Path(vis).expanduser().absolute())


def _task(
    target: Target, arguments: argparse.Namespace, config: Mapping[str, Any], settings: Settings
) -> TargetTask:
    folder = settings.workdir / FOLDER / target.label
    passed = [f"--{name}={value}" for name, value in (
        ("from", arguments.start), ("until", arguments.until), ("only", arguments.only)) if value
    ]  # fmt: skip
    passed += ["--restart"] if arguments.restart else []
    return TargetTask(
        target, str(folder),
        target_config(config, target, folder, quiet=settings["quiet"]), tuple(passed),
        str(Path.cwd()), _threads(settings), 2 * settings["tool_stall"] + 60.0,
    )  # fmt: skip


def _threads(settings: Settings) -> int:
    kind, _, count = settings["cluster"].partition(":")
    if kind != "local" or int(count) < 2:
        return 0
    return max(1, (os.cpu_count() or 1) // int(count))


# -- running them ---------------------------------------------------------------------------------


def calibrate_target(task: TargetTask, on_wait: Callable[[], None] | None = None) -> dict[str, Any]:
    """Run the ordinary pipeline on one target, in a process of its own; return its summary.

    Raises
    ------
    ConfigError
        The target cannot be selected.
    ToolError
        Its run failed; its own message is in the text.
    """
    folder = Path(task.folder)
    if task.target.problem:
        raise ConfigError(task.target.problem, "split its data to a measurement set of their own")
    with hold_workdir(folder, wait_s=_LOCK_WAIT_S):
        path = folder / "config.yaml"
        text = yaml.safe_dump(dict(task.config), sort_keys=False)
        if not path.exists() or path.read_text() != text:
            write_atomically(path, text)
        output = folder / "run.out"
        output.unlink(missing_ok=True)
    environment = {}
    if task.threads:
        names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
        environment = dict.fromkeys(names, str(task.threads))
    start = time.monotonic()
    try:
        run_tool(
            [sys.executable, _COMMAND, path, *task.arguments], output, cwd=Path(task.cwd),
            env=environment, stall_s=task.stall_s, on_wait=on_wait,
        )  # fmt: skip
    except ToolError as error:
        lines = tail(output, 40).splitlines()
        said = [line for line in lines if line.startswith("selfcal: ")]
        if said:
            raise ToolError(said[-1].removeprefix("selfcal: "), f"see {output}") from error
        what = error.cause.splitlines()[0]
        raise ToolError(f"its run broke off: {what} ({lines[-1]})", f"see {output}") from error
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return {**summary, "seconds_total": round(time.monotonic() - start, 1)}


def _result(outcome: Outcome) -> dict[str, Any]:
    """What came of a target: its run's summary, or why it failed."""
    task: TargetTask = outcome.item
    target = task.target
    own = {
        "label": target.label, "field": target.name, "band": target.band,
        "workdir": f"{FOLDER}/{target.label}", "vis": list(target.vis), "notes": list(target.notes),
    }  # fmt: skip
    if outcome.ok:
        return own | outcome.value
    written = Path(task.folder) / "summary.json"
    found = json.loads(written.read_text()) if written.exists() else {}
    # that of an earlier start says nothing of this one
    kept = found if found.get("status") == "failed" else {}
    return own | kept | {"status": "failed", "reason": outcome.error}


def run_targets(tasks: Sequence[TargetTask], settings: Settings, finish: Finish) -> None:
    """Run every target, side by side where the settings say so.

    Parameters
    ----------
    tasks : sequence of TargetTask
    settings : Settings
        Of the whole; its work directory is held by the caller.
    finish : callable

    Raises
    ------
    TargetsFailed
        A target failed; the others are done.
    """
    progress = Progress(quiet=settings["quiet"])
    where = settings["cluster"]
    progress.note(f"{len(tasks)} targets -> {settings.workdir / FOLDER}")
    for task in tasks:
        for note in task.target.notes:
            progress.note(f"{task.target.label}: {note}", warning=True)
    board = _Board(progress, tasks)
    results: dict[int, dict[str, Any]] = {}

    def on_done(outcome: Outcome) -> None:
        results[outcome.index] = _result(outcome)
        board.done(results[outcome.index])

    # in line nothing else looks after the display
    run = partial(calibrate_target, on_wait=board.show) if where == "inline" else calibrate_target
    progress.begin("targets")
    run_all(run, tasks, where, on_done, on_wait=board.show)
    ordered = [results[index] for index in sorted(results)]
    print(finish(settings.workdir, ordered), flush=True)
    progress.note(f"report: {settings.workdir / 'report.html'}")
    failed = [f"{r['label']}: {r['reason']}" for r in ordered if r["status"] == "failed"]
    if failed:
        raise TargetsFailed(
            f"{len(failed)} of {len(ordered)} targets failed; " + "; ".join(failed),
            "the others are done; the same command tries again",
        )


class TargetsFailed(SelfcalError):  # noqa: N818 - what happened, not a kind of error
    """Some targets failed, the others are done (exit code 1)."""


class _Board:
    """The progress over all targets: which are done, and at which step the others are."""

    def __init__(self, progress: Progress, tasks: Sequence[TargetTask]) -> None:
        self.progress = progress
        self.left = {task.target.label: Path(task.folder) / ".running" for task in tasks}
        self.total = len(tasks)
        self.shown, self.looked = "", 0.0

    def show(self) -> None:
        """Show who is where, when that has changed."""
        self.progress.tick()
        if time.monotonic() - self.looked < _SHOW_EVERY_S:
            return
        self.looked = time.monotonic()
        at = [f"{name} {step}" for name, mark in self.left.items() if (step := _step_at(mark))]
        text = f"{self.total - len(self.left)} of {self.total} done; " + ", ".join(at)
        if at and text != self.shown:
            self.shown = text
            self.progress.activity(text)

    def done(self, result: Mapping[str, Any]) -> None:
        """Note what came of a target."""
        self.left.pop(result["label"])
        failed = result["status"] == "failed"
        text = result["reason"] if failed else f"{result['seconds_total']:.1f} s"
        self.progress.note(f"    {result['label']}: {result['status']}; {text}", warning=failed)


def _step_at(mark: Path) -> str:
    """The step a run is in; empty when it does not run."""
    try:
        words = mark.read_text().split()
    except FileNotFoundError:
        return ""
    return words[-1] if words else ""
