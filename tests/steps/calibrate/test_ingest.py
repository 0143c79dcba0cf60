"""Projects of uvh5 files: what is new is ingested, what is broken is told."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import InputError
from libs.ms.subtables import Subtables
from steps.calibrate import ingest
from steps.calibrate.project import read_project
from tests.libs.uvh5_files import simulated_ms, write_uvh5
from tests.steps.calibrate.sessions import calibrate

SESSION, SCAN = "2024-12-12-22:22:01", "uvh5_60647_62965_9760406_3c286_0001"


def make_tree(root: Path, data: Path, part: str = "LoB.C{}") -> Path:
    """A project of one session of one scan, in the layout of the ATA."""
    scan = root / "p002" / SESSION / SCAN
    for path in sorted(data.glob("*.uvh5")):
        number = path.name.split(".C")[1][:4]
        folder = scan / part.format(number)
        folder.mkdir(parents=True)
        shutil.copy(path, folder / path.name)
    (scan / "observation.txt").write_text("weather: fine\n")
    return root / "p002"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "project.yaml"
    path.write_text(f"project: {tmp_path / 'p002'}\nworkdir: {tmp_path / 'work'}\n")
    return path


def empty_tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / "p002" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return root / "p002"


def test_the_layout_is_read(tmp_path: Path) -> None:
    one, two = f"{SESSION}/uvh5_1_2_x_a_0001", "2024-12-13-01:00:00/uvh5_3_4_x_b_0001"
    project = empty_tree(
        tmp_path, f"{one}/LoB.C0352/a.uvh5", f"{one}/LoB.C0544/b.uvh5", f"{one}/LoC.C0352/c.uvh5",
        f"{one}/notes.txt", f"{one}/LoB.C0352/half.uvh5.tmp", f"{two}/LoB.C0352/a.uvh5",
        "2024-12-14-01:00:00/readme.txt",
    )  # fmt: skip
    found = read_project(project)
    sessions = found.sessions
    assert [session.name for session in sessions] == [SESSION, "2024-12-13-01:00:00"]
    (scan,) = sessions[0].scans
    assert {key: [p.name for p in paths] for key, paths in scan.parts.items()} == {
        "b": ["a.uvh5", "b.uvh5"], "c": ["c.uvh5"],
    }  # fmt: skip
    assert [path.name for path in scan.texts] == ["notes.txt"]
    left = {str(one.path.relative_to(project)): one.why for one in found.left_out}
    assert left == {
        f"{one}/LoB.C0352/half.uvh5.tmp": "it is neither uvh5 nor text",
        "2024-12-14-01:00:00/readme.txt": "it is no folder of a scan",
    }
    assert len(read_project(project, "*-12-13-*").sessions) == 1
    with pytest.raises(InputError, match="and holds uvh5 files: there are"):
        read_project(project, "2023-10-*")
    with pytest.raises(InputError, match="is no folder"):
        read_project(tmp_path / "nothing")


def test_a_second_call_does_nothing(
    tmp_path: Path, shared_data: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two tunings of the ATA: corrupt values are told by antenna, the source is unchanged."""
    pytest.importorskip("pyuvdata")
    project = make_tree(tmp_path, shared_data / "ata")
    words = ("--until=ingest_scans", "--set", "flagger=none")
    before = {p: p.stat().st_mtime_ns for p in project.rglob("*")}
    assert calibrate(config, *words) == 0
    assert {p: p.stat().st_mtime_ns for p in project.rglob("*")} == before
    folder = tmp_path / "work" / SESSION / f"{SCAN}_measure_sets"
    made = folder / f"{SCAN}_b_averaged.ms"
    assert len(Subtables(made).windows) == 2
    assert (folder / "observation.txt").read_text() == "weather: fine\n"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [made.name]
    notes = json.loads((folder / "ingested.json").read_text())["b"]["notes"]
    assert any("absurdly large (28 antennas, most of 1e" in note for note in notes)
    stamp = made.stat().st_mtime_ns
    record = (tmp_path / "work" / "steps.csv").read_text()
    assert calibrate(config, *words) == 0
    assert made.stat().st_mtime_ns == stamp
    assert (tmp_path / "work" / "steps.csv").read_text() == record
    # a folder that a killed start left is no finished scan
    shutil.rmtree(made / "ANTENNA")
    (made / "table.dat").unlink()
    assert calibrate(config, *words, "--restart") == 0
    assert len(Subtables(made).windows) == 2


def test_broken_scans_are_told_and_the_others_go_on(
    tmp_path: Path, shared_data: Path, config: Path
) -> None:
    pytest.importorskip("pyuvdata")
    project = make_tree(tmp_path, shared_data / "ata")
    good = next(project.rglob("*C0352*.uvh5"))
    cut = project / SESSION / "uvh5_60647_70000_x_3c286_0001" / "LoB.C0352" / good.name
    cut.parent.mkdir(parents=True)
    cut.write_bytes(good.read_bytes()[:100000])
    foreign = project / "2024-12-13-00:00:00" / "uvh5_1_2_x_a_0001" / "LoC.C0352" / "a.uvh5"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("no data at all")
    assert calibrate(config, "--until=ingest_scans", "--set", "flagger=none") == 0
    text = (tmp_path / "work" / "steps.csv").read_text()
    assert "1 new, 0 there already, 2 broken" in text
    assert "uvh5_60647_70000_x_3c286_0001 b" in text and "2024-12-13-00:00:00" in text
    # copied anew it is taken, the others are not done again
    cut.write_bytes(good.read_bytes())
    assert calibrate(config, "--until=ingest_scans", "--set", "flagger=none") == 0
    text = (tmp_path / "work" / "steps.csv").read_text()
    assert "1 new, 1 there already, 1 broken" in text


# what may lie in a project: how it is made, and how it must be reported
LETTERS = st.sampled_from(["B", "C"])
PLACES = st.one_of(
    st.builds("2024-12-1{}-00:00:00/uvh5_{}_0001/Lo{}.C0352".format,
              st.integers(1, 2), st.integers(1, 2), LETTERS),
    st.builds("2024-12-1{}-00:00:00/uvh5_{}_0001".format, st.integers(1, 2), st.integers(1, 2)),
    st.just("2024-12-11-00:00:00"),
    st.just(""),
)  # fmt: skip
KINDS = ("uvh5", "empty uvh5", "text", "image", "nameless", "table", "link to nothing",
         "link to a file", "link to a folder", "link to itself", "empty folder",
         "pipe")  # fmt: skip


def put(place: Path, kind: str, number: int, elsewhere: Path) -> None:
    """Make an entry of a kind in a folder."""
    place.mkdir(parents=True, exist_ok=True)
    stem = place / f"n{number}"
    if kind in ("uvh5", "empty uvh5"):
        stem.with_suffix(".uvh5").write_bytes(b"\x89HDF" if kind == "uvh5" else b"")
    elif kind == "table":
        (stem.with_suffix(".ms") / "ANTENNA").mkdir(parents=True)
        (stem.with_suffix(".ms") / "table.dat").write_bytes(b"cut")
        (stem.with_suffix(".ms") / "ANTENNA" / "table.dat").write_bytes(b"")
    elif kind == "empty folder":
        stem.mkdir()
    elif kind == "pipe":
        os.mkfifo(stem)
    elif kind.startswith("link"):
        target = {
            "link to nothing": Path("gone"), "link to a file": elsewhere / "there.uvh5",
            "link to a folder": elsewhere, "link to itself": place,
        }[kind]  # fmt: skip
        stem.with_suffix(".uvh5" if kind == "link to a file" else "").symlink_to(target)
    else:
        stem.with_suffix({"text": ".TXT", "image": ".png", "nameless": ""}[kind]).write_bytes(b"x")


def entries_below(folder: Path) -> list[Path]:
    """Everything in a folder that is no folder itself, as it lies there, links not followed."""
    found = []
    for path in sorted(folder.iterdir()):
        found += entries_below(path) if path.is_dir() and not path.is_symlink() else [path]
    return found


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(PLACES, st.sampled_from(KINDS)), max_size=12))
def test_nothing_of_a_project_is_lost(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, str]]
) -> None:
    """Every entry of a random mixture is a part, a text, or left out with a reason, once."""
    root = tmp_path_factory.mktemp("mixture")
    project, elsewhere = root / "p002", root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "there.uvh5").write_bytes(b"\x89HDF")
    (elsewhere / "LoB.C0544").mkdir()
    (elsewhere / "LoB.C0544" / "more.uvh5").write_bytes(b"\x89HDF")
    put(project / "2024-12-11-00:00:00" / "uvh5_1_0001" / "LoB.C0352", "uvh5", 99, elsewhere)
    for number, (place, kind) in enumerate(made):
        put(project / place, kind, number, elsewhere)
    before = entries_below(project)
    found = read_project(project)
    assert entries_below(project) == before
    taken = [
        path for session in found.sessions for scan in session.scans
        for path in (*scan.texts, *(p for paths in scan.parts.values() for p in paths))
    ]  # fmt: skip
    left = [one.path for one in found.left_out]
    assert len(set(taken + left)) == len(taken + left), "each is told once"
    assert all(one.why for one in found.left_out)
    for path in before:
        above = [path, *path.parents]
        below = any(path in one.parents for one in taken + left)  # through a link to a folder
        assert path in taken or below or any(one in above for one in left), path
    real = [path.resolve() for path in taken]
    assert sorted(set(real) - set(map(Path.resolve, entries_below(elsewhere)))) == sorted(
        path for path in real if elsewhere not in path.parents
    ), "through links to what is above nothing is taken twice"


def test_a_project_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions are simulated, as the superuser may read everything."""
    one = f"{SESSION}/uvh5_1_2_x_a_0001"
    project = empty_tree(tmp_path, f"{one}/LoB.C0352/a.uvh5", f"{one}/LoB.C0352/b.uvh5",
                         f"{one}/LoC.C0352/c.uvh5")  # fmt: skip
    listed = Path.iterdir

    def iterdir(self: Path) -> Any:
        if self.name in ("LoC.C0352", "closed"):
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "b.uvh5")
    left = {one.path.name: one.why for one in read_project(project).left_out}
    assert left == {
        "b.uvh5": "it may not be read: change its permissions",
        "LoC.C0352": "it cannot be read (Permission denied)",
    }
    (tmp_path / "closed").mkdir()
    with pytest.raises(InputError, match=r"is not read: it cannot be read \(Permission"):
        read_project(tmp_path / "closed")


def test_text_of_one_name_in_two_folders_is_kept_twice(tmp_path: Path, config: Path) -> None:
    """And one named as the record of what was ingested takes nothing from it."""
    scan = tmp_path / "p002" / SESSION / SCAN
    for name in ("LoB.C0352/notes.txt", "LoC.C0352/notes.txt", "ingested.json"):
        (scan / name).parent.mkdir(parents=True, exist_ok=True)
        (scan / name).write_text(name)
    (scan / "LoB.C0352" / "a.uvh5").write_bytes(b"")
    assert calibrate(config, "--until=ingest_scans", "--set", "flagger=none") == 1
    made = tmp_path / "work" / SESSION / f"{SCAN}_measure_sets"
    assert (made / "LoB.C0352/notes.txt").read_text() == "LoB.C0352/notes.txt"
    assert (made / "LoC.C0352/notes.txt").read_text() == "LoC.C0352/notes.txt"
    assert (made / "original_ingested.json").read_text() == "ingested.json"
    assert "a.uvh5 is empty" in json.loads((made / "ingested.json").read_text())["b"]["error"]


@pytest.fixture(scope="module")
def small_uvh5(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A uvh5 file of five antennas."""
    pytest.importorskip("pyuvdata")
    folder = tmp_path_factory.mktemp("uvh5")
    return write_uvh5(simulated_ms(folder / "a.ms"), folder / "a.uvh5").read_bytes()


def test_damaged_files_are_told_and_the_others_go_on(
    tmp_path: Path, config: Path, small_uvh5: bytes
) -> None:
    """Cut anywhere, or with a part of it still missing: the scan is told, or its values are."""
    rng = np.random.default_rng(2)
    size = len(small_uvh5)
    cuts = [small_uvh5[: int(size * share)] for share in rng.uniform(0, 1, 6)]
    holes = []
    for low in rng.integers(0, size - 4096, 8).tolist():
        holes.append(small_uvh5[:low] + bytes(4096) + small_uvh5[low + 4096 :])
    for number, content in enumerate([small_uvh5, *cuts, *holes]):
        path = tmp_path / "p002" / SESSION / f"uvh5_{number:02d}_0001" / "LoB.C0352" / "a.uvh5"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    assert calibrate(config, "--until=ingest_scans", "--set", "flagger=none") == 0
    records = {
        path.parent.name: json.loads(path.read_text())["b"]
        for path in (tmp_path / "work").rglob("ingested.json")
    }
    assert len(records) == 15
    assert not records["uvh5_00_0001_measure_sets"]["error"]
    for number in range(1, 7):
        assert "a.uvh5" in records[f"uvh5_{number:02d}_0001_measure_sets"]["error"]
    for record in records.values():
        assert bool(record["ms"]) != bool(record["error"])
        assert not record["ms"] or (tmp_path / "work" / record["ms"] / "table.dat").exists()
    assert not list((tmp_path / "work").rglob("*_full.ms"))


def test_a_file_that_grows_is_taken_when_it_is_complete(
    tmp_path: Path, config: Path, small_uvh5: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p002" / SESSION / SCAN / "LoB.C0352" / "a.uvh5"
    path.parent.mkdir(parents=True)
    path.write_bytes(small_uvh5)
    copying = ingest.make_working_copy

    def grows(*args: Any, **more: Any) -> Any:
        made = copying(*args, **more)
        with path.open("ab") as stream:
            stream.write(b"more")
        return made

    monkeypatch.setattr(ingest, "make_working_copy", grows)
    words = ("--until=ingest_scans", "--set", "flagger=none")
    assert calibrate(config, *words) == 1
    record = tmp_path / "work" / SESSION / f"{SCAN}_measure_sets" / "ingested.json"
    assert "a.uvh5 changed while it was read" in json.loads(record.read_text())["b"]["error"]
    monkeypatch.undo()
    path.write_bytes(small_uvh5)
    assert calibrate(config, *words) == 0
    assert not json.loads(record.read_text())["b"]["error"]
