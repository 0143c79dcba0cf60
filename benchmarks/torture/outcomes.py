"""One attempt of the torture: started as a user does, and what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.running import ROOT

__all__ = ["Attempt", "attempt"]


@dataclass(frozen=True)
class Attempt:
    """How a command ended.

    Attributes
    ----------
    what : str
        What was done to it.
    code : int
        Exit code; negative: the signal that ended it; of a hang None.
    output : str
    """

    what: str
    code: int | None
    output: str

    @property
    def fault(self) -> str:
        """Return the kind of fault; empty where it ended well or with a message."""
        if self.code is None:
            return "hang"
        if self.code < 0:
            return "crash"
        if "Traceback (most recent call last)" in self.output:
            return "traceback"
        lines = [line for line in self.output.splitlines() if line.strip()]
        if self.code and not lines:
            return "silent failure"
        if self.code and _is_bare(lines[-1]):
            return "bare error"
        return ""


def _is_bare(line: str) -> bool:
    """Whether the last line is an error of Python or casacore rather than a message."""
    names = ("ValueError", "IndexError", "KeyError", "TypeError", "RuntimeError", "AttributeError",
             "AssertionError", "UnicodeDecodeError", "ZeroDivisionError", "MemoryError",
             "OverflowError", "LookupError", "StopIteration")  # fmt: skip
    return any(name in line for name in names)


def attempt(
    what: str, words: Sequence[str | Path], cwd: Path, *, limit_s: float = 600.0
) -> Attempt:
    """Run the command with words; it is killed, with all it started, after a time."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "auto_selfcal.py"), *map(str, words)], cwd=cwd,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True, env={**os.environ, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Attempt(what, None, output)
    return Attempt(what, process.returncode, output)
