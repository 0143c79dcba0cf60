"""Loop 1: layers, one table, subtraction, resume; with a perfect solver, then a real one."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.field_compare import compare_runs
from libs.core.errors import ConfigError, InputError
from libs.h5parm.check import check
from libs.h5parm.global_table import list_entries, write_with_entries
from libs.h5parm.reader import read_h5parm
from libs.ms.tables import open_table
from libs.simulation.observation import Simulation, Source, StationErrors, TecScreen, simulate
from selfcal.pipeline import StepFailed
from selfcal.settings import parse_assignments
from steps.commands.field import command as command_field
from steps.field import field_again, field_layer, field_source
from steps.field.field_again import worth_another_look
from steps.field.field_list import read_sources
from steps.field.field_settings import load_field_settings, source_settings
from steps.field.field_source import SourceTask
from tests.conftest import tree_hash
from tests.libs.directions.test_phase_shift import DEG, observe
from tests.steps import fake_worker
from tests.steps.fake_source_run import FakeRun, point_model

SKY = (
    Source(1.0, 0.5 * DEG, 0.3 * DEG, name="cal1"),
    Source(0.7, -0.4 * DEG, 0.1 * DEG, name="cal2"),
    Source(0.2, 0.45 * DEG, 0.1 * DEG, name="faint1"),
    Source(0.1, -0.3 * DEG, -0.2 * DEG, name="faint2"),
)
ERRORS = StationErrors(
    screen=TecScreen(rms_tecu=0.1, height_km=250.0), phase_offset_deg=40.0, amp_offset=0.05
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    folder = tmp_path_factory.mktemp("field")
    return simulate(folder / "field.ms", observe(4, 8), SKY, ERRORS, perfect=False)


@pytest.fixture
def fake(made: Simulation, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    run = FakeRun(made)
    monkeypatch.setattr(field_source, "_run", run)
    return run


def write_config(made: Simulation, folder: Path, **changes: object) -> Path:
    lines = ["name,ra_deg,dec_deg,flux_Jy"]
    for source in made.sky:
        ra, dec = source.radec_rad(*made.observation.direction_rad)
        lines.append(f"{source.name},{math.degrees(ra):.10f},{math.degrees(dec):.10f},"
                     f"{source.flux_jy}")  # fmt: skip
    (folder / "sources.csv").write_text("\n".join(lines) + "\n")
    config = {
        "vis": str(made.ms), "workdir": str(folder / "work"),
        "sources": str(folder / "sources.csv"), "layers": ["500mJy", "50mJy"],
        "average_time": "0s", "average_frequency": "0Hz", "quiet": True, "again": "never",
        **changes,
    }  # fmt: skip
    path = folder / "field.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def left(work: Path, layer: int, end: str = "") -> float:
    """Largest visibility after a layer's subtraction, Jy."""
    (ms,) = (work / "data" / f"after_layer_{layer}{end}").iterdir()
    with open_table(ms) as opened:
        return float(np.abs(opened.getcol("DATA")).max())


def test_layers_leave_nothing_and_every_direction_has_entries(
    made: Simulation, fake: FakeRun, tmp_path: Path
) -> None:
    before = tree_hash(made.ms)
    assert command_field([str(write_config(made, tmp_path))]) == 0
    work = tmp_path / "work"
    assert tree_hash(made.ms) == before
    assert fake.calls == ["cal1", "cal2", "faint1", "faint2"]
    assert 0.2 < left(work, 1) < 0.4
    assert left(work, 2) < 2e-3
    entries = {item.entry.key: item.entry for item in list_entries(work / "solutions.h5")}
    stations = made.observation.array.name
    assert set(entries) == {(s.name, station) for s in SKY for station in stations}
    assert entries["faint1", stations[0]].refined_from == "cal1"
    assert entries["faint2", stations[0]].refined_from == "cal2"
    assert not [f for f in check(work / "solutions.h5") if f.level == "error"]
    solset = read_h5parm(work / "solutions.h5")
    for source in SKY:
        truth = made.direction_gains[source.name].gain
        j = solset.direction.index(source.name)
        order = [solset.antenna.index(name) for name in stations]
        assert np.abs(solset.gain[:, :, order, j] - truth).max() < 1e-4
    summary = json.loads((work / "summary.json").read_text())
    assert summary["counts"] == {"calibrated": 4, "unchanged": 0, "failed": 0, "waiting": 0}
    assert (work / "sources.csv").read_text().count("calibrated,900.0") == 4


def test_done_sources_are_reused(made: Simulation, fake: FakeRun, tmp_path: Path) -> None:
    config = str(write_config(made, tmp_path))
    assert command_field([config, "--until", "layer_1"]) == 0
    assert command_field([config]) == 0
    assert fake.calls == ["cal1", "cal2", "faint1", "faint2"]
    assert command_field([config, "--from", "layer_1"]) == 0
    assert fake.calls == ["cal1", "cal2", "faint1", "faint2", "faint1", "faint2"]
    assert command_field([config, "--set", "subtract_snr=5"]) == 0
    assert fake.calls.count("cal1") == 1


def test_a_run_killed_within_a_layer_goes_on(
    made: Simulation, fake: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(write_config(made, tmp_path))

    def killed(task: object, data: object, on_wait: object = None) -> None:
        if getattr(task, "name", "") == "cal2":
            raise KeyboardInterrupt
        fake(task, data)  # type: ignore[arg-type]

    monkeypatch.setattr(field_source, "_run", killed)
    with pytest.raises(KeyboardInterrupt):
        command_field([config])
    monkeypatch.setattr(field_source, "_run", fake)
    assert command_field([config]) == 0
    assert fake.calls == ["cal1", "cal2", "faint1", "faint2"]
    assert left(tmp_path / "work", 2) < 2e-3


def test_a_source_that_fails_is_reported_and_the_rest_go_on(
    made: Simulation, fake: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fails = {"cal2"}
    assert command_field([str(write_config(made, tmp_path))]) == 0
    work = tmp_path / "work"
    assert "cal2: failed" in capsys.readouterr().out
    summary = json.loads((work / "summary.json").read_text())
    assert summary["counts"]["failed"] == 1 and summary["counts"]["calibrated"] == 3
    by_name = {row["name"]: row for row in summary["sources"]}
    assert by_name["cal2"]["reason"] == "the source is cursed: choose another"
    # its direction has its neighbour's solutions, and says so
    entries = {item.entry.key: item.entry for item in list_entries(work / "solutions.h5")}
    station = made.observation.array.name[0]
    assert entries["cal2", station].source == "cal1"
    assert len(entries) == len(SKY) * len(made.observation.array)
    # what could not be calibrated is not subtracted
    assert 0.6 < left(work, 2) < 0.9


def test_all_failing_stops_the_run(made: Simulation, fake: FakeRun, tmp_path: Path) -> None:
    fake.fails = {"cal1", "cal2"}
    with pytest.raises(StepFailed, match=r"every source of layer 1 failed; cal1: .*cursed"):
        command_field([str(write_config(made, tmp_path))])
    summary = json.loads((tmp_path / "work" / "summary.json").read_text())
    assert summary["status"] == "failed"


def test_stations_and_sources_without_solutions_take_the_neighbours(
    made: Simulation, fake: FakeRun, tmp_path: Path
) -> None:
    station = made.observation.array.name[3]
    fake.blind = {"cal2": 3}
    fake.unsolved = {"faint2"}
    assert command_field([str(write_config(made, tmp_path))]) == 0
    work = tmp_path / "work"
    entries = {item.entry.key: item.entry for item in list_entries(work / "solutions.h5")}
    assert entries["cal2", station].source == "cal1"
    assert entries["faint2", station].source == "cal1"
    other = made.observation.array.name[0]
    assert entries["cal2", other].source == "cal2" == entries["faint2", other].source
    assert len(entries) == len(SKY) * len(made.observation.array)


def test_solutions_of_before_begin_the_table(
    made: Simulation, fake: FakeRun, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert command_field([str(write_config(made, tmp_path / "a"))]) == 0
    given = str(tmp_path / "a" / "work" / "solutions.h5")
    config = write_config(made, tmp_path / "b", initial_solutions=given)
    assert command_field([str(config)]) == 0
    assert (tmp_path / "b" / "work" / "sources" / "cal1" / "best.h5").exists()
    assert left(tmp_path / "b" / "work", 2) < 2e-3


# -- the second look ------------------------------------------------------------------------------


def test_who_is_worth_another_look() -> None:
    """0.3, 0.2 and 0.1 Jy: the others of each have 0.05, 0.1 and 0.13 Jy^2."""
    flux = {"a": 0.3, "b": 0.2, "c": 0.1}
    assert worth_another_look(flux, 0.05 / 0.25 * 0.99) == ["a", "b", "c"]
    assert worth_another_look(flux, 0.1 / 0.25 * 0.99) == ["b", "c"]
    assert worth_another_look(flux, 0.53) == []
    assert worth_another_look(flux, math.nan) == []


class Improving(FakeRun):
    """Models of the first look are too bright, as is what confusion leaves; then they are true."""

    def __init__(self, made: Simulation) -> None:
        super().__init__(made)
        self.seen: dict[str, float] = {}
        self.snr = 60.0

    def __call__(self, task: SourceTask, data: list[Path], on_wait: Any = None) -> None:
        super().__call__(task, data)
        folder = Path(task.folder)
        source = next(s for s in self.made.sky if s.name == task.name)
        again = folder.name == "again"
        if task.name.startswith("cal") and not again:
            model = folder / "run" / "images" / "model.fits"
            point_model(model, 1.05 * source.flux_jy, (task.ra_rad, task.dec_rad))
        if again:
            with open_table(data[0]) as opened:
                rows = opened.getcol("DATA")[:, :, 0]
            self.seen[task.name] = float(np.sqrt((np.abs(rows) ** 2).mean()))
            summary = json.loads((folder / "run" / "summary.json").read_text())
            summary["final"]["snr"] = self.snr
            (folder / "run" / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def improving(made: Simulation, monkeypatch: pytest.MonkeyPatch) -> Improving:
    run = Improving(made)
    monkeypatch.setattr(field_source, "_run", run)
    return run


def test_a_second_look_sees_each_source_alone(
    made: Simulation, improving: Improving, tmp_path: Path
) -> None:
    assert command_field([str(write_config(made, tmp_path, again="auto"))]) == 0
    work = tmp_path / "work"
    # bright ones in each other's data; two faint ones in each other's, without any noise
    assert improving.calls == ["cal1", "cal2"] * 2 + ["faint1", "faint2"] * 2
    # alone but for what is in no layer yet, and for 5 per cent of the other
    faint = 0.2**2 + 0.1**2
    for name, flux, other in (("cal1", 1.0, 0.7), ("cal2", 0.7, 1.0)):
        expected = math.sqrt(flux**2 + faint + (0.05 * other) ** 2)
        assert improving.seen[name] == pytest.approx(expected, rel=0.08)
    assert left(work, 1) - 0.3 > 0.02, "the first models were too bright"
    assert left(work, 2, "_again") < 2e-3
    rows = {row["name"]: row for row in read_sources(work)}
    assert rows["cal1"]["models"] == ["again/models/model.fits"] and rows["cal1"]["snr"] == 60.0
    entries = list_entries(work / "solutions.h5")
    assert len(entries) == len(SKY) * len(made.observation.array)
    assert not [f for f in check(work / "solutions.h5") if f.level == "error"]
    assert "sources/cal1/again/" in (work / "sources.csv").read_text()


def test_a_second_look_that_is_worse_changes_nothing(
    made: Simulation, improving: Improving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    improving.snr = 40.0
    config = str(write_config(made, tmp_path, again="always"))
    assert command_field([config, "--until", "layer_2"]) == 0
    assert improving.calls == ["cal1", "cal2", "cal1", "cal2", "faint1", "faint2"]
    work = tmp_path / "work"
    rows = {row["name"]: row for row in read_sources(work)}
    assert rows["cal1"]["models"] == ["models/model.fits"] and rows["cal1"]["snr"] == 50.0
    assert not (work / "data" / "after_layer_1_again").exists()
    assert command_field([config, "--list"]) == 0
    listed = capsys.readouterr().out
    assert "none of 2 sources gained" in listed and "the first look at layer 1 holds" in listed


def test_sources_far_below_the_noise_are_looked_at_once(
    made: Simulation, improving: Improving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(field_again, "typical_power", lambda *a, **k: 8.0)
    config = str(write_config(made, tmp_path, again="auto"))
    assert command_field([config, "--until", "subtract_again_1"]) == 0
    assert improving.calls == ["cal1", "cal2"]
    assert command_field([config, "--list"]) == 0
    assert "1.22 Jy of other sources hardly count beside a noise of 2 Jy" in capsys.readouterr().out


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"vis": ""}, "vis is empty"),
        ({"sources": ""}, "sources is empty"),
        ({"layers": ["10mJy", "100mJy"]}, "do not fall"),
        ({"layers": ["10"]}, "a flux with its unit"),
        ({"cluster": "cloud"}, "unknown cluster"),
        ({"source_config": "lofr"}, r"unknown source_config 'lofr' \(did you mean 'lofar'"),
        ({"source_steps": ["startup", "p9"]}, "unknown step 'p9'"),
        ({"overrides": {"l1": {"solnt": "30s"}}}, "solnt"),
        ({"source_settings": {"imagr": "wsclean"}}, "did you mean 'imager'"),
        ({"layer": ["10mJy"]}, "did you mean 'layers'"),
        ({"global_parameters": {"nitre": 5}}, "did you mean 'niter'"),
    ],
)
def test_wrong_configs_are_refused_beforehand(
    made: Simulation, tmp_path: Path, changes: dict[str, object], cause: str
) -> None:
    path = write_config(made, tmp_path, **changes)
    with pytest.raises(ConfigError, match=cause):
        load_field_settings(path, {})


@pytest.mark.parametrize(
    ("pair", "cause"),
    [
        ("radus=1deg", "unknown setting in --set 'radus' .did you mean 'radius'"),
        ("global_parameters.nitre=5", "in global_parameters 'nitre' .did you mean 'niter'"),
        ("l9.solint=30s", "unknown step in --set 'l9' .did you mean"),
        ("l1.solnt=30s", "unknown parameter of l1 in .*'solnt' .did you mean 'solint'"),
        ("l1.solint=30", "a time with its unit"),
        ("overrides=l1", "a mapping"),
    ],
)
def test_wrong_assignments_are_refused_with_the_nearest_name(
    made: Simulation, tmp_path: Path, pair: str, cause: str
) -> None:
    with pytest.raises(ConfigError, match=cause):
        load_field_settings(write_config(made, tmp_path), parse_assignments([pair]))


def test_assignments_reach_the_runs_of_sources(made: Simulation, tmp_path: Path) -> None:
    path = write_config(made, tmp_path, overrides={"l1": {"minsnr": 4, "solint": "1min"}})
    pairs = ["global_parameters.niter=500", "l1.solint=30s", "l2.solint=60s"]
    settings = load_field_settings(path, parse_assignments(pairs))
    config = source_settings(settings, "run", Path("a.ms"), 64, 1.0)
    assert config["global_parameters"] == {"niter": "500"}
    assert config["overrides"]["l1"] == {"minsnr": "4", "solint": "30s"}
    assert config["overrides"]["l2"] == {"solint": "60s"}


def test_sources_too_far_or_faint(made: Simulation, fake: FakeRun, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="near and bright enough"):
        command_field([str(write_config(made, tmp_path, radius="1arcsec"))])


def test_list_and_dry_run_change_nothing(
    made: Simulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(made, tmp_path))
    assert command_field([config, "--dry-run"]) == 0
    assert "layer_1           run" in capsys.readouterr().out
    assert command_field([config, "--list"]) == 0
    assert "merge_2           not run yet" in capsys.readouterr().out
    assert not (tmp_path / "work").exists()


def test_files_of_the_sources_steps_are_found_from_every_folder(
    made: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(
        made, tmp_path, sources=["sources.csv", "lotss"], initial_solutions="first.h5",
        overrides={"closure_stats": {"components": "parts.csv"}},
        source_settings={"start_from": "start.h5"},
    )  # fmt: skip
    words = {"startup.phase_centre": "sub/no.file", "closure_stats.catalogue": "list.csv"}
    settings = load_field_settings(config, words)
    assert settings["sources"] == (str(tmp_path / "sources.csv"), "lotss")
    assert settings["initial_solutions"] == str(tmp_path / "first.h5")
    assert settings["source_settings"] == {"start_from": str(tmp_path / "start.h5")}
    monkeypatch.chdir("/")
    asked = source_settings(settings, "run", Path("a.ms"), 64, 1.0)
    assert asked["overrides"]["closure_stats"] == {
        "components": str(tmp_path / "parts.csv"), "catalogue": str(tmp_path / "list.csv")
    }  # fmt: skip
    assert asked["overrides"]["startup"]["phase_centre"] == "sub/no.file", "no file"


def test_missing_data_are_said(made: Simulation, tmp_path: Path) -> None:
    config = write_config(made, tmp_path, vis=str(tmp_path / "no.ms"))
    with pytest.raises((InputError, StepFailed), match=r"no\.ms does not exist"):
        command_field([str(config)])


# -- in other processes, with a perfect solver -----------------------------------------------------


@pytest.mark.parametrize("where", ["local:2", "dask"])
def test_a_killed_workers_source_is_run_again_and_nothing_differs(
    made: Simulation, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    monkeypatch.setattr(field_layer, "calibrate_source", fake_worker.calibrate)
    # in line the fake would stay in this process
    monkeypatch.setattr(field_source, "_run", field_source._run)
    if where == "dask":
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            scheduler_port=0,
        )  # fmt: skip
        request.addfinalizer(cluster.close)
        where = cluster.scheduler_address
    inline, parallel = tmp_path / "inline", tmp_path / "parallel"
    for folder, cluster_words in ((inline, []), (parallel, ["--cluster", where])):
        folder.mkdir()
        fake_worker.hand_over(made, folder, deadly=folder == parallel)
        assert command_field([str(write_config(made, folder)), *cluster_words]) == 0
    assert not (parallel / "deadly").exists(), "a worker died"
    first, second = fake_worker.workers(parallel, fake_worker.VICTIM)
    assert first != second
    assert {len(fake_worker.workers(parallel, s.name)) for s in SKY if s.name != "cal2"} == {1}
    assert fake_worker.workers(inline, fake_worker.VICTIM) == [os.getpid()]
    found = compare_runs(inline / "work", parallel / "work")
    assert found["same"] and found["sources_differ"] == []
    assert found["largest_phase_difference_deg"] == found["largest_data_difference"] == 0
    entries = list_entries(parallel / "work" / "solutions.h5")
    assert len(entries) == len(SKY) * len(made.observation.array)


def test_a_comparison_sees_what_differs(made: Simulation, fake: FakeRun, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        assert command_field([str(write_config(made, tmp_path / name))]) == 0
    one, other = (tmp_path / name / "work" for name in ("one", "other"))
    table = read_h5parm(other / "solutions.h5")
    place = table.direction.index("faint1")
    table.phase_rad[2, 0, 1, place] += math.radians(5.0)
    table.weight[0, 0, 2, place] = 0.0
    write_with_entries(
        other / "changed.h5", table, [e.entry for e in list_entries(other / "solutions.h5")]
    )
    (other / "changed.h5").replace(other / "solutions.h5")
    found = compare_runs(one, other)
    assert found["entries_alike"] and not found["same"]
    assert found["flags_differ"] == table.weight.shape[4]
    assert found["largest_phase_difference_deg"] == pytest.approx(5.0, abs=1e-6)
    assert found["phase_differences_deg"]["cal1"] == 0
    assert found["largest_data_difference"] == 0
