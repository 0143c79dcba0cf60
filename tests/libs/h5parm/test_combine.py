"""Serial gains multiply; the laws of a product, known answers, real tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from libs.core.angles import TEC_PHASE_HZ, separation_rad, wrap_rad
from libs.core.errors import InputError
from libs.h5parm.combine import BOTH, FIRST, NEITHER, SECOND, combine, inverse, tec_to_phase
from libs.h5parm.reader import read_h5parm
from libs.h5parm.regrid import regrid, union_axis
from libs.h5parm.solset import Solset, neutral_amplitude
from tests.libs.solset_examples import STATIONS, flagged, jones, solset

SHAPE = (3, 2, 4, 1, 2)


@st.composite
def tables(draw, with_flags: bool = True):
    """Draw tables on one grid with any phases and amplitudes, some of them flagged."""
    base = solset()
    phase = draw(hnp.arrays(float, SHAPE, elements=st.floats(-10, 10)))
    amplitude = draw(hnp.arrays(float, SHAPE, elements=st.floats(0.1, 10)))
    weight = draw(hnp.arrays(float, SHAPE, elements=st.sampled_from([0, 0.5, 1, 100])))
    if not with_flags:
        weight = np.maximum(weight, 1)
    good = weight > 0
    return replace(
        base,
        phase_rad=np.where(good, phase, 0),
        amplitude=np.where(good, amplitude, 1),
        weight=weight,
    )


def same(a, b) -> None:
    """Assert equal gains and weights."""
    np.testing.assert_allclose(a.gain, b.gain, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(a.weight, b.weight, rtol=1e-9)


def test_phases_of_serial_gains_add() -> None:
    a, b = solset(phase_rad=0.3), solset(phase_rad=0.5)
    product = combine(a, b).solset
    np.testing.assert_allclose(product.phase_rad, 0.8)
    np.testing.assert_allclose(product.amplitude, 1.0)


def test_product_across_the_wrap() -> None:
    product = combine(solset(phase_rad=3.0), solset(phase_rad=3.0)).solset
    np.testing.assert_allclose(product.phase_rad, 6.0 - 2 * np.pi)


def of_one(table: Solset) -> Solset:
    """Gains of 1, known exactly, wherever a table has solutions."""
    return replace(
        table, phase_rad=np.zeros(table.shape), amplitude=neutral_amplitude(table.shape),
        weight=np.where(table.valid, np.inf, 0.0), tec_tecu=None,
    )  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(tables())
def test_identity(a) -> None:
    same(combine(of_one(a), a).solset, a)
    same(combine(a, of_one(a)).solset, a)


@settings(deadline=None, max_examples=40)
@given(tables(), tables(), tables())
def test_associativity(a, b, c) -> None:
    same(
        combine(combine(a, b).solset, c).solset,
        combine(a, combine(b, c).solset).solset,
    )


@settings(deadline=None, max_examples=40)
@given(tables(with_flags=False))
def test_inverse(a) -> None:
    product = combine(a, inverse(a)).solset
    np.testing.assert_allclose(product.gain, 1.0, rtol=1e-9)


@settings(deadline=None, max_examples=40)
@given(tables(), tables())
def test_gains_commute(a, b) -> None:
    same(combine(a, b).solset, combine(b, a).solset)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0, 1000), min_size=1, max_size=8, unique=True).map(sorted),
    st.floats(-3, 3),
    st.floats(-0.02, 0.02),
)
def test_a_phase_ramp_survives_its_wraps(new, start, slope) -> None:
    """A drift of less than pi per interval is found again at any time between."""
    times = np.arange(0.0, 1001.0, 100.0)
    ramp = wrap_rad(start + slope * times)[:, None, None, None, None]
    table = solset(time_s=times, frequency_hz=[1e8], phase_rad=ramp)
    at = np.array(new)
    got = regrid(table, at, table.frequency_hz)
    expected = np.exp(1j * (start + slope * at))[:, None, None, None, None]
    # Times within 1 ms of a sample are that sample.
    np.testing.assert_allclose(got.gain, np.broadcast_to(expected, got.shape), atol=3e-5)
    np.testing.assert_allclose(got.amplitude, 1.0)


def test_phases_either_side_of_a_wrap_are_not_averaged_to_zero() -> None:
    phase = np.array([np.pi - 0.1, -np.pi + 0.1])[:, None, None, None, None]
    table = solset(time_s=[0, 10], phase_rad=phase)
    middle = regrid(table, np.array([5.0]), table.frequency_hz)
    np.testing.assert_allclose(np.abs(middle.phase_rad), np.pi)
    np.testing.assert_allclose(middle.amplitude, 1.0)


def test_times_outside_take_the_edge_value() -> None:
    phase = np.array([0.1, 0.2, 0.3])[:, None, None, None, None]
    table = solset(time_s=[10, 20, 30], phase_rad=phase)
    got = regrid(table, np.array([-5.0, 10, 25, 99]), table.frequency_hz).phase_rad
    np.testing.assert_allclose(got[:, 0, 0, 0, 0], [0.1, 0.1, 0.25, 0.3])


def test_a_time_nearest_to_a_flagged_solution_has_none() -> None:
    table = solset(time_s=[0, 10, 20], seed=1)
    table = flagged(table, station="DE601HBA", times=1)
    got = regrid(table, np.array([4.0, 6.0, 14.0, 16.0]), table.frequency_hz)
    assert got.valid[:, 0, 1, 0, 0].tolist() == [True, False, False, True]
    np.testing.assert_allclose(got.gain[0, :, 1], table.gain[0, :, 1])
    assert got.valid[:, :, 0].all()


def test_interpolation_of_a_product_is_the_product_of_interpolations() -> None:
    rng = np.random.default_rng(3)
    a, b = (
        solset(phase_rad=rng.uniform(-0.5, 0.5, SHAPE), amplitude=rng.uniform(0.5, 2, SHAPE))
        for _ in range(2)
    )
    grid = (a.time_s[0] + np.linspace(0, 120, 7), np.linspace(120e6, 140e6, 5))
    after = regrid(combine(a, b).solset, *grid)
    before = combine(regrid(a, *grid), regrid(b, *grid)).solset
    np.testing.assert_allclose(after.gain, before.gain, atol=1e-12)


def test_union_of_grids() -> None:
    a = solset(time_s=[0, 20], frequency_hz=[100e6, 140e6], phase_rad=0.3)
    b = solset(time_s=[0, 10, 20.0004], frequency_hz=[120e6, 140e6], phase_rad=0.5)
    product = combine(a, b).solset
    assert product.time_s.tolist() == [0, 10, 20]
    assert product.frequency_hz.tolist() == [100e6, 120e6, 140e6]
    np.testing.assert_allclose(product.phase_rad, 0.8)


def test_a_constant_table_adds_no_time_of_its_own() -> None:
    scan = solset(time_s=[50], frequency_hz=[130e6], phase_rad=0.5)
    fast = solset(time_s=[0, 10, 20], phase_rad=0.3)
    product = combine(scan, fast).solset
    assert product.shape == fast.shape
    np.testing.assert_allclose(product.phase_rad, 0.8)
    assert union_axis([np.array([1.0]), np.array([2.0])], 0.1).tolist() == [1, 2]


def test_flagged_solutions_are_kept_from_the_other_table() -> None:
    a = flagged(solset(phase_rad=0.3), station="DE601HBA")
    b = flagged(solset(phase_rad=0.5), station="UK608HBA", times=0)
    combined = combine(a, b)
    product = combined.solset
    np.testing.assert_allclose(product.phase_rad[:, :, 1], 0.5)
    np.testing.assert_allclose(product.phase_rad[0, :, 3], 0.3)
    np.testing.assert_allclose(product.phase_rad[1:, :, 3], 0.8)
    assert product.valid.all()
    found = [set(np.unique(combined.origin[:, :, i])) for i in range(4)]
    assert found == [{BOTH}, {SECOND}, {BOTH}, {FIRST, BOTH}]


def test_flagged_in_both_stays_flagged() -> None:
    a = flagged(solset(), station="DE601HBA")
    combined = combine(a, a)
    assert not combined.solset.valid[:, :, 1].any()
    assert (combined.origin[:, :, 1] == NEITHER).all()


def test_antennas_of_one_table_are_kept() -> None:
    a = solset(antenna=STATIONS[:3], phase_rad=0.3)
    b = solset(antenna=("DE602HBA", "SE607HBA"), phase_rad=0.5)
    combined = combine(a, b)
    assert combined.solset.antenna == (*STATIONS[:3], "SE607HBA")
    np.testing.assert_allclose(combined.solset.phase_rad[0, 0, :, 0, 0], [0.3, 0.3, 0.8, 0.5])
    np.testing.assert_array_equal(combined.solset.position_m[3], b.position_m[1])
    assert any("SE607HBA" in note for note in combined.notes)


def test_variances_add() -> None:
    product = combine(solset(weight=100.0), solset(weight=25.0)).solset
    np.testing.assert_allclose(product.weight, 20.0)


def test_tec_times_phases_is_tec_and_phases() -> None:
    tec = np.array([0.01, 0.02, -0.03])[:, None, None] * np.ones((1, 4, 1))
    a = replace(solset(frequency_hz=[150e6], polarization=("I",)), tec_tecu=tec)
    b = solset(phase_rad=0.5)
    product = combine(a, b).solset
    np.testing.assert_array_equal(product.tec_tecu, tec)
    np.testing.assert_allclose(product.phase_rad, 0.5)
    expected = TEC_PHASE_HZ * tec[:, None, :, :, None] / b.frequency_hz[:, None, None, None] + 0.5
    np.testing.assert_allclose(
        product.gain, np.broadcast_to(np.exp(1j * expected), product.shape), atol=1e-12
    )


def test_tec_times_tec_stays_tec() -> None:
    a = replace(solset(frequency_hz=[150e6]), tec_tecu=np.full((3, 4, 1), 0.5))
    product = combine(a, a).solset
    np.testing.assert_allclose(product.tec_tecu, 1.0)
    at = np.array([120e6, 160e6])
    spread = combine(a, a, frequency_hz=at).solset
    expected = np.exp(1j * TEC_PHASE_HZ / at)[:, None, None, None]
    np.testing.assert_allclose(spread.gain, np.broadcast_to(expected, spread.shape), atol=1e-9)
    phases = tec_to_phase(spread)
    assert phases.tec_tecu is None and tec_to_phase(phases) is phases
    np.testing.assert_allclose(phases.gain, spread.gain, atol=1e-9)


def test_one_gain_for_both_feeds_times_one_for_each() -> None:
    a = solset(polarization=("I",), phase_rad=0.3)
    b = solset(phase_rad=np.array([0.5, 0.6]))
    product = combine(a, b).solset
    assert product.polarization == ("XX", "YY")
    np.testing.assert_allclose(product.phase_rad[0, 0, 0, 0], [0.8, 0.9])


def test_directions_are_matched_by_position() -> None:
    two = {"A": (217.0, 35.0), "B": (218.0, 35.0)}
    a = solset(directions=two, phase_rad=0.3)
    b = solset(directions={"other name": (218.0, 35.0), "C": (219.0, 35.0)}, phase_rad=0.5)
    product = combine(a, b).solset
    assert product.direction == ("A", "B", "C")
    np.testing.assert_allclose(product.phase_rad[0, 0, 0, :, 0], [0.3, 0.8, 0.5])


def test_a_direction_independent_table_applies_to_all() -> None:
    a = solset(directions={"A": (217.0, 35.0), "B": (218.0, 35.0)}, phase_rad=0.3)
    b = solset(directions={"POINTING": (217.5, 35.5)}, phase_rad=0.5)
    for product in (combine(a, b), combine(b, a)):
        assert product.solset.direction == ("A", "B")
        np.testing.assert_allclose(product.solset.phase_rad, 0.8)
        assert "POINTING" in product.notes[0]


def test_no_direction_in_common_is_an_error() -> None:
    a = solset(directions={"A": (1.0, 1.0), "B": (2.0, 1.0)})
    b = solset(directions={"C": (3.0, 1.0), "D": (4.0, 1.0)})
    with pytest.raises(InputError, match="none in common"):
        combine(a, b)


def test_jones_matrices_multiply_in_order() -> None:
    a, b = jones(1), jones(2)
    product = combine(a, b).solset.gain.reshape(*SHAPE[:4], 2, 2)
    first, second = (s.gain.reshape(*SHAPE[:4], 2, 2) for s in (a, b))
    np.testing.assert_allclose(product, first @ second, atol=1e-12)
    back = combine(a, inverse(a)).solset.gain
    np.testing.assert_allclose(back, np.broadcast_to([1, 0, 0, 1], back.shape), atol=1e-12)


def test_gains_times_jones_matrices() -> None:
    gains, matrices = solset(seed=5), jones(6)
    product = combine(gains, matrices).solset.gain
    expected = matrices.gain * gains.gain[..., [0, 0, 1, 1]]
    np.testing.assert_allclose(product, expected, atol=1e-12)


def test_jones_interpolation_keeps_constant_matrices() -> None:
    table = jones(7)
    first = [getattr(table, n)[:1, :1] for n in ("phase_rad", "amplitude")]
    drift = np.array([0.0, 2.0, 4.0])[:, None, None, None, None]
    table = replace(
        table,
        phase_rad=np.broadcast_to(first[0], table.shape) + drift,
        amplitude=np.broadcast_to(first[1], table.shape).copy(),
    )
    got = regrid(table, table.time_s[:1] + 45.0, table.frequency_hz)
    np.testing.assert_allclose(got.gain, table.gain[:1] * np.exp(1.5j), atol=1e-12)


def test_separation() -> None:
    a, b = np.deg2rad([[350.0, 60.0], [10.0, 60.0]])
    assert np.rad2deg(separation_rad(a, b)) == pytest.approx(9.9619, abs=1e-4)
    tiny = np.deg2rad(0.1 / 3600)
    assert separation_rad(a, a + np.array([0, tiny])) == pytest.approx(tiny, rel=1e-6)


@pytest.mark.parametrize("kind", ["dirtest", "fulljones"])
def test_real_tables(shared_data, kind) -> None:
    a, b = (read_h5parm(shared_data / "lofar" / f"{kind}{i}.h5") for i in (1, 2))
    combined = combine(a, b)
    product = combined.solset
    assert (combined.origin == BOTH).all()
    assert len(product.time_s) >= max(len(a.time_s), len(b.time_s))
    assert product.valid.all()
    assert np.isfinite(product.gain).all()
    # Where both have a sample nothing is interpolated.
    t = int(np.argmin(np.abs(product.time_s - a.time_s[0])))
    at = regrid(b, a.time_s[:1], product.frequency_hz)
    of_a = regrid(a, a.time_s[:1], product.frequency_hz)
    np.testing.assert_allclose(product.gain[t], combine(of_a, at).solset.gain[0], atol=1e-9)
