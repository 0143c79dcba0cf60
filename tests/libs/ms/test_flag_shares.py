"""Flags by antenna and by length of the baseline against a count by hand."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.ms import flag_versions
from libs.ms.flag_shares import count_flag_shares
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms


def flag(ms: Path, share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    with open_table(ms, write=True) as opened:
        flags = rng.random(opened.getcol("FLAG").shape) < share
        whole = rng.random(opened.nrows()) < share / 3
        opened.putcol("FLAG", flags)
        opened.putcol("FLAG_ROW", whole)
    return flags | whole[:, None, None]


@pytest.mark.parametrize("autocorrelations", [False, True])
def test_shares_are_those_counted_by_hand(tmp_path: Path, autocorrelations: bool) -> None:
    ms = make_ms(tmp_path / "a.ms", autocorrelations=autocorrelations)
    before = flag(ms, 0.1, 1)
    flag_versions.save_version(ms, "initial")
    after = flag(ms, 0.4, 2)
    found = count_flag_shares(ms, "initial", bins=4)
    with open_table(ms) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
    assert found.antenna == Subtables(ms).antenna_names
    for number in range(5):
        mine = (one == number) | (two == number)
        wanted = [before[mine].mean(), after[mine].mean()]
        np.testing.assert_allclose(found.by_antenna[:, number], wanted)
    place = Subtables(ms).position_m
    length = np.linalg.norm(place[one] - place[two], axis=1)
    for number in range(len(found.edges_m) - 1):
        low, high = found.edges_m[number : number + 2]
        last = number == len(found.edges_m) - 2
        mine = (length >= low) & ((length < high) | last) & (one != two)
        wanted = [before[mine].mean(), after[mine].mean()]
        np.testing.assert_allclose(found.by_length[:, number], wanted)
    distances = [np.linalg.norm(place[a] - place[b]) for a, b in combinations(range(5), 2)]
    assert found.edges_m[0] == pytest.approx(min(distances))
    assert found.edges_m[-1] == pytest.approx(max(distances))


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no flag version 'initial'"):
        count_flag_shares(make_ms(tmp_path / "a.ms"), "initial")


def test_lengths_that_no_baseline_has_have_no_share(tmp_path: Path) -> None:
    """Of an array whose baselines are all but alike."""
    ms = make_ms(tmp_path / "a.ms", antennas=3)
    with open_table(f"{ms}::ANTENNA", write=True) as opened:
        place = opened.getcol("POSITION")
        place[:] = place[0] + 100.0 * np.eye(3)
        opened.putcol("POSITION", place)
    flag_versions.save_version(ms, "initial")
    found = count_flag_shares(ms, "initial")
    finite = np.isfinite(found.by_length).all(axis=0)
    np.testing.assert_array_equal(found.by_length[:, finite], 0)
    assert np.isfinite(found.by_antenna).all()
