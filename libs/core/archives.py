"""Archives from elsewhere, unpacked without letting them write outside one folder.

Everything is checked before the first file is written: an archive is unpacked whole or refused
whole, with all that is wrong with it in one message.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from libs.core.errors import InputError

__all__ = ["archive_members", "extract_safely"]

# Limits where the caller gives none: far above what tables of solutions, masks and models take.
_MOST_BYTES = 50 * 1024**3
_MOST_MEMBERS = 200_000

_MOST_FAULTS_SHOWN = 10
_REMEDY = "use the archive as its maker published it"


def archive_members(archive: Path) -> tuple[str, ...]:
    """Return the names of the files and folders in a tar archive, in its order.

    Raises
    ------
    InputError
        The archive cannot be read.
    """
    with _opened(archive) as tar:
        return tuple(member.name for member in _read_members(tar, archive))


def extract_safely(
    archive: Path,
    folder: Path,
    *,
    wanted: Callable[[str], bool] | None = None,
    most_bytes: int = _MOST_BYTES,
    most_members: int = _MOST_MEMBERS,
) -> tuple[Path, ...]:
    """Unpack a tar archive into a folder, if every member of it is harmless.

    Members are regular files and folders with relative names that stay in the folder. Links,
    devices, absolute names, names with ``..``, two members of one name, a file where another
    member needs a folder, and files that exist already in the folder are refused, and so is an
    archive above the limits. Owners, permissions and times in the archive are not taken over.

    Parameters
    ----------
    archive : Path
        Tar archive, compressed or not.
    folder : Path
        Folder to unpack into; created when missing. Files in it are never replaced.
    wanted : callable, optional
        Function of a member's name that tells whether it is unpacked; default: all are. The
        other members are checked all the same.
    most_bytes : int
        Largest sum of the members' sizes, bytes.
    most_members : int
        Largest number of members.

    Returns
    -------
    tuple of Path
        Files written, in the order of the archive.

    Raises
    ------
    InputError
        The archive cannot be read, or something in it is refused; nothing was written then.
    """
    with _opened(archive) as tar:
        members = _read_members(tar, archive)
        faults = _faults(members, folder, most_bytes, most_members)
        if faults:
            raise InputError(f"{archive} is not unpacked: {_listed(faults)}", _REMEDY)
        chosen = [m for m in members if wanted is None or wanted(_plain_name(m.name))]
        folder.mkdir(parents=True, exist_ok=True)
        return _unpack(tar, archive, chosen, folder)


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        tar = tarfile.open(archive)  # noqa: SIM115  (closed below)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(
            f"{archive} cannot be read as a tar archive ({error})", "fetch the archive again"
        ) from error
    with tar:
        yield tar


def _read_members(tar: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    """Return all members; a cut or damaged archive is an error."""
    # zlib and lzma have errors of their own that are no OSError
    import lzma
    import zlib

    try:
        return tar.getmembers()
    except (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{archive} is damaged ({error})", "fetch the archive again") from error


def _plain_name(name: str) -> str:
    """Return a member's name without leading or repeated ``./``, as it is compared."""
    return str(PurePosixPath(name))


def _faults(
    members: Sequence[tarfile.TarInfo], folder: Path, most_bytes: int, most_members: int
) -> list[str]:
    """Return everything for which an archive is refused, in words."""
    faults = []
    if len(members) > most_members:
        faults.append(f"it has {len(members)} members, more than {most_members}")
    size = sum(member.size for member in members)
    if size > most_bytes:
        faults.append(f"it unpacks to {size} bytes, more than {most_bytes}")
    root = folder.resolve()
    files: dict[str, str] = {}
    folders: set[str] = set()
    for member in members:
        fault = _fault_of(member)
        name = _plain_name(member.name)
        if fault is None and member.isfile():
            key = name.casefold()  # file systems exist that know no capitals
            if key in files:
                fault = f"two members are named {name!r}"
            elif _is_taken(root, name):
                fault = f"{name!r} exists already in {folder}, or a link leads there"
            files[key] = name
        if fault is not None:
            faults.append(fault)
            continue
        parents = PurePosixPath(name).parents if member.isfile() else (PurePosixPath(name),)
        folders |= {str(parent).casefold() for parent in parents}
        if member.isdir():
            folders |= {str(p).casefold() for p in PurePosixPath(name).parents}
    faults += [f"{files[key]!r} is both a file and a folder" for key in files if key in folders]
    return list(dict.fromkeys(faults))


def _fault_of(member: tarfile.TarInfo) -> str | None:
    """Return why one member is refused by itself, or None."""
    name = member.name
    path = PurePosixPath(name)
    if member.issym() or member.islnk():
        return f"{name!r} is a link to {member.linkname!r}"
    if not (member.isfile() or member.isdir()):
        return f"{name!r} is neither a file nor a folder"
    if path.is_absolute() or "\\" in name or (path.parts and ":" in path.parts[0]):
        return f"{name!r} is an absolute name or one of another system"
    if ".." in path.parts:
        return f"{name!r} leads out of the folder"
    if member.isfile() and not path.parts:
        return "a file in it has no name"
    if any(ord(letter) < 32 for letter in name):
        return f"{name!r} has control characters"
    return None


def _is_taken(root: Path, name: str) -> bool:
    """Return whether a file stands in the way, or a link inside the folder leads elsewhere."""
    target = root / name
    if target.exists() or target.is_symlink():
        return True
    step = root
    for part in PurePosixPath(name).parts[:-1]:
        step = step / part
        if step.is_symlink() or step.is_file():
            return True
    return False


def _listed(faults: Sequence[str]) -> str:
    """Return the faults in one line, the first ones in full."""
    shown = "; ".join(faults[:_MOST_FAULTS_SHOWN])
    more = len(faults) - _MOST_FAULTS_SHOWN
    return shown + (f"; and {more} more" if more > 0 else "")


def _unpack(
    tar: tarfile.TarFile, archive: Path, members: Sequence[tarfile.TarInfo], folder: Path
) -> tuple[Path, ...]:
    """Write checked members beside their places, then rename them: all or none are there."""
    import lzma
    import zlib

    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as beside:
        try:
            for member in members:
                _write_member(tar, member, Path(beside) / _plain_name(member.name))
        except (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise InputError(
                f"{archive} could not be unpacked into {folder} ({error})",
                "look at the free space of the disk, or fetch the archive again",
            ) from error
        written = []
        for member in members:
            name = _plain_name(member.name)
            target = folder / name
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            (Path(beside) / name).rename(target)
            written.append(target)
    return tuple(written)


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Write the content of one member to a new file."""
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is None:
        raise tarfile.TarError(f"{member.name!r} has no content")
    with source, path.open("xb") as stream:
        shutil.copyfileobj(source, stream)
    if path.stat().st_size != member.size:
        raise tarfile.TarError(f"{member.name!r} is cut short")
