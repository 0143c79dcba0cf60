"""Gains of a table at the times and frequencies of data, interpolated as CASA does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.gains.caltable import CalTable, SpwGains, full_spwmap, read_caltable
from libs.gains.solver import AppliedTable

__all__ = ["GainInterpolator", "gains_for_rows", "interpolate_time"]

Gains = tuple[NDArray[np.complex128], NDArray[np.bool_]]


def _wrap(step_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(step_rad - 2 * np.pi * np.round(step_rad / (2 * np.pi)))


def interpolate_time(table: SpwGains, time_s: NDArray[np.float64], interp: str) -> Gains:
    """Gains of one spw of a table at the times of the data.

    Amplitude and phase are interpolated apart, the phase the short way round. Before the first
    and after the last solution the nearest one holds. A time between two solutions has one only
    if both are good; a time that is a solution's own needs only that one. Times are compared in
    single precision relative to the first, as CASA does, because whether a time is a solution's
    own decides about its flag.

    Parameters
    ----------
    table : SpwGains
    time_s : (ntime,) float64
        MJD seconds.
    interp : str
        ``linear`` or ``nearest``.

    Returns
    -------
    gain : (ntime, nchan, nant, npol) complex128
        1 where not solved.
    solved : (ntime, nchan, nant, npol) bool
    """
    low, high, part = _bracket(table.time_s, time_s, interp)
    gain, solved = table.gain[low].astype(np.complex128), ~table.flag[low]
    between = np.flatnonzero(high != low)
    if len(between):
        a, b = table.gain[low[between]], table.gain[high[between]]
        share = part[between][:, None, None, None]
        amplitude = np.abs(a) + share * (np.abs(b) - np.abs(a))
        start = np.angle(a).astype(np.float64)
        phase = start + share * _wrap(np.angle(b).astype(np.float64) - start)
        gain[between] = amplitude * np.exp(1j * phase)
        solved[between] &= ~table.flag[high[between]]
    gain[~solved] = 1
    return gain, solved


def _bracket(
    own_s: NDArray[np.float64], time_s: NDArray[np.float64], interp: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the solutions around each time and how far along it is; one twice where it alone."""
    origin = np.floor(own_s[0] - 1.0)
    own = (own_s - origin).astype(np.float32).astype(np.float64)
    new = (time_s - origin).astype(np.float32).astype(np.float64)
    low = np.clip(np.searchsorted(own, new, side="right") - 1, 0, len(own) - 1)
    high = np.minimum(low + 1, len(own) - 1)
    exact = (own[low] == new) | (low == high) | (new < own[0])
    if interp == "nearest":
        nearer = ~exact & (own[high] - new < new - own[low])
        low = np.where(nearer, high, low)
        exact[:] = True
    high = np.where(exact, low, high)
    span = own[high] - own[low]
    part = np.divide(new - own[low], span, out=np.zeros(len(new)), where=span > 0)
    return low, high, part


def _gains_of_delays(
    table: SpwGains,
    time_s: NDArray[np.float64],
    channel_hz: NDArray[np.float64],
    interp: str,
) -> Gains:
    """Gains (ntime, nchan, nant, npol) that delays make, which are linear in time."""
    assert table.delay_ns is not None
    low, high, part = _bracket(table.time_s, time_s, interp)
    share = part[:, None, None]
    delay = (1 - share) * table.delay_ns[low] + share * table.delay_ns[high]
    solved = ~(table.flag[low] | table.flag[high])
    turns = 1e-9 * delay[:, None] * (channel_hz - table.frequency_hz[0])[None, :, None, None]
    solved = np.broadcast_to(solved, turns.shape)
    return np.where(solved, np.exp(2j * np.pi * turns), 1), solved


def interpolate_frequency(
    gain: NDArray[np.complex128],
    solved: NDArray[np.bool_],
    table_hz: NDArray[np.float64],
    channel_hz: NDArray[np.float64],
) -> Gains:
    """Gains of blocks of channels at the channels: linear between good blocks, edges hold.

    Parameters
    ----------
    gain, solved : (ntime, nblock, nant, npol)
    table_hz : (nblock,) float64
    channel_hz : (nchan,) float64

    Returns
    -------
    gain, solved : (ntime, nchan, nant, npol)
    """
    order = np.argsort(table_hz)
    own, gain, solved = table_hz[order], gain[:, order], solved[:, order]
    # the good block at or before each channel, and the one at or after it
    index = np.arange(len(own))[None, :, None, None]
    before = np.maximum.accumulate(np.where(solved, index, -1), axis=1)
    after = np.where(solved, index, len(own))[:, ::-1]
    after = np.minimum.accumulate(after, axis=1)[:, ::-1]
    low_place = np.clip(np.searchsorted(own, channel_hz, side="right") - 1, 0, len(own) - 1)
    high_place = np.clip(np.searchsorted(own, channel_hz, side="left"), 0, len(own) - 1)
    low, high = before[:, low_place], after[:, high_place]
    some = (low >= 0) | (high < len(own))
    low, high = np.where(low < 0, high, low), np.where(high >= len(own), low, high)
    low, high = np.where(some, low, 0), np.where(some, high, 0)
    a, b = np.take_along_axis(gain, low, 1), np.take_along_axis(gain, high, 1)
    span = own[high] - own[low]
    ahead = channel_hz[None, :, None, None] - own[low]
    part = np.clip(np.divide(ahead, span, out=np.zeros_like(ahead), where=span > 0), 0, 1)
    amplitude = np.abs(a) + part * (np.abs(b) - np.abs(a))
    phase = np.angle(a) + part * _wrap(np.angle(b) - np.angle(a))
    return np.where(some, amplitude * np.exp(1j * phase), 1), some


@dataclass(frozen=True)
class GainInterpolator:
    """A gain table ready to be evaluated for data.

    Attributes
    ----------
    table : CalTable
    interp : str
    spwmap : tuple of int
        For each spw of the data the spw of the table.
    """

    table: CalTable
    interp: str
    spwmap: tuple[int, ...]

    @classmethod
    def open(
        cls, applied: AppliedTable, channel_hz: Sequence[NDArray[np.float64]]
    ) -> GainInterpolator:
        """Read the table an `AppliedTable` names, for data with these spectral windows.

        Raises
        ------
        ConfigError
            The spwmap is longer than the data have spws, or names one the table has not.
        """
        table = read_caltable(applied.path)
        if applied.fields:
            kept = {spw: part.of_fields(applied.fields) for spw, part in table.spws.items()}
            table = replace(table, spws={spw: part for spw, part in kept.items() if part})
        return cls(
            table, applied.interp, full_spwmap(applied.spwmap, len(channel_hz), table.spw_count)
        )

    def at(
        self, spw: int, time_s: NDArray[np.float64], channel_hz: NDArray[np.float64]
    ) -> Gains | None:
        """Gains (ntime or 1, nchan or 1, nant, npol) and where solved; None: the spw has none.

        One solution alone is evaluated once, for all times.
        """
        mine = self.table.spws.get(self.spwmap[spw])
        if mine is None:
            return None
        if len(mine.time_s) == 1:
            time_s = time_s[:1]
        if mine.delay_ns is not None:
            return _gains_of_delays(mine, time_s, channel_hz, self.interp)
        gain, solved = interpolate_time(mine, time_s, self.interp)
        if gain.shape[1] > 1:
            return interpolate_frequency(gain, solved, mine.frequency_hz, channel_hz)
        return gain, solved


def gains_for_rows(
    tables: Sequence[GainInterpolator],
    spw: int,
    channel_hz: NDArray[np.float64],
    time_s: NDArray[np.float64],
    nant: int,
    npol: int,
) -> tuple[NDArray[np.complex128], NDArray[np.bool_], NDArray[np.int64]] | None:
    """Product of the gains of several tables at the times of rows.

    None when a table has nothing for this spw: as in CASA, data that not every table can
    calibrate are neither solved nor corrected.

    Returns
    -------
    gain : (nunique, nchan or 1, nant, npol) complex128
    solved : the same shape, bool
    row : (nrow,) int64
        Place in the first axis for each row; empty when there are no tables.
    """
    product = np.ones((1, 1, nant, npol), np.complex128)
    solved = np.ones((1, 1, nant, npol), bool)
    if not tables:
        return product, solved, np.empty(0, np.int64)
    unique, row = np.unique(time_s, return_inverse=True)
    for table in tables:
        one = table.at(spw, unique, channel_hz)
        if one is None:
            return None
        product = product * one[0]
        solved = solved & one[1]
    shape = np.broadcast_shapes(product.shape, (len(unique), 1, nant, npol))
    return _whole(product, shape), _whole(solved, shape), row.astype(np.int64)


def _whole(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a C-ordered array that may be written: kernels are compiled anew for other views."""
    if values.shape == shape and values.flags.c_contiguous and values.flags.writeable:
        return values
    return np.array(np.broadcast_to(values, shape), order="C")
