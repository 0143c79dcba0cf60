"""Runs that a run starts: how they are started, how they end, what is shown meanwhile."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs.core.errors import ConfigError, InputError, SolveError, ToolError
from selfcal import child_runs
from selfcal.child_runs import (
    Board,
    ChildRun,
    run_child,
    run_side_by_side,
    running_step,
    write_outcome,
)
from selfcal.cluster import shared_threads
from selfcal.progress import Progress
from selfcal.state import hold_workdir

CHILD = """\
import json, os, sys
from pathlib import Path
outcome = Path(sys.argv[2].removeprefix("--outcome="))
print("selfcal: what it prints is not how it ended")
{body}
"""
GOOD = """\
seen = {"cwd": os.getcwd(), "words": sys.argv[3:], "threads": os.environ["OMP_NUM_THREADS"]}
Path("%s/summary.json").write_text(json.dumps(seen))
"""
FAILED = """\
outcome.write_text(json.dumps(
    {"code": 1, "kind": "StepFailed", "cause": "step p0 failed", "remedy": "look"}))
sys.exit(1)
"""


@pytest.fixture
def child(tmp_path: Path) -> ChildRun:
    values = {"steps": ("a", "b"), "niter": 5}
    return ChildRun(
        tmp_path / "run", tmp_path / "config.yaml", values, tmp_path, 60.0, ("--from=p1",), 3
    )


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    path = tmp_path / "child.py"
    path.write_text(CHILD.replace("{body}", body))
    monkeypatch.setattr(child_runs, "COMMAND", path)


def test_its_config_folder_words_and_threads(
    child: ChildRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, GOOD % child.workdir)
    assert run_child(child) == {"cwd": str(tmp_path), "words": ["--from=p1"], "threads": "3"}
    assert yaml.safe_load(child.config.read_text()) == {"steps": ["a", "b"], "niter": 5}
    stamp = child.config.stat().st_mtime_ns
    run_child(child)
    assert child.config.stat().st_mtime_ns == stamp, "the same config stays as it is"


def test_it_says_itself_why_it_failed(
    child: ChildRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, FAILED)
    with pytest.raises(ToolError) as caught:
        run_child(child)
    assert str(caught.value) == f"step p0 failed: look: see {child.output}"
    # and not with the words of the start before
    program(tmp_path, monkeypatch, "raise RuntimeError('nobody thought of it')")
    with pytest.raises(ToolError, match=r"broke off: .*\(RuntimeError: nobody thought of it\)"):
        run_child(child)


def test_another_run_holds_its_folder(child: ChildRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_runs, "LOCK_WAIT_S", 0.0)
    with hold_workdir(child.workdir), pytest.raises(InputError, match="in use by process"):
        run_child(child)
    assert not child.config.exists()


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("a", "b"), 2), (SolveError("a", "b"), 1), (None, 0)]
)
def test_outcomes(tmp_path: Path, error: Any, code: int) -> None:
    write_outcome(tmp_path / "new" / "outcome.json", error)
    found = json.loads((tmp_path / "new" / "outcome.json").read_text())
    assert found["code"] == code and found["kind"] == (type(error).__name__ if error else "")
    assert (found["cause"], found["remedy"]) == (("a", "b") if error else ("", ""))


def piece(name: str, on_wait: Any = None) -> str:
    """Stands in for a child; shows the display where it is given it."""
    if on_wait:
        on_wait()
    if name == "b":
        raise ToolError("it broke", "mend it")
    return name


@pytest.mark.parametrize("where", ["inline", "local:2"])
def test_side_by_side(tmp_path: Path, where: str) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / ".running").write_text("p0\np1\n")
    stream = io.StringIO()
    board = Board(Progress(stream=stream), {name: tmp_path / name for name in "abc"})
    ended: dict[str, str] = {}

    def on_done(outcome: Any) -> None:
        ended[outcome.item] = outcome.error
        board.done(outcome.item, "failed" if outcome.error else "improved", outcome.error or "ok")

    run_side_by_side(piece, list("abc"), where, board, on_done)
    assert ended == {"a": "", "b": "it broke: mend it", "c": ""}
    text = stream.getvalue()
    assert "0 of 3 done; a p1, b p1, c p1" in text, "the step each is at"
    assert "b: failed; it broke" in text and not board.left


def test_the_step_a_run_is_in(tmp_path: Path) -> None:
    assert running_step(tmp_path) == ""
    (tmp_path / ".running").write_text("")
    assert running_step(tmp_path) == ""
    (tmp_path / ".running").write_text("p0\np1\n")
    assert running_step(tmp_path) == "p1"


def test_threads_of_pieces_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    wheres = ("inline", "local:1", "local:3", "local:16", "tcp://host:1")
    assert [shared_threads(where) for where in wheres] == [0, 0, 2, 1, 0]
