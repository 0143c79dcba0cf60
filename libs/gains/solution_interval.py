"""The solution interval: a length of time, one integration, or one scan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import total_ordering

__all__ = ["PER_INTEGRATION", "PER_SCAN", "SolutionInterval"]

# Words of options, files and gaincal; earlier records hold "scan" where "inf" is meant.
_INTEGRATION, _SCAN = "int", ("inf", "scan")


@total_ordering
@dataclass(frozen=True)
class SolutionInterval:
    """The time for which one solution is made.

    Intervals are ordered by length: an integration is the shortest, a scan the longest. Whether
    several scans share a solution is said elsewhere (``combine``).

    Attributes
    ----------
    seconds : float
        Length, s; 0 for one solution per integration, infinite for one per scan. The constants
        `PER_INTEGRATION` and `PER_SCAN` are these two.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise ValueError(f"a solution interval of {self.seconds} s")

    @classmethod
    def parse(cls, value: object) -> SolutionInterval:
        """Return the interval that an option or a record holds.

        Parameters
        ----------
        value : SolutionInterval, float or str
            Seconds above 0, ``int`` or ``inf``.

        Raises
        ------
        ValueError
            It is none of these.
        """
        if isinstance(value, SolutionInterval):
            return value
        if value == _INTEGRATION:
            return PER_INTEGRATION
        if value in _SCAN:
            return PER_SCAN
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return cls(float(value))
        raise ValueError(f"{value!r} is no solution interval: seconds, 'int' or 'inf'")

    @property
    def per_integration(self) -> bool:
        """Whether each integration has a solution of its own."""
        return self.seconds == 0

    @property
    def per_scan(self) -> bool:
        """Whether each scan has one solution."""
        return math.isinf(self.seconds)

    @property
    def recorded(self) -> float | str:
        """The value as options and records hold it: seconds, ``int`` or ``inf``."""
        if self.per_integration:
            return _INTEGRATION
        return _SCAN[0] if self.per_scan else self.seconds

    @property
    def for_gaincal(self) -> str:
        """The value of gaincal's parameter ``solint``."""
        recorded = self.recorded
        return recorded if isinstance(recorded, str) else f"{recorded:.6g}s"

    def __str__(self) -> str:
        if self.per_integration:
            return "one per integration"
        return "one per scan" if self.per_scan else f"{float(f'{self.seconds:.3g}'):g} s"

    def __lt__(self, other: SolutionInterval) -> bool:
        return self.seconds < other.seconds


PER_INTEGRATION = SolutionInterval(0.0)
PER_SCAN = SolutionInterval(math.inf)
