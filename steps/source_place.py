"""The place of a source in data whose image does not tell: by its fringes, or the phase centre."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities
from libs.closure.fringe_place import place_by_fringes
from steps.context import Context
from steps.facts import grid_facts

__all__ = ["SURE_SNR", "SourcePlace", "place_before_calibration", "place_within"]

# Artefacts of wild phases reach an SNR of 6 to 10: above this the brightest pixel is a source.
SURE_SNR = 20.0


@dataclass(frozen=True)
class SourcePlace:
    """Where a source lies.

    Attributes
    ----------
    offset_rad : (float, float)
        Direction cosines (l, m); (0, 0) where nothing tells.
    said : str
        How fringes gave it; empty where they did not.
    """

    offset_rad: tuple[float, float]
    said: str

    @property
    def name(self) -> str:
        """The place in words."""
        return "the place that its fringes give" if self.said else "the phase centre"


def place_before_calibration(context: Context, data: BaselineVisibilities) -> SourcePlace:
    """Return where the fringes of uncalibrated data place a compact source within the image.

    Parameters
    ----------
    context : Context
    data : BaselineVisibilities
        Not averaged in time.
    """
    grid = grid_facts(context)
    assert grid.imsize and grid.cell_arcsec, "test_image chooses a grid"
    return place_within(context, data, 0.5 * min(grid.imsize) * grid.cell_arcsec)


def place_within(
    context: Context, data: BaselineVisibilities, half_width_arcsec: float
) -> SourcePlace:
    """Return where fringes place a compact source within so far of the phase centre."""
    with context.clock.time("solving"):
        found = place_by_fringes(data, _point, math.radians(half_width_arcsec / 3600))
    if found is None or not found.significant:
        return SourcePlace((0.0, 0.0), "")
    l_arcsec, m_arcsec = (math.degrees(each) * 3600 for each in found.offset_rad)
    said = (
        f"fringes over {found.interval_s:.3g} s place it {l_arcsec:+.3g}, {m_arcsec:+.3g} arcsec"
        f" from the phase centre ({found.sigma:.1f} sigma; {found.needed:.1f} needed)"
    )
    return SourcePlace(found.offset_rad, said)


def _point(uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
    """A point of 1 Jy at the origin."""
    return np.ones((len(uvw_m), len(frequency_hz)), np.complex128)
