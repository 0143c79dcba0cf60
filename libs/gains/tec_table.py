"""TECs beside the gains they make: the blocks of a TEC solve, and where a table keeps its TECs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.gains.frequency_blocks import block_centres, channels_for_blocks
from libs.gains.solver import SolveOptions
from libs.ms.rows import distinct
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = [
    "DELAY_BLOCKS",
    "DELAY_SOLUTIONS",
    "TecBlocks",
    "TecSolutions",
    "keep_tec",
    "read_tec",
    "solution_blocks",
    "store_tec",
    "tec_blocks",
    "used_channels",
]

DELAY_SOLUTIONS = ("delay+phase", "constant_delay+phase", "delay+tec")
DELAY_BLOCKS = 8  # of a spectral window that delays are fitted to
MOST_DELAY_CHANNELS = 1024  # of all windows, written one by one
MOST_WRITTEN = 64  # blocks in a gain table, for the whole band
_KEYWORDS = {
    "TecTime": "time_s", "TecTecu": "tec_tecu", "TecPhase": "phase_rad", "TecWeight": "weight",
}  # fmt: skip


@dataclass(frozen=True)
class TecBlocks:
    """Frequency blocks of a TEC solve.

    Attributes
    ----------
    solved_channels : int
        Channels a block of the sums has.
    frequency_hz : (nfreq,) float64
    spw : (nfreq,) int64
        Blocks of the gain table, finer: gains between them are interpolated, beyond the
        outermost they hold.
    """

    solved_channels: int
    frequency_hz: NDArray[np.float64]
    spw: NDArray[np.int64]


@dataclass(frozen=True)
class TecSolutions:
    """TECs of a gain table.

    Attributes
    ----------
    time_s : (ntime,) float64
        Of its intervals, MJD seconds.
    tec_tecu : (ntime, nant) float64
        Relative to the reference antenna, 0 where not solved.
    phase_rad : (ntime, nant, ngain) float64
        Phase at infinite frequency.
    weight : (ntime, nant, ngain) float64
        Squared SNR of the phase in the middle of the band; 0 where not solved.
    """

    time_s: NDArray[np.float64]
    tec_tecu: NDArray[np.float64]
    phase_rad: NDArray[np.float64]
    weight: NDArray[np.float64]


def used_channels(ms: Path) -> dict[int, NDArray[np.float64]]:
    """Return the channels, Hz, of each spectral window with rows, in the order of their ids."""
    with open_table(ms) as opened:
        used = distinct(opened, "DATA_DESC_ID")
    found = Subtables(ms)
    return {int(spw): found.windows[spw].frequency_hz for spw in np.unique(found.spw_of[used])}


def tec_blocks(ms: Path, channels_per_block: int = 0) -> TecBlocks:
    """Return the blocks of a TEC solve of a measurement set.

    Parameters
    ----------
    ms : Path
    channels_per_block : int
        Of the sums; 0: about `libs.gains.frequency_blocks.WANTED_BLOCKS` in all.
    """
    channels = used_channels(ms)
    solved = channels_per_block or channels_for_blocks(list(channels.values()))
    written = min(solved, channels_for_blocks(list(channels.values()), MOST_WRITTEN))
    return TecBlocks(solved, *block_centres(channels, written))


def solution_blocks(ms: Path, options: SolveOptions) -> TecBlocks:
    """Return the blocks of a solve for TECs, or for delays and phases of each window.

    Delays turn phases in proportion to frequency, also beyond the centre of a window's last
    block: their gains are written channel by channel as long as these are not too many.
    """
    if options.solution not in DELAY_SOLUTIONS:
        return tec_blocks(ms, options.channels_per_block)
    channels = used_channels(ms)
    widths = [len(hz) for hz in channels.values()]
    solved = options.channels_per_block or max(1, -(-max(widths) // DELAY_BLOCKS))
    written = max(1, -(-sum(widths) // MOST_DELAY_CHANNELS))
    return TecBlocks(solved, *block_centres(channels, written))


def store_tec(table: Path, tec: TecSolutions) -> None:
    """Keep TECs as keywords of a gain table, which CASA leaves alone."""
    with open_table(table, write=True) as opened:
        for keyword, name in _KEYWORDS.items():
            opened.putkeyword(keyword, np.ascontiguousarray(getattr(tec, name)))


def read_tec(table: Path) -> TecSolutions | None:
    """Return the TECs of a gain table; None when it was not made from TECs."""
    with open_table(table) as opened:
        found = opened.getkeywords()
    if "TecTecu" not in found:
        return None
    return TecSolutions(**{name: np.asarray(found[key]) for key, name in _KEYWORDS.items()})


def keep_tec(
    tec: TecSolutions,
    antenna: Sequence[str],
    lost: Sequence[str],
    longer: Mapping[str, TecSolutions | None],
) -> TecSolutions:
    """Replace the TECs of antennas whose own are noise, as `libs.gains.patch_gains` does the gains.

    Parameters
    ----------
    tec : TecSolutions
    antenna : sequence of str
        Its antennas, and those of ``longer``.
    lost : sequence of str
        Antennas whose TECs are not to be used.
    longer : mapping of str to TecSolutions
        For some of them those of a longer interval; the others get none.
    """
    parts = {name: getattr(tec, name).copy() for name in ("tec_tecu", "phase_rad", "weight")}
    for name in lost:
        i = list(antenna).index(name)
        other = longer.get(name)
        good = None if other is None else (other.weight[:, i] > 0).any(axis=1)
        for values in parts.values():
            values[:, i] = 0.0
        if other is None or good is None or not good.any():
            continue
        stamps = other.time_s[good]
        parts["tec_tecu"][:, i] = np.interp(tec.time_s, stamps, other.tec_tecu[good, i])
        for k in range(tec.phase_rad.shape[2]):
            turned = np.unwrap(other.phase_rad[good, i, k])
            parts["phase_rad"][:, i, k] = np.interp(tec.time_s, stamps, turned)
            parts["weight"][:, i, k] = np.median(other.weight[good, i, k])
    return replace(tec, **parts)
