"""Kernel that divides gains out of visibilities."""

from __future__ import annotations

from numba import njit, prange

__all__ = ["apply_gains"]


@njit(cache=True, parallel=True, nogil=True)
def apply_gains(
    data, flag, weight, ant1, ant2, gain_row, gains, gains_ok, feeds1, feeds2, flag_unsolved,
    corrected,
):  # fmt: skip
    """corrected = data / (g_p conj(g_q)) for a block of rows; flags what has no solution.

    ``gains`` (ntime, nchan or 1, nant, npol), 1 where there is no solution; ``feeds1``,
    ``feeds2`` (ncorr,) the gain that each correlation takes from either antenna; ``weight``
    (nrow, nchan or 1, ncorr) is multiplied by the squared gains, empty when weights are left
    alone. ``flag`` is changed in place.
    """
    nrow, nchan, ncorr = data.shape
    gain_chans = gains.shape[1]
    npol = gains.shape[3]
    weight_chans = weight.shape[1]
    for row in prange(nrow):
        t, p, q = gain_row[row], ant1[row], ant2[row]
        for corr in range(ncorr):
            k1 = feeds1[corr] if npol > 1 else 0
            k2 = feeds2[corr] if npol > 1 else 0
            inverse, power, solved = 1.0 + 0.0j, 1.0, True
            for chan in range(nchan):
                if chan == 0 or gain_chans > 1:
                    gc = chan if gain_chans > 1 else 0
                    g = gains[t, gc, p, k1] * gains[t, gc, q, k2].conjugate()
                    power = g.real * g.real + g.imag * g.imag
                    inverse = g.conjugate() / power if power > 0.0 else 1.0 + 0.0j
                    solved = gains_ok[t, gc, p, k1] and gains_ok[t, gc, q, k2]
                corrected[row, chan, corr] = complex(data[row, chan, corr]) * inverse
                if flag_unsolved and not solved:
                    flag[row, chan, corr] = True
                if weight.size > 0 and (weight_chans > 1 or chan == 0):
                    weight[row, chan, corr] *= power
