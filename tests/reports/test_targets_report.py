"""The summary, table and page of several targets."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from libs.core.errors import InputError
from reports.targets_report import (
    build_targets_summary,
    finish_targets,
    targets_table,
    write_targets_report,
)

STATE = {"image": "i.fits", "peak_jy_beam": 1.0, "rms_jy_beam": 0.01, "snr": 100.0,
         "dynamic_range": 90.0, "total_flux_jy": 1.5}  # fmt: skip
INITIAL = {**STATE, "rms_jy_beam": 0.1, "snr": 10.0, "dynamic_range": 9.0}


def result(label: str, status: str = "improved", **more: Any) -> dict[str, Any]:
    field, _, band = label.partition("_")
    found = {"label": label, "field": field, "band": band, "workdir": f"targets/{label}",
             "status": status, "notes": []}  # fmt: skip
    if status == "failed":
        return {**found, "reason": "step p0 failed", **more}
    kept = {"p0": "SNR up"} if status == "improved" else {}
    return {
        **found, "initial": INITIAL, "final": STATE, "accepted": kept, "rejected": {"ap1": "no"},
        "tables": list(kept), "h5parm": "solutions.h5", "seconds_total": 12.3, "warnings": [],
        "versions": {"wsclean": "3"}, "longest_baseline_km": 20.0, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["improved", "unchanged"], "improved"),
        (["unchanged", "unchanged"], "unchanged"),
        (["improved", "failed"], "failed"),
        (["improved", "incomplete"], "incomplete"),
    ],
)
def test_the_status_of_all(statuses: list[str], expected: str) -> None:
    summary = build_targets_summary([result(f"A_{n}", s) for n, s in enumerate(statuses)])
    assert summary["status"] == expected
    assert sum(summary["counts"].values()) == 2


def test_each_target_keeps_the_keys_of_its_run() -> None:
    summary = build_targets_summary([result("A_C", warnings=["loud"]), result("B_X", "failed")])
    assert summary["targets"]["A_C"]["final"] == STATE
    assert summary["targets"]["B_X"]["reason"] == "step p0 failed"
    assert summary["warnings"] == ["A_C: loud"] and summary["versions"] == {"wsclean": "3"}


def test_a_line_for_each_target_and_band() -> None:
    summary = build_targets_summary([result("A_C"), result("LONGNAME_X", "failed"), result("B")])
    heading, rule, *rows = targets_table(summary).splitlines()
    assert heading.split() == [
        "target", "band", "status", "SNR", "before", "after", "DR", "before", "after", "kept", "s",
    ]  # fmt: skip
    assert set(rule) == {"-", " "}
    assert rows[0].split() == [
        "A_C",
        "C",
        "improved",
        "10.00",
        "100.0",
        "9.000",
        "90.00",
        "p0",
        "12",
    ]
    assert rows[1].split() == ["LONGNAME_X", "X", "failed", "-", "-", "-", "-", "-", "-"]
    assert rows[2].split()[1] == "-", "no band"
    assert targets_table(summary).isascii()


def test_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "targets/A_C").mkdir(parents=True)
    (tmp_path / "targets/A_C/report.html").write_text("its own")
    finish_targets(tmp_path, [result("A_C"), result("B_X", "failed", reason="<died>")])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["counts"] == {"improved": 1, "unchanged": 0, "failed": 1}
    rows = list(csv.DictReader((tmp_path / "targets.csv").open()))
    assert [row["target"] for row in rows] == ["A_C", "B_X"]
    assert rows[0]["initial_snr"] == "10.0" and rows[0]["final_snr"] == "100.0"
    assert rows[0]["accepted"] == "p0" and rows[0]["rejected"] == "ap1"
    assert rows[1]["reason"] == "<died>" and rows[1]["final_snr"] == ""
    page = (tmp_path / "report.html").read_text()
    assert "1 of 2 targets failed" in page
    assert 'href="targets/A_C/report.html"' in page
    assert 'href="targets/B_X/report.html"' not in page, "it has none"
    assert "&lt;died&gt;" in page and "<died>" not in page
    assert "10.00" in page and "100.0" in page


def test_fields_of_one_name_and_band_are_told_apart(tmp_path: Path) -> None:
    both = [result("M_C") | {"label": f"M_{n}", "band": "C"} for n in (1, 2)]
    finish_targets(tmp_path, both)
    page = (tmp_path / "report.html").read_text()
    assert '<th scope="row">M_1</th>' in page and '<th scope="row">M_2</th>' in page


def test_no_run_of_targets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run of several targets"):
        write_targets_report(tmp_path)
    (tmp_path / "summary.json").write_text('{"status": "improved"}')
    with pytest.raises(InputError, match="holds no run of several targets"):
        write_targets_report(tmp_path)
