"""Bundles: the same content the same archive; damaged or hostile ones are refused whole."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import ConfigError
from libs.record.bundle import MANIFEST, opened_bundle, table_sha256, write_bundle
from libs.record.schema import RunRecord, record_name, store_record
from tests.archives import unpacked
from tests.libs.record.records import record

TABLE = "products/a.tbl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with a record of one table."""
    folder = tmp_path / "work"
    table = folder / TABLE
    (table / "ANTENNA").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name in ("table.dat", "table.f0", "ANTENNA/table.dat"):
        (table / name).write_bytes(rng.bytes(3000))
    (table / "table.lock").write_bytes(b"held")
    store_record(folder / record_name("oussid"), made(folder))
    return folder


def made(folder: Path) -> RunRecord:
    plain = record()
    entry = replace(plain.targets[0].applied[0], sha256=table_sha256(folder / TABLE))
    return replace(plain, targets=(replace(plain.targets[0], applied=(entry,)),))


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "x.tgz", folder, made(folder))


def read(path: Path) -> RunRecord:
    with opened_bundle(path) as bundle:
        assert table_sha256(bundle.folder / TABLE) == bundle.record.applied[0].sha256
        return bundle.record


def test_a_bundle_holds_the_record_and_its_tables(folder: Path, archive: Path) -> None:
    assert read(archive) == made(folder)
    with tarfile.open(archive) as tar:
        names = {Path(name).relative_to("oussid.selfcal").as_posix() for name in tar.getnames()}
    files = {"table.dat", "table.f0", "ANTENNA/table.dat"}
    assert names == {MANIFEST, record_name("oussid"), *(f"{TABLE}/{name}" for name in files)}


def test_the_same_content_makes_the_same_archive(folder: Path, archive: Path) -> None:
    (folder / TABLE / "table.lock").write_bytes(b"read since")
    again = write_bundle(archive.with_name("y.tgz"), folder, made(folder))
    assert again.read_bytes() == archive.read_bytes()


def test_an_unpacked_bundle_is_one(archive: Path, tmp_path: Path) -> None:
    unpacked(archive, tmp_path / "open")
    read(tmp_path / "open")
    (tmp_path / "open/oussid.selfcal" / TABLE / "table.lock").touch()  # as casacore does
    read(tmp_path / "open/oussid.selfcal")


def test_a_changed_table_is_not_bundled(folder: Path, tmp_path: Path) -> None:
    wanted = made(folder)
    (folder / TABLE / "table.f0").write_bytes(b"other")
    with pytest.raises(ConfigError, match="was changed: its hash differs"):
        write_bundle(tmp_path / "x.tgz", folder, wanted)
    (folder / TABLE / "table.dat").unlink()
    with pytest.raises(ConfigError, match=r"the table products/a\.tbl is missing"):
        write_bundle(tmp_path / "x.tgz", folder, wanted)
    assert not (tmp_path / "x.tgz").exists()


def test_every_flipped_byte_is_found(archive: Path, tmp_path: Path) -> None:
    """But for those of gzip's heading that say when and where it was packed."""
    content = archive.read_bytes()
    for place in [0, 2, *range(10, len(content), 97), len(content) - 1]:
        spoilt = bytearray(content)
        spoilt[place] ^= 0x10
        (tmp_path / "bad.tgz").write_bytes(spoilt)
        with pytest.raises(ConfigError):
            read(tmp_path / "bad.tgz")
    (tmp_path / "bad.tgz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError):
        read(tmp_path / "bad.tgz")


def repacked(
    archive: Path, change: Callable[[dict[str, bytes]], None], *more: tarfile.TarInfo
) -> Path:
    """Pack the members again, some changed, so that the archive itself is whole."""
    with tarfile.open(archive) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    change(files)
    path = archive.with_name("changed.tgz")
    with gzip.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


TOP = "oussid.selfcal"


def flip(files: dict[str, bytes]) -> None:
    name = f"{TOP}/{TABLE}/table.f0"
    files[name] = bytes([files[name][0] ^ 1]) + files[name][1:]


def lose(files: dict[str, bytes]) -> None:
    del files[f"{TOP}/{TABLE}/table.dat"]


def add(files: dict[str, bytes]) -> None:
    files[f"{TOP}/more.py"] = b"import os"


def no_manifest(files: dict[str, bytes]) -> None:
    del files[f"{TOP}/{MANIFEST}"]


def bad_manifest(files: dict[str, bytes]) -> None:
    files[f"{TOP}/{MANIFEST}"] = b"\xff\xfe\n"


def two_records(files: dict[str, bytes]) -> None:
    files[f"{TOP}/b.selfcal.json"] = b"{}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip, "table.f0 was changed"),
        (lose, "table.dat is missing"),
        (add, "more.py is not in the manifest"),
        (no_manifest, f"no file {MANIFEST}"),
        (bad_manifest, f"line 1 of {MANIFEST} cannot be read"),
        (two_records, "2 records in place of one"),
    ],
)
def test_changed_members_are_found(
    archive: Path, change: Callable[[dict[str, bytes]], None], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read(repacked(archive, change))


def hostile(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    member.size = 1 if kind == tarfile.REGTYPE else 0
    return member


@pytest.mark.parametrize(
    "member",
    [
        hostile("../escaped"),
        hostile(f"{TOP}/../../escaped"),
        hostile("/tmp/escaped"),
        hostile(f"{TOP}/link", tarfile.SYMTYPE, "/etc"),
        hostile(f"{TOP}/hard", tarfile.LNKTYPE, f"{TOP}/{MANIFEST}"),
        hostile(f"{TOP}/device", tarfile.CHRTYPE),
        hostile(f"{TOP}/disk", tarfile.BLKTYPE),
        hostile(f"{TOP}/pipe", tarfile.FIFOTYPE),
        hostile(f"{TOP}/{MANIFEST}"),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}",
)
def test_hostile_members_are_refused_and_nothing_is_unpacked(
    archive: Path, member: tarfile.TarInfo, tmp_path: Path
) -> None:
    path = repacked(archive, lambda files: None, member)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ConfigError), opened_bundle(path, tmp_path):
        pass
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/tmp/escaped").exists()


def test_a_file_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_text("nothing")
    for name in ("x.tgz", "none.tgz"):
        with pytest.raises(ConfigError):
            read(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="is no bundle"):
        read(tmp_path / "empty")
