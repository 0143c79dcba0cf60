"""A small measurement set made without CASA, for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

TIME0_S = 4.9e9


def tree_hash(path: Path) -> dict[str, str]:
    """Hash every file of a tree, by relative name."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def make_ms(
    path: Path,
    *,
    antennas: int = 5,
    times: int = 6,
    channels: int = 8,
    corr_types: tuple[int, ...] = (5, 8),
    interval_s: float = 10.0,
    scans: int = 1,
    fields: tuple[str, ...] = ("target",),
    spectrum: bool = True,
    autocorrelations: bool = False,
    noise_jy: float = 0.0,
    flux_jy: float = 1.0,
    seed: int = 1,
) -> Path:
    """Make a measurement set of a point source at the phase centre; field = scan modulo fields."""
    from casacore.tables import default_ms, makearrcoldesc, maketabdesc

    shape = (channels, len(corr_types))
    columns = [makearrcoldesc("DATA", 0j, valuetype="complex", ndim=2)]
    columns += [makearrcoldesc("WEIGHT_SPECTRUM", 0.0, valuetype="float", ndim=2)] * spectrum
    ms = default_ms(str(path), maketabdesc(columns))
    first = 0 if autocorrelations else 1
    pairs = [(p, q) for p in range(antennas) for q in range(p + first, antennas)]
    rows = len(pairs) * times
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(antennas) / antennas
    radius_m = 100.0 * (1 + np.arange(antennas))
    place = np.stack([radius_m * np.cos(angle), radius_m * np.sin(angle), 0 * angle], axis=1)
    place += (-1601185.0, -5041977.0, 3554876.0)
    slot = np.repeat(np.arange(times), len(pairs))
    scan = 1 + slot * scans // times
    one, two = (np.tile([pair[i] for pair in pairs], times) for i in (0, 1))
    time = TIME0_S + interval_s * slot + 1000.0 * (scan - 1)
    scatter = rng.normal(0, noise_jy, (2, rows, *shape)) if noise_jy else np.zeros((2, rows, 1, 1))
    data = np.full((rows, *shape), flux_jy, dtype=complex) + scatter[0] + 1j * scatter[1]
    weight = 1 / noise_jy**2 if noise_jy else 1.0
    ms.addrows(rows)
    ms.putcol("DATA", data.astype(np.complex64))
    ms.putcol("FLAG", np.zeros((rows, *shape), dtype=bool))
    ms.putcol("FLAG_ROW", np.zeros(rows, dtype=bool))
    ms.putcol("WEIGHT", np.full((rows, shape[1]), weight, dtype=np.float32))
    ms.putcol("SIGMA", np.full((rows, shape[1]), weight**-0.5, dtype=np.float32))
    if spectrum:
        ms.putcol("WEIGHT_SPECTRUM", np.full((rows, *shape), weight, dtype=np.float32))
    ms.putcol("UVW", place[two] - place[one])
    for name, value in (
        ("TIME", time), ("TIME_CENTROID", time), ("SCAN_NUMBER", scan), ("ANTENNA1", one),
        ("ANTENNA2", two), ("FIELD_ID", (scan - 1) % len(fields)),
        ("INTERVAL", np.full(rows, interval_s)), ("EXPOSURE", np.full(rows, interval_s)),
        ("STATE_ID", np.full(rows, -1)),
    ):  # fmt: skip
        ms.putcol(name, value)
    ms.close()
    _fill_subtables(path, place, channels, corr_types, fields)
    return path


def _fill_subtables(
    path: Path,
    place: np.ndarray,
    channels: int,
    corr_types: tuple[int, ...],
    fields: tuple[str, ...],
) -> None:
    number = len(place)
    frequency = 5e9 + 2e6 * np.arange(channels)
    width = np.full(channels, 2e6)
    direction = np.array([[1.2, 0.6]])
    pair = np.array([[code, code] for code in (0, 1)])
    receptors = ["R", "L"] if corr_types[0] < 9 else ["X", "Y"]
    subtables = {
        "ANTENNA": [
            {"NAME": f"A{i}", "STATION": f"P{i}", "TYPE": "GROUND-BASED", "MOUNT": "ALT-AZ",
             "POSITION": place[i], "OFFSET": np.zeros(3), "DISH_DIAMETER": 25.0}
            for i in range(number)
        ],
        "SPECTRAL_WINDOW": [
            {"NUM_CHAN": channels, "NAME": "w0", "REF_FREQUENCY": 5e9, "CHAN_FREQ": frequency,
             "CHAN_WIDTH": width, "EFFECTIVE_BW": width, "RESOLUTION": width,
             "TOTAL_BANDWIDTH": 2e6 * channels, "MEAS_FREQ_REF": 5, "NET_SIDEBAND": 1}
        ],
        "POLARIZATION": [
            {"NUM_CORR": len(corr_types), "CORR_TYPE": np.array(corr_types, dtype=np.int32),
             "CORR_PRODUCT": (pair if len(corr_types) == 2 else
                              np.array([[0, 0], [0, 1], [1, 0], [1, 1]])).astype(np.int32)}
        ],
        "DATA_DESCRIPTION": [{"SPECTRAL_WINDOW_ID": 0, "POLARIZATION_ID": 0}],
        "FIELD": [
            {"NAME": name, "CODE": "", "TIME": TIME0_S, "NUM_POLY": 0, "DELAY_DIR": direction,
             "PHASE_DIR": direction, "REFERENCE_DIR": direction, "SOURCE_ID": -1}
            for name in fields
        ],
        "OBSERVATION": [
            {"TELESCOPE_NAME": "EVLA", "TIME_RANGE": np.array([TIME0_S, TIME0_S + 1e5]),
             "OBSERVER": "", "PROJECT": "", "LOG": ["none"], "SCHEDULE": ["none"]}
        ],
        "FEED": [
            {"ANTENNA_ID": i, "FEED_ID": 0, "SPECTRAL_WINDOW_ID": -1, "TIME": TIME0_S,
             "INTERVAL": 1e9, "NUM_RECEPTORS": 2, "BEAM_ID": -1, "BEAM_OFFSET": np.zeros((2, 2)),
             "POLARIZATION_TYPE": receptors, "POL_RESPONSE": np.eye(2, dtype=complex),
             "POSITION": np.zeros(3), "RECEPTOR_ANGLE": np.zeros(2)}
            for i in range(number)
        ],
        "PROCESSOR": [{"TYPE": "CORRELATOR", "SUB_TYPE": ""}],
    }  # fmt: skip
    from casacore.tables import table

    for name, cells in subtables.items():
        opened = table(f"{path}/{name}", readonly=False, ack=False)
        opened.addrows(len(cells))
        for row, values in enumerate(cells):
            for column, value in values.items():
                opened.putcell(column, row, value)
        opened.close()
