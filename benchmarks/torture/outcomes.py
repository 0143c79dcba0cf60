"""One attempt of the torture: started as a user does, and what came of it."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.running import ROOT

__all__ = ["Attempt", "Running", "attempt", "session_cpu_s"]

# a process that only asks again and again whether another has ended uses a per cent or less
_QUIET_S, _QUIET_SHARE = 60.0, 0.02


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
    cpu_s : float
        CPU time of the process and of those it waited for, s.
    """

    what: str
    code: int | None
    output: str
    cpu_s: float = field(default=0.0, compare=False)

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


class _Server:
    """The process that has everything loaded and forks for each command."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.torture.warm"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "MPLBACKEND": "Agg"},
        )  # fmt: skip
        atexit.register(self.close)

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give an order and return the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@functools.lru_cache(maxsize=1)
def _server() -> _Server:
    return _Server()


class Running:
    """A command that was started.

    Parameters
    ----------
    what : str
        What is done to it.
    words : sequence
        Command line after the program's name.
    cwd : Path
    harm : mapping, optional
        What the machine does to it, for `benchmarks.torture.machine.suffer`.
    """

    def __init__(
        self,
        what: str,
        words: Sequence[str | Path],
        cwd: Path,
        harm: Mapping[str, Any] | None = None,
    ) -> None:
        self.what = what
        handle, name = tempfile.mkstemp(prefix="torture_", suffix=".out")
        os.close(handle)
        self._output = Path(name)
        self._output.chmod(0o666)
        order = {
            "words": [str(word) for word in words], "cwd": str(cwd), "output": name, "harm": harm,
        }  # fmt: skip
        self.pid = int(_server().ask({"start": order})["pid"])

    def wait(self, limit_s: float) -> Attempt | None:
        """Wait for a time; return how it ended, or None if it goes on."""
        answer = _server().ask({"wait": self.pid, "limit_s": limit_s})
        if answer["code"] is None:
            return None
        return self._ended(answer["code"], answer["cpu_s"])

    def wait_or_kill(self, limit_s: float) -> Attempt:
        """Wait until it ends; kill it where it hangs.

        What works is not said to hang because other programs leave it little of the machine:
        after the limit it goes on while its session works, and has used less CPU time than that.
        """
        ended, before = self.wait(limit_s), session_cpu_s(self.pid)
        while ended is None and before < limit_s:
            ended, used = self.wait(_QUIET_S), session_cpu_s(self.pid)
            if ended is None and used - before < _QUIET_SHARE * _QUIET_S:
                break
            before = used
        return ended or self.kill()

    def kill(self) -> Attempt:
        """Kill it with all it started in its session; a hang, where nobody wanted it to end."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        answer = _server().ask({"wait": self.pid, "limit_s": 60.0})
        return self._ended(None, answer["cpu_s"])

    def _ended(self, code: int | None, cpu_s: float) -> Attempt:
        output = self._output.read_text(errors="replace")
        self._output.unlink()
        return Attempt(self.what, code, output, cpu_s)


def attempt(
    what: str,
    words: Sequence[str | Path],
    cwd: Path,
    *,
    limit_s: float = 300.0,
    harm: Mapping[str, Any] | None = None,
) -> Attempt:
    """Run the command with words; it is killed, with all it started, where it hangs."""
    running = Running(what, words, cwd, harm)
    return running.wait_or_kill(limit_s)


def session_cpu_s(session: int) -> float:
    """Return the CPU time of a session's processes and of those they waited for, in s.

    Read from ``/proc/PID/stat`` (proc(5)), whose times are in ticks.
    """
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the name of a program, which ends with the last bracket, may hold spaces
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
