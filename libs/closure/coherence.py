"""Significance of closure phases above noise, for each station and by baseline length.

Consecutive samples of a closure phase agree when there is signal, whatever the phase is. Noise
gives independent uniform phases; the differences of consecutive samples are then independent and
uniform too. So the null distribution of their weighted mean cosine follows from the weights
alone, for any number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities, station_quality, time_blocks
from libs.closure.statistics import Bispectra, bispectra_of

__all__ = [
    "BaselineCoherence",
    "StationCoherence",
    "baseline_coherence",
    "select_triangles",
    "station_coherence",
]

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_SNR_CAP = 4.0  # better samples have the same weight, so that no single one decides
_ALL_TRIANGLES = 20  # arrays up to this size use every triangle
_NO_SKEW = 1e-5
_GROUP_BYTES, _BYTES_PER_BISPECTRUM = 64 * 1024**2, 160
_GAP = 5.0  # blocks further apart than this many intervals are not neighbours


def _tail(sum_cos: float, second: float, third: float) -> float:
    """Return P(sum >= sum_cos) for mean 0, variance ``second`` and third cumulant ``third``.

    Pearson's type III, a shifted gamma distribution of shape 4 / skew^2, has these cumulants;
    it is the normal distribution for third = 0.
    """
    from scipy.special import gammainc, gammaincc, ndtr

    if second <= 0:
        return 1.0
    skew, value = third / second**1.5, sum_cos / np.sqrt(second)
    if abs(skew) < _NO_SKEW:
        return float(ndtr(-value))
    shape = 4 / skew**2
    tail = gammaincc if skew > 0 else gammainc
    return float(tail(shape, max(shape + 2 * value / skew, 0.0)))


def _limit(false_alarm: float, second: float, third: float) -> float:
    """Return the sum that noise exceeds with the probability ``false_alarm``."""
    from scipy.special import gammainccinv, gammaincinv, ndtri

    if second <= 0:
        return np.inf
    skew = third / second**1.5
    if abs(skew) < _NO_SKEW:
        return float(-ndtri(false_alarm) * np.sqrt(second))
    shape = 4 / skew**2
    inverse = gammainccinv if skew > 0 else gammaincinv
    return float((inverse(shape, false_alarm) - shape) * skew / 2 * np.sqrt(second))


def select_triangles(data: BaselineVisibilities, per_baseline: int = 10) -> Int:
    """Return the triangles for the statistics: all in a small array, else some for each baseline.

    In arrays of more than 20 stations each baseline is closed by the ``per_baseline`` stations
    with the highest signal-to-noise ratio, so the number grows as N^2 and not as N^3.

    Returns
    -------
    (n, 3) int64, stations ascending.
    """
    index = data.baseline_index()
    valid = np.asarray(np.isfinite(data.sigma).any(axis=(1, 2)))
    present: NDArray[np.bool_] = np.where(index >= 0, valid[index], False)
    stations = np.flatnonzero(present.any(axis=1))
    if len(stations) <= _ALL_TRIANGLES:
        every = [
            (i, j, k)
            for i, j, k in combinations(stations.tolist(), 3)
            if present[i, j] and present[j, k] and present[i, k]
        ]
        return np.array(every, np.int64).reshape(-1, 3)
    order = np.argsort(-station_quality(data), kind="stable")
    chosen: set[tuple[int, ...]] = set()
    for i, j in zip(data.ant1[valid].tolist(), data.ant2[valid].tolist(), strict=True):
        third = [int(r) for r in order if present[i, r] and present[j, r]][:per_baseline]
        chosen.update(tuple(sorted((i, j, r))) for r in third)
    return np.array(sorted(chosen), np.int64).reshape(-1, 3)


def _neighbour_products(
    bispectra: Bispectra, time_s: Float, interval_s: float
) -> NDArray[np.complex128]:
    """Return (ntri, nproduct) phasors of differences between neighbours in time and frequency."""
    with np.errstate(invalid="ignore"):
        snr = np.where(np.isfinite(bispectra.sigma), bispectra.snr, 0.0)
    phasor = np.exp(1j * np.angle(bispectra.value)) * np.minimum(snr, _SNR_CAP)
    near = np.diff(time_s) <= _GAP * max(interval_s, np.diff(time_s).min(initial=np.inf))
    in_time = phasor[:, :, 1:] * np.conj(phasor[:, :, :-1])
    in_time = in_time[:, :, near]
    in_frequency = phasor[:, 1:] * np.conj(phasor[:, :-1])
    return np.concatenate(
        [part.reshape(len(phasor), -1) for part in (in_time, in_frequency)], axis=1
    )


def _block_times(data: BaselineVisibilities, interval_s: float) -> Float:
    edges = time_blocks(data.time_s, interval_s)
    return np.asarray(np.add.reduceat(data.time_s, edges[:-1]) / np.diff(edges))


@dataclass(frozen=True)
class StationCoherence:
    """Closure statistic of every station.

    Attributes
    ----------
    antenna : tuple of str
    coherence : (nant,) float64
        Signal-to-noise weighted mean cosine between neighbouring closure phases of all
        triangles of the station: about 0 for noise, towards 1 with signal.
    threshold : (nant,) float64
        Value that noise exceeds with the probability ``false_alarm``. It falls with the number of
        samples, and is ``inf`` without data.
    p_value : (nant,) float64
        Probability that noise gives at least this coherence.
    n_samples : (nant,) int64
        Number of differences of closure phases that were used.
    coherent : (nant,) bool
        True where the coherence exceeds the threshold.
    false_alarm : float
        False-alarm probability of each station.
    """

    antenna: tuple[str, ...]
    coherence: Float
    threshold: Float
    p_value: Float
    n_samples: Int
    coherent: NDArray[np.bool_]
    false_alarm: float


def _third_cumulant(weight: Float, partners: Int, products: int, averaged: float) -> float:
    """Return the third cumulant of a station's sum, which makes its null distribution skewed.

    When a station sees noise on all its baselines, its closure phases are differences of
    independent uniform phases x_p - x_q. They are uncorrelated, but for three partners
    E[cos cos cos] = 1/4. Averaging n integrations makes them independent as 1/n.

    Parameters
    ----------
    weight : (ntri, npicked)
        Weights of the station's triangles, of some products spread over all.
    partners : (ntri, 2)
        Their other two stations.
    products : int
        Number of all products.
    averaged : float
        Mean number of integrations averaged.
    """
    stations, local = np.unique(partners, return_inverse=True)
    local = local.reshape(partners.shape)
    total = 0.0
    for column in weight.T:
        matrix = np.zeros((len(stations), len(stations)))
        matrix[local[:, 0], local[:, 1]] = column
        matrix += matrix.T
        total += float(np.einsum("ij,ji->", matrix @ matrix, matrix))
    return total / 4 * products / max(weight.shape[1], 1) / max(averaged, 1.0)


@dataclass(frozen=True)
class _TriangleSums:
    """Sums over each triangle's products of neighbouring closure phases, (ntri,) each."""

    summed: Float  # real parts
    total: Float  # weights
    square: Float  # squared weights
    count: Int  # products with a weight
    picked: Float  # (ntri, npicked) weights of some products
    products: int  # of each triangle
    averaged: float  # mean number of integrations in a bispectrum


def _triangle_sums(data: BaselineVisibilities, triangles: Int, interval_s: float) -> _TriangleSums:
    """Sum the products, some triangles at a time, because all may not fit in memory."""
    time_s = _block_times(data, interval_s)
    parts: list[list[Float]] = []
    products, integrations, cells = 0, 0, 0
    average = bispectra_of(data, interval_s)
    for group in np.array_split(triangles, _groups(data, len(triangles), len(time_s))):
        bispectra = average(group)
        product = _neighbour_products(bispectra, time_s, interval_s)
        weight, products = np.abs(product), product.shape[1]
        picked = np.unique(np.linspace(0, products - 1, 24).astype(int))[: 24 * min(products, 1)]
        parts.append(
            [product.real.sum(axis=1), weight.sum(axis=1), (weight**2).sum(axis=1),
             (weight > 0).sum(axis=1), weight[:, picked]]
        )  # fmt: skip
        integrations += int(bispectra.count.sum())
        cells += int((bispectra.count > 0).sum())
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    summed, total, square, count, some = columns
    return _TriangleSums(
        summed, total, square, count.astype(np.int64), some, products, integrations / max(cells, 1)
    )


def _groups(data: BaselineVisibilities, triangles: int, blocks: int) -> int:
    """Return the number of groups of triangles whose bispectra each fit in memory."""
    each = len(data.frequency_hz) * max(blocks, 1) * _BYTES_PER_BISPECTRUM
    return max(1, -(-triangles * each // _GROUP_BYTES))


def station_coherence(
    data: BaselineVisibilities,
    interval_s: float,
    *,
    false_alarm: float = 0.01,
    triangles: Int | None = None,
) -> StationCoherence:
    """Return the closure statistic of every station from triangles averaged over ``interval_s``.

    Parameters
    ----------
    interval_s : float
        Averaging time of the bispectra, s.
    false_alarm : float
        Probability that a station that receives only noise is called coherent.
    triangles : (n, 3) int64, optional
        Triangles to use; default `select_triangles`.
    """
    triangles = select_triangles(data) if triangles is None else triangles
    nant = len(data.antenna)
    coherence, p_value = np.zeros(nant), np.ones(nant)
    threshold, count = np.full(nant, np.inf), np.zeros(nant, np.int64)
    sums = _triangle_sums(data, triangles, interval_s) if len(triangles) else None
    for a in range(nant if sums else 0):
        assert sums is not None
        own = np.flatnonzero((triangles == a).any(axis=1))
        total = float(sums.total[own].sum())
        if total == 0:
            continue
        partners = triangles[own][triangles[own] != a].reshape(-1, 2)
        second = float(sums.square[own].sum()) / 2
        third = _third_cumulant(sums.picked[own], partners, sums.products, sums.averaged)
        summed = float(sums.summed[own].sum())
        coherence[a], count[a] = summed / total, int(sums.count[own].sum())
        p_value[a] = _tail(summed, second, third)
        threshold[a] = _limit(false_alarm, second, third) / total
    return StationCoherence(
        data.antenna, coherence, threshold, p_value, count, p_value <= false_alarm, false_alarm
    )


@dataclass(frozen=True)
class BaselineCoherence:
    """Coherence of closure phases by the longest baseline of their triangles.

    Attributes
    ----------
    shortest_m, longest_m : (nbin,) float64
        Baseline lengths of each bin, m, ascending.
    coherence, threshold, p_value : (nbin,) float64
        As in `StationCoherence`; the threshold allows for the number of bins.
    coherent : (nbin,) bool
        True where the coherence exceeds the threshold.
    baseline_length_m, baseline_coherence, baseline_p_value : (nbl,) float64
        Lengths, coherences and p-values of single baselines, in the order of the data; NaN where
        a baseline is not the longest one of any triangle.
    max_coherent_m : float
        Length of the longest baseline at which closure phases exceed noise, m; 0 if none does.
    false_alarm : float
        Probability that noise makes any bin coherent.
    """

    shortest_m: Float
    longest_m: Float
    coherence: Float
    threshold: Float
    p_value: Float
    coherent: NDArray[np.bool_]
    baseline_length_m: Float
    baseline_coherence: Float
    baseline_p_value: Float
    max_coherent_m: float
    false_alarm: float


def baseline_coherence(
    data: BaselineVisibilities,
    interval_s: float,
    *,
    false_alarm: float = 0.01,
    max_bins: int = 12,
    triangles: Int | None = None,
) -> BaselineCoherence:
    """Return the coherence by baseline length, and the maximum coherent baseline.

    Each triangle counts for its longest baseline, which loses the source first. The triangles
    of one baseline are summed before the test, because they all carry the noise of that baseline
    when it has no signal.

    Parameters
    ----------
    interval_s, false_alarm, triangles
        As in `station_coherence`; ``false_alarm`` is for all bins together.
    max_bins : int
        Most bins of baseline length; each has about equally many baselines, at least two.
    """
    triangles = select_triangles(data) if triangles is None else triangles
    length = data.length_m
    summed, second, weights = _by_longest_baseline(data, triangles, interval_s)
    coherence, p_value = np.full(len(length), np.nan), np.full(len(length), np.nan)
    used = np.flatnonzero(weights > 0)
    for b in used:
        coherence[b], p_value[b] = summed[b] / weights[b], _tail(summed[b], second[b], 0.0)
    order = used[np.argsort(length[used])]
    count = max(min(max_bins, len(order) // 2), 1)
    bins = [members for members in np.array_split(order, count) if len(members)]
    each = false_alarm / count
    sums = np.array([[v[m].sum() for v in (summed, second, weights)] for m in bins])
    totals, halves, weight = sums.reshape(-1, 3).T
    p_bin = np.array([_tail(t, h, 0.0) for t, h in zip(totals, halves, strict=True)])
    return BaselineCoherence(
        np.array([length[m[0]] for m in bins]),
        np.array([length[m[-1]] for m in bins]),
        totals / weight,
        np.array([_limit(each, h, 0.0) for h in halves]) / weight,
        p_bin,
        p_bin <= each,
        length,
        coherence,
        p_value,
        _longest_coherent(bins, p_bin <= each, length, p_value),
        false_alarm,
    )


def _by_longest_baseline(
    data: BaselineVisibilities, triangles: Int, interval_s: float
) -> tuple[Float, Float, Float]:
    """Return for each baseline the sum, variance under noise and total weight of the cosines."""
    nbl, length = len(data.ant1), data.length_m
    if not len(triangles):
        return np.zeros(nbl), np.zeros(nbl), np.zeros(nbl)
    index, time_s = data.baseline_index(), _block_times(data, interval_s)
    i, j, k = triangles.T
    baseline = np.stack([index[i, j], index[j, k], index[i, k]], axis=1)
    longest = baseline[np.arange(len(triangles)), length[baseline].argmax(axis=1)]
    summed, second, weights = np.zeros(nbl), np.zeros(nbl), np.zeros(nbl)
    average = bispectra_of(data, interval_s)
    # whole baselines at a time, because their triangles are summed before they are squared
    groups = _groups(data, len(triangles), len(time_s))
    for members in np.array_split(np.unique(longest), groups):
        own = np.flatnonzero(np.isin(longest, members))
        if not len(own):
            continue
        bispectra = average(triangles[own])
        product = _neighbour_products(bispectra, time_s, interval_s)
        place = np.searchsorted(members, longest[own])
        combined = np.zeros((len(members), product.shape[1]), complex)
        np.add.at(combined, place, product)
        summed[members] = combined.real.sum(axis=1)
        second[members] = (np.abs(combined) ** 2).sum(axis=1) / 2
        np.add.at(weights, longest[own], np.abs(product).sum(axis=1))
    return summed, second, weights


def _longest_coherent(
    bins: list[Int], coherent: NDArray[np.bool_], length: Float, p_value: Float
) -> float:
    """Return the longest baseline of the last coherent bin that itself exceeds the noise."""
    if not coherent.any():
        return 0.0
    members = bins[int(np.flatnonzero(coherent)[-1])]
    above = members[p_value[members] < 0.05]
    return float(length[above].max() if len(above) else length[members[0]])
