"""A run of several targets as jobs of a real Slurm: the local results, whatever happens to jobs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfcal.child_runs import running_step
from tests.conftest import ROOT
from tests.selfcal import slurm_daemons
from tests.two_targets import FieldMade, make_fields_ms

pytestmark = pytest.mark.tools

FIELDS = (
    FieldMade("north", (188.0, 2.0), 0.5, (0,)),
    FieldMade("south", (187.5, 1.0), 0.3, (1,)),
)
LABELS = ["north", "south"]
CONFIG = {
    "vis": "data.ms", "targets": "all", "imsize": 64, "cell": "0.05arcsec", "threads": 1,
    "plots": False,
    "steps": ["startup", "save_init_flags", "test_image", "select_refant", "p0"],
    "overrides": {"test_image": {"niter": 100}, "p0": {"niter": 100}},
}  # fmt: skip
PATIENCE_S = 420.0


@pytest.fixture(scope="module")
def cluster_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ``slurm.yaml`` for the daemons that run while the tests do."""
    with slurm_daemons.cluster_file(tmp_path_factory.mktemp("slurm")) as path:
        yield path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of two targets and the config."""
    folder = tmp_path_factory.mktemp("targets")
    make_fields_ms(folder / "data.ms", FIELDS, integrations=4)
    (folder / "many.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def start(folder: Path, name: str, cluster: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, ROOT / "auto_selfcal.py", "many.yaml", "--workdir", name,
         "--cluster", cluster],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "MPLBACKEND": "Agg"},
    )  # fmt: skip


def results(workdir: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return what the summary says of every target, and the rows of their tables of steps."""
    targets = json.loads((workdir / "summary.json").read_text())["targets"]
    kept = ("status", "band", "initial", "final", "accepted", "rejected", "calibrated_ms")
    found = {label: {key: targets[label].get(key) for key in kept} for label in targets}
    rows = []
    for label in sorted(targets):
        with (workdir / "targets" / label / "steps.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                rows.append({"target": label, "step": row["step"], "status": row["status"],
                             "template": row["template"]})  # fmt: skip
    return found, rows


def jobs() -> set[str]:
    """Return the numbers of Slurm's jobs that run."""
    words = ["squeue", "-h", "-t", "RUNNING", "-o", "%i"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


def cancel_jobs_at_work(process: subprocess.Popen[str], targets: Path) -> set[str]:
    """Cancel Slurm's running jobs as soon as a target is in its third step; return the jobs."""
    give_up = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < give_up:
        if any(running_step(targets / label) == "test_image" for label in LABELS):
            cancelled = jobs()
            subprocess.run(["scancel", "--signal=KILL", "--full", *cancelled], check=True)
            subprocess.run(["scancel", *cancelled], check=True)
            return cancelled
        time.sleep(0.1)
    return set()


def test_the_results_are_those_of_a_local_run_though_jobs_were_killed(
    folder: Path, cluster_file: Path
) -> None:
    local = start(folder, "local", "local:2")
    assert local.wait(PATIENCE_S) == 0, local.stdout and local.stdout.read()
    remote = start(folder, "remote", cluster_file)
    killed = cancel_jobs_at_work(remote, folder / "remote/targets")
    said, _ = remote.communicate(timeout=PATIENCE_S)
    assert remote.returncode == 0, said
    assert killed, "no job ran a target"
    (one, rows), (other, others) = (results(folder / name) for name in ("local", "remote"))
    assert list(one) == LABELS
    assert other == one
    assert others == rows
    last = max(int(path.stem.rpartition("-")[2]) for path in cluster_file.parent.glob("*-*.err"))
    assert last > max(map(int, killed)), "the killed jobs' work was done by new ones"
