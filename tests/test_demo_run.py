"""The demonstration that ships, run whole: quality, reuse, kills, selection."""

from __future__ import annotations

import csv
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.h5parm import check
from libs.ms.tables import open_table
from selfcal.state import State
from steps.run_options import load_run_config
from tests import demo
from tests.conftest import ROOT

pytestmark = pytest.mark.tools

CONFIGURED: list[str] = load_run_config(ROOT / "config.py")["steps"]

LONGEST_S = 3.0
"""What a step of the demonstration takes, its kernels compiled, on a core of its own."""

MEASURED = ("peak_jy_beam", "rms_jy_beam", "snr", "dynamic_range", "total_flux_jy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo.Run]:
    """The whole run, once. Tests that change it work on a copy."""
    run = demo.run(tmp_path_factory.mktemp("demo") / "work")
    assert run.code == 0, run.output
    yield run


def numbers(run: demo.Run) -> dict[str, Any]:
    """What two runs of the same data must agree in."""
    summary = run.summary
    found = {f"{k} {m}": summary[k][m] for k in ("initial", "final") for m in MEASURED}
    return {**found, "tables": summary["tables"], "accepted": sorted(summary["accepted"])}


def test_the_result_is_as_good_as_the_data_were(finished: demo.Run) -> None:
    summary = finished.summary
    final, untouched = summary["final"], summary["untouched"]
    assert summary["status"] == "improved"
    assert final["dynamic_range"] >= 0.9 * untouched["dynamic_range"]
    # 27 antennas whose amplitudes scatter by 10 % tell their common scale to 2 %
    assert final["peak_jy_beam"] == pytest.approx(untouched["peak_jy_beam"], rel=0.02)
    assert final["snr"] > 10 * summary["initial"]["snr"]


def test_the_run_ends_with_a_table(finished: demo.Run) -> None:
    lines = finished.output.splitlines()
    rows = [line.split()[0] for line in lines if line.split()]
    for name in ("initial", "final", "untouched"):
        assert name in rows
    assert "dynamic range" in finished.output


def test_the_outputs_are_there(finished: demo.Run) -> None:
    summary = finished.summary
    for name in ("steps.csv", "images.csv", "gains.csv", "resolved.yaml", "run.log", "report.html"):
        assert (finished.workdir / name).stat().st_size > 0, name
    assert set(summary) >= {
        "status", "calibrated_ms", "column", "initial", "final", "accepted", "rejected", "tables",
        "h5parm", "longest_baseline_km", "seconds", "seconds_imaging", "seconds_solving",
        "versions",
    }  # fmt: skip
    for path in (summary["calibrated_ms"], summary["h5parm"], *summary["tables"]):
        assert (finished.workdir / path).exists(), path
    with (finished.workdir / "images.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert all((finished.workdir / row["path"]).exists() for row in rows)
    assert not list(finished.workdir.rglob("*.part"))


def test_the_h5parm_conforms(finished: demo.Run) -> None:
    assert not check.check(finished.workdir / "solutions.h5")


def test_the_same_command_again_reuses_every_step(finished: demo.Run) -> None:
    before = (finished.workdir / "steps.csv").read_bytes()
    again = demo.run(finished.workdir)
    assert again.code == 0, again.output
    assert (finished.workdir / "steps.csv").read_bytes() == before
    assert again.output.count("reused: ") == len(CONFIGURED)
    # not by the clock: other tests share the processor
    assert again.cpu_seconds < 10


def test_list_and_dry_run_say_and_do_nothing(finished: demo.Run) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.workdir.rglob("*")}
    listed = demo.run(finished.workdir, "--list")
    assert [line.split()[0] for line in listed.output.splitlines()] == CONFIGURED
    planned = plan(finished.workdir, "--dry-run", "--set", "ap1.minsnr=2.9")
    at = CONFIGURED.index("ap1")
    assert planned == ["reuse"] * at + ["run"] * (len(CONFIGURED) - at)
    planned = plan(finished.workdir, "--dry-run", "--from", "p1", "--until", "p2")
    assert planned[CONFIGURED.index("p1") :] == ["run", "run"]
    assert {p: p.stat().st_mtime_ns for p in finished.workdir.rglob("*")} == before


def plan(workdir: Path, *arguments: str) -> list[str]:
    done = demo.run(workdir, *arguments)
    assert done.code == 0, done.output
    # what follows the steps is about the disk and the time
    return [line.split()[1] for line in done.output.splitlines() if line.split()[0] in CONFIGURED]


def test_from_and_only_and_until(finished: demo.Run, tmp_path: Path) -> None:
    workdir = demo.copy_of(finished, tmp_path)
    rows = State(workdir).rows
    only = demo.run(workdir, *demo.NO_PLOTS, "--only", "select_refant")
    assert only.code == 0 and only.ran[rows:] == ["select_refant"], only.output
    until = demo.run(workdir, *demo.NO_PLOTS, "--until", "p0")
    at = CONFIGURED.index("p0")
    after = CONFIGURED[CONFIGURED.index("select_refant") + 1 : at + 1]
    assert until.ran[rows + 1 :] == after
    rows = State(workdir).rows
    rest = demo.run(workdir, *demo.NO_PLOTS, "--from", "p1")
    assert rest.code == 0 and rest.ran[rows:] == CONFIGURED[at + 1 :], rest.output
    agree(numbers(rest), numbers(finished))


def agree(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same to what summing in another order may change."""
    for key, value in expected.items():
        if isinstance(value, float):
            assert math.isclose(found[key], value, rel_tol=1e-4), (key, found[key], value)
        else:
            assert found[key] == value, key


def test_kills_at_random_moments_change_nothing(finished: demo.Run, tmp_path: Path) -> None:
    """kill -9 in several steps, at moments drawn within the time each took; then one start."""
    random_ = random.Random(1)
    workdir = tmp_path / "work"
    # the first run may have compiled its kernels, for a minute or more of a step
    took = {name: min(s, LONGEST_S) for name, s in finished.summary["seconds"].items()}
    worth = [name for name in CONFIGURED if took[name] > 0.05]
    killed = 0
    for step in sorted(random_.sample(worth, min(6, len(worth))), key=CONFIGURED.index):
        killed += demo.kill_within(workdir, step, random_.uniform(0, took[step]))
    assert killed >= 3
    again = demo.run(workdir, *demo.NO_PLOTS)
    assert again.code == 0, again.output
    agree(numbers(again), numbers(finished))
    assert demo.run(workdir, *demo.NO_PLOTS).output.count("reused: ") == len(CONFIGURED)


def test_a_kill_that_cuts_a_header_short(finished: demo.Run, tmp_path: Path) -> None:
    """casacore truncates a tiled column's header before it writes it anew."""
    workdir = demo.copy_of(finished, tmp_path)
    (copy,) = (workdir / "data").glob("3c273.selfcal.ms")
    with open_table(copy) as opened:
        managers = opened.getdminfo().values()
    (number,) = [entry["SEQNR"] for entry in managers if "MODEL_DATA" in entry["COLUMNS"]]
    os.truncate(copy / f"table.f{number}", 0)
    (workdir / ".running").write_text("select_refant\n")
    again = demo.run(workdir, *demo.NO_PLOTS, "--until", "select_refant")
    assert again.code == 0, again.output
    assert f"3c273.selfcal.ms: table.f{number} put back" in again.output


def test_a_kill_while_the_report_is_drawn(finished: demo.Run, tmp_path: Path) -> None:
    workdir = demo.copy_of(finished, tmp_path)
    (workdir / "report.html").unlink()
    again = demo.run(workdir)
    assert again.code == 0 and (workdir / "report.html").exists()


def test_the_shipped_config_is_the_demonstration() -> None:
    text = (ROOT / "config.py").read_text()
    assert 'vis = "demo:3c273"' in text
