"""Details of targets on the page of several, from a record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from libs.record.identity import solutions_id
from libs.record.schema import FlagChange, FlagShare, LengthBin, store_record
from libs.record.windows import short_windows
from reports.target_details import TargetsRecord, interval_table, settings_table, target_figures
from tests.libs.record.records import execution, record

CHANGE = FlagChange(
    {"A0": FlagShare(0.0, 0.4), "A1": FlagShare(0.1, 0.1)},
    (LengthBin(10.0, 80.0, FlagShare(0.0, 0.2)), LengthBin(80.0, 900.0, FlagShare(0.1, 0.3))),
)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    store_record(tmp_path / "oussid.selfcal.json", record())
    return tmp_path


ENTRY = {"band": "6", "status": "improved", "qa": {"score": 0.98}}


def test_a_target_has_its_settings_and_intervals(workdir: Path) -> None:
    found = TargetsRecord.read(workdir)
    page = settings_table(found, {"04287+1801": ENTRY, "new": {**ENTRY, "status": "failed"}})
    for text in ("0–1 (217.00–219.00)", "0.05", "128 × 128", "30s (p)", "0.98", "not yet"):
        assert text in page
    assert "failed: no reason is recorded" in page
    intervals = interval_table(record().targets[0])
    for text in ("30s", "p T", "passed", "10.00", "20.00", "1.010", "10.0%"):
        assert text in intervals


def test_only_the_present_solutions_count_as_applied(workdir: Path) -> None:
    identity = solutions_id(record().targets[0].applied)
    for solutions, said in ((identity, True), ("others", False)):
        text = f'{{"04287+1801": {{"solutions": "{solutions}", "sets": ["/d/mine.ms"]}}}}'
        (workdir / "applied.json").write_text(text)
        page = settings_table(TargetsRecord.read(workdir), {"04287+1801": ENTRY})
        assert ("mine.ms" in page) == said


def test_flags_are_drawn_where_there_are_any(workdir: Path) -> None:
    target = replace(record().targets[0], flags={"one": CHANGE})
    parts = "".join(target_figures(workdir, workdir, target))
    assert (
        workdir / "plots/04287+1801.flags.png"
    ).exists() and "by length of the baseline" in parts
    none = FlagChange({"A0": FlagShare(0.0, 0.0)})
    parts = "".join(target_figures(workdir, workdir, replace(target, flags={"one": none})))
    assert "No visibility is flagged." in parts


def test_windows_without_images_are_a_table(workdir: Path) -> None:
    states = {"initial": {"snr": 10.0}, "final": {"snr": 25.0}}
    target = replace(record().targets[0], window_results={"16": states})
    parts = "".join(target_figures(workdir, workdir, target))
    assert "Images of single spectral windows" in parts and "25.00" in parts
    assert not (workdir / "plots/04287+1801.windows.png").exists()


def test_pointings_without_images_are_a_table(workdir: Path) -> None:
    states = {"initial": {"snr": 10.0, "model_share": 0.8, "model_share_error": 0.05},
              "final": {"snr": 25.0}}  # fmt: skip
    target = replace(record().targets[0], field_results={"0 map": states})
    parts = "".join(target_figures(workdir, workdir, target))
    assert "Images of single pointings" in parts and "0 map" in parts
    assert "25.00" in parts and "80% ± 5%" in parts
    assert not (workdir / "plots/04287+1801.pointings.png").exists()


def test_a_record_that_cannot_be_read_leaves_the_page_without(tmp_path: Path) -> None:
    (tmp_path / "x.selfcal.json").write_text('{"schema": "selfcal/9"}')
    page = settings_table(TargetsRecord.read(tmp_path), {"04287+1801": ENTRY})
    assert "04287+1801" in page and "128" not in page


def test_numbers_of_windows_are_ranges() -> None:
    one, two = execution(), execution("two", 6e9)
    made = record(one, two)
    labels = {"one": tuple(one.windows[i].label for i in (0, 2)), "two": ()}
    assert short_windows(made, replace(made.targets[0], windows=labels)) == "0, 2 (217.00–221.00)"
    assert short_windows(made, replace(made.targets[0], windows={})) == ""
