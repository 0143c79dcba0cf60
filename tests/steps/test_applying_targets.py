"""Applying the tables of several targets: each to the rows of its own field, flags saved once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import ConfigError, InputError
from libs.ms import flag_versions, tables
from steps.applying import apply_targets, has_targets
from steps.record.writing import VERSION
from tests.steps.test_applying import column, contents, corrupted, flags_of, make_run

FIELDS = ("cal", "one", "two")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Rows 0 to 9 are of the calibrator, 10 to 19 and 20 to 39 of the targets."""
    path = corrupted(tmp_path / "a.ms", fields=FIELDS)
    with tables.open_table(path, write=True) as opened:
        opened.putcol("FIELD_ID", np.repeat([0, 1, 2], [10, 10, 20]))
    return path


def finished(folder: Path, *originals: Path, status: str = "improved") -> Path:
    """A run of both targets; of the second one antenna 4 has no solution."""
    workdir = folder / "work"
    entries = {}
    for name, bad in (("one", ()), ("two", (4,))):
        inner = folder / f"made_{name}"
        run = make_run(
            inner, *originals, flagged=bad, field=str(FIELDS.index(name)), fields=(name,)
        )
        target = workdir / "targets" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        run.rename(target)
        entries[name] = {"status": "improved", "workdir": f"targets/{name}", "tables": ["t"]}
    entries["one"]["status"] = status
    (workdir / "summary.json").write_text(json.dumps({"targets": entries}))
    return workdir


def test_each_target_goes_to_its_own_rows(tmp_path: Path, original: Path) -> None:
    workdir = finished(tmp_path, original)
    assert has_targets(workdir) and not has_targets(workdir / "targets/one")
    before = flags_of(original)
    lines = list(apply_targets(workdir, None))
    assert [line.split(":")[0] for line in lines] == ["one", "two"]
    corrected, flag = column(original, "CORRECTED_DATA"), flags_of(original)
    np.testing.assert_array_equal(corrected[:10], column(original, "DATA")[:10])
    assert not flag[:20].any() and flag[20:].mean() == pytest.approx(0.4)
    np.testing.assert_allclose(corrected[10:][~flag[10:]], 1, atol=1e-5)
    assert flag_versions.versions(original) == {VERSION: "before the solutions of one"}
    list(apply_targets(workdir, str(original)))
    np.testing.assert_array_equal(flags_of(original), flag)
    flag_versions.restore_version(original, VERSION)
    np.testing.assert_array_equal(flags_of(original), before)


@pytest.mark.parametrize("status", ["failed", "unchanged"])
def test_targets_without_solutions_are_told_and_left_alone(
    tmp_path: Path, original: Path, status: str
) -> None:
    workdir = finished(tmp_path, original, status=status)
    if status == "unchanged":
        (workdir / "targets/one/summary.json").write_text('{"status": "unchanged", "tables": []}')
    first, second = apply_targets(workdir, None)
    assert first.startswith(f"one: {status}") and second.startswith("two: ")
    corrected, data = column(original, "CORRECTED_DATA"), column(original, "DATA")
    np.testing.assert_array_equal(corrected[:20], data[:20])


def test_nothing_to_apply_at_all(tmp_path: Path, original: Path) -> None:
    workdir = finished(tmp_path, original, status="failed")
    (workdir / "targets/two/summary.json").write_text('{"status": "unchanged", "tables": []}')
    before = contents(original)
    with pytest.raises(ConfigError, match="no target has solutions"):
        list(apply_targets(workdir, None))
    assert contents(original) == before


def test_nothing_is_written_when_one_target_cannot_be(tmp_path: Path, original: Path) -> None:
    workdir = finished(tmp_path, original)
    copy = workdir / "targets/two/data/a.ms"
    with tables.open_table(f"{copy}::SPECTRAL_WINDOW", write=True) as windows:
        windows.putcell("CHAN_FREQ", 0, 9e9 + 2e6 * np.arange(8))
    before = contents(original)
    with pytest.raises(InputError, match="other spectral windows"):
        list(apply_targets(workdir, None))
    assert contents(original) == before


def test_a_field_is_for_single_targets(tmp_path: Path, original: Path) -> None:
    with pytest.raises(ConfigError, match=r"own field: for another give .*targets/NAME"):
        list(apply_targets(finished(tmp_path, original), None, "cal"))


def test_one_execution_by_name(tmp_path: Path, original: Path) -> None:
    other = corrupted(tmp_path / "b.ms", fields=FIELDS)
    workdir = finished(tmp_path, original, other)
    before = contents(other)
    assert len(list(apply_targets(workdir, str(original)))) == 2
    assert contents(other) == before
    with pytest.raises(ConfigError, match="none of the run's inputs"):
        list(apply_targets(workdir, str(corrupted(tmp_path / "c.ms"))))


def test_an_execution_that_a_target_lacks(tmp_path: Path, original: Path) -> None:
    workdir = finished(tmp_path, original)
    other = corrupted(tmp_path / "b.ms", fields=FIELDS)
    run = make_run(tmp_path / "made", other, field="2", fields=("two",))
    target = workdir / "targets/two"
    target.rename(tmp_path / "away")
    run.rename(target)
    lines = list(apply_targets(workdir, str(original)))
    assert lines[0] == f"two: has no data in {original}" and lines[1].startswith("one: ")
