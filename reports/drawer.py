"""A program that draws a run's report beside it, most figures while the imager works.

The run tells it over a pipe what to draw, in lines of JSON, and it answers in the same way. So
importing matplotlib and drawing the gains of every antenna cost the run no time and no memory. The
page comes first at the end of a run, whatever is left to draw: it needs no figure of matplotlib.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from libs.core.errors import InputError, SelfcalError
from libs.core.process import die_with_parent

if TYPE_CHECKING:
    from reports.drawings import Drawing

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
    plots : bool
        False: no figures but those that pages show.
    """

    def __init__(self, workdir: Path, plots: bool = True) -> None:
        self.workdir = workdir
        self.plots = plots
        self.process: subprocess.Popen[str] | None = None

    def round_done(self, step: str) -> None:
        """Have the figures of a round drawn."""
        if self.plots:
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
        """Have the page written and wait for it; if the program fails, write it here.

        `finish` waits for the figures that are not drawn by then.
        """
        try:
            if not self._tell({"report": True}) or not self._wait("page", progress):
                self._write_here(progress)
        except BaseException:
            self.close()
            raise

    def finish(self, progress: Callable[[str], None]) -> None:
        """Wait until every figure is drawn, and end the program."""
        try:
            if self.process is None:
                return
            if not self._wait("figures", progress):
                self._write_here(progress)
            else:
                self.process.kill()  # its work is done
        finally:
            self.close()

    def _write_here(self, progress: Callable[[str], None]) -> None:
        from reports.html import write_report

        self.close()
        write_report(self.workdir, progress, plots=self.plots)

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
                [
                    sys.executable,
                    "-m",
                    "reports.drawer",
                    str(self.workdir),
                    "plots" if self.plots else "page",
                ],
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

    def _wait(self, what: str, progress: Callable[[str], None]) -> bool:
        """Read answers until one says that it is written; False when the program ends before."""
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            answer = json.loads(line)
            if "drawing" in answer:
                progress(answer["drawing"])
            if "error" in answer:
                raise InputError(answer["error"], answer["remedy"])
            if answer.get("written") == what:
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


class _Orders:
    """Lines of JSON from a pipe, read without waiting where there is other work."""

    def __init__(self, stream: IO[str]) -> None:
        self._file = stream.fileno()
        self._rest = b""
        self.ended = False

    def take(self, *, wait: bool) -> list[dict[str, Any]]:
        """Return the orders that have arrived; with ``wait``, one at least unless they end."""
        found: list[dict[str, Any]] = []
        while not self.ended and not found:
            if not wait and not select.select([self._file], [], [], 0)[0]:
                break
            content = os.read(self._file, 65536)
            self.ended = not content
            *lines, self._rest = (self._rest + content).split(b"\n")
            found = [json.loads(line) for line in lines]
        return found


@dataclass
class _Work:
    """What is left to do, and what is done: the most urgent comes first, figures one at a time.

    Attributes
    ----------
    workdir : Path
    answer : callable
        Tells the run something, by keywords.
    live : LivePage
    plots : bool
        False: no figures but those that pages show.
    rounds : list of str
        Rounds whose figures are to be drawn.
    report, page, over : bool
        True where the report is asked for; the live page; and once the rounds are over.
    ahead : iterator or None
        Figures that are drawn in advance.
    drawn : dict
        Finished figures by token.
    """

    workdir: Path
    answer: Callable[..., None]
    live: LivePage
    plots: bool = True
    rounds: list[str] = field(default_factory=list)
    report: bool = False
    page: bool = False
    over: bool = False
    ahead: Iterator[dict[str, list[Drawing]]] | None = None
    drawn: dict[str, list[Drawing]] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """True where nothing is left to do."""
        return not (self.report or self.page or self.rounds or self.ahead)

    def add(self, order: Mapping[str, Any]) -> None:
        """Take an order."""
        from reports.drawings import draw_ahead
        from reports.records import read_run

        if "round" in order:
            self.rounds.append(order["round"])
        self.report |= "report" in order
        self.page |= "page" in order
        self.over |= "ahead" in order
        if ("page" in order or "ahead" in order) and not self.report:
            run = read_run(self.workdir)
            self.ahead = draw_ahead(run, self.drawn, over=self.over, plots=self.plots)

    def do_most_urgent(self) -> None:
        """Do one thing."""
        from reports.drawings import draw_round
        from reports.html import write_report
        from reports.records import read_run

        if self.report:
            self.report, self.page, self.rounds, self.ahead = False, False, [], None
            # nothing else runs any more; this program has no threads and may be forked
            write_report(
                self.workdir, lambda text: self.answer(drawing=text), self.drawn,
                min(4, os.cpu_count() or 1), lambda: self.answer(written="page"), self.plots,
            )  # fmt: skip
            self.answer(written="figures")
        elif self.page:
            self.page = False
            self.live.step_done(self.drawn)
        elif self.rounds:
            self._keep(draw_round(read_run(self.workdir), self.rounds.pop(0)))
        elif self.ahead is not None:
            found = next(self.ahead, None)
            if found is None:
                self.ahead = None
            else:
                self._keep(found)

    def _keep(self, found: Mapping[str, list[Drawing]]) -> None:
        """Remember figures in place of earlier ones, whose files they replaced."""
        names = {token.partition(" ")[0] for token in found}
        for token in [t for t in self.drawn if t.partition(" ")[0] in names]:
            del self.drawn[token]
        self.drawn |= found


def main(workdir: Path, orders: IO[str], answers: IO[str], *, plots: bool = True) -> None:
    """Draw what the lines of ``orders`` name, until the lines end."""
    # the run decides when this process ends, even when the user interrupts it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from reports.html import write_live_page

    def answer(**content: str) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    work = _Work(workdir, answer, LivePage(workdir, write_live_page), plots)
    heard = _Orders(orders)
    while not (heard.ended and work.idle):
        asked = False
        try:
            for order in heard.take(wait=work.idle):
                asked |= "report" in order
                work.add(order)
            if heard.ended:  # the run is gone
                return
            asked |= work.report
            work.do_most_urgent()
        except SelfcalError as error:
            logger.warning("not drawn", exc_info=True)
            if asked:
                answer(error=error.cause, remedy=error.remedy)


if __name__ == "__main__":
    # output of libraries goes to the log, not among the answers
    with os.fdopen(os.dup(1), "w") as pipe:
        os.dup2(2, 1)
        main(Path(sys.argv[1]), sys.stdin, pipe, plots=sys.argv[2:] != ["page"])
