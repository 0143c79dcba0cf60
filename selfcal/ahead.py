"""Work that a later step will need, begun while the imager has the run wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["Ahead"]

log = logging.getLogger(__name__)


class _Work:
    """One function in a thread of its own, its result or its failure."""

    def __init__(self, key: Hashable, function: Callable[[], Any]) -> None:
        self.key = key
        self.function = function
        self.result: Any = None
        self.failure: Exception | None = None
        # a daemon: a run that fails or is interrupted does not wait for it
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.result = self.function()
        except Exception as error:  # noqa: BLE001 - the step does it again, and raises
            self.failure = error


class Ahead:
    """Results worked out before their step, each good only for what it was worked out from.

    The step says again from what: where that differs by then, or the work failed, there is no
    result, and the step works as if nothing had been begun. So a run with work ahead ends with
    what a run without it would have.
    """

    def __init__(self) -> None:
        self._works: dict[str, _Work] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._works

    def begin(self, name: str, key: Hashable, function: Callable[[], Any]) -> None:
        """Begin work in the background.

        Parameters
        ----------
        name : str
            Of the work; one that was begun before is forgotten.
        key : hashable
            Everything that the result depends on.
        function : callable
            Must touch nothing that the steps use meanwhile: neither tables nor `Context`.
        """
        self._works[name] = _Work(key, function)

    def take(self, name: str, key: Hashable) -> Any | None:
        """Return the result of work with this name and key, waiting for it; None without one."""
        work = self._works.pop(name, None)
        if work is None:
            return None
        if work.key != key:
            log.info("%s: what was begun ahead is of other data; done again", name)
            return None
        work.thread.join()
        if work.failure is not None:
            log.info("%s: what was begun ahead failed (%s); done again", name, work.failure)
            return None
        return work.result
