"""Data read once for several solves: the tables are those of solves that read them each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.gains.caltable import read_caltable
from libs.gains.native import NativeSolver
from libs.gains.shared_sums import SharedSums
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN
from libs.gains.solver import AppliedTable, SolveOptions
from libs.ms.columns import ensure_data_column
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms

SCANS = frozenset({"scan"})


@pytest.fixture
def ms(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Noise about a point, with some flags, in windows of several channels."""
    made = make_ms(tmp_path / "one.ms", antennas=7, times=6, channels=8)
    ensure_data_column(made, "MODEL_DATA")
    with open_table(made, write=True) as opened:
        shape = opened.getcol("DATA").shape
        hiss = rng.normal(0, 0.2, shape) + 1j * rng.normal(0, 0.2, shape)
        opened.putcol("DATA", (1.5 + hiss).astype(np.complex64))
        opened.putcol("MODEL_DATA", np.ones(shape, np.complex64))
        opened.putcol("FLAG", rng.random(shape) < 0.05)
    return made


def kinds() -> dict[str, SolveOptions]:
    plain = SolveOptions(PER_SCAN, minsnr=0.0)
    return {
        "K": replace(plain, solution="delay", combine=SCANS),
        "B": replace(plain, calmode="ap", combine=SCANS, channels_per_block=1),
        "G": replace(plain, calmode="ap"),
        "p": replace(plain, gaintype="T"),
    }


def solve_all(solver: NativeSolver, ms: Path, folder: Path) -> list[Path]:
    folder.mkdir()
    tables: list[AppliedTable] = []
    for kind, options in kinds().items():
        tables.append(solver.solve(ms, folder / kind, options, tuple(tables)).applied)
    return [item.path for item in tables]


@pytest.mark.parametrize("interval", [PER_SCAN, PER_INTEGRATION])
def test_tables_are_those_of_solves_that_read_the_data(
    interval: object, ms: Path, tmp_path: Path
) -> None:
    options = SolveOptions(interval)  # type: ignore[arg-type]
    plain = NativeSolver(corr_dep_flags=True)
    shared = plain.reading_once(ms, options)
    assert shared.sums is not None
    one = solve_all(plain, ms, tmp_path / "plain")
    two = solve_all(shared, ms, tmp_path / "shared")
    for expected, found in zip(map(read_caltable, one), map(read_caltable, two), strict=True):
        assert expected.spws.keys() == found.spws.keys()
        for spw, part in expected.spws.items():
            other = found.spws[spw]
            np.testing.assert_array_equal(other.flag, part.flag)
            np.testing.assert_allclose(other.time_s, part.time_s, atol=1e-3)
            if part.delay_ns is not None:
                np.testing.assert_allclose(other.delay_ns, part.delay_ns, atol=1e-4)
            else:
                np.testing.assert_allclose(other.gain, part.gain, atol=2e-5)


def test_what_the_sums_cannot_serve_is_read(ms: Path, tmp_path: Path) -> None:
    sums = SharedSums.read(ms, SolveOptions(PER_SCAN))
    assert sums is not None
    assert sums.serve(ms, SolveOptions(PER_INTEGRATION), (), None) is None
    assert sums.serve(tmp_path / "other.ms", SolveOptions(PER_SCAN), (), None) is None
    assert sums.serve(ms, SolveOptions(PER_SCAN, uvmin_m=10.0), (), None) is None
    fast = NativeSolver().solve(ms, tmp_path / "fast", SolveOptions(PER_INTEGRATION, minsnr=0.0))
    assert sums.serve(ms, SolveOptions(PER_SCAN), (fast.applied,), None) is None


def test_sums_that_do_not_fit_are_not_kept(ms: Path) -> None:
    assert SharedSums.read(ms, SolveOptions(PER_SCAN), most_bytes=1000) is None
