"""Stokes parameters of visibilities: which correlations make them, and with which factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Combination", "combination", "stokes_visibilities"]

# Stokes parameters from the correlations, after Hamaker & Bregman 1996, A&AS 117, 161, and the
# IAU's signs: RL = Q + iU, and XX - YY = 2 Q.
_CIRCULAR: dict[str, dict[str, complex]] = {
    "I": {"RR": 0.5, "LL": 0.5},
    "Q": {"RL": 0.5, "LR": 0.5},
    "U": {"RL": -0.5j, "LR": 0.5j},
    "V": {"RR": 0.5, "LL": -0.5},
}
_LINEAR: dict[str, dict[str, complex]] = {
    "I": {"XX": 0.5, "YY": 0.5},
    "Q": {"XX": 0.5, "YY": -0.5},
    "U": {"XY": 0.5, "YX": 0.5},
    "V": {"XY": -0.5j, "YX": 0.5j},
}


@dataclass(frozen=True)
class Combination:
    """How one Stokes parameter comes from correlations.

    Attributes
    ----------
    correlation : tuple of int
        Indices of the correlations that must be good; the same for every parameter of a set, so
        that all of them have the same weights and one PSF.
    factor : tuple of complex
        Factor of each in the sum.
    """

    correlation: tuple[int, ...]
    factor: tuple[complex, ...]


def combination(names: Sequence[str], stokes: str, together: str) -> Combination | None:
    """Return how a Stokes parameter is made; None where the correlations do not allow it.

    Parameters
    ----------
    names : sequence of str
        Correlations of the data in their order, such as RR, RL, LR, LL.
    stokes : str
        Parameter, one of I, Q, U, V.
    together : str
        All parameters imaged in the same run.
    """
    for table in (_CIRCULAR, _LINEAR):
        needed = sorted({corr for one in together for corr in table[one]})
        if all(corr in names for corr in needed):
            factor = table[stokes]
            return Combination(
                tuple(names.index(corr) for corr in needed),
                tuple(complex(factor.get(corr, 0.0)) for corr in needed),
            )
    if all(one in names for one in together):  # data of Stokes parameters
        places = tuple(names.index(one) for one in together)
        return Combination(places, tuple(complex(one == stokes) for one in together))
    return None


def stokes_visibilities(
    data: NDArray[np.complex64],
    flag: NDArray[np.bool_],
    weight: NDArray[np.float32],
    wanted: NDArray[np.bool_],
    how: Combination,
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Return one Stokes parameter, (nrow, nchan) Jy, and its weights.

    A sample counts when every correlation that the set of parameters needs is unflagged, finite
    and of positive weight. Its weight is the smallest of theirs, as in WSClean.

    Parameters
    ----------
    data : (nrow, nchan, ncorr) complex64
        Visibilities, Jy.
    flag : (nrow, nchan, ncorr) bool
    weight : (nrow, nchan or 1, ncorr) float32
    wanted : (nrow,) bool
        Rows that are used.
    how : Combination
    """
    visibility = np.zeros(data.shape[:2], dtype=np.complex64)
    found = np.zeros(data.shape[:2], dtype=np.float32)
    _combine(
        data, flag, weight, wanted, np.array(how.correlation, np.int64),
        np.array(how.factor, np.complex64), visibility, found,
    )  # fmt: skip
    return visibility, found


@njit(cache=True, nogil=True)
def _combine(
    data: NDArray[np.complex64],
    flag: NDArray[np.bool_],
    weight: NDArray[np.float32],
    wanted: NDArray[np.bool_],
    correlation: NDArray[np.int64],
    factor: NDArray[np.complex64],
    visibility: NDArray[np.complex64],
    found: NDArray[np.float32],
) -> None:
    per_channel = weight.shape[1] > 1
    for row in range(data.shape[0]):
        if not wanted[row]:
            continue
        for chan in range(data.shape[1]):
            k = chan if per_channel else 0
            total, least = np.complex64(0), np.float32(np.inf)
            for number in range(correlation.size):
                corr = correlation[number]
                value, w = data[row, chan, corr], weight[row, k, corr]
                finite = np.isfinite(value.real) and np.isfinite(value.imag)
                if flag[row, chan, corr] or not finite or not (w > 0.0 and w < np.inf):
                    least = np.float32(0.0)
                    break
                total += factor[number] * value
                least = min(least, w)
            if least > 0.0:
                visibility[row, chan] = total
                found[row, chan] = least
