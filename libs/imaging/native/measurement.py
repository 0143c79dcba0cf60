"""Images of the visibilities of a store: PSFs, dirty images, residuals of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ImageError
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.native.averaging import AveragingPlan, corner_of, plan_averaging
from libs.imaging.native.gridding import FINAL_ACCURACY, RESIDUAL_TURNS, Gridder, cropped
from libs.imaging.native.samples import Block
from libs.imaging.native.thermal_noise import ThermalNoise
from libs.imaging.native.visibility_store import VisibilityStore

__all__ = ["Measurement", "taylor_visibilities"]

# (u, v, w) of averages are in wavelengths: metres at this frequency
_UNIT_HZ = np.array([SPEED_OF_LIGHT_M_S])


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
    average : bool
        Whether what is gridded is averaged first as far as the image allows.
    weight_sum : float
        Of all weights; set by `first_images`.
    thermal : ThermalNoise
        Noise of the visibilities about the last model.
    """

    store: VisibilityStore
    gridder: Gridder
    reference_hz: float
    nterms: int = 1
    average: bool = True
    weight_sum: float = 0.0
    thermal: ThermalNoise = field(default_factory=ThermalNoise.empty)
    _plans: list[AveragingPlan] = field(default_factory=list, repr=False)

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
        for uvw, frequency, x, weight, total in self._gathered(None):
            self.weight_sum += float(weight.sum(dtype=np.float64))
            for term in range(2 * self.nterms - 1):
                power = (x**term).astype(np.float32)
                psf[term] += narrow.image(uvw, frequency, (weight * power).astype(np.complex64))
                if term < self.nterms:
                    dirty[term] += self.gridder.image(uvw, frequency, total * power)
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
        for uvw, frequency, x, _, total in self._gathered(model):
            for term in range(self.nterms):
                image[term] += self.gridder.image(
                    uvw, frequency, total * x.astype(np.float32) ** term
                )
        return image / self.weight_sum

    def _gathered(
        self, model: NDArray[np.floating] | None
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64],
                        NDArray[np.float32], NDArray[np.complex64]]]:  # fmt: skip
        """Yield u, v, w, frequencies, relative frequencies, weights and weighted residuals.

        Averages of all blocks in memory come at once, and the image is transformed once only;
        streamed ones, and what is not averaged, block by block.
        """
        gathered = []
        self.thermal = ThermalNoise.empty()
        for number, block in enumerate(self.store.weighted()):
            predicted = None
            if model is not None and model.any():
                predicted = self._predicted(model, block)
            if not self.average:
                left = block.visibility if predicted is None else block.visibility - predicted
                x = block.frequency_hz / self.reference_hz - 1.0
                weighted = (left * block.weight).astype(np.complex64)
                yield block.uvw_m, block.frequency_hz, x, block.weight, weighted
                continue
            plan = self._plan(number, block)
            self.thermal.add(block, plan.order, predicted)
            part = plan, plan.sums(block, predicted)
            if self.store.in_memory:
                gathered.append(part)
            else:
                yield _listed([part])
        if gathered:
            yield _listed(gathered)

    def _predicted(self, model: NDArray[np.floating], block: Block) -> NDArray[np.complexfloating]:
        """Visibilities of a model."""
        gridder, terms = cropped(self.gridder, model)
        longest_m = float(np.abs(block.uvw_m[:, 2]).max())
        longest = longest_m * float(block.frequency_hz.max()) / SPEED_OF_LIGHT_M_S
        return taylor_visibilities(
            gridder.for_w(longest, RESIDUAL_TURNS), terms, block.uvw_m, block.frequency_hz,
            self.reference_hz,
        )  # fmt: skip

    def _plan(self, number: int, block: Block) -> AveragingPlan:
        """Plan of a block; those of blocks in memory are kept."""
        if number < len(self._plans):
            return self._plans[number]
        grid = self.gridder
        corner = corner_of(grid.imsize, grid.cell_rad, grid.offset_rad)
        plan = plan_averaging(block, corner, self.reference_hz, with_terms=self.nterms > 1)
        if self.store.in_memory:
            self._plans.append(plan)
        return plan


def _listed(
    parts: list[tuple[AveragingPlan, NDArray[np.complex64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64],
           NDArray[np.float32], NDArray[np.complex64]]:  # fmt: skip
    """Averages of several blocks as one list."""
    return (
        np.concatenate([plan.uvw for plan, _ in parts]),
        _UNIT_HZ,
        np.concatenate([plan.relative_frequency for plan, _ in parts])[:, None],
        np.concatenate([plan.weight for plan, _ in parts])[:, None],
        np.concatenate([sums for _, sums in parts])[:, None],
    )


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
    total: NDArray[np.complexfloating] | None = None
    x = frequency_hz / (reference_hz or 1.0) - 1.0
    for power, term in enumerate(model):
        if not term.any():
            continue
        part = gridder.visibilities(uvw_m, frequency_hz, term, accuracy)
        part = part * x**power if power else part
        total = part if total is None else total + part
    if total is None:
        return np.zeros((len(uvw_m), len(frequency_hz)), np.complex64)
    return total
