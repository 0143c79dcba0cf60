"""Compiled inner loops of the gain solver: sums over visibilities, the solve, the application.

Everything here works on plain arrays; libs.gains.normal_equations, libs.gains.native and
libs.gains.apply say what they mean. Compiled code is cached on disk, so that only the first run
ever waits for it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

__all__ = [
    "accumulate_rows",
    "condition_sums",
    "keep_antennas",
    "solve_kernel",
    "solve_one",
]

PHASE, AMPLITUDE, BOTH = 0, 1, 2
INFINITE_SNR = 9999999.0  # what gaincal writes where the residual is exactly zero


@njit(cache=True, inline="always")
def baseline_index(p: int, q: int, nant: int) -> int:
    """Index of the pair p < q in the order of numpy.triu_indices(nant, 1)."""
    return p * (2 * nant - p - 1) // 2 + q - p - 1


@njit(cache=True, inline="always")
def _sample_weight(value: float, is_sigma: bool) -> float:
    """Weight of a sample from its SIGMA or WEIGHT; 0 for what cannot be used."""
    if not (value > 0.0 and value < math.inf):
        return 0.0
    return 1.0 / (value * value) if is_sigma else value


@njit(cache=True, inline="always")
def _any_flag(flags):
    """Whether one correlation of a sample is flagged."""
    found = False
    for each in flags:
        found |= each
    return found


@njit(cache=True, inline="always")
def _corrected(v, w, gains, gains_ok, time, chan, a, b, pol):
    """Return a visibility divided by its gains and its weight then; 0 where it has none."""
    chan = chan if gains.shape[1] > 1 else 0
    pol = pol if gains.shape[3] > 1 else 0
    if not (gains_ok[time, chan, a, pol] and gains_ok[time, chan, b, pol]):
        return v, 0.0
    g = gains[time, chan, a, pol] * gains[time, chan, b, pol].conjugate()
    power = g.real * g.real + g.imag * g.imag
    if power == 0.0:
        return v, 0.0
    return v / g, w * power


@njit(cache=True, inline="always")
def _store(
    vis_sum, weight_sum, time_sum, slot, block, baseline, pol, thread, total, power, time_s
):  # fmt: skip
    """Add the sums of a block of channels of one row."""
    vis_sum[slot, block, baseline, pol] += total
    weight_sum[slot, block, baseline, pol] += power
    time_sum[thread, slot, block, 0] += power * time_s
    time_sum[thread, slot, block, 1] += power


@njit(cache=True, parallel=True, nogil=True)
def accumulate_rows(
    data, model, flag, flag_row, weight, is_sigma, ant1, ant2, interval, time, channel_block,
    hands, gains, gains_ok, gain_row, nant, corr_dep_flags, threads,
    vis_sum, weight_sum, time_sum,
):  # fmt: skip
    """Add data conj(model) and |model|^2, both weighted, of a block of rows to the sums.

    Each thread takes its own baselines, so that no two threads write to one place. The arrays
    are those of `libs.gains.normal_equations.NormalEquations` and of one block of rows of the
    data; ``gains`` (ntime, nchan or 1, nant, npol) are applied to the data first, `gain_row` being
    the time index of each row, empty when there are none. ``time_sum`` is (threads, ninterval,
    nblock, 2): sums of weight x time and of weight.
    """
    nrow, nchan, _ = data.shape
    with_gains = gain_row.size > 0
    weight_chans = weight.shape[1]
    npol = hands.size
    for thread in prange(threads):
        for row in range(nrow):
            slot = interval[row]
            p, q = ant1[row], ant2[row]
            if slot < 0 or p == q or flag_row[row]:
                continue
            swap = p > q
            if swap:
                p, q = q, p
            baseline = baseline_index(p, q, nant)
            if baseline % threads != thread:
                continue
            sign, stamp = -1.0 if swap else 1.0, time[row]
            for pol in range(npol):
                corr = hands[pol]
                own = _sample_weight(weight[row, 0, corr], is_sigma)
                # Sums of neighbouring channels are kept here and stored once a block.
                real, imag, power_sum, block = 0.0, 0.0, 0.0, -1
                for chan in range(nchan):
                    if channel_block[chan] != block:
                        if power_sum > 0.0:
                            _store(
                                vis_sum, weight_sum, time_sum, slot, block, baseline, pol, thread,
                                complex(real, sign * imag), power_sum, stamp,
                            )  # fmt: skip
                        real, imag, power_sum, block = 0.0, 0.0, 0.0, channel_block[chan]
                    if block < 0 or flag[row, chan, corr]:
                        continue
                    if not corr_dep_flags and _any_flag(flag[row, chan]):
                        continue
                    w = own
                    if weight_chans > 1:
                        w = _sample_weight(weight[row, chan, corr], is_sigma)
                    if w == 0.0:
                        continue
                    v = complex(data[row, chan, corr])
                    m = complex(model[row, chan, corr])
                    if with_gains:
                        v, w = _corrected(
                            v, w, gains, gains_ok, gain_row[row], chan, ant1[row], ant2[row], pol
                        )
                    m2 = w * (m.real * m.real + m.imag * m.imag)
                    product_real = w * (v.real * m.real + v.imag * m.imag)
                    product_imag = w * (v.imag * m.real - v.real * m.imag)
                    finite = math.isfinite(product_real) and math.isfinite(product_imag)
                    if not (finite and 0.0 < m2 < math.inf):
                        continue
                    real += product_real
                    imag += product_imag
                    power_sum += m2
                if power_sum > 0.0:
                    _store(
                        vis_sum, weight_sum, time_sum, slot, block, baseline, pol, thread,
                        complex(real, sign * imag), power_sum, stamp,
                    )  # fmt: skip


@njit(cache=True)
def keep_antennas(links, minimum):
    """Antennas that keep at least ``minimum`` baselines after dropping those that do not."""
    nant = links.shape[0]
    alive = np.zeros(nant, np.bool_)
    count = np.zeros(nant, np.int64)
    for p in range(nant):
        for q in range(nant):
            count[p] += links[p, q]
        alive[p] = count[p] > 0
    changed = True
    while changed:
        changed = False
        for p in range(nant):
            if alive[p] and count[p] < minimum:
                alive[p] = False
                changed = True
                for q in range(nant):
                    if links[p, q]:
                        links[p, q] = links[q, p] = False
                        count[q] -= 1
                count[p] = 0
    return alive


@njit(cache=True)
def _stefcal(vis, wgt, alive, gain, max_iterations, tolerance):
    """Alternating direction solve of vis[p, q] = wgt[p, q] g_p conj(g_q), in place.

    Every second iterate is averaged with the one before (Salvini & Wijnholds 2014, A&A 571,
    A97, algorithm 1). Returns whether it converged.
    """
    nant = gain.size
    previous = gain.copy()
    for iteration in range(1, max_iterations + 1):
        for p in range(nant):
            previous[p] = gain[p]
        for p in range(nant):
            if not alive[p]:
                continue
            top = 0.0 + 0.0j
            bottom = 0.0
            for q in range(nant):
                g = previous[q]
                top += vis[p, q] * g
                bottom += wgt[p, q] * (g.real * g.real + g.imag * g.imag)
            if bottom > 0.0:
                gain[p] = top / bottom
        if iteration % 2:
            continue
        change = size = 0.0
        for p in range(nant):
            if alive[p]:
                gain[p] = 0.5 * (gain[p] + previous[p])
                d = gain[p] - previous[p]
                change += d.real * d.real + d.imag * d.imag
                size += gain[p].real * gain[p].real + gain[p].imag * gain[p].imag
        if change <= tolerance * tolerance * size:
            return True
    return False


@njit(cache=True)
def _guess(vis, wgt, alive, guess_order, gain):
    """Start from the baselines of one antenna, the first of the order that has any.

    Amplitudes start at the root of the mean, as a gain is half of a visibility.
    """
    nant = gain.size
    centre = -1
    for p in guess_order:
        if alive[p]:
            centre = p
            break
    if centre < 0:
        return
    total, count = 0.0, 0
    for q in range(nant):
        gain[q] = 0.0
        if q != centre and wgt[q, centre] > 0.0:
            gain[q] = vis[q, centre] / wgt[q, centre]
            total += abs(gain[q])
            count += 1
    scale = math.sqrt(total / count) if count and total > 0.0 else 1.0
    for q in range(nant):
        size = abs(gain[q])
        gain[q] = gain[q] / scale if size > 0.0 else scale
    gain[centre] = scale


@njit(cache=True)
def condition_sums(vis, wgt, mode, out_vis, out_wgt):
    """Turn the sums of one interval into averaged data of the wanted kind.

    The averaged visibility is vis / wgt. Phase-only keeps its phase and moves its squared
    amplitude into the weight, amplitude-only keeps its amplitude, as gaincal does.
    """
    nblock, nbl, npol = vis.shape
    for block in range(nblock):
        for b in range(nbl):
            for pol in range(npol):
                w = wgt[block, b, pol]
                v = vis[block, b, pol]
                size = abs(v)
                if not w > 0.0:
                    out_vis[block, b, pol] = 0.0
                    out_wgt[block, b, pol] = 0.0
                elif mode == PHASE:
                    out_wgt[block, b, pol] = size * size / w
                    out_vis[block, b, pol] = v / size if size > 0.0 else 0.0
                elif mode == AMPLITUDE:
                    out_wgt[block, b, pol] = w
                    out_vis[block, b, pol] = size / w
                else:
                    out_wgt[block, b, pol] = w
                    out_vis[block, b, pol] = v / w


@njit(cache=True)
def _collect(v, w, factor, alive, first, second, pol, both, vis, wgt):
    """Dense (nant, nant) sums of one solve, over its groups and, if ``both``, polarizations."""
    vis[:] = 0.0
    wgt[:] = 0.0
    nblock, nbl, npol = v.shape
    for block in range(nblock):
        for b in range(nbl):
            p, q = first[b], second[b]
            if not (alive[p] and alive[q]):
                continue
            for k in range(npol):
                if not both and k != pol:
                    continue
                weight = w[block, b, k] * factor[block, b, k]
                if weight > 0.0:
                    product = weight * v[block, b, k]
                    vis[p, q] += product
                    vis[q, p] += product.conjugate()
                    wgt[p, q] += weight
                    wgt[q, p] += weight


@njit(cache=True)
def _limit(vis, wgt):
    """Let what is over three times as strong as the median count little, in outlier weights.

    Residuals say nothing before there are gains, and from a start that wild data have misled
    Student-t weights do not find back. ``vis`` and ``wgt`` are sums, as
    `condition_sums` takes them.
    """
    sums, weights = vis.ravel(), wgt.ravel()
    present = weights > 0.0
    if not present.any():
        return
    most = 3.0 * np.median(np.abs(sums[present]) / weights[present])
    for block in range(vis.shape[0]):
        for b in range(vis.shape[1]):
            for k in range(vis.shape[2]):
                weight = wgt[block, b, k]
                if weight > 0.0 and abs(vis[block, b, k]) > most * weight > 0.0:
                    less = (most * weight / abs(vis[block, b, k])) ** 4
                    vis[block, b, k] *= less
                    wgt[block, b, k] *= less


@njit(cache=True)
def _reweigh(v, w, alive, first, second, gain, scalar, freedom, factor):
    """Student-t weights (EM) of the averaged visibilities from their residuals."""
    nblock, nbl, npol = v.shape
    residual = np.empty(v.size)
    count = 0
    for block in range(nblock):
        for b in range(nbl):
            p, q = first[b], second[b]
            for k in range(npol):
                if alive[p] and alive[q] and w[block, b, k] > 0.0:
                    k_gain = 0 if scalar else k
                    d = v[block, b, k] - gain[p, k_gain] * gain[q, k_gain].conjugate()
                    residual[count] = w[block, b, k] * (d.real * d.real + d.imag * d.imag)
                    count += 1
    if count == 0:
        return
    # |r|^2 of a complex Gaussian is exponential: its median is ln 2 times its mean.
    mean = np.median(residual[:count]) / math.log(2.0)
    if mean <= 0.0:
        return
    count = 0
    for block in range(nblock):
        for b in range(nbl):
            p, q = first[b], second[b]
            for k in range(npol):
                if alive[p] and alive[q] and w[block, b, k] > 0.0:
                    factor[block, b, k] = (freedom + 2.0) / (freedom + 2.0 * residual[count] / mean)
                    count += 1


@njit(cache=True)
def _signal_to_noise(v, w, factor, alive, first, second, gain, scalar, solved, snr):
    """SNR |g| / err with err^2 = 2 chi2 / (dof hessian), the definition gaincal uses.

    chi2 is the sum of weight |V - g_p conj(g_q)|^2 over the averaged visibilities of the solve
    (both polarizations), dof = 2 (visibilities - gains), at least 1, and the hessian of antenna
    p the sum of weight |g_q|^2.
    """
    nblock, nbl, npol = v.shape
    nant, ngain = gain.shape
    hessian = np.zeros((nant, ngain))
    chi2, samples = 0.0, 0
    for block in range(nblock):
        for b in range(nbl):
            p, q = first[b], second[b]
            if not (alive[p] and alive[q]):
                continue
            for k in range(npol):
                weight = w[block, b, k] * factor[block, b, k]
                if not weight > 0.0:
                    continue
                k_gain = 0 if scalar else k
                gp, gq = gain[p, k_gain], gain[q, k_gain]
                d = v[block, b, k] - gp * gq.conjugate()
                chi2 += weight * (d.real * d.real + d.imag * d.imag)
                samples += 1
                hessian[p, k_gain] += weight * (gq.real * gq.real + gq.imag * gq.imag)
                hessian[q, k_gain] += weight * (gp.real * gp.real + gp.imag * gp.imag)
    unknowns = 0
    for p in range(nant):
        for k in range(ngain):
            solved[p, k] = solved[p, k] and hessian[p, k] > 0.0
            unknowns += solved[p, k]
    scale = chi2 / max(2 * (samples - unknowns), 1)
    for p in range(nant):
        for k in range(ngain):
            if not solved[p, k]:
                snr[p, k] = 0.0
            elif scale > 0.0:
                snr[p, k] = abs(gain[p, k]) * math.sqrt(hessian[p, k] / (2.0 * scale))
            else:
                snr[p, k] = INFINITE_SNR
    return chi2, samples


@njit(cache=True)
def solve_one(
    v, w, first, second, guess_order, scalar, minimum, freedom, max_iterations, tolerance,
    gain, solved, snr,
):  # fmt: skip
    """One solve on averaged visibilities; returns (chi2, samples, converged)."""
    nblock, nbl, npol = v.shape
    nant, ngain = gain.shape
    links = np.zeros((nant, nant), np.bool_)
    for block in range(nblock):
        for b in range(nbl):
            for k in range(npol):
                if w[block, b, k] > 0.0:
                    links[first[b], second[b]] = links[second[b], first[b]] = True
    alive = keep_antennas(links, minimum)
    factor = np.ones(v.shape)
    vis = np.empty((nant, nant), np.complex128)
    wgt = np.empty((nant, nant))
    column = np.empty(nant, np.complex128)
    converged = True
    for sweep in range(1 if freedom <= 0.0 else 8):
        converged = True
        for k in range(ngain):
            _collect(v, w, factor, alive, first, second, k, scalar, vis, wgt)
            if sweep == 0:
                _guess(vis, wgt, alive, guess_order, column)
            else:
                column[:] = gain[:, k]
            converged &= _stefcal(vis, wgt, alive, column, max_iterations, tolerance)
            for p in range(nant):
                gain[p, k] = column[p] if alive[p] else 1.0
                solved[p, k] = alive[p]
        if freedom > 0.0:
            _reweigh(v, w, alive, first, second, gain, scalar, freedom, factor)
    chi2, samples = _signal_to_noise(v, w, factor, alive, first, second, gain, scalar, solved, snr)
    return chi2, samples, converged


@njit(cache=True, parallel=True, nogil=True)
def solve_kernel(
    vis, wgt, mask, first, second, guess_order, mode, scalar, combine_blocks, minimum, freedom,
    max_iterations, tolerance, gain, solved, snr, chi2, samples, converged,
):  # fmt: skip
    """Solve every interval and block; see `libs.gains.native.solve_gains`.

    ``vis``, ``wgt`` are (ntime, nblock, nbl, npol), ``mask`` (nbl,) the baselines that take part.
    """
    ntime, nblock, nbl, npol = vis.shape
    out_blocks = gain.shape[1]
    for unit in prange(ntime * out_blocks):
        t, f = unit // out_blocks, unit % out_blocks
        low, high = (0, nblock) if combine_blocks else (f, f + 1)
        v = np.empty((high - low, nbl, npol), np.complex128)
        w = np.empty((high - low, nbl, npol))
        summed, weight = vis[t, low:high], wgt[t, low:high]
        if freedom > 0.0:
            summed, weight = summed.copy(), weight.copy()
            _limit(summed, weight)
        condition_sums(summed, weight, mode, v, w)
        for b in range(nbl):
            if not mask[b]:
                w[:, b, :] = 0.0
        c, n, good = solve_one(
            v, w, first, second, guess_order, scalar, minimum, freedom, max_iterations,
            tolerance, gain[t, f], solved[t, f], snr[t, f],
        )  # fmt: skip
        chi2[t, f] = c
        samples[t, f] = n
        converged[t, f] = good
