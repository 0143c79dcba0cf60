"""Phases of several solves on one reference station: only differences mean something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from libs.h5parm.phase_reference import common_station, phase_aligned, referred
from tests.libs.solset_examples import STATIONS, flagged, jones, solset


def baselines(table):
    """Return g_p conj(g_q) of all pairs, which is all that visibilities see."""
    gain = table.gain[:, :, :, 0]
    return gain[:, :, :, None] * gain[:, :, None].conj()


def test_referring_changes_no_parallel_hand_visibility() -> None:
    table = solset(seed=1)
    got = referred(table, "DE602HBA")
    np.testing.assert_allclose(got.phase_rad[:, :, 2], 0, atol=1e-12)
    np.testing.assert_allclose(baselines(got), baselines(table), atol=1e-12)


def test_referring_jones_matrices_is_one_phase_for_all_elements() -> None:
    table = jones(1)
    got = referred(table, "DE601HBA")
    ratio = got.gain / table.gain
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :, :1, :, :1], ratio.shape))
    np.testing.assert_allclose(got.phase_rad[:, :, 1, :, 0], 0, atol=1e-12)


def test_referring_takes_the_tec_along() -> None:
    tec = np.random.default_rng(1).uniform(-1, 1, (3, 4, 1))
    table = replace(solset(frequency_hz=[150e6], polarization=("I",)), tec_tecu=tec)
    got = referred(table, "DE601HBA")
    np.testing.assert_allclose(got.tec_tecu, tec - tec[:, 1:2])
    np.testing.assert_allclose(baselines(got), baselines(table), atol=1e-9)


@pytest.mark.parametrize("which", ["both", "first", "second"])
def test_phases_with_tecs_and_without_get_one_reference(which: str) -> None:
    """Of several frequencies, where TEC and what is left of the phase both turn."""
    rng = np.random.default_rng(2)

    def with_tec(table, wanted):
        return replace(table, tec_tecu=rng.uniform(-1, 1, (3, 4, 1))) if wanted else table

    one = with_tec(solset(seed=3), which in ("both", "first"))
    other = with_tec(solset(seed=4), which in ("both", "second"))
    got = phase_aligned(one, other, "DE601HBA")
    turned = got.gain[:, :, 1] / other.gain[:, :, 1]
    np.testing.assert_allclose(np.angle(turned), 0, atol=1e-9)
    np.testing.assert_allclose(baselines(got), baselines(one), atol=1e-9)
    flat = referred(one, "DE602HBA")
    np.testing.assert_allclose(np.angle(flat.gain[:, :, 2]), 0, atol=1e-9)
    lost = phase_aligned(flagged(one, station="UK608HBA"), other, "DE601HBA")
    assert lost.tec_tecu is not None and not lost.tec_tecu[:, 3].any()


def test_no_reference_no_solution() -> None:
    table = flagged(solset(seed=1), station="CS001HBA0", times=1)
    got = referred(table, "CS001HBA0")
    assert not got.valid[1].any()
    assert got.valid[[0, 2]].all()
    np.testing.assert_array_equal(got.amplitude[1], 1.0)


def test_aligning_undoes_another_reference() -> None:
    table = solset(seed=1)
    other = referred(table, "UK608HBA")
    got = phase_aligned(other, table, "DE601HBA")
    np.testing.assert_allclose(got.gain, table.gain, atol=1e-12)


def test_the_most_complete_station_is_the_reference() -> None:
    a, b = solset(seed=1), solset(seed=2, antenna=STATIONS[1:])
    b = flagged(b, station="DE601HBA", times=0)
    assert common_station([a, b]) in ("DE602HBA", "UK608HBA")
    assert common_station([a, referred(b, "UK608HBA")]) == "UK608HBA"
    apart = solset(antenna=("X1", "X2"))
    assert common_station([a, apart]) is None
    assert (
        common_station([a, flagged(solset(antenna=("X1", "UK608HBA")), station="UK608HBA")]) is None
    )


@pytest.mark.parametrize("station", STATIONS)
def test_a_table_is_its_own_reference(station) -> None:
    table = solset(seed=3)
    np.testing.assert_allclose(phase_aligned(table, table, station).gain, table.gain, atol=1e-12)
