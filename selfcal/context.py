"""Objects that the steps of a run share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from selfcal.ahead import Ahead

if TYPE_CHECKING:  # keeps the progress display out of a step's digest
    from selfcal.origin import Origin
    from selfcal.progress import Progress
    from selfcal.settings import Settings
    from selfcal.step import StepResult, TableRef

__all__ = ["Clock", "Context"]

Tools = TypeVar("Tools")


@dataclass
class Clock:
    """Seconds spent within a step, by kind of work."""

    seconds: dict[str, float] = field(default_factory=lambda: {"imaging": 0.0, "solving": 0.0})

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Add the time of the block to ``what``."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.monotonic() - start

    def reset(self) -> None:
        """Set all times to zero, for the next step."""
        self.seconds = {"imaging": 0.0, "solving": 0.0}


@dataclass
class Context(Generic[Tools]):
    """Settings, work directory, previous results and tools that steps share.

    Attributes
    ----------
    settings : Settings
    workdir : Path
        Work directory, absolute.
    tools : Tools
        Adapters of the external tools, made by the command; the engine does not use them itself.
    progress : Progress
    results : dict of str to StepResult
        Results of the steps before this one, in order.
    options : mapping
        Options of the step that runs.
    origin : mapping
        Origin of each option: a default, a template or the user.
    ahead : Ahead
        Work of later steps that has already begun.
    """

    settings: Settings
    workdir: Path
    tools: Tools
    progress: Progress
    results: dict[str, StepResult] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Origin] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    ahead: Ahead = field(init=False)

    def __post_init__(self) -> None:
        self.ahead = Ahead(self.workdir / "logs")

    @property
    def tables(self) -> tuple[TableRef, ...]:
        """Return the calibration tables in force, in order of application."""
        return next(reversed(self.results.values())).tables if self.results else ()

    @property
    def template(self) -> str:
        """Return the template in force; empty before one was chosen."""
        return next(reversed(self.results.values())).template if self.results else ""

    def metric(self, name: str, default: Any = None) -> Any:
        """Return the latest value of a metric among the results of steps not rejected."""
        for result in reversed(self.results.values()):
            if result.status == "done" and name in result.metrics:
                return result.metrics[name]
        return default

    def product(self, name: str) -> Path | None:
        """Return the latest file of that name among the products of steps not rejected."""
        for result in reversed(self.results.values()):
            if result.status == "done" and name in result.products:
                return self.workdir / result.products[name]
        return None

    def relative(self, path: Path) -> str:
        """Return a path relative to the work directory, as records hold it."""
        return str(path.relative_to(self.workdir))
