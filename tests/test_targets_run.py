"""Several targets and bands with the real tools: run, one fails, resumed, applied."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from libs.ms import tables
from libs.ms.summary import summarise
from tests.conftest import ROOT
from tests.two_targets import FIELDS, FieldMade, make_fields_ms

pytestmark = pytest.mark.tools

LABELS = ["NGC_1_C", "NGC_1_X", "J1230+03", "dead"]
CONFIG = {
    "vis": "data.ms", "workdir": "work", "targets": "all", "imsize": 128, "cell": "0.05arcsec",
    "plots": False,
    "steps": ["startup", "save_init_flags", "test_image", "select_refant", "p0", "report_results"],
    "overrides": {"test_image": {"niter": 300}, "p0": {"niter": 300}},
}  # fmt: skip


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "auto_selfcal.py", *words], cwd=folder, check=False,
        capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"}, timeout=600,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a calibrator, two targets and one that is flagged throughout, and their run."""
    folder = tmp_path_factory.mktemp("targets")
    dead = FieldMade("dead", (188.5, 2.0), 0.0, (0,))
    ms = make_fields_ms(folder / "data.ms", (*FIELDS, dead), integrations=6)
    with tables.open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[opened.getcol("FIELD_ID") == 3] = True
        opened.putcol("FLAG", flag)
    (folder / "many.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture(scope="module")
def first(folder: Path) -> subprocess.CompletedProcess[str]:
    return command(folder, "many.yaml", "--cluster", "local:2")


def copy_of(workdir: Path) -> Path:
    (copy,) = (workdir / "data").glob("data.*.selfcal.ms")
    return copy


def summary_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "work/summary.json").read_text()))


def test_the_targets_are_calibrated_and_the_dead_one_is_named(
    folder: Path, first: subprocess.CompletedProcess[str]
) -> None:
    assert first.returncode == 1, first.stdout + first.stderr
    assert "selfcal: 1 of 4 targets failed; dead: step startup failed" in first.stderr
    summary = summary_of(folder)
    assert list(summary["targets"]) == LABELS
    assert summary["counts"] == {"improved": 3, "unchanged": 0, "failed": 1}
    for label, flux_jy in (("NGC_1_C", 0.5), ("NGC_1_X", 0.5), ("J1230+03", 0.3)):
        entry = summary["targets"][label]
        assert entry["final"]["snr"] > 3 * entry["initial"]["snr"]
        assert entry["final"]["peak_jy_beam"] == pytest.approx(flux_jy, rel=0.1)
        assert (folder / "work" / entry["workdir"] / "report.html").exists()
        copy = summarise(copy_of(folder / "work" / entry["workdir"]))
        assert len(copy.frequency_hz) == 1, "windows without its data are left out"
    assert "dead" in (folder / "work/report.html").read_text()


def test_the_same_command_reuses_what_is_done(
    folder: Path, first: subprocess.CompletedProcess[str]
) -> None:
    before = [(folder / f"work/targets/{label}/steps.csv").read_text() for label in LABELS[:3]]
    assert command(folder, "many.yaml", "--set", 'targets=["NGC 1", "J1230+03"]').returncode == 0
    after = [(folder / f"work/targets/{label}/steps.csv").read_text() for label in LABELS[:3]]
    assert after == before
    assert summary_of(folder)["status"] == "improved"


def test_each_goes_to_its_own_rows_of_the_original(
    folder: Path, first: subprocess.CompletedProcess[str]
) -> None:
    done = command(folder, "apply", "work")
    assert done.returncode == 0, done.stderr
    with tables.open_table(folder / "data.ms") as opened:
        names = ("DATA", "CORRECTED_DATA", "FLAG", "FIELD_ID", "DATA_DESC_ID")
        data, corrected, flag, field, window = (opened.getcol(name) for name in names)
    kept = np.isin(field, (0, 3))
    np.testing.assert_array_equal(corrected[kept], data[kept])
    np.testing.assert_array_equal(flag.all(axis=(1, 2)), field == 3)
    targets = folder / "work/targets"
    for label, number, spw in (("NGC_1_C", 1, 0), ("NGC_1_X", 1, 1), ("J1230+03", 2, 1)):
        with tables.open_table(copy_of(targets / label)) as opened:
            own = opened.getcol("CORRECTED_DATA")
        mine = corrected[(field == number) & (window == spw)]
        np.testing.assert_allclose(mine, own, atol=1e-5)
        assert np.abs(mine - data[(field == number) & (window == spw)]).mean() > 0.1
