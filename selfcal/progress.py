"""Progress display of a run: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from typing import TextIO

__all__ = ["Progress"]

log = logging.getLogger("selfcal")
REFRESH_S = 0.5
_ERASE = "\r\x1b[K"
_COLOURS = {"warning": "\x1b[33m", "strong": "\x1b[1m"}
_PLAIN = "\x1b[0m"


class Progress:
    """Display of the step, its current activity and the elapsed time.

    On a terminal every line is cut to its width, and a thread moves the clock while a step works
    without a word. Elsewhere lines are written whole, once.

    Parameters
    ----------
    quiet : bool
        True shows warnings and results only.
    verbose : bool
        True shows lines whole on a terminal too.
    stream : text stream, optional
        Output; default standard output.
    """

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, stream: TextIO | None = None
    ) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty()
        self.live = self.terminal and not quiet
        # https://no-color.org: any value but an empty one turns colours off
        self.coloured = self.terminal and not os.environ.get("NO_COLOR")
        self._label, self._activity = "", ""
        self._step_start = self._drawn = 0.0
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._clock: threading.Thread | None = None

    def begin(self, label: str) -> None:
        """Show that a step starts."""
        self.stop()
        with self._lock:
            self._label, self._activity, self._step_start = label, "", time.monotonic()
            self._draw()
        if self.live:
            self._stop = threading.Event()
            self._clock = threading.Thread(target=self._run_clock, args=(self._stop,), daemon=True)
            self._clock.start()

    def activity(self, text: str) -> None:
        """Show what the step is doing now."""
        log.info("%s: %s", self._label.strip(), text)
        with self._lock:
            self._activity = text
            if self.live:
                self._draw()
            elif not self.quiet:
                self._line(f"{self._label}  {text}")

    def detail(self, text: str) -> None:
        """Show the progress of the work on the live line only; the tool's log has it too."""
        with self._lock:
            self._activity = text
            self._draw()

    def tick(self) -> None:
        """Refresh the elapsed time; called often while a tool runs."""
        with self._lock:
            if self.live and time.monotonic() - self._drawn > REFRESH_S:
                self._draw()

    def end(self, text: str, *, warning: bool = False, warnings: Sequence[str] = ()) -> None:
        """Show that a step ended; its line stays, warnings follow on lines of their own."""
        log.log(logging.WARNING if warning else logging.INFO, "%s: %s", self._label.strip(), text)
        self.stop()
        with self._lock:
            self._clear()
            if not self.quiet or warning:
                elapsed = f"  ({time.monotonic() - self._step_start:.1f} s)"
                colour = "warning" if warning else ""
                self._line(f"{self._label}  {text}", colour=colour, ending=elapsed)
            for one in warnings:
                self._line(f"    WARNING: {one}", colour="warning", whole=True)

    def note(self, text: str, *, warning: bool = False) -> None:
        """Show a separate line."""
        log.log(logging.WARNING if warning else logging.INFO, text)
        with self._lock:
            self._clear()
            if not self.quiet or warning:
                self._line(text, colour="warning" if warning else "", whole=True)

    def result(self, text: str, *, warning: bool = False) -> None:
        """Show lines that are asked for even when the display is quiet."""
        with self._lock:
            self._clear()
            for line in text.splitlines() or [""]:
                self._line(line, colour="warning" if warning else "", whole=True)

    def stop(self) -> None:
        """Stop the clock and clear the live line, as when the run ends with an error."""
        self._stop.set()
        clock, self._clock = self._clock, None
        if clock is not None:
            clock.join(timeout=1.0)
        with self._lock:
            self._clear()

    def _run_clock(self, stop: threading.Event) -> None:
        """Draw the live line anew until the step ends."""
        while not stop.wait(REFRESH_S):
            with self._lock:
                if not stop.is_set():
                    self.tick()

    def _width(self) -> int:
        return shutil.get_terminal_size().columns

    def _line(self, text: str, *, colour: str = "", ending: str = "", whole: bool = False) -> None:
        """Write a line; on a terminal cut to its width unless it is to be whole."""
        if self.terminal and not (whole or self.verbose):
            text = _cut(text, self._width() - len(ending))
        text = self._writable(text + ending)
        if colour and self.coloured:
            text = f"{_COLOURS[colour]}{text}{_PLAIN}"
        self.stream.write(text + "\n")
        self.stream.flush()

    def _draw(self) -> None:
        if not self.live:
            return
        self._drawn = time.monotonic()
        clock = f"  {_clock_text(self._drawn - self._step_start)}"
        # a line that fills the last column would scroll on some terminals
        text = _cut(f"{self._label}  {self._activity}", self._width() - len(clock) - 1) + clock
        self.stream.write(_ERASE + self._writable(text))
        self.stream.flush()

    def _writable(self, text: str) -> str:
        """Return the text as far as the stream's encoding knows its signs."""
        encoding = self.stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            plain = text.translate(
                {ord("\u202f"): " ", ord("µ"): "u", ord("\u2212"): "-", ord("\u2026"): "."}
            )
            return plain.encode(encoding, "replace").decode(encoding)
        return text

    def _clear(self) -> None:
        if self.live:
            self.stream.write(_ERASE)
            self.stream.flush()


def _cut(text: str, width: int) -> str:
    """Return a text that fits a width, with an ellipsis where it was cut."""
    return text if len(text) <= width else text[: max(0, width - 1)].rstrip() + "\u2026"


def _clock_text(seconds: float) -> str:
    """Return an elapsed time: ``42 s``, ``3:07``, ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
