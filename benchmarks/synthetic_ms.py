"""A quick maker of measurement sets with known gains, for benchmarks and tests of the solver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from casacore.tables import (
    default_ms,
    makearrcoldesc,
    makedminfo,
    maketabdesc,
    table,
)
from numpy.typing import NDArray

__all__ = ["SyntheticMs", "make_ms", "ring_array"]

CORR_CODE = {"I": 1, "RR": 5, "RL": 6, "LR": 7, "LL": 8, "XX": 9, "XY": 10, "YX": 11, "YY": 12}
EPOCH_S = 5.0e9  # MJD seconds of the first integration


@dataclass(frozen=True)
class SyntheticMs:
    """What a made measurement set holds.

    Attributes
    ----------
    path : Path
    time_s : (ntime,) float64
        Time stamps, MJD seconds.
    gain : (ntime, nspw, nant, 2) complex128
        The gains the data were multiplied by.
    """

    path: Path
    time_s: NDArray[np.float64]
    gain: NDArray[np.complex128]


def ring_array(count: int, radius_m: float = 1000.0) -> NDArray[np.float64]:
    """Return (count, 3) ITRF positions (m) on a spiral near the VLA, no two baselines alike."""
    angle = 2.4 * np.arange(count)
    radius = radius_m * np.sqrt((np.arange(count) + 1) / count)
    centre = np.array([-1601185.4, -5041977.5, 3554875.9])
    offset = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0.1 * radius], axis=1)
    return centre + offset


def random_gains(
    rng: np.random.Generator, ntime: int, nspw: int, nant: int, walk_rad: float, amplitude: float
) -> NDArray[np.complex128]:
    """Return gains whose phases walk by ``walk_rad`` per step and whose amplitudes are fixed."""
    start = rng.uniform(-np.pi, np.pi, (1, nspw, nant, 2))
    phase = start + np.cumsum(rng.normal(0, walk_rad, (ntime, 1, nant, 1)), axis=0)
    size = 1 + amplitude * rng.uniform(-1, 1, (1, nspw, nant, 2))
    return size * np.exp(1j * phase)


def make_ms(
    path: Path,
    *,
    position_m: NDArray[np.float64] | None = None,
    integrations: int = 20,
    scans: int = 1,
    interval_s: float = 10.0,
    gap_s: float = 300.0,
    spws: int = 1,
    channels: int = 4,
    corr: tuple[str, ...] = ("RR", "LL"),
    flux_jy: float = 1.0,
    noise_jy: float = 0.1,
    walk_rad: float = 0.1,
    amplitude: float = 0.1,
    seed: int = 1,
) -> SyntheticMs:
    """Write a measurement set of a point source, with gains and noise, model in MODEL_DATA.

    Parameters
    ----------
    path : Path
        Where; must not exist.
    position_m : (nant, 3) float64, optional
        ITRF positions; default a ring of eight.
    integrations, scans, interval_s, gap_s
        Integrations per scan, scans, their length and the gap between scans (s).
    spws, channels, corr
        Spectral windows, channels in each, correlation products.
    flux_jy, noise_jy
        The source; the standard deviation of each part of a visibility.
    walk_rad, amplitude, seed
        Of the gains, see `random_gains`.
    """
    rng = np.random.default_rng(seed)
    position = ring_array(8) if position_m is None else position_m
    scan = np.repeat(np.arange(scans), integrations)
    time = EPOCH_S + np.arange(scans * integrations) * interval_s + scan * gap_s
    gain = random_gains(rng, len(time), spws, len(position), walk_rad, amplitude)
    nant = len(position)
    first, second = np.triu_indices(nant, 1)
    rows_each = len(first)
    rows = len(time) * spws * rows_each
    opened = _create(path, rows, channels, len(corr))
    step = max(1, 2**21 // (channels * len(corr)))
    for low in range(0, rows, step):
        number = np.arange(low, min(rows, low + step))
        itime, spw = number // (spws * rows_each), number // rows_each % spws
        p, q = first[number % rows_each], second[number % rows_each]
        model, data = _visibilities(rng, gain[itime, spw], p, q, channels, corr, flux_jy, noise_jy)
        weight = np.full((len(number), len(corr)), noise_jy**-2, np.float32)
        columns = {
            **_indices(time[itime], scan[itime] + 1, p, q, spw, interval_s),
            "UVW": position[q] - position[p], "WEIGHT": weight, "SIGMA": 1 / np.sqrt(weight),
            "DATA": data, "MODEL_DATA": model, "FLAG": np.zeros(data.shape, bool),
        }  # fmt: skip
        for name, values in columns.items():
            opened.putcol(name, values, low, len(number))
    opened.close()
    _fill_subtables(path, position, spws, channels, corr, time)
    return SyntheticMs(path, time, gain)


def _create(path: Path, rows: int, channels: int, ncorr: int) -> table:
    opened = default_ms(str(path))
    for name in ("DATA", "MODEL_DATA"):
        _add_tiled(opened, makearrcoldesc(name, 0j, ndim=2, valuetype="complex"), channels, ncorr)
    opened.addrows(rows)
    return opened


def _add_tiled(opened: table, description: dict, channels: int, ncorr: int) -> None:
    tabdesc = maketabdesc(description)
    info = makedminfo(tabdesc)
    tile_rows = max(1, 2**17 // (8 * channels * ncorr))
    for entry in info.values():
        entry["TYPE"], entry["NAME"] = "TiledShapeStMan", f"Tiled{description['name']}"
        entry["SPEC"] = {"DEFAULTTILESHAPE": np.array([ncorr, channels, tile_rows], np.int32)}
    opened.addcols(tabdesc, info)


def _indices(
    time: NDArray[np.float64],
    scan: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    spw: NDArray[np.int64],
    interval_s: float,
) -> dict[str, NDArray[Any]]:
    """Columns of single values of one piece of rows."""
    integers = {"SCAN_NUMBER": scan, "ANTENNA1": first, "ANTENNA2": second, "DATA_DESC_ID": spw}
    length = np.full(len(time), interval_s)
    return {
        **{name: values.astype(np.int32) for name, values in integers.items()},
        "TIME": time, "TIME_CENTROID": time, "INTERVAL": length, "EXPOSURE": length,
        "FLAG_ROW": np.zeros(len(time), bool),
    }  # fmt: skip


def _visibilities(
    rng: np.random.Generator,
    gain: NDArray[np.complex128],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    channels: int,
    corr: tuple[str, ...],
    flux_jy: float,
    noise_jy: float,
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Model and corrupted data (row, chan, corr) of one piece of rows."""
    rows = np.arange(len(first))
    shape = (len(first), channels, len(corr))
    model, data = np.zeros(shape, np.complex64), np.empty(shape, np.complex64)
    for index, name in enumerate(corr):
        feeds = ["RLXYI".index(feed) % 2 if feed != "I" else 0 for feed in (name[0], name[-1])]
        if feeds[0] == feeds[1]:
            model[:, :, index] = flux_jy
        product = gain[rows, first, feeds[0]] * gain[rows, second, feeds[1]].conj()
        data[:, :, index] = model[:, :, index] * product[:, None]
    noise = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    return model, data + np.float32(noise_jy) * noise


def _fill_subtables(
    path: Path,
    position_m: NDArray[np.float64],
    spws: int,
    channels: int,
    corr: tuple[str, ...],
    time: NDArray[np.float64],
) -> None:
    def put(name: str, rows: int, **columns: object) -> None:
        with table(f"{path}/{name}", readonly=False, ack=False) as opened:
            opened.addrows(rows)
            for column, values in columns.items():
                for row in range(rows):
                    opened.putcell(column, row, values[row] if isinstance(values, list) else values)

    nant = len(position_m)
    put("ANTENNA", nant, NAME=[f"ea{i + 1:02d}" for i in range(nant)],
        STATION=[f"P{i + 1:02d}" for i in range(nant)], POSITION=list(position_m),
        DISH_DIAMETER=25.0, MOUNT="ALT-AZ", TYPE="GROUND-BASED", OFFSET=np.zeros(3))  # fmt: skip
    put("FEED", nant, ANTENNA_ID=list(range(nant)), SPECTRAL_WINDOW_ID=-1, NUM_RECEPTORS=2,
        POLARIZATION_TYPE=np.array([corr[0][0], corr[-1][0]] if corr[0] != "I" else ["X", "Y"]),
        POL_RESPONSE=np.eye(2, dtype=np.complex64), RECEPTOR_ANGLE=np.zeros(2),
        BEAM_OFFSET=np.zeros((2, 2)), POSITION=np.zeros(3), TIME=time[0], INTERVAL=0.0)  # fmt: skip
    direction = np.array([[1.0, 0.5]])
    put("FIELD", 1, NAME="source", PHASE_DIR=direction, DELAY_DIR=direction,
        REFERENCE_DIR=direction, TIME=time[0], SOURCE_ID=-1)  # fmt: skip
    width = 2e6
    frequency = [5e9 + 1e8 * spw + width * np.arange(channels) for spw in range(spws)]
    full = np.full(channels, width)
    put("SPECTRAL_WINDOW", spws, NUM_CHAN=channels, CHAN_FREQ=frequency, CHAN_WIDTH=full,
        EFFECTIVE_BW=full, RESOLUTION=full, TOTAL_BANDWIDTH=width * channels,
        REF_FREQUENCY=[float(f[0]) for f in frequency], MEAS_FREQ_REF=5,
        NAME=[f"spw{spw}" for spw in range(spws)], NET_SIDEBAND=1)  # fmt: skip
    put("DATA_DESCRIPTION", spws, SPECTRAL_WINDOW_ID=list(range(spws)), POLARIZATION_ID=0)
    names = "RLXYI"
    product = np.array([[names.index(c[0]) % 2, names.index(c[-1]) % 2] for c in corr], np.int32)
    put("POLARIZATION", 1, NUM_CORR=len(corr), CORR_PRODUCT=product * (corr[0] != "I"),
        CORR_TYPE=np.array([CORR_CODE[c] for c in corr], np.int32))  # fmt: skip
    put("OBSERVATION", 1, TELESCOPE_NAME="VLA", OBSERVER="", PROJECT="",
        TIME_RANGE=np.array([time[0], time[-1]]))  # fmt: skip
