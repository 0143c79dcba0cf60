"""Integration time: the spacing of time stamps, by what they have in common."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from libs.ms.integration import integration_time_s, integrations_per_scan


def test_gaps_between_scans_count_without_keys_only() -> None:
    time = np.array([0.0, 10, 100, 110, 300, 310])
    scan = np.array([1, 1, 2, 2, 3, 3])
    assert integration_time_s(time, scan) == 10
    assert integration_time_s(time[1:5]) == 90
    assert integration_time_s(time[1:5], scan[1:5]) == 10


def test_stamps_of_baselines_may_differ_by_a_part_of_an_integration() -> None:
    time = np.concatenate([np.arange(8) * 10.0, np.arange(8) * 10.0 + 2])
    baseline = np.repeat([0, 1], 8)
    assert integration_time_s(time, baseline) == 10
    assert integration_time_s(time) == 2


def test_a_single_stamp_has_no_spacing() -> None:
    one = np.full(5, 7.0)
    assert integration_time_s(one) == integration_time_s(one, np.zeros(5)) == 0
    assert integration_time_s(np.arange(3.0), np.arange(3)) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=2, max_size=40))
def test_neither_order_nor_repetition_matters(rows: list[tuple[int, int]]) -> None:
    time, scan = np.array(rows, float).T
    mixed = np.random.default_rng(len(rows)).permutation(np.tile(np.arange(len(rows)), 2))
    assert integration_time_s(time, scan) == integration_time_s(time[mixed], scan[mixed])
    counted = integrations_per_scan(time[mixed], scan[mixed])
    wanted = [len(np.unique(time[scan == one])) for one in np.unique(scan)]
    assert sorted(counted.tolist()) == sorted(wanted)
