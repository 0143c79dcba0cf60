"""Empty measurement sets with complete subtables, ready to be filled with rows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.tables import CORR_NAMES, open_table
from libs.simulation.array_configurations import AntennaArray

__all__ = ["SpectralWindow", "create_ms"]

_CORR_CODES = {name: code for code, name in CORR_NAMES.items()}
_TOPOCENTRIC = 5  # MFrequency::TOPO


@dataclass(frozen=True)
class SpectralWindow:
    """A spectral window: centre and total width in Hz, number of channels."""

    centre_hz: float
    width_hz: float
    channels: int = 1

    @property
    def frequency_hz(self) -> NDArray[np.float64]:
        """Channel centres, (channels,) Hz."""
        step = self.width_hz / self.channels
        offset = np.arange(self.channels) - 0.5 * (self.channels - 1)
        return np.asarray(self.centre_hz + offset * step, dtype=np.float64)


def create_ms(
    path: Path,
    array: AntennaArray,
    spws: Sequence[SpectralWindow],
    correlations: tuple[str, ...],
    field: str,
    direction_rad: tuple[float, float],
    time_range_s: tuple[float, float],
) -> None:
    """Make a measurement set without rows; an existing one is replaced.

    Parameters
    ----------
    path : Path
    array : AntennaArray
    spws : sequence of SpectralWindow
        One data description each, in this order.
    correlations : tuple of str
        Parallel hands, e.g. ``("RR", "LL")``, or all four products.
    field : str
        Name of its one field.
    direction_rad : (float, float)
        J2000 phase centre.
    time_range_s : (float, float)
        MJD seconds.
    """
    from casacore.tables import (
        default_ms,
        makearrcoldesc,
        maketabdesc,
        required_ms_desc,
    )

    if path.exists():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    description = required_ms_desc()
    description.update(
        maketabdesc(makearrcoldesc("DATA", 0j, ndim=2, valuetype="complex", comment="visibilities"))
    )
    main = default_ms(
        str(path), description, _storage(len(correlations), max(s.channels for s in spws))
    )
    main.close()
    _add_antennas(path, array, direction_rad, correlations)
    _add_spectral_windows(path, spws)
    _add_polarization(path, correlations)
    _add_field(path, field, direction_rad, time_range_s)
    with open_table(f"{path}::OBSERVATION", write=True) as table:
        table.addrows(1)
        table.putcell("TELESCOPE_NAME", 0, array.telescope)
        table.putcell("OBSERVER", 0, "simulation")
        table.putcell("PROJECT", 0, "simulation")
        table.putcell("TIME_RANGE", 0, np.array(time_range_s))
        table.putcell("FLAG_ROW", 0, False)
    with open_table(f"{path}::STATE", write=True) as table:
        table.addrows(1)
        table.putcell("OBS_MODE", 0, "OBSERVE_TARGET#ON_SOURCE")
        table.putcell("SIG", 0, True)
    with open_table(f"{path}::PROCESSOR", write=True) as table:
        table.addrows(1)
        table.putcell("TYPE", 0, "CORRELATOR")


def _feeds(correlations: tuple[str, ...]) -> list[str]:
    return [corr[0] for corr in correlations if corr[0] == corr[1]]


def _storage(ncorr: int, nchan: int) -> dict[str, Any]:
    """Tile the visibility columns; store columns that seldom change by their changes."""
    info: dict[str, Any] = {}
    rows = max(64, 65536 // (ncorr * nchan))
    tiled = {
        "DATA": [ncorr, nchan, rows],
        "FLAG": [ncorr, nchan, 8 * rows],
        "WEIGHT": [ncorr, 8192],
        "SIGMA": [ncorr, 8192],
    }
    for name, tile in tiled.items():
        info[name] = {
            "TYPE": "TiledShapeStMan",
            "NAME": f"Tiled{name}",
            "SEQNR": len(info),
            "COLUMNS": np.array([name]),
            "SPEC": {"DEFAULTTILESHAPE": np.array(tile, dtype=np.int32)},
        }
    info["Incremental"] = {
        "TYPE": "IncrementalStMan",
        "NAME": "Incremental",
        "SEQNR": len(info),
        "COLUMNS": np.array(
            [
                "ARRAY_ID", "DATA_DESC_ID", "EXPOSURE", "FEED1", "FEED2", "FIELD_ID", "FLAG_ROW",
                "INTERVAL", "OBSERVATION_ID", "PROCESSOR_ID", "SCAN_NUMBER", "STATE_ID", "TIME",
                "TIME_CENTROID",
            ]
        ),
        "SPEC": {},
    }  # fmt: skip
    return info


def _add_antennas(
    path: Path,
    array: AntennaArray,
    direction_rad: tuple[float, float],
    correlations: tuple[str, ...],
) -> None:
    count = len(array)
    feeds = _feeds(correlations)
    with open_table(f"{path}::ANTENNA", write=True) as table:
        table.addrows(count)
        table.putcol("NAME", list(array.name))
        table.putcol("STATION", list(array.station))
        table.putcol("TYPE", ["GROUND-BASED"] * count)
        table.putcol("MOUNT", ["ALT-AZ"] * count)
        table.putcol("POSITION", array.position_m)
        table.putcol("OFFSET", np.zeros((count, 3)))
        table.putcol("DISH_DIAMETER", array.diameter_m)
        table.putcol("FLAG_ROW", np.zeros(count, dtype=bool))
    with open_table(f"{path}::FEED", write=True) as table:
        table.addrows(count)
        table.putcol("ANTENNA_ID", np.arange(count, dtype=np.int32))
        for name, value in (("FEED_ID", 0), ("SPECTRAL_WINDOW_ID", -1), ("BEAM_ID", -1)):
            table.putcol(name, np.full(count, value, dtype=np.int32))
        table.putcol("NUM_RECEPTORS", np.full(count, 2, dtype=np.int32))
        table.putcol("TIME", np.zeros(count))
        table.putcol("INTERVAL", np.zeros(count))
        table.putcol("POSITION", np.zeros((count, 3)))
        for row in range(count):
            table.putcell("POLARIZATION_TYPE", row, feeds)
            table.putcell("POL_RESPONSE", row, np.eye(2, dtype=np.complex64))
            table.putcell("BEAM_OFFSET", row, np.zeros((2, 2)))
            table.putcell("RECEPTOR_ANGLE", row, np.zeros(2))


def _add_spectral_windows(path: Path, spws: Sequence[SpectralWindow]) -> None:
    with (
        open_table(f"{path}::SPECTRAL_WINDOW", write=True) as table,
        open_table(f"{path}::DATA_DESCRIPTION", write=True) as descriptions,
    ):
        table.addrows(len(spws))
        descriptions.addrows(len(spws))
        for row, spw in enumerate(spws):
            width = np.full(spw.channels, spw.width_hz / spw.channels)
            table.putcell("NAME", row, f"spw{row}")
            table.putcell("NUM_CHAN", row, spw.channels)
            table.putcell("CHAN_FREQ", row, spw.frequency_hz)
            for column in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
                table.putcell(column, row, width)
            table.putcell("REF_FREQUENCY", row, spw.centre_hz)
            table.putcell("TOTAL_BANDWIDTH", row, spw.width_hz)
            table.putcell("MEAS_FREQ_REF", row, _TOPOCENTRIC)
            table.putcell("NET_SIDEBAND", row, 1)
            table.putcell("FREQ_GROUP_NAME", row, "group0")
            table.putcell("FLAG_ROW", row, False)
            descriptions.putcell("SPECTRAL_WINDOW_ID", row, row)
            descriptions.putcell("POLARIZATION_ID", row, 0)
            descriptions.putcell("FLAG_ROW", row, False)


def _add_polarization(path: Path, correlations: tuple[str, ...]) -> None:
    feeds = _feeds(correlations)
    with open_table(f"{path}::POLARIZATION", write=True) as table:
        table.addrows(1)
        table.putcell("NUM_CORR", 0, len(correlations))
        table.putcell("CORR_TYPE", 0, np.array([_CORR_CODES[c] for c in correlations], np.int32))
        products = [[feeds.index(feed) for feed in corr] for corr in correlations]
        table.putcell("CORR_PRODUCT", 0, np.array(products, dtype=np.int32))
        table.putcell("FLAG_ROW", 0, False)


def _add_field(
    path: Path, name: str, direction_rad: tuple[float, float], time_range_s: tuple[float, float]
) -> None:
    with open_table(f"{path}::FIELD", write=True) as table:
        table.addrows(1)
        table.putcell("NAME", 0, name)
        table.putcell("CODE", 0, "")
        table.putcell("TIME", 0, time_range_s[0])
        table.putcell("NUM_POLY", 0, 0)
        table.putcell("SOURCE_ID", 0, -1)
        table.putcell("FLAG_ROW", 0, False)
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            table.putcell(column, 0, np.array([direction_rad]))
