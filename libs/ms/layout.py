"""Empty measurement sets with the subtables of another, to be filled with its changed rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.tables import open_table
from libs.ms.view import read_view

__all__ = ["Layout", "create_like", "read_layout", "read_rows"]

# written anew: what averaging and a new phase centre change
_ANEW = ("SPECTRAL_WINDOW", "FIELD")
_TILE_BYTES = 1024**2


@dataclass(frozen=True)
class Layout:
    """What rows of a measurement set refer to.

    Attributes
    ----------
    spw_of : (nddid,) int64
    corr_types : tuple of (ncorr,) int64 arrays
        By data description.
    frequency_hz, width_hz : tuple of (nchan,) float64 arrays
        By spectral window.
    direction_rad : (float, float)
        Phase centre of the field.
    field : str
    antennas : int
    """

    spw_of: NDArray[np.int64]
    corr_types: tuple[NDArray[np.int64], ...]
    frequency_hz: tuple[NDArray[np.float64], ...]
    width_hz: tuple[NDArray[np.float64], ...]
    direction_rad: tuple[float, float]
    field: str
    antennas: int


def read_layout(ms: Path, field_id: int = 0) -> Layout:
    """Read the subtables that give rows their meaning."""
    with open_table(f"{ms}::DATA_DESCRIPTION") as descriptions:
        spw_of = np.asarray(descriptions.getcol("SPECTRAL_WINDOW_ID"), dtype=np.int64)
        setups = descriptions.getcol("POLARIZATION_ID")
    with open_table(f"{ms}::POLARIZATION") as table:
        codes = [np.asarray(table.getcell("CORR_TYPE", i), np.int64) for i in range(table.nrows())]
    with open_table(f"{ms}::SPECTRAL_WINDOW") as windows:
        frequency, width = (
            tuple(
                np.asarray(np.atleast_1d(windows.getcell(column, i)), dtype=np.float64)
                for i in range(windows.nrows())
            )
            for column in ("CHAN_FREQ", "CHAN_WIDTH")
        )
    with open_table(f"{ms}::FIELD") as fields:
        ra, dec = (float(value) for value in np.asarray(fields.getcell("PHASE_DIR", field_id))[0])
        name = str(fields.getcell("NAME", field_id))
    with open_table(f"{ms}::ANTENNA") as antennas:
        count = antennas.nrows()
    return Layout(
        spw_of, tuple(codes[setup] for setup in setups), frequency, width, (ra, dec), name, count
    )


def read_rows(opened: Any, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Read a column of some rows, increasing; consecutive ones in one piece."""
    if len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows):
        return np.asarray(opened.getcol(name, int(rows[0]), len(rows)))
    part = opened.selectrows(rows)
    try:
        return np.asarray(part.getcol(name))
    finally:
        part.close()


def create_like(
    source: Path,
    target: Path,
    *,
    direction_rad: tuple[float, float] | None = None,
    field: str = "",
    width: Callable[[int], int] = lambda channels: 1,
) -> None:
    """Make a measurement set without rows, its subtables those of another.

    It has DATA and WEIGHT_SPECTRUM in plain storage. Delay and reference directions stay: the
    station beams point where they pointed.

    Parameters
    ----------
    source, target : Path
        An existing target is replaced.
    direction_rad : (float, float), optional
        New phase centre of every field.
    field : str
        New name of every field.
    width : callable
        Channels of a window -> how many are averaged into one; it divides them.
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
    default_ms(str(target), description, _storage(len(layout.corr_types[0]), channels)).close()
    with read_view(source) as view:
        for place in sorted(view.path.iterdir()):
            if place.is_dir() and place.name not in _ANEW and (place / "table.dat").exists():
                _copy_subtable(place, target)
        for name in _ANEW:
            _copy_cells(view.path / name, target / name)
    _average_windows(target, width)
    with open_table(f"{target}::FIELD", write=True) as fields:
        for row in range(fields.nrows()):
            if direction_rad is not None:
                fields.putcell("PHASE_DIR", row, np.array([direction_rad]))
                fields.putcell("NUM_POLY", row, 0)
            if field:
                fields.putcell("NAME", row, field)


def _storage(ncorr: int, nchan: int) -> dict[str, Any]:
    """Plain tiles of about a megabyte; the columns named have one shape in all rows."""
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


def _copy_subtable(place: Path, target: Path) -> None:
    from casacore.tables import table

    known = (target / place.name).exists()
    shutil.rmtree(target / place.name, ignore_errors=True)
    with open_table(place) as opened:
        opened.copy(str(target / place.name), deep=True, valuecopy=True).close()
    if not known:
        with open_table(target, write=True) as main:
            main.putkeyword(
                place.name, table(str(target / place.name), ack=False), makesubrecord=True
            )


def _copy_cells(origin: Path, place: Path) -> None:
    """Copy the standard columns of a subtable into an empty one, whose cells have no shape yet."""
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
