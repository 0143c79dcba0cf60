"""How the torture tells a command that hangs from one that works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.torture import outcomes
from benchmarks.torture.outcomes import Attempt, Running, session_cpu_s


@contextmanager
def started(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program of Python in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program], start_new_session=True, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_cpu_time_of_a_session_is_that_of_all_its_processes() -> None:
    """A child that ended counts as well as what goes on, and other sessions do not."""
    work = "import time\nwhile time.process_time() < 0.3: pass\n"
    parent = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-S", "-c", {work!r}])
{work}
print("begun", flush=True)
time.sleep(60)
"""
    with started(parent) as process:
        assert 0.55 < session_cpu_s(process.pid) < 2.0
        assert session_cpu_s(os.getsid(process.pid)) >= 0.55
    assert session_cpu_s(process.pid) == 0.0


class _Slow(Running):
    """A command of which what it has used at each look is given."""

    def __init__(self, ends_at_look: int) -> None:
        self.pid, self.looks, self.ends = 1, 0, ends_at_look

    def wait(self, limit_s: float) -> Attempt | None:
        self.looks += 1
        return Attempt("", 0, "") if self.looks == self.ends else None

    def kill(self) -> Attempt:
        return Attempt("", None, "")


@pytest.mark.parametrize(
    ("used_s", "ends", "hangs"),
    [
        ([30.0, 60.0, 90.0, 120.0], 4, False),  # a machine with much to do
        ([30.0, 60.0, 60.3], 5, True),  # waits for what does not come
        ([299.0, 350.0], 5, True),  # works without an end
    ],
)
def test_what_works_does_not_hang(
    monkeypatch: pytest.MonkeyPatch, used_s: list[float], ends: int, hangs: bool
) -> None:
    looks = iter(used_s)
    monkeypatch.setattr(outcomes, "session_cpu_s", lambda pid: next(looks))
    found = _Slow(ends).wait_or_kill(300.0)
    assert (found.fault == "hang") is hangs
