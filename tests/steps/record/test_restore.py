"""Bundles go onto other imports of the observation; nothing is written before all is checked."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import auto_selfcal
from libs.core.errors import ConfigError
from libs.ms import flag_versions, tables
from libs.ms.columns import ensure_data_column
from libs.ms.history import ORIGIN_OF_TYPES, append_history, read_data_types, read_history
from libs.ms.subtables import Subtables
from libs.record.schema import load_record
from selfcal.state import State
from selfcal.step import StepResult
from steps.record.build import record_of_run, write_run_record
from steps.record.bundling import bundle_run
from steps.record.restore import HowToApply, apply_record, restore
from steps.record.writing import VERSION
from tests.conftest import ROOT
from tests.permuted_ms import permuted
from tests.pipeline_case import PipelineCase
from tests.steps.record.finished_run import SECONDS, TARGET, finish_run, small_case
from tests.steps.test_applying import contents

PLAIN = HowToApply()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> PipelineCase:
    return small_case(tmp_path_factory.mktemp("case"), 2)


@pytest.fixture(scope="module")
def run(case: PipelineCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of both executions; antenna 4 has no solutions."""
    workdir = finish_run(tmp_path_factory.mktemp("run") / "work", case, flagged=(4,))
    write_run_record(workdir, {"selfcal": "0"})
    return workdir


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    path = run.parent / "x.selfcal.tgz"
    bundle_run(run, path)
    return path


@pytest.fixture
def sets(case: PipelineCase, tmp_path: Path) -> list[Path]:
    """Other imports, whose ids are permuted."""
    paths = [tmp_path / f"import{number}.ms" for number in range(2)]
    for number, path in enumerate(paths):
        permuted(case.vis[number], path, seed=number + 5)
    return paths


def columns(ms: Path, *names: str) -> list[dict[tuple[float, str, str, str, str], np.ndarray]]:
    """Cells by time, antennas, window and field by name; conjugated where antennas are reversed."""
    found: list[dict[tuple[float, str, str, str, str], np.ndarray]] = [{} for _ in names]
    known = Subtables(ms)
    antenna = known.antenna_names
    window = [known.windows[each.spw].name for each in known.descriptions]
    with tables.open_table(ms) as opened:
        keys = [
            opened.getcol(n) for n in ("TIME", "ANTENNA1", "ANTENNA2", "DATA_DESC_ID", "FIELD_ID")
        ]
        for row, (stamp, one, two, ddid, field) in enumerate(zip(*keys, strict=True)):
            pair = sorted([antenna[one], antenna[two]])
            key = (float(stamp), *pair, window[ddid], known.fields[field].name)
            for name, cells in zip(names, found, strict=True):
                cell = opened.getcell(name, row)
                turned = pair[0] != antenna[one] and np.iscomplexobj(cell)
                cells[key] = cell.conj() if turned else cell  # type: ignore[index]
    return found


def assert_same(one: Path, two: Path, atol: float = 1e-6) -> None:
    """Compare what self-calibration wrote, whatever the ids."""
    ours, theirs = (columns(ms, "CORRECTED_DATA", "FLAG") for ms in (one, two))
    assert ours[0].keys() == theirs[0].keys()
    for key in ours[0]:
        np.testing.assert_allclose(theirs[0][key], ours[0][key], atol=atol)
        np.testing.assert_array_equal(theirs[1][key], ours[1][key])


def test_a_restore_on_permuted_ids_equals_apply(
    case: PipelineCase, run: Path, bundle: Path, sets: list[Path], tmp_path: Path
) -> None:
    fresh = [Path(shutil.copytree(ms, tmp_path / f"fresh{i}.ms")) for i, ms in enumerate(case.vis)]
    list(apply_record(run, fresh, PLAIN))
    away = run.rename(tmp_path / "away")
    try:
        lines = list(restore(bundle, sets[::-1], PLAIN))
    finally:
        away.rename(run)
    assert len(lines) == 2 and all(f"{TARGET}: " in line for line in lines)
    for one, two, perfect in zip(fresh, sets, case.perfect, strict=True):
        assert_same(one, two)
        corrected, flag = columns(two, "CORRECTED_DATA", "FLAG")
        (truth,) = columns(perfect, "DATA")
        mine = [key for key in corrected if key[4] == TARGET]
        others = [key for key in corrected if key[4] != TARGET]
        good = [key for key in mine if not flag[key].any()]
        assert 0.5 < len(good) / len(mine) < 1, "antenna 4 is flagged"
        worst = max(np.abs(corrected[key] - truth[key]).max() for key in good)
        assert worst < 1e-6, "the true gains are taken out"
        (data,) = columns(two, "DATA")
        assert all((corrected[key] == data[key]).all() and not flag[key].any() for key in others)


def test_a_second_restore_changes_nothing(bundle: Path, sets: list[Path]) -> None:
    flags = [columns(ms, "FLAG")[0] for ms in sets]
    list(restore(bundle, sets, PLAIN))
    before = [contents(ms) for ms in sets]
    lines = list(restore(bundle, sets, PLAIN))
    assert all("applied already, nothing was written" in line for line in lines)
    assert [contents(ms) for ms in sets] == before
    list(restore(bundle, sets, HowToApply(overwrite=True)))
    for ms, old in zip(sets, flags, strict=True):
        assert flag_versions.versions(ms) == {VERSION: f"before the solutions of {TARGET}"}
        flag_versions.restore_version(ms, VERSION)
        (now,) = columns(ms, "FLAG")
        assert all((now[key] == old[key]).all() for key in old)


def test_a_dry_run_writes_nothing(bundle: Path, sets: list[Path]) -> None:
    before = [contents(ms) for ms in sets]
    lines = list(restore(bundle, sets, HowToApply(dry_run=True)))
    assert len(lines) == 2 and all("would apply" in line for line in lines)
    assert [contents(ms) for ms in sets] == before


def test_what_does_not_fit_is_listed_whole_and_nothing_is_written(
    bundle: Path, sets: list[Path]
) -> None:
    with tables.open_table(f"{sets[1]}::ANTENNA", write=True) as opened:
        opened.putcell("NAME", 0, "Z99")
    with tables.open_table(f"{sets[1]}::FIELD", write=True) as opened:
        opened.putcol("NAME", [f"{name} x" for name in opened.getcol("NAME")])
    before = [contents(ms) for ms in sets]
    with pytest.raises(ConfigError) as caught:
        list(restore(bundle, [*sets, sets[0].with_name("none.ms")], PLAIN))
    assert "none.ms" in caught.value.cause
    with pytest.raises(ConfigError) as caught:
        list(restore(bundle, sets, PLAIN))
    assert "import1.ms: the field '04287+1801'" in caught.value.cause
    assert "are missing" in caught.value.cause
    assert [contents(ms) for ms in sets] == before


def test_one_execution_alone(bundle: Path, sets: list[Path]) -> None:
    before = contents(sets[0])
    lines = list(restore(bundle, [sets[1]], PLAIN))
    assert "none of the measurement sets is this execution, it is left out" in lines[0]
    assert contents(sets[0]) == before
    assert read_data_types(sets[1]).per_column["SELFCAL_CONTLINE_SCIENCE"] == "CORRECTED_DATA"


# -- registration ----------------------------------------------------------------------------------


def test_only_what_was_applied_is_registered(bundle: Path, sets: list[Path]) -> None:
    list(restore(bundle, sets[:1], PLAIN))
    found = read_data_types(sets[0])
    assert found.per_column == {
        "REGCAL_CONTLINE_SCIENCE": "DATA", "SELFCAL_CONTLINE_SCIENCE": "CORRECTED_DATA",
    }  # fmt: skip
    assert {name for name, _ in found.per_source} == {TARGET}
    assert {window for _, window in found.per_source} == set(range(4))
    assert set(found.per_source.values()) == {
        ("REGCAL_CONTLINE_SCIENCE", "SELFCAL_CONTLINE_SCIENCE")
    }


@pytest.mark.parametrize("kind", ["CONT_SCIENCE", "LINE_SCIENCE"])
def test_continuum_and_line_data_stay_what_they_are(
    bundle: Path, sets: list[Path], kind: str
) -> None:
    column = f"data_type_per_column = {{'REGCAL_{kind}': 'DATA'}}"
    source = f"data_types_per_source_and_spw = {{('other', 0): ['REGCAL_{kind}']}}"
    append_history(sets[0], ORIGIN_OF_TYPES, [column, source])
    list(restore(bundle, sets[:1], PLAIN))
    found = read_data_types(sets[0])
    assert found.per_column == {f"REGCAL_{kind}": "DATA", f"SELFCAL_{kind}": "CORRECTED_DATA"}
    assert found.per_source["other", 0] == (f"REGCAL_{kind}",), "what was there is kept"


def test_other_solutions_that_are_registered_are_kept(
    case: PipelineCase, bundle: Path, sets: list[Path], tmp_path: Path
) -> None:
    list(restore(bundle, sets, PLAIN))
    other = finish_run(tmp_path / "other", case)  # antenna 4 has solutions there
    write_run_record(other, {})
    bundle_run(other, tmp_path / "y.tgz")
    before = [contents(ms) for ms in sets]
    with pytest.raises(ConfigError, match=r"data of 04287.1801 are registered") as e:
        list(restore(tmp_path / "y.tgz", sets, PLAIN))
    assert "--overwrite" in e.value.remedy
    assert [contents(ms) for ms in sets] == before
    list(restore(tmp_path / "y.tgz", sets, HowToApply(overwrite=True)))
    assert not any(flag.any() for flag in columns(sets[0], "FLAG")[0].values())


def test_another_target_may_follow(
    case: PipelineCase, bundle: Path, sets: list[Path], tmp_path: Path
) -> None:
    list(restore(bundle, sets[:1], PLAIN))
    other = finish_run(tmp_path / "other", case, "G34.3 core#1")
    write_run_record(other, {})
    bundle_run(other, tmp_path / "y.tgz")
    list(restore(tmp_path / "y.tgz", sets[:1], PLAIN))
    found = read_data_types(sets[0])
    assert {name for name, _ in found.per_source} == {TARGET, "G34.3 core#1"}
    *_, line = restore(bundle, sets[:1], PLAIN)
    assert "applied already" in line


def test_a_pipelines_own_calibration_is_not_overwritten(bundle: Path, sets: list[Path]) -> None:
    column = "data_type_per_column = {'RAW': 'DATA', 'REGCAL_CONTLINE_ALL': 'CORRECTED_DATA'}"
    append_history(sets[0], ORIGIN_OF_TYPES, [column])
    with pytest.raises(ConfigError, match=r"as REGCAL_CONTLINE_ALL.*split it to DATA"):
        list(restore(bundle, sets[:1], PLAIN))


# -- kills -----------------------------------------------------------------------------------------

KILLED = """
import sys
from pathlib import Path
import libs.gains.apply as apply
from steps.record import registration, restore, writing
from steps.record.restore import HowToApply
where, calls = sys.argv[3], 0
def stop(*arguments, **words):
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
if where == "flags":
    import libs.ms.flag_versions as flags
    flags._put_in_place = stop
elif where == "column":
    writing.apply_tables = stop
elif where == "half":
    whole = apply.write_block
    def half(*arguments):
        global calls
        calls += 1
        if calls > 3:
            stop()
        whole(*arguments)
    apply.write_block = half
else:
    restore.register = stop
list(restore.restore(Path(sys.argv[1]), [Path(sys.argv[2])], HowToApply()))
"""


@pytest.mark.parametrize("where", ["flags", "column", "half", "register"])
def test_a_killed_restore_is_completed_by_the_next(
    case: PipelineCase, bundle: Path, sets: list[Path], tmp_path: Path, where: str
) -> None:
    whole = Path(shutil.copytree(sets[0], tmp_path / "whole.ms"))
    list(restore(bundle, [whole], PLAIN))
    words = [sys.executable, "-c", KILLED, str(bundle), str(sets[0]), where]
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not read_history(sets[0], ORIGIN_OF_TYPES), "half done is not registered"
    *_, line = restore(bundle, [sets[0]], PLAIN)
    assert line.startswith(f"{TARGET}: ")
    assert_same(whole, sets[0], 0.0)
    flag_versions.restore_version(sets[0], VERSION)
    assert not any(flag.any() for flag in columns(sets[0], "FLAG")[0].values())


def test_kills_at_any_time(bundle: Path, sets: list[Path], tmp_path: Path) -> None:
    whole = Path(shutil.copytree(sets[0], tmp_path / "whole.ms"))
    words = [sys.executable, "-c", KILLED, str(bundle), str(whole), "register"]
    begin = time.monotonic()
    subprocess.run(words, cwd=ROOT, check=False, capture_output=True, timeout=120)
    span_s = time.monotonic() - begin
    list(restore(bundle, [whole], PLAIN))
    for number in range(5):
        again = Path(shutil.copytree(sets[0], tmp_path / f"again{number}.ms"))
        child = subprocess.Popen(
            [*words[:4], str(again), "never"], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        time.sleep(span_s * (0.55 + 0.1 * number))
        child.kill()
        child.wait()
        list(restore(bundle, [again], PLAIN))
        assert_same(whole, again, 0.0)


# -- what a run leaves ----------------------------------------------------------------------------


def test_the_record_goes_by_names(run: Path, case: PipelineCase) -> None:
    path = record_of_run(run)
    assert path is not None and path.name == "uid___A002_X1a_X1.selfcal.json"
    record = load_record(path)
    assert [each.name for each in record.executions] == [ms.stem for ms in case.vis]
    (target,) = record.targets
    for execution in record.executions:
        assert [field.name for field in target.fields[execution.name]] == [TARGET]
    assert target.qa_score == 0.98
    (trial,) = target.intervals
    assert (trial.interval, trial.passed, trial.beam_ratio) == ("12s", True, 1.0)
    assert trial.before["snr"] == 10.0 and trial.after["snr"] == 30.0
    for entry, execution in zip(target.applied, record.executions, strict=True):
        assert entry.execution == execution.name and not entry.calwt
        assert all(execution.name in label for label in entry.spwmap)
        assert entry.table == f"products/{execution.name}.ms.hif_selfcal.1.12s.p.tbl"
        assert (run / entry.table / "table.dat").exists()


def test_products_have_the_pipelines_names_and_take_no_space(run: Path) -> None:
    names = {path.name for path in (run / "products").glob("*.fits")}
    stem = "uid___A002_X1a_X1.s1.04287+1801_sci.spw0_1_2_3.cont"
    assert names == {f"{stem}.I.iter1.image.fits", f"{stem}.solint1_prior.I.iter2.image.fits"}
    image = run / "images/test_image/test_image-image.fits"
    assert (run / "products" / f"{stem}.I.iter1.image.fits").stat().st_ino == image.stat().st_ino


def test_windows_of_names_are_those_of_the_first_execution(
    case: PipelineCase, tmp_path: Path
) -> None:
    workdir = finish_run(tmp_path / "w", case, spw="1,3")
    del case  # in the second execution 1 and 3 are other windows: the copies say which
    path = write_run_record(workdir, {})
    record = load_record(path)
    assert any(".spw1_3" in name.name or ".spw1_3_" in name.name
               for name in (workdir / "products").iterdir())  # fmt: skip
    assert {len(entry.spwmap) for entry in record.applied} == {2}


def test_oussid_and_stage_are_in_the_names(case: PipelineCase, tmp_path: Path) -> None:
    workdir = finish_run(
        tmp_path / "w", case, settings={"oussid": "uid://A001/X1", "stage": "24_3"}
    )
    path = write_run_record(workdir, {})
    assert path.name == "uid___A001_X1.selfcal.json"
    names = [name.name for name in (workdir / "products").iterdir()]
    assert any(name.startswith("uid___A001_X1.s24_3.04287+1801_sci.") for name in names)
    assert any(name.endswith(".ms.hif_selfcal.24_3.12s.p.tbl") for name in names)
    # another prefix leaves one record
    shutil.rmtree(workdir / "products")
    text = (workdir / "resolved.yaml").read_text()
    (workdir / "resolved.yaml").write_text(text.replace("uid://A001/X1", "member"))
    assert write_run_record(workdir, {}).name == "member.selfcal.json"
    assert [p.name for p in workdir.glob("*.selfcal.json")] == ["member.selfcal.json"]


def test_without_solutions_nothing_is_applied_and_no_script_is_written(
    case: PipelineCase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = finish_run(tmp_path / "w", case, accepted=False)
    write_run_record(workdir, {})
    before = [contents(ms) for ms in case.vis]
    script = tmp_path / "s.py"
    assert auto_selfcal.main(["apply", str(workdir), "--script", str(script)]) == 0
    said = capsys.readouterr().out
    assert "there is nothing to apply" in said and "CORRECTED" not in said
    assert not script.exists()
    bundle_run(workdir, tmp_path / "x.tgz")
    assert auto_selfcal.main(["restore", str(tmp_path / "x.tgz"), "--to", str(case.vis[0])]) == 0
    assert [contents(ms) for ms in case.vis] == before


def test_a_target_that_an_earlier_run_had_calibrated_is_named_and_put_back(
    case: PipelineCase, run: Path, tmp_path: Path
) -> None:
    fresh = [Path(shutil.copytree(ms, tmp_path / f"f{i}.ms")) for i, ms in enumerate(case.vis)]
    list(apply_record(run, fresh, PLAIN))
    workdir = finish_run(tmp_path / "w", case, accepted=False)
    write_run_record(workdir, {})
    (earlier,) = columns(fresh[0], "CORRECTED_DATA")
    told = list(apply_record(workdir, fresh, PLAIN))
    assert "the data stay as they are" in told[0]
    assert all("still have the solutions of an earlier run" in line for line in told[1:])
    assert len(told) == 3
    for key, cell in columns(fresh[0], "CORRECTED_DATA")[0].items():
        np.testing.assert_array_equal(cell, earlier[key])
    told = list(apply_record(workdir, fresh, HowToApply(overwrite=True)))
    assert "stay as they are" not in told[0]
    data, corrected = columns(fresh[0], "DATA", "CORRECTED_DATA")
    assert any(not np.array_equal(earlier[key], data[key]) for key in data)
    for key, cell in data.items():
        np.testing.assert_array_equal(corrected[key], cell)
    assert len(list(apply_record(workdir, fresh, PLAIN))) == 1


def test_a_bundle_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no record of a finished run"):
        bundle_run(tmp_path)


def test_bad_words_end_with_code_2(
    run: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["restore", str(bundle), "--to", str(tmp_path / "none.ms")], "none.ms"),
        (["restore", str(tmp_path / "none.tgz"), "--to", str(tmp_path)], "does not exist"),
        (["bundle", str(run), "-o", str(tmp_path / "no/x.tgz")], "is no folder"),
        (["apply", str(run), "--field", "all", "--script", "s.py"], "leave --field out"),
    ):
        assert auto_selfcal.main(words) == 2
        shown = capsys.readouterr().err
        assert said in shown and "Traceback" not in shown


def test_corrected_data_that_were_calibrated_must_be_data(
    case: PipelineCase, tmp_path: Path
) -> None:
    """Solutions of CORRECTED_DATA go onto a set that was split off, not onto the run's input."""
    workdir = finish_run(tmp_path / "w", case)
    state = State(workdir)
    begun = state.get("startup")
    assert begun is not None
    metrics = {**begun.result.metrics, "datacolumn": "CORRECTED_DATA"}
    state.append("startup", "f0", StepResult(metrics=metrics), SECONDS, {})
    write_run_record(workdir, {})
    ms = Path(shutil.copytree(case.vis[0], tmp_path / "split.ms"))
    list(apply_record(workdir, [ms], PLAIN))
    assert "applied already" in list(apply_record(workdir, [ms], PLAIN))[-1]
    original = Path(shutil.copytree(case.vis[0], tmp_path / "original.ms"))
    ensure_data_column(original, "CORRECTED_DATA", copy="DATA")
    before = contents(original)
    with pytest.raises(ConfigError, match="the run started from CORRECTED_DATA of 04287"):
        list(apply_record(workdir, [original], PLAIN))
    assert contents(original) == before


def test_a_record_of_an_earlier_start_does_not_count(case: PipelineCase, tmp_path: Path) -> None:
    workdir = finish_run(tmp_path / "w", case)
    path = write_run_record(workdir, {})
    assert record_of_run(workdir) == path
    copied = Path(shutil.copytree(workdir, tmp_path / "copy"))
    assert record_of_run(copied) == copied / path.name, "times of files say nothing"
    State(workdir).append("p1", "f3", StepResult("failed", "the disk is full"), SECONDS, {})
    assert record_of_run(workdir) is None
    with pytest.raises(ConfigError, match="no record of a finished run"):
        bundle_run(workdir, tmp_path / "x.tgz")


def test_names_may_change_without_a_step_and_nothing_else_is_done_twice(
    case: PipelineCase, tmp_path: Path
) -> None:
    workdir = finish_run(tmp_path / "w", case)
    path = write_run_record(workdir, {})
    made = path.stat().st_mtime_ns
    assert write_run_record(workdir, {}) == path and path.stat().st_mtime_ns == made
    other = write_run_record(workdir, {}, names={"oussid": "ous", "stage": "9"})
    assert other.name == "ous.selfcal.json" and not path.exists()
    assert any(".hif_selfcal.9." in name.name for name in (workdir / "products").iterdir())
    (tmp_path / "cont.dat").write_text("Field: x\n")
    write_run_record(workdir, {}, tmp_path / "cont.dat")
    record = load_record(write_run_record(workdir, {}, tmp_path / "cont.dat"))
    assert record.contfile == "products/cont.dat"
    bundle_run(workdir, tmp_path / "x.tgz")
    (tmp_path / "cont.dat").write_text("Field: y\n")
    write_run_record(workdir, {}, tmp_path / "cont.dat")
    assert (workdir / "products/cont.dat").read_text() == "Field: y\n"
    shutil.rmtree(workdir / "products")
    assert (workdir / load_record(write_run_record(workdir, {})).applied[0].table).exists()
