"""Compiled inner loops of the TEC solve: a search over a grid, then Newton steps.

Everything here works on plain arrays; libs.gains.tec says what they mean. The phase of an antenna
is slope[block] * y + phi, with y the TEC in units chosen by the caller.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from libs.gains.kernels import INFINITE_SNR, keep_antennas

__all__ = ["tec_kernel"]

MAX_SWEEPS = 4


@njit(cache=True)
def _collapse(vis, wgt, mask, first, second, nant, dense, weight):
    """Dense (nant, nant, nblock, ngain) sums S and weights; polarizations added for ngain 1."""
    nblock, nbl, npol = vis.shape
    ngain = dense.shape[3]
    dense[:] = 0.0
    weight[:] = 0.0
    for b in range(nbl):
        if not mask[b]:
            continue
        p, q = first[b], second[b]
        for block in range(nblock):
            for k in range(npol):
                w = wgt[block, b, k]
                if not w > 0.0:
                    continue
                g = k if ngain > 1 else 0
                dense[p, q, block, g] += vis[block, b, k]
                dense[q, p, block, g] += vis[block, b, k].conjugate()
                weight[p, q, block, g] += w
                weight[q, p, block, g] += w


@njit(cache=True)
def _on_grid(total, cosine, sine, with_phase, work):
    """How well an antenna fits the others at each point of the grid; see `_best_on_grid`.

    ``work`` (3, ngrid) receives it in its first row. Loops run along the grid, where no sum
    waits for another.
    """
    nblock, ngrid = cosine.shape
    value, re, im = work[0], work[1], work[2]
    value[:] = 0.0
    for k in range(total.shape[1]):
        re[:] = 0.0
        im[:] = 0.0
        for block in range(nblock):
            x, y = total[block, k].real, total[block, k].imag
            if with_phase:
                for g in range(ngrid):
                    re[g] += x * cosine[block, g] + y * sine[block, g]
                    im[g] += y * cosine[block, g] - x * sine[block, g]
            else:
                for g in range(ngrid):
                    re[g] += x * cosine[block, g] + y * sine[block, g]
        if with_phase:
            for g in range(ngrid):
                value[g] += math.sqrt(re[g] * re[g] + im[g] * im[g])
        else:
            for g in range(ngrid):
                value[g] += re[g]


@njit(cache=True)
def _best_on_grid(total, cosine, sine, slope, grid, with_phase, work, phi):
    """Where an antenna fits the others best; its phases there go to ``phi``.

    ``total`` (nblock, ngain) is the sum over the others of S exp(i theta_q), ``cosine`` and
    ``sine`` (nblock, ngrid) are those of slope y. Parabolas through the maxima of the grid tell
    apart those that the grid's step would mix up.
    """
    _on_grid(total, cosine, sine, with_phase, work)
    value = work[0]
    best, y = -math.inf, grid[0]
    for g in range(grid.size):
        left, right = value[max(g - 1, 0)], value[min(g + 1, grid.size - 1)]
        if value[g] < left or value[g] < right:
            continue
        top, place = value[g], grid[g]
        bend = left - 2.0 * value[g] + right
        if 0 < g < grid.size - 1 and bend < 0.0:
            top -= (left - right) ** 2 / (8.0 * bend)
            place += 0.5 * (left - right) / bend * (grid[1] - grid[0])
        if top > best:
            best, y = top, place
    for k in range(total.shape[1]):
        phi[k] = 0.0
        if with_phase:
            rest = 0.0 + 0.0j
            for block in range(slope.size):
                angle = -slope[block] * y
                rest += total[block, k] * complex(math.cos(angle), math.sin(angle))
            phi[k] = math.atan2(rest.imag, rest.real)
    return y


@njit(cache=True)
def _phasor(slope, y, phi, out):
    """out (nblock, ngain) = exp(i (slope y + phi))."""
    for block in range(out.shape[0]):
        for k in range(out.shape[1]):
            angle = slope[block] * y + phi[k]
            out[block, k] = complex(math.cos(angle), math.sin(angle))


@njit(cache=True)
def _add_seen_from(total, dense, p, q, phasor):
    """total[block, k] += S_pq exp(i theta_q)."""
    for block in range(total.shape[0]):
        for k in range(total.shape[1]):
            total[block, k] += dense[p, q, block, k] * phasor[block, k]


@njit(cache=True)
def _size(values):
    """Sum of the amplitudes of (nblock, ngain) sums; they are far from overflow."""
    size = 0.0
    for block in range(values.shape[0]):
        for k in range(values.shape[1]):
            one = values[block, k]
            size += math.sqrt(one.real * one.real + one.imag * one.imag)
    return size


@njit(cache=True)
def _strongest(total, placed, alive):
    """The antenna not placed yet that those placed see best; -1 when all are placed."""
    best, chosen = -1.0, -1
    for p in range(alive.size):
        if alive[p] and not placed[p]:
            power = _size(total[p])
            if power > best:
                best, chosen = power, p
    return chosen


@njit(cache=True)
def _global_start(dense, alive, slope, cosine, sine, grid, with_phase, y, phi, phasor):
    """Antennas placed on the grid one after another, then each anew until nothing moves.

    The first too: the second may have been placed wrongly beside it, and all others beside
    the second. Returns the first, -1 when there is none.
    """
    nant, _, nblock, ngain = dense.shape
    total = np.zeros((nant, nblock, ngain), np.complex128)
    placed = np.zeros(nant, np.bool_)
    work = np.empty((3, grid.size))
    root, strongest = -1, -1.0
    for p in range(nant):
        if alive[p]:
            power = 0.0
            for q in range(nant):
                power += _size(dense[p, q])
            if power > strongest:
                root, strongest = p, power
    if root < 0:
        return root
    new = root
    while new >= 0:
        if new != root:
            y[new] = _best_on_grid(
                total[new], cosine, sine, slope, grid, with_phase, work, phi[new]
            )
        _phasor(slope, y[new], phi[new], phasor[new])
        placed[new] = True
        for p in range(nant):
            if alive[p] and not placed[p]:
                _add_seen_from(total[p], dense, p, new, phasor[new])
        new = _strongest(total, placed, alive)
    for _ in range(MAX_SWEEPS):
        moved = False
        for p in range(nant):
            if not alive[p]:
                continue
            total[p] = 0.0
            for q in range(nant):
                if alive[q] and q != p:
                    _add_seen_from(total[p], dense, p, q, phasor[q])
            there = _best_on_grid(total[p], cosine, sine, slope, grid, with_phase, work, phi[p])
            moved |= abs(there - y[p]) > 0.5 * (grid[1] - grid[0])
            y[p] = there
            _phasor(slope, y[p], phi[p], phasor[p])
        if not moved:
            break
    return root


@njit(cache=True)
def _given_start(alive, slope, y, phi, phasor):
    """Phasors of given values; returns the first antenna, -1 when there is none."""
    root = -1
    for p in range(alive.size):
        if alive[p]:
            root = p if root < 0 else root
            _phasor(slope, y[p], phi[p], phasor[p])
    return root


@njit(cache=True)
def _value(dense, alive, phasor):
    """Sum over baselines, blocks and gains of Re(S_pq conj(exp(i (theta_p - theta_q))))."""
    nant, _, nblock, ngain = dense.shape
    value = 0.0
    for p in range(nant):
        if not alive[p]:
            continue
        for q in range(p + 1, nant):
            if not alive[q]:
                continue
            for block in range(nblock):
                for k in range(ngain):
                    z = dense[p, q, block, k] * phasor[p, block, k].conjugate()
                    value += (z * phasor[q, block, k]).real
    return value


@njit(cache=True)
def _derivatives(dense, alive, slope, phasor, place, width, gradient, hessian):
    """Gradient of the value and minus its second derivatives, for the unknowns of ``place``.

    An antenna's unknowns are y and, with ``width`` > 1, its phases; ``place`` is -1 for
    antennas held fixed.
    """
    nant, _, nblock, ngain = dense.shape
    gradient[:] = 0.0
    hessian[:] = 0.0
    # of one baseline: sums of the slope's powers times imaginary and real part, by gain
    pull, bend = np.empty((ngain, 2)), np.empty((ngain, 3))
    for p in range(nant):
        if not alive[p]:
            continue
        for q in range(p + 1, nant):
            if not alive[q]:
                continue
            pull[:] = 0.0
            bend[:] = 0.0
            for block in range(nblock):
                c = slope[block]
                for k in range(ngain):
                    z = dense[p, q, block, k] * phasor[p, block, k].conjugate()
                    z = z * phasor[q, block, k]
                    pull[k, 0] += z.imag
                    pull[k, 1] += c * z.imag
                    bend[k, 0] += z.real
                    bend[k, 1] += c * z.real
                    bend[k, 2] += c * c * z.real
            for sign, a in ((1.0, place[p]), (-1.0, place[q])):
                if a >= 0:
                    _add_pull(gradient, a, sign, pull, width)
            for a, b, sign in (
                (place[p], place[p], 1.0), (place[q], place[q], 1.0),
                (place[p], place[q], -1.0), (place[q], place[p], -1.0),
            ):  # fmt: skip
                if a >= 0 and b >= 0:
                    _add_bend(hessian, a, b, sign, bend, width)


@njit(cache=True)
def _add_pull(gradient, a, sign, pull, width):
    """Add a baseline's derivatives to those of an antenna's unknowns, which start at ``a``."""
    for k in range(pull.shape[0]):
        gradient[a] += sign * pull[k, 1]
        if width > 1:
            gradient[a + 1 + k] += sign * pull[k, 0]


@njit(cache=True)
def _add_bend(hessian, a, b, sign, bend, width):
    """Add a baseline's second derivatives by the unknowns of antennas that start at a and b."""
    for k in range(bend.shape[0]):
        hessian[a, b] += sign * bend[k, 2]
        if width > 1:
            hessian[a, b + 1 + k] += sign * bend[k, 1]
            hessian[a + 1 + k, b] += sign * bend[k, 1]
            hessian[a + 1 + k, b + 1 + k] += sign * bend[k, 0]


@njit(cache=True)
def _newton(dense, alive, slope, root, with_phase, steps, tolerance, y, phi, phasor):
    """Newton steps with Levenberg's damping, in place; returns whether they converged."""
    nant, ngain = phi.shape
    width = 1 + ngain if with_phase else 1
    place = np.full(nant, -1, np.int64)
    count = 0
    for p in range(nant):
        if alive[p] and p != root:
            place[p] = count
            count += width
    if count == 0:
        return True
    gradient, hessian = np.empty(count), np.empty((count, count))
    new_y, new_phi, new_phasor = y.copy(), phi.copy(), phasor.copy()
    value, damping = _value(dense, alive, phasor), 1e-6
    for _ in range(steps):
        _derivatives(dense, alive, slope, phasor, place, width, gradient, hessian)
        scale = np.abs(np.diag(hessian)) + 1e-12 * abs(value) + 1e-300
        better, largest = False, 0.0
        for _ in range(12):
            damped = hessian + np.diag(damping * scale)
            step = np.linalg.solve(damped, gradient)
            largest = np.abs(step).max()
            if not largest < 3.0:  # rad: beyond that the expansion means nothing
                damping = max(10.0 * damping, 1e-3)
                continue
            for p in range(nant):
                if place[p] >= 0:
                    new_y[p] = y[p] + step[place[p]]
                    for k in range(width - 1):
                        new_phi[p, k] = phi[p, k] + step[place[p] + 1 + k]
                    _phasor(slope, new_y[p], new_phi[p], new_phasor[p])
            new_value = _value(dense, alive, new_phasor)
            if new_value >= value:
                better = True
                break
            damping = max(10.0 * damping, 1e-3)
        if not better:
            return largest < 1e-4
        value = new_value
        y[:], phi[:], phasor[:] = new_y, new_phi, new_phasor
        damping = max(damping / 10.0, 1e-9)
        if largest < tolerance:
            return True
    return False


@njit(cache=True)
def _noise(dense, weight, alive, phasor, unknowns):
    """Sum of w (imaginary residual)^2, its degrees of freedom and the number of samples.

    Only the part of V conj(model) in quadrature: amplitudes, which nothing here solves for,
    do not count as noise.
    """
    nant, _, nblock, ngain = dense.shape
    chi2, samples = 0.0, 0
    for p in range(nant):
        for q in range(p + 1, nant):
            if not (alive[p] and alive[q]):
                continue
            for block in range(nblock):
                for k in range(ngain):
                    w = weight[p, q, block, k]
                    if not w > 0.0:
                        continue
                    z = dense[p, q, block, k] * phasor[p, block, k].conjugate()
                    z = z * phasor[q, block, k]
                    chi2 += z.imag * z.imag / w
                    samples += 1
    return chi2, max(samples - unknowns, 1), samples


@njit(cache=True)
def _errors(dense, weight, alive, slope, phasor, with_phase, variance, covariance, strength):
    """Covariance of (y, phi) of each antenna, the others held, and its significance squared.

    With Z the sums of Re z over an antenna's baselines, times 1, slope and slope^2, and W the
    same of the weights, the gradient's covariance is variance W and the error of the solution
    Z^-1 W Z^-1 variance: the amplitude of the source need not be that of the model.
    """
    nant, _, nblock, ngain = dense.shape
    for p in range(nant):
        if not alive[p]:
            continue
        signal, power = np.zeros((ngain, 3)), np.zeros((ngain, 3))
        for q in range(nant):
            if q == p or not alive[q]:
                continue
            for block in range(nblock):
                c = slope[block]
                for k in range(ngain):
                    z = dense[p, q, block, k] * phasor[p, block, k].conjugate()
                    re, w = (z * phasor[q, block, k]).real, weight[p, q, block, k]
                    signal[k, 0] += re
                    signal[k, 1] += re * c
                    signal[k, 2] += re * c * c
                    power[k, 0] += w
                    power[k, 1] += w * c
                    power[k, 2] += w * c * c
        total_signal, total_power = signal.sum(axis=0), power.sum(axis=0)
        for k in range(ngain):
            own_signal = signal[k] if with_phase else total_signal
            own_power = power[k] if with_phase else total_power
            if not own_power[0] > 0.0:
                continue
            if not variance > 0.0:
                covariance[p, k] = 0.0
                strength[p, k] = INFINITE_SNR**2
                continue
            if own_signal[0] > 0.0:
                strength[p, k] = own_signal[0] ** 2 / (own_power[0] * variance)
            _propagate(own_signal, own_power, variance, with_phase, covariance[p, k])


@njit(cache=True)
def _propagate(signal, power, variance, with_phase, out):
    """out = (var y, cov y phi, var phi); infinite where the fit is at no maximum."""
    out[:] = math.inf, 0.0, math.inf
    if not with_phase:
        if signal[2] > 0.0:
            out[:] = variance * power[2] / signal[2] ** 2, 0.0, 0.0
        return
    determinant = signal[2] * signal[0] - signal[1] ** 2
    if not (determinant > 1e-9 * signal[2] * signal[0] and signal[0] > 0.0):
        return
    inverse = np.array([[signal[0], -signal[1]], [-signal[1], signal[2]]]) / determinant
    middle = np.array([[power[2], power[1]], [power[1], power[0]]]) * variance
    result = inverse @ middle @ inverse
    out[:] = result[0, 0], result[0, 1], result[1, 1]


@njit(cache=True, parallel=True, nogil=True)
def tec_kernel(
    vis, wgt, mask, first, second, slope, grid, with_phase, minimum, steps, tolerance,
    y, phi, solved, covariance, strength, chi2, freedom, samples, converged,
):  # fmt: skip
    """Solve every interval; see `libs.gains.tec.solve_tec`.

    ``vis``, ``wgt`` (ntime, nblock, nbl, npol); ``y`` (ntime, nant), ``phi``, ``solved``,
    ``strength`` (ntime, nant, ngain) and ``covariance`` (..., 3) are filled in. Without a grid
    ``y`` and ``phi`` hold the start.
    """
    ntime, nblock = vis.shape[:2]
    nant, ngain = phi.shape[1:]
    angle = slope.reshape(-1, 1) * grid.reshape(1, -1)
    cosine, sine = np.cos(angle), np.sin(angle)
    for t in prange(ntime):
        dense = np.empty((nant, nant, nblock, ngain), np.complex128)
        weight = np.empty((nant, nant, nblock, ngain))
        _collapse(vis[t], wgt[t], mask, first, second, nant, dense, weight)
        links = np.zeros((nant, nant), np.bool_)
        seen = np.zeros((nant, ngain), np.bool_)
        for p in range(nant):
            for q in range(nant):
                for k in range(ngain):
                    for block in range(nblock):
                        if weight[p, q, block, k] > 0.0:
                            links[p, q] = True
                            seen[p, k] = True
        alive = keep_antennas(links, minimum)
        phasor = np.ones((nant, nblock, ngain), np.complex128)
        if grid.size:
            root = _global_start(
                dense, alive, slope, cosine, sine, grid, with_phase, y[t], phi[t], phasor
            )
        else:
            root = _given_start(alive, slope, y[t], phi[t], phasor)
        converged[t] = _newton(
            dense, alive, slope, root, with_phase, steps, tolerance, y[t], phi[t], phasor
        )
        unknowns = (alive.sum() - 1) * (1 + ngain if with_phase else 1)
        chi2[t], freedom[t], samples[t] = _noise(dense, weight, alive, phasor, unknowns)
        _errors(
            dense, weight, alive, slope, phasor, with_phase, chi2[t] / freedom[t],
            covariance[t], strength[t],
        )  # fmt: skip
        for p in range(nant):
            for k in range(ngain):
                solved[t, p, k] = alive[p] and (seen[p, k] or not with_phase)
