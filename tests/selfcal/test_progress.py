"""The live line fits the terminal, its clock moves, and colours can be turned off."""

from __future__ import annotations

import io
import re
import time

import pytest

from selfcal.progress import REFRESH_S, Progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> list[str]:
        """Lines and redrawn lines without control characters, in order."""
        return [re.sub(r"\x1b\[\w+", "", part) for part in re.split(r"\r|\n", self.getvalue())]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_nothing_is_wider_than_the_terminal(terminal: Terminal) -> None:
    progress = Progress(stream=terminal)
    progress.begin("[ 9/15] p0")
    progress.activity("solving " + "for phases " * 20)
    progress.end("done: " + "a long reason " * 20)
    assert max(map(len, terminal.shown)) <= 60
    assert terminal.shown[-2].endswith("(0.0 s)")
    assert "\u2026" in terminal.getvalue()
    assert sum(line.count("\n") for line in terminal.getvalue()) == 1


def test_verbose_shows_reasons_whole(terminal: Terminal) -> None:
    progress = Progress(stream=terminal, verbose=True)
    progress.begin("p0")
    progress.end("done: " + "a long reason " * 20)
    assert "a long reason " * 19 in terminal.getvalue()


def test_the_clock_moves_while_a_step_says_nothing(terminal: Terminal) -> None:
    progress = Progress(stream=terminal)
    progress.begin("p0")
    before = len(terminal.getvalue())
    time.sleep(2.2 * REFRESH_S)  # in-process work
    assert len(terminal.getvalue()) > before
    assert re.search(r"p0\s+1 s", terminal.getvalue())
    progress.stop()
    after = len(terminal.getvalue())
    time.sleep(1.5 * REFRESH_S)
    assert len(terminal.getvalue()) == after, "a run that ended writes no more"


@pytest.mark.parametrize(("value", "colours"), [("", True), ("1", False)])
def test_warnings_are_lines_of_their_own(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, value: str, colours: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    progress = Progress(stream=terminal)
    progress.begin("p0")
    progress.end("done", warnings=["ea01: a dead feed"])
    assert "    WARNING: ea01: a dead feed" in terminal.shown
    assert ("\x1b[33m" in terminal.getvalue()) is colours


def test_elsewhere_lines_are_whole_and_plain() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.begin("[ 1/15] startup")
    progress.activity("working copy of 0.01 GiB")
    progress.end("done: " + "x" * 300, warnings=["odd"])
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()
    assert "x" * 300 in stream.getvalue()
    assert stream.getvalue().count("\n") == 3


def test_quiet_shows_warnings_and_results_only() -> None:
    stream = io.StringIO()
    progress = Progress(quiet=True, stream=stream)
    progress.begin("p0")
    progress.activity("solving")
    progress.end("done", warnings=["odd"])
    progress.note("a note")
    progress.result("the table")
    assert stream.getvalue() == "    WARNING: odd\nthe table\n"
