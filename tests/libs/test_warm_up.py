"""What is compiled at installation is what a run calls."""

from __future__ import annotations

from pathlib import Path

from benchmarks.synthetic_ms import make_ms
from libs import warm_up
from libs.gains.apply_kernels import apply_gains
from libs.gains.kernels import accumulate_rows
from libs.gains.native import NativeSolver
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN
from libs.gains.solver import SolveOptions


def test_kernels_that_see_visibilities_are_those_that_a_solve_calls(tmp_path: Path) -> None:
    warm_up._data()
    used = (accumulate_rows, apply_gains)
    compiled = [list(kernel.signatures) for kernel in used]
    ms = make_ms(tmp_path / "a.ms", integrations=4, spws=2).path
    solver = NativeSolver()
    first = solver.solve(
        ms, tmp_path / "p.G", SolveOptions(solint=PER_INTEGRATION, refant=("ea01",))
    )
    options = SolveOptions(solint=PER_SCAN, calmode="ap", refant=("ea01",))
    second = solver.solve(ms, tmp_path / "ap.G", options, [first.applied])
    solver.apply(ms, [first.applied, second.applied])
    assert [list(kernel.signatures) for kernel in used] == compiled
