"""Projects of uvh5 files: what is new is ingested, what is broken is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from libs.core.errors import InputError
from libs.ms.subtables import Subtables
from steps.calibrate.project import read_project
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
    sessions = read_project(project)
    assert [session.name for session in sessions] == [SESSION, "2024-12-13-01:00:00"]
    (scan,) = sessions[0].scans
    assert {key: [p.name for p in paths] for key, paths in scan.parts.items()} == {
        "b": ["a.uvh5", "b.uvh5"], "c": ["c.uvh5"],
    }  # fmt: skip
    assert [path.name for path in scan.texts] == ["notes.txt"]
    assert [path.name for path in scan.strange] == ["half.uvh5.tmp"]
    assert len(read_project(project, "*-12-13-*")) == 1
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
