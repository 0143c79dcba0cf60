"""Images of the visibilities of a store: PSFs, dirty images, residuals of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from libs.errors import ImageError
from libs.imaging.native.gridding import CLEANING_ACCURACY, FINAL_ACCURACY, Gridder
from libs.imaging.native.samples import Block
from libs.imaging.native.visibility_store import VisibilityStore

__all__ = ["Measurement", "taylor_visibilities"]


@dataclass
class Measurement:
    """The visibilities of a store as seen on an image grid.

    Attributes
    ----------
    store : VisibilityStore
        Its weights are those of the image.
    gridder : Gridder
        The image's grid.
    reference_hz : float
        Taylor terms are coefficients of ((nu - reference) / reference)^t.
    nterms : int
    weight_sum : float
        Of all weights; set by `first_images`.
    """

    store: VisibilityStore
    gridder: Gridder
    reference_hz: float
    nterms: int = 1
    weight_sum: float = 0.0

    def first_images(
        self, psf_imsize: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return PSFs and dirty images in one pass.

        Parameters
        ----------
        psf_imsize : (int, int)
            Width and height of the PSFs.

        Returns
        -------
        psf : (2 nterms - 1, psf height, psf width) float32
            Term t is made with weights times ((nu - nu0) / nu0)^t; the first peaks at 1.
        dirty : (nterms, ny, nx) float64
            Jy/beam.

        Raises
        ------
        ImageError
            All weights are 0.
        """
        # around any one point of the sky the w term is the same for the visibilities and the
        # point's phase: the PSF has none
        narrow = replace(self.gridder, imsize=psf_imsize, offset_rad=(0.0, 0.0), with_w=False)
        psf = np.zeros((2 * self.nterms - 1, psf_imsize[1], psf_imsize[0]))
        nx, ny = self.gridder.imsize
        dirty = np.zeros((self.nterms, ny, nx))
        self.weight_sum = 0.0
        for block in self.store.weighted():
            self.weight_sum += float(block.weight.sum(dtype=np.float64))
            for term, weight in enumerate(self._moments(block, 2 * self.nterms - 1)):
                psf[term] += narrow.image(
                    block.uvw_m, block.frequency_hz, weight.astype(np.complex64)
                )
                if term < self.nterms:
                    dirty[term] += self.gridder.image(
                        block.uvw_m, block.frequency_hz, block.visibility * weight
                    )
        if not self.weight_sum > 0.0:
            raise ImageError(
                "every visibility has weight 0 in the image", "choose pixels that hold the data"
            )
        psf /= self.weight_sum
        dirty /= self.weight_sum
        return psf.astype(np.float32), dirty

    def residual(self, model: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the image of what a model leaves of the visibilities.

        Parameters
        ----------
        model : (nterms, ny, nx) array
            Jy/pixel.

        Returns
        -------
        (nterms, ny, nx) float64
            Jy/beam.
        """
        nx, ny = self.gridder.imsize
        image = np.zeros((self.nterms, ny, nx))
        for block in self.store.weighted():
            left = block.visibility - taylor_visibilities(
                self.gridder, model, block.uvw_m, block.frequency_hz, self.reference_hz
            )
            left = left.astype(np.complex64)
            for term, weight in enumerate(self._moments(block, self.nterms)):
                image[term] += self.gridder.image(
                    block.uvw_m, block.frequency_hz, left * weight, CLEANING_ACCURACY
                )
        return image / self.weight_sum

    def _moments(self, block: Block, count: int) -> list[NDArray[np.float32]]:
        """Weights times the powers of the relative frequency."""
        x = (block.frequency_hz / self.reference_hz - 1.0).astype(np.float32)
        return [block.weight if not t else block.weight * x**t for t in range(count)]


def taylor_visibilities(
    gridder: Gridder,
    model: NDArray[np.floating],
    uvw_m: NDArray[np.float64],
    frequency_hz: NDArray[np.float64],
    reference_hz: float,
    accuracy: float = FINAL_ACCURACY,
) -> NDArray[np.complexfloating]:
    """Return the visibilities, Jy, of a model of Taylor terms, (nrow, nchan).

    Parameters
    ----------
    gridder : Gridder
    model : (nterms, ny, nx) array
        Jy/pixel.
    uvw_m : (nrow, 3) float64
    frequency_hz : (nchan,) float64
    reference_hz : float
        Of the terms.
    accuracy : float
        Relative to the flux of each term.
    """
    total: NDArray[np.complexfloating] = np.zeros((len(uvw_m), len(frequency_hz)), np.complex64)
    x = frequency_hz / (reference_hz or 1.0) - 1.0
    for power, term in enumerate(model):
        if not term.any():
            continue
        part = gridder.visibilities(uvw_m, frequency_hz, term, accuracy)
        part = part * x**power if power else part
        total = total + part if total.any() else part
    return total
