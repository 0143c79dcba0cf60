"""Workers of a field's benchmark: where they run, what they are at, one of them killed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from selfcal.child_runs import running_step

__all__ = ["Watch", "place", "run_watched"]

_TICK_S = 0.2


@contextmanager
def place(cluster: str) -> Iterator[str]:
    """Give the address of a Dask scheduler with N workers of its own for ``dask:N``.

    Anything else is given back as it is: the field's command starts what it needs. A dead
    worker is replaced by its nanny, as a batch system's would be.
    """
    kind, _, count = cluster.partition(":")
    if kind != "dask":
        yield cluster
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=int(count), threads_per_worker=1, processes=True, dashboard_address=None,
        scheduler_port=0, memory_limit=0,
    ) as workers:  # fmt: skip
        yield workers.scheduler_address


@dataclass
class Watch:
    """What was seen of a run.

    Attributes
    ----------
    workers : dict of str to list of int
        By source, the processes that ran it, one after the other.
    killed : dict
        ``worker``, its ``source`` and the ``step`` it was at; empty when none was killed.
    """

    workers: dict[str, list[int]] = field(default_factory=dict)
    killed: dict[str, Any] = field(default_factory=dict)

    @property
    def retried(self) -> bool:
        """Whether the killed worker's source was run again by another one."""
        source = self.killed.get("source")
        return source is not None and len(self.workers[source]) > 1

    def look(self, work: Path) -> list[tuple[str, psutil.Process]]:
        """Note and return the sources that run now, each with its worker."""
        found = []
        for child in psutil.Process().children(recursive=True):
            try:
                line, worker = child.cmdline(), child.parent()
            except psutil.NoSuchProcess:
                continue
            config = Path(line[-1]) if line else Path()
            if worker is None or config.name != "source.yaml" or not config.is_relative_to(work):
                continue
            # NAME, at its second look NAME/again
            name = str(config.parent.relative_to(work / "sources"))
            seen = self.workers.setdefault(name, [])
            if worker.pid not in seen:
                seen.append(worker.pid)
            found.append((name, worker))
        return found

    def kill_one(self, work: Path, running: Sequence[tuple[str, psutil.Process]]) -> None:
        """Kill (SIGKILL) the worker of a source that is well within its own run."""
        for name, worker in running:
            step = running_step(work / "sources" / name / "run")
            if step in ("", "startup"):
                continue
            self.killed = {"worker": worker.pid, "source": name, "step": step}
            worker.kill()
            return


def run_watched(argv: Sequence[str | Path], work: Path, *, kill: bool) -> tuple[int, Watch]:
    """Run the field's command; return its exit code and what was seen of its workers.

    Parameters
    ----------
    argv : sequence
    work : Path
        The field's work directory.
    kill : bool
        Whether one worker is killed while a source runs.
    """
    watch = Watch()
    with subprocess.Popen([str(word) for word in argv]) as process:
        while process.poll() is None:
            running = watch.look(work)
            if kill and not watch.killed:
                watch.kill_one(work, [(n, w) for n, w in running if w.pid != process.pid])
            time.sleep(_TICK_S)
    return process.returncode, watch
