"""The real command run from outside: how long it takes and how much memory it holds."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

__all__ = ["ROOT", "Finished", "run_command", "run_selfcal"]

ROOT = Path(__file__).resolve().parents[1]
_SAMPLE_S = 0.1


@dataclass(frozen=True)
class Finished:
    """A program that ended.

    Attributes
    ----------
    code : int
        Exit code.
    seconds, cpu_seconds : float
        Wall-clock time; CPU time of the program and of all it started, as far as they were
        waited for.
    peak_mb : float
        Largest resident memory of the program's own process, MB (1e6 bytes).
    children_mb : float
        The largest of any one process it started.
    log : Path
        Its output.
    """

    code: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    children_mb: float
    log: Path


def _high_water_mb(pid: int) -> float:
    """Return the kernel's own record of a process's largest resident memory, MB; 0 once gone."""
    try:
        with Path(f"/proc/{pid}/status").open() as stream:
            for line in stream:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return 0.0


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def run_command(
    argv: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    limit_s: float = math.inf,
) -> Finished:
    """Run a program, its output to ``log``, and watch its memory.

    After ``limit_s`` seconds it is ended, which shows as a negative code.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    before = os.times()
    start = time.monotonic()
    peak = children = 0.0
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
        try:
            while process.poll() is None and time.monotonic() - start < limit_s:
                peak = max(peak, _high_water_mb(process.pid))
                for child in _children(process.pid):
                    children = max(children, _high_water_mb(child))
                time.sleep(_SAMPLE_S)
        finally:
            if process.poll() is None:
                for child in _children(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGTERM)
                process.terminate()
                process.wait()
    seconds = time.monotonic() - start
    after = os.times()
    cpu = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return Finished(process.returncode, seconds, cpu, peak, children, log)


def run_selfcal(
    folder: Path, settings: Mapping[str, Any], *, name: str = "ours"
) -> tuple[Finished, dict[str, Any]]:
    """Run the command as a user does, with a config file, and return its summary.json.

    Parameters
    ----------
    folder : Path
        Where config, log and work directory (``folder/name``) go.
    settings : mapping
        What the config file says; all else is as shipped.

    Raises
    ------
    RuntimeError
        The run failed.
    """
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(dict(settings)))
    workdir = folder / name
    finished = run_command(
        [sys.executable, ROOT / "auto_selfcal.py", config, "--workdir", workdir, "--restart"],
        folder / f"{name}.log",
        cwd=ROOT,
    )
    if finished.code:
        last = finished.log.read_text(errors="replace").strip().splitlines()[-5:]
        raise RuntimeError(f"exit code {finished.code}: " + " | ".join(last))
    summary: dict[str, Any] = json.loads((workdir / "summary.json").read_text())
    return finished, summary
