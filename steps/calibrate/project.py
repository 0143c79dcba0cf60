"""A project's folder as the ATA writes it: sessions, in each scans, in each parts of the band.

``PROJECT/2024-12-12-22:22:01/uvh5_60656_80521_x_3c286_0001/LoB.C0928/*.uvh5``: a folder within a
session is a scan, and the folders C#### in it are the parts of one local oscillator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from libs.core.errors import InputError

__all__ = ["ScanFolder", "SessionFolder", "read_project"]

_PART = re.compile(r"Lo([A-Za-z])\.C\d+")
_TEXT = (".txt", ".log", ".json", ".yaml", ".yml", ".cfg", ".ini", ".csv", ".md", ".obs")


@dataclass(frozen=True)
class ScanFolder:
    """A scan.

    Attributes
    ----------
    name : str
    parts : dict of str to tuple of Path
        uvh5 files by the letter of their local oscillator, small.
    texts : tuple of Path
        Text files beside them.
    strange : tuple of Path
        Files that are neither.
    """

    name: str
    parts: dict[str, tuple[Path, ...]]
    texts: tuple[Path, ...]
    strange: tuple[Path, ...]


@dataclass(frozen=True)
class SessionFolder:
    """A session with its scans, in the order of their names."""

    name: str
    path: Path
    scans: tuple[ScanFolder, ...]


def read_project(project: Path, pattern: str = "*") -> list[SessionFolder]:
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
        The folder does not exist, or no session matches.
    """
    if not project.is_dir():
        raise InputError(f"the project {project} is no folder", "correct project")
    folders = sorted(path for path in project.iterdir() if path.is_dir())
    sessions = []
    for folder in folders:
        if not fnmatchcase(folder.name, pattern):
            continue
        scans = [_scan(path) for path in sorted(folder.iterdir()) if path.is_dir()]
        with_data = tuple(scan for scan in scans if scan.parts)
        if with_data:
            sessions.append(SessionFolder(folder.name, folder, with_data))
    if not sessions:
        there = ", ".join(path.name for path in folders[:10]) or "no folder at all"
        raise InputError(
            f"no session of {project} matches {pattern!r} and holds uvh5 files",
            f"there are {there}",
        )
    return sessions


def _scan(folder: Path) -> ScanFolder:
    parts: dict[str, list[Path]] = {}
    texts, strange = [], []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        place = next((_PART.fullmatch(name) for name in path.relative_to(folder).parts[:-1]), None)
        if path.suffix == ".uvh5" and place:
            parts.setdefault(place[1].lower(), []).append(path)
        elif path.suffix.lower() in _TEXT:
            texts.append(path)
        else:
            strange.append(path)
    return ScanFolder(
        folder.name, {key: tuple(paths) for key, paths in sorted(parts.items())},
        tuple(texts), tuple(strange),
    )  # fmt: skip
