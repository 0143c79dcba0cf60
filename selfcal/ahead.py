"""Work that a later step will need, done beside the run while the imager has it wait."""

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
NICE = 3  # the imager comes first

log = logging.getLogger(__name__)


class Ahead:
    """Results worked out before their step, each good only for what it was worked out from.

    The step says again from what: where that differs by then, or the work failed, there is no
    result, and the step works as if nothing had been begun. So a run with work ahead ends with
    what a run without it would have.

    The work is done by another program: a thread that computes while this process forks, as it
    does for every tool, may hold a library's lock for ever.

    Parameters
    ----------
    log_dir : Path
        Where that program logs.
    """

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self._works: dict[str, tuple[Hashable, subprocess.Popen[bytes]]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._works

    def begin(self, name: str, key: Hashable, function: Callable[..., Any], *args: Any) -> None:
        """Begin work; where it cannot be begun, the step will do it.

        Parameters
        ----------
        name : str
            Of the work; one that was begun before is given up.
        key : hashable
            Everything that the result depends on.
        function : callable
            Of a module, so that its name tells where it is. It must leave tables and the work
            directory alone, as steps use them meanwhile.
        *args
            Passed on; they and the result are pickled.
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
            log.info("%s is not begun ahead", name, exc_info=True)
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
            log.info("%s: what was begun ahead failed; see logs/ahead.log", name)
            return None
        return pickle.loads(answer)

    def close(self) -> None:
        """Give up whatever was not taken."""
        for name in list(self._works):
            self._give_up(name)

    def _give_up(self, name: str) -> None:
        if name not in self._works:
            return
        log.info("%s: what was begun ahead is not used", name)
        _, process = self._works.pop(name)
        process.kill()
        process.wait()
        assert process.stdin is not None and process.stdout is not None
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # of what it was to read
            process.stdin.close()


def main() -> None:
    """Do the work that comes pickled on the standard input; its result goes to the output."""
    # what libraries print goes to the log, not into the answer
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        os.nice(NICE)
        content = sys.stdin.buffer.read()  # at once: the run waits until all of it is taken
        function, args = pickle.loads(content)
        pickle.dump(function(*args), answer)


if __name__ == "__main__":
    main()
