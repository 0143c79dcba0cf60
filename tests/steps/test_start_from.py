"""A run that starts from solutions: corrected first, multiplied onto, kept where it found none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError, SelfcalError
from libs.h5parm.check import check
from libs.h5parm.global_table import write_with_entries
from libs.h5parm.provenance import Entry, read_entries
from libs.h5parm.reader import read_h5parm
from libs.h5parm.regrid import regrid
from libs.h5parm.run_rounds import INPUT, read_rounds
from libs.h5parm.solset import Solset
from libs.ms.sanitise import add_scratch_columns
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from libs.record.schema import load_record
from reports.summary import write_summary
from selfcal.pipeline import Pipeline
from steps.applying import apply_to_original
from steps.record.build import write_run_record
from steps.record.restore import HowToApply, apply_record
from steps.startup import Startup
from tests.libs.h5parm.test_start import corrupt
from tests.libs.small_ms import make_ms, tree_hash
from tests.libs.solset_examples import flagged, solset
from tests.steps.fake_tools import Looks, make_run

pytestmark = pytest.mark.tools  # CASA makes the working copy
NAMES = ("startup", "test_image", "select_refant", "p0", "report_results")
SCRIPT = {"test_image": Looks(1.0, 0.02), "selfcal_p0": Looks(1.0, 0.01)}
WORSE = {"test_image": Looks(1.0, 0.01), "selfcal_p0": Looks(1.0, 0.02)}
RESIDUAL_RAD = np.linspace(0, 1.5, 7)


def copy_of(folder: Path) -> Path:
    """The working copy of a run in ``work``."""
    (copy,) = (folder / "work/data").glob("in.*.selfcal.ms")
    return copy


def gains(ms: Path, phase_rad: Any, amplitude: Any = 1.0) -> Solset:
    summary = summarise(ms)
    with open_table(ms) as opened:
        times = np.unique(opened.getcol("TIME"))
    shape = (len(times), len(summary.frequency_hz[0]), 7, 1, 2)
    return solset(
        time_s=times, frequency_hz=summary.frequency_hz[0], antenna=summary.antenna,
        directions={"cal": np.rad2deg(summary.direction_rad) + np.array([0.3, 0.0])},
        phase_rad=np.broadcast_to(phase_rad, shape), amplitude=np.broadcast_to(amplitude, shape),
        weight=400.0,
    )  # fmt: skip


Run = Callable[..., Pipeline]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A point source behind a calibrator's gains times phases of its own; and the former."""
    ms = make_ms(
        tmp_path / "in.ms", antennas=7, times=24, channels=2, interval_s=10.0, noise_jy=0.05
    )
    add_scratch_columns(ms)
    rng = np.random.default_rng(4)
    known = gains(ms, rng.uniform(-3, 3, (24, 1, 7, 1, 1)), rng.uniform(0.8, 1.25, (1, 1, 7, 1, 1)))
    known = flagged(known, station=known.antenna[6])
    corrupt(ms, known)
    corrupt(ms, gains(ms, RESIDUAL_RAD[:, None, None]))
    entries = [
        Entry("cal", s, source="cal", run="field", coherence=0.9, date="2026-01-01T00:00:00.000Z")
        for s in known.antenna
    ]
    write_with_entries(tmp_path / "cal.h5", known, entries)
    return ms


@pytest.fixture
def run_of(data: Path, tmp_path: Path, session: CasaSession) -> Run:
    """Return what makes a run on these data, in the same work directory each time."""

    def made(script: Any = None, **config: Any) -> Pipeline:
        given = {
            "vis": [str(data)], "start_from": str(tmp_path / "cal.h5"), "datacolumn": "data",
            **config,
        }  # fmt: skip
        pipeline, _ = make_run(tmp_path / "work", script or SCRIPT, names=NAMES, config=given)
        pipeline.context.tools.session = session
        pipeline.steps[0] = Startup("startup")
        return pipeline

    return made


def referred(solset: Solset, antenna: int = 0) -> np.ndarray:
    """Gains relative to the phase of an antenna, (time, ant)."""
    gain = solset.gain[:, 0, :, 0, 0]
    return np.asarray(gain * np.exp(-1j * np.angle(gain[:, antenna : antenna + 1])))


def test_solutions_are_the_input_times_the_run(run_of: Run, data: Path, tmp_path: Path) -> None:
    before = tree_hash(data)
    pipeline = run_of()
    results = pipeline.run()
    assert results["p0"].status == "done"
    assert {k: v for k, v in tree_hash(data).items() if "table.lock" not in k} == {
        k: v for k, v in before.items() if "table.lock" not in k
    }, "the input stays as it is"
    said = results["startup"].reason
    assert "corrected with the solutions of cal, none for" in said
    path = tmp_path / "work" / "solutions.h5"
    assert check(path) == []
    assert [one.name for one in read_rounds(path)] == [INPUT, "p0"]
    given = read_h5parm(tmp_path / "cal.h5")
    product = regrid(read_h5parm(path), given.time_s, given.frequency_hz)
    truth = given.gain[:, 0, :, 0, 0] * np.exp(1j * RESIDUAL_RAD)
    truth *= np.exp(-1j * np.angle(truth[:, :1]))
    assert np.abs(referred(product) / truth - 1).max() < 0.1
    entries = {e.station: e for e in read_entries(path)}
    first, last = given.antenna[0], given.antenna[6]
    assert entries[first].source == "target" and entries[first].refined_from == "cal"
    assert entries[last].refined_from == "", "the input had none of it"
    with open_table(copy_of(tmp_path)) as opened:
        corrected, flag = opened.getcol("CORRECTED_DATA"), opened.getcol("FLAG")
    assert np.degrees(np.angle(corrected[~flag]).std()) < 6
    weights = summarise(copy_of(tmp_path))
    assert weights.weights_positive


def test_the_record_has_both_factors(run_of: Run, data: Path, tmp_path: Path) -> None:
    """What the run started from is a gain table of its own, applied first."""
    pipeline = run_of()
    pipeline.run()
    workdir = tmp_path / "work"
    settings = {"vis": {"value": [str(data)]}, "steps": {"value": list(NAMES)}}
    (workdir / "resolved.yaml").write_text(yaml.safe_dump(settings))
    (target,) = load_record(write_run_record(workdir, {})).targets
    assert target.applied[0].interval == "start"
    fresh = Path(shutil.copytree(data, tmp_path / "fresh.ms"))
    list(apply_record(workdir, [fresh], HowToApply()))
    with open_table(fresh) as one, open_table(copy_of(tmp_path)) as two:
        ours, theirs = (opened.getcol("CORRECTED_DATA") for opened in (one, two))
        flags = [opened.getcol("FLAG") for opened in (one, two)]
    np.testing.assert_array_equal(flags[0], flags[1])
    good = ~flags[0]
    assert good.mean() > 0.9
    np.testing.assert_allclose(ours[good], theirs[good], atol=2e-6)


def test_without_an_accepted_round_the_input_is_the_result(
    run_of: Run, data: Path, tmp_path: Path
) -> None:
    pipeline = run_of(WORSE)
    results = pipeline.run()
    assert results["p0"].status == "rejected"
    work = tmp_path / "work"
    assert [one.name for one in read_rounds(work / "solutions.h5")] == [INPUT]
    assert {e.source for e in read_entries(work / "solutions.h5")} == {"cal"}
    summary = write_summary(work, {})
    assert (summary["status"], summary["h5parm"]) == ("unchanged", "solutions.h5")


def test_a_round_taken_back_leaves_the_file(run_of: Run, data: Path, tmp_path: Path) -> None:
    run_of().run()
    worse = {**SCRIPT, "selfcal_p0": Looks(1.0, 0.05)}
    again = run_of(worse, overrides={"p0": {"minsnr": 2.0}})
    results = again.run()
    assert results["p0"].status == "rejected"
    assert [one.name for one in read_rounds(tmp_path / "work" / "solutions.h5")] == [INPUT]
    bare = run_of(WORSE, start_from="")
    bare.run()
    assert not (tmp_path / "work" / "solutions.h5").exists()
    assert not (tmp_path / "work" / "tables" / "start.h5").exists()
    assert (
        json.loads((tmp_path / "work" / "summary.json").read_text())["h5parm"] == ""
        if (tmp_path / "work" / "summary.json").exists()
        else True
    )


def test_data_corrected_before_are_left_as_they_are(
    run_of: Run, data: Path, tmp_path: Path
) -> None:
    """As a field's are, whose unaveraged data were corrected."""
    overrides = {"startup": {"start_applied": True}}
    results = run_of(overrides=overrides).run()
    assert "corrected beforehand" in results["startup"].reason
    with open_table(copy_of(tmp_path)) as a, open_table(data) as b:
        np.testing.assert_array_equal(a.getcol("DATA"), b.getcol("DATA"))
    assert read_rounds(tmp_path / "work" / "solutions.h5")[0].name == INPUT


def test_a_changed_table_is_used_anew(run_of: Run, data: Path, tmp_path: Path) -> None:
    run_of().run()
    assert {p.action for p in run_of().plan()} == {"reuse"}
    table = read_h5parm(tmp_path / "cal.h5")
    write_with_entries(tmp_path / "cal.h5", replace(table, weight=table.weight / 2), [])
    assert run_of().plan()[0].action == "run"


def make_noise_of(data: Path, antenna: int) -> None:
    """An antenna receives nothing any more."""
    with open_table(data, write=True) as opened:
        mine = (opened.getcol("ANTENNA1") == antenna) | (opened.getcol("ANTENNA2") == antenna)
        values = opened.getcol("DATA")
        rng = np.random.default_rng(9)
        noise = rng.normal(0, 0.05, (2, *values.shape))
        values[mine] = (noise[0] + 1j * noise[1])[mine]
        opened.putcol("DATA", values.astype(np.complex64))


def test_an_antenna_the_run_could_not_follow_is_flagged_where_it_came_with_nothing(
    run_of: Run, data: Path, tmp_path: Path
) -> None:
    """And its flags do not make the round one that flags too much."""
    make_noise_of(data, 5)
    limits = {"incoherent": "keep", "minsnr": 0, "max_new_flags": 0.05}
    pipeline = run_of(rounds="adaptive", overrides={"p0": limits}, start_from="")
    results = pipeline.run()
    metrics = results["p0"].metrics
    assert results["p0"].status == "done", results["p0"].reason
    (lost,) = metrics["dropped_stations"]
    assert metrics["replaced_stations"] == [lost] == metrics["incoherent_stations"]
    with open_table(copy_of(tmp_path)) as opened:
        mine = (opened.getcol("ANTENNA1") == 5) | (opened.getcol("ANTENNA2") == 5)
        flag = opened.getcol("FLAG")
    assert flag[mine].all() and not flag[~mine].any()
    assert metrics["flagged_after"] == pytest.approx(mine.mean())


def test_an_antenna_the_run_could_not_follow_keeps_the_input(
    run_of: Run, data: Path, tmp_path: Path
) -> None:
    """Its noise is replaced by what it came with: the input's solutions and their origin."""
    make_noise_of(data, 5)
    pipeline = run_of(rounds="adaptive", overrides={"p0": {"incoherent": "keep", "minsnr": 0}})
    results = pipeline.run()
    assert results["p0"].status == "done", results["p0"].reason
    given = read_h5parm(tmp_path / "cal.h5")
    station = given.antenna[5]
    assert station in results["p0"].metrics["incoherent_stations"]
    path = tmp_path / "work" / "solutions.h5"
    product = regrid(read_h5parm(path), given.time_s, given.frequency_hz)
    i = product.antenna.index(station)
    np.testing.assert_allclose(product.gain[:, 0, i, 0, 0], given.gain[:, 0, 5, 0, 0], atol=1e-6)
    entry = {e.station: e for e in read_entries(path)}[station]
    assert (entry.source, entry.run, entry.coherence) == ("cal", "field", 0.9)
    own = read_h5parm(tmp_path / "work" / "tables" / "p0.h5")
    assert not own.valid[:, :, own.antenna.index(station)].any(), "known to no one"


def test_applying_to_the_original_is_left_to_what_holds_both(
    run_of: Run, data: Path, tmp_path: Path
) -> None:
    run_of().run()
    work = tmp_path / "work"
    (work / "summary.json").write_text(json.dumps({"tables": ["tables/p0.in.gcal"]}))
    resolved = {"steps": {"value": list(NAMES)}, "vis": {"value": [str(data)]}}
    (work / "resolved.yaml").write_text(json.dumps(resolved))
    with pytest.raises(ConfigError, match=r"started from the solutions of .* solutions apply"):
        list(apply_to_original(work, None))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"start_from": "nowhere.h5"}, "is no file"),
        ({"start_from": "", "start_direction": "cal"}, "start_direction without start_from"),
        ({"start_direction": "call"}, "no direction call.*cal"),
        ({"overrides": {"startup": {"min_coherence": 0.95}}}, "no good solutions of any"),
        ({"overrides": {"startup": {"max_separation": "10arcmin"}}}, "no good solutions of any"),
    ],
)
def test_wrong_starts_are_told(run_of: Run, config: Any, says: str) -> None:
    with pytest.raises(SelfcalError, match=says):
        run_of(**config).run()


def test_an_old_table_is_told(run_of: Run, data: Path, tmp_path: Path) -> None:
    table = read_h5parm(tmp_path / "cal.h5")
    old = replace(table, time_s=table.time_s - 86400)
    shutil.move(tmp_path / "cal.h5", tmp_path / "first.h5")
    write_with_entries(tmp_path / "cal.h5", old, [])
    results = run_of().run()
    assert "beyond the solutions" in results["startup"].metrics["warning"]
