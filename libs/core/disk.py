"""What a disk refuses: full, read-only, broken, told as an error with its remedy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from libs.core.errors import DiskError

__all__ = ["LEAST_FREE_BYTES", "check_room", "disk_error", "leave"]

LEAST_FREE_BYTES = 16 * 2**20
"""Free space with which a step may begin: its tables and its row in the record are smaller."""

_GO_ON = "the same command goes on where it stopped"
_REMEDIES = {
    errno.ENOSPC: f"free some space; {_GO_ON}",
    errno.EDQUOT: f"free some space of your quota; {_GO_ON}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f); {_GO_ON}",
    errno.EROFS: "make the file system writable, or choose another workdir",
    errno.EACCES: "give yourself access, or choose another workdir",
    errno.EPERM: "give yourself access, or choose another workdir",
    errno.EIO: f"check the disk; {_GO_ON}",
    errno.ESTALE: f"mount the file system again; {_GO_ON}",
}
_READING = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
# casacore's words, and astropy's
_SHORT_WRITE = re.compile(
    r"write error\b.*: Success|Failed AlwaysAssert trace(P?WRITE|write)\b|Not enough space on disk"
)
_NO_ACCESS = re.compile(
    r"does not exist and cannot be created|exists,? (?:and|but) is not writable"
)
_FILES = (
    re.compile(r"write error (?:in|for file) (.+): "),
    re.compile(r"(?:Directory|File|Table):? (.+?) (?:already exists|exists|does not exist)\b"),
    re.compile(r"open or create of file (.+): "),
)
# an exception's traceback keeps the tables that were open: casacore ends the process with an
# abort when it cannot write what a table holds as the table is given up
_kept: list[BaseException] = []


def check_room(folder: Path) -> None:
    """Check that a disk is not full to the brim before something is written to it.

    A full disk is better met here than by casacore, which ends the process with an abort
    when the first bytes of a new table do not fit.

    Raises
    ------
    DiskError
        Less than `LEAST_FREE_BYTES` are free.
    """
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise DiskError(
            f"the disk of {folder} is full: {free / 2**20:.1f} MiB are free, and a step begins"
            f" with {LEAST_FREE_BYTES / 2**20:.0f} MiB at least",
            _REMEDIES[errno.ENOSPC],
        )


def disk_error(error: BaseException) -> DiskError | None:
    """Return the refusal of a disk that an exception stands for; None where it is another failure.

    Libraries in C++ (casacore, HDF5) give the system's words in an exception of their own, so the
    words count as well as the number. A process that goes on after such an error should end with
    `leave`.

    Parameters
    ----------
    error : BaseException
        Exception, with those in whose handling it was raised.
    """
    for one in _chain(error):
        number = _number(one)
        if number is not None:
            _kept.append(error)
            name, said = _file(one), os.strerror(number)
            return DiskError(
                f"{name or 'a file'} cannot be written{' or read' * (number in _READING)} ({said})",
                _REMEDIES[number],
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that led to it, once each."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _number(error: BaseException) -> int | None:
    """Return the system's number of a disk's refusal."""
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        return error.errno
    if not isinstance(error, (OSError, RuntimeError)):
        return None
    said = str(error)
    found = next((n for n in _REMEDIES if os.strerror(n) in said), None)
    if found is None and _NO_ACCESS.search(said):
        return errno.EACCES
    # a file of which a part was written: the system gives no error for it, the disk took no more
    return errno.ENOSPC if found is None and _SHORT_WRITE.search(said) else found


def _file(error: BaseException) -> str:
    """Return the name of the file that a refusal is about; empty where none is given."""
    if isinstance(error, OSError) and error.filename:
        return os.fsdecode(error.filename)
    named = (pattern.search(str(error)) for pattern in _FILES)
    return next((found.group(1) for found in named if found), "")


def leave(code: int) -> None:
    """End the process with a code; at once where a disk refused, since tables cannot be closed."""
    if _kept:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # the disk that refused may be where the output goes
                code = code or 1
        os._exit(code)
    sys.exit(code)
