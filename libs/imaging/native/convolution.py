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

    # Transforms are made when they are first asked for: an image whose residuals come from the
    # visibilities needs none of the PSF, and one of points alone none of the scales.

    @cached_property
    def _psf_hat(self) -> list[NDArray[np.complex64]]:
        return [self._forward(np.fft.ifftshift(plane)) for plane in self._psf]

    @cached_property
    def _scale_hat(self) -> list[NDArray[np.float32]]:
        v = np.fft.fftfreq(self._grid[0])[:, None]
        u = np.fft.rfftfreq(self._grid[1])[None, :]
        square = u**2 + v**2
        return [
            np.exp(-2.0 * (math.pi * _SIGMA_OF_SCALE * s) ** 2 * square).astype(np.float32)
            for s in self.scales
        ]

    def _forward(self, plane: NDArray[np.floating]) -> NDArray[np.complex64]:
        from ducc0.fft import r2c

        padded = plane
        if plane.shape != self._grid:
            padded = np.zeros(self._grid, np.float32)
            padded[: plane.shape[0], : plane.shape[1]] = plane
        padded = np.ascontiguousarray(padded, dtype=np.float32)
        return np.asarray(r2c(padded, axes=(0, 1), nthreads=self.threads))

    def _back(self, hat: NDArray[np.complex64]) -> NDArray[np.float32]:
        from ducc0.fft import c2r

        plane: Any = c2r(
            hat, axes=(0, 1), lastsize=self._grid[1], forward=False, inorm=2,
            nthreads=self.threads,
        )  # fmt: skip
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
                    both = self._scale_hat[first] * self._scale_hat[second]
                    for term, hat in enumerate(self._psf_hat):
                        planes[number, term] = np.fft.fftshift(self._back(hat * both))[near]
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
        hats = [self._forward(term) if term.any() else None for term in model]
        out = np.zeros((self.nterms, *self.shape), np.float32)
        for t in range(self.nterms):
            parts = [hat * self._psf_hat[t + q] for q, hat in enumerate(hats) if hat is not None]
            if parts:
                out[t] = self._back(sum(parts[1:], parts[0]))[: self.shape[0], : self.shape[1]]
        return out

    def with_scales(self, image: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return images convolved with each scale, (nscale, nterms, ny, nx)."""
        out = np.empty((len(self.scales), *image.shape), np.float32)
        for t, plane in enumerate(image):
            hat = self._forward(plane) if any(self.scales) else None
            for s, scale in enumerate(self.scales):
                if scale and hat is not None:
                    smooth = self._back(hat * self._scale_hat[s])
                    out[s, t] = smooth[: self.shape[0], : self.shape[1]]
                else:
                    out[s, t] = plane
        return out

    def components(self, flux: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the model, (nterms, ny, nx), of components, (nscale, nterms, ny, nx) Jy."""
        total = np.zeros(flux.shape[1:], np.float32)
        for s, scale in enumerate(self.scales):
            for t, plane in enumerate(flux[s]):
                if not plane.any():
                    continue
                if scale:
                    smooth = self._back(self._forward(plane) * self._scale_hat[s])
                    smooth = smooth[: self.shape[0], : self.shape[1]]
                    smooth[np.abs(smooth) < _NOTHING * np.abs(smooth).max()] = 0.0
                    total[t] += smooth
                else:
                    total[t] += plane
        return total
