"""The campaign's drawing: reproduced by a seed, valid, never impossible."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.campaign.arrays import KINDS, array_of
from benchmarks.campaign.draw import draw, flag_drawn
from libs.ms.tables import open_table
from libs.simulation.gains import StationErrors, draw_gains
from libs.simulation.scenarios import make_scenario

SEEDS = st.integers(0, 10**6)


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_a_seed_gives_the_same_case_again(seed: int) -> None:
    one, two = draw(seed), draw(seed)
    assert one.kinds == two.kinds
    assert one.scenario.sky == two.scenario.sky
    assert one.scenario.errors == two.scenario.errors
    assert one.scenario.spws == two.scenario.spws
    assert one.scenario.noise_jy == two.scenario.noise_jy
    assert one.flagged_antennas == two.flagged_antennas


@settings(deadline=None, max_examples=100)
@given(SEEDS)
def test_a_case_is_valid_and_small(seed: int) -> None:
    case = draw(seed)
    made = case.scenario
    observation = made.observation()
    assert observation.rows <= 45_000
    assert 12 <= len(observation.time_s) <= 240
    assert 1 <= len(made.spws) <= 16
    edges = [(w.centre_hz - 0.5 * w.width_hz, w.centre_hz + 0.5 * w.width_hz) for w in made.spws]
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(edges))
    assert all(math.isfinite(s.flux_jy) and s.flux_jy > 0 for s in made.sky)
    assert made.noise_jy > 0
    assert (not made.sky) == (case.kinds["sky"] == "no source")


@settings(deadline=None, max_examples=100)
@given(SEEDS)
def test_no_case_is_impossible(seed: int) -> None:
    """Enough is left after flagging, and bright sources can be followed by every antenna."""
    case = draw(seed)
    made = case.scenario
    assert len(case.scenario.array()) - len(case.flagged_antennas) >= 5
    assert len(made.spws) - len(case.flagged_spws) >= 1
    if made.sky and case.aimed_snr >= 20 and made.errors.phase_walk_deg > 0:
        assert case.antenna_snr >= 4.99
        errors = made.errors
        step = math.radians(errors.phase_walk_deg) * math.sqrt(
            made.integration_s / errors.phase_walk_s
        )
        assert step <= 0.401


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_array_lies_on_the_ground(kind) -> None:
    for name in kind.configurations:
        array = array_of(name)
        radius = np.linalg.norm(array.position_m, axis=1)
        assert np.all((radius > 6.35e6) & (radius < 6.39e6))
        assert len(array) >= 6


def test_all_kinds_come_up() -> None:
    cases = [draw(seed) for seed in range(400)]
    for subject, least in (("array", len(KINDS)), ("sky", 8), ("errors", 5), ("noise", 4)):
        assert len({case.kinds[subject] for case in cases}) >= least


def test_flags_reach_the_data(tmp_path: Path) -> None:
    case = next(c for c in map(draw, range(2000)) if c.flagged_antennas and c.flagged_spws)
    made = make_scenario(case.scenario, tmp_path / "a.ms", 0.05, perfect=False)
    flag_drawn(case, made.ms)
    with open_table(made.ms) as table:
        hit = np.isin(table.getcol("ANTENNA1"), case.flagged_antennas)
        hit |= np.isin(table.getcol("ANTENNA2"), case.flagged_antennas)
        hit |= np.isin(table.getcol("DATA_DESC_ID"), case.flagged_spws)
        flagged = np.array([table.getcell("FLAG", row).all() for row in range(table.nrows())])
    assert np.array_equal(hit, flagged)
    assert 0 < hit.mean() < 1


def test_phases_of_windows_and_delays_have_their_size() -> None:
    names = [f"A{number}" for number in range(400)]
    frequency = np.array([1.0e9, 1.01e9, 2.0e9, 2.01e9])
    scan, spw = np.array([1, 1], np.int32), np.array([0, 0, 1, 1])
    time_s = np.array([0.0, 10.0])
    offset = StationErrors(spw_offset_deg=20.0)
    phase = np.angle(draw_gains(offset, 1, names, time_s, frequency, scan, spw=spw))
    assert np.array_equal(phase[:, 0], phase[:, 1])
    assert np.rad2deg(np.std(phase[0, 0])) == pytest.approx(20.0, rel=0.1)
    assert abs(np.corrcoef(phase[0, 0].ravel(), phase[0, 2].ravel())[0, 1]) < 0.15
    delay = StationErrors(delay_ns=1.0)
    gain = draw_gains(delay, 1, names, time_s, frequency, scan, spw=spw)
    slope = np.angle(gain[0, 1] * np.conj(gain[0, 0]))
    assert np.std(slope) == pytest.approx(2 * np.pi * 0.01e9 * 1e-9, rel=0.1)
    jump = StationErrors(amp_jump=0.1)
    gain = draw_gains(jump, 1, names, np.arange(4.0), frequency[:1], np.array([1, 1, 2, 2]))
    amplitude = np.log(np.abs(gain[:, 0]))
    assert np.array_equal(amplitude[0], amplitude[1])
    assert np.std(amplitude[2] - amplitude[1]) == pytest.approx(0.1 * math.sqrt(2), rel=0.1)
