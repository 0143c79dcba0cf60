"""The record of a run survives whatever cuts it short; one run at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import InputError
from libs.core.files import write_atomically
from selfcal.state import COLUMNS, State, hold_workdir, merge_rows
from selfcal.step import StepResult, TableRef
from tests.conftest import ROOT

SECONDS = {"total": 1.0, "imaging": 0.5, "solving": 0.25}
TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)


def append(state: State, step: str, reason: str = "") -> None:
    result = StepResult(
        reason=reason,
        tables=(TableRef("a.ms", "tables/p0.cal", (0, 0, 2), "nearest", "p0"),),
        products={"image": "images/p0.fits"},
        metrics={"snr": 12.5, "note": reason},
        template="faint",
    )
    state.append(step, f"fingerprint of {step}", result, SECONDS, {"solint": 30.0})


def test_a_row_is_read_back_as_it_was(tmp_path: Path) -> None:
    state = State(tmp_path)
    append(state, "p0", 'flux 1 Jy, "quoted"; 3 µJy')
    before, after = state.get("p0"), State(tmp_path).get("p0")
    assert before == after
    assert after is not None and after.result.tables[0].spwmap == (0, 0, 2)


def test_rows_are_only_appended(tmp_path: Path) -> None:
    append(State(tmp_path), "p0")
    content = (tmp_path / "steps.csv").read_bytes()
    append(State(tmp_path), "p1")
    append(State(tmp_path), "p0", "again")
    assert (tmp_path / "steps.csv").read_bytes().startswith(content)
    state = State(tmp_path)
    record = state.get("p0")
    assert state.rows == 3
    assert record is not None and (record.order, record.result.reason) == (2, "again")


def test_reading_a_torn_file_leaves_it_to_its_writer(tmp_path: Path) -> None:
    append(State(tmp_path), "p0")
    path = tmp_path / "steps.csv"
    torn = path.read_bytes() + b"p1,done,abc"
    path.write_bytes(torn)
    assert State(tmp_path).get("p1") is None
    assert path.read_bytes() == torn


@settings(max_examples=60, deadline=None)
@given(reasons=st.lists(TEXT, min_size=1, max_size=3), data=st.data())
def test_a_file_cut_anywhere_keeps_the_rows_before_the_cut(
    reasons: list[str], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        state, ends = State(workdir), []
        for number, reason in enumerate(reasons):
            append(state, f"p{number}", reason)
            ends.append(state.path.stat().st_size)
        cut = data.draw(st.integers(0, ends[-1]))
        state.path.write_bytes(state.path.read_bytes()[:cut])
        left = State(workdir)
        assert left.rows == sum(end <= cut for end in ends)
        append(left, "next")
        again = State(workdir)
        assert again.rows == left.rows
        assert again.get("next") == left.get("next")
        assert again.path.read_text().count(",".join(COLUMNS)) == 1


def test_very_long_metrics_are_read_back(tmp_path: Path) -> None:
    append(State(tmp_path), "p0", "x" * 300_000)
    record = State(tmp_path).get("p0")
    assert record is not None and len(record.result.metrics["note"]) == 300_000


def test_a_step_under_way_is_known_until_its_row_is_written(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert state.interrupted() == []
    state.begin("p1")
    assert State(tmp_path).interrupted() == ["p1"]
    # another start, of another step
    state.begin("p0")
    assert State(tmp_path).interrupted() == ["p1", "p0"]
    append(state, "p0")
    assert State(tmp_path).interrupted() == ["p1"]
    append(state, "p1")
    assert State(tmp_path).interrupted() == []


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_second_run_is_told_who_holds_the_work_directory(tmp_path: Path) -> None:
    workdir = tmp_path / "deep" / "work"
    with hold_workdir(workdir):
        for _ in range(2):  # the refused one has not wiped out the name
            with (
                pytest.raises(InputError, match=f"in use by process {os.getpid()} on"),
                hold_workdir(workdir),
            ):
                pass
    with hold_workdir(workdir):
        pass


def test_the_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from selfcal.state import hold_workdir\n"
        "with hold_workdir(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    with hold_workdir(tmp_path):
        pass


def test_a_holder_that_is_about_to_go_is_waited_for(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from selfcal.state import hold_workdir\n"
        "with hold_workdir(Path(sys.argv[1])): print('held', flush=True); time.sleep(1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="in use"), hold_workdir(tmp_path, wait_s=0.1):
            pass
        with hold_workdir(tmp_path, wait_s=60):
            pass


def test_work_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot be written .*choose another with --workdir"),
        hold_workdir(tmp_path / "file" / "work"),
    ):
        pass


def test_merged_rows_have_the_columns_of_all() -> None:
    text = merge_rows([[{"a": 1}], [{"b": 2, "a": 3}], []])
    assert text == "a,b\n1,\n3,2\n"
