from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.records import read_run
from reports.style import format_number, format_quantity, format_seconds, prefixed
from reports.tables import GAIN_COLUMNS, final_table, gains_rows, write_csv
from tests.reports.fake_run import STEP_COLUMNS, make_gains, step_row, write_rows

SUMMARY = {
    "initial": {"peak_jy_beam": 1.5, "rms_jy_beam": 0.02, "snr": 75.0, "dynamic_range": 70.0,
                "total_flux_jy": 3.0},
    "final": {"peak_jy_beam": 2.0, "rms_jy_beam": 0.0005, "snr": 4000.0, "dynamic_range": 12345.6,
              "total_flux_jy": None},
}  # fmt: skip


def test_final_table_lines() -> None:
    lines = final_table(SUMMARY).splitlines()
    assert lines[0].split("  ")[-1].strip() == "total flux (Jy)"
    assert "rms (mJy/beam)" in lines[0]  # one unit a column
    assert lines[2].split() == ["initial", "1.500", "20.00", "75.00", "70.00", "3.000"]
    assert lines[3].split() == ["final", "2.000", "0.5000", "4000", "12346", "-"]
    assert all(ord(character) < 128 for character in final_table(SUMMARY))


def test_final_table_has_untouched_data_and_targets() -> None:
    table = final_table({**SUMMARY, "untouched": SUMMARY["final"]})
    assert table.splitlines()[-1].startswith("untouched data")
    both = final_table({"targets": {"3C1": SUMMARY, "3C2": SUMMARY}})
    assert both.count("initial") == 2 and "3C2" in both
    assert final_table({}) == ""


def test_final_table_ends_with_closure_quantities() -> None:
    closure = {"initial_model": {"phase_chi2": 0.7231, "amplitude_chi2": 0.7},
               "final_image": {"phase_chi2": 1.234}}  # fmt: skip
    last = final_table({**SUMMARY, "closure": closure}).splitlines()[-1]
    assert last == (
        "reduced chi2 of closure phases and log closure amplitudes:"
        " first model 0.723 and 0.700, final image 1.23 and -"
    )


def test_gain_rows_have_the_recorded_columns() -> None:
    solutions = make_gains(antennas=5, spws=2)
    rows = gains_rows(solutions, step="p1", ms="a.ms")
    assert len(rows) == 2 * 5 * 2
    assert all(tuple(row) == GAIN_COLUMNS for row in rows)
    reference = next(row for row in rows if row["antenna"] == "EA03")
    assert reference["phase_rms_deg"] == 0 and reference["flagged_fraction"] == 0
    flagged = rows[-1]
    assert flagged["flagged_fraction"] == 1 and flagged["snr_median"] == ""
    assert flagged["solutions"] == 40


@given(st.floats(-math.pi, math.pi), st.floats(0.5, 2.0))
def test_a_constant_gain_has_its_own_mean_and_no_scatter(phase: float, amplitude: float) -> None:
    solutions = make_gains(antennas=1, times=6, pols=("I",))
    solutions.gain[:] = amplitude * np.exp(1j * phase)
    solutions.flag[:] = False
    (row,) = gains_rows(solutions, step="p0", ms="a.ms")
    difference = math.radians(row["phase_mean_deg"]) - phase
    assert abs(math.remainder(difference, 2 * math.pi)) < 1e-5
    assert row["phase_rms_deg"] < 1e-3
    assert row["amplitude_mean"] == pytest.approx(amplitude, rel=1e-5)


def test_phases_across_the_wrap_do_not_cancel() -> None:
    solutions = make_gains(antennas=1, times=2, pols=("I",))
    solutions.gain[:, 0, 0, 0] = np.exp(1j * np.radians([179.0, -179.0]))
    solutions.flag[:] = False
    (row,) = gains_rows(solutions, step="p0", ms="a.ms")
    assert abs(row["phase_mean_deg"]) == pytest.approx(180.0, abs=1e-3)
    assert row["phase_rms_deg"] == pytest.approx(1.0, abs=1e-3)


def test_gain_rows_are_read_back(tmp_path: Path) -> None:
    rows = gains_rows(make_gains(), step="p1", ms="a.ms")
    write_csv(tmp_path / "gains.csv", GAIN_COLUMNS, rows)
    write_rows(tmp_path / "steps.csv", STEP_COLUMNS, [step_row("p1")])
    gains = read_run(tmp_path).gains
    assert len(gains) == len(rows)
    assert gains[0].antenna == "EA01" and gains[0].solutions == 40
    assert math.isnan(gains[-1].snr_median)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ("x",), [{"x": 1}])
    with pytest.raises(ValueError, match="not in fieldnames"):
        write_csv(path, ("x",), [{"y": 1}])
    assert path.read_text() == "x\n1\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1234"), (12345.0, "12\u202f345"), (0.012345, "0.0123"),
     (2e-9, "2.00e-09"), (math.nan, "\u2013"), (-3.14159, "-3.14")],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(1e-8, 1e9))
def test_prefixes_keep_the_value(value: float) -> None:
    factor, unit = prefixed(value, "Jy")
    scale = {"G": 1e9, "M": 1e6, "k": 1e3, "": 1, "m": 1e-3, "µ": 1e-6, "n": 1e-9}[unit[:-2]]
    assert value * factor * scale == pytest.approx(value)
    assert 0.999 <= value * factor < 1001


def test_intervals() -> None:
    assert [format_seconds(s) for s in (9.99987, 0.5, 1200.0)] == ["10 s", "0.5 s", "1200 s"]


def test_quantities() -> None:
    assert format_quantity(0.00123, "Jy/beam") == "1.23 mJy/beam"
    assert format_quantity(33.6, "Jy") == "33.6 Jy"
