"""What workers of other processes do for a source in tests: a fake run, after a first death."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from typing import Any

from libs.simulation.observation import Simulation
from steps.field import field_source
from steps.field.field_source import SourceTask
from tests.steps.fake_source_run import FakeRun

VICTIM = "cal2"


def hand_over(made: Simulation, folder: Path, *, deadly: bool) -> None:
    """Leave the field for the workers; a deadly one kills the first worker of VICTIM."""
    (folder / "made.pickle").write_bytes(pickle.dumps(made))
    if deadly:
        (folder / "deadly").touch()


def workers(folder: Path, name: str) -> list[int]:
    """The processes that ran a source, one after the other."""
    path = folder / "work" / "sources" / name / "workers"
    return [int(line) for line in path.read_text().split()]


def calibrate(task: SourceTask, on_wait: Any = None) -> dict[str, Any]:
    """As `steps.field.field_source.calibrate_source`, with a fake run amid which a worker dies."""
    folder = Path(task.folder).parents[2]
    solve = FakeRun(pickle.loads((folder / "made.pickle").read_bytes()))

    def run(task: SourceTask, data: list[Path], on_wait: Any = None) -> None:
        with (Path(task.folder) / "workers").open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        deadly = folder / "deadly"
        if task.name == VICTIM and deadly.exists():
            deadly.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        solve(task, data)

    field_source._run = run
    return field_source.calibrate_source(task)
