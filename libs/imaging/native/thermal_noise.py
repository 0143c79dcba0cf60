"""The noise that visibilities alone give an image, from differences of neighbouring ones.

What a model leaves of neighbouring visibilities is alike, whether it is a source, a sidelobe or an
error of a gain; their difference is noise. So this noise tells how much of an image's scatter is
not noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.imaging.native.samples import Block

__all__ = ["ThermalNoise"]

# Integrations are neighbours up to this many times the usual step.
_GAP = 1.5

# Fewer differences tell the noise to no better than 10 %.
_FEWEST = 100


@dataclass
class ThermalNoise:
    """Sums over differences of neighbours, from which the noise of an image follows.

    With image weights w the noise of a pixel is sqrt(sum w^2 sigma^2) / sum w, sigma that of the
    real and imaginary part. Of two neighbours w_a w_b |r_a - r_b|^2 / 2 is on average w_a^2
    sigma_a^2 + w_b^2 sigma_b^2 where the natural weights are 1 / sigma^2 but for a common factor,
    whatever that is. Neighbours in time are taken; of data with too few integrations, neighbours
    in frequency.

    Attributes
    ----------
    weight, squares : float
        Sum of the weights and of their squares.
    time, frequency : (3,) float64
        Sum over the differences, sum of w_a^2 + w_b^2, number of differences; by neighbours in
        time and in frequency.
    """

    weight: float
    squares: float
    time: NDArray[np.float64]
    frequency: NDArray[np.float64]

    @classmethod
    def empty(cls) -> ThermalNoise:
        """Return sums of nothing."""
        return cls(0.0, 0.0, np.zeros(3), np.zeros(3))

    def add(
        self, block: Block, order: NDArray[np.int64], model: NDArray[np.complexfloating] | None
    ) -> None:
        """Add the visibilities of a block.

        Parameters
        ----------
        block : Block
            With the weights of the image.
        order : (nrow,) int64
            Its rows by baseline, then time.
        model : (nrow, nchan) complex, optional
            Jy; None: nothing is subtracted.
        """
        given = model if model is not None else np.zeros((1, 1), np.complex64)
        baseline = block.antenna1.astype(np.int64) << 32 | block.antenna2
        step = np.diff(block.time_s[order])
        step = step[(np.diff(baseline[order]) == 0) & (step > 0)]
        reach = _GAP * float(np.percentile(step, 20)) if step.size else 0.0
        weight, squares = _add(
            order, baseline, block.time_s, reach, block.visibility, block.weight, given,
            model is not None, self.time, self.frequency,
        )  # fmt: skip
        self.weight += weight
        self.squares += squares

    @property
    def jy_beam(self) -> float:
        """Noise of the image, Jy/beam; NaN where there are too few neighbours."""
        for total, squares, count in (self.time, self.frequency):
            if count >= _FEWEST and 2 * squares >= self.squares:
                return math.sqrt(total / squares * self.squares) / self.weight
        return math.nan


@njit(cache=True, nogil=True)
def _add(
    order: NDArray[np.int64],
    baseline: NDArray[np.int64],
    time: NDArray[np.float64],
    reach: float,
    visibility: NDArray[np.complex64],
    weight: NDArray[np.float32],
    model: NDArray[np.complexfloating],
    with_model: bool,
    by_time: NDArray[np.float64],
    by_frequency: NDArray[np.float64],
) -> tuple[float, float]:
    """Add to the sums of neighbours; return the sum of the weights and of their squares."""
    total, squares = 0.0, 0.0
    for k in range(len(order)):
        row = order[k]
        other = order[k - 1] if k else row
        near = k > 0 and baseline[row] == baseline[other] and time[row] - time[other] <= reach
        for chan in range(visibility.shape[1]):
            w = np.float64(weight[row, chan])
            if w <= 0.0:
                continue
            total += w
            squares += w * w
            left = visibility[row, chan]
            if with_model:
                left = np.complex64(left - model[row, chan])
            if near and weight[other, chan] > 0.0:
                before = visibility[other, chan]
                if with_model:
                    before = np.complex64(before - model[other, chan])
                _difference(left - before, w, np.float64(weight[other, chan]), by_time)
            if chan and weight[row, chan - 1] > 0.0:
                before = visibility[row, chan - 1]
                if with_model:
                    before = np.complex64(before - model[row, chan - 1])
                _difference(left - before, w, np.float64(weight[row, chan - 1]), by_frequency)
    return total, squares


@njit(cache=True, nogil=True)
def _difference(apart: complex, a: float, b: float, sums: NDArray[np.float64]) -> None:
    """Add the difference of two neighbours with weights a and b."""
    sums[0] += 0.5 * a * b * (apart.real**2 + apart.imag**2)
    sums[1] += a * a + b * b
    sums[2] += 1.0
