"""Pieces as jobs of a real Slurm on loopback; a job that is killed is run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from selfcal.cluster import run_all
from tests.selfcal import pieces, slurm_daemons

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def cluster_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ``slurm.yaml`` for the daemons that run while the tests do."""
    with slurm_daemons.cluster_file(tmp_path_factory.mktemp("slurm")) as path:
        yield path


def test_every_piece_is_a_part_of_a_job(cluster_file: Path) -> None:
    outcomes = run_all(pieces.slurm_job, [1, 2, 3], str(cluster_file))
    assert [o.ok for o in outcomes] == [True] * 3
    assert all(o.value.isdigit() for o in outcomes), "each ran within a job of Slurm"


def test_a_job_that_is_killed_is_run_again(cluster_file: Path, tmp_path: Path) -> None:
    """Both jobs are killed: nothing is left to take their pieces but new jobs."""
    items = [(str(tmp_path), number) for number in range(2)]
    outcomes = run_all(pieces.cancels_its_job_once, items, str(cluster_file))
    assert [o.value for o in outcomes] == [0, 10], [o.error for o in outcomes]
    assert sorted(p.name for p in tmp_path.glob("cancelled_*")) == ["cancelled_0", "cancelled_1"]
