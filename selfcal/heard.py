"""Warnings that are logged while a step runs, for its record."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["hear_warnings"]

_OWN = ("libs", "steps", "selfcal")


class _Collector(logging.Handler):
    """Handler that keeps the messages of the program's own warnings, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message; those of libraries are in run.log only."""
        if record.levelno == logging.WARNING and record.name.partition(".")[0] in _OWN:
            text = record.getMessage().strip()
            if text not in self.heard:
                self.heard.append(text)


@contextmanager
def hear_warnings() -> Iterator[list[str]]:
    """Collect the program's own warnings within the block; yield the list that they go to."""
    collector = _Collector()
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        yield collector.heard
    finally:
        root.removeHandler(collector)
