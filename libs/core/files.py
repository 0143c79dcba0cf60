"""Files shared by processes that may die: one writer at a time, content either old or new."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from libs.core.errors import InputError

__all__ = ["fsync_tree", "locked", "replacing", "take_lock", "tree_bytes", "write_atomically"]

_POLL_S = 0.05


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = 600.0) -> Iterator[None]:
    """Hold the exclusive lock of a file, ``<path>.lock`` beside it.

    The lock belongs to the open file, so the kernel releases it when its holder dies by
    whatever means: there are no stale locks. The lock file itself stays; removing it would
    let two processes lock two files of the same name.

    Parameters
    ----------
    path : Path
        File to be changed; it need not exist.
    timeout_s : float
        Longest wait for another holder, s.

    Raises
    ------
    InputError
        The folder cannot be written, cannot lock files, or the wait was too long.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InputError(
            f"{lock} cannot be written ({error.strerror})", "use a folder you may write to"
        ) from error
    try:
        if not take_lock(handle, lock.parent, timeout_s):
            owner = os.pread(handle, 200, 0).decode(errors="replace")
            raise InputError(
                f"{lock} was held for {timeout_s:.0f} s by {owner or 'another process'}",
                "wait for that process, or end it",
            )
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, holder, 0)
        yield
    finally:
        os.close(handle)


def take_lock(handle: int, folder: Path, wait_s: float) -> bool:
    """Take the exclusive lock of an open file; return False when it is still held after the wait.

    Parameters
    ----------
    handle : int
        Descriptor of the file.
    folder : Path
        Folder that an error message names.
    wait_s : float
        Longest wait for another holder, s.

    Raises
    ------
    InputError
        The file system has no locks.
    """
    give_up = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                raise InputError(
                    f"{folder} cannot lock files ({error.strerror})",
                    "keep the file on a file system with locks",
                ) from error
        if time.monotonic() >= give_up:
            return False
        time.sleep(_POLL_S)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file beside its place, sync it and rename it."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write that fails does not name its file
        part.unlink(missing_ok=True)  # on a full disk even its few bytes count
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds.

    The new content is on disk before the rename, and the rename before this returns. Files left
    behind by a writer that died are removed (only those of processes that are gone).
    """
    folder = path.parent
    prefix = f".{path.name}.{socket.gethostname()}."
    for leftover in folder.glob(f"{prefix}*.tmp"):
        pid = leftover.name.removeprefix(prefix).split(".")[0]
        if pid.isdigit() and int(pid) != os.getpid() and not _alive(int(pid)):
            leftover.unlink(missing_ok=True)
    temporary = folder / f"{prefix}{os.getpid()}.{time.monotonic_ns()}.tmp"
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        folder_handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(folder_handle)
        finally:
            os.close(folder_handle)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def tree_bytes(path: Path) -> int:
    """Return the size of a file or folder on disk, bytes."""
    if path.is_file():
        return path.stat().st_size
    return sum(
        os.lstat(Path(folder) / name).st_size
        for folder, _, files in os.walk(path)
        for name in files
    )


def fsync_tree(path: Path) -> None:
    """Make sure that a file or folder is on the disk before its row in a record says so."""
    targets = [path]
    for folder, _, files in os.walk(path):
        targets += [Path(folder), *(Path(folder) / name for name in files)]
    for target in targets:
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
