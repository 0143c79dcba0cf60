"""Archives are unpacked whole or refused whole; a hostile one writes nothing anywhere."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.archives import archive_members, extract_safely
from libs.core.errors import InputError

Build = Callable[[tarfile.TarFile], None]


def make(path: Path, *builds: Build) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for build in builds:
            build(tar)
    return path


def regular(name: str, content: bytes = b"content") -> Build:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        info.mode = 0o4777
        tar.addfile(info, io.BytesIO(content))

    return add


def special(name: str, kind: bytes, target: str = "") -> Build:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)

    return add


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_files_and_folders_come_out_as_they_went_in(tmp_path: Path) -> None:
    archive = make(
        tmp_path / "a.tgz", regular("./t.tbl/table.dat", b"1"), regular("mask/x", b"22"),
        special("empty", tarfile.DIRTYPE),
    )  # fmt: skip
    out = tmp_path / "out"
    written = extract_safely(archive, out)
    assert written == (out / "t.tbl/table.dat", out / "mask/x")
    assert [path.read_bytes() for path in written] == [b"1", b"22"]
    assert (out / "empty").is_dir()
    assert not (out / "mask/x").stat().st_mode & 0o4000, "permissions of the archive are not kept"
    assert not list(out.glob(".unpacking*"))
    assert archive_members(archive) == ("./t.tbl/table.dat", "mask/x", "empty")


def test_only_wanted_members_are_written_but_all_are_checked(tmp_path: Path) -> None:
    good = make(tmp_path / "a.tgz", regular("a.tbl/x"), regular("b.image/x"))
    written = extract_safely(good, tmp_path / "out", wanted=lambda name: name.startswith("a.tbl"))
    assert written == (tmp_path / "out/a.tbl/x",)
    bad = make(tmp_path / "b.tgz", regular("a.tbl/x"), regular("../evil"))
    with pytest.raises(InputError, match="leads out"):
        extract_safely(bad, tmp_path / "two", wanted=lambda name: name.startswith("a.tbl"))


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        (regular("../evil"), "leads out of the folder"),
        (regular("a/../../evil"), "leads out of the folder"),
        (regular("/etc/evil"), "absolute name"),
        (regular("C:\\evil"), "absolute name"),
        (special("link", tarfile.SYMTYPE, "/etc/passwd"), "is a link to '/etc/passwd'"),
        (special("hard", tarfile.LNKTYPE, "good"), "is a link to 'good'"),
        (special("device", tarfile.CHRTYPE), "neither a file nor a folder"),
        (special("pipe", tarfile.FIFOTYPE), "neither a file nor a folder"),
        (regular("good"), "two members are named 'good'"),
        (regular("./GOOD"), "two members are named 'GOOD'"),
        (regular("good/inside"), "both a file and a folder"),
        (special("good", tarfile.DIRTYPE), "both a file and a folder"),
        (regular("bad\nname"), "control characters"),
    ],
)
def test_hostile_archives_are_refused_whole(tmp_path: Path, build: Build, cause: str) -> None:
    archive = make(tmp_path / "a.tgz", regular("good"), build)
    before = everything_below(tmp_path)
    with pytest.raises(InputError) as caught:
        extract_safely(archive, tmp_path / "out")
    assert cause in str(caught.value)
    assert everything_below(tmp_path) == before, "nothing was written"


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tgz", regular("../one"), special("two", tarfile.SYMTYPE, "/x"))
    with pytest.raises(InputError) as caught:
        extract_safely(archive, tmp_path / "out")
    assert "'../one'" in str(caught.value)
    assert "'two'" in str(caught.value)


def test_limits_of_size_and_number_hold(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tgz", regular("a", b"0" * 1000), regular("b", b"0" * 1000))
    with pytest.raises(InputError, match="2000 bytes, more than 1999"):
        extract_safely(archive, tmp_path / "out", most_bytes=1999)
    with pytest.raises(InputError, match="2 members, more than 1"):
        extract_safely(archive, tmp_path / "out", most_members=1)
    assert len(extract_safely(archive, tmp_path / "out", most_bytes=2000, most_members=2)) == 2


def test_files_of_the_user_are_never_replaced(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tgz", regular("new"), regular("mine"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        extract_safely(archive, out)
    assert (out / "mine").read_text() == "kept"
    assert not (out / "new").exists()


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a link leads there"):
        extract_safely(make(tmp_path / "a.tgz", regular("sub/evil")), out)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("keep", [10, 0.5, 0.9])
def test_a_damaged_archive_is_an_error_and_leaves_nothing(tmp_path: Path, keep: float) -> None:
    content = bytes(range(256)) * 4000
    archive = make(tmp_path / "a.tgz", regular("a", content), regular("b", content[::-1]))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    with pytest.raises(InputError, match="again"):
        extract_safely(archive, tmp_path / "out")
    assert everything_below(tmp_path) <= {"a.tgz", "out"}


_PARTS = st.sampled_from(["..", ".", "", "a", "b", "A", "etc", "\\", "x\x01", "c:"])


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.lists(_PARTS, min_size=1, max_size=4).map("/".join), max_size=4))
def test_whatever_the_names_nothing_is_written_outside(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    base = tmp_path_factory.mktemp("any")
    archive = make(base / "a.tgz", *(regular(name) for name in names))
    out = base / "in" / "out"
    out.mkdir(parents=True)
    try:
        written = extract_safely(archive, out)
    except InputError:
        written = ()
    assert everything_below(base) - everything_below(base / "in") >= {"a.tgz", "in"}
    outside = {p for p in base.rglob("*") if p.is_file() and out not in p.parents}
    assert outside == {archive}
    assert {p for p in out.rglob("*") if p.is_file()} == set(written)
