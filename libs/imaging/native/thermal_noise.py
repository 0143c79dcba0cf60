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
    real and imaginary part, of which the natural weights are n = s^2 / sigma^2 with an unknown s.
    The difference of two neighbours has <|r_a - r_b|^2> / 2 = s^2 (1 / n_a + 1 / n_b), whatever
    their image weights are, and is counted with w_a^2 / n_a + w_b^2 / n_b. Neighbours in time are
    taken; of data with too few integrations, neighbours in frequency.

    Attributes
    ----------
    weight, squares : float
        Sums of w and of w^2 / n.
    time, frequency : (3,) float64
        Sums over the differences of s^2 (w_a^2 / n_a + w_b^2 / n_b) and of the same without s^2,
        number of differences; by neighbours in time and in frequency.
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
            With the weights of the image and the natural ones.
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
            order, baseline, block.time_s, reach, block.visibility, block.weight,
            block.weight if block.natural is None else block.natural, given, model is not None,
            self.time, self.frequency,
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
    natural: NDArray[np.float32],
    model: NDArray[np.complexfloating],
    with_model: bool,
    by_time: NDArray[np.float64],
    by_frequency: NDArray[np.float64],
) -> tuple[float, float]:
    """Add to the sums of neighbours; return the sums of w and of w^2 / n."""
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
            n = np.float64(natural[row, chan])
            squares += w * w / n
            left = visibility[row, chan]
            if with_model:
                left = np.complex64(left - model[row, chan])
            if near and weight[other, chan] > 0.0:
                before = visibility[other, chan]
                if with_model:
                    before = np.complex64(before - model[other, chan])
                w_before = np.float64(weight[other, chan])
                n_before = np.float64(natural[other, chan])
                _difference(left - before, w, n, w_before, n_before, by_time)
            if chan and weight[row, chan - 1] > 0.0:
                before = visibility[row, chan - 1]
                if with_model:
                    before = np.complex64(before - model[row, chan - 1])
                w_before = np.float64(weight[row, chan - 1])
                n_before = np.float64(natural[row, chan - 1])
                _difference(left - before, w, n, w_before, n_before, by_frequency)
    return total, squares


@njit(cache=True, nogil=True)
def _difference(
    apart: complex, w_a: float, n_a: float, w_b: float, n_b: float, sums: NDArray[np.float64]
) -> None:
    """Add the difference of two neighbours with image weights w and natural weights n."""
    share = w_a * w_a / n_a + w_b * w_b / n_b
    sums[0] += share * 0.5 * (apart.real**2 + apart.imag**2) / (1.0 / n_a + 1.0 / n_b)
    sums[1] += share
    sums[2] += 1.0
