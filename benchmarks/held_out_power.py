"""How far gains that held-out data trust are better than none: ``--draws 300 --seed 1``.

Random arrays observe a point with phase errors near the noise. The held-out search is made without
its threshold, and the gains it would take are compared with the true ones: by what they take away
of the error that the data came with, on baselines that took no part in their solve.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from benchmarks.false_alarms import Draw, noise_equations
from libs.gains.normal_equations import NormalEquations
from libs.heldout.choose import Candidate, choose_solve
from libs.heldout.folds import solve_without

__all__ = ["main", "one_draw"]

_BOUNDS = (-np.inf, 0.0, 1.0, 2.0, 3.0, 5.0, np.inf)


def _with_phases(
    rng: np.random.Generator, equations: NormalEquations
) -> tuple[NormalEquations, NormalEquations]:
    """Return data with phase errors, with their noise and without it."""
    nant, ntime = len(equations.antenna), len(equations.time_s)
    rms, memory = 10 ** rng.uniform(-1.5, 0.3), float(rng.choice([1, 4, 16, 1000]))
    keep = np.exp(-1.0 / memory)
    phases = np.empty((ntime, nant))
    state = rng.normal(size=nant)
    for t in range(ntime):
        phases[t] = rms * state
        state = keep * state + np.sqrt(1.0 - keep**2) * rng.normal(size=nant)
    gain = np.exp(1j * phases)
    pair = gain[:, equations.antenna1] * gain[:, equations.antenna2].conj()
    true = equations.weight * pair[:, None, :, None]
    noise = equations.vis - equations.weight
    return replace(equations, vis=true + noise), replace(equations, vis=true)


def one_draw(seed: int, number: int) -> tuple[float, float]:
    """Return the significance of the best gains, and the fraction of the true error they remove."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
    draw = replace(Draw.of(rng), snr=float(10 ** rng.uniform(-1.3, 0.3)))
    seen, true = _with_phases(rng, noise_equations(rng, draw))
    choice = choose_solve(seen)
    best: Candidate = max(choice.scores, key=lambda score: score.fall).candidate
    fall = sum(fits.predict(true)[0] for fits in solve_without(seen, best, (), 4))
    before = float((true.weight * np.abs(true.vis / true.weight - 1.0) ** 2).sum())
    return choice.sigma, fall / before


def main(argv: Sequence[str] | None = None) -> int:
    """Print how often gains of a significance are better than none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out_power",
                                     description=__doc__)  # fmt: skip
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args(argv)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        draws = range(arguments.draws)
        found = np.array(list(pool.map(partial(one_draw, arguments.seed), draws, chunksize=4)))
    print("| significance, sigma | draws | better than none | median of the error removed |")
    print("|---|---|---|---|")
    for low, high in pairwise(_BOUNDS):
        removed = found[(found[:, 0] >= low) & (found[:, 0] < high), 1]
        median = f"{np.median(removed):+.2f}" if removed.size else ""
        print(f"| {low:g} to {high:g} | {removed.size} | {int((removed > 0).sum())} | {median} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
