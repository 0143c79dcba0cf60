"""summary.json: what the outcome was, what to image, and nothing that is not on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.summary import write_summary
from tests.reports.fake_run import STEP_COLUMNS, step_row, write_rows

INITIAL = {"peak_jy_beam": 1.0, "rms_jy_beam": 0.02, "snr": 50.0, "dynamic_range": 40.0,
           "total_flux_jy": 1.2}  # fmt: skip


def image(snr: float, **more: Any) -> dict[str, Any]:
    return {**INITIAL, "snr": snr, "kind": "round", "solint_s": 30.0, **more}


def startup(*names: str, **metrics: Any) -> dict[str, str]:
    products = {f"working_copy_{i}": f"data/{name}.ms" for i, name in enumerate(names)}
    metrics = {"longest_baseline_m": 36400.0, **metrics}
    return step_row("startup", products=products, metrics=metrics)


def table(name: str) -> dict[str, Any]:
    return {"ms": "a.ms", "path": f"tables/{name}.a.gcal", "spwmap": [], "interp": "linear"}


def summary_of(workdir: Path, *rows: dict[str, str], status: str = "") -> dict[str, Any]:
    write_rows(workdir / "steps.csv", STEP_COLUMNS, list(rows))
    made = write_summary(workdir, {"python": "3.11"}, status)
    text = (workdir / "summary.json").read_text()

    def no_constant(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(text, parse_constant=no_constant) == made
    return made


TEST_IMAGE = step_row("test_image", metrics=INITIAL, products={"image": "images/test_image.fits"})
P0 = step_row("p0", reason="SNR 50 -> 90", metrics=image(90.0, calmode="p"), tables=[table("p0")],
              products={"image": "images/p0.fits"})  # fmt: skip
P1 = step_row("p1", "rejected", reason="SNR fell 90 -> 80", tables=[table("p0")],
              metrics=image(80.0, calmode="p"), products={"image": "images/p1.fits"})  # fmt: skip
AP1 = step_row(
    "ap1", reason="SNR 90 -> 200", tables=[table("p0"), table("ap1")],
    metrics=image(200.0, calmode="ap"), products={"image": "images/ap1.fits"},
)  # fmt: skip


def test_a_run_that_helped(tmp_path: Path) -> None:
    (tmp_path / "solutions.h5").touch()
    made = summary_of(tmp_path, startup("a"), TEST_IMAGE, P0, P1, AP1)
    assert made["status"] == "improved"
    assert (made["calibrated_ms"], made["column"]) == ("data/a.ms", "CORRECTED_DATA")
    assert made["initial"] == {"image": "images/test_image.fits", **INITIAL}
    assert made["final"]["snr"] == 200.0 and made["final"]["image"] == "images/ap1.fits"
    assert made["accepted"] == {"p0": "SNR 50 -> 90", "ap1": "SNR 90 -> 200"}
    assert made["rejected"] == {"p1": "SNR fell 90 -> 80"}
    assert made["tables"] == ["tables/p0.a.gcal", "tables/ap1.a.gcal"]
    assert made["h5parm"] == "solutions.h5"
    assert made["longest_baseline_km"] == pytest.approx(36.4)
    assert made["versions"] == {"python": "3.11"}
    assert "untouched" not in made


def test_seconds_are_those_of_the_steps(tmp_path: Path) -> None:
    made = summary_of(tmp_path, startup("a"), TEST_IMAGE, P0)
    assert made["seconds"] == {"startup": 2.5, "test_image": 2.5, "p0": 2.5}
    assert made["seconds_imaging"] == pytest.approx(4.5)
    assert made["seconds_solving"] == pytest.approx(1.2)


def test_a_run_in_which_nothing_helped(tmp_path: Path) -> None:
    rejected = step_row("p0", "rejected", reason="SNR fell", metrics=image(40.0))
    made = summary_of(tmp_path, startup("a"), TEST_IMAGE, rejected)
    assert made["status"] == "unchanged"
    assert (made["calibrated_ms"], made["column"]) == ("data/a.ms", "DATA")
    assert made["final"] == made["initial"]
    assert (made["tables"], made["h5parm"], made["longest_baseline_km"]) == ([], "", 0.0)
    assert made["rejected"] == {"p0": "SNR fell"}


def test_a_leftover_h5parm_of_a_run_without_solutions_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "solutions.h5").touch()
    assert summary_of(tmp_path, startup("a"), TEST_IMAGE)["h5parm"] == ""


def test_a_run_that_failed_says_so_and_gives_what_there_is(tmp_path: Path) -> None:
    made = summary_of(tmp_path, startup("a"), status="failed")
    assert made["status"] == "failed"
    assert made["initial"] == made["final"] == {}
    assert made["column"] == "DATA"


def test_the_last_phase_round_says_how_far_it_reached(tmp_path: Path) -> None:
    short = step_row("p0", metrics=image(90.0, calmode="p", longest_baseline_km=12.0))
    longer = step_row("p1", metrics=image(95.0, calmode="p", longest_baseline_km=30.0))
    amplitudes = step_row("ap1", metrics=image(99.0, calmode="ap", longest_baseline_km=5.0))
    made = summary_of(tmp_path, startup("a"), TEST_IMAGE, short, longer, amplitudes)
    assert made["longest_baseline_km"] == 30.0


def test_split_data_are_what_to_image(tmp_path: Path) -> None:
    split = step_row("split_trial_1", products={"calibrated_ms": "data/a_selfcal.ms"})
    made = summary_of(tmp_path, startup("a"), TEST_IMAGE, P0, split)
    assert (made["calibrated_ms"], made["column"]) == ("data/a_selfcal.ms", "DATA")
    skipped = step_row("split_trial_1", "skipped")
    made = summary_of(tmp_path, startup("a"), TEST_IMAGE, P0, skipped)
    assert (made["calibrated_ms"], made["column"]) == ("data/a.ms", "CORRECTED_DATA")


def test_several_executions_are_all_named(tmp_path: Path) -> None:
    made = summary_of(tmp_path, startup("a", "b"), TEST_IMAGE, P0)
    assert made["calibrated_ms"] == ["data/a.ms", "data/b.ms"]


def test_statistics_that_are_not_numbers_are_null(tmp_path: Path) -> None:
    broken = step_row("test_image", metrics={**INITIAL, "dynamic_range": None, "snr": ""})
    made = summary_of(tmp_path, startup("a"), broken)
    assert made["initial"]["dynamic_range"] is None and made["initial"]["snr"] is None


def test_warnings_and_the_untouched_data_of_a_demonstration(tmp_path: Path) -> None:
    loud = step_row("ap1", metrics=image(99.0, warning="flux changed by +9 %"))
    untouched = {f"untouched_{name}": value for name, value in INITIAL.items()}
    report = step_row("report_results", metrics={**untouched, "untouched_snr": 300.0})
    made = summary_of(tmp_path, startup("a"), TEST_IMAGE, loud, report)
    assert made["warnings"] == ["flux changed by +9 %"]
    assert made["untouched"]["snr"] == 300.0


def test_agreement_with_closure_quantities(tmp_path: Path) -> None:
    metrics = {"closure_phases": 300, "closure_amplitudes": 60, "phase_floor_rad": 0.035,
               "amplitude_floor": 0.02, "initial_model_phase_chi2": 0.9,
               "initial_model_amplitude_chi2": 0.8, "final_image_phase_chi2": 1.2}  # fmt: skip
    check = step_row("closure_check", metrics=metrics)
    made = summary_of(tmp_path, startup("a"), TEST_IMAGE, P0, check)
    assert made["closure"] == {
        "closure_phases": 300, "closure_amplitudes": 60, "phase_floor_rad": 0.035,
        "amplitude_floor": 0.02, "initial_model": {"phase_chi2": 0.9, "amplitude_chi2": 0.8},
        "final_image": {"phase_chi2": 1.2},
    }  # fmt: skip
    assert made["final"]["snr"] == 90.0, "the check is no round"
    skipped = step_row("closure_check", "skipped", reason="no closure quantities")
    assert "closure" not in summary_of(tmp_path, startup("a"), TEST_IMAGE, P0, skipped)


def test_what_was_said_loudly_is_in_the_summary(tmp_path: Path) -> None:
    made = summary_of(
        tmp_path,
        startup("a", warnings=["ea01: feed X is dead"]),
        step_row("test_image", metrics={**INITIAL, "warning": "a bright source outside"}),
        step_row("p0", metrics=image(80.0, warnings=["ea01: feed X is dead", "flux +270 %"])),
    )
    assert made["warnings"] == ["ea01: feed X is dead", "a bright source outside", "flux +270 %"]


def test_a_run_with_steps_left_is_not_over(tmp_path: Path) -> None:
    rows = [startup("a"), step_row("test_image", metrics=INITIAL)]
    assert summary_of(tmp_path, *rows, status="incomplete")["status"] == "incomplete"
    # a step that ran again makes those after it old
    again = [step_row("p0", metrics=image(80.0)), step_row("test_image", metrics=INITIAL)]
    (tmp_path / "resolved.yaml").write_text("steps: {value: [startup, test_image, p0]}\n")
    assert summary_of(tmp_path, *rows, *again)["status"] == "incomplete"
