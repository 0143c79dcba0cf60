"""Frequency blocks of a solve: how wide they are, and sums of finer blocks made into wider ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.gains.normal_equations import NormalEquations

__all__ = [
    "block_centres",
    "channels_for_blocks",
    "merge_blocks",
    "spw_groups",
    "tec_distinguishable",
]

WANTED_BLOCKS = 20
LEAST_PHASE_RAD = 0.1  # across the band, of LEAST_TEC_TECU: less says nothing about TEC
LEAST_TEC_TECU = 0.01


def tec_distinguishable(frequency_hz: NDArray[np.float64]) -> bool:
    """Whether 0.01 TECU turns the phase by more than 0.1 rad from one end of the band to the other.

    Parameters
    ----------
    frequency_hz : (n,) float64
        Channels or blocks.
    """
    if len(frequency_hz) < 2:
        return False
    per_tecu = np.ptp(TEC_PHASE_HZ / np.asarray(frequency_hz))
    return bool(LEAST_TEC_TECU * per_tecu > LEAST_PHASE_RAD)


def channels_for_blocks(
    channel_hz: Sequence[NDArray[np.float64]], wanted: int = WANTED_BLOCKS
) -> int:
    """Return the channels a block must have for about ``wanted`` blocks over all windows.

    Parameters
    ----------
    channel_hz : sequence of (nchan,) float64
        Channels of each spectral window with data.
    wanted : int
    """
    each = max(1, round(wanted / max(1, len(channel_hz))))
    return max(1, -(-max((len(hz) for hz in channel_hz), default=1) // each))


def block_centres(
    channel_hz: dict[int, NDArray[np.float64]], channels_per_block: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return centre and spectral window of the blocks of so many channels, window by window.

    Parameters
    ----------
    channel_hz : dict of int to (nchan,) float64
        Channels by spectral window.
    channels_per_block : int
        0: one block a window.
    """
    centre: list[float] = []
    spws: list[int] = []
    for spw, hz in channel_hz.items():
        size = channels_per_block or len(hz)
        parts = [hz[low : low + size] for low in range(0, len(hz), size)]
        centre += [float(part.mean()) for part in parts]
        spws += [int(spw)] * len(parts)
    return np.array(centre), np.array(spws, np.int64)


def spw_groups(spw: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each block the number, 0 to n-1, of its spectral window."""
    return np.asarray(np.unique(spw, return_inverse=True)[1], np.int64)


def merge_blocks(equations: NormalEquations, group: NDArray[np.int64]) -> NormalEquations:
    """Return the normal equations of wider frequency blocks.

    Parameters
    ----------
    equations : NormalEquations
    group : (nblock,) int64
        Index of the wider block each block becomes part of, 0 to n-1, none empty.
    """
    count = int(group.max()) + 1
    if count == len(group) and (np.diff(group) > 0).all():
        return equations
    shape = (equations.vis.shape[0], count, *equations.vis.shape[2:])
    vis, weight = np.zeros(shape, np.complex128), np.zeros(shape)
    for block, wide in enumerate(group):
        vis[:, wide] += equations.vis[:, block]
        weight[:, wide] += equations.weight[:, block]
    first = np.unique(group, return_index=True)[1]
    frequency = np.bincount(group, equations.frequency_hz) / np.bincount(group)
    return replace(
        equations, vis=vis, weight=weight, frequency_hz=frequency, spw=equations.spw[first]
    )
