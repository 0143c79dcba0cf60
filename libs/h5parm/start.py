"""Solutions from which a calibration starts: chosen for its direction and applied to its data.

A run of one source with a given table and a field with its global table do the same for each
source: the best solutions of each station for the position are found, the data are corrected with
them, and the run's own solutions are multiplied onto them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import separation_rad
from libs.core.errors import InputError
from libs.gains.apply_kernels import apply_gains
from libs.h5parm.direction_gains import DirectionGains, correlation_feeds
from libs.h5parm.nearest import NearestSolutions, StationChoice, best
from libs.h5parm.provenance import entries_of
from libs.h5parm.reader import read_h5parm
from libs.h5parm.solset import Solset
from libs.ms.create import read_layout
from libs.ms.rows import RowBlock, read_block, row_blocks, write_block
from libs.ms.summary import MsSummary
from libs.ms.tables import open_table

__all__ = ["Corrected", "StartLimits", "correct_data", "find_start", "not_covered"]

CHUNK_BYTES = 32 * 1024**2
_CELL_BYTES = 22  # data, flags, weights and the corrected data


@dataclass(frozen=True)
class StartLimits:
    """Limits for good solutions, as in `libs.h5parm.nearest.best`."""

    min_good_fraction: float = 0.5
    min_coherence: float = 0.5
    max_separation_deg: float = math.inf


@dataclass(frozen=True)
class Corrected:
    """Result of a correction: fraction of the visibilities flagged before and after."""

    flagged_before: float
    flagged_after: float


def find_start(
    store: Path,
    direction_rad: tuple[float, float],
    *,
    name: str,
    direction: str = "",
    limits: StartLimits | None = None,
) -> NearestSolutions:
    """Return the solutions from which a calibration at a position starts.

    Parameters
    ----------
    store : Path
        File (h5parm) of one or many directions.
    direction_rad : (float, float)
        Right ascension and declination (J2000) of the data.
    name : str
        Name of the result's direction.
    direction : str
        Direction to take unchanged; empty: for each station the nearest with good solutions.
    limits : StartLimits, optional
        Limits for good solutions; they have no effect with ``direction``.

    Raises
    ------
    InputError
        The file is not an h5parm, has no such direction, or nothing good for any station.
    """
    if direction:
        return _as_named(Path(store), direction_rad, name, direction)
    limits = limits or StartLimits()
    return best(
        Path(store), *direction_rad, name=name, min_good_fraction=limits.min_good_fraction,
        min_coherence=limits.min_coherence, max_separation_deg=limits.max_separation_deg,
    )  # fmt: skip


def _as_named(
    store: Path, direction_rad: tuple[float, float], name: str, direction: str
) -> NearestSolutions:
    """Return all solutions of one direction, good or not."""
    whole = read_h5parm(store)
    one = whole.in_direction(direction.strip("[]"))
    place = np.array([direction_rad], dtype=float)
    apart_deg = float(np.rad2deg(separation_rad(one.direction_rad[0], place[0])))
    entries = entries_of(store, whole)
    choices, kept = [], []
    for station, fraction in zip(one.antenna, one.good_fraction[:, 0], strict=True):
        entry = entries.get((one.direction[0], station))
        if entry is None:
            note = f"no solutions in {one.direction[0]}"
            choices.append(StationChoice(station, None, math.nan, 0.0, math.nan, note))
            continue
        choices.append(
            StationChoice(station, one.direction[0], apart_deg, float(fraction), entry.coherence)
        )
        kept.append(replace(entry, direction=name, input=str(store)))
    if not kept:
        raise InputError(f"{store} has no solutions in {direction}", "choose another direction")
    return NearestSolutions(
        replace(one, direction=(name,), direction_rad=place), tuple(choices), tuple(kept)
    )


def correct_data(ms: Path, gains: DirectionGains, *, chunk_bytes: int = CHUNK_BYTES) -> Corrected:
    """Divide DATA of a working copy by gains, in place.

    Visibilities without a solution are flagged; weights are multiplied by the squared gains, and
    SIGMA is set to match.

    Parameters
    ----------
    ms : Path
        Working copy, whose DATA, FLAG and weights are written.
    gains : DirectionGains
        Gains of its antennas.
    chunk_bytes : int
        Memory limit for a chunk of data.
    """
    layout = read_layout(Path(ms))
    weigh = bool((gains.solset.amplitude != 1).any())
    before = after = total = 0
    buffer: dict[str, Any] = {}
    with open_table(ms, write=True) as opened:

        def most_rows(number: int, rows: NDArray[np.int64]) -> int:
            channels = len(layout.frequency_hz[layout.spw_of[number]])
            return chunk_bytes // (channels * len(layout.corr_types[number]) * _CELL_BYTES)

        for block in row_blocks(opened, most_rows):
            channel_hz = layout.frequency_hz[layout.spw_of[block.data_desc_id]]
            feeds = correlation_feeds(layout.corr_types[block.data_desc_id])
            found = _correct_block(opened, block, gains, channel_hz, feeds, weigh, buffer)
            before, after, total = before + found[0], after + found[1], total + found[2]
    return Corrected(before / max(total, 1), after / max(total, 1))


def _correct_block(
    opened: Any,
    block: RowBlock,
    gains: DirectionGains,
    channel_hz: NDArray[np.float64],
    feeds: NDArray[np.int64],
    weigh: bool,
    buffer: dict[str, Any],
) -> tuple[int, int, int]:
    """Correct some rows; return their flagged visibilities before and after, and all."""
    data = read_block(opened, "DATA", block, buffer)
    flag = read_block(opened, "FLAG", block, buffer)
    before = int(np.count_nonzero(flag))
    there = gains.at(read_block(opened, "TIME", block, buffer), channel_hz)
    spectral = "WEIGHT_SPECTRUM" in opened.colnames() and opened.iscelldefined(
        "WEIGHT_SPECTRUM", int(block.rows[0])
    )
    weight = np.empty((0, 0, 0), np.float32)
    if weigh:
        weight = np.array(
            read_block(opened, "WEIGHT_SPECTRUM" if spectral else "WEIGHT", block, buffer),
            dtype=np.float32,
        )
        weight = weight if spectral else weight[:, None, :]
    corrected = np.empty(data.shape, np.complex64)
    apply_gains(
        data, flag, weight, read_block(opened, "ANTENNA1", block, buffer),
        read_block(opened, "ANTENNA2", block, buffer), there.row, there.gain, there.valid,
        np.ascontiguousarray(feeds[:, 0]), np.ascontiguousarray(feeds[:, 1]), True, corrected,
    )  # fmt: skip
    write_block(opened, "DATA", block, corrected)
    write_block(opened, "FLAG", block, flag)
    if weigh:
        if spectral:
            write_block(opened, "WEIGHT_SPECTRUM", block, weight)
        mean = weight.mean(axis=1)
        sigma = np.divide(1, np.sqrt(mean), out=np.zeros_like(mean), where=mean > 0)
        write_block(opened, "WEIGHT", block, mean)
        write_block(opened, "SIGMA", block, sigma)
    return before, int(np.count_nonzero(flag)), flag.size


def not_covered(solset: Solset, summary: MsSummary) -> str:
    """Return the times or frequencies of data outside those of solutions; empty if there are none.

    Solutions hold beyond their first and last value; a single one holds everywhere.
    """
    texts = []
    for axis, low, high, unit, scale in (
        (solset.time_s, *summary.time_range_s, "s", 1.0),
        (solset.frequency_hz, summary.min_frequency_hz, summary.max_frequency_hz, "MHz", 1e-6),
    ):
        if len(axis) < 2:
            continue
        step = float(np.median(np.diff(axis)))
        beyond = max(axis[0] - low, high - axis[-1])
        if beyond > step:
            texts.append(f"{beyond * scale:.4g} {unit}")
    return f"the data reach {' and '.join(texts)} beyond the solutions" if texts else ""
