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
        """Keep a message; errors are failures, which have a place of their own."""
        text = record.getMessage().strip()
        if record.levelno == logging.WARNING and text not in self.heard:
            self.heard.append(text)


@contextmanager
def hear_warnings() -> Iterator[list[str]]:
    """Collect the program's own warnings within the block; yield the list that they go to."""
    collector = _Collector()
    loggers = [logging.getLogger(name) for name in _OWN]
    for logger in loggers:
        logger.addHandler(collector)
    try:
        yield collector.heard
    finally:
        for logger in loggers:
            logger.removeHandler(collector)
