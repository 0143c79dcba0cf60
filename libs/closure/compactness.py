"""Whether a field is a point, by closure phases of whole scans: no calibration is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import independent_triangles
from libs.ms.rows import read_rows, row_pieces
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["Compactness", "measure_compactness"]

_INNER = 0.25, 0.75  # part of a window that is used: its edges are often bad
_BLOCKS = 16


@dataclass(frozen=True)
class Compactness:
    """Closure phases of a field.

    Attributes
    ----------
    closure_deg : float
        Rms about 0, less what noise makes of it.
    snr : float
        Median over baselines of a scan's amplitude over its noise.
    """

    closure_deg: float
    snr: float


def measure_compactness(ms: Path, fields: tuple[int, ...], column: str = "DATA") -> Compactness:
    """Measure the closure phases of a field.

    Each baseline is averaged over a scan and over blocks of a few of the inner channels of a
    window, with noise from the scatter of integrations; bispectra of blocks are added, in which
    neither phases nor delays of antennas count. That needs phases that are steady within a scan,
    and a source without structure on the scale of its uv track.

    Parameters
    ----------
    ms : Path
    fields : tuple of int
    column : str

    Returns
    -------
    Compactness
        NaN, 0 where there are too few baselines.
    """
    phases, signal = [], []
    nant = len(Subtables(ms).antennas)
    first, second = np.triu_indices(nant, 1)
    for vis, variance in _averages(ms, fields, column, nant):
        with np.errstate(divide="ignore", invalid="ignore"):
            power = np.abs(vis) ** 2 / variance
        known = np.isfinite(power) & np.isfinite(variance)
        good = known.any(axis=0)
        if good.sum() < 3:
            continue
        # of noise alone |vis|^2 is its variance
        snr = np.sqrt(np.maximum(np.where(known, power - 1, 0).sum(axis=0), 0))
        signal.append(np.median(snr[good]))
        present = np.zeros((nant, nant), bool)
        present[first[good], second[good]] = present[second[good], first[good]] = True
        order = np.argsort(-present.sum(axis=1), kind="stable").tolist()
        table = np.zeros((len(vis), nant, nant), complex)
        weight = np.zeros((nant, nant))
        table[:, first, second] = np.where(known, vis, 0)
        table[:, second, first] = table[:, first, second].conj()
        with np.errstate(divide="ignore"):
            weight[first, second] = weight[second, first] = np.where(snr > 0, snr**-2.0, np.inf)
        for a, b, c in independent_triangles(present, order):
            product = (table[:, a, b] * table[:, b, c] * table[:, a, c].conj()).sum()
            phases.append((np.angle(product), weight[a, b] + weight[b, c] + weight[a, c]))
    if not phases:
        return Compactness(math.nan, float(np.median(signal)) if signal else 0.0)
    phase, variance = np.array(phases).T
    # 90 % of a normal distribution are within 1.645 of its width; some triangles may hold RFI, and
    # most of a double's are too short to see it
    usable = variance < 0.25
    if usable.sum() < 1:
        return Compactness(math.nan, float(np.median(signal)))
    rms = float(np.percentile(np.abs(phase[usable]), 90)) / 1.645
    noise_rad = float(np.sqrt(variance[usable].mean()))
    own = math.sqrt(max(rms**2 - noise_rad**2, 0.0))
    return Compactness(math.degrees(own), float(np.median(signal)))


def _averages(
    ms: Path, fields: tuple[int, ...], column: str, nant: int
) -> Iterator[tuple[NDArray[np.complex128], NDArray[np.float64]]]:
    """Yield mean and variance of the mean of each scan, window and hand, both (nblock, nbl)."""
    found = Subtables(ms)
    nbl = nant * (nant - 1) // 2
    sums: dict[tuple[int, int, int], NDArray[np.complex128]] = {}
    names = (column, "FLAG", "FLAG_ROW", "ANTENNA1", "ANTENNA2", "SCAN_NUMBER")
    where = f"FIELD_ID IN {list(fields)} && ANTENNA1 != ANTENNA2"
    with open_table(ms) as opened:
        for ddid, rows in row_pieces(opened, (column,), where=where):
            read = read_rows(opened, names, rows)
            edges = _block_edges(found.windows[int(found.spw_of[ddid])].channels)
            p, q = read["ANTENNA1"].astype(np.int64), read["ANTENNA2"].astype(np.int64)
            swap = p > q
            one, two = np.where(swap, q, p), np.where(swap, p, q)
            place = one * (2 * nant - one - 1) // 2 + two - one - 1
            for hand in found.setup_of[ddid].parallel:
                data = np.nan_to_num(read[column][:, :, hand], posinf=0, neginf=0)
                flag = read["FLAG"][:, :, hand] | read["FLAG_ROW"][:, None]
                for block, (low, high) in enumerate(pairwise(edges)):
                    count = (~flag[:, low:high]).sum(axis=1)
                    total = np.where(flag, 0, data)[:, low:high].sum(axis=1)
                    mean = total / np.maximum(count, 1)
                    mean = np.where(swap, mean.conj(), mean)
                    for scan in np.unique(read["SCAN_NUMBER"]):
                        mine = (read["SCAN_NUMBER"] == scan) & (count > 0)
                        key = (int(scan), ddid, hand)
                        kept = sums.setdefault(key, np.zeros((3, len(edges) - 1, nbl), complex))
                        np.add.at(kept[0, block], place[mine], mean[mine])
                        np.add.at(kept[1, block], place[mine], np.abs(mean[mine]) ** 2)
                        np.add.at(kept[2, block], place[mine], 1)
    for kept in sums.values():
        count = np.maximum(kept[2].real, 1)
        mean = kept[0] / count
        spread = np.maximum(kept[1].real / count - np.abs(mean) ** 2, 0)
        enough = (kept[2].real > 1) & (spread > 0)
        yield mean, np.where(enough, spread / np.maximum(count - 1, 1), np.inf)


def _block_edges(channels: int) -> list[int]:
    """First channels of blocks of the inner part of a window, and one past the last."""
    low = int(_INNER[0] * channels)
    high = max(int(_INNER[1] * channels), low + 1)
    blocks = min(_BLOCKS, high - low)
    return [low + (high - low) * number // blocks for number in range(blocks + 1)]
