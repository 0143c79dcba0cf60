"""Several targets: one record, one folder of products, one page; a failed one has its reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from libs.core.errors import ConfigError
from libs.ms.history import read_data_types
from libs.record.schema import load_record
from reports.targets_report import finish_targets, write_targets_report
from selfcal.state import State
from selfcal.step import StepResult
from steps.record.build import record_of_run, write_run_record
from steps.record.bundling import bundle_run
from steps.record.merge import write_targets_record
from steps.record.restore import HowToApply, apply_record, restore
from tests.pipeline_case import PipelineCase
from tests.steps.record.finished_run import SECONDS, TARGET, finish_run, small_case

OTHER = "G34.3 core#1"
STATE = {"image": "i.fits", "peak_jy_beam": 1.0, "rms_jy_beam": 0.1, "snr": 10.0,
         "dynamic_range": 9.0, "total_flux_jy": 1.5}  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> PipelineCase:
    return small_case(tmp_path_factory.mktemp("case"), 2)


def result(label: str, field: str, status: str = "improved", **more: Any) -> dict[str, Any]:
    own = {"label": label, "field": field, "band": "6", "workdir": f"targets/{label}",
           "status": status, "notes": []}  # fmt: skip
    if status == "failed":
        return {**own, "reason": "step startup failed: all visibilities are flagged", **more}
    return {**own, "initial": STATE, "final": STATE, "accepted": {"p0": "better"}, "rejected": {},
            "tables": ["t"], "warnings": [], "versions": {"native": "1"}, "seconds_total": 1.0,
            "qa": {"score": 0.98, "reason": "solutions were kept"}, **more}  # fmt: skip


@pytest.fixture(scope="module")
def run(case: PipelineCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two targets that improved and one that failed."""
    workdir = tmp_path_factory.mktemp("many") / "work"
    for label, field in (("04287+1801", TARGET), ("G34.3_core_1", OTHER)):
        write_run_record(finish_run(workdir / "targets" / label, case, field), {"native": "1"})
    results = [
        result("04287+1801", TARGET),
        result("dead", "dead", "failed"),
        result("G34.3_core_1", OTHER),
    ]
    write_targets_record(workdir, results, "ous")
    finish_targets(workdir, results)
    return workdir


def test_one_record_has_all_targets_and_each_execution_once(run: Path, case: PipelineCase) -> None:
    path = record_of_run(run)
    assert path == run / "ous.selfcal.json"
    record = load_record(path)
    assert [each.name for each in record.executions] == [ms.stem for ms in case.vis]
    assert [target.label for target in record.targets] == ["04287+1801", "dead", "G34.3_core_1"]
    dead = record.targets[1]
    assert (dead.status, dead.qa_score, dead.applied) == ("failed", 0.8, ())
    assert "all visibilities are flagged" in dead.reason
    assert len(record.applied) == 4
    assert all((run / entry.table / "table.dat").exists() for entry in record.applied)
    assert len({entry.table for entry in record.applied}) == 4


def test_the_products_of_all_take_no_space(run: Path) -> None:
    images = list((run / "products").glob("*.fits"))
    assert len(images) == 4
    assert all(path.stat().st_nlink >= 3 for path in images)


def test_a_bundle_of_all_is_restored(run: Path, case: PipelineCase, tmp_path: Path) -> None:
    bundle_run(run, tmp_path / "x.tgz")
    ms = Path(shutil.copytree(case.vis[0], tmp_path / "new.ms"))
    lines = list(restore(tmp_path / "x.tgz", [ms], HowToApply()))
    assert "dead: failed, it has no solutions to apply" in lines
    assert {name for name, _ in read_data_types(ms).per_source} == {TARGET, OTHER}


def test_the_page_has_a_row_for_each_with_the_reason_of_a_failure(
    run: Path, case: PipelineCase, tmp_path: Path
) -> None:
    page = (run / "report.html").read_text()
    for text in ("0–3 (217.00–232.50)", "128 × 128", "12s (p)", "not yet",
                 "Quality score of the run: 0.8 (self-calibration failed)"):  # fmt: skip
        assert text in page, text
    row = page[page.index('href="#dead"', page.index("How each target")) :]
    assert "failed: step startup failed: all visibilities are flagged" in row[: row.index("</tr>")]
    ms = Path(shutil.copytree(case.vis[0], tmp_path / "mine.ms"))
    list(apply_record(run, [ms], HowToApply()))
    again = write_targets_report(run).read_text()
    assert "mine.ms" in again and "not yet" in again, "the failed one is applied to nothing"
    (run / "applied.json").unlink()


def test_the_scores_are_in_the_summary(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["qa"]["score"] == 0.8
    scores = {label: entry["qa"]["score"] for label, entry in summary["targets"].items()}
    assert scores == {"04287+1801": 0.98, "dead": 0.8, "G34.3_core_1": 0.98}


def test_a_target_that_was_run_since_makes_the_record_out_of_date(
    run: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "copy"))
    State(copied / "targets/04287+1801").append("p1", "f9", StepResult(), SECONDS, {})
    assert record_of_run(copied) is None
    with pytest.raises(ConfigError, match="no record of a finished run"):
        bundle_run(copied, tmp_path / "x.tgz")


def test_executions_of_one_name_are_told_apart(case: PipelineCase, tmp_path: Path) -> None:
    """Data sets of one name lie in different folders; each target has one of them."""
    workdir = tmp_path / "work"
    for label, ms in zip(("A", "B"), case.vis, strict=True):
        folder = tmp_path / label
        shutil.copytree(ms, folder / "data.ms")
        place = case.vis.index(ms)
        one = PipelineCase(
            case.executions[place : place + 1], case.fields, case.windows, (folder / "data.ms",),
            (), case.gains[place : place + 1], case.fields_of[place : place + 1],
            case.windows_of[place : place + 1],
        )  # fmt: skip
        write_run_record(finish_run(workdir / "targets" / label, one), {})
    path = write_targets_record(workdir, [result("A", TARGET), result("B", TARGET)])
    assert path is not None
    record = load_record(path)
    assert [each.name for each in record.executions] == ["data", "data_2"]
    assert [entry.execution for entry in record.applied] == ["data", "data_2"]
    assert len({entry.table for entry in record.applied}) == 2
    sets = [tmp_path / label / "data.ms" for label in "BA"]
    assert len(list(apply_record(workdir, sets, HowToApply()))) == 2


def test_no_target_had_data(tmp_path: Path) -> None:
    assert write_targets_record(tmp_path, [result("dead", "dead", "failed")]) is None
