"""Empty measurement sets with complete subtables, new or like another one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.antennas import AntennaArray
from libs.ms.subtables import CORR_NAMES, Subtables, add_fields, copy_subtable, put_phase_centre
from libs.ms.tables import open_table
from libs.ms.view import read_view

__all__ = ["Layout", "SpectralWindow", "create_like", "create_ms", "read_layout"]

_CORR_CODES = {name: code for code, name in CORR_NAMES.items()}
_TOPOCENTRIC = 5  # MFrequency::TOPO
# columns written anew, because averaging or a new phase centre changes them
_ANEW = ("SPECTRAL_WINDOW", "FIELD")
_TILE_BYTES = 1024**2


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
    """Create a measurement set without rows; an existing one is replaced.

    Parameters
    ----------
    path : Path
    array : AntennaArray
    spws : sequence of SpectralWindow
        Spectral windows in order; each gets one data description.
    correlations : tuple of str
        Parallel hands, e.g. ``("RR", "LL")``, or all four products.
    field : str
        Name of the only field.
    direction_rad : (float, float)
        Phase centre, J2000 RA and Dec, rad.
    time_range_s : (float, float)
        First and last time of the observation, MJD seconds.
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
        str(path), description, _storage_anew(len(correlations), max(s.channels for s in spws))
    )
    main.close()
    _add_antennas(path, array, direction_rad, correlations)
    _add_spectral_windows(path, spws)
    _add_polarization(path, correlations)
    add_fields(path, [(field, direction_rad)], time_range_s[0])
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


def _storage_anew(ncorr: int, nchan: int) -> dict[str, Any]:
    """Return tiled storage for visibilities, incremental storage for columns that rarely change."""
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


# -- like another set ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Meaning of the ids in the rows of a measurement set.

    Attributes
    ----------
    spw_of : (nddid,) int64
        Spectral window of each data description.
    corr_types : tuple of (ncorr,) int64 arrays
        Stokes codes of the correlations of each data description.
    frequency_hz, width_hz : tuple of (nchan,) float64 arrays
        Channel centres and widths of each spectral window, Hz.
    direction_rad : (float, float)
        Phase centre of the field, RA and Dec, rad.
    field : str
        Name of the field.
    antennas : int
        Number of antennas.
    """

    spw_of: NDArray[np.int64]
    corr_types: tuple[NDArray[np.int64], ...]
    frequency_hz: tuple[NDArray[np.float64], ...]
    width_hz: tuple[NDArray[np.float64], ...]
    direction_rad: tuple[float, float]
    field: str
    antennas: int


def read_layout(ms: Path, field_id: int = 0) -> Layout:
    """Read the subtables to which the ids in the rows refer."""
    found = Subtables(ms)
    field = found.fields[field_id]
    return Layout(
        found.spw_of,
        tuple(setup.codes for setup in found.setup_of),
        found.channel_hz,
        tuple(window.width_hz for window in found.windows),
        field.direction_rad,
        field.name,
        len(found.antennas),
    )


def create_like(
    source: Path,
    target: Path,
    *,
    direction_rad: tuple[float, float] | None = None,
    field: str = "",
    width: Callable[[int], int] = lambda channels: 1,
) -> None:
    """Create a measurement set without rows whose subtables are those of another set.

    It has DATA and WEIGHT_SPECTRUM in plain storage. Delay and reference directions are kept,
    because the station beams still point there.

    Parameters
    ----------
    source, target : Path
        Set whose subtables are taken, and the new set; an existing target is replaced.
    direction_rad : (float, float), optional
        New phase centre of every field, RA and Dec, rad.
    field : str
        New name of every field.
    width : callable
        Function of the channels of a window that returns how many are averaged into one; it must
        divide them.
    """
    from casacore.tables import default_ms, makearrcoldesc, maketabdesc, required_ms_desc

    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    layout = read_layout(source)
    description = required_ms_desc()
    description.update(
        maketabdesc(
            [
                makearrcoldesc("DATA", 0j, ndim=2, valuetype="complex"),
                makearrcoldesc("WEIGHT_SPECTRUM", 0.0, ndim=2, valuetype="float"),
            ]
        )
    )
    channels = max(len(f) // width(len(f)) for f in layout.frequency_hz)
    default_ms(str(target), description, _storage_like(len(layout.corr_types[0]), channels)).close()
    with read_view(source) as view:
        for place in sorted(view.path.iterdir()):
            if place.is_dir() and place.name not in _ANEW and (place / "table.dat").exists():
                copy_subtable(view.path, place.name, target)
        for name in _ANEW:
            _copy_cells(view.path / name, target / name)
    _average_windows(target, width)
    put_phase_centre(target, direction_rad, field)


def _storage_like(ncorr: int, nchan: int) -> dict[str, Any]:
    """Return plain tiles of about a megabyte; the columns named have one shape in all rows."""
    rows = max(16, _TILE_BYTES // (8 * ncorr * nchan))
    tiles = {"DATA": rows, "FLAG": 8 * rows, "WEIGHT_SPECTRUM": 2 * rows}
    return {
        name: {
            "TYPE": "TiledShapeStMan", "NAME": f"Tiled{name}", "SEQNR": number,
            "COLUMNS": np.array([name]),
            "SPEC": {"DEFAULTTILESHAPE": np.array([ncorr, nchan, count], dtype=np.int32)},
        }
        for number, (name, count) in enumerate(tiles.items())
    }  # fmt: skip


def _copy_cells(origin: Path, place: Path) -> None:
    """Copy the standard columns of a subtable into an empty one whose cells have no shape yet."""
    with open_table(origin) as old, open_table(place, write=True) as new:
        new.addrows(old.nrows())
        for name in set(old.colnames()) & set(new.colnames()):
            for row in range(old.nrows()):
                if old.iscelldefined(name, row):
                    new.putcell(name, row, old.getcell(name, row))


def _average_windows(target: Path, width: Callable[[int], int]) -> None:
    with open_table(f"{target}::SPECTRAL_WINDOW", write=True) as windows:
        for row in range(windows.nrows()):
            channels = len(np.atleast_1d(windows.getcell("CHAN_FREQ", row)))
            step = width(channels)
            if step == 1:
                continue
            windows.putcell("NUM_CHAN", row, channels // step)
            for name in ("CHAN_FREQ", "CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
                parts = np.asarray(windows.getcell(name, row)).reshape(-1, step)
                merged = parts.mean(axis=1) if name == "CHAN_FREQ" else parts.sum(axis=1)
                windows.putcell(name, row, merged)
