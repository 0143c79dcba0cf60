"""Weights of visibilities in an image: natural, Briggs', and a Gaussian taper."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.imaging.native.samples import Block

__all__ = ["Weighting", "make_weighting"]

# Cells of the density grid are those of an image padded like this, as in WSClean, so that one
# robust parameter means one image in both.
_PADDING = 1.2

_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


@dataclass(frozen=True)
class Weighting:
    """Factors on the weights of the visibilities.

    Attributes
    ----------
    factor : (ny, nx) float32
        Of the cells of the half plane v >= 0, first axis v; (0, 0): natural weights.
    cell_u, cell_v : float
        Cell size, wavelengths.
    taper : float
        exp(taper (u^2 + v^2)) is multiplied in; 0: no taper.
    """

    factor: NDArray[np.float32]
    cell_u: float
    cell_v: float
    taper: float = 0.0

    def of(self, block: Block) -> NDArray[np.float32]:
        """Return the imaging weights of a block, (nrow, nchan) float32."""
        if not self.factor.size and not self.taper:
            return block.weight
        out = np.empty_like(block.weight)
        _apply(
            block.uvw_m, block.frequency_hz / SPEED_OF_LIGHT_M_S, block.weight, self.factor,
            1.0 / self.cell_u, 1.0 / self.cell_v, self.taper, out,
        )  # fmt: skip
        return out


def make_weighting(
    blocks: Iterable[Block],
    imsize: tuple[int, int],
    cell_rad: float,
    *,
    briggs: bool,
    robust: float = 0.0,
    taper_arcsec: float = 0.0,
) -> Weighting:
    """Return the weighting of some visibilities.

    Parameters
    ----------
    blocks : iterable of Block
        At full resolution; read for Briggs' weights only.
    imsize : (int, int)
        Width and height of the image, pixels.
    cell_rad : float
        Pixel size.
    briggs : bool
        Briggs' weights; else natural ones.
    robust : float
        Briggs' parameter.
    taper_arcsec : float
        FWHM of the Gaussian by which the PSF is widened; 0: none.

    Notes
    -----
    Briggs (1995), PhD thesis, New Mexico Tech: with W the sum of weights w in a cell, weights
    become w / (1 + W f^2), f^2 = (5 10^-robust)^2 / (sum of W^2 / sum of w). The cells are
    those of WSClean 3, whose PSFs come out the same: of an image padded by 1.2, of one half
    plane, their edges (not their middles) at whole multiples of their size.
    """
    taper = 0.0
    if taper_arcsec:
        # the Fourier transform of a Gaussian of this FWHM on the sky
        sigma = _FWHM_PER_SIGMA / (2.0 * math.pi * taper_arcsec / ARCSEC_PER_RAD)
        taper = -0.5 / sigma**2
    width, height = (_padded(pixels) for pixels in imsize)
    cell_u, cell_v = 1.0 / (width * cell_rad), 1.0 / (height * cell_rad)
    if not briggs:
        return Weighting(np.zeros((0, 0), np.float32), cell_u, cell_v, taper)
    density = np.zeros((height // 2, width))
    for block in blocks:
        _add_density(
            block.uvw_m, block.frequency_hz / SPEED_OF_LIGHT_M_S, block.weight,
            1.0 / cell_u, 1.0 / cell_v, density,
        )  # fmt: skip
    total = float(density.sum())
    if not total > 0.0:
        return Weighting(density.astype(np.float32), cell_u, cell_v, taper)
    square = (5.0 * 10.0**-robust) ** 2 / (float((density**2).sum()) / total)
    factor = np.where(density > 0.0, 1.0 / (1.0 + density * square), 0.0)
    return Weighting(factor.astype(np.float32), cell_u, cell_v, taper)


def _padded(pixels: int) -> int:
    """Pixels of the padded image: a multiple of four."""
    return 4 * math.ceil(math.ceil(pixels * _PADDING) / 4)


@njit(cache=True, nogil=True, inline="always")
def _place(u: float, v: float, width: int) -> tuple[int, int]:
    """Column and row of the cell of a point given in cells."""
    if v < 0.0:
        u, v = -u, -v
    return math.floor(u + width / 2), math.floor(v)


@njit(cache=True, nogil=True)
def _add_density(
    uvw: NDArray[np.float64],
    per_m: NDArray[np.float64],
    weight: NDArray[np.float32],
    per_cell_u: float,
    per_cell_v: float,
    density: NDArray[np.float64],
) -> None:
    """Add weights to the cells they fall into; ``per_m``: wavelengths in a metre."""
    height, width = density.shape
    for row in range(uvw.shape[0]):
        u, v = uvw[row, 0] * per_cell_u, uvw[row, 1] * per_cell_v
        for chan in range(per_m.size):
            w = weight[row, chan]
            if w > 0.0:
                x, y = _place(u * per_m[chan], v * per_m[chan], width)
                if 0 <= x < width and y < height:
                    density[y, x] += w


@njit(cache=True, nogil=True)
def _apply(
    uvw: NDArray[np.float64],
    per_m: NDArray[np.float64],
    weight: NDArray[np.float32],
    factor: NDArray[np.float32],
    per_cell_u: float,
    per_cell_v: float,
    taper: float,
    out: NDArray[np.float32],
) -> None:
    """Multiply weights by the factors of their cells and by the taper."""
    height, width = factor.shape
    for row in range(uvw.shape[0]):
        u, v = uvw[row, 0] * per_cell_u, uvw[row, 1] * per_cell_v
        square = uvw[row, 0] ** 2 + uvw[row, 1] ** 2
        for chan in range(per_m.size):
            w = weight[row, chan]
            if w > 0.0:
                if height > 0:
                    x, y = _place(u * per_m[chan], v * per_m[chan], width)
                    inside = 0 <= x < width and y < height
                    w = w * factor[y, x] if inside else np.float32(0.0)
                if taper != 0.0:
                    w = np.float32(w * math.exp(taper * square * per_m[chan] ** 2))
            out[row, chan] = w
