"""The solution intervals that are tried, from one integration to a scan."""

from __future__ import annotations

import numpy as np

from libs.gains.normal_equations import NormalEquations
from libs.gains.solution_interval import PER_SCAN, SolutionInterval

__all__ = ["interval_ladder", "own_ladder"]


def interval_ladder(
    integration_s: float, longest_scan_s: float, *, factor: float = 2.0
) -> list[SolutionInterval]:
    """Return solution intervals from one integration to a scan, each ``factor`` times longer.

    They are whole numbers of integrations, in seconds; one per scan is the last.
    """
    if integration_s <= 0:
        return [PER_SCAN]
    ladder, count = [], 1.0
    while count * integration_s < 0.75 * longest_scan_s:
        ladder.append(SolutionInterval(round(count) * integration_s))
        count *= factor
    return [*ladder, PER_SCAN]


def own_ladder(equations: NormalEquations) -> list[SolutionInterval]:
    """Return the ladder of intervals of normal equations: to the length of their longest scan."""
    lengths = [
        float(np.ptp(equations.time_s[equations.scan == scan]))
        + float(np.median(equations.interval_s[equations.scan == scan]))
        for scan in np.unique(equations.scan)
    ]
    return interval_ladder(float(np.median(equations.interval_s)), max(lengths))
