"""Clocks and TECs of LOFAR's stations, told apart in simulated measurement sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.gains.normal_equations import NormalEquations, accumulate
from libs.gains.solution_interval import PER_INTEGRATION
from libs.gains.solver import SolveOptions
from libs.gains.two_factors import fit_two_factors
from libs.heldout.choose import choose_solve
from libs.imaging.predict import fill_model_column
from libs.imaging.standard_models import point_model
from libs.simulation.array_configurations import lofar_hba
from libs.simulation.gains import StationErrors, draw_gains
from libs.simulation.observation import Observation, Source, SpectralWindow, simulate

WINDOW = SpectralWindow(145e6, 48e6, 24)
TEC = StationErrors(tec_walk_tecu=0.1, tec_walk_s=600.0)
CLOCKS = StationErrors(spw_delay_ns=20.0)
BOTH = StationErrors(tec_walk_tecu=0.1, tec_walk_s=600.0, spw_delay_ns=20.0)


def observe(
    tmp_path: Path, errors: StationErrors, seed: int
) -> tuple[NormalEquations, NDArray[np.float64], NDArray[np.float64]]:
    """A point of 1 Jy; its sums, true TECs (ntime, nant) and delays (nant, npol) in ns.

    Both are relative to the first station.
    """
    observation = Observation(
        lofar_hba().thinned(10), (212.8, 52.2), 5.085e9, 10.0, 240.0, (WINDOW,),
        correlations=("XX", "YY"), noise_jy=0.2, field="a",
    )  # fmt: skip
    made = simulate(tmp_path / "a.ms", observation, [Source(1.0)], errors, seed=seed, perfect=False)
    fill_model_column([made.ms], point_model(np.ones_like, (0.0, 0.0)))
    options = SolveOptions(PER_INTEGRATION)
    sums = accumulate(made.ms, options, channels_per_block=1)

    def alone(one: StationErrors, hz: list[float]) -> NDArray[np.complex128]:
        names, scan = observation.array.name, observation.scan
        return draw_gains(one, seed, names, observation.time_s, np.array(hz), scan)

    # at so high a frequency no phase wraps; each kind of error has random numbers of its own
    tec = np.angle(alone(TEC, [1e13])[:, 0, :, 0]) * 1e13 / TEC_PHASE_HZ
    low, high = alone(CLOCKS, [144e6, 145e6])[0]
    delay = np.angle(high * low.conj()) / (2 * np.pi * 1e6) * 1e9
    return sums, tec - tec[:, :1], delay - delay[:1]


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_clocks_and_tecs_of_stations_are_both_found(tmp_path: Path, seed: int) -> None:
    sums, tec, delay = observe(tmp_path, BOTH, seed)
    choice = choose_solve(sums, channels_per_block=1)
    assert choice.best is not None and choice.best.solution == "delay+tec", choice.reason
    fit = fit_two_factors(sums, constant="delay", common="tec")
    assert fit.tec is not None and fit.delays is not None
    found = fit.tec.tec_tecu - fit.tec.tec_tecu[:, :1]
    change, true = found - found[:1], tec - tec[:1]
    # the changes span 0.03 to 0.04 TECU, the clocks 20 to 30 ns; a constant TEC is told from a
    # clock by the curvature of phases only, which is known ten times less well
    assert np.std(change - true) < 0.001
    assert np.std(found - tec) < 0.01
    clock = fit.delays.delay_ns[0, 0]
    assert np.std(clock - clock[:1] - delay) < 0.5


@pytest.mark.parametrize("seed", [21, 22])
@pytest.mark.parametrize("errors", ["none", "tec", "clocks"])
def test_neither_is_chosen_where_it_is_absent(tmp_path: Path, errors: str, seed: int) -> None:
    sums, _, _ = observe(
        tmp_path, {"none": StationErrors(), "tec": TEC, "clocks": CLOCKS}[errors], seed
    )
    choice = choose_solve(sums, channels_per_block=1)
    solution = choice.best.solution if choice.best else ""
    assert ("tec" in solution) == (errors == "tec"), choice.reason
    assert ("delay" in solution) == (errors == "clocks"), choice.reason
