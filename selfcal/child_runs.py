"""Runs of the pipeline that a run starts: each a process with its own config and work directory.

A child says how it ended in a small file (``--outcome``), so that nothing is read from what it
prints. Its finished steps are its own to reuse: the same child started again goes on where the
last one stopped.
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
"""A worker that died a moment ago takes its child with it, but not at once."""

_SHOW_EVERY_S = 0.5
_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
Row = Mapping[str, Any]


# -- how a run ended ------------------------------------------------------------------------------


def exit_code(error: SelfcalError) -> int:
    """Return the exit code of a failure: 2 the config or the command is wrong, 1 all others."""
    return 2 if isinstance(error, ConfigError) else 1


def write_outcome(path: Path, error: SelfcalError | None = None) -> None:
    """Write how a run ended, as JSON: ``code``, ``kind``, ``cause`` and ``remedy``."""
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
        Config file that is written for it; ``run.out``, which holds what the child prints, and
        ``outcome.json`` are beside it.
    values : mapping
        Content of the config; tuples are written as lists.
    cwd : Path
        Folder the child starts in.
    stall_s : float
        Time without output and CPU use after which the child is killed, seconds.
    arguments : tuple of str
        Further words of its command line.
    threads : int
        Threads of its libraries; 0: as many as they like.
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
        """File with what the child printed."""
        return self.config.with_name("run.out")

    @property
    def outcome(self) -> Path:
        """File in which the child says how it ended."""
        return self.config.with_name("outcome.json")


def run_child(child: ChildRun, on_wait: Callable[[], None] | None = None) -> dict[str, Any]:
    """Run the pipeline in a process of its own and return its ``summary.json``.

    Parameters
    ----------
    child : ChildRun
    on_wait : callable, optional
        Called often while the child runs, for a progress display.

    Raises
    ------
    InputError
        Another run holds the work directory and does not go.
    ToolError
        The child failed; the text is its own message, or the last line it printed when it broke
        off without one.
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
    """Write the config, unless it is there already: its time says when it changed."""
    text = yaml.safe_dump(json.loads(json.dumps(dict(child.values))), sort_keys=False)
    child.config.parent.mkdir(parents=True, exist_ok=True)
    if not child.config.exists() or child.config.read_text() != text:
        write_atomically(child.config, text)


def _why(child: ChildRun, error: ToolError) -> str:
    """Return why a child failed: what it says itself, or how it broke off."""
    if child.outcome.exists():
        said = json.loads(child.outcome.read_text())
        if said["cause"]:
            return str(SelfcalError(said["cause"], said["remedy"]))
    what = error.cause.splitlines()[0]
    return f"its run broke off: {what} ({tail(child.output, 1)})"


def wait_until_free(workdir: Path) -> None:
    """Wait until a child whose worker died a moment ago has let go of its work directory.

    Raises
    ------
    InputError
        It does not.
    """
    with hold_workdir(workdir, wait_s=LOCK_WAIT_S):
        return


# -- many of them ---------------------------------------------------------------------------------


def running_step(workdir: Path) -> str:
    """Return the step that a run is in; empty when it does not run."""
    try:
        words = (workdir / ".running").read_text().split()
    except FileNotFoundError:
        return ""
    return words[-1] if words else ""


class Board:
    """Progress over several children: how many are done, and at which step the others are.

    Parameters
    ----------
    progress : Progress
    workdirs : mapping of str to Path
        Work directory of each child, by the name that is shown.
    """

    def __init__(self, progress: Progress, workdirs: Mapping[str, Path]) -> None:
        self.progress = progress
        self.left = dict(workdirs)
        self.total = len(workdirs)
        self._shown, self._looked = "", 0.0

    def show(self) -> None:
        """Show which step each child is at, when that has changed."""
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
        """Show what came of a child."""
        self.left.pop(name, None)
        self.progress.note(f"    {name}: {status}; {text}", warning=status == "failed")


def run_side_by_side(
    function: Callable[..., Any],
    tasks: Sequence[Any],
    where: str,
    board: Board,
    on_done: Callable[[Outcome], None],
) -> None:
    """Call a function, which runs a child, with every task; one that fails leaves the others be.

    Parameters
    ----------
    function : callable
        ``(task, on_wait=None)``, importable by name on every worker.
    tasks : sequence
    where : str
        As in `selfcal.cluster.run_all`.
    board : Board
    on_done : callable
        Called here with each outcome as it comes.
    """
    # in line nothing else looks after the display
    run = partial(function, on_wait=board.show) if where == "inline" else function
    run_all(run, tasks, where, on_done, on_wait=board.show)
