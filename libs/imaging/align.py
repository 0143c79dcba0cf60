"""Comparison of two images after removal of the shift between them.

A phase solve leaves the position of the whole field free, so images before and after it may
differ by a shift that does not affect their quality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.imaging.interface import open_image
from libs.imaging.statistics import grid_of

__all__ = ["LEAST_CORRELATION", "Comparison", "compare", "measure_shift", "shift_plane"]

Plane = NDArray[np.floating]

# Below this less than half of the variance of one image is in the other: the correlation has found
# artefacts or noise, and its maximum says nothing of the source's position.
LEAST_CORRELATION = math.sqrt(0.5)
_REFINEMENTS = 10
_SEARCH_PIXELS = 256
_CONVERGED_PIXEL = 1e-4


@dataclass(frozen=True)
class Comparison:
    """Difference between an image and a reference after alignment.

    Attributes
    ----------
    shift_x_pixel, shift_y_pixel : float
        Position of the image relative to the reference; positive x is to the right.
    shift_arcsec : float
        Length of the shift.
    rms_difference_jy_beam : float
        rms of image minus reference after alignment.
    rms_difference_over_peak : float
        Rms difference over the peak of the reference.
    flux_ratio : float
        Flux of the image over that of the reference, where the reference exceeds 10 % of its
        peak, each with its own beam.
    peak_ratio : float
        Peak of the image over the peak of the reference.
    correlation : float
        Pearson correlation after alignment.
    """

    shift_x_pixel: float
    shift_y_pixel: float
    shift_arcsec: float
    rms_difference_jy_beam: float
    rms_difference_over_peak: float
    flux_ratio: float
    peak_ratio: float
    correlation: float


def _window(plane: Plane, centre: tuple[int, int], half: int) -> NDArray[np.float64]:
    """Cut a box around a pixel, zero beyond the image."""
    y, x = centre
    box = np.zeros((2 * half, 2 * half))
    top, left = max(0, y - half), max(0, x - half)
    part = plane[top : max(0, y + half), left : max(0, x + half)]
    oy, ox = top - (y - half), left - (x - half)
    box[oy : oy + part.shape[0], ox : ox + part.shape[1]] = part
    return box


def _vertex(before: float, at: float, after: float) -> float:
    """Return the offset of the maximum of a parabola through three equally spaced values."""
    curvature = before - 2 * at + after
    return 0.0 if curvature >= 0 else 0.5 * (before - after) / curvature


def _correlation_peak(reference: Plane, plane: Plane) -> tuple[float, float]:
    """Return the (x, y) shift at which two boxes correlate best, by FFT and parabola."""
    from scipy import fft

    shape = [fft.next_fast_len(2 * length) for length in reference.shape]
    product = np.conj(fft.rfft2(reference, shape)) * fft.rfft2(plane, shape)
    correlation = fft.irfft2(product, shape)
    y, x = np.unravel_index(int(correlation.argmax()), correlation.shape)

    def axis(index: int, length: int, take: Plane) -> float:
        shift = index if index < length // 2 else index - length
        return shift + _vertex(take[index - 1], take[index], take[(index + 1) % length])

    return (
        axis(int(x), shape[1], correlation[y]),
        axis(int(y), shape[0], correlation[:, x]),
    )


def shift_plane(plane: Plane, x_pixel: float, y_pixel: float) -> NDArray[np.float64]:
    """Return the image moved right and up by fractions of a pixel (Fourier shift).

    It is exact for properly sampled images; parts that leave at one edge are dropped.
    """
    from scipy import fft, ndimage

    whole = (round(y_pixel), round(x_pixel))
    moved = np.asarray(ndimage.shift(plane, whole, order=0, mode="constant"), dtype=np.float64)
    rest = (y_pixel - whole[0], x_pixel - whole[1])
    if rest == (0.0, 0.0):
        return moved
    return np.asarray(fft.ifft2(ndimage.fourier_shift(fft.fft2(moved), rest)).real)


def measure_shift(
    reference: Plane, plane: Plane, *, box_pixels: int | None = None
) -> tuple[float, float]:
    """Return the position of an image relative to a reference, by correlation around its peak.

    Shifts of up to 256 pixels are found.

    Parameters
    ----------
    reference, plane : (ny, nx) array
        Images on one grid; NaN counts as 0.
    box_pixels : int, optional
        Width of the box around the reference's peak in which the two are matched; default a
        quarter of the image, from 32 to 256.

    Returns
    -------
    x_pixel, y_pixel : float
        Shift right and up that turns ``reference`` into ``plane``; accurate to about 0.01 pixel
        for sources well above the noise.

    Raises
    ------
    InputError
        The shapes differ.

    Notes
    -----
    The maximum of the cross-correlation is refined by Gauss-Newton steps on the difference of
    the two images, which removes the parabola's bias.
    """
    if reference.shape != plane.shape:
        raise InputError(
            f"images of {reference.shape} and {plane.shape} pixels cannot be aligned",
            "make both images with the same imsize and cell",
        )
    reference, plane = np.nan_to_num(reference), np.nan_to_num(plane)
    half = (box_pixels or int(np.clip(min(plane.shape) // 4, 32, 256))) // 2
    y, x = np.unravel_index(int(reference.argmax()), reference.shape)
    centre = (int(y), int(x))
    # The search uses the same, wider part of both. Otherwise a double source whose brighter pixel
    # changes sides would seem to have moved.
    reach = min(_SEARCH_PIXELS, max(plane.shape))
    search = [_window(item, centre, reach) for item in (reference, plane)]
    return _refine(reference, plane, centre, half, _correlation_peak(*search))


def _refine(
    reference: Plane, plane: Plane, centre: tuple[int, int], half: int, start: tuple[float, float]
) -> tuple[float, float]:
    """Improve a shift by least squares between the shifted-back image and the reference."""
    x, y = start
    taper = np.hanning(2 * half + 2)[1:-1]
    weight = taper[:, None] * taper[None, :]
    first = (_window(reference, centre, half) * weight).ravel()
    for _ in range(_REFINEMENTS):
        place = (centre[0] + round(y), centre[1] + round(x))
        moved = shift_plane(_window(plane, place, half), round(x) - x, round(y) - y)
        slope_y, slope_x = np.gradient(moved)
        columns = [(item * weight).ravel() for item in (moved, slope_x, slope_y)]
        scale, step_x, step_y = np.linalg.lstsq(np.stack(columns, 1), first, rcond=None)[0]
        if scale <= 0:
            break
        # first = s moved(x + dx) = s moved + s dx slope: the image lies dx too far right.
        dx, dy = step_x / scale, step_y / scale
        if math.hypot(dx, dy) > 1:
            break
        x, y = x + dx, y + dy
        if math.hypot(dx, dy) < _CONVERGED_PIXEL:
            break
    return float(x), float(y)


def compare(reference: Path, image: Path, *, box_pixels: int | None = None) -> Comparison:
    """Align an image with a reference and return how they differ.

    Parameters
    ----------
    reference, image : Path
        Restored FITS images on one grid.
    box_pixels : int, optional
        As in :func:`measure_shift`.

    Returns
    -------
    Comparison
        Comparison with finite numbers only.

    Raises
    ------
    InputError
        A file cannot be read, the shapes differ or the reference has no positive pixel.
    """
    first, first_header = open_image(reference)
    second, header = open_image(image)
    x, y = measure_shift(first, second, box_pixels=box_pixels)
    first, second = np.nan_to_num(first).astype(float), np.nan_to_num(second).astype(float)
    peak = float(first.max())
    if peak <= 0:
        raise InputError(f"{reference.name} has no positive pixel", "compare with another image")
    moved = shift_plane(second, -x, -y)
    # Pixels that came in from beyond the edge are not part of the image.
    edge = math.ceil(max(abs(x), abs(y)))
    inner = slice(edge, -edge or None)
    a, b = first[inner, inner], moved[inner, inner]
    if not a.size or not b.any():
        raise InputError(
            f"{image.name} lies {x:.0f}, {y:.0f} pixels from {reference.name}",
            "make both images with the same phase centre",
        )
    grid, second_grid = grid_of(first_header), grid_of(header)
    bright = a > 0.1 * peak
    rms = math.sqrt(float(((b - a) ** 2).mean()))
    beams = grid.beam_area_pixels / second_grid.beam_area_pixels
    return Comparison(
        shift_x_pixel=x,
        shift_y_pixel=y,
        shift_arcsec=math.hypot(x, y) * grid.cell_arcsec,
        rms_difference_jy_beam=rms,
        rms_difference_over_peak=rms / peak,
        flux_ratio=float(b[bright].sum() / a[bright].sum()) * beams if bright.any() else 0.0,
        peak_ratio=float(second.max()) / peak,
        correlation=float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
    )
