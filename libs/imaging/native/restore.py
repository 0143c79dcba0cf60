"""The restoring beam: fitted to the PSF, and laid over the model's components."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from libs.core.errors import ImageError

__all__ = ["Beam", "fit_beam", "restored"]

_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_BOX_BEAMS = 10.0


@dataclass(frozen=True)
class Beam:
    """An elliptical Gaussian.

    Attributes
    ----------
    major_pixel, minor_pixel : float
        FWHM.
    pa_deg : float
        Of the major axis, north through east, 0 to 180.
    """

    major_pixel: float
    minor_pixel: float
    pa_deg: float

    def exponent(self) -> tuple[float, float, float]:
        """Return a, b, c of exp(-(a x^2 + 2 b x y + c y^2)), columns x to the west."""
        angle = math.radians(self.pa_deg)
        # the major axis points to (-sin, cos): north is up, east is toward lower columns
        along = (-math.sin(angle), math.cos(angle))
        one = 0.5 * (_FWHM_PER_SIGMA / self.major_pixel) ** 2
        two = 0.5 * (_FWHM_PER_SIGMA / self.minor_pixel) ** 2
        a = one * along[0] ** 2 + two * along[1] ** 2
        b = (one - two) * along[0] * along[1]
        c = one * along[1] ** 2 + two * along[0] ** 2
        return a, b, c


def fit_beam(psf: NDArray[np.floating]) -> Beam:
    """Fit an elliptical Gaussian to the main lobe of a PSF.

    Parameters
    ----------
    psf : (ny, nx) array
        Peak 1 at (ny // 2, nx // 2).

    Raises
    ------
    ImageError
        The PSF is not of the shape of a Gaussian, or narrower than a pixel.

    Notes
    -----
    Least squares over a box ten times as wide as the main lobe, in which the sidelobes weigh
    as they are: what WSClean minimises as well. WSClean 3.1 stops a little before the minimum:
    on its own PSFs of nearly round beams its axes are up to 2 % off it.
    """
    first = _moments(psf)
    half = max(3, math.ceil(_BOX_BEAMS / 2 * max(first.major_pixel, first.minor_pixel)))
    cy, cx = psf.shape[0] // 2, psf.shape[1] // 2
    half = min(half, cy - 1, cx - 1)
    box = psf[cy - half : cy + half + 1, cx - half : cx + half + 1].astype(np.float64)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)

    def error(p: NDArray[np.float64]) -> NDArray[np.float64]:
        shape = np.exp(-np.minimum(p[0] * x * x + 2 * p[1] * x * y + p[2] * y * y, 700.0))
        return np.asarray((shape - box).ravel())

    def slope(p: NDArray[np.float64]) -> NDArray[np.float64]:
        shape = np.exp(-np.minimum(p[0] * x * x + 2 * p[1] * x * y + p[2] * y * y, 700.0))
        return np.stack([-(term * shape).ravel() for term in (x * x, 2 * x * y, y * y)], axis=1)

    start = np.array(first.exponent())
    found = optimize.least_squares(error, start, jac=slope, x_scale=np.abs(start).max(), xtol=1e-10)
    return _from_exponent(*map(float, found.x))


def _moments(psf: NDArray[np.floating]) -> Beam:
    """Estimate a beam from the pixels of the main lobe above one half of the peak."""
    from scipy import ndimage

    labels, _ = ndimage.label(psf > 0.5)
    cy, cx = psf.shape[0] // 2, psf.shape[1] // 2
    if not labels[cy, cx]:
        raise ImageError(
            "the PSF has no peak at its centre", "the data are all flagged: look at them"
        )
    y, x = np.nonzero(labels == labels[cy, cx])
    # uniform ellipse: variance is (axis / 4)^2 of its full axes; a pixel has 1/12 of its own
    moments = np.array(
        [
            [np.mean((x - cx) ** 2) + 1 / 12, np.mean((x - cx) * (y - cy))],
            [np.mean((x - cx) * (y - cy)), np.mean((y - cy) ** 2) + 1 / 12],
        ]
    )
    values, vectors = np.linalg.eigh(moments)
    pa = math.degrees(math.atan2(-vectors[0, 1], vectors[1, 1])) % 180.0
    return Beam(4 * math.sqrt(values[1]), 4 * math.sqrt(values[0]), pa)


def _from_exponent(a: float, b: float, c: float) -> Beam:
    """Return the beam of exp(-(a x^2 + 2 b x y + c y^2))."""
    values, vectors = np.linalg.eigh(np.array([[a, b], [b, c]]))
    if not values[0] > 0:
        raise ImageError(
            "no Gaussian fits the PSF", "choose smaller pixels, or look at the uv coverage"
        )
    major, minor = (_FWHM_PER_SIGMA / math.sqrt(2.0 * value) for value in values)
    pa = math.degrees(math.atan2(-vectors[0, 0], vectors[1, 0])) % 180.0
    return Beam(major, minor, pa)


def restored(
    model: NDArray[np.floating], residual: NDArray[np.floating], beam: Beam, threads: int = 1
) -> NDArray[np.float32]:
    """Return the model convolved with the beam, plus the residual, Jy/beam, (ny, nx)."""
    from ducc0.fft import c2r, good_size, r2c

    image = np.array(residual, np.float32)
    y, x = (np.flatnonzero(model.any(axis=axis)) for axis in (1, 0))
    if not len(y):
        return image
    part = model[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    # room for the beam on both sides, so that what is at one edge does not show at the other
    margin = math.ceil(3 * beam.major_pixel)
    grid = tuple(good_size(n + 2 * margin, True) for n in part.shape)
    down = np.fft.fftfreq(grid[0], 1 / grid[0])[:, None]
    along = np.fft.fftfreq(grid[1], 1 / grid[1])[None, :]
    a, b, c = beam.exponent()
    shape = np.exp(-np.minimum(a * along * along + 2 * b * along * down + c * down * down, 700.0))
    padded = np.zeros(grid)
    padded[margin : margin + part.shape[0], margin : margin + part.shape[1]] = part
    hat = r2c(padded, axes=(0, 1), nthreads=threads) * r2c(shape, axes=(0, 1), nthreads=threads)
    smooth = c2r(hat, axes=(0, 1), lastsize=grid[1], forward=False, inorm=2, nthreads=threads)
    # where the grid lies in the image, and what of it is inside
    first = y[0] - margin, x[0] - margin
    low = [max(0, -f) for f in first]
    high = [min(g, n - f) for g, n, f in zip(grid, image.shape, first, strict=True)]
    image[first[0] + low[0] : first[0] + high[0], first[1] + low[1] : first[1] + high[1]] += smooth[
        low[0] : high[0], low[1] : high[1]
    ]
    return image
