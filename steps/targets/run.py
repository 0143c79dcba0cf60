"""A run of several targets and bands: each is an ordinary run in a work directory of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from libs.inputs.cont_dat import read_cont_dat
from libs.inputs.working_copy import resolve_inputs
from selfcal.child_runs import Board, ChildRun, run_child, run_side_by_side
from selfcal.cluster import Outcome, check_where, shared_threads
from selfcal.options import unknown_name
from selfcal.paths import absolute, with_absolute_paths
from selfcal.progress import Progress
from selfcal.settings import Settings
from steps import STEPS
from steps.cont_file import CONTFILE_SETTING, cont_file
from steps.mosaics import MOSAIC_SETTING
from steps.run_options import FILE_SETTINGS, RUN_OPTIONS, file_for, run_settings
from steps.selections import EXECUTIONS_SETTING
from steps.targets.executions import survey
from steps.targets.plan import Target, find_targets

__all__ = [
    "FOLDER",
    "TargetTask",
    "calibrate_target",
    "plan_targets",
    "run_targets",
    "target_config",
    "target_names",
]

FOLDER = "targets"
# what a target has values of its own for
_OWN_KEYS = (
    "vis", "workdir", "field", "spw", EXECUTIONS_SETTING, "targets", "cluster", "quiet",
    "on_finish",
)  # fmt: skip


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
        parts += [f"spw {','.join(map(str, target.windows))}"]
        taken = [f"{part.vis}: field {part.field}, spw {part.spw}" for part in target.parts]
        more = [*taken, *target.notes, *filter(None, [target.problem])]
        return [f"== {FOLDER}/{target.label}: {', '.join(parts)}", *(f"   {line}" for line in more)]


def plan_targets(
    words: Sequence[str], config: Mapping[str, Any], settings: Settings
) -> list[TargetTask]:
    """Return what is to be run: a task for each target in each band.

    Parameters
    ----------
    words : sequence of str
        Words of the command line that go to every run, such as ``--from=p1``.
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
    if settings[EXECUTIONS_SETTING]:
        raise ConfigError("both executions and targets are set", "leave executions empty")
    check_where(settings["cluster"])
    targets = find_targets(
        [survey(source) for source in resolve_inputs(settings["vis"])], settings["targets"],
        spw=settings["spw"], instrument=settings["instrument"], band=settings["band"],
        mosaics=settings[MOSAIC_SETTING] == "auto",
    )  # fmt: skip
    _check_names(settings, targets)
    path = cont_file(settings)
    if path is not None:
        read_cont_dat(path)  # a wrong line is told before the first target runs
        config = {**config, CONTFILE_SETTING: str(path)}
    return [_task(target, words, config, settings) for target in targets]


def target_names(target: Target) -> tuple[str, ...]:
    """Return the names by which settings may give files for a target, the most special first."""
    return target.label, f"{target.name} {target.band}", target.name, target.band


def _check_names(settings: Settings, targets: Sequence[Target]) -> None:
    """Refuse files that are given for a target or band that is not there."""
    known = dict.fromkeys(name for target in targets for name in target_names(target) if name)
    bands = {target.band for target in targets}
    fields = {name for target in targets for name in (target.label, target.name)}
    for setting in FILE_SETTINGS:
        if isinstance(settings[setting], Mapping):
            for name in settings[setting]:
                if name not in known:
                    raise unknown_name(f"target or band in {setting}", name, list(known))
                if name in bands and name in fields:
                    raise ConfigError(
                        f"{setting} has a file for {name}, which is a target and a band",
                        f"write '{name} BAND' for the target, and the band's targets one by one",
                    )


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
    for name in [name for name in FILE_SETTINGS if name in kept]:
        kept[name] = file_for(kept[name], target_names(target))
    parts = {
        absolute(part.vis): {
            "field": part.field, "spw": part.spw, "copy": part.copy,
            "windows": ",".join(map(str, part.windows)),
        }
        for part in target.parts
    }  # fmt: skip
    own = {
        "vis": list(target.vis), "workdir": str(workdir), EXECUTIONS_SETTING: parts, "quiet": quiet,
    }  # fmt: skip
    options = {name: kind.options for name, kind in STEPS.items()}
    found = with_absolute_paths({**own, **kept}, RUN_OPTIONS, options)
    plain = dict(json.loads(json.dumps(found, default=str)))
    for dotted in [name for name in plain if "." in name]:
        step, _, name = dotted.partition(".")
        place = plain
        for key in ("global_parameters",) if step == "global_parameters" else ("overrides", step):
            place = place.setdefault(key, {})
        place[name] = plain.pop(dotted)
    return plain


def _task(
    target: Target, words: Sequence[str], config: Mapping[str, Any], settings: Settings
) -> TargetTask:
    folder = settings.workdir / FOLDER / target.label
    return TargetTask(
        target, str(folder),
        target_config(config, target, folder, quiet=settings["quiet"]), tuple(words),
        str(Path.cwd()), shared_threads(settings["cluster"]), 2 * settings["tool_stall"] + 60.0,
    )  # fmt: skip


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
    if task.target.problem:
        raise ConfigError(task.target.problem, "calibrate each execution by itself, with one vis")
    folder = Path(task.folder)
    child = ChildRun(
        folder, folder / "config.yaml", task.config, Path(task.cwd), task.stall_s,
        task.arguments, task.threads,
    )  # fmt: skip
    start = time.monotonic()
    summary = run_child(child, on_wait)
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


def run_targets(
    tasks: Sequence[TargetTask], where: str, progress: Progress
) -> list[dict[str, Any]]:
    """Run every target, side by side where that is asked for.

    Parameters
    ----------
    tasks : sequence of TargetTask
    where : str
        As in `selfcal.cluster.run_all`.
    progress : Progress

    Returns
    -------
    list of dict
        What came of each target, in the order of the tasks: its run's summary and where it is;
        of one that failed ``status`` and ``reason``.
    """
    for task in tasks:
        for note in task.target.notes:
            progress.note(f"{task.target.label}: {note}", warning=True)
    board = Board(progress, {task.target.label: Path(task.folder) for task in tasks})
    results: dict[int, dict[str, Any]] = {}

    def on_done(outcome: Outcome) -> None:
        result = results[outcome.index] = _result(outcome)
        failed = result["status"] == "failed"
        text = result["reason"] if failed else f"{result['seconds_total']:.1f} s"
        board.done(result["label"], result["status"], text)

    progress.begin("targets")
    run_side_by_side(calibrate_target, tasks, where, board, on_done)
    return [results[index] for index in sorted(results)]
