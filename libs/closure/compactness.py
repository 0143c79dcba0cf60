"""Whether a field is a point, by closure phases of whole scans: no calibration is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import independent_triangles
from libs.ms.rows import read_rows, row_pieces
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["Compactness", "measure_compactness"]

_INNER = 0.25, 0.75  # part of a window that is averaged: its edges are often bad


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

    Each baseline is averaged over the inner channels of a window and over a scan, with noise from
    the scatter of integrations. That needs phases that are steady within a scan on each triangle,
    which antenna errors do not spoil, and a source without structure on the scale of its uv track.

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
    for vis, spread in _integrations(ms, fields, column, nant):
        noise = np.sqrt(spread)
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = np.abs(vis) / noise
        good = np.isfinite(snr) & (snr > 0)
        if good.sum() < 3:
            continue
        signal.append(np.median(snr[good]))
        first, second = np.triu_indices(nant, 1)
        present = np.zeros((nant, nant), bool)
        present[first[good], second[good]] = present[second[good], first[good]] = True
        order = np.argsort(-present.sum(axis=1), kind="stable").tolist()
        table, weight = np.zeros((nant, nant), complex), np.zeros((nant, nant))
        table[first, second], table[second, first] = vis, vis.conj()
        with np.errstate(divide="ignore"):
            weight[first, second] = weight[second, first] = np.where(good, snr**-2, np.inf)
        for a, b, c in independent_triangles(present, order):
            phase = np.angle(table[a, b] * table[b, c] * table[a, c].conj())
            phases.append((phase, weight[a, b] + weight[b, c] + weight[a, c]))
    if not phases:
        return Compactness(math.nan, float(np.median(signal)) if signal else 0.0)
    phase, variance = np.array(phases).T
    # of a point half of the closure phases are within 0.67 of their errors: medians stand RFI
    usable = variance < 0.25
    if usable.sum() < 1:
        return Compactness(math.nan, float(np.median(signal)))
    rms = 1.4826 * float(np.median(np.abs(phase[usable])))
    noise_rad = float(np.sqrt(np.median(variance[usable])))
    own = math.sqrt(max(rms**2 - noise_rad**2, 0.0))
    return Compactness(math.degrees(own), float(np.median(signal)))


def _integrations(  # type: ignore[no-untyped-def]
    ms: Path, fields: tuple[int, ...], column: str, nant: int
):
    """Yield mean visibility and variance of the mean of each scan, window and hand, (nbl,)."""
    found = Subtables(ms)
    nbl = nant * (nant - 1) // 2
    sums: dict[tuple[int, int, int], NDArray[np.complex128]] = {}
    names = (column, "FLAG", "FLAG_ROW", "ANTENNA1", "ANTENNA2", "SCAN_NUMBER")
    where = f"FIELD_ID IN {list(fields)} && ANTENNA1 != ANTENNA2"
    with open_table(ms) as opened:
        for ddid, rows in row_pieces(opened, (column,), where=where):
            read = read_rows(opened, names, rows)
            channels = found.windows[int(found.spw_of[ddid])].channels
            low, high = int(_INNER[0] * channels), max(int(_INNER[1] * channels), 1)
            high = max(high, low + 1)
            p, q = read["ANTENNA1"].astype(np.int64), read["ANTENNA2"].astype(np.int64)
            swap = p > q
            one, two = np.where(swap, q, p), np.where(swap, p, q)
            place = one * (2 * nant - one - 1) // 2 + two - one - 1
            for hand in found.setup_of[ddid].parallel:
                data = read[column][:, low:high, hand]
                flag = read["FLAG"][:, low:high, hand] | read["FLAG_ROW"][:, None]
                count = (~flag).sum(axis=1)
                mean = np.where(flag, 0, data).sum(axis=1) / np.maximum(count, 1)
                mean = np.where(swap, mean.conj(), mean)
                for scan in np.unique(read["SCAN_NUMBER"]):
                    mine = (read["SCAN_NUMBER"] == scan) & (count > 0) & np.isfinite(mean)
                    key = (int(scan), ddid, hand)
                    total = sums.setdefault(key, np.zeros((3, nbl), complex))
                    np.add.at(total[0], place[mine], mean[mine])
                    np.add.at(total[1], place[mine], np.abs(mean[mine]) ** 2)
                    np.add.at(total[2], place[mine], 1)
    for total in sums.values():
        count = np.maximum(total[2].real, 1)
        mean = total[0] / count
        spread = np.maximum(total[1].real / count - np.abs(mean) ** 2, 0)
        enough = total[2].real > 1
        yield mean, np.where(enough, spread / np.maximum(count - 1, 1), np.inf)
