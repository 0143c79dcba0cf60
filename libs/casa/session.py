"""CASA tasks in a child process that imports CASA once; a crash is an error with the log's tail."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from libs.core.errors import ToolError
from libs.core.process import POLL_S, cpu_seconds, die_with_parent, kill_tree, tail

__all__ = ["CasaSession", "casa_versions", "demo_data"]

_ROOT = Path(__file__).resolve().parents[2]


def casa_versions() -> dict[str, str]:
    """Return the versions of the CASA packages that are installed."""
    found = {}
    for name in ("casatools", "casatasks", "casadata", "python-casacore"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def data_path() -> Path:
    """Return the folder of the data of the casadata package.

    Raises
    ------
    ToolError
        casadata is not installed.
    """
    spec = importlib.util.find_spec("casadata")
    if spec is None or spec.origin is None:
        raise ToolError("the package casadata is missing", "pip install casadata")
    return Path(spec.origin).parent / "__data__"


def demo_data(name: str) -> Path:
    """Return the path of a demonstration data file of the casadata package.

    Raises
    ------
    ToolError
        casadata is not installed or has no such file.
    """
    spec = importlib.util.find_spec("casadata")
    if spec is None or spec.origin is None:
        raise ToolError("the package casadata is missing", "pip install casadata")
    matches = sorted(Path(spec.origin).parent.glob(f"**/demo/**/{name}"))
    if not matches:
        raise ToolError(f"casadata has no demonstration file {name}", "update casadata")
    return matches[0]


def _last_severe(log: Path) -> str:
    """Return the words of the last error in a log of CASA."""
    lines = [line.split("\t") for line in log.read_text(errors="replace").splitlines()]
    errors = [words[-1].strip() for words in lines if len(words) > 3 and words[1] == "SEVERE"]
    errors = [words for words in errors if words and not words.endswith("message:")]
    return errors[-1] if errors else "it gave no reason, and its log holds no error"


def _words(error: str, log: Path) -> str:
    """Return what an error of a task says, without what is of use to its authors alone.

    A task may raise without a word, having told its log, or with a line of that log.
    """
    kind, _, said = error.partition(": ")
    if not said.strip():
        said = _last_severe(log)
    elif "\tSEVERE\t" in said:
        said = said.rpartition("\t")[2].strip()
    return said if kind == "RuntimeError" else f"{kind}: {said}"


class CasaSession:
    """A child process with CASA imported, which runs one task at a time.

    Parameters
    ----------
    log_dir : Path
        Folder of the logs; created when missing.
    stall_s : float
        Longest time without log output and without CPU time, s; after it a task is killed.
    on_wait : callable, optional
        Function called at every poll while a task runs, for a progress display.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        stall_s: float = 600.0,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self.log_dir = Path(log_dir).resolve()
        self.stall_s = stall_s
        self.on_wait = on_wait
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = -1
        self._answers = -1
        self._pending = b""

    def __enter__(self) -> CasaSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(
        self, task: str, *, log: Path | None = None, module: str = "casatasks", **kwargs: Any
    ) -> Any:
        """Run ``module.task(**kwargs)`` and return its result as plain JSON values.

        Parameters
        ----------
        task : str
            Name of the task, e.g. ``"gaincal"``.
        log : Path, optional
            File to which CASA logs this task; default ``LOG_DIR/casa.log``.
        module : str
            Module from which the task is imported.
        **kwargs
            Arguments of the task; paths become strings.

        Raises
        ------
        ToolError
            The task raised an error, or the process died or hung.
        """
        log = Path(log).resolve() if log else self.log_dir / "casa.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if self._process is None or self._process.poll() is not None:
            self._start()
        request = {
            "task": task,
            "module": module,
            "log": str(log),
            "kwargs": {key: _plain_argument(value) for key, value in kwargs.items()},
        }
        try:
            os.write(self._requests, (json.dumps(request) + "\n").encode())
            answer = json.loads(self._read_answer(task, log))
        except (BrokenPipeError, EOFError) as error:
            code = self._reap()
            raise ToolError(
                f"the CASA process died in {task} (code {code}); its last lines:\n{tail(log)}",
                f"see {log}",
            ) from error
        except BaseException:
            self.close()
            raise
        if "error" in answer:
            with log.open("a") as stream:
                stream.write(answer["traceback"])
            raise ToolError(f"CASA {task} failed: {_words(answer['error'], log)}", f"see {log}")
        return answer["result"]

    def close(self) -> None:
        """End the child process."""
        if self._process is None:
            return
        kill_tree(self._process.pid)
        self._reap()

    def _start(self) -> None:
        self._reap()
        self.log_dir.mkdir(parents=True, exist_ok=True)
        child_in, self._requests = os.pipe()
        self._answers, child_out = os.pipe()
        console = (self.log_dir / "casa_console.log").open("ab")
        # CASA writes files into its working directory; in the log folder they do no harm.
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "libs.casa.worker",
                str(child_in),
                str(child_out),
                str(self.log_dir / "casa.log"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            pass_fds=(child_in, child_out),
            cwd=self.log_dir,
            env={
                **os.environ,
                "PYTHONPATH": str(_ROOT),
                "MPLBACKEND": "Agg",
                # threads that spin while they wait make tclean five times slower on two cores
                "OMP_NUM_THREADS": "1",
            },
            preexec_fn=die_with_parent,
        )
        console.close()
        os.close(child_in)
        os.close(child_out)

    def _read_answer(self, task: str, log: Path) -> bytes:
        """Return one line from the child; raise EOFError on its death, ToolError on a hang."""
        assert self._process is not None
        life = (-1, -1.0)
        alive_at = checked_at = time.monotonic()
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._answers], [], [], POLL_S)
            if ready:
                data = os.read(self._answers, 65536)
                if not data:
                    raise EOFError
                self._pending += data
                continue
            if self.on_wait:
                self.on_wait()
            now = time.monotonic()
            if now - checked_at < min(2.0, self.stall_s / 4):
                continue
            checked_at = now
            size = log.stat().st_size if log.exists() else 0
            sign = (size, round(cpu_seconds(self._process.pid), 1))
            if sign != life:
                life, alive_at = sign, now
            elif now - alive_at > self.stall_s:
                raise ToolError(
                    f"CASA {task} hangs: no output and no CPU time for {self.stall_s:.0f} s",
                    f"see {log}; raise tool_stall if it needs longer",
                )
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    def _reap(self) -> int | None:
        """Forget the child process; return its exit code."""
        code = self._process.wait() if self._process else None
        for descriptor in (self._requests, self._answers):
            if descriptor >= 0:
                os.close(descriptor)
        self._process, self._requests, self._answers, self._pending = None, -1, -1, b""
        return code


def _plain_argument(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain_argument(item) for item in value]
    return value
