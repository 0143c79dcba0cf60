"""Compiled inner loop of the prediction of held-out visibilities."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

__all__ = ["predict_kernel"]


@njit(cache=True, parallel=True, nogil=True)
def predict_kernel(
    vis: NDArray[np.complex128],
    weight: NDArray[np.float64],
    gain: NDArray[np.complex128],
    solved: NDArray[np.bool_],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    held_out: NDArray[np.int64],
    fall: NDArray[np.float64],
    power: NDArray[np.float64],
    count: NDArray[np.int64],
) -> None:
    """What gains G = g_p conj(g_q) make of the chi2 of baselines held out.

    ``vis``, ``weight`` (ntime, nblock, nbl, npol) are sums of w V conj(M) and w |M|^2, ``gain``
    and ``solved`` (ntime, nblock or 1, nant, ngain); ``held_out`` the baselines. ``fall``,
    ``power`` and ``count`` (ntime,) receive the fall of chi2, the sum of w |G - 1|^2 |M|^2 and
    the number of visibilities predicted.
    """
    ntime, nblock, _, npol = vis.shape
    for t in prange(ntime):
        for block in range(nblock):
            f = block if gain.shape[1] > 1 else 0
            for b in held_out:
                p, q = first[b], second[b]
                for pol in range(npol):
                    k = pol if gain.shape[3] > 1 else 0
                    if not (solved[t, f, p, k] and solved[t, f, q, k]):
                        continue
                    w = weight[t, block, b, pol]
                    if not w > 0.0:
                        continue
                    moved = gain[t, f, p, k] * np.conj(gain[t, f, q, k]) - 1.0
                    square = w * (moved.real * moved.real + moved.imag * moved.imag)
                    inner = (np.conj(moved) * (vis[t, block, b, pol] - w)).real
                    fall[t] += 2.0 * inner - square
                    power[t] += square
                    count[t] += 1
