"""The demonstration without WSClean: CASA tclean from pip packages alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from selfcal.state import State
from tests import demo

pytestmark = pytest.mark.tools


def test_tclean_serves_as_imager(tmp_path: Path, session: object) -> None:
    run = demo.run(tmp_path / "work", "--set", "imager=tclean", "--until", "p0")
    assert run.code == 0, run.output
    state = State(run.workdir)
    first, last = state.get("test_image"), state.get("p0")
    assert first is not None and last is not None
    assert last.result.status == "done", last.result.reason
    assert last.result.metrics["snr"] > 3 * first.result.metrics["snr"]
    assert "installing WSClean" not in run.output


def test_without_wsclean_a_line_says_that_it_would_be_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = os.environ["PATH"].split(os.pathsep)
    kept = [folder for folder in folders if not (Path(folder) / "wsclean").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(kept))
    run = demo.run(tmp_path / "work", "--until", "startup")
    assert run.code == 0, run.output
    assert "imaging with CASA tclean; installing WSClean" in run.output
