"""The refusals of a disk, told apart from other failures."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from libs.core import disk
from libs.core.disk import disk_error
from libs.core.errors import DiskError
from libs.core.files import replacing, write_atomically

# what casacore and h5py said on a full tmpfs, and of a limit on the size of files
SAID = [
    (RuntimeError("FilebufIO: write error for file /d/table.dat_tmp: No space left on device"),
     "/d/table.dat_tmp cannot be written (No space left on device)"),
    (RuntimeError("FiledesIO::write - write error in /d/table.f0_TSM1: Success"),
     "/d/table.f0_TSM1 cannot be written (No space left on device)"),
    (RuntimeError("(/code/casa/IO/LockFile.cc : 375) Failed AlwaysAssert tracePWRITE(fd, (Char *)"
                  "buffer, leng, 0) == Int(leng)"),
     "a file cannot be written (No space left on device)"),
    (OSError("Can't write data (file write failed: time = 1, errno = 28, error message ="
             " 'No space left on device')"), "a file cannot be written (No space left on device)"),
    (OSError("Not enough space on disk: requested 65536, available 0. 16384 requested and 11872"
             " written"), "a file cannot be written (No space left on device)"),
    (RuntimeError("Directory: /d/tables/a.gcal.part does not exist and cannot be created"),
     "/d/tables/a.gcal.part cannot be written or read (Permission denied)"),
    (RuntimeError("RegularFileIO: error in open or create of file /d/table.dat: Permission denied"),
     "/d/table.dat cannot be written or read (Permission denied)"),
    (OSError(errno.EROFS, "Read-only file system", "/d/a"),
     "/d/a cannot be written (Read-only file system)"),
    (PermissionError(errno.EACCES, "Permission denied", "/d/a"),
     "/d/a cannot be written or read (Permission denied)"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_kept", [])


@pytest.mark.parametrize(("error", "cause"), SAID)
def test_what_the_system_and_libraries_say(error: Exception, cause: str) -> None:
    found = disk_error(error)
    assert found is not None and found.cause == cause
    assert found.remedy


@pytest.mark.parametrize(
    "error",
    [RuntimeError("Table /d/a.ms does not exist"), ValueError("No space left on device"),
     FileNotFoundError(errno.ENOENT, "No such file or directory", "/d/a"), KeyError("write error")],
)  # fmt: skip
def test_another_failure_is_none_of_a_disk(error: Exception) -> None:
    assert disk_error(error) is None


def test_the_refusal_is_found_behind_what_it_led_to() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/d/a")
        except OSError:
            raise ValueError("no images") from None
    except ValueError as error:
        assert str(disk_error(error)).startswith("/d/a cannot be written (No space left on device)")


def test_a_step_begins_with_some_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.check_room(tmp_path)
    monkeypatch.setattr(disk, "LEAST_FREE_BYTES", 2**60)
    with pytest.raises(DiskError, match=f"the disk of {tmp_path} is full: .* MiB are free"):
        disk.check_room(tmp_path)


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.path.insert(0, {root!r})
from pathlib import Path
from libs.core.files import replacing, write_atomically
path = Path({path!r})
for write in (write_atomically, None):
    try:
        if write:
            write(path, "x" * 5000)
        else:
            with replacing(path) as beside:
                beside.write_text("x" * 5000)
    except OSError as error:
        print(error.errno, error.filename)
"""


def test_a_write_that_fails_names_its_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    write_atomically(path, "old")
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED.format(root=root, path=str(path))], check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"{errno.EFBIG} {path}"] * 2
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["steps.json"]
    with replacing(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
