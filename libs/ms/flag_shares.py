"""Flagged visibilities by antenna and by length of the baseline, now and in an earlier version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.flag_versions import flag_table
from libs.ms.rows import read_rows, row_pieces
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["FlagShares", "count_flag_shares"]

LENGTH_BINS = 8
_FLAGS = ("FLAG", "FLAG_ROW")


@dataclass(frozen=True)
class FlagShares:
    """Fraction of the visibilities flagged, 0 to 1; NaN where there are none.

    Attributes
    ----------
    antenna : tuple of str
        Names of the antennas with data.
    by_antenna : (2, nant) float64
        Of all baselines of an antenna: in the earlier version, and now.
    edges_m : (nbin + 1,) float64
        Bounds of bins of baseline lengths, m; each bin has about as many baselines.
    by_length : (2, nbin) float64
        As ``by_antenna``.
    """

    antenna: tuple[str, ...]
    by_antenna: NDArray[np.float64]
    edges_m: NDArray[np.float64]
    by_length: NDArray[np.float64]


def count_flag_shares(ms: str | Path, version: str, bins: int = LENGTH_BINS) -> FlagShares:
    """Count flags of a measurement set in one pass.

    Lengths are those between the antennas, so that a baseline stays in its bin.

    Parameters
    ----------
    ms : path
    version : str
        Flag version that is compared with the present flags.
    bins : int
        Most bins of lengths.

    Raises
    ------
    InputError
        There is no such version.
    """
    tables = Subtables(ms)
    count = len(tables.antennas)
    # flagged before, flagged now, all: by pair of antennas
    totals = np.zeros((3, count, count), np.int64)
    with open_table(ms) as opened, open_table(flag_table(ms, version)) as saved:
        for _, rows in row_pieces(opened, _FLAGS):
            ends = read_rows(opened, ("ANTENNA1", "ANTENNA2"), rows)
            pair = (ends["ANTENNA1"], ends["ANTENNA2"])
            for place, source in enumerate((saved, opened)):
                flag = _flagged(read_rows(source, _FLAGS, rows))
                np.add.at(totals[place], pair, flag.sum(axis=(1, 2)))
            np.add.at(totals[2], pair, flag.shape[1] * flag.shape[2])
    return _shares(totals, tables, bins)


def _flagged(columns: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    return np.asarray(columns["FLAG"] | columns["FLAG_ROW"][:, None, None])


def _shares(totals: NDArray[np.int64], tables: Subtables, bins: int) -> FlagShares:
    """Sum up counts by antenna and by length."""
    both = totals + totals.transpose(0, 2, 1)
    by_antenna = both.sum(axis=2) - np.einsum("kii->ki", totals)  # a baseline to itself counts once
    used = np.flatnonzero(by_antenna[2])
    first, second = np.nonzero(np.triu(both[2], k=1))
    place = tables.position_m
    length = np.linalg.norm(place[first] - place[second], axis=1)
    edges = np.unique(np.quantile(length, np.linspace(0, 1, bins + 1))) if len(length) else length
    bin_of = np.clip(np.searchsorted(edges, length, side="right") - 1, 0, max(len(edges) - 2, 0))
    by_length = np.zeros((3, max(len(edges) - 1, 0)))
    if by_length.size:
        for kind in range(3):
            np.add.at(by_length[kind], bin_of, both[kind, first, second])
    names = tables.antenna_names
    return FlagShares(
        tuple(names[i] for i in used), _fractions(by_antenna[:, used]), edges, _fractions(by_length)
    )


def _fractions(counts: NDArray[Any]) -> NDArray[np.float64]:
    every = counts[2].astype(np.float64)
    return np.divide(
        counts[:2], every, out=np.full(counts[:2].shape, np.nan), where=np.asarray(every > 0)
    )
