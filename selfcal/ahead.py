"""Work for a later step, done in another process while the run waits for the imager."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from libs.core.process import die_with_parent

__all__ = ["Ahead", "main"]

ROOT = Path(__file__).resolve().parents[1]
NICE = 3  # so that the imager has priority

log = logging.getLogger(__name__)


class Ahead:
    """Results computed before their step, each valid only for the inputs it was computed from.

    The step states its inputs again. If they differ by then, or the work failed, there is no
    result, and the step does the work itself. So a run with work ahead ends with the same result
    as one without it.

    Another program does the work. A thread would not do: this process forks for every tool, and a
    fork could inherit a library's lock that a computing thread holds and never releases.

    Parameters
    ----------
    log_dir : Path
        Folder of that program's log.
    """

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self._works: dict[str, tuple[Hashable, subprocess.Popen[bytes]]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._works

    def begin(self, name: str, key: Hashable, function: Callable[..., Any], *args: Any) -> None:
        """Begin work; if it cannot be begun, the step will do it.

        Parameters
        ----------
        name : str
            Name of the work; unfinished work of this name is discarded.
        key : hashable
            Everything on which the result depends.
        function : callable
            Function of a module, found again by its name. It must not touch tables or the work
            directory, because steps use them meanwhile.
        *args
            Arguments; they and the result are pickled.
        """
        self._give_up(name)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
        try:
            with (self.log_dir / "ahead.log").open("ab") as stream:
                process = subprocess.Popen(
                    [sys.executable, "-m", "selfcal.ahead"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    env={**os.environ, "PYTHONPATH": path},
                    preexec_fn=die_with_parent,
                )
            self._works[name] = key, process
            assert process.stdin is not None
            with process.stdin:
                pickle.dump((function, args), process.stdin)
        except OSError:
            log.info("%s is not started early", name, exc_info=True)
            self._give_up(name)

    def take(self, name: str, key: Hashable) -> Any | None:
        """Return the result of work with this name and key, waiting for it; None without one."""
        if name not in self._works or self._works[name][0] != key:
            self._give_up(name)
            return None
        _, process = self._works.pop(name)
        assert process.stdout is not None
        with process.stdout:
            answer = process.stdout.read()
        if process.wait():
            log.info("%s: its early start failed; see logs/ahead.log", name)
            return None
        return pickle.loads(answer)

    def close(self) -> None:
        """Discard all results that were not taken."""
        for name in list(self._works):
            self._give_up(name)

    def _give_up(self, name: str) -> None:
        if name not in self._works:
            return
        log.info("%s: its early result is not used", name)
        _, process = self._works.pop(name)
        process.kill()
        process.wait()
        assert process.stdin is not None and process.stdout is not None
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # its input
            process.stdin.close()


def main() -> None:
    """Do the work pickled on standard input, and write its result to standard output."""
    # output of libraries goes to the log, not into the answer
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        os.nice(NICE)
        content = sys.stdin.buffer.read()  # at once, because the run waits until it is read
        function, args = pickle.loads(content)
        pickle.dump(function(*args), answer)


if __name__ == "__main__":
    main()
