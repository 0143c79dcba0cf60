"""Images of the local noise: robust rms in boxes, interpolated between them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["rms_map"]

_MAD_TO_SIGMA = 1.4826
_CLIP_SIGMA = 3.0
_MOST_CLIPS = 10
_LEAST_PIXELS = 9


def rms_map(image: NDArray[np.floating], box_pixels: int, step_pixels: int) -> NDArray[np.float32]:
    """Return the local rms of an image.

    Parameters
    ----------
    image : (ny, nx) array
        Jy/beam; NaN where blank.
    box_pixels : int
        Side of the boxes in which the rms is taken.
    step_pixels : int
        Distance of the middles of neighbouring boxes.

    Returns
    -------
    (ny, nx) float32
        1.4826 times the median absolute deviation from the median, after values beyond 3 of it
        were left out until none is; cubic between boxes. NaN where the image is blank.
    """
    from scipy.ndimage import map_coordinates

    ny, nx = image.shape
    rows, columns = (_middles(size, step_pixels) for size in (ny, nx))
    half = max(1, box_pixels // 2)
    grid = np.full((len(rows), len(columns)), np.nan)
    for i, row in enumerate(rows):
        strip = image[max(0, row - half) : row + half + 1]
        for k, column in enumerate(columns):
            grid[i, k] = clipped_rms(strip[:, max(0, column - half) : column + half + 1])
    if not np.isfinite(grid).any():
        return np.full(image.shape, np.nan, np.float32)
    grid = _without_gaps(grid)
    y = (np.arange(ny) - rows[0]) / step_pixels
    x = (np.arange(nx) - columns[0]) / step_pixels
    places = np.meshgrid(y, x, indexing="ij")
    order = 3 if min(grid.shape) > 3 else 1
    found = map_coordinates(grid, places, order=order, mode="nearest")
    # a cubic may swing below what any box has
    found = np.clip(found, grid.min(), grid.max())
    return np.where(np.isfinite(image), found, np.nan).astype(np.float32)


def clipped_rms(values: NDArray[np.floating]) -> float:
    """Return the robust rms of finite values without outliers; NaN where there are too few."""
    kept = values[np.isfinite(values)].astype(np.float64)
    for _ in range(_MOST_CLIPS):
        if kept.size < _LEAST_PIXELS:
            return math.nan
        middle = np.median(kept)
        apart = np.abs(kept - middle)
        sigma = _MAD_TO_SIGMA * float(np.median(apart))
        inside = apart <= _CLIP_SIGMA * sigma
        if inside.all() or sigma == 0.0:
            return sigma
        kept = kept[inside]
    return sigma


def _middles(size: int, step: int) -> NDArray[np.int64]:
    """Return the middles of boxes along an axis, the outer ones near its ends."""
    count = max(1, math.ceil(size / step))
    first = (size - (count - 1) * step) // 2
    return first + step * np.arange(count)


def _without_gaps(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill boxes that are blank with the nearest that is not."""
    from scipy.ndimage import distance_transform_edt

    blank = ~np.isfinite(grid)
    if not blank.any():
        return grid
    nearest = distance_transform_edt(blank, return_distances=False, return_indices=True)
    return np.asarray(grid[tuple(nearest)])
