"""Small observations with one odd property each, as people have them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from casacore.tables import makecoldesc, makescacoldesc, maketabdesc, table

from libs.ms.antennas import AntennaArray
from libs.ms.tables import open_table
from libs.simulation.observation import Observation, Source, SpectralWindow, StationErrors, simulate

WINDOWS = ((4.97e9, 3.2e7, 8), (5.11e9, 3.2e7, 8))  # centre, width (Hz), channels
SKY = (Source(1.0, 0.0, 0.0), Source(0.3, 25.0, -12.0), Source(0.15, -8.0, 21.0))


def plain(
    path: Path,
    *,
    windows: Sequence[tuple[float, float, int]] = WINDOWS,
    correlations: tuple[str, ...] = ("RR", "LL"),
    antennas: int = 8,
    scans: int = 3,
    integrations: int = 3,
    noise_jy: float = 0.02,
    errors: StationErrors | None = None,
    seed: int = 1,
) -> Path:
    """Write an observation of three sources with nothing odd; a width below 0: falling channels."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(antennas) / antennas + rng.uniform(0, 0.5, antennas)
    radius_m = np.geomspace(60.0, 1500.0, antennas)
    place = np.stack([radius_m * np.cos(angle), radius_m * np.sin(angle), 0 * angle], axis=1)
    place += np.array([-1601185.0, -5041977.0, 3554876.0])
    names = tuple(f"ea{i + 1:02d}" for i in range(antennas))
    array = AntennaArray("VLA", names, names, place, np.full(antennas, 25.0))
    observation = Observation(
        array, (225.0, 30.0), 5.0844e9, 10.0, 10.0 * integrations,
        tuple(SpectralWindow(*window) for window in windows), scans=scans, gap_s=300.0,
        correlations=correlations, noise_jy=noise_jy,
    )  # fmt: skip
    simulate(path, observation, SKY, errors or StationErrors(), seed=seed, perfect=False)
    return path


def rows_of(
    ms: Path, *, window: int | None = None, antenna: int | None = None, scan: int | None = None
) -> np.ndarray:
    """Return which rows have this window, antenna and scan, (nrow,) bool."""
    with open_table(ms) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        mine = np.ones(opened.nrows(), bool)
        if window is not None:
            mine &= opened.getcol("DATA_DESC_ID") == window
        if scan is not None:
            mine &= opened.getcol("SCAN_NUMBER") == scan
        if antenna is not None:
            mine &= (one == antenna) | (two == antenna)
    return mine


def flag(ms: Path, rows: np.ndarray, hand: int | None = None) -> None:
    """Flag rows, or one hand of them, and put nonsense under the flags."""
    with open_table(ms, write=True) as opened:
        for row in np.flatnonzero(rows).tolist():
            flags, data = opened.getcell("FLAG", row), opened.getcell("DATA", row)
            place = slice(None) if hand is None else hand
            flags[:, place], data[:, place] = True, 1e3
            opened.putcell("FLAG", row, flags)
            opened.putcell("DATA", row, data)


def put(ms: Path, column: str, rows: np.ndarray, value: Any) -> None:
    """Put one value, or one for each, into some rows of a column of cells of any shapes."""
    places = np.flatnonzero(rows).tolist()
    values = value if np.ndim(value) else [value] * len(places)
    with open_table(ms, write=True) as opened:
        for row, one in zip(places, values, strict=True):
            cell = opened.getcell(column, row)
            opened.putcell(column, row, np.full_like(cell, one) if np.ndim(cell) else one)


def order_hands(ms: Path, order: Sequence[int]) -> None:
    """Put the correlations into another order."""
    with open_table(f"{ms}::POLARIZATION", write=True) as opened:
        for row in range(opened.nrows()):
            for name in ("CORR_TYPE", "CORR_PRODUCT"):
                opened.putcell(name, row, np.array(opened.getcell(name, row))[list(order)])
    with open_table(ms, write=True) as opened:
        for name in ("DATA", "FLAG", "WEIGHT", "SIGMA"):
            for row in range(opened.nrows()):
                cell = np.asarray(opened.getcell(name, row))[..., list(order)]
                opened.putcell(name, row, np.ascontiguousarray(cell))


def take_out(ms: Path, rows: np.ndarray) -> None:
    """Remove rows."""
    aside = ms.with_name(f"{ms.name}.aside")
    with open_table(ms) as opened:
        opened.selectrows(np.flatnonzero(~rows)).copy(str(aside), deep=True).close()
    shutil.rmtree(ms)
    aside.rename(ms)


def fall(ms: Path, window: int) -> None:
    """Put a window's channels into falling order; its visibilities stay the same."""
    with open_table(f"{ms}::SPECTRAL_WINDOW", write=True) as opened:
        for name in ("CHAN_FREQ", "CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            values = np.array(opened.getcell(name, window))[::-1]
            sign = -1 if name == "CHAN_WIDTH" else 1
            opened.putcell(name, window, np.ascontiguousarray(sign * values))
    mine = np.flatnonzero(rows_of(ms, window=window)).tolist()
    with open_table(ms, write=True) as opened:
        for row in mine:
            for name in ("DATA", "FLAG"):
                opened.putcell(name, row, np.ascontiguousarray(opened.getcell(name, row)[::-1]))


def keep_hand(ms: Path, hand: int) -> None:
    """Leave one correlation only."""
    with open_table(f"{ms}::POLARIZATION", write=True) as opened:
        for row in range(opened.nrows()):
            opened.putcell("NUM_CORR", row, 1)
            for name in ("CORR_TYPE", "CORR_PRODUCT"):
                value = np.array(opened.getcell(name, row))[hand : hand + 1]
                opened.putcell(name, row, np.ascontiguousarray(value))
    with open_table(ms, write=True) as opened:
        for name in ("DATA", "FLAG", "WEIGHT", "SIGMA"):
            values = np.ascontiguousarray(opened.getcol(name)[..., hand : hand + 1])
            described = {**opened.getcoldesc(name), "ndim": values.ndim - 1, "option": 0}
            described.pop("shape", None)
            described["dataManagerType"] = "StandardStMan"
            described["dataManagerGroup"] = f"odd_{name}"
            opened.removecols(name)
            opened.addcols(maketabdesc(makecoldesc(name, described)))
            opened.putcol(name, values)


def two_subarrays(ms: Path, second: int, scan: int) -> None:
    """Leave antennas below ``second`` in scans before ``scan``, the others from it on."""
    with open_table(ms) as opened:
        late = opened.getcol("SCAN_NUMBER") >= scan
        one, two = (opened.getcol(f"ANTENNA{n}") >= second for n in (1, 2))
    take_out(ms, (one != late) | (two != late))


def follow_ephemeris(ms: Path) -> None:
    """Give the field's place by an ephemeris that stands still, with an offset of nothing."""
    with open_table(f"{ms}::FIELD", write=True) as opened:
        place = np.rad2deg(np.asarray(opened.getcell("PHASE_DIR", 0)).reshape(2))
        opened.addcols(makescacoldesc("EPHEMERIS_ID", 0))
        for name in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            opened.putcell(name, 0, np.zeros((1, 2)))
    with open_table(ms) as opened:
        day = opened.getcol("TIME")[0] / 86400.0
    described = maketabdesc([makescacoldesc(name, 0.0) for name in ("MJD", "RA", "DEC")])
    made = table(str(ms / "FIELD" / "EPHEM0_still.tab"), described, 3, ack=False)
    made.putcol("MJD", day + np.array([-1.0, 0.0, 1.0]))
    made.putcol("RA", np.full(3, place[0] % 360.0))
    made.putcol("DEC", np.full(3, place[1]))
    made.close()
