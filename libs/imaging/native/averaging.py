"""Visibilities averaged in time and frequency as far as an image allows.

What is averaged are residuals, after the model was subtracted at full resolution: then what
smearing takes is a part of what is left only, and the next residual shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.native.samples import Block

__all__ = ["AveragingPlan", "plan_averaging"]

# Turns by which the fringe of a source at the image's corner may change over a cell, in each of
# time and frequency: 0.8 % of its amplitude.
_TURNS = 0.07

# With spectral terms a cell may be this wide in relative frequency, so that their weights are
# those of its middle.
_WIDEST_WITH_TERMS = 0.01


@dataclass(frozen=True)
class AveragingPlan:
    """Which visibilities of a block make which averages.

    Attributes
    ----------
    order : (nrow,) int64
        Rows by baseline, then time.
    starts : (ncell + 1,) int64
        Where the rows of each stretch of time begin in ``order``.
    width : (ncell,) int64
        Channels averaged in each.
    first : (ncell + 1,) int64
        Number of the first average of each stretch of time.
    uvw : (naverage, 3) float64
        Wavelengths.
    relative_frequency : (naverage,) float64
        Frequency over the reference, minus 1.
    weight : (naverage,) float32
        Sum of the weights.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    width: NDArray[np.int64]
    first: NDArray[np.int64]
    uvw: NDArray[np.float64]
    relative_frequency: NDArray[np.float64]
    weight: NDArray[np.float32]

    def sums(
        self, block: Block, model: NDArray[np.complexfloating] | None = None
    ) -> NDArray[np.complex64]:
        """Return sums of weight times (visibility minus model), (naverage,).

        Parameters
        ----------
        block : Block
            The one the plan was made for.
        model : (nrow, nchan) complex, optional
            Jy; None: nothing is subtracted.
        """
        out = np.zeros(len(self.weight), np.complex64)
        with_model = model is not None
        given = model if model is not None else np.zeros((1, 1), np.complex64)
        _sums(
            self.order, self.starts, self.width, self.first, block.visibility, block.weight,
            given, with_model, out,
        )  # fmt: skip
        return out


def plan_averaging(
    block: Block, corner_rad: float, reference_hz: float, *, with_terms: bool
) -> AveragingPlan:
    """Decide how far the visibilities of a block can be averaged.

    Parameters
    ----------
    block : Block
        With the weights of the image.
    corner_rad : float
        Distance of the image's farthest corner from the phase centre.
    reference_hz : float
        Of spectral terms.
    with_terms : bool
        Whether there are any.
    """
    order = np.lexsort(
        (
            block.time_s,
            block.antenna2,
            block.antenna1,
        )
    )
    baseline = block.antenna1.astype(np.int64) << 32 | block.antenna2
    channel_hz = (
        float(np.abs(np.diff(block.frequency_hz)).mean()) if block.frequency_hz.size > 1 else 0.0
    )
    highest = float(block.frequency_hz.max())
    # metres that (u, v) may move by, at the highest frequency
    reach_m = _TURNS * SPEED_OF_LIGHT_M_S / (highest * corner_rad)
    starts = _time_cells(block.uvw_m[order], baseline[order], reach_m)
    uv = np.hypot(block.uvw_m[order, 0], block.uvw_m[order, 1])
    longest = np.maximum.reduceat(uv, starts[:-1])
    widest = np.full(len(longest), float(block.frequency_hz.size))
    if channel_hz:
        with np.errstate(divide="ignore"):
            reach_hz = _TURNS * SPEED_OF_LIGHT_M_S / (longest * corner_rad)
        if with_terms:
            reach_hz = np.minimum(reach_hz, _WIDEST_WITH_TERMS * reference_hz)
        widest = np.minimum(widest, reach_hz / channel_hz)
    width = np.maximum(1, np.floor(widest)).astype(np.int64)
    # as many channels in each average of a stretch as can be
    count = -(-block.frequency_hz.size // width)
    width = -(-block.frequency_hz.size // count)
    count = -(-block.frequency_hz.size // width)
    first = np.concatenate([[0], np.cumsum(count)])
    uvw, relative, weight = _places(
        order, starts, width, first, block.uvw_m, block.frequency_hz / SPEED_OF_LIGHT_M_S,
        block.weight,
    )  # fmt: skip
    relative = relative * (SPEED_OF_LIGHT_M_S / reference_hz) - 1.0
    return AveragingPlan(order, starts, width, first, uvw, relative, weight)


def corner_of(imsize: tuple[int, int], cell_rad: float, offset_rad: tuple[float, float]) -> float:
    """Return the distance of an image's farthest corner from the phase centre."""
    return math.hypot(
        abs(offset_rad[0]) + imsize[0] / 2 * cell_rad, abs(offset_rad[1]) + imsize[1] / 2 * cell_rad
    )


@njit(cache=True, nogil=True)
def _time_cells(
    uvw: NDArray[np.float64], baseline: NDArray[np.int64], reach: float
) -> NDArray[np.int64]:
    """Return where stretches of rows begin within which (u, v) moves by less than a reach."""
    starts = np.empty(len(uvw) + 1, np.int64)
    count = 0
    for row in range(len(uvw)):
        new = row == 0 or baseline[row] != baseline[row - 1]
        if not new:
            begin = starts[count - 1]
            du, dv = uvw[row, 0] - uvw[begin, 0], uvw[row, 1] - uvw[begin, 1]
            new = du * du + dv * dv > reach * reach
        if new:
            starts[count] = row
            count += 1
    starts[count] = len(uvw)
    return starts[: count + 1].copy()


@njit(cache=True, nogil=True)
def _places(
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    width: NDArray[np.int64],
    first: NDArray[np.int64],
    uvw: NDArray[np.float64],
    per_m: NDArray[np.float64],
    weight: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Weighted means of (u, v, w), wavelengths, and of wavelengths in a metre; sums of weights."""
    places = np.zeros((first[-1], 3))
    mean = np.zeros(first[-1])
    total = np.zeros(first[-1])
    for cell in range(len(width)):
        for k in range(starts[cell], starts[cell + 1]):
            row = order[k]
            for chan in range(per_m.size):
                w = weight[row, chan]
                if w > 0.0:
                    i = first[cell] + chan // width[cell]
                    total[i] += w
                    mean[i] += w * per_m[chan]
                    for axis in range(3):
                        places[i, axis] += w * per_m[chan] * uvw[row, axis]
    for i in range(len(total)):
        if total[i] > 0.0:
            mean[i] /= total[i]
            for axis in range(3):
                places[i, axis] /= total[i]
    return places, mean, total.astype(np.float32)


@njit(cache=True, nogil=True)
def _sums(
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    width: NDArray[np.int64],
    first: NDArray[np.int64],
    visibility: NDArray[np.complex64],
    weight: NDArray[np.float32],
    model: NDArray[np.complexfloating],
    with_model: bool,
    out: NDArray[np.complex64],
) -> None:
    """Sums of weight times (visibility minus model) of each average."""
    for cell in range(len(width)):
        for k in range(starts[cell], starts[cell + 1]):
            row = order[k]
            for chan in range(visibility.shape[1]):
                w = weight[row, chan]
                if w > 0.0:
                    left = visibility[row, chan]
                    if with_model:
                        left = np.complex64(left - model[row, chan])
                    out[first[cell] + chan // width[cell]] += w * left
