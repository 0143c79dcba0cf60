"""One type for the solution interval, from the option to the record and gaincal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN, SolutionInterval
from libs.gains.solver import SolveOptions

intervals = st.one_of(
    st.sampled_from([PER_INTEGRATION, PER_SCAN]),
    st.floats(1e-3, 1e6).map(SolutionInterval),
)


@given(intervals)
def test_what_is_recorded_is_read_back(interval: SolutionInterval) -> None:
    assert SolutionInterval.parse(json.loads(json.dumps(interval.recorded))) == interval
    options = SolveOptions(solint=interval, combine=frozenset({"spw"}), refant=("a", "b"))
    assert SolveOptions.from_record(json.loads(json.dumps(options.as_record()))) == options


@given(intervals, intervals)
def test_they_are_ordered_by_length(one: SolutionInterval, two: SolutionInterval) -> None:
    assert (one < two) == (one.seconds < two.seconds)
    assert min(PER_INTEGRATION, one, PER_SCAN) == PER_INTEGRATION
    assert max(PER_INTEGRATION, one, PER_SCAN) == PER_SCAN


@pytest.mark.parametrize(
    ("value", "words", "gaincal"),
    [
        (12.0, "12 s", "12s"),
        (0.123456789, "0.123 s", "0.123457s"),
        ("int", "one per integration", "int"),
        ("inf", "one per scan", "inf"),
        ("scan", "one per scan", "inf"),
        (float("inf"), "one per scan", "inf"),
    ],
)
def test_in_words_and_for_gaincal(value: object, words: str, gaincal: str) -> None:
    interval = SolutionInterval.parse(value)
    assert (str(interval), interval.for_gaincal) == (words, gaincal)


@pytest.mark.parametrize("value", ["auto", "30s", "", 0.0, -1.0, float("nan"), True, None])
def test_what_is_no_interval_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="solution interval"):
        SolutionInterval.parse(value)
