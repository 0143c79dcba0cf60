"""TECs beside the gains they make: the blocks of a TEC solve, and where a table keeps its TECs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.frequency_blocks import block_centres, channels_for_blocks
from libs.solset import SCALAR, Solset
from libs.tables import open_table

__all__ = ["TecBlocks", "TecSolutions", "read_tec", "store_tec", "tec_blocks", "tec_solset"]

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
        used = np.unique(opened.getcol("DATA_DESC_ID"))
    with open_table(f"{ms}::DATA_DESCRIPTION") as descriptions:
        spws = np.unique(descriptions.getcol("SPECTRAL_WINDOW_ID")[used])
    with open_table(f"{ms}::SPECTRAL_WINDOW") as windows:
        return {int(spw): np.asarray(windows.getcell("CHAN_FREQ", spw)) for spw in spws}


def tec_blocks(ms: Path, channels_per_block: int = 0) -> TecBlocks:
    """Return the blocks of a TEC solve of a measurement set.

    Parameters
    ----------
    ms : Path
    channels_per_block : int
        Of the sums; 0: about `libs.frequency_blocks.WANTED_BLOCKS` in all.
    """
    channels = used_channels(ms)
    solved = channels_per_block or channels_for_blocks(list(channels.values()))
    written = min(solved, channels_for_blocks(list(channels.values()), MOST_WRITTEN))
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


def tec_solset(
    tec: TecSolutions,
    antenna: tuple[str, ...],
    position_m: NDArray[np.float64],
    direction: str,
    direction_rad: tuple[float, float],
    frequency_hz: float,
) -> Solset:
    """Return TECs, and constant phases where there are any, as a table for an h5parm.

    It has one frequency and so is written as tec000 (and phase000).

    Parameters
    ----------
    tec : TecSolutions
    antenna, position_m
        Of the gain table.
    direction : str
    direction_rad : (float, float)
        Right ascension and declination.
    frequency_hz : float
        Middle of the band.
    """
    known = tec.weight > 0
    polarization = SCALAR if known.shape[2] == 1 else ("XX", "YY")
    phase = np.where(known, tec.phase_rad, 0)[:, None, :, None, :]
    return Solset(
        time_s=tec.time_s,
        frequency_hz=np.array([frequency_hz]),
        antenna=antenna,
        position_m=position_m,
        direction=(direction,),
        direction_rad=np.array([direction_rad], dtype=float),
        polarization=polarization,
        phase_rad=phase,
        amplitude=np.ones(phase.shape),
        weight=tec.weight[:, None, :, None, :],
        tec_tecu=np.where(known.any(axis=2), tec.tec_tecu, 0)[..., None],
    )
