"""Antennas of an interferometer, from which measurement sets are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

__all__ = ["AntennaArray"]


@dataclass(frozen=True)
class AntennaArray:
    """The antennas of an interferometer.

    Attributes
    ----------
    telescope : str
        Name of the observatory as CASA knows it, e.g. ``"VLA"``.
    name : tuple of str, length nant
        Antenna names, all different, none a bare number (CASA would take it for an id).
    station : tuple of str, length nant
        Names of the pads; the antenna's own where the source gives one name only.
    position_m : (nant, 3) float64
        Positions, ITRF, m.
    diameter_m : (nant,) float64
        Dish (or effective station) diameters, m.
    """

    telescope: str
    name: tuple[str, ...]
    station: tuple[str, ...]
    position_m: NDArray[np.float64]
    diameter_m: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.name)
        if len(set(self.name)) != count:
            raise ValueError("antenna names must all be different")
        if self.position_m.shape != (count, 3) or self.diameter_m.shape != (count,):
            raise ValueError("positions or diameters do not match the names")
        if len(self.station) != count:
            raise ValueError("stations do not match the names")

    def __len__(self) -> int:
        return len(self.name)

    @property
    def longest_baseline_m(self) -> float:
        """Longest distance between two antennas, m; 0 for fewer than two."""
        separation = self.position_m[:, None] - self.position_m[None, :]
        return float(np.sqrt((separation**2).sum(axis=-1)).max(initial=0.0))

    def take(self, index: Sequence[int] | NDArray[np.int64]) -> AntennaArray:
        """Return the array of some antennas, by index, in that order."""
        chosen = [int(i) for i in index]
        return AntennaArray(
            self.telescope,
            tuple(self.name[i] for i in chosen),
            tuple(self.station[i] for i in chosen),
            self.position_m[chosen],
            self.diameter_m[chosen],
        )

    def without(self, patterns: Iterable[str]) -> AntennaArray:
        """Return the array without antennas whose name matches a shell pattern (``"CS*"``)."""
        unwanted = tuple(patterns)
        return self.take(
            [
                i
                for i, name in enumerate(self.name)
                if not any(fnmatchcase(name, pattern) for pattern in unwanted)
            ]
        )

    def thinned(self, count: int) -> AntennaArray:
        """Return at most ``count`` antennas that keep the array's extent and spread.

        Antennas are ranked by distance from the array's centre and taken at even steps of
        rank, innermost and outermost included; their order is kept.
        """
        if count >= len(self):
            return self
        if count < 2:
            raise ValueError("an array needs two antennas")
        offset = self.position_m - np.median(self.position_m, axis=0)
        rank = np.argsort(np.sqrt((offset**2).sum(axis=1)), kind="stable")
        steps = np.round(np.linspace(0, len(self) - 1, count)).astype(int)
        return self.take(np.sort(rank[steps]))
