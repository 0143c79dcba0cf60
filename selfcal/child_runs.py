"""Runs of the pipeline that a run starts, each a process with its own config and work directory.

A child writes its result to a small file (``--outcome``), so that nothing is read from its printed
output. Its finished steps are its own: the same child started again continues where the last one
stopped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import ConfigError, SelfcalError, ToolError
from libs.core.process import run_tool, tail
from selfcal.cluster import Outcome, run_all
from selfcal.progress import Progress
from selfcal.state import hold_workdir, write_atomically

__all__ = [
    "Board",
    "ChildRun",
    "exit_code",
    "run_child",
    "run_side_by_side",
    "running_step",
    "wait_until_free",
    "write_outcome",
]

COMMAND = Path(__file__).resolve().parents[1] / "auto_selfcal.py"
LOCK_WAIT_S = 60.0
"""When a worker dies, its child dies too, but slightly later."""

_SHOW_EVERY_S = 0.5
_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
Row = Mapping[str, Any]


# -- result of a run ------------------------------------------------------------------------------


def exit_code(error: SelfcalError) -> int:
    """Return the exit code of a failure: 2 for a wrong config or command, 1 for all others."""
    return 2 if isinstance(error, ConfigError) else 1


def write_outcome(path: Path, error: SelfcalError | None = None) -> None:
    """Write the result of a run as JSON: ``code``, ``kind``, ``cause`` and ``remedy``."""
    values = {
        "code": exit_code(error) if error else 0,
        "kind": type(error).__name__ if error else "",
        "cause": error.cause if error else "",
        "remedy": error.remedy if error else "",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(values, indent=1) + "\n")


# -- one child ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChildRun:
    """A run of the pipeline to be started.

    Attributes
    ----------
    workdir : Path
        Work directory of the child, absolute.
    config : Path
        Config file that is written for it. ``run.out``, with the child's printed output, and
        ``outcome.json`` are beside it.
    values : mapping
        Contents of the config; tuples are written as lists.
    cwd : Path
        Folder in which the child starts.
    stall_s : float
        Longest time without output and CPU use, s; after it the child is killed.
    arguments : tuple of str
        Further words of its command line.
    threads : int
        Number of threads of its libraries; 0: no limit.
    """

    workdir: Path
    config: Path
    values: Mapping[str, Any]
    cwd: Path
    stall_s: float
    arguments: tuple[str, ...] = ()
    threads: int = 0

    @property
    def output(self) -> Path:
        """File with the child's printed output."""
        return self.config.with_name("run.out")

    @property
    def outcome(self) -> Path:
        """File with the child's result."""
        return self.config.with_name("outcome.json")


def run_child(child: ChildRun, on_wait: Callable[[], None] | None = None) -> dict[str, Any]:
    """Run the pipeline in a process of its own and return its ``summary.json``.

    Parameters
    ----------
    child : ChildRun
    on_wait : callable, optional
        Function called often while the child runs, for a progress display.

    Raises
    ------
    InputError
        Another run holds the work directory and does not release it.
    ToolError
        The child failed; the text is its own message, or its last line of output when it ended
        without one.
    """
    with hold_workdir(child.workdir, wait_s=LOCK_WAIT_S):
        _write_config(child)
        child.output.unlink(missing_ok=True)
        child.outcome.unlink(missing_ok=True)
    words = [f"--outcome={child.outcome}", *child.arguments]
    environment = dict.fromkeys(_THREAD_VARIABLES, str(child.threads)) if child.threads else {}
    try:
        run_tool(
            [sys.executable, COMMAND, child.config, *words], child.output, cwd=child.cwd,
            env=environment, stall_s=child.stall_s, on_wait=on_wait,
        )  # fmt: skip
    except ToolError as error:
        raise ToolError(_why(child, error), f"see {child.output}") from error
    summary: dict[str, Any] = json.loads((child.workdir / "summary.json").read_text())
    return summary


def _write_config(child: ChildRun) -> None:
    """Write the config unless it exists unchanged: its time shows when it changed."""
    text = yaml.safe_dump(json.loads(json.dumps(dict(child.values))), sort_keys=False)
    child.config.parent.mkdir(parents=True, exist_ok=True)
    if not child.config.exists() or child.config.read_text() != text:
        write_atomically(child.config, text)


def _why(child: ChildRun, error: ToolError) -> str:
    """Return why a child failed: its own message, or how it ended without one."""
    if child.outcome.exists():
        said = json.loads(child.outcome.read_text())
        if said["cause"]:
            return str(SelfcalError(said["cause"], said["remedy"]))
    what = error.cause.splitlines()[0]
    return f"its run broke off: {what} ({tail(child.output, 1)})"


def wait_until_free(workdir: Path) -> None:
    """Wait until a child whose worker has just died releases its work directory.

    Raises
    ------
    InputError
        The child does not release it.
    """
    with hold_workdir(workdir, wait_s=LOCK_WAIT_S):
        return


# -- many of them ---------------------------------------------------------------------------------


def running_step(workdir: Path) -> str:
    """Return the step that a run is in; empty when it is not running."""
    try:
        words = (workdir / ".running").read_text().split()
    except FileNotFoundError:
        return ""
    return words[-1] if words else ""


class Board:
    """Progress of several children: the number done, and the steps of the others.

    Parameters
    ----------
    progress : Progress
    workdirs : mapping of str to Path
        Work directory of each child, by the name shown.
    """

    def __init__(self, progress: Progress, workdirs: Mapping[str, Path]) -> None:
        self.progress = progress
        self.left = dict(workdirs)
        self.total = len(workdirs)
        self._shown, self._looked = "", 0.0

    def show(self) -> None:
        """Show the step of each child when one has changed."""
        self.progress.tick()
        if time.monotonic() - self._looked < _SHOW_EVERY_S:
            return
        self._looked = time.monotonic()
        at = [
            f"{name} {step}" for name, where in self.left.items() if (step := running_step(where))
        ]
        text = f"{self.total - len(self.left)} of {self.total} done; " + ", ".join(at)
        if at and text != self._shown:
            self._shown = text
            self.progress.activity(text)

    def done(self, name: str, status: str, text: str) -> None:
        """Show the result of a child."""
        self.left.pop(name, None)
        self.progress.note(f"    {name}: {status}; {text}", warning=status == "failed")


def run_side_by_side(
    function: Callable[..., Any],
    tasks: Sequence[Any],
    where: str,
    board: Board,
    on_done: Callable[[Outcome], None],
) -> None:
    """Call a function, which runs a child, for every task; a failure does not affect the others.

    Parameters
    ----------
    function : callable
        Function ``(task, on_wait=None)``, importable by name on every worker.
    tasks : sequence
        Arguments of the calls, one for each child.
    where : str
        Place of execution as in `selfcal.cluster.run_all`.
    board : Board
        Display of the children's progress.
    on_done : callable
        Function called in this process with each outcome as it arrives.
    """
    # in line, nothing else updates the display
    run = partial(function, on_wait=board.show) if where == "inline" else function
    run_all(run, tasks, where, on_done, on_wait=board.show)
