"""Subtables of a measurement set, written from the header of an imported file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from libs.ms.tables import open_table

__all__ = ["Antennas", "ImportedHeader", "Sources", "Windows", "fill_subtables", "set_frames"]


@dataclass(frozen=True)
class Windows:
    """Spectral windows: every IF of every frequency selection.

    Attributes
    ----------
    frequency_hz, width_hz : (nspw, nchan) float64
        Channel centres in the file's order, and their widths, positive.
    reference_hz : (nspw,) float64
        Reference frequencies.
    total_hz : (nspw,) float64
        Total bandwidths as given in the file.
    sideband : (nspw,) int32
        Sideband, 1 or -1.
    frame : int
        Code of the MEAS_FREQ_REF column.
    """

    frequency_hz: NDArray[np.float64]
    width_hz: NDArray[np.float64]
    reference_hz: NDArray[np.float64]
    total_hz: NDArray[np.float64]
    sideband: NDArray[np.int32]
    frame: int


@dataclass(frozen=True)
class Antennas:
    """Antennas in order of number.

    Attributes
    ----------
    number : (nant,) int64
        Numbers used in the file's baselines.
    name, station, mount : tuple of str
        Names of antennas and pads, and types of mount.
    position_m, offset_m : (nant, 3) float64
        Positions (ITRF) and offsets of the axes, m.
    diameter_m : (nant,) float64
        Dish diameters, m.
    angle_rad : (nant, 2) float64
        Position angles of the feeds.
    time_system : str
        Time system, ``"UTC"`` or ``"TAI"``.
    """

    number: NDArray[np.int64]
    name: tuple[str, ...]
    station: tuple[str, ...]
    mount: tuple[str, ...]
    position_m: NDArray[np.float64]
    offset_m: NDArray[np.float64]
    diameter_m: NDArray[np.float64]
    angle_rad: NDArray[np.float64]
    time_system: str


@dataclass(frozen=True)
class Sources:
    """Sources; number i in the file is field i - 1.

    Attributes
    ----------
    name, code : tuple of str
        Names and calibrator codes; empty where the file skips a number.
    direction_rad : (nsource, 2) float64
        RA and Dec.
    present : (nsource,) bool
        False where the file skips a number.
    rest_hz, velocity_m_s : (nsource,) float64
        Rest frequency and velocity of the first IF; 0 where none is given.
    frame : str
        Reference frame, ``"J2000"``, ``"B1950"`` or ``"B1950_VLA"``.
    """

    name: tuple[str, ...]
    code: tuple[str, ...]
    direction_rad: NDArray[np.float64]
    present: NDArray[np.bool_]
    rest_hz: NDArray[np.float64]
    velocity_m_s: NDArray[np.float64]
    frame: str


class ImportedHeader(Protocol):
    """Contents of a file apart from its visibilities: observer, array, sources, frequencies."""

    @property
    def windows(self) -> Windows:
        """Spectral windows."""

    @property
    def antennas(self) -> Antennas:
        """Antennas."""

    @property
    def sources(self) -> Sources:
        """Sources."""

    @property
    def ifs(self) -> int:
        """Number of windows observed at once."""

    @property
    def observer(self) -> str:
        """Name of the observer."""

    @property
    def history(self) -> tuple[str, ...]:
        """Lines of history."""


def set_frames(opened: Any, time_system: str, frame: str) -> None:
    """Record in an open main table the frames of its times and UVW.

    Parameters
    ----------
    opened : casacore table
    time_system : str
        Time system, ``"UTC"`` or ``"TAI"``.
    frame : str
        Frame of UVW, ``"J2000"``.
    """
    for name in ("TIME", "TIME_CENTROID"):
        _set_reference(opened, name, time_system)
    _set_reference(opened, "UVW", frame)


def _set_reference(opened: Any, column: str, reference: str) -> None:
    said = dict(opened.getcolkeyword(column, "MEASINFO"))
    opened.putcolkeyword(column, "MEASINFO", {**said, "Ref": reference})


def fill_subtables(target: Path, header: ImportedHeader, span_s: tuple[float, float]) -> None:
    """Fill the subtables that an empty measurement set lacks.

    Parameters
    ----------
    target : Path
        Set made by `libs.ms.create.create_ms`, with its first field.
    header : ImportedHeader
        Header of the file.
    span_s : (float, float)
        First and last time stamp, MJD s.
    """
    for table, columns in (
        ("FIELD", ("TIME",)),
        ("FEED", ("TIME",)),
        ("OBSERVATION", ("TIME_RANGE", "RELEASE_DATE")),
        ("HISTORY", ("TIME",)),
    ):
        with open_table(f"{target}::{table}", write=True) as opened:
            for name in columns:
                _set_reference(opened, name, header.antennas.time_system)
    antennas = header.antennas
    with open_table(f"{target}::ANTENNA", write=True) as table:
        table.putcol("MOUNT", list(antennas.mount))
        table.putcol("OFFSET", antennas.offset_m)
    with open_table(f"{target}::FEED", write=True) as table:
        table.putcol("TIME", np.full(len(antennas.name), span_s[0]))
        for row, angles in enumerate(antennas.angle_rad):
            table.putcell("RECEPTOR_ANGLE", row, angles)
    with open_table(f"{target}::OBSERVATION", write=True) as table:
        table.putcell("TIME_RANGE", 0, np.array(span_s))
        table.putcell("OBSERVER", 0, header.observer)
        table.putcell("PROJECT", 0, "")
    _complete_windows(target, header)
    _complete_fields(target, header, span_s[0])
    _complete_sources(target, header, span_s)
    _write_history(target, header, span_s[0])


def _complete_windows(target: Path, header: ImportedHeader) -> None:
    windows = header.windows
    with open_table(f"{target}::SPECTRAL_WINDOW", write=True) as table:
        for row in range(len(windows.reference_hz)):
            table.putcell("NAME", row, "none")
            table.putcell("CHAN_FREQ", row, windows.frequency_hz[row])
            for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
                table.putcell(name, row, windows.width_hz[row])
            table.putcell("REF_FREQUENCY", row, windows.reference_hz[row])
            table.putcell("TOTAL_BANDWIDTH", row, windows.total_hz[row])
            table.putcell("NET_SIDEBAND", row, int(windows.sideband[row]))
            table.putcell("MEAS_FREQ_REF", row, windows.frame)
            table.putcell("IF_CONV_CHAIN", row, row % header.ifs)
            table.putcell("FREQ_GROUP", row, row // header.ifs)
            table.putcell("FREQ_GROUP_NAME", row, "none")


def _complete_fields(target: Path, header: ImportedHeader, start_s: float) -> None:
    sources = header.sources
    with open_table(f"{target}::FIELD", write=True) as table:
        table.addrows(len(sources.name) - 1)
        for row, name in enumerate(sources.name):
            for column, value in (
                ("NAME", name), ("CODE", sources.code[row]), ("TIME", start_s), ("NUM_POLY", 0),
                ("SOURCE_ID", row), ("FLAG_ROW", not sources.present[row]),
            ):  # fmt: skip
                table.putcell(column, row, value)
            for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
                table.putcell(column, row, sources.direction_rad[row][None])
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            _set_reference(table, column, sources.frame)


def _complete_sources(target: Path, header: ImportedHeader, span_s: tuple[float, float]) -> None:
    """Add the SOURCE subtable: a row for each source and spectral window."""
    from casacore.tables import complete_ms_desc, default_ms_subtable

    description = complete_ms_desc("SOURCE")
    wanted = ("POSITION", "PULSAR_ID", "SOURCE_MODEL")
    description = {name: value for name, value in description.items() if name not in wanted}
    place = f"{target}/SOURCE"
    sources = header.sources
    windows = len(header.windows.reference_hz)
    pairs = [(s, w) for s in np.flatnonzero(sources.present).tolist() for w in range(windows)]
    table = default_ms_subtable("SOURCE", place, description)
    try:
        table.addrows(len(pairs))
        for row, (source, window) in enumerate(pairs):
            for column, value in (
                ("SOURCE_ID", source), ("SPECTRAL_WINDOW_ID", window),
                ("NAME", sources.name[source]), ("CODE", sources.code[source]),
                ("CALIBRATION_GROUP", -1), ("NUM_LINES", 1), ("TIME", sum(span_s) / 2),
                ("INTERVAL", np.finfo(float).max), ("DIRECTION", sources.direction_rad[source]),
                ("PROPER_MOTION", np.zeros(2)), ("REST_FREQUENCY", sources.rest_hz[source, None]),
                ("SYSVEL", sources.velocity_m_s[source, None]),
            ):  # fmt: skip
                table.putcell(column, row, value)
        _set_reference(table, "TIME", header.antennas.time_system)
        _set_reference(table, "DIRECTION", sources.frame)
    finally:
        table.close()
    with open_table(target, write=True) as opened:
        opened.putkeyword("SOURCE", f"Table: {place}")


def _write_history(target: Path, header: ImportedHeader, start_s: float) -> None:
    lines = [line for line in header.history if line.strip()]
    if not lines:
        return
    with open_table(f"{target}::HISTORY", write=True) as table:
        table.addrows(len(lines))
        table.putcol("MESSAGE", lines)
        table.putcol("TIME", np.full(len(lines), start_s))
        table.putcol("OBSERVATION_ID", np.zeros(len(lines), np.int32))
        for name, value in (("PRIORITY", "NORMAL"), ("ORIGIN", "UVFITS"), ("APPLICATION", "ms")):
            table.putcol(name, [value] * len(lines))
