"""The reference antenna of solutions: which it is, and phases made relative to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from libs.gains.reference_kernels import reference_kernel

__all__ = ["antenna_ids", "refant_choices", "reference_phases"]

logger = logging.getLogger(__name__)


def refant_choices(
    refants: Sequence[int],
    position_m: NDArray[np.float64],
    flag: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return every antenna in order of preference as reference.

    First those named, then the rest by distance from the last one named. Without any name the
    antenna with most good solutions stands first.

    Parameters
    ----------
    refants : sequence of int
    position_m : (nant, 3) float64
    flag : (ntime, nfreq, nant, npol) bool
    """
    named = list(dict.fromkeys(refants)) or [int(np.argmax((~flag).sum(axis=(0, 1, 3))))]
    distance = np.linalg.norm(position_m - position_m[named[-1]], axis=1)
    distance[named] = np.inf
    rest = [int(ant) for ant in np.argsort(distance, kind="stable") if ant not in named]
    return np.array(named + rest, np.int64)


def reference_phases(
    gain: NDArray[np.complex128],
    flag: NDArray[np.bool_],
    choices: NDArray[np.int64],
    calmode: Literal["p", "a", "ap"],
    kept: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.complex128], NDArray[np.bool_], NDArray[np.int64]]:
    """Reference the phases of solutions in order of time, and make them what calmode says.

    The first available antenna of the list is the reference of each interval. When it changes
    hands the new one's phase is held where it was, so that phases are continuous; the old one
    may later return at another phase than zero (gaincal's refantmode ``flex``). An antenna is
    available when all its polarizations are unflagged in this interval and the one before, those
    apart that no antenna has. Where there is none, one that was unflagged earlier links the
    interval to what went before; where no antenna does, the first one unflagged starts anew. An
    interval without any is flagged.

    Parameters
    ----------
    gain, flag : (ntime, nfreq, nant, npol)
    choices : (nant,) int64
        See `refant_choices`.
    calmode : str
        ``"p"``: amplitudes become 1; ``"a"``: phases become 0.
    kept : (ntime, nfreq) bool, optional
        Intervals that count; the others are no break of the reference. Default all.

    Returns
    -------
    gain, flag : (ntime, nfreq, nant, npol)
    used : (ntime, nfreq) int64
        Reference antenna of each interval, -1 for none.
    """
    gain, flag = gain.copy(), flag.copy()
    ntime, nfreq = gain.shape[:2]
    order = np.insert(choices, 1, choices[0]).astype(np.int64)
    used = np.empty((ntime, nfreq), np.int64)
    everything = np.ones((ntime, nfreq), bool)
    reference_kernel(gain, flag, everything if kept is None else kept, order, used)
    size = np.abs(gain)
    if calmode == "p":
        gain = np.where(size > 0, gain / np.where(size > 0, size, 1), 1)
    elif calmode == "a":
        gain = np.where(size > 0, size, 1).astype(np.complex128)
    gain[flag] = 1
    return gain, flag, used


def antenna_ids(names: Sequence[str], antenna: Sequence[str]) -> list[int]:
    """Ids of the named antennas; names the data lack are passed over with a warning."""
    known = {name: index for index, name in reversed(list(enumerate(antenna)))}
    missing = [name for name in names if name not in known]
    if missing:
        logger.warning("reference antennas not in the data: %s", ", ".join(missing))
    return [known[name] for name in names if name in known]
