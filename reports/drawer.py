"""A program that draws a run's report beside it, most figures while the imager works.

The run tells it over a pipe what to draw, in lines of JSON, and it answers in the same way. So
importing matplotlib and drawing the gains of every antenna cost the run no time and no memory.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from libs.core.errors import InputError, SelfcalError
from libs.core.process import die_with_parent

__all__ = ["Drawer", "LivePage", "main"]

ROOT = Path(__file__).resolve().parents[1]
LIVE_PART = 0.01  # of the run's time for its live page

logger = logging.getLogger(__name__)


class Drawer:
    """The run's side of the pipe. The program starts when there is something to draw.

    Parameters
    ----------
    workdir : Path
        Work directory of the run.
    """

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.process: subprocess.Popen[str] | None = None

    def round_done(self, step: str) -> None:
        """Have the figures of a round drawn."""
        self._tell({"round": step})

    def step_done(self) -> None:
        """Have the live page written anew, if that costs little of the run's time."""
        self._tell({"page": True})

    def rounds_over(self) -> None:
        """Have the figures drawn that will probably not change any more."""
        self._tell({"ahead": True})

    def prepare(self) -> None:
        """Start the program, so that it is ready when a round is done."""
        self._tell({})

    def write_report(self, progress: Callable[[str], None]) -> None:
        """Have the report written and wait for it; if the program fails, write it here."""
        try:
            if not self._tell({"report": True}) or not self._wait(progress):
                from reports.html import write_report

                write_report(self.workdir, progress)
            elif self.process is not None:
                self.process.kill()  # its work is done
        finally:
            self.close()

    def close(self) -> None:
        """End the program."""
        process, self.process = self.process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:  # it has ended already
                logger.debug("the drawing program has closed its pipe")
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[str]:
        folder = self.workdir / "logs"
        folder.mkdir(exist_ok=True)
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
        with (folder / "report.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "reports.drawer", str(self.workdir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
                preexec_fn=die_with_parent,
            )

    def _tell(self, message: dict[str, Any]) -> bool:
        """Send a line; False when the program cannot be started or has ended."""
        try:
            if self.process is None:
                self.process = self._start()
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError:
            logger.warning("figures are not drawn beside the run", exc_info=True)
            return False
        return True

    def _wait(self, progress: Callable[[str], None]) -> bool:
        """Read answers until the report is written; return False when the program ends before."""
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            answer = json.loads(line)
            if "drawing" in answer:
                progress(answer["drawing"])
            if "error" in answer:
                raise InputError(answer["error"], answer["remedy"])
            if "written" in answer:
                return True
        logger.warning("the drawing program ended early; see logs/report.log")
        return False


class LivePage:
    """Writer of the page of a run that goes on, at most for a hundredth of the time.

    Parameters
    ----------
    workdir : Path
    write : callable
        Function ``(workdir, drawn)`` that writes the page.
    """

    def __init__(self, workdir: Path, write: Callable[..., Path]) -> None:
        self._workdir, self._write = workdir, write
        self._ended, self._cost_s = 0.0, 0.0

    def step_done(self, drawn: Mapping[str, Sequence[Any]]) -> None:
        """Write the page, unless the last time was not long ago for what it cost."""
        begin, used = time.monotonic(), time.process_time()
        if begin - self._ended < self._cost_s / LIVE_PART:
            return
        page = self._write(self._workdir, drawn)
        # older than any step: a run that is killed has its report written at the next start
        os.utime(page, (0, 0))
        self._ended, self._cost_s = time.monotonic(), time.process_time() - used


def main(workdir: Path, orders: IO[str], answers: IO[str]) -> None:
    """Draw the figures that the lines of ``orders`` name, until the lines end."""
    # the run decides when this process ends, even when the user interrupts it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from reports.drawings import Drawing, draw_ahead, draw_round
    from reports.html import write_live_page, write_report
    from reports.records import read_run

    live = LivePage(workdir, write_live_page)

    def answer(**content: str) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    drawn: dict[str, list[Drawing]] = {}
    for line in orders:
        order = json.loads(line)
        try:
            if "round" in order:
                drawn |= draw_round(read_run(workdir), order["round"])
            if "ahead" in order:
                drawn |= draw_ahead(read_run(workdir))
            if "page" in order:
                live.step_done(drawn)
            if "report" in order:
                # nothing else runs any more; this program has no threads and may be forked
                cores = min(4, os.cpu_count() or 1)
                write_report(workdir, lambda text: answer(drawing=text), drawn, cores)
                answer(written="report.html")
        except SelfcalError as error:
            logger.warning("not drawn", exc_info=True)
            if "report" in order:
                answer(error=error.cause, remedy=error.remedy)


if __name__ == "__main__":
    # output of libraries goes to the log, not among the answers
    with os.fdopen(os.dup(1), "w") as pipe:
        os.dup2(2, 1)
        main(Path(sys.argv[1]), sys.stdin, pipe)
