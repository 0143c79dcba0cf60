"""Bispectra, closure phases and closure amplitudes of visibilities, with their statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.closure.formation import (
    BaselineVisibilities,
    independent_quadrangles,
    independent_triangles,
    pattern_sets,
    station_quality,
    time_blocks,
)
from libs.core.errors import InputError
from libs.core.geometry import SPEED_OF_LIGHT_M_S

__all__ = [
    "Bispectra",
    "ClosureAmplitudes",
    "ClosureData",
    "ClosurePhases",
    "average_bispectra",
    "bispectra_of",
    "chord_variance",
    "closure_quantities",
]

_LOG_SNR = 4.0  # integrations above this SNR are averaged as logarithms

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@njit(cache=True, nogil=True)
def _average_baselines(vis, sigma, uvw, edges):  # pragma: no cover
    nbl, nfreq, _ = vis.shape
    nblock = len(edges) - 1
    power = np.zeros((nbl, nfreq, nblock))
    noise = np.zeros((nbl, nfreq, nblock))
    count = np.zeros((nbl, nfreq, nblock), np.int64)
    uv = np.zeros((nbl, nfreq, nblock, 2))
    log_sum = np.zeros((nbl, nfreq, nblock))
    for b in range(nbl):
        for f in range(nfreq):
            for k in range(nblock):
                weight_sum = 0.0
                for t in range(edges[k], edges[k + 1]):
                    if sigma[b, f, t] == np.inf:
                        continue
                    variance = sigma[b, f, t] ** 2
                    squared = vis[b, f, t].real ** 2 + vis[b, f, t].imag ** 2
                    power[b, f, k] += (squared - 2 * variance) / variance
                    noise[b, f, k] += 1.0
                    weight_sum += 1 / variance
                    log_sum[b, f, k] += 0.5 * np.log(max(squared, 1e-300))
                    uv[b, f, k, 0] += uvw[b, t, 0]
                    uv[b, f, k, 1] += uvw[b, t, 1]
                    count[b, f, k] += 1
                n = count[b, f, k]
                if n > 0:
                    power[b, f, k] /= weight_sum
                    noise[b, f, k] = n / weight_sum
                    uv[b, f, k, 0] /= n
                    uv[b, f, k, 1] /= n
                    log_sum[b, f, k] /= n
    return power, noise, count, uv, log_sum


@dataclass(frozen=True)
class _Blocks:
    """Averages of baselines, (nbl, nfreq, nblock); uv_m has (u, v) on its last axis."""

    power: Float  # noise bias subtracted, drawn towards the mean: >= 0
    noise: Float  # harmonic mean of sigma^2
    count: Int
    uv_m: Float
    log_amplitude: Float
    log_sigma: Float
    mean_log_sigma: Float  # the same error from the mean power of the baseline


def _baseline_blocks(data: BaselineVisibilities, edges: Int) -> _Blocks:
    """Return unbiased power and log amplitude of every baseline in every block.

    ``E[|V|^2] = A^2 + 2 sigma^2`` and, for the Rice distribution,
    ``E[ln |V|] = ln A + E1(A^2 / 2 sigma^2) / 2``: both biases are subtracted. Averaged
    logarithms contain mean log gains only, so gains drop out exactly; where a single
    integration is too noisy for a logarithm, the averaged power is used instead.
    """
    from scipy.special import exp1

    power, noise, count, uv, log_mean = _average_baselines(data.vis, data.sigma, data.uvw_m, edges)
    n = np.maximum(count, 1)
    steadied, mean = _steadied_power(power, noise, count)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Relative variance of the averaged power, (4 s^2 A^2 + 4 s^4) / (n A^4), uses the steadied
        # power: errors that fall with the datum's own noise would favour high values.
        snr2 = np.where(steadied > 0, steadied / noise, 0.0)
        relative = np.where(snr2 > 0, 4 * (snr2 + 1) / (snr2**2 * n), np.inf)
        typical = np.where(mean > 0, 4 * (mean + noise) * noise / (mean**2 * n), np.inf)
        relative = np.where(power > np.sqrt(relative) * steadied / 2, relative, np.inf)
        from_power = 0.5 * np.log(np.maximum(power, 1e-300)) + relative / 4
        from_logs = log_mean - 0.5 * exp1(np.clip(snr2, 1e-3, 1400) / 2)
    # A noiseless logarithm needs equal treatment of all baselines. A single sample is the same
    # in both forms except for the bias, so the better defined one is used whenever it is good.
    logs = snr2 > _LOG_SNR**2
    value = np.where(logs, from_logs, from_power)
    sigma = np.where(count > 0, 0.5 * np.sqrt(relative), np.inf)
    value = np.where(np.isfinite(sigma), value, 0.0)
    return _Blocks(steadied, noise, count, uv, value, sigma, 0.5 * np.sqrt(typical))


@dataclass(frozen=True)
class Bispectra:
    """Bispectra ``V_ij V_jk conj(V_ik)`` averaged over time blocks.

    Attributes
    ----------
    triangle : (ntri, 3) int64
        Stations i < j < k.
    baseline : (ntri, 3) int64
        Baselines ij, jk, ik.
    value : (ntri, nfreq, nblock) complex128
        Bispectra; 0 where there are no data.
    sigma : (ntri, nfreq, nblock) float64
        Standard deviation of each part of ``value``, all orders of the noise included; ``inf``
        where there are no data.
    expected : (ntri, nfreq, nblock) float64
        Amplitude expected from the debiased powers of the three baselines.
    fraction : (ntri, nfreq, nblock, 3) float64
        Fraction of the variance that is linear in the noise of each baseline, which triangles
        with a common baseline share.
    count : (ntri, nfreq, nblock) int64
        Number of integrations averaged.
    """

    triangle: Int
    baseline: Int
    value: NDArray[np.complex128]
    sigma: Float
    expected: Float
    fraction: Float
    count: Int

    @property
    def snr(self) -> Float:
        """Amplitude over the standard deviation of one part; about 1.25 for noise."""
        return np.abs(self.value) / self.sigma

    @property
    def concentration(self) -> Float:
        """Kappa of the von Mises distribution of each phase: SNR^2 if high, 0 for noise.

        For a measured amplitude b and a true one A the phase of b is von Mises distributed with
        ``kappa = b A / sigma^2`` (Mardia & Jupp 2000, sect. 3.5). A comes from the powers of
        the baselines, because b alone cannot tell noise from signal.
        """
        return np.abs(self.value) * self.expected / self.sigma**2


def chord_variance(concentration: Float) -> Float:
    """Return the mean of ``4 sin^2(error / 2)`` of von Mises phases: 1/kappa, or 2 for noise.

    It is 2 (1 - I1(kappa) / I0(kappa)).
    """
    from scipy.special import ive

    large = np.maximum(concentration, 1.0)
    small = np.minimum(concentration, 1e4)
    return np.where(
        concentration > 1e3, 1 / large + 0.25 / large**2, 2 * (1 - ive(1, small) / ive(0, small))
    )


@njit(cache=True, nogil=True)
def _average_bispectra(vis, sigma, power, baseline, edges):  # pragma: no cover
    ntri = len(baseline)
    nfreq = vis.shape[1]
    nblock = len(edges) - 1
    value = np.zeros((ntri, nfreq, nblock), np.complex128)
    spread = np.full((ntri, nfreq, nblock), np.inf)
    fraction = np.zeros((ntri, nfreq, nblock, 3))
    count = np.zeros((ntri, nfreq, nblock), np.int64)
    for n in range(ntri):
        x, y, z = baseline[n, 0], baseline[n, 1], baseline[n, 2]
        for f in range(nfreq):
            for k in range(nblock):
                px = max(power[x, f, k], 0.0)
                py = max(power[y, f, k], 0.0)
                pz = max(power[z, f, k], 0.0)
                total, weight_sum = 0j, 0.0
                fx, fy, fz = 0.0, 0.0, 0.0
                for t in range(edges[k], edges[k + 1]):
                    sx, sy, sz = sigma[x, f, t], sigma[y, f, t], sigma[z, f, t]
                    if sx == np.inf or sy == np.inf or sz == np.inf:
                        continue
                    sx, sy, sz = sx * sx, sy * sy, sz * sz
                    lx, ly, lz = sx * py * pz, sy * px * pz, sz * px * py
                    variance = (
                        lx + ly + lz + 2 * (sx * sy * pz + sx * sz * py + sy * sz * px)
                    ) + 4 * sx * sy * sz
                    w = 1 / variance
                    total += w * vis[x, f, t] * vis[y, f, t] * np.conj(vis[z, f, t])
                    weight_sum += w
                    fx += lx * w
                    fy += ly * w
                    fz += lz * w
                    count[n, f, k] += 1
                m = count[n, f, k]
                if m > 0:
                    value[n, f, k] = total / weight_sum
                    spread[n, f, k] = weight_sum**-0.5
                    fraction[n, f, k, 0] = fx / m
                    fraction[n, f, k, 1] = fy / m
                    fraction[n, f, k, 2] = fz / m
    return value, spread, fraction, count


def average_bispectra(data: BaselineVisibilities, triangles: Int, interval_s: float) -> Bispectra:
    """Form the bispectra of ``triangles`` at every integration and average them over blocks.

    The variance of one part of a bispectrum of noise variances s_b^2 and true amplitudes A_b is
    ``sum s1^2 A2^2 A3^2 + 2 sum s1^2 s2^2 A3^2 + 4 s1^2 s2^2 s3^2``; the mean is unbiased.

    Parameters
    ----------
    triangles : (ntri, 3) int64
        Stations in ascending order; every baseline must be in ``data``.
    interval_s : float
        Averaging time, s.

    Raises
    ------
    ValueError
        A triangle has a baseline that is not in the data.
    """
    return bispectra_of(data, interval_s)(triangles)


def bispectra_of(data: BaselineVisibilities, interval_s: float) -> Callable[[Int], Bispectra]:
    """Return `average_bispectra` for several sets of triangles; baselines are averaged once."""
    edges = time_blocks(data.time_s, interval_s)
    blocks = _baseline_blocks(data, edges)
    return lambda triangles: _bispectra(data, triangles, edges, blocks)


def _steadied_power(power: Float, noise: Float, count: Int) -> tuple[Float, Float]:
    """Return the power of each block, and the mean power of each baseline (nbl, 1, 1).

    The first is drawn towards the second where the block's own power is noise. The power of one
    block of noise is as often above zero as below; the mean over all blocks is more reliable.
    The width of the prior is the mean itself, for a visibility that varies by 100 %.
    """
    precision = count / np.where(count > 0, noise, 1.0) ** 2
    total = np.maximum(precision.sum(axis=(1, 2), keepdims=True), 1e-300)
    mean = np.maximum((power * precision).sum(axis=(1, 2), keepdims=True), 0.0) / total
    variance = 4 * noise * (mean + noise) / np.maximum(count, 1)
    share = mean**2 / np.maximum(mean**2 + variance, 1e-300)
    return np.maximum(share * power + (1 - share) * mean, 0.0), mean


def _bispectra(
    data: BaselineVisibilities, triangles: Int, edges: Int, blocks: _Blocks
) -> Bispectra:
    index = data.baseline_index()
    i, j, k = triangles.T
    baseline = np.stack([index[i, j], index[j, k], index[i, k]], axis=1)
    if np.any(baseline < 0):
        raise ValueError("a triangle has a baseline that is not in the data")
    value, sigma, fraction, count = _average_bispectra(
        data.vis, data.sigma, blocks.power, baseline, edges
    )
    amplitude = np.sqrt(blocks.power)
    expected = amplitude[baseline[:, 0]] * amplitude[baseline[:, 1]] * amplitude[baseline[:, 2]]
    return Bispectra(triangles, baseline, value, sigma, expected, fraction, count)


@dataclass(frozen=True)
class ClosurePhases:
    """An independent set of closure phases of every block, ordered by block.

    Attributes
    ----------
    block : (n,) int64
        Number of the block (time and frequency) of each closure phase.
    triangle, baseline : (n, 3) int64
        Stations i < j < k and baselines ij, jk, ik; the phase is ij + jk - ik.
    phase_rad : (n,) float64
        Closure phase, -pi to pi.
    sigma_rad : (n,) float64
        Error as root mean square of ``2 sin(error / 2)``: the usual error at high
        signal-to-noise ratio and sqrt(2) for noise.
    concentration : (n,) float64
        Kappa of the von Mises distribution. ``2 kappa (1 - cos(difference))`` is -2 ln of the
        likelihood, so kappa, not 1 / sigma^2, is the weight in a fit; noise has no weight.
    fraction : (n, 3) float64
        Fraction of the variance due to each baseline, shared with the block's other triangles.
    snr : (n,) float64
        Signal-to-noise ratio of the averaged bispectrum.
    """

    block: Int
    triangle: Int
    baseline: Int
    phase_rad: Float
    sigma_rad: Float
    concentration: Float
    fraction: Float
    snr: Float

    def __len__(self) -> int:
        return len(self.phase_rad)


@dataclass(frozen=True)
class ClosureAmplitudes:
    """An independent set of log closure amplitudes ``ln |V_ij V_kl| / |V_ik V_jl|``.

    Attributes
    ----------
    block : (n,) int64
        Number of the block (time and frequency) of each closure amplitude.
    quadrangle, baseline : (n, 4) int64
        Stations i, j, k, l and baselines ij, kl, ik, jl.
    log_amplitude, sigma : (n,) float64
        Natural logarithm, with the noise bias subtracted, and its error.
    """

    block: Int
    quadrangle: Int
    baseline: Int
    log_amplitude: Float
    sigma: Float

    def __len__(self) -> int:
        return len(self.log_amplitude)


@dataclass(frozen=True)
class ClosureData:
    """Closure quantities of one source, with what a model needs to predict them.

    Attributes
    ----------
    antenna : tuple of str
    ant1, ant2 : (nbl,) int64
    time_s, frequency_hz : (nblock,) float64
        Mean time (s) and frequency (Hz) of each block.
    uv : (nblock, nbl, 2) float64
        Baseline coordinates, wavelengths.
    log_amplitude, log_sigma : (nblock, nbl) float64
        Natural logarithm of |V| (noise bias subtracted) and its error, ``inf`` where not usable.
        With the station gains of each block marginalised these hold exactly the information of all
        log closure amplitudes with their full covariance (Blackburn et al. 2020, ApJ 894, 31).
    phases : ClosurePhases
        Independent closure phases of all blocks.
    amplitudes : ClosureAmplitudes
        Independent log closure amplitudes of all blocks.
    """

    antenna: tuple[str, ...]
    ant1: Int
    ant2: Int
    time_s: Float
    frequency_hz: Float
    uv: Float
    log_amplitude: Float
    log_sigma: Float
    phases: ClosurePhases
    amplitudes: ClosureAmplitudes


def closure_quantities(
    data: BaselineVisibilities,
    interval_s: float,
    *,
    max_log_sigma: float = 0.2,
) -> ClosureData:
    """Return closure phases and log closure amplitudes averaged over ``interval_s``.

    Parameters
    ----------
    interval_s : float
        Averaging time of the bispectra, s; short compared with changes of the source's visibility,
        not necessarily with those of the station phases.
    max_log_sigma : float
        Largest error of the logarithm of an amplitude that is used; beyond it the logarithm is
        not Gaussian.

    Raises
    ------
    InputError
        Fewer than three stations have data.
    """
    edges = time_blocks(data.time_s, interval_s)
    blocks = _baseline_blocks(data, edges)
    order = np.argsort(-station_quality(data), kind="stable")
    used = blocks.count > 0
    seen = used.any(axis=(1, 2))
    if len(np.union1d(data.ant1[seen], data.ant2[seen])) < 3:
        raise InputError("closure phases need three stations with data", "check flags and field")
    # Blocks run over frequency first, then over time.
    present = used.transpose(2, 1, 0).reshape(-1, len(data.ant1))
    triangles = pattern_sets(present, data.ant1, data.ant2, order, independent_triangles)
    phases = _gather_phases(data, edges, blocks, triangles)
    if not len(phases):
        raise InputError("no three stations have data at the same time", "check the flags")
    log_amplitude = blocks.log_amplitude.transpose(2, 1, 0).reshape(present.shape)
    log_sigma = blocks.log_sigma.transpose(2, 1, 0).reshape(present.shape)
    typical = blocks.mean_log_sigma.transpose(2, 1, 0).reshape(present.shape)
    # Choosing by a datum's own error alone would favour values that noise has made large.
    good = np.maximum(log_sigma, typical) <= max_log_sigma
    log_sigma = np.where(good, log_sigma, np.inf)
    quads = pattern_sets(
        np.isfinite(log_sigma), data.ant1, data.ant2, order, independent_quadrangles
    )
    amplitudes = _gather_amplitudes(data, quads, log_amplitude, log_sigma)
    nfreq, nblock = len(data.frequency_hz), len(edges) - 1
    frequency = np.tile(data.frequency_hz, nblock)
    middle = np.add.reduceat(data.time_s, edges[:-1]) / np.diff(edges)
    uv_m = blocks.uv_m.transpose(2, 1, 0, 3).reshape(*present.shape, 2)
    return ClosureData(
        data.antenna,
        data.ant1,
        data.ant2,
        np.repeat(middle, nfreq),
        frequency,
        uv_m * (frequency / SPEED_OF_LIGHT_M_S)[:, None, None],
        log_amplitude,
        log_sigma,
        phases,
        amplitudes,
    )


def _gather_phases(
    data: BaselineVisibilities, edges: Int, blocks: _Blocks, triangles: list[Int]
) -> ClosurePhases:
    """Average the triangles of all blocks together, then select each block's own."""
    nant = len(data.antenna)
    code = [(t[:, 0] * nant + t[:, 1]) * nant + t[:, 2] for t in triangles]
    block = np.repeat(np.arange(len(code)), [len(c) for c in code])
    union, which = np.unique(np.concatenate(code), return_inverse=True)
    every = np.stack([union // nant**2, union // nant % nant, union % nant], axis=1)
    averaged = _bispectra(data, every, edges, blocks)
    nfreq = len(data.frequency_hz)
    cell = (which, block % nfreq, block // nfreq)
    keep = averaged.count[cell] > 0
    cell = (cell[0][keep], cell[1][keep], cell[2][keep])
    return ClosurePhases(
        block[keep],
        every[cell[0]],
        averaged.baseline[cell[0]],
        np.angle(averaged.value[cell]),
        np.sqrt(chord_variance(averaged.concentration[cell])),
        averaged.concentration[cell],
        averaged.fraction[cell],
        averaged.snr[cell],
    )


def _gather_amplitudes(
    data: BaselineVisibilities, quads: list[Int], log_amplitude: Float, log_sigma: Float
) -> ClosureAmplitudes:
    """Return the log closure amplitudes of each block's quadrangles."""
    block = np.repeat(np.arange(len(quads)), [len(q) for q in quads])
    quad = np.concatenate(quads)
    index = data.baseline_index()
    i, j, k, m = quad.T
    baseline = np.stack([index[i, j], index[k, m], index[i, k], index[j, m]], axis=1)
    logs = log_amplitude[block[:, None], baseline]
    sigma = np.sqrt((log_sigma[block[:, None], baseline] ** 2).sum(axis=1))
    value = logs[:, 0] + logs[:, 1] - logs[:, 2] - logs[:, 3]
    return ClosureAmplitudes(block, quad, baseline, value, sigma)
