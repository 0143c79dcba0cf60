"""Running external programs with their output in a log; a hang is told from slow work."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from libs.core.errors import ToolError

__all__ = ["POLL_S", "cpu_seconds", "die_with_parent", "kill_tree", "run_tool", "tail", "which"]

POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere no effect).

    Otherwise a tool that outlives a killed pipeline would go on writing to the working copy
    while the next run reads it.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def which(name: str) -> Path | None:
    """Return the path of a program, or None when it is not on the PATH."""
    found = shutil.which(name)
    return Path(found) if found else None


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log, for an error message."""
    if not log.exists():
        return "(no log)"
    with log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 16384))
        text = stream.read().decode(errors="replace")
    return "\n".join(text.strip().splitlines()[-lines:])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time used so far by a process and its children, seconds."""
    total = 0.0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def kill_tree(pid: int) -> None:
    """Kill a process and everything it started."""
    try:
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def run_tool(
    argv: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stall_s: float = 600.0,
    on_wait: Callable[[], None] | None = None,
) -> float:
    """Run a program to its end and append its output to ``log``.

    Parameters
    ----------
    argv : sequence of str or Path
        Program and arguments; no shell is involved.
    log : Path
        File that takes both output streams.
    cwd, env : optional
        Working directory; variables added to the environment.
    stall_s : float
        Longest time without output and without CPU time, s. After it the program is taken to
        hang and is killed.
    on_wait : callable, optional
        Function called at every poll, for a progress display.

    Returns
    -------
    float
        Wall-clock time, s.

    Raises
    ------
    ToolError
        The program is missing, exits with a code other than 0, dies or hangs.
    """
    name = Path(argv[0]).name
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as stream:
        stream.write(("\n$ " + " ".join(map(str, argv)) + "\n").encode())
        stream.flush()
        try:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise ToolError(
                f"{name} cannot be started ({error})", "install it or correct the PATH"
            ) from error
        try:
            _wait(process, name, log, stall_s, on_wait)
        except BaseException:
            kill_tree(process.pid)
            process.wait()
            raise
    if process.returncode:
        how = (
            f"was killed by signal {-process.returncode}"
            if process.returncode < 0
            else f"exited with code {process.returncode}"
        )
        raise ToolError(f"{name} {how}; its last lines:\n{tail(log)}", f"see {log}")
    return time.monotonic() - start


def _wait(
    process: subprocess.Popen[bytes],
    name: str,
    log: Path,
    stall_s: float,
    on_wait: Callable[[], None] | None,
) -> None:
    """Wait for the process; raise when it shows no sign of life for ``stall_s``."""
    life = (-1, -1.0)
    alive_at = checked_at = time.monotonic()
    check_every = min(2.0, stall_s / 4)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return
        if on_wait:
            on_wait()
        now = time.monotonic()
        if now - checked_at < check_every:
            continue
        checked_at = now
        sign = (log.stat().st_size, round(cpu_seconds(process.pid), 1))
        if sign != life:
            life, alive_at = sign, now
        elif now - alive_at > stall_s:
            raise ToolError(
                f"{name} hangs: no output and no CPU time for {stall_s:.0f} s",
                f"see {log}; raise tool_stall if it needs longer",
            )
