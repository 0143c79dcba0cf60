"""A process that has the program's modules loaded and forks for each command it is given.

Loading takes longer than most of the commands that are tried, and a fork has all a process of its
own has: a session, a directory, an exit code, a death by a signal, output in a file.

It reads orders as lines of JSON and answers each with a line: ``{"start": ORDER}`` with
``{"pid": N}``, ``{"wait": N, "limit_s": S}`` with ``{"code": C, "cpu_s": U}``, where the code of
a process that goes on is None.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import sys
import time
from pathlib import Path
from typing import Any

import auto_selfcal
from benchmarks.running import ROOT
from benchmarks.torture import machine

__all__ = ["serve"]

_POLL_S = 0.005
# CASA belongs into processes of its own; the rest would begin to compile
_LEFT_OUT = ("libs.casa.worker", "libs.warm_up")


def _load() -> None:
    """Import what the command may come to import."""
    for room in ("libs", "selfcal", "steps", "reports"):
        package = importlib.import_module(room)
        for found in pkgutil.walk_packages(package.__path__, f"{room}."):
            if found.name not in _LEFT_OUT:
                importlib.import_module(found.name)


def _wait(pid: int, limit_s: float) -> dict[str, Any]:
    """Wait for a process for a time."""
    until = time.monotonic() + limit_s
    while True:
        ended, status, used = os.wait4(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return {"code": code, "cpu_s": used.ru_utime + used.ru_stime}
        if time.monotonic() >= until:
            return {"code": None, "cpu_s": 0.0}
        time.sleep(_POLL_S)


def _become(order: dict[str, Any]) -> None:
    """Turn a fork into the process that was ordered."""
    os.setsid()
    os.chdir(order["cwd"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number, stream in enumerate((nothing, output, output)):
        os.dup2(stream, number)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = [str(ROOT / "auto_selfcal.py"), *order["words"]]
    machine.suffer(order.get("harm") or {})


def serve() -> bool:
    """Answer orders until there are no more; return True in the forks, which then run."""
    _load()
    while True:
        line = sys.stdin.readline()
        if not line:
            return False
        order = json.loads(line)
        if "start" in order:
            pid = os.fork()
            if not pid:
                _become(order["start"])
                return True
            answer: dict[str, Any] = {"pid": pid}
        else:
            answer = _wait(order["wait"], order["limit_s"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    # the program is at home where it is, wherever a fork goes
    sys.path[:] = [str(Path(entry).resolve()) for entry in sys.path]
    if serve():
        auto_selfcal.program()
