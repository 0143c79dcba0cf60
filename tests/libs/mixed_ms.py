"""A measurement set of several windows, fields and observations, with optional columns and tables.

Windows 0, 1 and 2 have 8, 5 and 8 channels, window 2 in falling order of frequency. Row contents
are random numbers, so that no two cells agree by chance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from libs.ms.antennas import AntennaArray
from libs.ms.create import SpectralWindow, create_ms
from libs.ms.tables import open_table

CHANNELS = (8, 5, 8)
CORRELATIONS = ("RR", "RL", "LR", "LL")


def make_mixed_ms(
    path: Path,
    *,
    spectrum: bool = True,
    corrected: bool = True,
    autocorrelations: bool = True,
    pointing: int = 6,
    antennas: int = 4,
    windows: tuple[int, ...] = (1, 0, 2),
    seed: int = 1,
) -> Path:
    """Write the set: 3 fields, 2 observations, 3 windows, 4 correlations."""
    from casacore.tables import makearrcoldesc, maketabdesc

    rng = np.random.default_rng(seed)
    spws = [SpectralWindow(1.4e9 + 1e8 * i, 8e6, n) for i, n in enumerate(CHANNELS)]
    position = np.array([[1000.0 * i, 500.0 * i * i, 10.0 * i] for i in range(antennas)])
    centre = np.array([-1601185.0, -5041977.0, 3554875.0])
    names = tuple(f"A{i}" for i in range(antennas))
    array = AntennaArray("VLA", names, names, position + centre, np.full(antennas, 25.0))
    start_s = 4.9e9
    create_ms(path, array, spws, CORRELATIONS, "one", (1.0, 0.5), (start_s, start_s + 600))
    _add_subtable_rows(path, start_s, pointing)
    with open_table(path, write=True) as opened:
        extra = [makearrcoldesc("CORRECTED_DATA", 0j, ndim=2, valuetype="complex")] * corrected
        extra += [makearrcoldesc("WEIGHT_SPECTRUM", 0.0, ndim=2, valuetype="float")] * spectrum
        for number, column in enumerate(extra):
            opened.addcols(
                maketabdesc([column]), {"TYPE": "TiledShapeStMan", "NAME": f"Extra{number}"}
            )
        row = 0
        for time in range(6):
            for spw in windows:
                for one in range(antennas):
                    for two in range(one if autocorrelations else one + 1, antennas):
                        opened.addrows(1)
                        cells = _row(rng, time, spw, one, two, start_s)
                        wanted = set(opened.colnames())
                        for name, value in cells.items():
                            if name in wanted:
                                opened.putcell(name, row, value)
                        row += 1
    return path


def _row(
    rng: np.random.Generator, time: int, spw: int, one: int, two: int, start_s: float
) -> dict[str, object]:
    shape = (CHANNELS[spw], 4)

    def visibilities() -> np.ndarray:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    spectrum = rng.uniform(1, 2, shape).astype(np.float32)
    weight = spectrum.mean(axis=0)
    return {
        "DATA": visibilities(), "CORRECTED_DATA": visibilities(), "WEIGHT_SPECTRUM": spectrum,
        "FLAG": rng.random(shape) < 0.3, "FLAG_ROW": bool(rng.random() < 0.1),
        "WEIGHT": weight, "SIGMA": 1 / np.sqrt(weight), "UVW": rng.normal(0, 1e3, 3),
        "ANTENNA1": one, "ANTENNA2": two, "TIME": start_s + 10.0 * time,
        "TIME_CENTROID": start_s + 10.0 * time + 0.1, "INTERVAL": 10.0, "EXPOSURE": 9.5,
        "FIELD_ID": time % 3, "DATA_DESC_ID": spw, "SCAN_NUMBER": 3 + time // 2,
        "OBSERVATION_ID": time // 3, "STATE_ID": 1, "ARRAY_ID": 0, "FEED1": 0, "FEED2": 0,
        "PROCESSOR_ID": 0,
    }  # fmt: skip


def _add_subtable_rows(path: Path, start_s: float, pointing: int) -> None:
    with open_table(f"{path}::SPECTRAL_WINDOW", write=True) as table:
        table.putcell("CHAN_FREQ", 2, table.getcell("CHAN_FREQ", 2)[::-1].copy())
        table.putcell("CHAN_WIDTH", 2, -table.getcell("CHAN_WIDTH", 2))
    for name, count in (("FIELD", 2), ("OBSERVATION", 1), ("STATE", 1)):
        with open_table(f"{path}::{name}", write=True) as table:
            for _ in range(count):
                row = table.nrows()
                table.addrows(1)
                for column in table.colnames():
                    if table.iscelldefined(column, 0):
                        table.putcell(column, row, table.getcell(column, 0))
    with open_table(f"{path}::FIELD", write=True) as table:
        table.putcol("NAME", ["one", "two", "2"])
        for row in range(3):
            for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
                table.putcell(column, row, np.array([[1.0 + 0.001 * row, 0.5]]))
    with open_table(f"{path}::OBSERVATION", write=True) as table:
        table.putcell("PROJECT", 1, "second")
    with open_table(f"{path}::STATE", write=True) as table:
        table.putcell("OBS_MODE", 1, "TWO")
    with open_table(f"{path}::POINTING", write=True) as table:
        table.addrows(pointing)
        for row in range(pointing):
            for column, value in (
                ("ANTENNA_ID", row % 4), ("TIME", start_s + 10 * row), ("INTERVAL", 10.0),
                ("NAME", "one"), ("NUM_POLY", 0), ("TIME_ORIGIN", start_s), ("TRACKING", True),
                ("DIRECTION", np.array([[1.0, 0.5]])), ("TARGET", np.array([[1.0, 0.5]])),
            ):  # fmt: skip
                table.putcell(column, row, value)
