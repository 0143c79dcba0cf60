"""Random skies, arrays and gains, self-calibrated with the defaults: ``--n 10 --seed S``.

Run from the project's root: ``python -m benchmarks.bench_random_draws``. Every draw follows from
its own seed, S, S + 1, ..., so that one of them can be repeated alone with ``--n 1``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.bench import RESULTS, compare, table
from benchmarks.running import run_selfcal
from libs.core.errors import SelfcalError
from libs.core.geometry import resolution_arcsec
from libs.ms.create import SpectralWindow
from libs.simulation.array_configurations import load_configuration
from libs.simulation.gains import StationErrors
from libs.simulation.scenarios import Scenario, make_scenario, scenario
from libs.simulation.sky import Source

__all__ = ["draw", "main"]

# configuration, frequency and channel width (Hz), hands, noise of a visibility (Jy)
_ARRAYS = (
    ("vla.a", 5e9, 16e6, ("RR", "LL"), 0.02),
    ("vla.b", 1.5e9, 8e6, ("RR", "LL"), 0.03),
    ("vla.c", 8.4e9, 16e6, ("RR", "LL"), 0.02),
    ("alma.cycle8.3", 345e9, 0.4e9, ("XX", "YY"), 0.07),
    ("alma.cycle8.6", 230e9, 0.4e9, ("XX", "YY"), 0.04),
    ("vlba", 8.4e9, 8e6, ("RR", "LL"), 0.06),
)
_MOST_ANTENNAS = 27


def draw(seed: int) -> Scenario:
    """Return the scenario of a seed: 1 to 5 parts within 30 beams, 50 mJy to 1 Jy in all."""
    rng = np.random.default_rng(seed)
    name, frequency, channel, hands, noise = _ARRAYS[rng.integers(len(_ARRAYS))]
    array = load_configuration(name).thinned(_MOST_ANTENNAS)
    beam = resolution_arcsec(array.longest_baseline_m, frequency)
    share = rng.dirichlet(np.ones(rng.integers(1, 6)))
    total = 10 ** rng.uniform(np.log10(0.05), 0.0)
    sky = []
    for number, part in enumerate(np.sort(share)[::-1]):
        place = rng.normal(0.0, 8.0, 2) * beam if number else np.zeros(2)
        major = rng.choice([0.0, 1.0]) * 10 ** rng.uniform(-0.5, 0.8) * beam
        axis = float(rng.uniform(0.4, 1.0))
        sky.append(Source(float(total * part), float(np.clip(place[0], -15 * beam, 15 * beam)),
                          float(np.clip(place[1], -15 * beam, 15 * beam)), float(major),
                          float(major * axis), float(rng.uniform(0, 180)),
                          spectral_index=float(rng.normal(-0.5, 0.4))))  # fmt: skip
    windows = int(rng.integers(1, 5))
    errors = StationErrors(
        phase_walk_deg=float(rng.uniform(20, 100)), phase_walk_s=600.0,
        walk_restarts=bool(rng.integers(2)), phase_offset_deg=float(rng.uniform(0, 90)),
        amp_offset=float(rng.uniform(0, 0.08)),
    )  # fmt: skip
    north = -30.0 if name.startswith("alma") else 35.0
    return dataclasses.replace(
        scenario("vla_a_5ghz"),
        name=f"draw_{seed}",
        title=f"{name} {frequency / 1e9:g} GHz, {total:.3g} Jy in {len(sky)}, {errors}",
        array=lambda: array,
        direction_deg=(float(rng.uniform(0, 360)), north + float(rng.uniform(-20, 20))),
        spws=tuple(SpectralWindow(frequency + 5 * n * channel, 4 * channel, 4)
                   for n in range(windows)),
        correlations=hands,
        integration_s=10.0,
        integrations=int(rng.integers(12, 30)),
        scans=int(rng.integers(2, 7)),
        gap_s=float(rng.uniform(120, 1800)),
        noise_jy=noise,
        sky=tuple(sky),
        errors=errors,
        seed=seed,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the draws; 1 when any could not be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10, help="number of draws")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first draw")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.results.absolute()
    results, failed = [], []
    for seed in range(arguments.seed, arguments.seed + arguments.n):
        chosen = draw(seed)
        place = folder / chosen.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            made = make_scenario(chosen, place / "draw.ms")
            assert made.perfect_ms is not None
            finished, summary = run_selfcal(place, {"vis": str(place / "draw.ms")})
            result = compare(chosen.name, place / "ours", made.perfect_ms, finished, summary)
        # one draw that fails must not cost the others' figures
        except (RuntimeError, SelfcalError, OSError, KeyError) as error:
            traceback.print_exc()
            failed.append(f"{chosen.name}: {type(error).__name__}: {error} ({chosen.title})")
            continue
        results.append(result)
        print(f"{chosen.title}\n{table([result]).splitlines()[-1]}", flush=True)
        for name, reason in result.rounds_rejected.items():
            print(f"    {name}: {reason}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
    (folder / "random_draws.json").write_text(
        json.dumps([dataclasses.asdict(result) for result in results], indent=1) + "\n"
    )
    print(table(results))
    for line in failed:
        print(f"not run: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
