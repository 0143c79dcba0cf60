"""Channels that stand out of the continuum, by power and by their likeness to the continuum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from libs.ms.rows import chunks

__all__ = ["MINIMUM_CHANNELS", "find_lines", "outliers"]

MINIMUM_CHANNELS = 16
"""Channels below which the scatter of a spectrum cannot tell a line."""

_FALSE_ALARM = 1e-3  # probability that a window of noise has a channel flagged
_WING_SIGMA = 2.0  # neighbours of a line are flagged down to this
_ROUNDS = 10

Float = NDArray[np.float64]


def find_lines(ms: Path) -> dict[int, NDArray[np.bool_]]:
    """Return the channels of each window that hold lines, (nchan,).

    Windows of fewer than `MINIMUM_CHANNELS` are left out.

    Two spectra are searched: the mean power, which shows lines wherever they come from, and the
    mean product with the continuum of the same baseline and time, which shows faint lines at the
    place of a bright continuum. Errors of phase common to a window change neither.

    Parameters
    ----------
    ms : Path
        Measurement set; flagged visibilities do not count.
    """
    sums: dict[int, list[Float]] = {}
    for chunk in chunks(ms, ("DATA", "FLAG", "FLAG_ROW", "WEIGHT", "ANTENNA1", "ANTENNA2")):
        if chunk["DATA"].shape[1] < MINIMUM_CHANNELS:
            continue
        cross = chunk["ANTENNA1"] != chunk["ANTENNA2"]
        good = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]) & cross[:, None, None]
        weight = np.where(good, chunk["WEIGHT"][:, None, :], 0.0).astype(np.float64)
        data = np.where(good, chunk["DATA"], 0)
        power = np.sum(weight * np.abs(data) ** 2, axis=(0, 2))
        likeness = _likeness(data, weight)
        own = sums.setdefault(chunk.spw, [np.zeros(data.shape[1]) for _ in range(3)])
        for total, part in zip(own, (power, likeness, weight.sum(axis=(0, 2))), strict=True):
            total += part
    found = {}
    for spw, (power, likeness, weight) in sums.items():
        used = weight > 0
        mask = np.zeros(len(weight), bool)
        for spectrum in (power, likeness):
            mask[used] |= outliers(spectrum[used] / weight[used])
        found[spw] = mask
    return found


def _likeness(data: NDArray[np.complex64], weight: Float) -> Float:
    """Sum over rows of w Re(V conj(C)), C the mean of all channels but the own one, (nchan,)."""
    total = (data * weight).sum(axis=1, keepdims=True)
    count = weight.sum(axis=1, keepdims=True)
    rest = count - weight
    others = np.where(rest > 0, (total - data * weight) / np.where(rest > 0, rest, 1), 0)
    return np.asarray(np.sum(weight * (data * np.conj(others)).real, axis=(0, 2)))


def outliers(spectrum: Float) -> NDArray[np.bool_]:
    """Return which channels of a spectrum stand out of a straight line, with their wings.

    Level, slope and scatter are those of the channels that do not stand out, found by repetition
    from the median and the median deviation on.

    Parameters
    ----------
    spectrum : (nchan,) float64

    Returns
    -------
    (nchan,) bool
    """
    count = len(spectrum)
    if count < MINIMUM_CHANNELS:
        return np.zeros(count, bool)
    limit = float(-ndtri(_FALSE_ALARM / (2 * count)))
    channel = np.arange(count) - 0.5 * (count - 1)
    level, slope = float(np.median(spectrum)), 0.0
    out = np.zeros(count, bool)
    sigma = np.zeros(count)
    for _ in range(_ROUNDS):
        rest = spectrum - level - slope * channel
        kept = rest[~out]
        scatter = 1.4826 * float(np.median(np.abs(kept - np.median(kept))))
        if not scatter > 0:
            return out
        sigma = rest / (scatter * (1 + 1.5 / len(kept)))
        again = np.abs(sigma) > _limit(limit, len(kept))
        if (again == out).all() or again.mean() > 0.9:
            break
        out = again
        slope, level = np.polyfit(channel[~out], spectrum[~out], 1)
    return _with_wings(out, sigma)


def _limit(gaussian: float, count: int) -> float:
    """Sigma that noise exceeds as seldom when its scatter is known from few channels only.

    The median deviation of n values has a relative error of about 1.17 / sqrt(n); Student's t of
    the number of degrees with that error stands for the Gaussian.
    """
    from scipy.stats import norm, t

    freedom = max(2.0, count * 0.37)
    return float(t.isf(norm.sf(gaussian), freedom))


def _with_wings(out: NDArray[np.bool_], sigma: Float) -> NDArray[np.bool_]:
    """Lines and the channels beside them that are still bright, and one more on each side."""
    grown = out.copy()
    for step in (1, -1):
        places = range(len(out)) if step > 0 else range(len(out) - 1, -1, -1)
        inside = False
        for place in places:
            inside = out[place] or (inside and sigma[place] > _WING_SIGMA)
            grown[place] |= inside
    wide = grown.copy()
    wide[1:] |= grown[:-1]
    wide[:-1] |= grown[1:]
    return wide
