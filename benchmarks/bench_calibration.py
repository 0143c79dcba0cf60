"""Delays, bandpass, gains and their application, native against CASA.

``python -m benchmarks.bench_calibration``: a simulated flux calibrator, VLA-D, with delays of 1 to
20 ns and a bandpass of 10 % ripple. Each side solves K, B and G and applies all three, on its own
fresh copy, in turn; CPU seconds, which depend little on what else runs, and seconds by the clock.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from libs.casa.session import CasaSession
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


class _Clock:
    """CPU seconds of this process and of the processes that it started, and those by the clock."""

    def __init__(self) -> None:
        self._others = psutil.Process().children(recursive=True)
        self._before = self._now()

    def _now(self) -> tuple[float, float]:
        # the operating system counts the time of another process in steps of 10 ms only
        times = [other.cpu_times() for other in self._others]
        return time.process_time() + sum(t.user + t.system for t in times), time.perf_counter()

    def lap(self) -> tuple[float, float]:
        """Return CPU and clock seconds since the last lap or the start."""
        before, self._before = self._before, self._now()
        return self._before[0] - before[0], self._before[1] - before[1]


def calibrate_once(
    solver: NativeSolver | CasaSolver, ms: Path, refant: str
) -> dict[str, tuple[float, float]]:
    """Solve K, B and G and apply them; CPU and clock seconds of each part."""
    plain = SolveOptions(PER_SCAN, refant=(refant,))
    scans = frozenset({"scan"})
    kinds = {
        "K": replace(plain, solution="delay", combine=scans),
        "B": replace(plain, calmode="ap", combine=scans, channels_per_block=1),
        "G": replace(plain, calmode="ap"),
    }
    tables: list[AppliedTable] = []
    spent: dict[str, tuple[float, float]] = {}
    clock = _Clock()
    if isinstance(solver, NativeSolver):  # CASA's tasks read the data each
        solver = solver.reading_once(ms, plain)
        spent["read"] = clock.lap()
    for kind, options in kinds.items():
        table = ms.with_suffix(f".{solver.name}.{kind}")
        tables.append(solver.solve(ms, table, options, tuple(tables)).applied)
        spent[kind] = clock.lap()
    solver.apply(ms, tables)
    spent["apply"] = clock.lap()
    return spent


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; exit code 1 when less than ten times faster than CASA."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300.0, help="of each of two scans")
    parser.add_argument("--repeats", type=int, default=3, help="median of so many pairs")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    timed: dict[str, list[dict[str, tuple[float, float]]]] = {"native": [], "casa": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ms, refant = make_data(folder, options.channels, options.seconds)
        with CasaSession(folder / "casa") as session:
            solvers = (NativeSolver(corr_dep_flags=True), CasaSolver(session))
            for number in range(options.repeats + 1):  # the first warms both up
                for solver in solvers:
                    # a new name each time, so that nothing kept of the last copy serves this one
                    copy = folder / f"{solver.name}{number}.ms"
                    shutil.copytree(ms, copy)
                    spent = calibrate_once(solver, copy, refant)
                    shutil.rmtree(copy)
                    if number:
                        timed[solver.name].append(spent)
    figures = {
        f"{name}_{part}_{unit}": float(np.median([one[part][which] for one in runs]))
        for which, unit in enumerate(("cpu_s", "wall_s"))
        for name, runs in timed.items() for part in runs[0]
    }  # fmt: skip
    for which, unit in enumerate(("cpu", "wall")):
        ratios = [
            sum(spent[which] for spent in casa.values())
            / sum(spent[which] for spent in native.values())
            for native, casa in zip(timed["native"], timed["casa"], strict=True)
        ]
        figures[f"{unit}_ratio"] = float(np.median(ratios))
    for name, value in figures.items():
        print(f"{name:24s} {value:10.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(min(figures["cpu_ratio"], figures["wall_ratio"]) < 10.0)


if __name__ == "__main__":
    sys.exit(main())
