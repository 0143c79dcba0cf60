"""The command run on the demonstration, for the tests of whole runs."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from selfcal.state import State
from tests.conftest import ROOT

COMMAND = (sys.executable, str(ROOT / "auto_selfcal.py"), str(ROOT / "config.py"))

NO_PLOTS = ("--set", "plots=False")
"""Arguments of a run whose figures no test looks at; the page and the comparison stay."""


@dataclass(frozen=True)
class Run:
    """A work directory and what the last start in it said."""

    workdir: Path
    seconds: float
    cpu_seconds: float
    code: int
    output: str

    @property
    def summary(self) -> dict[str, Any]:
        """Content of summary.json."""
        return dict(json.loads((self.workdir / "summary.json").read_text()))

    @property
    def ran(self) -> list[str]:
        """Steps on record, in the order in which they ran."""
        state = State(self.workdir)
        names = [line.split(",", 1)[0] for line in state.path.read_text().splitlines()[1:]]
        return [name for name in names if state.get(name) is not None]


def environment() -> dict[str, str]:
    """Return the environment of a run, without a display; kernels share their work, as a user's."""
    return {**os.environ, "MPLBACKEND": "Agg", "NUMBA_NUM_THREADS": "2"}


def run(workdir: Path, *arguments: str, timeout_s: float = 900.0) -> Run:
    """Run the shipped config in a work directory."""
    begin, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*COMMAND, "--workdir", str(workdir), *arguments],
        cwd=workdir.parent, env=environment(), capture_output=True, text=True, check=False,
        timeout=timeout_s,
    )  # fmt: skip
    seconds = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return Run(workdir, seconds, cpu, done.returncode, done.stdout + done.stderr)


def copy_of(run_: Run, folder: Path) -> Path:
    """Return a copy of a work directory; times of files stay, since records rest on them."""
    target = folder / run_.workdir.name
    shutil.copytree(run_.workdir, target, symlinks=True)
    return target


def kill_within(workdir: Path, step: str, after_s: float, timeout_s: float = 600.0) -> bool:
    """Start a run and kill -9 it so long after a step began; False when it ended before.

    What it started must die with it: it would go on writing to the working copy.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "killed.log").open("ab") as log:
        process = psutil.Popen(
            [*COMMAND, "--workdir", str(workdir)], cwd=workdir.parent, env=environment(),
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    give_up = time.monotonic() + timeout_s
    running = workdir / ".running"
    while process.poll() is None:
        if time.monotonic() > give_up:
            process.kill()
            raise TimeoutError(f"{step} did not begin within {timeout_s:.0f} s")
        with contextlib.suppress(FileNotFoundError):
            if running.read_text().split()[-1:] == [step]:
                time.sleep(after_s)
                break
        time.sleep(0.01)
    if process.poll() is not None:
        return False
    family = process.children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, f"outlived the run: {alive}"
    return True
