"""Compiled inner loops of solves without held-out baselines, and of their prediction.

All folds go through one call: starting the threads costs more than solving a fold does.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from libs.gains.kernels import condition_sums, solve_one

__all__ = ["gains_at_times", "predict_folds", "project_folds", "solve_folds"]


@njit(cache=True, parallel=True, nogil=True)
def solve_folds(
    vis, wgt, held_out, first, second, guess_order, mode, scalar, combine_blocks, minimum,
    max_iterations, tolerance, gain, solved,
):  # fmt: skip
    """Solve every interval and block once for each fold, without the baselines it holds out.

    As `libs.gains.kernels.solve_kernel`, but that ``held_out`` (nbl,) is the fold of each
    baseline, -1 for one that is in every solve, and that ``gain`` and ``solved`` (nfold, ntime,
    nfreq, nant, ngain) have an axis of folds.
    """
    ntime, nblock, nbl, npol = vis.shape
    nfold, out_blocks = gain.shape[0], gain.shape[2]
    for unit in prange(ntime * out_blocks):
        t, f = unit // out_blocks, unit % out_blocks
        low, high = (0, nblock) if combine_blocks else (f, f + 1)
        v = np.empty((high - low, nbl, npol), np.complex128)
        every = np.empty((high - low, nbl, npol))
        w = np.empty((high - low, nbl, npol))
        snr = np.empty(gain.shape[3:])
        condition_sums(vis[t, low:high], wgt[t, low:high], mode, v, every)
        for k in range(nfold):
            w[:] = every
            for b in range(nbl):
                if held_out[b] == k:
                    w[:, b, :] = 0.0
            solve_one(
                v, w, first, second, guess_order, scalar, minimum, 0.0, max_iterations,
                tolerance, gain[k, t, f], solved[k, t, f], snr,
            )  # fmt: skip


@njit(cache=True)
def _gains_at(left, right, share, gain, good, at, known):
    """Interpolate gains (nfold, nlong, nfreq, nant, ngain) linearly in phase and amplitude.

    ``at``, ``known`` (nfold, nfreq, nant, ngain) receive those between ``left`` and ``right``.
    """
    nfold, _, nfreq, nant, ngain = gain.shape
    for n in range(nfold):
        for f in range(nfreq):
            for p in range(nant):
                for k in range(ngain):
                    one, two = gain[n, left, f, p, k], gain[n, right, f, p, k]
                    known[n, f, p, k] = (good[n, left, f, p, k] or share >= 1.0) and (
                        good[n, right, f, p, k] or share <= 0.0
                    )
                    if share <= 0.0:
                        at[n, f, p, k] = one
                    elif share >= 1.0:
                        at[n, f, p, k] = two
                    else:
                        turn = two * one.conjugate()
                        angle = math.atan2(one.imag, one.real)
                        angle += share * math.atan2(turn.imag, turn.real)
                        size = (1.0 - share) * abs(one) + share * abs(two)
                        at[n, f, p, k] = size * complex(math.cos(angle), math.sin(angle))


@njit(cache=True, nogil=True)
def gains_at_times(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    share: NDArray[np.float64],
    gain: NDArray[np.complex128],
    good: NDArray[np.bool_],
) -> NDArray[np.complex128]:
    """Return gains (ntime, nfold, nfreq, nant, ngain) at each time; 0 where they are not known.

    Arguments as for `predict_folds`.
    """
    nfold, _, nfreq, nant, ngain = gain.shape
    at = np.empty((len(left), nfold, nfreq, nant, ngain), np.complex128)
    known = np.empty((nfold, nfreq, nant, ngain), np.bool_)
    for t in range(len(left)):
        _gains_at(left[t], right[t], share[t], gain, good, at[t], known)
        at[t] = np.where(known, at[t], 0.0)
    return at


@njit(cache=True)
def _across(vis, weight, gain):
    """Chi2 of the part of a visibility at right angles to the phase that gains predict.

    Of noise it has the variance of one component, whatever the SNR and whatever amplitudes are
    wrong; phases that the gains did not follow add to it.
    """
    turned = vis * gain.conjugate()
    square = gain.real * gain.real + gain.imag * gain.imag
    return turned.imag * turned.imag / (square * weight) if square > 0.0 else 0.0


@njit(cache=True, parallel=True, nogil=True)
def predict_folds(
    vis: NDArray[np.complex128],
    weight: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    share: NDArray[np.float64],
    gain: NDArray[np.complex128],
    good: NDArray[np.bool_],
    place: NDArray[np.int64],
    held_out: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    fall: NDArray[np.float64],
    power: NDArray[np.float64],
    across: NDArray[np.float64],
    count: NDArray[np.int64],
) -> None:
    """What gains G = g_p conj(g_q) make of the chi2 of baselines held out.

    ``vis``, ``weight`` (ntime, nblock, nbl, npol) are sums of w V conj(M) and w |M|^2. ``gain``
    and ``good`` (nfold, nlong, nfreq, nant, ngain) are interpolated between intervals ``left``
    and ``right`` (ntime,) by ``share``; ``place`` (nblock,) is the gains' frequency of each
    block, ``held_out`` (nbl,) the fold of each baseline, -1 for none of these. ``fall``,
    ``power``, ``across`` and ``count`` (ntime,) receive the fall of chi2, the sum of
    w |G - 1|^2 |M|^2, the chi2 of what is at right angles to the prediction (`_across`) and the
    number of visibilities predicted.
    """
    ntime, nblock, nbl, npol = vis.shape
    nfold, _, nfreq, nant, ngain = gain.shape
    for t in prange(ntime):
        at = np.empty((nfold, nfreq, nant, ngain), np.complex128)
        known = np.empty((nfold, nfreq, nant, ngain), np.bool_)
        _gains_at(left[t], right[t], share[t], gain, good, at, known)
        for block in range(nblock):
            f = place[block]
            for b in range(nbl):
                n = held_out[b]
                if n < 0:
                    continue
                p, q = first[b], second[b]
                for pol in range(npol):
                    k = pol if ngain > 1 else 0
                    if not (known[n, f, p, k] and known[n, f, q, k]):
                        continue
                    w = weight[t, block, b, pol]
                    if not w > 0.0:
                        continue
                    g = at[n, f, p, k] * at[n, f, q, k].conjugate()
                    moved = g - 1.0
                    square = w * (moved.real * moved.real + moved.imag * moved.imag)
                    inner = (moved.conjugate() * (vis[t, block, b, pol] - w)).real
                    fall[t] += 2.0 * inner - square
                    power[t] += square
                    across[t] += _across(vis[t, block, b, pol], w, g)
                    count[t] += 1


@njit(cache=True, parallel=True, nogil=True)
def project_folds(
    vis: NDArray[np.complex128],
    weight: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    share: NDArray[np.float64],
    gain: NDArray[np.complex128],
    good: NDArray[np.bool_],
    place: NDArray[np.int64],
    held_out: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    inner: NDArray[np.float64],
    norm: NDArray[np.float64],
    across: NDArray[np.float64],
    count: NDArray[np.int64],
) -> None:
    """Held-out visibilities projected on what gains predict, baseline by baseline.

    Arguments as for `predict_folds`; ``inner`` and ``norm`` (ntime, nbl) receive the sums of
    w Re(V conj(G M)) and of w |G M|^2, ``across`` and ``count`` (ntime,) what they do there.
    """
    ntime, nblock, nbl, npol = vis.shape
    nfold, _, nfreq, nant, ngain = gain.shape
    for t in prange(ntime):
        at = np.empty((nfold, nfreq, nant, ngain), np.complex128)
        known = np.empty((nfold, nfreq, nant, ngain), np.bool_)
        _gains_at(left[t], right[t], share[t], gain, good, at, known)
        for block in range(nblock):
            f = place[block]
            for b in range(nbl):
                n = held_out[b]
                if n < 0:
                    continue
                p, q = first[b], second[b]
                for pol in range(npol):
                    k = pol if ngain > 1 else 0
                    if not (known[n, f, p, k] and known[n, f, q, k]):
                        continue
                    g = at[n, f, p, k] * at[n, f, q, k].conjugate()
                    inner[t, b] += (g.conjugate() * vis[t, block, b, pol]).real
                    power = g.real * g.real + g.imag * g.imag
                    w = weight[t, block, b, pol]
                    norm[t, b] += w * power
                    if w > 0.0:
                        across[t] += _across(vis[t, block, b, pol], w, g)
                        count[t] += 1
