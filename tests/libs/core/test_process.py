"""Programs that end well, fail, die, hang, or outlive their parent: none of it goes unnoticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from libs.core.errors import ToolError
from libs.core.process import cpu_seconds, kill_tree, run_tool, tail, which
from tests.conftest import ROOT


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process ends within some time."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_output_goes_to_the_log_after_the_command(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "tool.log"
    code = "import os, sys; print('out', os.getcwd(), os.environ['WORD'], sys.stdin.read() == '')"
    seconds = run_tool(python(code), log, cwd=tmp_path, env={"WORD": "set"})
    assert 0 < seconds < 60
    text = log.read_text()
    assert text.startswith(f"\n$ {sys.executable} -c ")
    assert text.endswith(f"out {tmp_path} set True\n")
    run_tool(python("import sys; sys.stderr.write('second')"), log)
    assert log.read_text() == text + log.read_text()[len(text) :], "appended"
    assert log.read_text().endswith("second")


def test_an_argument_is_one_word_whatever_it_holds(tmp_path: Path) -> None:
    words = ["a b", "$HOME", "; exit 3", "*", ""]
    code = "import sys; print(sys.argv[1:])"
    run_tool([*python(code), *words], tmp_path / "log")
    assert (tmp_path / "log").read_text().endswith(f"{words!r}\n")


def test_an_exit_code_is_an_error_with_the_last_lines(tmp_path: Path) -> None:
    code = "for i in range(100): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(ToolError) as caught:
        run_tool(python(code), tmp_path / "log")
    assert "exited with code 3" in caught.value.cause
    assert caught.value.cause.endswith("\n".join(f"line {i}" for i in range(88, 100)))
    assert caught.value.remedy == f"see {tmp_path / 'log'}"


def test_a_signal_is_named(tmp_path: Path) -> None:
    code = "import os; print('so far', flush=True); os.kill(os.getpid(), 11)"
    with pytest.raises(ToolError, match=r"was killed by signal 11; its last lines:(.|\n)*so far"):
        run_tool(python(code), tmp_path / "log")


def test_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no_such_tool cannot be started"):
        run_tool(["no_such_tool", "-x"], tmp_path / "log")
    assert which("no_such_tool") is None
    assert which("sh") is not None


def test_a_hang_is_killed(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    start = time.monotonic()
    with pytest.raises(ToolError, match="hangs: no output and no CPU time for 1 s"):
        run_tool(python(code), tmp_path / "log", stall_s=0.6)
    assert time.monotonic() - start < 15
    assert gone(int((tmp_path / "log").read_text().split()[-1]))


@pytest.mark.parametrize(
    "sign", ["print('.', flush=True)", "sum(range(10**6))"], ids=["output", "CPU time"]
)
def test_a_slow_program_that_shows_life_is_left_alone(tmp_path: Path, sign: str) -> None:
    code = f"import time\nfor _ in range(20):\n    time.sleep(0.1)\n    for _ in range(5): {sign}"
    run_tool(python(code), tmp_path / "log", stall_s=1.2)


def test_progress_is_told_while_the_program_runs(tmp_path: Path) -> None:
    calls: list[float] = []
    run_tool(
        python("import time; time.sleep(0.5)"), tmp_path / "log",
        on_wait=lambda: calls.append(time.monotonic()),
    )  # fmt: skip
    assert len(calls) >= 3


def test_an_interrupt_ends_the_program_and_its_children(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    log = tmp_path / "log"

    def interrupt() -> None:
        if log.read_text().endswith("\n") and log.read_text().split()[-1].isdigit():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tool(python(code), log, on_wait=interrupt)
    assert gone(int(log.read_text().split()[-1]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's part on Linux only")
def test_a_program_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import sys\nfrom pathlib import Path\nfrom libs.core.process import run_tool\n"
        "child = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        f"run_tool([sys.executable, '-c', child], Path({str(log)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until = time.monotonic() + 20
    while time.monotonic() < until and not (
        log.exists() and log.read_text().endswith("\n") and log.read_text().split()[-1].isdigit()
    ):
        time.sleep(0.05)
    pid = int(log.read_text().split()[-1])
    assert psutil.pid_exists(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(pid)


def test_tail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == "(no log)"
    log.write_bytes(b"\xff first\n" + b"x" * 20000 + b"\nlast but one\nlast\n\n")
    assert tail(log, 2) == "last but one\nlast"
    log.write_text("only")
    assert tail(log) == "only"


def test_cpu_time_of_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert cpu_seconds(process.pid) == 0.0
    kill_tree(process.pid)
    assert cpu_seconds(os.getpid()) > 0
