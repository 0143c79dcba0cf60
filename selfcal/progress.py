"""Progress display of a run: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

__all__ = ["Progress"]

log = logging.getLogger("selfcal")
REFRESH_S = 0.5


class Progress:
    """Display of the step, its current activity and the elapsed time.

    Parameters
    ----------
    quiet : bool
        True shows warnings and results only.
    stream : text stream, optional
        Output; default standard output.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty() and not quiet
        self._label, self._activity = "", ""
        self._step_start = self._drawn = 0.0

    def begin(self, label: str) -> None:
        """Show that a step starts."""
        self._label, self._activity, self._step_start = label, "", time.monotonic()
        self._draw()

    def activity(self, text: str) -> None:
        """Show what the step is doing now."""
        log.info("%s: %s", self._label.strip(), text)
        self._activity = text
        if self.live:
            self._draw()
        elif not self.quiet:
            self._line(f"{self._label}  {text}")

    def detail(self, text: str) -> None:
        """Show the progress of the work on the live line only; the tool's log has it too."""
        self._activity = text
        if self.live:
            self._draw()

    def tick(self) -> None:
        """Refresh the elapsed time; called often while a tool runs."""
        if self.live and time.monotonic() - self._drawn > REFRESH_S:
            self._draw()

    def end(self, text: str, *, warning: bool = False) -> None:
        """Show that a step ended; its line stays."""
        log.log(logging.WARNING if warning else logging.INFO, "%s: %s", self._label.strip(), text)
        self._clear()
        if not self.quiet or warning:
            elapsed = time.monotonic() - self._step_start
            self._line(f"{self._label}  {text}  ({elapsed:.1f} s)")

    def note(self, text: str, *, warning: bool = False) -> None:
        """Show a separate line."""
        log.log(logging.WARNING if warning else logging.INFO, text)
        self._clear()
        if not self.quiet or warning:
            self._line(text)

    def _line(self, text: str) -> None:
        self.stream.write(self._writable(text) + "\n")
        self.stream.flush()

    def _draw(self) -> None:
        if not self.live:
            return
        self._drawn = time.monotonic()
        elapsed = self._drawn - self._step_start
        text = f"{self._label}  {self._activity}  {elapsed:.0f} s"
        self.stream.write("\r\x1b[K" + self._writable(text))
        self.stream.flush()

    def _writable(self, text: str) -> str:
        """Return the text as far as the stream's encoding knows its signs."""
        encoding = self.stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            plain = text.translate({ord("\u202f"): " ", ord("µ"): "u", ord("\u2212"): "-"})
            return plain.encode(encoding, "replace").decode(encoding)
        return text

    def _clear(self) -> None:
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
