"""A run that is killed at random instants and started again ends as if it had never been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.running import ROOT
from benchmarks.torture.observation import digest, small_config
from benchmarks.torture.outcomes import Attempt, attempt

__all__ = ["Reference", "killed_run"]


class Reference:
    """A run that nobody killed: its result, and how long it took."""

    def __init__(self, ms: Path, folder: Path) -> None:
        self.ms, self.folder = ms, folder
        self.before = digest(ms)
        start = time.monotonic()
        found = _run(ms, folder / "reference")
        self.seconds = time.monotonic() - start
        if found.code:
            raise RuntimeError(f"the run without a kill failed: {found.output[-500:]}")
        self.result = _result(folder / "reference")


def _config(ms: Path, workdir: Path) -> Path:
    workdir.parent.mkdir(parents=True, exist_ok=True)
    path = workdir.with_suffix(".yaml")
    path.write_text(json.dumps(small_config(ms, workdir)))
    return path


def _run(ms: Path, workdir: Path) -> Attempt:
    return attempt("run", [_config(ms, workdir)], workdir.parent, limit_s=600.0)


def _result(workdir: Path) -> dict[str, Any]:
    """Return what a run came to, without times and paths."""
    summary = json.loads((workdir / "summary.json").read_text())
    kept = ("status", "initial", "final", "accepted", "rejected", "tables", "warnings")
    return {name: summary[name] for name in kept}


def killed_run(number: int, seed: int, reference: Reference) -> tuple[Attempt, str]:
    """Kill a run once or more, let it end, and compare; return how it ended and the difference."""
    rng = np.random.default_rng([seed, number])
    workdir = reference.folder / f"kill_{number}"
    shutil.rmtree(workdir, ignore_errors=True)
    config = _config(reference.ms, workdir)
    instants = []
    for _ in range(int(rng.integers(1, 4))):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "auto_selfcal.py"), str(config)], cwd=workdir.parent,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env={**os.environ, "MPLBACKEND": "Agg"},
        )  # fmt: skip
        instants.append(float(rng.uniform(0.0, 1.1 * reference.seconds)))
        try:
            process.wait(timeout=instants[-1])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    what = "killed after " + ", ".join(f"{instant:.2f} s" for instant in instants)
    found = _run(reference.ms, workdir)
    if found.code or found.fault:
        return Attempt(what, found.code, found.output), "failed"
    different = [
        name for name, value in _result(workdir).items() if value != reference.result[name]
    ]
    if not different:
        shutil.rmtree(workdir)
    return Attempt(what, 0, ""), ", ".join(different)
