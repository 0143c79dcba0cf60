"""Solve and apply, native against gaincal and applycal: ``python -m benchmarks.bench_solver``.

VLA-A, 641 integrations, 225 000 rows of 16 channels and 2 polarizations, one solution an
integration; reading and writing included. Each side works on its own fresh copy, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.synthetic_ms import SyntheticMs, make_ms
from libs.casa.session import CasaSession
from libs.core.process import cpu_seconds
from libs.gains.caltable import read_solutions
from libs.gains.casa_solver import CasaSolver
from libs.gains.native import NativeSolver
from libs.gains.solution_interval import PER_INTEGRATION
from libs.gains.solver import SolveOptions
from libs.simulation.array_configurations import load_configuration

__all__ = ["compare", "main"]

OPTIONS = SolveOptions(solint=PER_INTEGRATION, calmode="p", refant=("ea01",))


def warm_up(folder: Path) -> float:
    """Compile (or load from the cache) what is timed afterwards; seconds."""
    start = time.monotonic()
    small = make_ms(folder / "warm.ms", integrations=2)
    solver = NativeSolver(corr_dep_flags=True)
    solver.apply(small.path, [solver.solve(small.path, folder / "warm.G", OPTIONS).applied])
    return time.monotonic() - start


def time_solver(
    solver: NativeSolver | CasaSolver, ms: Path, table: Path
) -> tuple[float, float, float]:
    """Seconds of a solve and of the application of its table, and CPU seconds of both.

    CPU time includes the CASA process; unlike the clock it hardly depends on what else runs.
    """
    before = cpu_seconds(os.getpid())
    start = time.monotonic()
    result = solver.solve(ms, table, OPTIONS)
    solved = time.monotonic()
    solver.apply(ms, [result.applied])
    applied = time.monotonic()
    return solved - start, applied - solved, cpu_seconds(os.getpid()) - before


def phase_error_rad(made: SyntheticMs, table: Path) -> float:
    """Return the rms of the phases against the truth, relative to the reference antenna."""
    found = read_solutions(table).gain / made.gain
    return float(np.angle(found / found[:, :, :1]).std())


def compare(folder: Path, integrations: int, repeats: int, casa: bool) -> dict[str, float]:
    """Time both solvers in turn and return the figures."""
    figures: dict[str, float] = {"warm_up_s": warm_up(folder)}
    array = load_configuration("vla.a")
    made = make_ms(
        folder / "big.ms", position_m=array.position_m, integrations=integrations, channels=16
    )
    timed: dict[str, list[tuple[float, float, float]]] = {"native": [], "casa": []}
    with CasaSession(folder / "casa") as session:
        solvers: dict[str, NativeSolver | CasaSolver] = {
            "native": NativeSolver(corr_dep_flags=True)
        }
        if casa:
            solvers["casa"] = CasaSolver(session)
            solvers["casa"].solve(folder / "warm.ms", folder / "warm-casa.G", OPTIONS)
        for _ in range(repeats):
            for name, solver in solvers.items():
                copy = folder / f"{name}.ms"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(made.path, copy)
                timed[name].append(time_solver(solver, copy, folder / f"{name}.G"))
    for name in solvers:
        middle = np.median(np.array(timed[name]), axis=0)
        for what, value in zip(("solve_s", "apply_s", "cpu_s"), middle, strict=True):
            figures[f"{name}_{what}"] = float(value)
        figures[f"{name}_phase_error_rad"] = phase_error_rad(made, folder / f"{name}.G")
    if casa:
        ours = figures["native_solve_s"] + figures["native_apply_s"]
        figures["ratio"] = (figures["casa_solve_s"] + figures["casa_apply_s"]) / ours
        figures["cpu_ratio"] = figures["casa_cpu_s"] / figures["native_cpu_s"]
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; exit code 1 when short of ten times or over a gigabyte."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--integrations", type=int, default=641, help="351 rows each")
    parser.add_argument("--repeats", type=int, default=3, help="median of so many")
    parser.add_argument("--no-casa", action="store_true", help="time the native solver alone")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = compare(Path(folder), options.integrations, options.repeats, not options.no_casa)
    print(f"{351 * options.integrations} rows x 16 channels x 2 polarizations, solint 'int'")
    for name, value in figures.items():
        print(f"{name:24s} {value:10.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(figures.get("ratio", 10.0) < 10.0 or figures["peak_mb"] > 1000)


if __name__ == "__main__":
    sys.exit(main())
