"""Pieces in line, in local processes and on Dask: same results, failures apart, deaths retried."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.core.errors import ConfigError, SelfcalError
from selfcal.cluster import MAX_DEATHS, Outcome, check_where, run_all
from tests.conftest import ROOT
from tests.selfcal import pieces


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a Dask scheduler with two workers under nannies."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        scheduler_port=0,
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


@pytest.fixture(params=["inline", "local:2", "dask"])
def where(request: pytest.FixtureRequest) -> str:
    if request.param == "dask":
        return str(request.getfixturevalue("scheduler"))
    return str(request.param)


def test_results_come_in_the_order_of_the_items(where: str) -> None:
    seen: list[int] = []
    outcomes = run_all(pieces.square, [3, 1, 2], where, lambda o: seen.append(o.index))
    assert [o.value for o in outcomes] == [9, 1, 4]
    assert all(o.ok and o.attempts == 1 for o in outcomes)
    assert sorted(seen) == [0, 1, 2]


def test_one_failure_leaves_the_others(where: str) -> None:
    outcomes = run_all(pieces.fails_on_two, [1, 2, 3, 4], where)
    assert [o.ok for o in outcomes] == [True, False, False, True]
    assert outcomes[1].error == "two is not liked: take three"
    assert outcomes[2].error == "ValueError: three neither"
    assert "fails_on_two" in outcomes[2].details


@pytest.mark.parametrize("where", ["local:2", "dask"], indirect=True)
def test_a_dead_worker_is_replaced_and_the_result_is_the_same(where: str, tmp_path: Path) -> None:
    items = [(str(tmp_path), number) for number in range(4)]
    outcomes = run_all(pieces.dies_once, items, where)
    assert (tmp_path / "died_1").exists()
    inline = run_all(pieces.dies_once, items, "inline")
    assert [o.value for o in outcomes] == [o.value for o in inline] == [0, 10, 20, 30]


def test_deaths_are_bounded() -> None:
    outcomes = run_all(pieces.always_dies, [0, 1], "local:2")
    assert [o.ok for o in outcomes] == [False, True]
    assert outcomes[0].attempts == MAX_DEATHS
    assert "died" in outcomes[0].error


def test_results_that_cannot_be_sent_are_an_error() -> None:
    (outcome,) = run_all(pieces.unsendable, [1], "local:1")
    assert "cannot be sent" in outcome.error


def test_nothing_to_do() -> None:
    assert run_all(pieces.square, [], "local:2") == []


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        ("cloud", "unknown cluster"),
        ("local:", "number of processes"),
        ("local:0", "number of processes"),
        ("nothere.yaml", "does not exist"),
    ],
)
def test_a_wrong_place_is_said_before_anything_runs(where: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        run_all(pieces.square, [1], where)


def test_a_file_must_name_a_batch_system(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("cores: 1\n")
    with pytest.raises(ConfigError, match="no batch system"):
        check_where(str(path))
    path.write_text("kind: slurm\njobs: none\n")
    with pytest.raises(ConfigError, match="number of jobs"):
        check_where(str(path))


@pytest.mark.parametrize("package", ["distributed", "dask_jobqueue"])
def test_missing_packages_are_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = importlib.import_module

    def without(name: str) -> object:
        if name == package:
            raise ImportError(name)
        return original(name)

    monkeypatch.setattr(importlib, "import_module", without)
    path = tmp_path / "slurm_big.yaml"
    path.write_text("cores: 1\nmemory: 4GB\n")
    with pytest.raises(ConfigError, match=f"{package} is not installed.*cluster"):
        check_where(str(path))


def test_no_scheduler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def refuses(*args: object, **kwargs: object) -> None:
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refuses)
    with pytest.raises(ConfigError, match="no Dask scheduler answers"):
        run_all(pieces.square, [1], "tcp://127.0.0.1:9")


def test_workers_end_when_the_run_is_killed(tmp_path: Path) -> None:
    code = (
        "from selfcal.cluster import run_all\nfrom tests.selfcal import pieces\n"
        f"if __name__ == '__main__':\n    run_all(pieces.slow, [({str(tmp_path)!r}, 1)], 'local:1')"
    )
    script = tmp_path / "main.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, str(script)], env=environment)
    started = tmp_path / "started_1"
    try:
        _until(lambda: started.exists() and started.read_text() != "")
        worker = int(started.read_text())
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    _until(lambda: not Path(f"/proc/{worker}").exists())


def test_a_scheduler_that_runs_elsewhere(tmp_path: Path) -> None:
    """It and its workers know nothing of this project until they are told."""
    pytest.importorskip("distributed")
    address = tmp_path / "address.json"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    options = ["--no-dashboard", "--scheduler-file", str(address)]
    commands = (
        ["scheduler", "--port", "0", *options],
        ["worker", "--nthreads", "1", "--no-nanny", *options],
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *words], cwd=tmp_path, env=environment,
            stderr=subprocess.DEVNULL,
        )
        for words in commands
    ]  # fmt: skip
    try:
        _until(lambda: address.exists() and address.read_text().endswith("}"), 60)
        where = json.loads(address.read_text())["address"]
        outcomes = run_all(pieces.area, [pieces.Sides(2, 3), pieces.Sides(4, 5)], where)
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()
    assert [(o.value, o.error) for o in outcomes] == [(6, ""), (20, "")]


def _until(condition: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_outcome_says_whether_it_is_good() -> None:
    assert Outcome(0, "x", value=1).ok
    assert not Outcome(0, "x", error="no").ok


class OwnKindError(SelfcalError):
    """An error of the family that another module defines."""


def raise_own_kind(item: object) -> None:
    raise OwnKindError("no data", "get some")


def test_an_error_of_the_family_is_told_in_its_own_words_wherever_it_is_defined() -> None:
    (outcome,) = run_all(raise_own_kind, [1])
    assert outcome.error == "no data: get some"
