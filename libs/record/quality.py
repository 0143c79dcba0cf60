"""Quality scores of self-calibration, as observatories' pipelines give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["QualityScore", "lowest_score", "score_target"]

LARGEST_RMS_RISE = 0.02
"""Rise of the noise above which an applied solution is doubtful."""


@dataclass(frozen=True)
class QualityScore:
    """A score from 0 to 1, None where there was nothing to score, and its reason."""

    score: float | None
    reason: str


def score_target(
    status: str, attempted: bool, initial: Mapping[str, Any], final: Mapping[str, Any]
) -> QualityScore:
    """Return the score of one target.

    Parameters
    ----------
    status : str
        ``improved``, ``unchanged`` or ``failed``.
    attempted : bool
        Whether any round was solved.
    initial, final : mapping
        Statistics of the first and the last image, with ``rms_jy_beam``.
    """
    if status == "failed":
        return QualityScore(0.8, "self-calibration failed")
    if status == "unchanged":
        if attempted:
            return QualityScore(0.99, "solutions were tried and none was kept")
        return QualityScore(1.0, "self-calibration was not attempted")
    before, after = initial.get("rms_jy_beam"), final.get("rms_jy_beam")
    if before and after and after > (1 + LARGEST_RMS_RISE) * before:
        return QualityScore(
            0.85, f"solutions were kept, and the noise rose by {after / before - 1:.1%}"
        )
    return QualityScore(0.98, "solutions were kept")


def lowest_score(scores: Sequence[QualityScore]) -> QualityScore:
    """Return the lowest score of several targets; None where there are none."""
    known = [each for each in scores if each.score is not None]
    if not known:
        return QualityScore(None, "there was no target")
    return min(known, key=lambda each: each.score or 0.0)
