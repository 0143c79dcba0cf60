"""Bandpasses of self-calibration: what is neither a gain of a whole window nor the source's.

A bandpass solved against a model of the sky holds, of all antennas, the errors of the model's
spectrum, a spectral line among them, and of each antenna, what its gains left of a whole window.
Neither is taken: the first is the source's, the second belongs to rounds of gains.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from libs.gains.gain_solutions import GainSolutions

__all__ = ["block_groups", "finish_relative_bandpass", "made_relative"]


def block_groups(spw: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the wider block that each block becomes part of, ``size`` of a window at a time.

    Parameters
    ----------
    spw : (nblock,) int64
        Spectral windows of the blocks, those of a window together.
    size : int
    """
    found = np.zeros(len(spw), np.int64)
    first = 0
    for one in dict.fromkeys(spw.tolist()):
        mine = np.flatnonzero(spw == one)
        part = np.arange(len(mine)) // size
        found[mine] = first + part
        first += int(part[-1]) + 1
    return found


def made_relative(
    gain: NDArray[np.complex128], good: NDArray[np.bool_], spw: NDArray[np.int64]
) -> NDArray[np.complex128]:
    """Return bandpasses without what antennas, or the blocks of a window, have in common.

    Amplitudes of each block have a geometric mean of 1 over antennas, those of each antenna and
    window over blocks; phases of each antenna and window have a mean of 0 over blocks.

    Parameters
    ----------
    gain, good : (..., nfreq, nant, npol)
        Gains, phases relative to a reference antenna, and where they are solved; 1 elsewhere in
        the result.
    spw : (nfreq,) int64
    """
    size = np.abs(gain)
    good = good & (size > 0)
    level = np.log(np.where(good, size, 1.0))
    level = np.where(good, level - _mean(level, good, axis=-2), 0.0)
    unit = np.where(good, gain / np.where(good, size, 1.0), 1.0)
    found = np.ones_like(gain)
    for one in np.unique(spw):
        mine = spw == one
        own, there = level[..., mine, :, :], good[..., mine, :, :]
        own = own - _mean(own, there, axis=-3)
        mean = np.where(there, unit[..., mine, :, :], 0.0).sum(axis=-3, keepdims=True)
        turn = np.where(np.abs(mean) > 0, mean / np.where(np.abs(mean) > 0, np.abs(mean), 1.0), 1.0)
        relative = np.exp(own) * unit[..., mine, :, :] * turn.conj()
        found[..., mine, :, :] = np.where(there, relative, 1.0)
    return found


def _mean(values: NDArray[np.float64], good: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Mean of good values along an axis, which is kept; 0 where none is good."""
    count = good.sum(axis=axis, keepdims=True)
    total = np.where(good, values, 0.0).sum(axis=axis, keepdims=True)
    return np.asarray(total / np.maximum(count, 1))


def finish_relative_bandpass(solutions: GainSolutions) -> GainSolutions:
    """Make solved bandpasses relative; what has none in a window is left as it came.

    A channel without a solution takes that between its neighbours when the table is applied. An
    antenna without any in a window gets gains of 1, not flags: its data were good enough before.
    """
    good = ~solutions.flag
    gain = made_relative(solutions.gain, good, solutions.spw)
    flag, snr = solutions.flag.copy(), solutions.snr.copy()
    for one in np.unique(solutions.spw):
        mine = solutions.spw == one
        none = ~good[:, mine].any(axis=1, keepdims=True)
        flag[:, mine] &= ~none
        snr[:, mine] = np.where(none, 1.0, snr[:, mine])
    return replace(solutions, gain=gain, flag=flag, snr=snr)
