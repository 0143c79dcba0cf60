"""A run that is killed at random instants and started again ends as if it had never been."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture.observation import digest
from benchmarks.torture.outcomes import Attempt, Running, attempt
from benchmarks.torture.victims import Victim

__all__ = ["Reference", "killed_run"]


class Reference:
    """A run that nobody killed: its result, and how long it took.

    Raises
    ------
    RuntimeError
        It fails.
    """

    def __init__(self, victim: Victim, folder: Path, harm: Mapping[str, Any] | None = None) -> None:
        self.victim, self.folder = victim, folder
        self.before = [digest(path) for path in victim.inputs]
        victim.prepare(folder / "reference")
        start = time.monotonic()
        found = _run(victim, folder / "reference", harm)
        self.seconds = time.monotonic() - start
        if found.code:
            raise RuntimeError(f"the run without a kill failed: {found.output[-500:]}")
        self.result = victim.result(folder / "reference")

    @property
    def changed(self) -> bool:
        """Whether an input is not what it was."""
        return [digest(path) for path in self.victim.inputs] != self.before


def _run(victim: Victim, workdir: Path, harm: Mapping[str, Any] | None = None) -> Attempt:
    return attempt("run", victim.words(workdir), workdir.parent, harm=harm)


def killed_run(number: int, seed: int, reference: Reference) -> tuple[Attempt, str]:
    """Kill a run once or more, let it end, and compare; return how it ended and the difference."""
    rng = np.random.default_rng([seed, number])
    workdir = reference.folder / f"kill_{number}"
    shutil.rmtree(workdir, ignore_errors=True)
    victim = reference.victim
    victim.prepare(workdir)
    words = victim.words(workdir)
    instants = []
    # three in four without the report, which takes as long as the run
    harm = {"no_report": np.random.default_rng([seed, number, 1]).random() < 0.75}
    for _ in range(int(rng.integers(1, 4))):
        instants.append(float(rng.uniform(0.0, 1.1 * reference.seconds)))
        running = Running(victim.name, words, workdir.parent, harm)
        if running.wait(instants[-1]) is None:
            running.kill()
    what = f"{victim.name} killed after " + ", ".join(f"{instant:.2f} s" for instant in instants)
    found = _run(victim, workdir, harm)
    if found.code or found.fault:
        return Attempt(what, found.code, found.output), "failed"
    different = [
        name for name, value in victim.result(workdir).items() if value != reference.result[name]
    ]
    if not different:
        shutil.rmtree(workdir)
    return Attempt(what, 0, ""), ", ".join(different)
