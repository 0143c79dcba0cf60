"""Quality scores of targets and runs."""

from __future__ import annotations

import pytest

from libs.record.quality import QualityScore, lowest_score, score_target


@pytest.mark.parametrize(
    ("status", "attempted", "before", "after", "score"),
    [
        ("unchanged", False, 1.0, 1.0, 1.0),
        ("unchanged", True, 1.0, 1.0, 0.99),
        ("improved", True, 1.0, 0.5, 0.98),
        ("improved", True, 1.0, 1.0199, 0.98),
        ("improved", True, 1.0, 1.0201, 0.85),
        ("failed", True, 1.0, 1.0, 0.8),
    ],
)
def test_the_score_of_a_target(
    status: str, attempted: bool, before: float, after: float, score: float
) -> None:
    states = ({"rms_jy_beam": before}, {"rms_jy_beam": after})
    assert score_target(status, attempted, *states).score == score


def test_statistics_that_are_missing_are_no_doubt() -> None:
    assert score_target("improved", True, {}, {}).score == 0.98


def test_the_score_of_a_run_is_the_lowest() -> None:
    scores = [QualityScore(0.99, "a"), QualityScore(0.8, "b"), QualityScore(None, "c")]
    assert lowest_score(scores) == scores[1]
    assert lowest_score([]).score is None and lowest_score(scores[2:]).score is None
