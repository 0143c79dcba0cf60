"""Gains divided out of visibilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

__all__ = ["apply_gains", "divide_out"]


def apply_gains(
    data: NDArray[np.complex64],
    flag: NDArray[np.bool_],
    weight: NDArray[np.float32],
    ant1: NDArray[np.int32],
    ant2: NDArray[np.int32],
    gain_row: NDArray[np.int64],
    gains: NDArray[np.complex128],
    gains_ok: NDArray[np.bool_],
    feeds1: NDArray[np.int64],
    feeds2: NDArray[np.int64],
    flag_unsolved: bool,
    corrected: NDArray[np.complex64],
) -> None:
    """Set corrected = data / (g_p conj(g_q)) for a block of rows; flag what has no solution.

    Parameters
    ----------
    data : (nrow, nchan, ncorr) complex64
    flag : (nrow, nchan, ncorr) bool
        Changed in place.
    weight : (nrow, nchan or 1, ncorr) float32
        Multiplied by the squared gains in place; empty when weights are left alone.
    ant1, ant2 : (nrow,) int32
    gain_row : (nrow,) int64
        Time index of each row.
    gains : (ntime, nchan or 1, nant, npol) complex128
        1 where there is no solution.
    gains_ok : the same shape, bool
    feeds1, feeds2 : (ncorr,) int64
        Gain that each correlation takes from either antenna.
    flag_unsolved : bool
    corrected : (nrow, nchan, ncorr) complex64
        Filled.
    """
    inverse = np.divide(1.0, gains, out=np.zeros_like(gains), where=gains != 0)
    divide_out(
        data, flag, weight, ant1, ant2, gain_row, _channels_last(inverse),
        _channels_last(gains_ok), feeds1, feeds2, flag_unsolved, corrected,
    )  # fmt: skip


def _channels_last(values: NDArray[Any]) -> NDArray[Any]:
    """Reorder (ntime, nchan, nant, npol) so that the channels of a gain follow each other."""
    return np.ascontiguousarray(np.moveaxis(values, 1, 3))


@njit(cache=True, parallel=True, nogil=True)
def divide_out(
    data, flag, weight, ant1, ant2, gain_row, inverse, solved, feeds1, feeds2, flag_unsolved,
    corrected,
):  # fmt: skip
    """Multiply a block of rows by inverse gains, (ntime, nant, npol, nchan or 1), 0 for none.

    The other arguments are those of `apply_gains`.
    """
    nrow, nchan, ncorr = data.shape
    npol, gain_chans = inverse.shape[2], inverse.shape[3]
    weighted, weight_chans = weight.size > 0, weight.shape[1]
    for row in prange(nrow):
        t, p, q = gain_row[row], ant1[row], ant2[row]
        for corr in range(ncorr):
            k1 = feeds1[corr] if npol > 1 else 0
            k2 = feeds2[corr] if npol > 1 else 0
            for chan in range(nchan):
                gc = chan if gain_chans > 1 else 0
                a, b = inverse[t, p, k1, gc], inverse[t, q, k2, gc]
                real = a.real * b.real + a.imag * b.imag
                imag = a.imag * b.real - a.real * b.imag
                power = real * real + imag * imag
                if power == 0.0:  # a gain of 0, by which nothing can be divided
                    real = 1.0
                v = data[row, chan, corr]
                corrected[row, chan, corr] = complex(
                    v.real * real - v.imag * imag, v.real * imag + v.imag * real
                )
                if flag_unsolved and not (solved[t, p, k1, gc] and solved[t, q, k2, gc]):
                    flag[row, chan, corr] = True
                if weighted and (weight_chans > 1 or chan == 0):
                    weight[row, chan, corr] *= 1.0 / power if power > 0.0 else 0.0
