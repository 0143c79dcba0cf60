"""Applying to the original: not before it is asked for, and with its flags saved first."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from libs.core.errors import ConfigError, InputError
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.inputs.input_data import identity, resolve_inputs
from libs.ms import flag_versions, tables
from libs.ms.columns import ensure_data_column
from libs.ms.history import read_history
from libs.ms.sanitise import add_scratch_columns
from selfcal.state import State
from selfcal.step import StepResult, TableRef
from steps.applied_record import identity_before, was_applied
from steps.applying import _refuse_aligned, apply_solutions, apply_to_original
from steps.record.writing import VERSION
from steps.startup import _column
from tests.libs.small_ms import TIME0_S, make_ms, tree_hash

PHASE_RAD = np.linspace(0, 2, 5)


def contents(ms: Path) -> dict[str, str]:
    """All files but locks, which casacore touches when a table is only read."""
    return {name: value for name, value in tree_hash(ms).items() if "table.lock" not in name}


def corrupted(path: Path, **how: Any) -> Path:
    """A point of 1 Jy behind constant phases."""
    make_ms(path, antennas=5, times=4, **how)
    with tables.open_table(path, write=True) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        turn = np.exp(1j * (PHASE_RAD[one] - PHASE_RAD[two]))[:, None, None]
        opened.putcol("DATA", (opened.getcol("DATA") * turn).astype(np.complex64))
    return path


def gains(flagged: tuple[int, ...] = ()) -> GainSolutions:
    flag = np.zeros((1, 1, 5, 2), bool)
    flag[:, :, list(flagged)] = True
    gain = np.broadcast_to(np.exp(1j * PHASE_RAD)[:, None], flag.shape)
    return GainSolutions(
        time_s=np.array([TIME0_S + 15.0]), interval_s=np.array([40.0]),
        frequency_hz=np.array([5.007e9]), spw=np.zeros(1, np.int64),
        antenna=tuple(f"A{i}" for i in range(5)), position_m=np.zeros((5, 3)),
        polarization=("R", "L"), gain=np.where(flag, 1, gain), flag=flag,
        snr=np.where(flag, 0, 50.0),
    )  # fmt: skip


def make_run(
    folder: Path,
    *originals: Path,
    flagged: tuple[int, ...] = (),
    field: str = "",
    spw: str = "",
    **how: Any,
) -> Path:
    """A finished run over these originals, as it is left."""
    workdir = folder / "work"
    for name in ("data", "tables"):
        (workdir / name).mkdir(parents=True)
    refs = []
    for original in originals:
        copy = corrupted(workdir / "data" / original.name, **how)
        add_scratch_columns(copy)
        table = workdir / "tables" / f"p0.{original.stem}.gcal"
        write_caltable(table, gains(flagged), copy)
        refs.append(TableRef(copy.name, f"tables/{table.name}", (), "linear", "p0"))
    state = State(workdir)
    seconds = {"total": 0.1, "imaging": 0.0, "solving": 0.1}
    taken = {
        "datacolumn": "DATA", "working_copies": [original.name for original in originals],
        "selections": [{"vis": str(o.resolve()), "field": field, "spw": spw} for o in originals],
    }  # fmt: skip
    state.append("startup", "f0", StepResult(metrics=taken), seconds, {})
    state.append("p0", "f1", StepResult(tables=tuple(refs)), seconds, {})
    summary = {"tables": [ref.path for ref in refs]}
    (workdir / "summary.json").write_text(json.dumps(summary))
    vis = [str(path) for path in originals]
    resolved: dict[str, Any] = {"vis": {"value": vis}, "steps": {"value": ["startup", "p0"]}}
    resolved |= {"field": {"value": field}, "spw": {"value": spw}}
    (workdir / "resolved.yaml").write_text(yaml.safe_dump(resolved))
    return workdir


def flags_of(ms: Path) -> np.ndarray:
    with tables.open_table(ms) as opened:
        return np.asarray(opened.getcol("FLAG"))


def error_of(ms: Path) -> float:
    with tables.open_table(ms) as opened:
        data, flag = opened.getcol("CORRECTED_DATA"), opened.getcol("FLAG")
    return float(np.abs(data[~flag] - 1).max())


def test_the_solutions_are_applied_and_the_flags_saved(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms")
    with tables.open_table(original, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[3] = True
        opened.putcol("FLAG", flag)
    workdir = make_run(tmp_path, original, flagged=(4,))
    before = contents(original)
    asked = apply_to_original(workdir, None)
    assert contents(original) == before, "byte for byte, until it is done"
    (line,) = asked
    assert line.startswith(f"{original}: 1 table(s) applied") and VERSION in line
    assert error_of(original) < 1e-5
    after = flags_of(original)
    assert after[3].all() and after.mean() > flag.mean(), "what has no solution is flagged"
    with tables.open_table(original) as opened:
        np.testing.assert_allclose(np.abs(opened.getcol("DATA")), 1, atol=1e-6)
    flag_versions.restore_version(original, VERSION)
    np.testing.assert_array_equal(flags_of(original), flag)


def test_the_history_says_what_was_done(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms")
    workdir = make_run(tmp_path, original)
    list(apply_to_original(workdir, None))
    (message,) = read_history(original, "selfcal")
    assert workdir.name in message and "CORRECTED_DATA and FLAG written" in message
    assert VERSION in message


def test_a_run_knows_its_input_after_its_own_solutions_were_applied(tmp_path: Path) -> None:
    """Else the same command would take its result for new data, and delete the solutions."""
    original = corrupted(tmp_path / "a.ms")
    workdir = make_run(tmp_path, original, flagged=(4,))
    (source,) = resolve_inputs(str(original))
    found = identity(source)
    assert identity_before(workdir, source) == found and not was_applied(workdir, source)
    for _ in range(2):  # applied again, it is the input of before all the same
        list(apply_to_original(workdir, None))
        assert identity(source) != found
        assert json.dumps(identity_before(workdir, source)) == json.dumps(found)
        assert was_applied(workdir, source)
    with tables.open_table(original, write=True) as opened:
        opened.putcol("DATA", 2 * opened.getcol("DATA"))
    assert identity_before(workdir, source) == identity(source), "others changed it since"
    assert not was_applied(workdir, source)


def test_startup_takes_data_where_corrected_data_are_its_own_result(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms")
    workdir = make_run(tmp_path, original)
    (source,) = resolve_inputs(str(original))

    def chosen(column: str) -> str:
        context = SimpleNamespace(settings={"datacolumn": column}, workdir=workdir)
        return _column(context, source)  # type: ignore[arg-type]

    assert chosen("auto") == "auto"
    list(apply_to_original(workdir, None))
    assert (chosen("auto"), chosen("corrected")) == ("data", "corrected")


def test_applying_twice_flags_no_more(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms")
    workdir = make_run(tmp_path, original, flagged=(4,))
    list(apply_to_original(workdir, None))
    once = flags_of(original)
    list(apply_to_original(workdir, str(original)))
    np.testing.assert_array_equal(flags_of(original), once)
    assert error_of(original) < 1e-5
    flag_versions.restore_version(original, VERSION)
    assert not flags_of(original).any(), "the version is that from before the first time"


@pytest.mark.parametrize("number", [0, 1])
def test_one_of_several_inputs_by_name(tmp_path: Path, number: int) -> None:
    originals = [corrupted(tmp_path / f"{name}.ms") for name in "ab"]
    workdir = make_run(tmp_path, *originals)
    other = originals[1 - number]
    before = contents(other)
    (line,) = apply_to_original(workdir, str(originals[number]))
    assert line.startswith(f"{originals[number]}: 1 table(s)")
    assert error_of(originals[number]) < 1e-5
    assert contents(other) == before


def test_all_of_several_inputs(tmp_path: Path) -> None:
    originals = [corrupted(tmp_path / f"{name}.ms") for name in "ab"]
    assert len(list(apply_to_original(make_run(tmp_path, *originals), None))) == 2
    assert max(map(error_of, originals)) < 1e-5


def test_none_of_several_inputs_is_refused(tmp_path: Path) -> None:
    originals = [corrupted(tmp_path / f"{name}.ms") for name in "ab"]
    workdir = make_run(tmp_path, *originals)
    third = corrupted(tmp_path / "c.ms")
    before = contents(third)
    with pytest.raises(ConfigError, match="none of the run's inputs"):
        list(apply_to_original(workdir, str(third)))
    assert contents(third) == before


def test_another_data_set_of_the_same_setup(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms")
    workdir = make_run(tmp_path, original)
    other = corrupted(tmp_path / "other.ms")
    before = contents(original)
    list(apply_to_original(workdir, str(other)))
    assert error_of(other) < 1e-5
    assert contents(original) == before


def test_other_windows_or_antennas_are_refused_untouched(tmp_path: Path) -> None:
    workdir = make_run(tmp_path, corrupted(tmp_path / "a.ms"))
    for name, how, said in (
        ("antennas", {"antennas": 6}, "other antennas"),
        ("windows", {"antennas": 5, "channels": 4}, "other spectral windows"),
    ):
        other = make_ms(tmp_path / f"{name}.ms", **how)  # type: ignore[arg-type]
        before = contents(other)
        with pytest.raises(InputError, match=said):
            list(apply_to_original(workdir, str(other)))
        assert contents(other) == before


def test_a_run_without_solutions(tmp_path: Path) -> None:
    workdir = make_run(tmp_path, corrupted(tmp_path / "a.ms"))
    (workdir / "summary.json").write_text('{"tables": []}')
    with pytest.raises(ConfigError, match="accepted no solutions"):
        list(apply_to_original(workdir, None))
    (workdir / "summary.json").unlink()
    with pytest.raises(ConfigError, match="no finished run"):
        list(apply_to_original(workdir, None))


def test_solutions_of_an_h5parm(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms")
    assert apply_solutions(original, gains()).startswith(f"{original}: applied")
    assert error_of(original) < 1e-5
    assert flag_versions.has_version(original, VERSION)
    assert not list(tmp_path.glob("tmp*")), "nothing is left behind"


# -- fields: an original of a calibrator (scan 1) and the target (scan 2) -------------------------

BOTH = {"fields": ("phasecal", "target"), "scans": 2}
ROWS = slice(20, 40)


def column(ms: Path, name: str) -> np.ndarray:
    with tables.open_table(ms) as opened:
        return np.asarray(opened.getcol(name))


def target_run(folder: Path, original: Path) -> Path:
    """A run of the target of an original with more fields; antenna 4 has no solution."""
    workdir = make_run(folder, original, flagged=(4,))
    with tables.open_table(workdir / "data" / original.name, write=True) as opened:
        opened.putcol("FIELD_ID", np.zeros(opened.nrows(), np.int32))
    return workdir


def test_rows_of_other_fields_are_not_touched(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", **BOTH)
    ensure_data_column(original, "CORRECTED_DATA")
    earlier, flagged = column(original, "CORRECTED_DATA") + 7, flags_of(original)
    flagged[2:4] = True
    with tables.open_table(original, write=True) as opened:
        opened.putcol("CORRECTED_DATA", earlier)
        opened.putcol("FLAG", flagged)
    (line,) = apply_to_original(target_run(tmp_path, original), None)
    assert "of field target, flags 0.0% -> 40.0%" in line, "of the rows written"
    corrected, now = column(original, "CORRECTED_DATA"), flags_of(original)
    np.testing.assert_array_equal(corrected[:20], earlier[:20])
    np.testing.assert_array_equal(now[:20], flagged[:20])
    np.testing.assert_allclose(corrected[ROWS][~now[ROWS]], 1, atol=1e-5)
    assert now[ROWS].any()


def test_a_new_column_is_a_copy_of_the_data_elsewhere(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", **BOTH)
    list(apply_to_original(target_run(tmp_path, original), None))
    data, corrected = column(original, "DATA"), column(original, "CORRECTED_DATA")
    np.testing.assert_array_equal(corrected[:20], data[:20])
    assert np.abs(data[ROWS] - 1).max() > 0.5 > np.abs(corrected[ROWS][:3] - 1).max()


@pytest.mark.parametrize(("field", "kept"), [("phasecal", ROWS), ("target, phasecal", slice(0))])
def test_a_calibrators_solutions_for_other_fields(tmp_path: Path, field: str, kept: slice) -> None:
    original = corrupted(tmp_path / "a.ms", **BOTH)
    list(apply_to_original(target_run(tmp_path, original), None, field))
    data, corrected = column(original, "DATA"), column(original, "CORRECTED_DATA")
    np.testing.assert_array_equal(corrected[kept], data[kept])
    rest = np.setdiff1d(np.arange(40), np.arange(40)[kept])
    good = ~flags_of(original)[rest]
    np.testing.assert_allclose(corrected[rest][good], 1, atol=1e-5)


def test_all_fields_by_name(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", **BOTH)
    (line,) = apply_to_original(target_run(tmp_path, original), None, "all")
    assert "of all fields" in line and error_of(original) < 1e-5


def test_a_field_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", **BOTH)
    workdir = target_run(tmp_path, original)
    before = contents(original)
    with pytest.raises(ConfigError, match=r"no field 3C48: .* its fields are phasecal, target"):
        list(apply_to_original(workdir, None, "target,3C48"))
    with pytest.raises(ConfigError, match="no field Target"):
        apply_solutions(original, gains(), "Target")
    assert contents(original) == before and not flag_versions.has_version(original, VERSION)


def test_flags_of_other_fields_set_since_stay(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", **BOTH)
    workdir = target_run(tmp_path, original)
    list(apply_to_original(workdir, None))
    with tables.open_table(original, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[:5] = True
        opened.putcol("FLAG", flag)
    list(apply_to_original(workdir, None))
    np.testing.assert_array_equal(flags_of(original), flag)


def test_fields_of_one_name_are_one_field(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", fields=("mosaic", "mosaic"), scans=2)
    workdir = make_run(tmp_path, original, fields=("mosaic",))
    list(apply_to_original(workdir, None))
    assert error_of(original) < 1e-5


def test_solutions_of_an_h5parm_for_one_field(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", **BOTH)
    apply_solutions(original, gains((4,)), "target")
    data, corrected = column(original, "DATA"), column(original, "CORRECTED_DATA")
    np.testing.assert_array_equal(corrected[:20], data[:20])
    assert not flags_of(original)[:20].any() and flags_of(original)[ROWS].any()
    good = ~flags_of(original)[ROWS]
    np.testing.assert_allclose(corrected[ROWS][good], 1, atol=1e-5)


def test_a_column_that_a_kill_left_half_filled_is_filled(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", **BOTH)
    workdir = target_run(tmp_path, original)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from libs.ms import columns\n"
        "from steps.applying import apply_to_original\n"
        "def killed(opened, rows, values):\n"
        "    for name, cells in values.items():\n"
        "        opened.putcol(name, 0 * cells, int(rows[0]), len(rows))\n"
        "    opened.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "columns.write_rows = killed\n"
        "list(apply_to_original(Path(sys.argv[1]), None))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(workdir)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a.ms.filling").exists()
    list(apply_to_original(workdir, None))
    corrected = column(original, "CORRECTED_DATA")
    np.testing.assert_array_equal(corrected[:20], column(original, "DATA")[:20])
    assert {path.name for path in tmp_path.iterdir()} == {"a.ms", "a.ms.flagversions", "work"}


def test_a_field_selected_by_number_is_that_one_only(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms", fields=("mosaic", "mosaic"), scans=2)
    workdir = make_run(tmp_path, original, field="1", fields=("mosaic",))
    list(apply_to_original(workdir, None))
    data, corrected = column(original, "DATA"), column(original, "CORRECTED_DATA")
    np.testing.assert_array_equal(corrected[:20], data[:20])
    np.testing.assert_allclose(corrected[ROWS], 1, atol=1e-5)


# -- windows: the run was of one of two --------------------------------------------------------


def two_windows(path: Path, first_ghz: float = 5.0) -> Path:
    """Window 0 for the first two times, window 1 (9 GHz) for the others."""
    corrupted(path)
    with tables.open_table(f"{path}::SPECTRAL_WINDOW", write=True) as windows:
        windows.copyrows(windows)
        windows.putcell("CHAN_FREQ", 0, first_ghz * 1e9 + 2e6 * np.arange(8))
        windows.putcell("CHAN_FREQ", 1, 9e9 + 2e6 * np.arange(8))
    with tables.open_table(f"{path}::DATA_DESCRIPTION", write=True) as descriptions:
        descriptions.copyrows(descriptions)
        descriptions.putcol("SPECTRAL_WINDOW_ID", np.array([0, 1]))
    with tables.open_table(path, write=True) as opened:
        opened.putcol("DATA_DESC_ID", np.repeat([0, 1], 20))
    return path


def window_run(folder: Path, original: Path, ghz: float, **how: Any) -> Path:
    """A run whose working copy has one window of the original, as window 0."""
    workdir = make_run(folder, original, **how)
    with tables.open_table(
        f"{workdir / 'data' / original.name}::SPECTRAL_WINDOW", write=True
    ) as windows:
        windows.putcell("CHAN_FREQ", 0, ghz * 1e9 + 2e6 * np.arange(8))
    return workdir


def test_rows_of_windows_that_the_run_had_not_stay(tmp_path: Path) -> None:
    original = two_windows(tmp_path / "a.ms")
    list(apply_to_original(window_run(tmp_path, original, 9.0, spw="1", flagged=(4,)), None))
    data, corrected = column(original, "DATA"), column(original, "CORRECTED_DATA")
    np.testing.assert_array_equal(corrected[:20], data[:20])
    assert not flags_of(original)[:20].any()
    good = ~flags_of(original)[ROWS]
    assert 0.5 < good.mean() < 0.7
    np.testing.assert_allclose(corrected[ROWS][good], 1, atol=1e-5)


def test_windows_alike_are_told_by_the_runs_selection(tmp_path: Path) -> None:
    original = two_windows(tmp_path / "a.ms", first_ghz=9.0)
    list(apply_to_original(window_run(tmp_path, original, 9.0, spw="1"), None))
    data, corrected = column(original, "DATA"), column(original, "CORRECTED_DATA")
    np.testing.assert_array_equal(corrected[:20], data[:20])
    np.testing.assert_allclose(corrected[ROWS], 1, atol=1e-5)


def test_a_window_that_the_target_lacks(tmp_path: Path) -> None:
    original = two_windows(tmp_path / "a.ms")
    before = contents(original)
    with pytest.raises(InputError, match=r"other spectral windows than .* 7\.007000 GHz is"):
        list(apply_to_original(window_run(tmp_path, original, 7.0), None))
    assert contents(original) == before


def test_an_execution_that_was_moved_is_refused_by_the_name_of_its_copy(tmp_path: Path) -> None:
    original = corrupted(tmp_path / "a.ms")
    workdir = tmp_path / "work"
    workdir.mkdir()
    name = "a.J1.spw0.selfcal.ms"
    State(workdir).append(
        "align",
        "f0",
        StepResult(metrics={"aligned": [name]}),
        {"total": 0.1, "imaging": 0.0, "solving": 0.0},
        {},
    )
    taken = {str(original.resolve()): (name, {})}
    with pytest.raises(ConfigError, match="brought to the position and fluxes of another"):
        _refuse_aligned(workdir, resolve_inputs(str(original)), taken)
    _refuse_aligned(workdir, resolve_inputs(str(corrupted(tmp_path / "b.ms"))), taken)
