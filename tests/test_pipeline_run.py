"""Targets of two executions with other ids, with the real tools: the whole way and a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from tests.conftest import ROOT
from tests.libs.small_ms import tree_hash
from tests.pipeline_case import (
    FIELDS,
    FIRST,
    SECOND,
    ExecutionMade,
    LineMade,
    PipelineCase,
    make_pipeline_case,
)

pytestmark = pytest.mark.tools

TARGETS = ["04287+1801", "G34.3 core#1"]
STEPS = ["startup", "save_init_flags", "test_image", "select_refant", "p0", "report_results"]
# 50 times the continuum of 0.2 Jy, 5 channels wide; half a year moves it by 23 MHz
LINE = LineMade(TARGETS[0], 230.548e9, 8e6, 10.0)
CONT_DAT = """Field: 04287+1801
SpectralWindow: 2 X9#ALMA_RB_06#BB_3#SW-01#FULL_RES
230.40~230.536GHz LSRK
230.560~230.70GHz LSRK
"""


def config(vis: list[Path], **changes: Any) -> dict[str, Any]:
    return {
        "vis": [str(path) for path in vis], "workdir": "work", "targets": TARGETS, "imsize": 128,
        "cell": "0.06arcsec", "steps": STEPS, "plots": False,
        "overrides": {
            "startup": {"channel_width": "auto"}, "test_image": {"niter": 300}, "p0": {"niter": 300}
        }, **changes,
    }  # fmt: skip


def begin(folder: Path, settings: dict[str, Any], *words: str) -> subprocess.Popen[str]:
    (folder / "many.yaml").write_text(yaml.safe_dump(settings))
    return subprocess.Popen(
        [sys.executable, ROOT / "auto_selfcal.py", "many.yaml", "--quiet", *words], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "MPLBACKEND": "Agg"}, start_new_session=True,
    )  # fmt: skip


def run(folder: Path, settings: dict[str, Any], *words: str, code: int = 0) -> str:
    process = begin(folder, settings, *words)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    return output


def summary_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "work/summary.json").read_text()))


def contents(ms: Path) -> dict[str, str]:
    return {name: value for name, value in tree_hash(ms).items() if "table.lock" not in name}


def figures(folder: Path) -> list[Any]:
    targets = summary_of(folder)["targets"]
    return [(label, targets[label]["initial"], targets[label]["final"]) for label in targets]


def made(folder: Path, line: LineMade | None) -> PipelineCase:
    return make_pipeline_case(
        folder, fields=FIELDS[:3],
        executions=(FIRST, ExecutionMade(
            SECOND.name, SECOND.day_mjd, field_order=(2, 0, 1), window_order=(-1, 0, 1, 2, 3),
            offset_hz=0.4e6,
        )), line=line, antennas=10,
    )  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> PipelineCase:
    return made(tmp_path_factory.mktemp("project"), LINE)


@pytest.fixture(scope="module")
def first(case: PipelineCase, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("first")
    before = [contents(path) for path in case.vis]
    (folder / "cont.dat").write_text(CONT_DAT)
    run(folder, config(list(case.vis)))
    return folder, before


def copies_of(folder: Path, label: str) -> list[Path]:
    return sorted((folder / "work/targets" / label / "data").glob("*.selfcal.ms"))


def test_both_targets_of_both_executions_are_calibrated(
    case: PipelineCase, first: tuple[Path, list[Any]]
) -> None:
    folder, before = first
    targets = summary_of(folder)["targets"]
    assert list(targets) == ["04287+1801", "G34.3_core_1"]
    for label, peak in (("04287+1801", 0.2), ("G34.3_core_1", 0.12)):
        entry = targets[label]
        assert entry["status"] == "improved" and not entry["notes"]
        assert entry["final"]["peak_jy_beam"] == pytest.approx(peak, rel=0.05)
        names = [path.name for path in copies_of(folder, label)]
        assert names == [
            f"{FIRST.name}.{label}.spw0_1_2_3.selfcal.ms",
            f"{SECOND.name}.{label}.spw1_2_3_4.selfcal.ms",
        ]
        for copy in copies_of(folder, label):
            assert [w.channels for w in Subtables(copy).windows] == [8, 8, 4, 8]
    assert [contents(path) for path in case.vis] == before, "nothing of the input is written"
    copy = copies_of(folder, "04287+1801")[0]
    for file in (case.vis[0] / "POINTING").glob("table.f*"):
        assert (copy / "POINTING" / file.name).stat().st_ino == file.stat().st_ino


def test_a_line_of_fifty_times_the_continuum_is_not_in_it(
    first: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    """The same data without the line, and no ranges: the flux agrees within one per cent."""
    without = made(tmp_path / "project", None)
    run(tmp_path, config(list(without.vis), targets=TARGETS[:1]))
    plain = summary_of(tmp_path)["targets"]["04287+1801"]["final"]
    found = summary_of(first[0])["targets"]["04287+1801"]["final"]
    for name in ("peak_jy_beam", "total_flux_jy"):
        assert found[name] == pytest.approx(plain[name], rel=0.01), name


def test_the_order_of_executions_is_no_matter(
    case: PipelineCase, first: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    (tmp_path / "cont.dat").write_text(CONT_DAT)
    run(tmp_path, config(list(case.vis)[::-1], targets=TARGETS[:1]))
    assert figures(tmp_path) == figures(first[0])[:1]


def test_killed_and_begun_again_it_is_the_same(
    case: PipelineCase, first: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    """Killed while the second target is copied or imaged, with the links to POINTING in place."""
    folder, before = first
    (tmp_path / "cont.dat").write_text(CONT_DAT)
    process = begin(tmp_path, config(list(case.vis)))
    record = tmp_path / "work/targets/04287+1801/steps.csv"
    stop = time.monotonic() + 300
    while time.monotonic() < stop and process.poll() is None:
        if record.exists() and "test_image" in record.read_text():
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run(tmp_path, config(list(case.vis)))
    assert figures(tmp_path) == figures(folder)
    assert [contents(path) for path in case.vis] == before


def test_solutions_go_to_the_rows_and_full_channels_of_the_target(
    case: PipelineCase, first: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    """Each to its own fields and windows; the line is there, and in phase."""
    work = tmp_path / "work"
    shutil.copytree(first[0] / "work", work)
    done = subprocess.run(
        [sys.executable, ROOT / "auto_selfcal.py", "apply", str(first[0] / "work")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for number, path in enumerate(case.vis):
        with open_table(path) as opened:
            field, window = opened.getcol("FIELD_ID"), opened.getcol("DATA_DESC_ID")
            narrow = case.windows_of[number].index(2)
            for name, changed in ((0, False), (1, True), (2, True)):
                own = (field == case.fields_of[number].index(name)) & (window == narrow)
                rows = np.flatnonzero(own)
                data = np.array([opened.getcell("DATA", int(row)) for row in rows])
                corrected = np.array([opened.getcell("CORRECTED_DATA", int(row)) for row in rows])
                assert bool(np.abs(corrected - data).max() > 0.1) is changed
                if name == 1:
                    line = int(np.argmax(np.abs(corrected).mean(axis=(0, 2))))
                    before, after = (np.abs(v[:, line].mean(axis=0)) for v in (data, corrected))
                    assert (after > 0.95 * np.abs(corrected[:, line]).mean(axis=0)).all()
                    assert (before < 0.9 * after).all(), "the phases were off"


@pytest.mark.parametrize("imager", ["native", "wsclean", "tclean"])
def test_unlike_windows_a_dead_window_and_a_lone_hand(tmp_path: Path, imager: str) -> None:
    """Windows of 8 and 16 channels, one of them flagged throughout, and YY all flagged.

    Of tclean, which grids no visibility with a flagged hand, the last is not asked. One round from
    its first image, of two minutes, eight antennas and scattered phases, leaves 8 % of the peak in
    components beside it.
    """
    case = make_pipeline_case(
        tmp_path, [FIRST], fields=FIELDS[1:2], antennas=8, scans=1, scan_s=120.0
    )
    with open_table(case.vis[0], write=True) as opened:
        window = opened.getcol("DATA_DESC_ID")
        for row in range(opened.nrows()):
            flag = opened.getcell("FLAG", row)
            flag[:, 1] |= imager != "tclean"
            flag[:] |= window[row] == 1
            opened.putcell("FLAG", row, flag)
    settings = config(list(case.vis), imager=imager, contfile="")
    run(tmp_path, {**settings, "targets": TARGETS[:1]})
    entry = summary_of(tmp_path)["targets"]["04287+1801"]
    assert entry["status"] == "improved"
    off = 0.1 if imager == "tclean" else 0.05
    assert entry["final"]["peak_jy_beam"] == pytest.approx(0.2, rel=off)


def test_a_wrong_line_of_the_file_stops_the_run(case: PipelineCase, tmp_path: Path) -> None:
    (tmp_path / "cont.dat").write_text(CONT_DAT + "230.7~230.6GHz LSRK\n")
    said = run(tmp_path, config(list(case.vis)), code=2)
    assert "cont.dat:5: '230.7~230.6GHz LSRK' does not go from a lower to a higher" in said
    assert not (tmp_path / "work/targets").exists()
