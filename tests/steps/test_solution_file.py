"""solutions.h5 of a run: the product of the tables that hold, whatever was there before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from libs.h5parm.check import check
from libs.h5parm.run_rounds import read_rounds
from selfcal.step import TableRef
from steps.solution_file import solutions_of, write_solutions
from tests.steps.fake_tools import Looks, make_run

NAMES = ("startup", "test_image", "select_refant", "p0", "p1")
SCRIPT = {
    "test_image": Looks(1.0, 0.02), "selfcal_p0": Looks(1.0, 0.01), "selfcal_p1": Looks(1.0, 0.008),
}  # fmt: skip


def test_the_file_holds_the_tables_that_hold(tmp_path: Path) -> None:
    pipeline, _ = make_run(tmp_path, SCRIPT, names=NAMES)
    results = pipeline.run()
    context = pipeline.context
    refs = results["p1"].tables
    path = tmp_path / "solutions.h5"
    assert [one.name for one in read_rounds(path)] == list(dict.fromkeys(r.round for r in refs))
    # more tables, then fewer: nothing of the first stays
    both = (*results["p0"].tables, *refs)
    write_solutions(context, both, "p1", {})
    assert [one.name for one in read_rounds(path)] == ["p0", "p1"]
    assert write_solutions(context, results["p0"].tables, "p0", {}) == path
    assert [one.name for one in read_rounds(path)] == ["p0"]
    assert not check(path)
    assert sorted(p.name for p in tmp_path.glob("*solutions*")) == ["solutions.h5"]
    # a leftover of a killed write is no hindrance
    (tmp_path / ".solutions.part.h5").write_bytes(b"half a file")
    write_solutions(context, refs, "p1", {})
    assert not check(path)
    # the phases put on, relative to the reference antenna
    gains = solutions_of(context, results["p0"].tables[0])
    phase = np.angle(gains.gain[:, 0, :, 0].mean(axis=0) * np.conj(gains.gain[0, 0, 0, 0]))
    assert phase == pytest.approx(np.linspace(0, 2, 7), abs=0.1)
    mapped = solutions_of(context, TableRef("point.ms", refs[0].path, (0,), round="p1"))
    assert mapped.spw.tolist() == [0]


def test_a_table_for_every_window_is_read_without_looking_through_the_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = object()
    monkeypatch.setattr("steps.solution_file.read_solutions", lambda table, ms: found)
    monkeypatch.setattr("steps.solution_file.describe_ms", lambda ms: pytest.fail("read"))
    context = SimpleNamespace(workdir=tmp_path)
    assert solutions_of(context, TableRef("a.ms", "tables/p0.cal")) is found  # type: ignore[arg-type]
