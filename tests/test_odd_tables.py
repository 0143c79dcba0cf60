"""Columns and subtables that the standard lets a writer leave out, or that are not filled.

What a working copy holds, and what is made of it, is the same without them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.core.errors import SelfcalError
from libs.inputs.working_copy import check_usable
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from tests import odd_data
from tests.test_odd_data import FEW, copy_of, fresh, numbers, usable_copy

COLUMNS = (
    "FLAG_CATEGORY", "EXPOSURE", "INTERVAL", "TIME_CENTROID", "FLAG_ROW", "SIGMA", "WEIGHT",
    "FEED1", "FEED2", "PROCESSOR_ID", "STATE_ID", "ARRAY_ID", "OBSERVATION_ID", "SCAN_NUMBER",
)  # fmt: skip
SUBTABLES = (
    "FEED", "FLAG_CMD", "HISTORY", "OBSERVATION", "POINTING", "PROCESSOR", "STATE",
)  # fmt: skip
# of these, numbers of a run depend on what is lost
COUNTS = {"WEIGHT", "SIGMA", "SCAN_NUMBER", "INTERVAL", "EXPOSURE"}


def lose_column(ms: Path, name: str) -> None:
    """Leave a column out; those that share a file with others cannot be removed."""
    aside = ms.with_name(f"{ms.name}.aside")
    with open_table(ms) as opened:
        others = [other for other in opened.colnames() if other != name]
        opened.select(",".join(others)).copy(str(aside), deep=True).close()
    shutil.rmtree(ms)
    aside.rename(ms)


def lose_subtable(ms: Path, name: str, how: str) -> None:
    """Empty a subtable, remove its folder, or that and the keyword that names it."""
    if not (ms / name).is_dir():
        return
    if how == "empty":
        with open_table(ms / name, write=True) as opened:
            opened.removerows(list(range(opened.nrows())))
        return
    shutil.rmtree(ms / name)
    if how == "unnamed":
        with open_table(ms, write=True) as opened:
            opened.removekeyword(name)


@FEW
@given(
    columns=st.lists(st.sampled_from(COLUMNS), max_size=3, unique=True),
    subtables=st.dictionaries(
        st.sampled_from(SUBTABLES), st.sampled_from(["empty", "absent", "unnamed"]), max_size=3
    ),
)
def test_what_may_be_left_out_changes_nothing(
    tmp_path: Path, columns: list[str], subtables: dict[str, str]
) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2)
    before = numbers(copy_of(ms).ms)
    shutil.rmtree(tmp_path / "data")
    for name in columns:
        lose_column(ms, name)
    for name, how in subtables.items():
        lose_subtable(ms, name, how)
    try:
        copy = copy_of(ms)
        check_usable(summarise(copy.ms), copy)
    except SelfcalError as error:
        pytest.fail(f"{error}")
    found = numbers(copy.ms)
    if COUNTS & set(columns):
        assert found["imaged"] == before["imaged"]
        assert found["mean"] == pytest.approx(before["mean"], rel=0.05)
    else:
        assert found == pytest.approx(before, rel=1e-5)


@FEW
@example(share=1.0, column="DATA", value=1.0, seed=0)  # a point without noise
@example(share=1.0, column="DATA", value=-1.0, seed=0)
@example(share=1.0, column="DATA", value=0.0, seed=0)
@given(
    share=st.sampled_from([0.02, 0.5, 1.0]),
    column=st.sampled_from(["DATA", "WEIGHT", "SIGMA", "INTERVAL", "EXPOSURE", "TIME_CENTROID"]),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e30]),
    seed=st.integers(0, 99),
)
def test_impossible_numbers_end_flagged_or_in_one_line(
    tmp_path: Path, share: float, column: str, value: float, seed: int
) -> None:
    ms = odd_data.plain(fresh(tmp_path), integrations=2, seed=3)
    rows = np.random.default_rng(seed).random(len(odd_data.rows_of(ms))) < share
    odd_data.put(ms, column, rows, value)
    copy = usable_copy(ms)
    if copy is None:
        return
    if not (~rows).any() and column == "DATA" and value <= 0.0:
        with pytest.raises(SelfcalError) as caught:  # what is no source has no phases
            numbers(copy.ms)
        assert caught.value.cause and caught.value.remedy
        return
    found = numbers(copy.ms)
    assert np.isfinite(list(found.values())).all()
    if column != "DATA" or not np.isfinite(value) or value == 1e30:
        assert found["mean"] == pytest.approx(1.0, abs=0.5)
