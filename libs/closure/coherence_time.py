"""For how long visibilities may be averaged before closure quantities are formed.

A bispectrum of visibilities that are mostly noise is worse than noise: where the phases hold
still, averaging first wins far more than averaging the bispectra afterwards. How long they hold
still the data tell by themselves, without a model: by products of visibilities of one baseline at
two times, whose noise is independent. Changes of the source's own visibilities, which must not be
averaged over either, show in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities, time_blocks

__all__ = ["CoherenceTime", "averaged", "coherence_time"]

Float = NDArray[np.float64]

# Of the product of visibilities at both ends of an average. Phases that drift or walk lose in the
# average a sixth of what this is below 1, less than the floor under closure errors.
LEAST_COHERENCE = 0.97
DETECTED = 5.0  # sigma, of the products of neighbours, for anything to be said
SURE = 3.5  # sigma by which a station's coherence must lie below the least: many are looked at
ENOUGH_SNR = 7.0  # of a visibility: closures of better ones gain nothing by averaging


@dataclass(frozen=True)
class CoherenceTime:
    """How long visibilities may be averaged, and how long they should be.

    Attributes
    ----------
    coherent_s : float
        Longest time over which no station was seen to lose coherence, s.
    average_s : float
        Averaging time to use, s; 0: none. It is no longer than a typical visibility needs for an
        SNR of 7.
    snr : float
        SNR of a typical visibility of one integration; 0 where nothing was detected.
    """

    coherent_s: float
    average_s: float
    snr: float


def coherence_time(data: BaselineVisibilities, longest_s: float = 600.0) -> CoherenceTime:
    """Return for how long the visibilities of every station stay in phase with themselves.

    With normalised visibilities v = V / sigma, whose noise has variance 2, the sum of
    Re(v(t) conj(v(t + lag))) over the baselines of a station grows with the signal alone, and
    noise makes it scatter by the square root of twice the number of products, and by the signal
    times the noise. A lag is refused when the sum over that of neighbouring times lies below
    `LEAST_COHERENCE` by more than `SURE` times its error, for any station.

    Parameters
    ----------
    data : BaselineVisibilities
        Not averaged.
    longest_s : float
        Longest time to try, s.
    """
    step_s = float(np.median(np.diff(data.time_s))) if len(data.time_s) > 1 else 0.0
    if step_s <= 0:
        return CoherenceTime(0.0, 0.0, 0.0)
    with np.errstate(invalid="ignore"):
        v = np.where(np.isfinite(data.sigma), data.vis / data.sigma, 0.0)
    first = _lagged(data, v, 1, step_s)
    total, error = first.sum_all()
    if not total > DETECTED * error:
        return CoherenceTime(0.0, 0.0, 0.0)
    snr = float(np.sqrt(2 * total / first.products.sum()))
    coherent, lag = step_s, 2
    while lag * step_s <= longest_s and lag < len(data.time_s):
        found = _lagged(data, v, lag, step_s)
        # lags that no scan is long enough for say nothing
        if not found.products.any() or _lost(found, first):
            break
        coherent, lag = lag * step_s, lag * 2
    needed = step_s * (ENOUGH_SNR / snr) ** 2
    average = min(coherent, needed)
    return CoherenceTime(coherent, average if average > 1.5 * step_s else 0.0, snr)


@dataclass(frozen=True)
class _Lagged:
    """Sums of products over the baselines of each station, their variances and numbers, (nant,).

    With signals s in both, a product scatters by 2 + |s|^2 + |s'|^2, and |v|^2 is |s|^2 + 2 in the
    mean.
    """

    value: Float
    variance: Float
    products: Float

    def sum_all(self) -> tuple[float, float]:
        """Sum over all stations and its error; every baseline counts twice in both."""
        return float(self.value.sum()) / 2, float(np.sqrt(self.variance.sum() / 2))


def _lagged(
    data: BaselineVisibilities, v: NDArray[np.complex128], lag: int, step_s: float
) -> _Lagged:
    near = np.abs(data.time_s[lag:] - data.time_s[:-lag] - lag * step_s) < 0.5 * step_s
    one, two = v[..., :-lag][..., near], v[..., lag:][..., near]
    both = (one != 0) & (two != 0)
    product = np.where(both, (one * np.conj(two)).real, 0.0)
    power = np.where(both, np.abs(one) ** 2 + np.abs(two) ** 2 - 2.0, 0.0)
    nant = len(data.antenna)

    def by_station(values: NDArray[np.generic]) -> Float:
        each = values.sum(axis=(1, 2)).astype(float)
        sums = np.bincount(data.ant1, each, nant) + np.bincount(data.ant2, each, nant)
        return np.asarray(sums, dtype=float)

    return _Lagged(by_station(product), np.maximum(by_station(power), 0.0) + 1e-30,
                   by_station(both))  # fmt: skip


def _lost(found: _Lagged, first: _Lagged) -> bool:
    """Whether any station, or all together, surely lost coherence since neighbouring times."""
    seen = (first.value > DETECTED * np.sqrt(first.variance)) & (found.products > 0)
    groups = [np.ones(len(seen), bool), *np.diag(seen)[seen]]
    for group in groups:
        reference = first.value[group].sum() / first.products[group].sum()
        scale = found.products[group].sum() * reference
        ratio = found.value[group].sum() / scale
        if ratio + SURE * np.sqrt(found.variance[group].sum()) / scale < LEAST_COHERENCE:
            return True
    return False


def averaged(data: BaselineVisibilities, average_s: float) -> BaselineVisibilities:
    """Return visibilities averaged over a time, weighted by their noise; 0: as they are."""
    if average_s <= 0:
        return data
    edges = time_blocks(data.time_s, average_s)
    starts = edges[:-1]
    weight = np.where(np.isfinite(data.sigma), 1.0 / data.sigma**2, 0.0)
    total = np.add.reduceat(weight, starts, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        vis = np.add.reduceat(data.vis * weight, starts, axis=-1) / total
        sigma = np.where(total > 0, 1.0 / np.sqrt(total), np.inf)
    # one set of coordinates for all blocks: the mean of the times with data
    there = weight.max(axis=1)
    share = np.where(there.any(axis=-1, keepdims=True), there, 1.0)
    norm = np.add.reduceat(share, starts, axis=-1)[..., None]
    uvw = np.add.reduceat(data.uvw_m * share[..., None], starts, axis=1)
    return replace(
        data,
        time_s=np.add.reduceat(data.time_s, starts) / np.diff(edges),
        uvw_m=np.where(norm > 0, uvw / np.where(norm > 0, norm, 1.0), 0.0),
        vis=np.where(total > 0, vis, 0.0),
        sigma=sigma,
    )
