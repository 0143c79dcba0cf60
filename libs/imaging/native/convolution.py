"""Convolutions of images with PSFs and with the shapes of CLEAN's scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Convolver"]

# A scale of s pixels is a Gaussian of this standard deviation over s, about as wide as the
# tapered paraboloid of s pixels that is usual (Cornwell 2008, IEEE JSTSP 2, 793).
_SIGMA_OF_SCALE = 3.0 / 16.0

# A scale reaches so many of its standard deviations: 1e-8 of its peak.
_ROOM_SIGMAS = 6.0

# What is left of this many standard deviations of a scale beyond the image's edge is of no account.
_EDGE_SIGMAS = 3.0

# Pixels of a component below this fraction of its peak are rounding errors of the transform.
_NOTHING = 1e-6

# PSFs reach this far, pixels, in the minor cycle; what lies beyond is taken off between cycles.
_MOST_LAG = 512


class Convolver:
    """PSFs and scales, and convolutions with them on a grid twice as large as the image.

    Parameters
    ----------
    psf : (2 nterms - 1, height, width) float32
        PSFs of the Taylor terms, the peak at (height // 2, width // 2); twice as high and wide
        as the image where anything is convolved: by `with_psf`, or with scales that are no points.
    scales_pixel : sequence of float
        Sizes of components; 0 is a point.
    threads : int
    shape : (int, int), optional
        Height and width of the image; default: half of the PSFs'.
    """

    def __init__(
        self,
        psf: NDArray[np.float32],
        scales_pixel: Sequence[float],
        threads: int = 1,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.threads = threads
        self.shape = shape or (psf.shape[1] // 2, psf.shape[2] // 2)
        self.nterms = (psf.shape[0] + 1) // 2
        self.scales = tuple(scales_pixel)
        self._grid = psf.shape[1:]
        self._psf = psf
        self.pair, self.lag_psf = self._pairs(psf)

    @cached_property
    def _psf_hat(self) -> list[NDArray[np.complex64]]:
        # made when first asked for: where residuals come from the visibilities it is not needed
        return [self._forward(np.fft.ifftshift(plane), self._grid) for plane in self._psf]

    @cached_property
    def _smooth_grid(self) -> tuple[int, int]:
        """The grid of convolutions with scales: the image and room for the largest scale."""
        from ducc0.fft import good_size

        room = math.ceil(_ROOM_SIGMAS * _SIGMA_OF_SCALE * max(self.scales))
        height, width = (int(good_size(pixels + room, True)) for pixels in self.shape)
        return height, width

    @property
    def borders(self) -> tuple[int, ...]:
        """Widths, pixels, along the image's edge in which no component of each scale may lie.

        The residual beyond the edge is not known. Convolved with a scale as if it were zero there,
        it does not fit what a component's PSF has it, and CLEAN would diverge.
        """
        return tuple(math.ceil(_EDGE_SIGMAS * _SIGMA_OF_SCALE * scale) for scale in self.scales)

    def _scale_hat(self, scale: float, grid: Sequence[int]) -> NDArray[np.float32]:
        """Transform of a scale's shape."""
        v, u = np.fft.fftfreq(grid[0]), np.fft.rfftfreq(grid[1])
        rate = -2.0 * (math.pi * _SIGMA_OF_SCALE * scale) ** 2
        return np.outer(np.exp(rate * v**2), np.exp(rate * u**2)).astype(np.float32)

    @cached_property
    def _smooth_hat(self) -> list[NDArray[np.float32]]:
        return [self._scale_hat(scale, self._smooth_grid) for scale in self.scales]

    def _forward(self, plane: NDArray[np.floating], grid: Sequence[int]) -> NDArray[np.complex64]:
        from ducc0.fft import r2c

        padded = plane
        if plane.shape != tuple(grid):
            padded = np.zeros(tuple(grid), np.float32)
            padded[: plane.shape[0], : plane.shape[1]] = plane
        padded = np.ascontiguousarray(padded, dtype=np.float32)
        return np.asarray(r2c(padded, axes=(0, 1), nthreads=self.threads))

    def _back(self, hat: NDArray[np.complex64], width: int) -> NDArray[np.float32]:
        from ducc0.fft import c2r

        plane: Any = c2r(
            hat, axes=(0, 1), lastsize=width, forward=False, inorm=2, nthreads=self.threads
        )
        return np.asarray(plane)

    def _pairs(self, psf: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """PSFs convolved with each two scales, as far as the minor cycle looks."""
        count = len(self.scales)
        pair = np.zeros((count, count), np.int64)
        half = [min(size // 2, _MOST_LAG) for size in self._grid]
        middle = [size // 2 for size in self._grid]
        near = tuple(slice(m - h, m + h) for m, h in zip(middle, half, strict=True))
        planes = np.empty(
            (count * (count + 1) // 2, len(psf), 2 * half[0], 2 * half[1]), np.float32
        )
        number = 0
        for first in range(count):
            for second in range(first, count):
                pair[first, second] = pair[second, first] = number
                if self.scales[first] == self.scales[second] == 0:
                    planes[number] = psf[:, near[0], near[1]]
                else:
                    size = math.hypot(self.scales[first], self.scales[second])
                    both = self._scale_hat(size, self._grid)
                    for term, hat in enumerate(self._psf_hat):
                        plane = self._back(hat * both, self._grid[1])
                        planes[number, term] = np.fft.fftshift(plane)[near]
                number += 1
        return pair, planes

    @property
    def far_sidelobe(self) -> float:
        """Largest |PSF| beyond what the minor cycle looks at; 0 where it sees all."""
        if all(size // 2 <= _MOST_LAG for size in self._grid):
            return 0.0
        plane = np.abs(self._psf[0])
        middle = [size // 2 for size in self._grid]
        plane[tuple(slice(max(0, m - _MOST_LAG), m + _MOST_LAG) for m in middle)] = 0.0
        return float(plane.max())

    def hessian(self) -> NDArray[np.float64]:
        """Return response at its own place of each scale, (nscale, nterms, nterms)."""
        height, width = self.lag_psf.shape[2:]
        own = self.lag_psf[np.diag(self.pair), :, height // 2, width // 2].astype(np.float64)
        terms = np.arange(self.nterms)
        return own[:, terms[:, None] + terms[None, :]]

    def with_psf(self, model: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the image that a model of Taylor terms gives, (nterms, ny, nx).

        Parameters
        ----------
        model : (nterms, ny, nx) array
            Jy/pixel.
        """
        hats = [self._forward(term, self._grid) if term.any() else None for term in model]
        out = np.zeros((self.nterms, *self.shape), np.float32)
        for t in range(self.nterms):
            parts = [hat * self._psf_hat[t + q] for q, hat in enumerate(hats) if hat is not None]
            if parts:
                plane = self._back(sum(parts[1:], parts[0]), self._grid[1])
                out[t] = plane[: self.shape[0], : self.shape[1]]
        return out

    def with_scales(self, image: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return images convolved with each scale, (nscale, nterms, ny, nx)."""
        out = np.empty((len(self.scales), *image.shape), np.float32)
        for t, plane in enumerate(image):
            hat = self._forward(plane, self._smooth_grid) if any(self.scales) else None
            for s, scale in enumerate(self.scales):
                out[s, t] = self._smoothed(hat, s) if scale and hat is not None else plane
        return out

    def _smoothed(self, hat: NDArray[np.complex64], number: int) -> NDArray[np.float32]:
        """Return the image of a transform convolved with a scale."""
        plane = self._back(hat * self._smooth_hat[number], self._smooth_grid[1])
        return plane[: self.shape[0], : self.shape[1]]

    def components(self, flux: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the model, (nterms, ny, nx), of components, (nscale, nterms, ny, nx) Jy."""
        total = np.zeros(flux.shape[1:], np.float32)
        for s, scale in enumerate(self.scales):
            for t, plane in enumerate(flux[s]):
                if not plane.any():
                    continue
                if scale:
                    smooth = self._smoothed(self._forward(plane, self._smooth_grid), s)
                    smooth[np.abs(smooth) < _NOTHING * np.abs(smooth).max()] = 0.0
                    total[t] += smooth
                else:
                    total[t] += plane
        return total
