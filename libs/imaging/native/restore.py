"""The restoring beam: fitted to the PSF, and laid over the model's components."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from libs.core.errors import ImageError

__all__ = ["Beam", "fit_beam", "main_lobe", "restored"]

_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_BOX_BEAMS = 10.0
_DRAWN_OUT = 1.25
"""Factor by which a fit is longer than the main lobe and narrower where sidelobes have drawn it."""


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
    on its own PSFs of nearly round beams its axes are up to 2 % off it. Sidelobes of sparse data
    can draw such a Gaussian along them, to twice the length of the main lobe; then the pixels of
    the main lobe above half of the peak are fitted alone.
    """
    lobe = main_lobe(psf)
    half = max(3, math.ceil(_BOX_BEAMS / 2 * max(lobe.major_pixel, lobe.minor_pixel)))
    cy, cx = psf.shape[0] // 2, psf.shape[1] // 2
    half = min(half, cy - 1, cx - 1)
    box = psf[cy - half : cy + half + 1, cx - half : cx + half + 1].astype(np.float64)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    found = _least_squares(x.ravel(), y.ravel(), box.ravel(), lobe)
    if found is not None and not _drawn_out(found, lobe):
        return found
    core = _lobe_pixels(box)
    narrow = _least_squares(x[core], y[core], box[core], lobe)
    if narrow is None:
        raise ImageError(
            "no Gaussian fits the PSF", "choose smaller pixels, or look at the uv coverage"
        )
    return narrow


def _drawn_out(beam: Beam, lobe: Beam) -> bool:
    """Whether a beam is longer and narrower than the main lobe at half power."""
    longer, narrower = beam.major_pixel / lobe.major_pixel, lobe.minor_pixel / beam.minor_pixel
    return min(longer, narrower) > _DRAWN_OUT


def _least_squares(
    x: NDArray[np.float64], y: NDArray[np.float64], values: NDArray[np.float64], start: Beam
) -> Beam | None:
    """Fit a Gaussian of peak 1 to pixels, (n,) each; None where the best is no ellipse."""

    def shape(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-np.minimum(p[0] * x * x + 2 * p[1] * x * y + p[2] * y * y, 700.0))

    def error(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(shape(p) - values)

    def slope(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([-term * shape(p) for term in (x * x, 2 * x * y, y * y)], axis=1)

    first = np.array(start.exponent())
    found = optimize.least_squares(error, first, jac=slope, x_scale=np.abs(first).max(), xtol=1e-10)
    return _from_exponent(*map(float, found.x))


def _lobe_pixels(psf: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which pixels above half of the peak hang together with it."""
    from scipy import ndimage

    labels, _ = ndimage.label(psf > 0.5)
    middle = labels[psf.shape[0] // 2, psf.shape[1] // 2]
    return np.asarray((labels == middle) & (middle > 0))


def main_lobe(psf: NDArray[np.floating]) -> Beam:
    """Return the beam whose half-power ellipse is the part of a PSF above half of its peak.

    Parameters
    ----------
    psf : (ny, nx) array
        Peak 1 at (ny // 2, nx // 2).

    Raises
    ------
    ImageError
        There is no peak.
    """
    cy, cx = psf.shape[0] // 2, psf.shape[1] // 2
    inside = _lobe_pixels(psf)
    if not inside.any():
        raise ImageError(
            "the PSF has no peak at its centre", "the data are all flagged: look at them"
        )
    y, x = np.nonzero(inside)
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


def _from_exponent(a: float, b: float, c: float) -> Beam | None:
    """Return the beam of exp(-(a x^2 + 2 b x y + c y^2)); None where that is no ellipse."""
    values, vectors = np.linalg.eigh(np.array([[a, b], [b, c]]))
    if not values[0] > 0:
        return None
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
