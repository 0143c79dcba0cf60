"""The CASA child process: a task that fails, dies or hangs is an error, and the next one runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from libs.casa.session import CasaSession, _last_severe, _words, casa_versions, demo_data
from libs.core.errors import ToolError
from tests.conftest import ROOT

LINUX = sys.platform.startswith("linux")


def pid_of(session: CasaSession) -> int:
    """The child's process id, asked of itself."""
    return int(session.run("getpid", module="os"))


def gone(pid: int, within_s: float = 5.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CasaSession]:
    """A session these tests may kill."""
    with CasaSession(tmp_path_factory.mktemp("own"), stall_s=60.0) as casa:
        yield casa


def test_nothing_is_started_before_it_is_asked_for(tmp_path: Path) -> None:
    session = CasaSession(tmp_path / "logs")
    session.close()
    assert not (tmp_path / "logs").exists()


def test_demonstration_data() -> None:
    assert demo_data("3C273XC1.fits").is_file()
    with pytest.raises(ToolError, match=r"no demonstration file nothing\.fits"):
        demo_data("nothing.fits")
    assert "casatasks" in casa_versions()


@pytest.mark.tools
def test_results_come_back_as_plain_values(own: CasaSession, tmp_path: Path) -> None:
    assert own.run("getcwd", module="os") == str(own.log_dir), "litter falls into the logs"
    assert own.run("SimpleNamespace", module="types", a=tmp_path).endswith(f"(a='{tmp_path}')")
    assert own.run("OrderedDict", module="collections", a=[1, (2.5, "x")]) == {"a": [1, [2.5, "x"]]}


@pytest.mark.tools
def test_a_task_that_raises_is_an_error_and_the_session_goes_on(
    own: CasaSession, tmp_path: Path
) -> None:
    pid = pid_of(own)
    log = tmp_path / "listobs.log"
    with pytest.raises(ToolError) as caught:
        own.run("listobs", log=log, vis=tmp_path / "none.ms")
    assert caught.value.cause.startswith("CASA listobs failed: ")
    assert "Traceback" in log.read_text()
    assert pid_of(own) == pid, "the same process"


def test_a_task_that_raises_without_a_word_is_told_by_its_log(tmp_path: Path) -> None:
    log = tmp_path / "casa.log"
    log.write_text("2026-01-01 00:00:00\tINFO\ttclean\tbegin\nsome other line\n")
    assert "no reason" in _last_severe(log)
    with log.open("a") as stream:
        stream.write("2026-01-01 00:00:01\tSEVERE\tdeconvolver\tNo valid values to deconvolve\n")
    assert _last_severe(log) == "No valid values to deconvolve"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("RuntimeError: no such column", "no such column"),
        ("RuntimeError: ", "No valid values to deconvolve"),
        (
            "RuntimeError: 2026-01-01 00:00:02\tSEVERE\tMSFitsInput::_checkInput\tNo groups",
            "No groups",
        ),
        ("KeyError: 'unit'", "KeyError: 'unit'"),
    ],
)
def test_what_a_task_says_is_told_without_its_trimmings(
    tmp_path: Path, error: str, told: str
) -> None:
    log = tmp_path / "casa.log"
    log.write_text("2026-01-01 00:00:01\tSEVERE\tdeconvolver\tNo valid values to deconvolve\n")
    assert _words(error, log) == told


@pytest.mark.tools
def test_a_child_killed_during_a_task(own: CasaSession, tmp_path: Path) -> None:
    pid, log = pid_of(own), tmp_path / "sleep.log"
    log.write_text("the last thing it said\n")
    killer = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(ToolError) as caught:
        own.run("run", module="subprocess", log=log, args=["sleep", "30"])
    killer.join()
    assert caught.value.cause.startswith("the CASA process died in run (code -9)")
    assert "the last thing it said" in caught.value.cause
    assert pid_of(own) != pid, "a new one takes over"


@pytest.mark.tools
def test_a_child_killed_between_tasks(own: CasaSession) -> None:
    pid = pid_of(own)
    os.kill(pid, signal.SIGKILL)
    assert own._process is not None
    own._process.wait()  # all its threads: until then its end of the pipe is open
    assert pid_of(own) != pid


@pytest.mark.tools
def test_a_task_that_hangs_is_killed(own: CasaSession) -> None:
    pid = pid_of(own)
    waits: list[float] = []
    own.stall_s, own.on_wait = 1.0, lambda: waits.append(time.monotonic())
    try:
        with pytest.raises(ToolError, match=r"CASA run hangs: no output and no CPU time for 1 s"):
            own.run("run", module="subprocess", args=["sleep", "60"])
    finally:
        own.stall_s, own.on_wait = 60.0, None
    assert gone(pid)
    assert len(waits) > 5, "progress is shown meanwhile"
    assert pid_of(own) != pid


@pytest.mark.tools
def test_what_a_task_prints_is_no_answer(own: CasaSession) -> None:
    own.run("run", module="subprocess", args=["echo", '{"result": 3}'])
    assert '{"result": 3}' in (own.log_dir / "casa_console.log").read_text()
    assert pid_of(own) > 0


@pytest.mark.tools
def test_closing_ends_the_child(tmp_path: Path) -> None:
    with CasaSession(tmp_path) as casa:
        pid = pid_of(casa)
        assert psutil.pid_exists(pid)
    assert gone(pid)


@pytest.mark.tools
@pytest.mark.skipif(not LINUX, reason="the kernel's part on Linux only")
def test_no_orphan_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom libs.casa.session import CasaSession\n"
        f"casa = CasaSession(Path({str(tmp_path)!r}))\n"
        "print(casa.run('getpid', module='os'), flush=True)\n"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None and parent.stdin is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    assert gone(pid)
