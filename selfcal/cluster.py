"""Execution of independent pieces of work: in line, in local processes, or by a Dask scheduler.

A piece is a call of one function, importable by name, with one item. Pieces are independent and
write their results to disk, so a piece whose worker died is simply called again.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError, SelfcalError
from selfcal.yaml_files import read_value_mapping

__all__ = ["Outcome", "check_where", "run_all", "shared_threads"]

log = logging.getLogger(__name__)

MAX_DEATHS = 3
"""A piece is given up after this many deaths of its worker."""

_ROOT = str(Path(__file__).resolve().parent.parent)
_TICK_S = 0.5
# names of dask-jobqueue's clusters by the first part of the YAML file's name or by its `kind`
_JOB_QUEUES = {
    "slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster", "oar": "OARCluster", "moab": "MoabCluster",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Result of one piece.

    Attributes
    ----------
    index : int
        Index of its item.
    item : object
        Item with which the function was called.
    value : object
        Return value of the function; None when it failed.
    error : str
        Reason of the failure, one line; empty when it succeeded.
    details : str
        Traceback, for the log.
    attempts : int
        Number of attempts: 1, and one more for every worker that died.
    """

    index: int
    item: Any
    value: Any = None
    error: str = ""
    details: str = ""
    attempts: int = 1

    @property
    def ok(self) -> bool:
        """True when the function returned."""
        return not self.error


OnDone = Callable[[Outcome], None]


def check_where(where: str) -> None:
    """Check, before anything runs, that a place to run is known and its packages are installed.

    Raises
    ------
    ConfigError
        It is none of ``inline``, ``local:N``, ``tcp://host:port`` (or ``tls://``, ``ucx://``)
        and a YAML file; Dask is missing; or the file does not exist or names no batch system.
    """
    if where == "inline":
        return
    if where.startswith("local:"):
        _workers(where)
    elif _is_address(where):
        _dask("distributed")
    elif where.endswith((".yaml", ".yml")):
        _queue_settings(Path(where))
        _dask("distributed")
        _dask("dask_jobqueue")
    else:
        raise ConfigError(
            f"unknown cluster '{where}'",
            "write inline, local:N, tcp://host:port or the name of a .yaml file",
        )


def shared_threads(where: str) -> int:
    """Return the threads that each piece may use; 0: all, because no other runs on this machine."""
    if not where.startswith("local:") or _workers(where) < 2:
        return 0
    return max(1, (os.cpu_count() or 1) // _workers(where))


def run_all(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    where: str = "inline",
    on_done: OnDone | None = None,
    *,
    on_wait: Callable[[], None] | None = None,
) -> list[Outcome]:
    """Call a function with every item; a failure does not keep the others from running.

    Parameters
    ----------
    function : callable
        Function importable by name on every worker; it may be called again for the same item.
    items : sequence
        Items; they and the results must be picklable, except in line.
    where : str
        Place: ``inline`` runs one after the other in this process. ``local:N`` uses N processes of
        this machine. ``tcp://host:port`` uses a running Dask scheduler, whose workers see the same
        files and have one thread each. ``NAME.yaml`` uses a batch system through dask-jobqueue;
        keys are ``kind`` (slurm, pbs, ...; default: the start of the file's name), ``jobs`` (their
        number) and the arguments of that cluster (cores, memory, queue, walltime ...).
    on_done : callable, optional
        Function called in this process with each `Outcome` as it arrives.
    on_wait : callable, optional
        Function called about twice a second while waiting.

    Returns
    -------
    list of Outcome
        Outcomes in the order of the items.

    Raises
    ------
    ConfigError
        The errors are those of `check_where`, or the scheduler does not answer.
    """
    check_where(where)
    done: list[Outcome | None] = [None] * len(items)
    for outcome in _outcomes(function, items, where, on_wait or (lambda: None)):
        done[outcome.index] = outcome
        if outcome.details:
            log.error("piece %d failed: %s\n%s", outcome.index, outcome.error, outcome.details)
        if on_done:
            on_done(outcome)
    return [outcome for outcome in done if outcome is not None]


def _outcomes(
    function: Callable[[Any], Any], items: Sequence[Any], where: str, on_wait: Callable[[], None]
) -> Iterator[Outcome]:
    if not items:
        return
    if where == "inline":
        for index, item in enumerate(items):
            yield _outcome(index, item, _call(function, item))
    elif where.startswith("local:"):
        yield from _run_local(function, items, min(_workers(where), len(items)), on_wait)
    else:
        with _client(where, len(items)) as client:
            yield from _run_dask(client, function, items, on_wait)


def _call(function: Callable[[Any], Any], item: Any) -> tuple[Any, str, str]:
    """Return (value, error, traceback)."""
    try:
        return function(item), "", ""
    except Exception as error:  # noqa: BLE001 - it is reported, and the other pieces go on
        text = " ".join(str(error).split())
        name = type(error).__name__
        own = isinstance(error, SelfcalError) and text
        return None, text if own else f"{name}: {text}", traceback.format_exc()


def _outcome(index: int, item: Any, found: tuple[Any, str, str], attempts: int = 1) -> Outcome:
    return Outcome(index, item, *found, attempts=attempts)


# -- local processes ------------------------------------------------------------------------------


def _workers(where: str) -> int:
    text = where.partition(":")[2]
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"cluster '{where}' has no number of processes", "write local:2")
    return int(text)


@dataclass
class _Worker:
    """A process that does one piece."""

    process: BaseProcess
    results: Connection
    index: int
    attempts: int


def _run_local(
    function: Callable[[Any], Any], items: Sequence[Any], count: int, on_wait: Callable[[], None]
) -> Iterator[Outcome]:
    """Use a new process for each piece, ``count`` at a time, so that a death affects one piece."""
    spawn = multiprocessing.get_context("spawn")  # a fork would share open tables and threads
    waiting = [(index, 1) for index in reversed(range(len(items)))]
    running: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < count:
                index, attempts = waiting.pop()
                receiving, sending = spawn.Pipe(duplex=False)
                process = spawn.Process(
                    target=_work, args=(sending, function, items[index]), daemon=True
                )
                process.start()
                sending.close()
                running.append(_Worker(process, receiving, index, attempts))
            wait([worker.results for worker in running], timeout=_TICK_S)
            on_wait()
            for worker in [w for w in running if w.results.poll()]:
                running.remove(worker)
                outcome = _collected(worker, items[worker.index])
                if outcome is None:
                    log.warning("a worker died; piece %d is run again", worker.index)
                    waiting.append((worker.index, worker.attempts + 1))
                else:
                    yield outcome
    finally:
        for worker in running:
            worker.process.kill()
            worker.process.join()


def _collected(worker: _Worker, item: Any) -> Outcome | None:
    """Return a worker's result; None when it died and may be replaced."""
    try:
        found = worker.results.recv()
    except EOFError:
        found = None
    worker.process.join()
    worker.results.close()
    if found is not None:
        return _outcome(worker.index, item, found, worker.attempts)
    if worker.attempts < MAX_DEATHS:
        return None
    how = f"its worker died {worker.attempts} times (exit code {worker.process.exitcode})"
    return Outcome(worker.index, item, error=how, attempts=worker.attempts)


def _work(results: Connection, function: Callable[[Any], Any], item: Any) -> None:
    """Do the work of a worker."""
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    found = _call(function, item)
    try:
        results.send(found)
    except (TypeError, AttributeError, ValueError) as error:  # errors of pickling
        results.send((None, f"the result cannot be sent ({error})", traceback.format_exc()))


# -- Dask -----------------------------------------------------------------------------------------


def _is_address(where: str) -> bool:
    return where.startswith(("tcp://", "tls://", "ucx://", "ws://", "wss://"))


def _dask(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the package {name} is not installed", "pip install 'selfcal[cluster]'"
        ) from error


def _queue_settings(path: Path) -> dict[str, Any]:
    """Return ``kind``, ``jobs`` and the arguments of the cluster."""
    if not path.is_file():
        raise ConfigError(f"cluster file {path} does not exist", "correct its name")
    settings = read_value_mapping(path)
    guess = next((name for name in _JOB_QUEUES if path.name.lower().startswith(name)), "")
    kind = str(settings.pop("kind", guess)).lower()
    if kind not in _JOB_QUEUES:
        raise ConfigError(
            f"{path} names no batch system", f"add kind: one of {', '.join(_JOB_QUEUES)}"
        )
    jobs = settings.pop("jobs", None)
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        raise ConfigError(f"{path}: jobs = {jobs!r} is not a number of jobs", "write jobs: 4")
    return {"kind": kind, "jobs": jobs, "arguments": settings}


@contextmanager
def _client(where: str, count: int) -> Iterator[Any]:
    """Yield a client of the scheduler; a scheduler started here ends with it."""
    distributed = _dask("distributed")
    if _is_address(where):
        try:
            client = distributed.Client(where, timeout="20s")
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise ConfigError(
                f"no Dask scheduler answers at {where} ({error})",
                "start one, or correct the address",
            ) from error
        with client:
            yield client
        return
    settings = _queue_settings(Path(where))
    queue = getattr(_dask("dask_jobqueue"), _JOB_QUEUES[settings["kind"]])
    try:
        cluster = queue(**settings["arguments"])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}", "correct the arguments of the cluster") from error
    with cluster:
        # a fixed number by `scale` would not replace jobs that the batch system ended
        jobs = settings["jobs"] or count
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
        with distributed.Client(cluster) as client:
            yield client


def _run_dask(
    client: Any, function: Callable[[Any], Any], items: Sequence[Any], on_wait: Callable[[], None]
) -> Iterator[Outcome]:
    """Submit every piece; Dask gives the pieces of a dead worker to another."""
    distributed = _dask("distributed")
    _make_importable(client)
    futures = [client.submit(_call, function, item, pure=False) for item in items]
    index = {future.key: number for number, future in enumerate(futures)}
    left = set(futures)
    attempts = [1] * len(items)
    try:
        while left:
            try:
                ready = distributed.wait(left, timeout=_TICK_S, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                ready = set()
            on_wait()
            for future in ready:
                left.discard(future)
                number = index[future.key]
                outcome = _dask_outcome(future, number, items[number], attempts[number])
                if outcome is not None:
                    yield outcome
                    continue
                # lost with its worker, so it is submitted again
                attempts[number] += 1
                again = client.submit(_call, function, items[number], pure=False)
                index[again.key] = number
                left.add(again)
    finally:
        client.cancel(list(left), force=True)


def _dask_outcome(future: Any, number: int, item: Any, attempts: int) -> Outcome | None:
    """Return the outcome of a finished future; None when it must be submitted again."""
    if future.status == "finished":
        return _outcome(number, item, future.result(), attempts)
    if future.status in ("cancelled", "lost") and attempts < MAX_DEATHS:
        return None
    error = future.exception() if future.status == "error" else future.status
    return Outcome(number, item, error=f"its worker died ({error})", attempts=attempts)


def _make_importable(client: Any) -> None:
    """Put the project's folder on the path of the scheduler and of every present and later worker.

    The function is nested so that it travels by value, because they cannot import it yet. The
    scheduler needs the path too, because it unpacks the items.
    """
    root = _ROOT

    def setup() -> None:
        if root not in sys.path:
            sys.path.insert(0, root)

    client.run_on_scheduler(setup)
    client.register_worker_callbacks(setup)
