"""A time axis for solutions on which gaps between scans are shortened to leave room for scans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

__all__ = ["TimeAxis", "make_time_axis"]

MJD_ZERO = datetime(1858, 11, 17)
# a gap longer than this fraction of the time on source is shortened to that fraction
GAP_SHARE = 0.05


@dataclass(frozen=True)
class TimeAxis:
    """Position of each time on the axis.

    Attributes
    ----------
    time_s : (ntime,) float64
        Times, MJD seconds, ascending.
    x : (ntime,) float64
        Position on the axis, seconds on source plus what remains of the gaps.
    cuts : tuple of float
        Positions of the middles of shortened gaps.
    label : str
        Label of the axis, with the date.
    """

    time_s: NDArray[np.float64]
    x: NDArray[np.float64]
    cuts: tuple[float, ...]
    label: str

    def ticks(self, most: int = 4) -> tuple[list[float], list[str]]:
        """Return positions and labels of at most ``most`` ticks, at scan starts or round times."""
        if not self.time_s.size:
            return [], []
        starts = [0, *(int(np.searchsorted(self.x, cut)) for cut in self.cuts)]
        if len(starts) > 1:
            chosen = _spread(self.x[starts], most)
            places = [float(self.x[starts[i]]) for i in chosen]
            times = [float(self.time_s[starts[i]]) for i in chosen]
            return places, [self._text(time) for time in times]
        begin, end = float(self.time_s[0]), float(self.time_s[-1])
        step = _round_step((end - begin) / max(1, most - 1))
        times = list(np.arange(np.ceil(begin / step) * step, end + 0.01 * step, step)) or [begin]
        return [time - begin + float(self.x[0]) for time in times], [self._text(t) for t in times]

    def _text(self, time_s: float) -> str:
        span = float(np.ptp(self.time_s))
        stamp = MJD_ZERO + timedelta(seconds=round(time_s))
        if span > 2 * 86400:
            return f"{stamp:%d %b}"
        return f"{stamp:%H:%M}" if span > 240 else f"{stamp:%H:%M:%S}"


def _spread(places: NDArray[np.float64], most: int) -> list[int]:
    """Return the first position and others at least a ``most``-th of the axis apart."""
    apart = float(np.ptp(places)) / most if len(places) > 1 else 0.0
    chosen = [0]
    for index in range(1, len(places)):
        if places[index] - places[chosen[-1]] >= apart:
            chosen.append(index)
    return chosen


def _round_step(seconds: float) -> float:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
    return float(next((step for step in steps if step >= seconds), 86400))


def make_time_axis(time_s: NDArray[np.float64], interval_s: NDArray[np.float64]) -> TimeAxis:
    """Return the positions of times, with long gaps shortened.

    Parameters
    ----------
    time_s, interval_s : (ntime,) float64
        Centres (ascending) and lengths of the solution intervals, s.

    Returns
    -------
    TimeAxis
    """
    steps = np.diff(time_s)
    # without intervals, the distance to the neighbour is used: hours for one solution per scan
    typical = min(
        float(np.median(interval_s)) if interval_s.size else 0.0,
        float(np.median(steps)) if steps.size else np.inf,
    )
    long = steps > 3 * max(typical, 1e-3)
    source_s = float(steps[~long].sum()) or typical * len(time_s)
    shortened = GAP_SHARE * source_s + typical
    cut = long & (steps > shortened)
    x = np.concatenate([[0.0], np.cumsum(np.where(cut, shortened, steps))])[: len(time_s)]
    cuts = tuple(float(x[i] + 0.5 * shortened) for i in np.flatnonzero(cut))
    return TimeAxis(time_s, x, cuts, _label(time_s, bool(cuts)))


def _label(time_s: NDArray[np.float64], cut: bool) -> str:
    if not time_s.size:
        return "Time (UTC)"
    first = MJD_ZERO + timedelta(seconds=float(time_s.min()))
    last = MJD_ZERO + timedelta(seconds=float(time_s.max()))
    day = f"{first:%Y-%m-%d}"
    if last.date() != first.date():
        day += f" to {last:%Y-%m-%d}"
    return f"Time (UTC), {day}" + ("; gaps are cut short at the dotted lines" if cut else "")
