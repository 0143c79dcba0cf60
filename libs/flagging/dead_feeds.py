"""Feeds without signal and without noise are found by both and flagged.

A receiver that is off or not connected leaves values near zero on its baselines. With weights
from the scatter of the data these would dominate every image; with equal weights they dilute the
other data.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.rows import chunks
from libs.ms.subtables import PARALLEL_HANDS, Subtables
from libs.ms.tables import open_table

__all__ = ["DeadFeed", "find_dead_feeds", "flag_dead_feeds"]

logger = logging.getLogger(__name__)

# Sensitivities within an array differ by a factor of tens at most. Resolved sources change the
# amplitude by a hundred or so, but not the noise. A feed is dead only if both are this low.
DEAD_FRACTION = 0.01
_MIN_CHANNELS = 4
_MAX_ROWS = 200_000


@dataclass(frozen=True)
class DeadFeed:
    """A feed without signal.

    Attributes
    ----------
    antenna : int
    data_desc_id : int
        Data description in which it is dead.
    feed : str
        ``"R"``, ``"L"``, ``"X"`` or ``"Y"``.
    amplitude, noise : float
        Amplitude and noise relative to the median over all antennas.
    """

    antenna: int
    data_desc_id: int
    feed: str
    amplitude: float
    noise: float


def _row_levels(
    data: NDArray[Any], good: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return amplitude and noise of each row and correlation; NaN where too little is unflagged.

    The noise is the rms difference of neighbouring channels over sqrt(2), which sources and
    smooth bandpasses do not affect.
    """
    values = np.where(good, data, 0).astype(np.complex128)
    number = good.sum(axis=1)
    pairs = good[:, 1:] & good[:, :-1]
    steps = np.where(pairs, np.abs(values[:, 1:] - values[:, :-1]) ** 2, 0).sum(axis=1)
    count = pairs.sum(axis=1)
    enough = (number >= _MIN_CHANNELS) & (count >= _MIN_CHANNELS - 1)
    noise = np.sqrt(steps / (2 * np.maximum(count, 1)))
    amplitude = np.abs(values).sum(axis=1) / np.maximum(number, 1)
    return np.where(enough, amplitude, np.nan), np.where(enough, noise, np.nan)


def find_dead_feeds(ms: Path) -> list[DeadFeed]:
    """Find the feeds of a measurement set that give neither signal nor noise.

    Only data with at least four channels are used; of large data a random part of the rows is
    read.
    """
    correlations = [setup.correlations for setup in Subtables(ms).setup_of]
    levels: dict[int, list[tuple[NDArray[Any], ...]]] = {}
    rng = np.random.default_rng(0)
    with open_table(ms) as opened:
        share = min(1.0, _MAX_ROWS / max(opened.nrows(), 1))
    for chunk in chunks(ms, ("DATA", "FLAG", "ANTENNA1", "ANTENNA2")):
        if chunk["DATA"].shape[1] < _MIN_CHANNELS:
            continue
        rows = rng.random(len(chunk.rows)) < share
        amplitude, noise = _row_levels(chunk["DATA"][rows], ~chunk["FLAG"][rows])
        levels.setdefault(chunk.data_desc_id, []).append(
            (chunk["ANTENNA1"][rows], chunk["ANTENNA2"][rows], amplitude, noise)
        )
    dead = []
    for ddid, parts in levels.items():
        one, two, amplitude, noise = (np.concatenate(part) for part in zip(*parts, strict=True))
        for index, name in enumerate(correlations[ddid]):
            if name in PARALLEL_HANDS and len(name) == 2:
                found = _outliers(one, two, amplitude[:, index], noise[:, index])
                dead += [DeadFeed(ant, ddid, name[0], *ratios) for ant, ratios in found.items()]
    return dead


def _outliers(
    one: NDArray[Any], two: NDArray[Any], amplitude: NDArray[Any], noise: NDArray[Any]
) -> dict[int, tuple[float, float]]:
    """Return antennas far below the others in both levels, with their ratios to the others."""
    kept = np.isfinite(amplitude) & np.isfinite(noise)
    one, two, levels = one[kept], two[kept], (amplitude[kept], noise[kept])
    antennas = np.unique(np.concatenate([one, two]))
    if len(antennas) < 4:
        return {}
    medians = np.array(
        [[np.median(level[(one == ant) | (two == ant)]) for level in levels] for ant in antennas]
    )
    typical = np.median(medians, axis=0)
    if not (typical > 0).all():
        return {}
    ratios = medians / typical
    return {
        int(ant): (float(pair[0]), float(pair[1]))
        for ant, pair in zip(antennas, ratios, strict=True)
        if (pair < DEAD_FRACTION).all()
    }


def flag_dead_feeds(ms: Path) -> tuple[str, ...]:
    """Flag all data of dead feeds, in place.

    Returns
    -------
    tuple of str
        One line for each dead feed, with the antenna's name.
    """
    dead = find_dead_feeds(ms)
    if not dead:
        return ()
    correlations = [setup.correlations for setup in Subtables(ms).setup_of]
    with open_table(ms, write=True) as opened:
        for chunk in chunks(ms, ("FLAG", "ANTENNA1", "ANTENNA2")):
            flag = chunk["FLAG"].copy()
            names = correlations[chunk.data_desc_id]
            for feed in dead:
                if feed.data_desc_id != chunk.data_desc_id:
                    continue
                first = [i for i, name in enumerate(names) if name[:1] == feed.feed]
                second = [i for i, name in enumerate(names) if name[1:] == feed.feed]
                flag[np.ix_(chunk["ANTENNA1"] == feed.antenna, range(flag.shape[1]), first)] = True
                flag[np.ix_(chunk["ANTENNA2"] == feed.antenna, range(flag.shape[1]), second)] = True
            part = opened.selectrows(chunk.rows)
            part.putcol("FLAG", flag)
            part.putcol("FLAG_ROW", flag.all(axis=(1, 2)))
            part.close()
    known = Subtables(ms).antenna_names
    lines = tuple(
        f"feed {feed.feed} of antenna {known[feed.antenna]} gives neither signal nor noise "
        f"({feed.amplitude:.1g} of the others' amplitude) and was flagged"
        for feed in dead
    )
    for line in lines:
        logger.warning("%s: %s", ms.name.removesuffix(".part"), line)
    return lines
