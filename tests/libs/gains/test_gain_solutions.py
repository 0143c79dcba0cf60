"""Gains in memory: shapes that disagree are refused, executions join along time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.gains.gain_solutions import GainSolutions, concatenate


def part(
    start_s: float, names: tuple[str, ...] = ("A", "B", "C"), spws: tuple[int, ...] = (0, 1),
    times: int = 3, seed: int = 0,
) -> GainSolutions:  # fmt: skip
    rng = np.random.default_rng(seed)
    shape = (times, len(spws), len(names), 2)
    flag = rng.random(shape) < 0.2
    return GainSolutions(
        time_s=5e9 + start_s + 10.0 * np.arange(times), interval_s=np.full(times, 10.0),
        frequency_hz=1e9 + 1e8 * np.array(spws, float), spw=np.array(spws), antenna=names,
        position_m=np.array([[ord(name), 0.0, 0.0] for name in names]), polarization=("R", "L"),
        gain=np.where(flag, 1, rng.normal(size=shape) + 1j), flag=flag,
        snr=np.where(flag, 0, rng.uniform(3, 50, shape)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gain": np.ones((3, 2, 3, 1), complex)}, "gain has shape"),
        ({"snr": np.ones((3, 2, 2, 2))}, "snr has shape"),
        ({"interval_s": np.ones(4)}, "interval_s and time_s"),
        ({"spw": np.arange(3)}, "spw and frequency_hz"),
        ({"position_m": np.zeros((2, 3))}, "position_m must be"),
    ],
)
def test_axes_that_disagree_are_refused(change: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(part(0), **change)


def test_flagged_fraction() -> None:
    one = replace(part(0), flag=np.arange(36).reshape(3, 2, 3, 2) < 9)
    assert one.flagged_fraction == pytest.approx(0.25)
    assert part(0, times=0).flagged_fraction == 1.0


def test_nothing_to_join() -> None:
    with pytest.raises(ValueError, match="no solutions"):
        concatenate([])
    one = part(0)
    assert concatenate([one]) is one


def test_gains_common_to_both_polarizations_are_those_of_each() -> None:
    one = part(0)
    common = replace(
        part(100), polarization=("I",), gain=one.gain[..., :1], flag=one.flag[..., :1],
        snr=one.snr[..., :1],
    )  # fmt: skip
    joined = concatenate([one, common])
    assert joined.polarization == one.polarization
    later = joined.gain[len(one.time_s) :]
    np.testing.assert_array_equal(later[..., 0], later[..., 1])


def test_feeds_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in polarization"):
        concatenate([part(0), replace(part(100), polarization=("X", "Y"))])


def test_other_antennas_and_windows_are_flagged_where_they_are_missing() -> None:
    one, two = part(0, ("A", "B"), (0, 1), seed=1), part(1000, ("B", "C"), (1, 2), seed=2)
    joined = concatenate([one, two])
    assert joined.shape == (6, 3, 3, 2)
    assert joined.antenna == ("A", "B", "C")
    assert joined.position_m[:, 0].tolist() == [ord(name) for name in "ABC"]
    assert joined.spw.tolist() == [0, 1, 2]
    assert joined.frequency_hz.tolist() == [1e9, 1.1e9, 1.2e9]
    np.testing.assert_array_equal(joined.gain[:3, :2, :2], one.gain)
    np.testing.assert_array_equal(joined.gain[3:, 1:, 1:], two.gain)
    assert joined.flag[:3, :, 2].all() and joined.flag[:3, 2].all()
    assert joined.flag[3:, :, 0].all() and joined.flag[3:, 0].all()
    assert (joined.gain[joined.flag] == 1).all() and (joined.snr[joined.flag] == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 50),
            st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=5, unique=True),
            st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
            st.integers(1, 4),
        ),
        min_size=2,
        max_size=4,
    )
)
def test_every_solution_is_found_again_and_nothing_else(
    drawn: list[tuple[int, list[str], list[int], int]],
) -> None:
    # starts that no two parts share: what falls on one time would not be told apart
    parts = [
        part(7.0 * start + 0.01 * i, tuple(names), tuple(sorted(spws)), times, seed=i)
        for i, (start, names, spws, times) in enumerate(drawn)
    ]
    joined = concatenate(parts)
    assert (np.diff(joined.time_s) >= 0).all()
    assert int((~joined.flag).sum()) == sum(int((~one.flag).sum()) for one in parts)
    for one in parts:
        rows = np.searchsorted(joined.time_s, one.time_s)
        columns = [int(np.flatnonzero(joined.spw == spw)[0]) for spw in one.spw]
        places = [joined.antenna.index(name) for name in one.antenna]
        where = np.ix_(rows, columns, places)
        np.testing.assert_array_equal(joined.gain[where], one.gain)
        np.testing.assert_array_equal(joined.flag[where], one.flag)
        np.testing.assert_array_equal(joined.snr[where], one.snr)
        np.testing.assert_array_equal(joined.interval_s[rows], one.interval_s)
