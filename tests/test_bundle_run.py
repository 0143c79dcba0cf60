"""The commands of docs/bundle.md on two simulated executions, with the real tools."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from steps.record.build import write_run_record
from steps.record.bundling import bundle_run
from steps.record.restore import HowToApply, restore
from tests.conftest import ROOT
from tests.libs.small_ms import tree_hash
from tests.permuted_ms import permuted
from tests.pipeline_case import FIELDS, FIRST, SECOND, make_pipeline_case
from tests.steps.record.finished_run import finish_run, small_case
from tests.steps.record.test_restore import assert_same, columns

pytestmark = pytest.mark.tools

CONFIG = {
    "vis": ["b.ms", "a.ms"], "workdir": "work_my", "targets": "all", "imsize": 128,
    "cell": "0.05arcsec", "imager": "native", "spw": "0,1,3", "plots": False,
    "steps": ["startup", "save_init_flags", "test_image", "p0", "report_results"],
}  # fmt: skip
# where CASA's own configuration is looked for
SITE = """
import casadata
datapath = [casadata.datapath]
measurespath = casadata.datapath
data_auto_update = measures_auto_update = log2term = False
logfile = "/dev/null"
"""


def documented() -> list[list[str]]:
    """Commands of the page, in its order."""
    text = (ROOT / "docs" / "bundle.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def call(folder: Path, words: list[str]) -> str:
    programs = {"auto-selfcal": [sys.executable, str(ROOT / "auto_selfcal.py")],
                "python": [sys.executable]}  # fmt: skip
    environment = {**os.environ, "MPLBACKEND": "Agg", "CASASITECONFIG": str(folder / "site.py")}
    done = subprocess.run(
        [*programs[words[0]], *words[1:]], cwd=folder, check=False, capture_output=True, text=True,
        env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of two executions, other imports of them with permuted ids, and all commands run.

    Before the first restore the work directory is put away; it comes back for ``apply``.
    """
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "new").mkdir()
    (folder / "site.py").write_text(SITE)
    both = (FIRST, replace(SECOND, field_order=(2, 0, 1)))
    case = make_pipeline_case(folder / "made", both, fields=FIELDS[:3], antennas=8)
    for name, ms in zip("ab", case.vis, strict=True):
        shutil.copytree(ms, folder / f"{name}.ms")
    for name, ms in zip("abcd", (*case.vis, *case.vis), strict=True):
        permuted(ms, folder / "new" / f"{name}.ms", seed=ord(name) % 2 + 3)
    (folder / "my.yaml").write_text(yaml.safe_dump(CONFIG))
    original = [tree_hash(folder / name) for name in ("a.ms", "b.ms")]
    for words in documented():
        needs_run = "work_my" in words or "my.yaml" in words
        away = folder / "work_my"
        if not needs_run and away.exists():
            away.rename(folder / "away")
        elif needs_run and (folder / "away").exists():
            (folder / "away").rename(away)
        if words == ["auto-selfcal", "apply", "work_my"]:
            assert [tree_hash(folder / name) for name in ("a.ms", "b.ms")] == original
        call(folder, words)
    return folder


def test_the_page_has_the_commands_that_are_tested() -> None:
    commands = [words[1] for words in documented() if words[0] == "auto-selfcal"]
    assert commands == ["my.yaml", "bundle", *["restore"] * 3, "apply", "apply"]


@pytest.mark.parametrize(("applied", "restored"), [("a", "new/a"), ("b", "new/b")])
def test_restored_data_equal_applied_ones(folder: Path, applied: str, restored: str) -> None:
    one, two = folder / f"{applied}.ms", folder / f"{restored}.ms"
    assert_same(one, two)
    corrected, data = columns(two, "CORRECTED_DATA", "DATA")
    changed = {key[3:] for key in data if np.abs(corrected[key] - data[key]).max() > 0.01}
    assert {field for _, field in changed} == {"04287+1801", "G34.3 core#1"}
    assert {window.split("#")[2] for window, _ in changed} == {"BB_1", "BB_2", "BB_4"}


@pytest.mark.parametrize(("applied", "scripted"), [("a", "new/c"), ("b", "new/d")])
def test_the_script_of_applycal_calls_does_the_same(
    folder: Path, applied: str, scripted: str
) -> None:
    assert_same(folder / f"{applied}.ms", folder / f"{scripted}.ms")


def test_the_script_of_apply_names_the_runs_own_data(folder: Path) -> None:
    text = (folder / "apply_my.py").read_text()
    assert text.count("applycal(\n") == 4
    for name in ("a.ms", "b.ms"):
        assert repr(str(folder / name)) in text
    before = columns(folder / "a.ms", "CORRECTED_DATA", "FLAG")
    call(folder, ["python", "apply_my.py"])
    after = columns(folder / "a.ms", "CORRECTED_DATA", "FLAG")
    for key in before[0]:
        np.testing.assert_allclose(after[0][key], before[0][key], atol=1e-6)
        np.testing.assert_array_equal(after[1][key], before[1][key])


def test_the_page_says_what_was_applied(folder: Path) -> None:
    page = (folder / "work_my" / "report.html").read_text()
    assert "a.ms, b.ms" in page.replace("b.ms, a.ms", "a.ms, b.ms")
    assert "Quality score of the run: 0.98" in page


def test_the_script_flags_what_has_no_solution(tmp_path: Path) -> None:
    """Solutions flagged at random, and all those of an antenna, mean the same to both."""
    (tmp_path / "site.py").write_text(SITE)
    case = small_case(tmp_path / "made", 2)
    workdir = finish_run(tmp_path / "work", case, flagged=(2,), flagged_share=0.1)
    write_run_record(workdir, {})
    bundle_run(workdir, tmp_path / "x.tgz")
    sets = [tmp_path / f"{number}.ms" for number in range(2)]
    for number, ms in enumerate(sets):
        permuted(case.vis[number], ms, seed=number)
    scripted = [Path(shutil.copytree(ms, tmp_path / f"script_{ms.name}")) for ms in sets]
    list(restore(tmp_path / "x.tgz", sets, HowToApply()))
    how = HowToApply(script=tmp_path / "s.py")
    list(restore(tmp_path / "x.tgz", scripted, how))
    call(tmp_path, ["python", "s.py"])
    for one, two in zip(sets, scripted, strict=True):
        flag = columns(one, "FLAG")[0]
        mine = [cells.mean() for key, cells in flag.items() if key[4] == "04287+1801"]
        assert 0.42 < np.mean(mine) < 0.65, "4 of 10 baselines, and some of the others"
        assert_same_where_unflagged(one, two)


def assert_same_where_unflagged(one: Path, two: Path) -> None:
    ours, theirs = (columns(ms, "CORRECTED_DATA", "FLAG") for ms in (one, two))
    for key, flag in ours[1].items():
        np.testing.assert_array_equal(theirs[1][key], flag)
        np.testing.assert_allclose(theirs[0][key][~flag], ours[0][key][~flag], atol=1e-6)
