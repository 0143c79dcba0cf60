"""The log of a run: everything in run.log, the caller's own handlers and levels as they were."""

from __future__ import annotations

import json
import logging
import platform
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from selfcal import __version__

__all__ = ["log_to"]

_OWN = ("libs", "steps", "selfcal", "reports")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
log = logging.getLogger("selfcal")


class _Forward(logging.Handler):
    """Handler that gives the caller's handlers what they would see without a run's log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on where the caller's level lets it through."""
        root = logging.getLogger()
        if record.levelno >= root.level:
            root.callHandlers(record)


class _LogFile(logging.FileHandler):
    """Handler of a log file, whose failure (a full disk) is one line and no traceback."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say once that the log is not complete."""
        self._tell(sys.exception())

    def close(self) -> None:
        """Close the file, whose last lines may not fit."""
        try:
            super().close()
        except OSError as error:
            self._tell(error)

    def _tell(self, error: BaseException | None) -> None:
        if not self._told:
            self._told = True
            why = error.strerror if isinstance(error, OSError) else error
            print(f"selfcal: {self.baseFilename} is not complete ({why})", file=sys.stderr)


class _JsonLines(logging.Formatter):
    """Formatter that makes a line of JSON of each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger and message, and the traceback of an error."""
        values = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values)


@contextmanager
def log_to(path: Path, json_path: Path | None = None) -> Iterator[None]:
    """Log the program's own words within the block to a file, warnings of libraries included.

    The handlers and levels of a program that calls this one stay as they are, and its handlers
    are given no more than they would be.

    Parameters
    ----------
    path : Path
        File that lines are added to.
    json_path : Path, optional
        File that receives the same as lines of JSON.
    """
    handlers: list[logging.Handler] = [_LogFile(path, encoding="utf-8")]
    handlers[0].setFormatter(logging.Formatter(_FORMAT))
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(json_path, encoding="utf-8"))
        handlers[1].setFormatter(_JsonLines())
    root = logging.getLogger()
    own = [logging.getLogger(name) for name in _OWN]
    before = [(logger, logger.level, logger.propagate) for logger in own]
    forward = _Forward()
    shows_warnings = warnings.showwarning
    for handler in handlers:
        root.addHandler(handler)
    for logger in own:
        for handler in (*handlers, forward):
            logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    # what is forwarded to the root reaches the files already
    for handler in handlers:
        handler.addFilter(_Once())
    warnings.showwarning = _showing(handlers)
    try:
        log.info("selfcal %s on %s: %s", __version__, platform.node(), shlex.join(sys.argv))
        yield
    finally:
        warnings.showwarning = shows_warnings
        for logger, level, propagate in before:
            for handler in (*handlers, forward):
                logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def _showing(handlers: Sequence[logging.Handler]) -> Callable[..., None]:
    """Return a function that writes warnings of libraries to handlers, not to the terminal."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = warnings.formatwarning(message, category, filename, lineno, line).strip()
        record = logging.LogRecord(
            "py.warnings", logging.WARNING, filename, lineno, text, None, None
        )
        for handler in handlers:
            handler.handle(record)

    return show


class _Once(logging.Filter):
    """Filter that lets each record through once."""

    def __init__(self) -> None:
        super().__init__()
        self._last: logging.LogRecord | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for the record that came last."""
        new = record is not self._last
        self._last = record
        return new
