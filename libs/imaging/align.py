"""Two images compared after taking out the shift between them.

A phase solve leaves the position of the whole field free, so images before and after it may
differ by a shift that says nothing about their quality.
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

__all__ = ["Comparison", "compare", "measure_shift", "shift_plane"]

Plane = NDArray[np.floating]

_REFINEMENTS = 10
_SEARCH_PIXELS = 256
_CONVERGED_PIXEL = 1e-4


@dataclass(frozen=True)
class Comparison:
    """How an image differs from a reference once aligned with it.

    Attributes
    ----------
    shift_x_pixel, shift_y_pixel : float
        Where the image lies relative to the reference: positive x is to the right.
    shift_arcsec : float
        Length of that.
    rms_difference_jy_beam : float
        rms of image minus reference after alignment.
    rms_difference_over_peak : float
        The same over the peak of the reference.
    flux_ratio : float
        Flux of the image over the reference's where the reference exceeds 10 % of its peak,
        each in its own beams.
    peak_ratio : float
        Peak over peak.
    correlation : float
        Pearson's, after alignment.
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

    Exact for images sampled as imagers do; what leaves at one edge is dropped.
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
    """Return how far an image lies from a reference, by correlation around its peak.

    Shifts of up to 256 pixels are found.

    Parameters
    ----------
    reference, plane : (ny, nx) array
        Images on one grid; NaN counts as 0.
    box_pixels : int, optional
        Width of the box around the reference's peak on which the two are matched; default a
        quarter of the image, from 32 to 256.

    Returns
    -------
    x_pixel, y_pixel : float
        ``plane`` is ``reference`` moved right and up by these; good to some 0.01 pixel
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
            "image both alike",
        )
    reference, plane = np.nan_to_num(reference), np.nan_to_num(plane)
    half = (box_pixels or int(np.clip(min(plane.shape) // 4, 32, 256))) // 2
    y, x = np.unravel_index(int(reference.argmax()), reference.shape)
    centre = (int(y), int(x))
    # The search looks at the same, wider part of both, so that a double source whose brighter
    # pixel changes sides is not taken to have moved.
    reach = min(_SEARCH_PIXELS, max(plane.shape))
    search = [_window(item, centre, reach) for item in (reference, plane)]
    return _refine(reference, plane, centre, half, _correlation_peak(*search))


def _refine(
    reference: Plane, plane: Plane, centre: tuple[int, int], half: int, start: tuple[float, float]
) -> tuple[float, float]:
    """Improve a shift by least squares on a (image moved back) = reference."""
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
    """Align an image with a reference and tell how they differ.

    Parameters
    ----------
    reference, image : Path
        Restored FITS images on one grid.
    box_pixels : int, optional
        As in :func:`measure_shift`.

    Returns
    -------
    Comparison
        All numbers finite.

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
    # What came in from beyond the edge is no image.
    edge = math.ceil(max(abs(x), abs(y)))
    inner = slice(edge, -edge or None)
    a, b = first[inner, inner], moved[inner, inner]
    if not a.size or not b.any():
        raise InputError(
            f"{image.name} lies {x:.0f}, {y:.0f} pixels from {reference.name}", "image both alike"
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
