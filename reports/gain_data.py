"""The gains of a run as the page shows them: by antenna and time, each window and hand."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import SelfcalError
from libs.gains.gain_solutions import GainSolutions
from reports.colours import coloured
from reports.encoding import half_floats, png_uri, short_integers
from reports.records import Run
from reports.solved_data import table_solutions

__all__ = ["RoundGains", "read_gains"]

MOST_POINTS = 200_000
PHASE_STEP_DEG = 0.01
LEAST_PHASE_DEG = 2.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundGains:
    """The gains of a round and data set.

    Attributes
    ----------
    step, status : str
    solutions : GainSolutions
        Every ``stride``-th solution in time.
    stride : int
    """

    step: str
    status: str
    solutions: GainSolutions
    stride: int

    def payload(self) -> dict[str, Any]:
        """Return what the page's script needs; arrays are (time, window, antenna, hand)."""
        found = self.solutions
        bad = found.flag
        phase = np.where(bad, np.nan, np.degrees(np.angle(found.gain)))
        amplitude = np.where(bad, np.nan, np.abs(found.gain))
        snr = np.where(bad | ~np.isfinite(found.snr), np.nan, found.snr)
        return {
            "step": self.step, "status": self.status, "stride": self.stride,
            "times": [round(float(t - found.time_s[0]), 2) for t in found.time_s],
            "start": float(found.time_s[0]) if len(found.time_s) else 0.0,
            "antennas": list(found.antenna), "hands": list(map(str, found.polarization)),
            "windows": [f"{hz / 1e9:.4g} GHz" for hz in np.ravel(found.frequency_hz)],
            "phase": short_integers(phase, PHASE_STEP_DEG), "amplitude": half_floats(amplitude),
            "snr": half_floats(snr),
            "amplitudes": bool(np.nanmax(np.abs(amplitude - 1), initial=0.0) > 1e-4),
            # phases that hardly move say less than the amplitudes of the same round
            "phases": bool(np.nanmax(np.abs(phase), initial=0.0) > LEAST_PHASE_DEG),
        }  # fmt: skip

    def picture(self) -> str:
        """Return phases by antenna and time, for readers without scripts."""
        mean = _mean_gain(self.solutions)
        turn = np.where(
            np.isfinite(mean), (np.angle(np.nan_to_num(mean)) + np.pi) / (2 * np.pi), np.nan
        )
        pixels = coloured(turn.T, "circle")
        tall, wide = max(1, 12), max(1, math.ceil(600 / max(1, pixels.shape[1])))
        return png_uri(pixels.repeat(tall, axis=0).repeat(wide, axis=1))


def _mean_gain(found: GainSolutions) -> NDArray[np.complex128]:
    """Return the mean gain of all windows and hands, (time, antenna); NaN where all are flagged."""
    good = ~found.flag
    number = good.sum(axis=(1, 3))
    total = np.where(good, found.gain, 0).sum(axis=(1, 3))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def read_gains(run: Run) -> list[RoundGains]:
    """Return the gains that the rounds of a run solved, thinned in time where they are many."""
    found: list[tuple[str, str, GainSolutions]] = []
    for row in run.rounds:
        for relative in row.gain_tables:
            path = run.file(relative)
            if path is None:
                continue
            try:
                found.append((row.step, row.status, table_solutions(run, path)))
            except (SelfcalError, OSError, RuntimeError):
                logger.warning("gains of %s are not shown", path.name, exc_info=True)
    points = sum(one.gain.size for _, _, one in found)
    stride = max(1, math.ceil(points / MOST_POINTS))
    return [RoundGains(step, status, _thinned(one, stride), stride) for step, status, one in found]


def _thinned(found: GainSolutions, stride: int) -> GainSolutions:
    if stride == 1 or len(found.time_s) <= 2:
        return found
    pick = slice(None, None, stride)
    return replace(
        found, time_s=found.time_s[pick], interval_s=found.interval_s[pick],
        gain=found.gain[pick], flag=found.flag[pick], snr=found.snr[pick],
    )  # fmt: skip
