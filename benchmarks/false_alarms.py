"""How often each test takes noise for something: measured on draws of noise.

    python -m benchmarks.false_alarms [--draws 1000] [--seed 1] [--only phases amplitudes ...]

Each draw has its own number of antennas, integrations, scans, windows and its own signal-to-noise
ratio, so that a rate which is right on the average of many data, but wrong for short ones, shows
in the columns. The tests are

phases
    Data of a point without any errors: do held-out baselines ask for phases?
amplitudes
    The same for amplitudes on top of phases.
bandpass
    The same for bandpasses of windows of 4 to 64 channels.
point
    Data without a source: does a point predict held-out baselines?
station
    One antenna without signal among others with it: is it called coherent?
closure
    Data without a source: is a model fitted to closure quantities accepted?
place
    A point at the phase centre with wild phases: do its fringes place it elsewhere?
states
    Data of a point without any errors: are the model and its phases preferred to the model alone?
wander
    A bright point at the phase centre whose phases wander: do its fringes place it elsewhere?
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities
from libs.closure.fringe_place import place_by_fringes
from libs.closure.model import FitOptions, fit_visibilities
from libs.core.errors import InputError
from libs.core.geometry import EARTH_RATE_RAD_S
from libs.gains.normal_equations import NormalEquations
from libs.gains.solution_interval import PER_SCAN
from libs.heldout.amplitudes import amplitudes_worth_it
from libs.heldout.bandpass import choose_bandpass
from libs.heldout.choose import ADVANTAGE, choose_solve, own_ladder
from libs.heldout.coherence import held_out_coherence
from libs.heldout.evidence import CERTAIN, model_evidence, unsolved_evidence
from libs.heldout.folds import Candidate
from libs.heldout.scores import score_candidate

__all__ = ["TESTS", "Draw", "Outcome", "main", "noise_equations"]

_INTEGRATION_S = 10.0
_WAVELENGTHS = 1e6  # of the longest baselines


@dataclass(frozen=True)
class Draw:
    """The shape of a draw.

    Attributes
    ----------
    antennas, integrations, scans, windows : int
        ``integrations`` is that of each scan.
    snr : float
        Of one visibility of one hand and window in one integration.
    """

    antennas: int
    integrations: int
    scans: int
    windows: int
    snr: float

    @classmethod
    def of(cls, rng: np.random.Generator) -> Draw:
        """Return a random shape."""
        return cls(
            int(rng.choice([5, 6, 8, 10, 14, 20, 27])),
            int(rng.choice([2, 4, 8, 16, 40])),
            int(rng.choice([1, 2, 4])),
            int(rng.choice([1, 2, 4])),
            float(10 ** rng.uniform(-1.0, 1.0)),
        )

    @property
    def samples(self) -> str:
        """About how many integrations there are, in words."""
        count = self.integrations * self.scans
        return "to 8" if count <= 8 else "to 32" if count <= 32 else "more"


@dataclass(frozen=True)
class Outcome:
    """What a test made of a draw: whether it gave an alarm, and how sure it was, sigma."""

    draw: Draw
    alarm: bool
    sigma: float


def noise_equations(
    rng: np.random.Generator, draw: Draw, dead: Sequence[int] = ()
) -> NormalEquations:
    """Return normal equations of a point of 1 Jy with noise and without errors.

    Parameters
    ----------
    rng : numpy.random.Generator
    draw : Draw
        An SNR of 0: no source, and noise of 1 Jy.
    dead : sequence of int
        Antennas that receive nothing.
    """
    one, two = np.triu_indices(draw.antennas, 1)
    shape = (draw.integrations * draw.scans, draw.windows, len(one), 2)
    weight = draw.snr**2 or 1.0
    noise = rng.normal(size=(*shape, 2)) @ np.array([1.0, 1j])
    signal = np.where(np.isin(one, dead) | np.isin(two, dead) | (draw.snr == 0), 0.0, 1.0)
    vis = weight * signal[None, None, :, None] + math.sqrt(weight) * noise
    scan = np.repeat(np.arange(draw.scans), draw.integrations)
    time = _INTEGRATION_S * np.arange(len(scan)) + 600.0 * scan
    angle = 2 * math.pi * rng.random(draw.antennas)
    radius = 1000.0 * np.sqrt(rng.random(draw.antennas))
    place = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros_like(radius)])
    return NormalEquations(
        time_s=time, interval_s=np.full(len(time), _INTEGRATION_S), scan=scan,
        field=np.zeros_like(scan), observation=np.zeros_like(scan),
        frequency_hz=np.linspace(1e9, 1.1e9, draw.windows), spw=np.arange(draw.windows),
        antenna=tuple(f"A{n:02d}" for n in range(draw.antennas)), position_m=place,
        antenna1=one, antenna2=two, polarization=("R", "L"), vis=vis,
        weight=np.full(shape, weight), time_weight=np.full(len(time), weight),
    )  # fmt: skip


def _phases(rng: np.random.Generator) -> Outcome:
    draw = Draw.of(rng)
    choice = choose_solve(noise_equations(rng, draw))
    return Outcome(draw, choice.best is not None, choice.sigma)


def _amplitudes(rng: np.random.Generator) -> Outcome:
    draw = Draw.of(rng)
    equations = noise_equations(rng, draw)
    choice = choose_solve(equations, calmode="ap")
    choice = amplitudes_worth_it(choice, partial(score_candidate, equations))
    return Outcome(draw, choice.best is not None, choice.sigma)


def _bandpass(rng: np.random.Generator) -> Outcome:
    draw = Draw.of(rng)
    channels = int(rng.choice([4, 8, 16, 64]))
    # one sum for each scan, as the test has them
    each = replace(draw, integrations=1, windows=draw.windows * channels,
                   snr=draw.snr * math.sqrt(draw.integrations))  # fmt: skip
    equations = noise_equations(rng, each)
    choice = choose_bandpass(replace(equations, spw=np.repeat(np.arange(draw.windows), channels)))
    return Outcome(draw, choice.best is not None, choice.sigma)


def _point(rng: np.random.Generator) -> Outcome:
    draw = Draw.of(rng)
    nothing = Draw(draw.antennas, draw.integrations, draw.scans, draw.windows, 0.0)
    equations = noise_equations(rng, nothing)
    forms = [Candidate(step) for step in own_ladder(equations)]
    forms += [replace(form, gaintype="G") for form in forms]
    found = max((model_evidence(equations, (form,)) for form in forms), key=lambda e: e.explained)
    return Outcome(draw, found.significance >= CERTAIN, found.significance)


def _station(rng: np.random.Generator) -> Outcome:
    draw = Draw.of(rng)
    equations = noise_equations(rng, draw, dead=(0,))
    found = held_out_coherence(equations, Candidate(PER_SCAN))
    return Outcome(draw, bool(found.coherent[0]), float(found.sigma[0]))


def _closure(rng: np.random.Generator) -> Outcome:
    draw = Draw.of(rng)
    one, two = np.triu_indices(draw.antennas, 1)
    ntime = draw.integrations * draw.scans
    shape = (len(one), 2, ntime)
    place = np.asarray(rng.normal(size=(draw.antennas, 3)))
    place *= _WAVELENGTHS * 0.1 / np.abs(place).max()
    turn = 0.002 * np.arange(ntime)
    track = np.stack([np.cos(turn), np.sin(turn), np.zeros_like(turn)], axis=-1)
    data = BaselineVisibilities(
        np.linspace(0.0, _INTEGRATION_S * (ntime - 1), ntime),
        tuple(f"A{n:02d}" for n in range(draw.antennas)),
        one, two, np.array([3e9, 3e9]),
        np.asarray((place[two] - place[one])[:, None, :] * (1.0 + 0.1 * track)),
        np.asarray(rng.normal(size=(*shape, 2))) @ np.array([1.0, 1j]), np.ones(shape),
    )  # fmt: skip
    try:
        model = fit_visibilities(data, 60.0, FitOptions(workers=1))
    except InputError:
        return Outcome(draw, False, math.nan)
    return Outcome(draw, model.accepted, model.detection_sigma - model.detection_limit)


def _states(rng: np.random.Generator) -> Outcome:
    draw = Draw.of(rng)
    equations = noise_equations(rng, draw)
    forms = [Candidate(step) for step in own_ladder(equations)]
    solved = model_evidence(equations, (forms[int(rng.integers(len(forms)))],))
    step = solved.against(unsolved_evidence(equations, solved.noise))
    return Outcome(draw, step.sigma >= ADVANTAGE, step.sigma)


def _place(rng: np.random.Generator) -> Outcome:
    return _placed(rng, Draw.of(rng), 0.0)


def _wander(rng: np.random.Generator) -> Outcome:
    draw = Draw.of(rng)
    return _placed(rng, replace(draw, snr=100.0 * draw.snr), float(rng.uniform(0.01, 0.3)))


def _placed(rng: np.random.Generator, draw: Draw, walk_rad: float) -> Outcome:
    """Ask fringes of a point at the phase centre, whose phases walk so far in an integration."""
    one, two = np.triu_indices(draw.antennas, 1)
    count = draw.integrations * draw.scans
    scan = np.repeat(np.arange(draw.scans), draw.integrations)
    time_s = _INTEGRATION_S * np.arange(count) + 600.0 * scan
    position = np.asarray(rng.normal(size=(draw.antennas, 3)))
    hour = EARTH_RATE_RAD_S * time_s
    east = np.outer(position[:, 0], np.cos(hour)) - np.outer(position[:, 1], np.sin(hour))
    north = np.outer(position[:, 0], np.sin(hour)) + np.outer(position[:, 1], np.cos(hour))
    uvw = np.stack([east, north, np.broadcast_to(position[:, 2:], east.shape)], axis=-1)
    frequency_hz = np.linspace(1e9, 1.1e9, draw.windows)
    shape = (len(one), draw.windows, count)
    turn = rng.uniform(-math.pi, math.pi, (draw.antennas, draw.windows, draw.scans))
    gain = np.exp(1j * turn)[:, :, scan]
    if walk_rad:
        steps = np.asarray(rng.normal(size=(draw.antennas, 1, count)))
        gain = gain * np.exp(1j * walk_rad * steps.cumsum(axis=-1))
    noise = np.asarray(rng.normal(size=(*shape, 2))) @ np.array([1.0, 1j])
    data = BaselineVisibilities(
        time_s, tuple(f"A{n:02d}" for n in range(draw.antennas)), one, two, frequency_hz,
        (uvw[two] - uvw[one]) * _WAVELENGTHS * 0.3,
        gain[one] * gain[two].conj() * draw.snr + noise, np.ones(shape),
    )  # fmt: skip
    found = place_by_fringes(data, _unit, 30.0 / _WAVELENGTHS)
    if found is None:
        return Outcome(draw, False, math.nan)
    return Outcome(draw, found.significant, found.sigma - found.needed)


def _unit(uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
    """A point of 1 Jy."""
    return np.ones((len(uvw_m), len(frequency_hz)), np.complex128)


TESTS: dict[str, tuple[Callable[[np.random.Generator], Outcome], float]] = {
    "phases": (_phases, 0.001),
    "amplitudes": (_amplitudes, 0.001),
    "point": (_point, 0.001),
    "station": (_station, 0.01),
    "closure": (_closure, 0.01),
    "bandpass": (_bandpass, 0.001),
    "place": (_place, 0.01),
    "states": (_states, 0.0228),  # beyond 2 sigma, one-sided
    "wander": (_wander, 0.01),  # new ones last: a test's place is a part of its seeds
}  # each with the rate that is stated


def _one(name: str, seed: int) -> Outcome:
    number = list(TESTS).index(name)
    return TESTS[name][0](np.random.default_rng(np.random.SeedSequence([seed, number])))


def _row(name: str, found: Sequence[Outcome]) -> str:
    """Return a row of the table."""
    stated = TESTS[name][1]
    groups = [[o for o in found if o.draw.samples == s] for s in ("to 8", "to 32", "more")]
    sigma = np.array([o.sigma for o in found if math.isfinite(o.sigma)])
    return "| " + " | ".join([
        name, f"{stated:g}",
        *(f"{sum(o.alarm for o in group)} of {len(group)}" for group in (found, *groups)),
        f"{np.quantile(sigma, 1.0 - stated):.2f}", f"{sigma.max():.2f}",
    ]) + " |"  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.false_alarms")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(TESTS), default=list(TESTS))
    arguments = parser.parse_args(argv)
    print(
        "| test | stated | alarms | to 8 integrations | to 32 | more | sigma of that rate | most |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for name in arguments.only:
            seeds = range(arguments.seed, arguments.seed + arguments.draws)
            print(_row(name, list(pool.map(partial(_one, name), seeds, chunksize=8))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
