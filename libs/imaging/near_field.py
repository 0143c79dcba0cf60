"""How well the change of the noise near a source is known, between two images of the same data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.imaging.interface import open_image
from libs.imaging.statistics import grid_of, mad_std, near_field_ring

__all__ = ["near_field_error"]

# Draws of the bootstrap, and the pixels of a ring that are used at most.
_DRAWS = 100
_MOST_PIXELS = 20_000

# A cell of so many beam widths is about independent of those beside it.
_CELL_BEAMS = 2.0
_LEAST_CELLS = 4


def near_field_error(image: Path, residual: Path, other_residual: Path) -> float:
    """Return the error of the ratio of two images' noise near the source.

    The ring around the source holds some tens of beams, so that its robust noise wavers from
    image to image; but the two images share most of their noise, so that the ratio wavers less
    than either of them. Both are told by a bootstrap over cells of two beam widths, which both
    images are drawn from together (Efron & Tibshirani 1993, An Introduction to the Bootstrap, 8).

    Parameters
    ----------
    image, residual : Path
        FITS images; the ring is around the source of this one.
    other_residual : Path
        Of the other image, on the same grid.

    Returns
    -------
    float
        Standard error (1 sigma) of the ratio of the rms, as a fraction of it; infinite where the
        ring has fewer than four cells.

    Raises
    ------
    InputError
        A file cannot be read, or the grids differ.
    """
    plane, header = open_image(image)
    left, beside = open_image(residual)[0], open_image(other_residual)[0]
    if plane.shape != beside.shape or plane.shape != left.shape:
        raise InputError(
            f"{residual} and {other_residual} differ in shape", "make both with the same imsize"
        )
    good = np.isfinite(plane) & np.isfinite(left) & np.isfinite(beside)
    plane, left = np.where(good, plane, 0.0), np.where(good, left, 0.0)
    grid = grid_of(header)
    ring = near_field_ring(plane, left, good, grid)
    if ring is None:
        ring = good
    width = max(1, round(_CELL_BEAMS * grid.beam_width_pixels))
    y, x = np.nonzero(ring)
    step = -(-len(y) // _MOST_PIXELS)
    y, x = y[::step], x[::step]
    cell = np.unique(y // width * plane.shape[1] + x // width, return_inverse=True)[1]
    if cell.max(initial=-1) + 1 < _LEAST_CELLS:
        return math.inf
    return _bootstrapped(left[y, x], beside[y, x], cell)


def _bootstrapped(
    after: NDArray[np.floating], before: NDArray[np.floating], cell: NDArray[np.integer]
) -> float:
    """Return the scatter of the logarithm of the ratio of two robust noises."""
    order = np.argsort(cell, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(_DRAWS):
        drawn = rng.integers(len(members), size=len(members))
        pixels = np.concatenate([members[number] for number in drawn])
        noise, was = mad_std(after[pixels]), mad_std(before[pixels])
        if not (noise > 0 and was > 0):
            return math.inf
        ratios.append(math.log(noise / was))
    return float(np.std(ratios))
