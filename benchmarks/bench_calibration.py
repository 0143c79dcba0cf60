"""Delays, bandpass, gains and their application, native against CASA.

``python -m benchmarks.bench_calibration``: a simulated flux calibrator, VLA-D, with delays of 1 to
20 ns and a bandpass of 10 % ripple. Each side solves K, B and G and applies all three, on its own
fresh copy, in turn; CPU seconds, which hardly depend on what else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from libs.casa.session import CasaSession
from libs.core.process import cpu_seconds
from libs.gains.casa_solver import CasaSolver
from libs.gains.native import NativeSolver
from libs.gains.solution_interval import PER_SCAN
from libs.gains.solver import AppliedTable, SolveOptions
from libs.imaging.predict import fill_model_column
from libs.imaging.standard_models import point_model
from libs.ms.sanitise import add_scratch_columns
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, Source, SpectralWindow
from libs.simulation.session import SessionErrors, SessionField, simulate_session

__all__ = ["calibrate_once", "main"]

_FLUX_JY = 15.0


def make_data(folder: Path, channels: int, seconds: float) -> tuple[Path, str]:
    """Simulate the calibrator; return it and an antenna of the middle of the array."""
    array = load_configuration("vla.d")
    observation = Observation(
        array, (0, 0), 5.0e9, 10.0, seconds, (SpectralWindow(1.4e9, 64e6, channels),), noise_jy=0.3
    )
    field = SessionField("flux", (85.65, 49.85), (Source(_FLUX_JY),), (0.0, 1.1 * seconds), seconds)
    errors = SessionErrors((1.0, 20.0), 0.1, 0.2, 20.0)
    made = simulate_session(folder / "data.ms", observation, [field], errors, seed=1)
    add_scratch_columns(made.ms)
    fill_model_column([made.ms], point_model(lambda hz: np.full(len(hz), _FLUX_JY), (0.0, 0.0)))
    return made.ms, array.name[0]


def calibrate_once(solver: NativeSolver | CasaSolver, ms: Path, refant: str) -> dict[str, float]:
    """Solve K, B and G and apply them; CPU seconds of each part."""
    plain = SolveOptions(PER_SCAN, refant=(refant,))
    scans = frozenset({"scan"})
    kinds = {
        "K": replace(plain, solution="delay", combine=scans),
        "B": replace(plain, calmode="ap", combine=scans, channels_per_block=1),
        "G": replace(plain, calmode="ap"),
    }
    tables: list[AppliedTable] = []
    spent: dict[str, float] = {}
    if isinstance(solver, NativeSolver):  # CASA's tasks read the data each
        before = cpu_seconds(os.getpid())
        solver = solver.reading_once(ms, plain)
        spent["read"] = cpu_seconds(os.getpid()) - before
    for kind, options in kinds.items():
        before = cpu_seconds(os.getpid())
        table = ms.with_suffix(f".{solver.name}.{kind}")
        tables.append(solver.solve(ms, table, options, tuple(tables)).applied)
        spent[kind] = cpu_seconds(os.getpid()) - before
    before = cpu_seconds(os.getpid())
    solver.apply(ms, tables)
    spent["apply"] = cpu_seconds(os.getpid()) - before
    return spent


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; exit code 1 when less than ten times faster than CASA."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300.0, help="of each of two scans")
    parser.add_argument("--repeats", type=int, default=3, help="median of so many")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    timed: dict[str, list[dict[str, float]]] = {"native": [], "casa": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ms, refant = make_data(folder, options.channels, options.seconds)
        with CasaSession(folder / "casa") as session:
            solvers = (NativeSolver(corr_dep_flags=True), CasaSolver(session))
            for number in range(options.repeats + 1):  # the first warms both up
                for solver in solvers:
                    copy = folder / f"{solver.name}.ms"
                    shutil.rmtree(copy, ignore_errors=True)
                    shutil.copytree(ms, copy)
                    spent = calibrate_once(solver, copy, refant)
                    if number:
                        timed[solver.name].append(spent)
    figures = {
        f"{name}_{part}_cpu_s": float(np.median([one[part] for one in runs]))
        for name, runs in timed.items() for part in runs[0]
    }  # fmt: skip
    total = {n: sum(v for k, v in figures.items() if k.startswith(n)) for n in timed}
    figures["ratio"] = total["casa"] / total["native"]
    for name, value in figures.items():
        print(f"{name:24s} {value:10.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(figures["ratio"] < 10.0)


if __name__ == "__main__":
    sys.exit(main())
