"""Windows too weak to be solved by themselves, and those whose solutions they take.

A narrow window beside wide ones gets solutions all the same, from few data: they are noise, and
move the source in that window's part of the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_SNR", "by_bandwidth", "donors", "median_snr"]

LEAST_SNR = 3.0
"""SNR of a window's solutions below which it takes those of another."""


def median_snr(snr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median SNR of the solutions of each window; 0 where it has none, (nblock,).

    Parameters
    ----------
    snr : (ntime, nblock, nant, npol) float64
        0 where there is no solution.
    """
    found = np.zeros(snr.shape[1])
    for block in range(snr.shape[1]):
        own = snr[:, block]
        found[block] = np.median(own[own > 0]) if (own > 0).any() else 0.0
    return found


def by_bandwidth(snr: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the SNR that the data of each window promise, (nblock,).

    Solutions of noise alone have an SNR of 2 or 3, because they fit it. So a window's median SNR
    counts no more than that of the one with the most data, scaled by what data it has itself.

    Parameters
    ----------
    snr : (nblock,) float64
        Median SNR of the solutions.
    weight : (nblock,) float64
        Sum of w |M|^2, which goes as the bandwidth that is not flagged.
    """
    most = int(np.argmax(weight))
    return np.minimum(snr, snr[most] * np.sqrt(weight / max(weight[most], 1e-300)))


def donors(
    strength: NDArray[np.float64], frequency_hz: NDArray[np.float64], there: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return whose solutions each window takes: its own, or those of a better one, (nblock,).

    That is the nearest in frequency whose SNR is 3 or more and that has solutions at all
    times at which the weak one has data. So windows that are observed in turn, as in spectral
    scans, keep their own; a window without any solution is nobody's donor.

    Parameters
    ----------
    strength : (nblock,) float64
        SNR of each window.
    frequency_hz : (nblock,) float64
    there : (ntime, nblock) bool
        Where solutions were attempted.
    """
    own = np.arange(len(strength))
    good = np.flatnonzero(strength >= LEAST_SNR)
    for block in np.flatnonzero((strength < LEAST_SNR) & (strength > 0)):
        able = [other for other in good if there[there[:, block], other].all()]
        if able:
            apart = np.abs(frequency_hz[able] - frequency_hz[block])
            own[block] = able[int(np.argmin(apart))]
    return own
