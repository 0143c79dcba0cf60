"""Bundles of a record: one archive with the record, its gain tables and a manifest, no data.

The manifest has the form of the program ``sha256sum``: ``sha256sum -c MANIFEST.sha256`` checks an
unpacked bundle without this program.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from libs.core.archives import extract_safely
from libs.core.errors import ConfigError, InputError
from libs.core.files import replacing
from libs.record.schema import RunRecord, load_record, record_name

__all__ = ["MANIFEST", "Bundle", "opened_bundle", "record_faults", "table_sha256", "write_bundle"]

MANIFEST = "MANIFEST.sha256"
_RECORDS = "*.selfcal.json"
# casacore writes it whenever a table is opened; it holds no data
_LOCK = "table.lock"
_REMEDY = "fetch the bundle again, or make it anew from the run"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was unpacked and checked.

    Attributes
    ----------
    folder : Path
        Folder with its files.
    record : RunRecord
        The record; its paths are relative to the folder.
    """

    folder: Path
    record: RunRecord


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder that count, sorted by name."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != _LOCK)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def table_sha256(table: Path) -> str:
    """Return the SHA-256 over the names and contents of a table's files, but for its lock."""
    lines = [f"{_sha256(path)}  {path.relative_to(table).as_posix()}\n" for path in _files(table)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def record_faults(record: RunRecord, folder: Path) -> list[str]:
    """Return the files of a record that are missing or not those it was written with."""
    contfile = record.contfile
    faults = [f"{contfile} is missing"] if contfile and not (folder / contfile).is_file() else []
    for entry in {each.table: each for each in record.applied}.values():
        path = folder / entry.table
        if not (path / "table.dat").is_file():
            faults.append(f"the table {entry.table} is missing")
        elif table_sha256(path) != entry.sha256:
            faults.append(f"the table {entry.table} was changed: its hash differs")
    return faults


# -- writing ---------------------------------------------------------------------------------------


def write_bundle(path: Path, folder: Path, record: RunRecord) -> Path:
    """Write a record and the files it names as one compressed archive.

    The same content makes the same archive, byte for byte.

    Parameters
    ----------
    path : Path
        Archive; an older one is replaced when the new one is complete.
    folder : Path
        Folder of the record and its tables.
    record : RunRecord

    Raises
    ------
    ConfigError
        A table is missing or was changed since the record was written.
    """
    faults = record_faults(record, folder)
    if faults:
        raise ConfigError(f"{folder} is not bundled: {'; '.join(faults)}", "run it again")
    files = {record_name(record.prefix): folder / record_name(record.prefix)}
    if record.contfile:
        files[record.contfile] = folder / record.contfile
    for table in dict.fromkeys(entry.table for entry in record.applied):
        for source in _files(folder / table):
            files[source.relative_to(folder).as_posix()] = source
    manifest = "".join(f"{_sha256(source)}  {name}\n" for name, source in sorted(files.items()))
    top = f"{record.prefix}.selfcal"
    with (
        replacing(path) as beside,
        beside.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        _add(archive, f"{top}/{MANIFEST}", manifest.encode())
        for name, source in sorted(files.items()):
            _add_file(archive, f"{top}/{name}", source)
    return path


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Return the heading of a member without owner and time, which vary."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_member(name, len(content)), io.BytesIO(content))


def _add_file(archive: tarfile.TarFile, name: str, source: Path) -> None:
    with source.open("rb") as stream:
        archive.addfile(_member(name, source.stat().st_size), stream)


# -- reading ---------------------------------------------------------------------------------------


@contextmanager
def opened_bundle(path: Path, scratch: Path | None = None) -> Iterator[Bundle]:
    """Unpack a bundle to a temporary folder and check all of it.

    Parameters
    ----------
    path : Path
        Archive, or the folder of one that was unpacked.
    scratch : Path, optional
        Folder in which the temporary one is made; default: the system's.

    Raises
    ------
    ConfigError
        The archive is hostile or damaged, a file is missing, additional or changed, or the record
        is not valid; all that is found is listed.
    """
    if path.is_dir():
        yield _checked(path, path)
        return
    if not path.is_file():
        raise ConfigError(f"{path} does not exist", "name a bundle (X.selfcal.tgz)")
    with TemporaryDirectory(dir=scratch, prefix=".bundle-") as folder:
        try:
            _check_whole(path)
            extract_safely(path, Path(folder))
        except InputError as error:
            raise ConfigError(error.cause, _REMEDY) from error
        yield _checked(Path(folder), path)


def _check_whole(path: Path) -> None:
    """Read a compressed archive to its end, where its checksum is: tarfile stops before.

    Raises
    ------
    InputError
        It is damaged.
    """
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            return
    try:
        with gzip.open(path) as packed:
            while packed.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error})", _REMEDY) from error


def _checked(folder: Path, path: Path) -> Bundle:
    """Check an unpacked bundle against its manifest and its record."""
    manifests = sorted(folder.rglob(MANIFEST))
    if len(manifests) != 1:
        many = f"{len(manifests)} files" if manifests else "no file"
        raise ConfigError(f"{path} is no bundle: it has {many} {MANIFEST}", "name a bundle")
    top = manifests[0].parent
    faults = _manifest_faults(top)
    records = sorted(top.glob(_RECORDS))
    if len(records) != 1:
        faults.append(f"{len(records)} records in place of one")
    if not faults:
        record = load_record(records[0])
        faults = record_faults(record, top)
        if not faults:
            return Bundle(top, record)
    raise ConfigError(f"{path} is refused: {'; '.join(faults)}", _REMEDY)


def _manifest_faults(top: Path) -> list[str]:
    """Return what is missing, additional or changed."""
    listed: dict[str, str] = {}
    for number, line in enumerate((top / MANIFEST).read_bytes().splitlines(), start=1):
        digest, separator, name = line.decode("utf-8", "replace").partition("  ")
        if not separator or len(digest) != 64 or name in listed:
            return [f"line {number} of {MANIFEST} cannot be read"]
        listed[name] = digest
    there = {path.relative_to(top).as_posix(): path for path in _files(top)}
    there.pop(MANIFEST)
    faults = [f"{name} is missing" for name in listed if name not in there]
    faults += [f"{name} is not in the manifest" for name in there if name not in listed]
    faults += [
        f"{name} was changed"
        for name, path in there.items()
        if name in listed and _sha256(path) != listed[name]
    ]
    return sorted(faults)
