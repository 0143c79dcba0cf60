"""Gains of one direction of an h5parm at the antennas, times and channels of data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.h5parm.combine import on_axes
from libs.h5parm.reader import read_h5parm
from libs.h5parm.regrid import regrid
from libs.h5parm.solset import DIAGONAL, Solset
from libs.ms.subtables import CORR_NAMES, Subtables

__all__ = ["DirectionGains", "RowGains", "correlation_feeds"]

_FEED = {"R": 0, "L": 1, "X": 0, "Y": 1}


@dataclass(frozen=True)
class RowGains:
    """Gains at the times of some rows.

    Attributes
    ----------
    gain : (ntime, nchan, nant, 2) complex128
        Gains that corrupt: V_observed = g_p conj(g_q) V_true; 1 where there is no solution.
    valid : (ntime, nchan, nant, 2) bool
        True where there is a solution.
    row : (nrow,) int64
        Index along the first axis of each row.
    """

    gain: NDArray[np.complex128]
    valid: NDArray[np.bool_]
    row: NDArray[np.int64]


@dataclass(frozen=True)
class DirectionGains:
    """Solutions of one direction on the antennas of a measurement set.

    Attributes
    ----------
    solset : Solset
        Solutions of one direction, diagonal.
    """

    solset: Solset

    @classmethod
    def read(
        cls,
        h5parm: Path,
        ms: Path,
        direction: str | None = None,
        *,
        missing: Literal["flag", "unit"] = "flag",
    ) -> DirectionGains:
        """Read the solutions of one direction for a measurement set.

        Parameters
        ----------
        h5parm : Path
        ms : Path
        direction : str, optional
            Name of the direction, needed when there are several.
        missing : str
            Treatment of antennas without any solution: ``flag`` gives none, ``unit`` gains of 1.

        Raises
        ------
        InputError
            There is no such direction, solutions are Jones matrices, or no antenna is in common.
        """
        solset = read_h5parm(Path(h5parm), direction=direction)
        if solset.full_jones:
            raise InputError(f"{h5parm} has full-Jones solutions", "apply them with DP3")
        if direction is None and len(solset.direction) > 1:
            raise InputError(
                f"{h5parm} has {len(solset.direction)} directions",
                f"name one of {', '.join(solset.direction)}",
            )
        one = solset.in_direction(direction or solset.direction[0])
        found = Subtables(ms)
        names, position = found.antenna_names, found.position_m
        if not set(names) & set(one.antenna):
            raise InputError(
                f"{ms} and {h5parm} have no antenna in common",
                "give the data the solutions are for",
            )
        own = on_axes(one.with_polarization(DIAGONAL), names, position)
        if missing == "unit":
            unknown = np.asarray(~own.valid.any(axis=(0, 1, 3, 4)))
            own = replace(own, weight=np.where(unknown[:, None, None], 1.0, own.weight))
        return cls(own)

    def at(
        self, time_s: NDArray[np.float64], channel_hz: NDArray[np.float64], spw: int | None = None
    ) -> RowGains:
        """Return the gains at the times of rows and at channels.

        Parameters
        ----------
        time_s : (nrow,) float64
            Times in any order, MJD seconds.
        channel_hz : (nchan,) float64
            Channel centres in any order, Hz.
        spw : int, optional
            Spectral window; solutions of an h5parm go by frequency, whatever its number.
        """
        unique, row = np.unique(time_s, return_inverse=True)
        order = np.argsort(channel_hz)
        there = regrid(self._near(unique), unique, channel_hz[order])
        back = np.argsort(order)
        gain, valid = there.gain[:, :, :, 0][:, back], there.valid[:, :, :, 0][:, back]
        return RowGains(np.ascontiguousarray(gain), np.ascontiguousarray(valid), row.astype(int))

    def _near(self, time_s: NDArray[np.float64]) -> Solset:
        """Return the solutions that matter between the first and the last of some times."""
        own = self.solset.time_s
        low = max(0, int(np.searchsorted(own, time_s[0])) - 2)
        high = min(len(own), int(np.searchsorted(own, time_s[-1])) + 2)
        if high - low >= len(own):
            return self.solset
        part = slice(min(low, high - 1), high)
        one = self.solset
        return replace(
            one,
            time_s=own[part],
            phase_rad=one.phase_rad[part],
            amplitude=one.amplitude[part],
            weight=one.weight[part],
            tec_tecu=None if one.tec_tecu is None else one.tec_tecu[part],
        )


def correlation_feeds(corr_types: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the feed (0 or 1) that each correlation takes from either antenna, (ncorr, 2)."""
    names = [CORR_NAMES.get(int(code), "I") for code in corr_types]
    return np.array([(_FEED.get(name[0], 0), _FEED.get(name[-1], 0)) for name in names], np.int64)
