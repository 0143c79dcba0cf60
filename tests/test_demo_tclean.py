"""The demonstration without WSClean: CASA tclean from pip packages alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from selfcal.state import State
from tests import demo

pytestmark = pytest.mark.tools


def test_tclean_serves_as_imager(tmp_path: Path, session: object) -> None:
    run = demo.run(tmp_path / "work", *demo.NO_PLOTS, "--set", "imager=tclean", "--until", "p0")
    assert run.code == 0, run.output
    state = State(run.workdir)
    first, last = state.get("test_image"), state.get("p0")
    assert first is not None and last is not None
    assert last.result.status == "done", last.result.reason
    assert last.result.metrics["snr"] > 3 * first.result.metrics["snr"]
    assert "installing WSClean" not in run.output


def test_a_run_needs_no_wsclean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # CASA calls cp and the like, so that a folder cannot just be left out of the PATH
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            link = programs / program.name
            if program.name != "wsclean" and not link.exists() and not link.is_symlink():
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))
    run = demo.run(tmp_path / "work", *demo.NO_PLOTS, "--until", "test_image")
    assert run.code == 0, run.output
    assert "native test_image" in run.output
