"""A project's folder as the ATA writes it: sessions, in each scans, in each parts of the band.

``PROJECT/2024-12-12-22:22:01/uvh5_60656_80521_x_3c286_0001/LoB.C0928/*.uvh5``: a folder within a
session is a scan, and the folders C#### in it are the parts of one local oscillator. Everything
else that lies there is either a text, which is copied along, or left out with a reason.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from libs.core.errors import InputError

__all__ = ["LeftOut", "Project", "ScanFolder", "SessionFolder", "read_project"]

_PART = re.compile(r"Lo([A-Za-z])\.C\d+")
_TEXT = (".txt", ".log", ".json", ".yaml", ".yml", ".cfg", ".ini", ".csv", ".md", ".obs")
_TABLE = "it is a measurement set or another table: name it in vis"
_LOOP = "it is a link to a folder that it is in"


@dataclass(frozen=True)
class LeftOut:
    """A file or folder of a project that is not ingested, and why.

    Attributes
    ----------
    path : Path
        A folder stands for all that is in it.
    why : str
    """

    path: Path
    why: str


@dataclass(frozen=True)
class ScanFolder:
    """A scan.

    Attributes
    ----------
    name : str
    path : Path
    parts : dict of str to tuple of Path
        uvh5 files by the letter of their local oscillator, small.
    texts : tuple of Path
        Text files beside them.
    """

    name: str
    path: Path
    parts: dict[str, tuple[Path, ...]]
    texts: tuple[Path, ...]


@dataclass(frozen=True)
class SessionFolder:
    """A session with its scans, in the order of their names."""

    name: str
    path: Path
    scans: tuple[ScanFolder, ...]


@dataclass(frozen=True)
class Project:
    """What a project's folder holds.

    Attributes
    ----------
    sessions : tuple of SessionFolder
        Those that match and hold uvh5 files.
    left_out : tuple of LeftOut
        What matches or lies beside them, and is neither a part of a scan nor a text of one.
    """

    sessions: tuple[SessionFolder, ...]
    left_out: tuple[LeftOut, ...]


def read_project(project: Path, pattern: str = "*") -> Project:
    """Find the sessions of a project.

    Parameters
    ----------
    project : Path
        Folder, only read.
    pattern : str
        Names of the sessions to take, with ``*`` and ``?``.

    Raises
    ------
    InputError
        The folder does not exist or cannot be read, or no session matches.
    """
    if not _is_folder(project):
        raise InputError(f"the project {project} is no folder", "correct project")
    left: list[LeftOut] = []
    folders = []
    for path in _entries(project, left):
        if _is_folder(path):
            folders.append(path)
        else:
            left.append(LeftOut(path, _why_no_folder(path, "session")))
    unreadable = next((one for one in left if one.path == project), None)
    if unreadable:
        raise InputError(
            f"the project {project} is not read: {unreadable.why}", "change its permissions"
        )
    sessions = []
    for folder in folders:
        if fnmatchcase(folder.name, pattern):
            session = _session(folder, left, project.resolve())
            if session.scans:
                sessions.append(session)
    if not sessions:
        there = ", ".join(path.name for path in folders[:10]) or "no folder at all"
        raise InputError(
            f"no session of {project} matches {pattern!r} and holds uvh5 files",
            f"there are {there}",
        )
    return Project(tuple(sessions), tuple(left))


def _session(folder: Path, left: list[LeftOut], project: Path) -> SessionFolder:
    scans = []
    above = (project, folder.resolve())
    if above[1] == project:
        left.append(LeftOut(folder, _LOOP))
        return SessionFolder(folder.name, folder, ())
    entries = _entries(folder, left)
    if any(path.name == "table.dat" for path in entries):
        left.append(LeftOut(folder, _TABLE))
        return SessionFolder(folder.name, folder, ())
    for path in entries:
        if _is_folder(path):
            scan = _scan(path, left, above)
            if scan.parts:
                scans.append(scan)
            # where nothing is ingested no text is copied either
            left += [LeftOut(text, "no uvh5 file is in its scan") for text in scan.texts
                     if not scan.parts]  # fmt: skip
        else:
            left.append(LeftOut(path, _why_no_folder(path, "scan")))
    return SessionFolder(folder.name, folder, tuple(scans))


def _scan(folder: Path, left: list[LeftOut], above: tuple[Path, ...]) -> ScanFolder:
    parts: dict[str, list[Path]] = {}
    texts = []
    for path in _files(folder, left, above):
        place = next((_PART.fullmatch(name) for name in path.relative_to(folder).parts[:-1]
                      if _PART.fullmatch(name)), None)  # fmt: skip
        if path.suffix == ".uvh5" and place:
            parts.setdefault(place[1].lower(), []).append(path)
        elif path.suffix == ".uvh5":
            left.append(LeftOut(path, "it is in no folder of a tuning, such as LoB.C0352"))
        elif path.suffix.lower() in _TEXT:
            texts.append(path)
        else:
            left.append(LeftOut(path, "it is neither uvh5 nor text"))
    return ScanFolder(
        folder.name, folder, {key: tuple(paths) for key, paths in sorted(parts.items())},
        tuple(texts),
    )  # fmt: skip


def _files(folder: Path, left: list[LeftOut], above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, through links; others are left out."""
    real = folder.resolve()
    if real in above:
        left.append(LeftOut(folder, _LOOP))
        return
    entries = _entries(folder, left)
    if any(path.name == "table.dat" for path in entries):
        left.append(LeftOut(folder, _TABLE))
        return
    for path in entries:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            left.append(LeftOut(path, _why_not(path, error)))
            continue
        if stat.S_ISDIR(mode):
            yield from _files(path, left, (*above, real))
        elif not stat.S_ISREG(mode):
            left.append(LeftOut(path, "it is neither a file nor a folder"))
        elif not os.access(path, os.R_OK):
            left.append(LeftOut(path, "it may not be read: change its permissions"))
        else:
            yield path


def _is_folder(path: Path) -> bool:
    """Whether there is a folder, or a link to one; False where that cannot be found out."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _entries(folder: Path, left: list[LeftOut]) -> list[Path]:
    """Return what is in a folder; none, and a reason, where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        left.append(LeftOut(folder, _why_not(folder, error)))
        return []


def _why_not(path: Path, error: OSError) -> str:
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        return f"it is a link to nothing ({path.readlink()})"
    return f"it cannot be read ({error.strerror})"


def _why_no_folder(path: Path, kind: str) -> str:
    try:
        path.stat()
    except OSError as error:
        return _why_not(path, error)
    return f"it is no folder of a {kind}"
