"""Subtables of measurement sets and of gain tables: the one place that reads and writes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.ms.tables import open_table

__all__ = [
    "CORR_NAMES",
    "PARALLEL_HANDS",
    "Antenna",
    "DataDescription",
    "Field",
    "ObservationRecord",
    "PolarizationSetup",
    "StateRecord",
    "Subtables",
    "Window",
    "add_empty_subtable",
    "add_fields",
    "antenna_labels",
    "copy_subtable",
    "put_antenna_names",
    "put_channels",
    "put_field_names",
    "put_observer",
    "put_phase_centre",
    "remove_subtables",
]

# FITS / AIPS++ Stokes codes of the POLARIZATION subtable
CORR_NAMES = {
    1: "I", 2: "Q", 3: "U", 4: "V",
    5: "RR", 6: "RL", 7: "LR", 8: "LL",
    9: "XX", 10: "XY", 11: "YX", 12: "YY",
}  # fmt: skip
# MFrequency::Types
_FREQUENCY_FRAMES = ("REST", "LSRK", "LSRD", "BARY", "GEO", "TOPO", "GALACTO", "LGROUP", "CMB")
PARALLEL_HANDS = ("RR", "LL", "XX", "YY", "I")
_EPHEMERIS = "EPHEMERIS_ID"
_DIRECTIONS = ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR")
_WIDTHS = ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION")


@dataclass(frozen=True)
class Antenna:
    """An antenna.

    Attributes
    ----------
    name : str
        NAME, else STATION, else ``ANT<id>``.
    own_name : str
        NAME as stored, without blanks around it.
    station : str
    position_m : (3,) float64
        Position, ITRF, m.
    diameter_m : float
        Dish diameter, m; 0 when unknown.
    """

    name: str
    own_name: str
    station: str
    position_m: NDArray[np.float64]
    diameter_m: float


@dataclass(frozen=True)
class Field:
    """A field.

    Attributes
    ----------
    name : str
    direction_rad : (float, float)
        Phase centre, RA and Dec, rad.
    frame : str
        Reference frame of the phase centre, e.g. ``"J2000"``.
    pointing_rad : (float, float)
        Reference direction, at which the antennas point; phase shifts leave it where it was.
    code : str
        Calibrator code, by which CASA selects as well as by name.
    moves : bool
        True when it follows an ephemeris or a polynomial of time.
    """

    name: str
    direction_rad: tuple[float, float]
    frame: str
    pointing_rad: tuple[float, float]
    code: str = ""
    moves: bool = False


@dataclass(frozen=True)
class Window:
    """A spectral window.

    Attributes
    ----------
    frequency_hz, width_hz : (nchan,) float64
        Channel centres and widths, Hz; widths may be negative.
    name : str
        NAME; may be empty.
    frame : str
        Frame of the frequencies: ``TOPO``, ``LSRK``, ``BARY`` or another of casacore's; a code that
        has no name as a number.
    """

    frequency_hz: NDArray[np.float64]
    width_hz: NDArray[np.float64]
    name: str = ""
    frame: str = "TOPO"

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.frequency_hz)

    @property
    def mean_hz(self) -> float:
        """Mean channel centre, Hz."""
        return float(np.mean(self.frequency_hz))

    @property
    def step_hz(self) -> float:
        """Mean distance of a channel to the next, Hz; the width where there is one channel."""
        if self.channels > 1:
            return float(self.frequency_hz[-1] - self.frequency_hz[0]) / (self.channels - 1)
        return float(self.width_hz[0])

    @property
    def bandwidth_hz(self) -> float:
        """Sum of the channels' widths, Hz."""
        return float(np.abs(self.width_hz).sum())


@dataclass(frozen=True)
class DataDescription:
    """A data description: the ids of its spectral window and polarization setup."""

    spw: int
    setup: int


@dataclass(frozen=True)
class PolarizationSetup:
    """A polarization setup.

    Attributes
    ----------
    codes : (ncorr,) int64
        Stokes codes of the correlations.
    """

    codes: NDArray[np.int64]

    @property
    def correlations(self) -> tuple[str, ...]:
        """Names of the correlations, e.g. ``("RR", "LL")``; a code without a name as a number."""
        return tuple(CORR_NAMES.get(int(code), str(code)) for code in self.codes)

    @property
    def parallel(self) -> tuple[int, ...]:
        """Indices of the parallel hands, R or X first, and of Stokes I, among the correlations."""
        found = [i for i, name in enumerate(self.correlations) if name in PARALLEL_HANDS]
        return tuple(sorted(found, key=lambda i: PARALLEL_HANDS.index(self.correlations[i])))

    @property
    def feeds(self) -> tuple[int, ...]:
        """Feed of each of `parallel`: 0 for R, X and Stokes I, 1 for L and Y."""
        return tuple(int(self.correlations[i] in ("LL", "YY")) for i in self.parallel)

    @property
    def circular(self) -> bool:
        """True when the first correlation is of circular feeds."""
        return int(self.codes[0]) in (5, 6, 7, 8)


@dataclass(frozen=True)
class ObservationRecord:
    """An observation: the telescope's name and the observer's."""

    telescope: str
    observer: str = ""


@dataclass(frozen=True)
class StateRecord:
    """A state with its intents, such as ``"CALIBRATE_PHASE#ON_SOURCE"``."""

    intents: str


class Subtables:
    """Subtables of a measurement set, of a view of one, or of a gain table.

    Each is read when it is first asked for and keeps the values of that moment.

    Parameters
    ----------
    path : path
        The measurement set or gain table.

    Attributes
    ----------
    antennas, fields, windows, descriptions, setups, observations, states : tuple
        Records by id.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @cached_property
    def antennas(self) -> tuple[Antenna, ...]:
        """Antennas by id."""
        with open_table(f"{self.path}::ANTENNA") as opened:
            if not opened.nrows():
                return ()
            names, stations = opened.getcol("NAME"), opened.getcol("STATION")
            positions, diameters = opened.getcol("POSITION"), opened.getcol("DISH_DIAMETER")
        labels = antenna_labels(names, stations)
        return tuple(
            Antenna(label, name.strip(), station.strip(), position, float(diameter))
            for label, name, station, position, diameter in zip(
                labels, names, stations, positions, diameters, strict=True
            )
        )

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Fields by id."""
        with open_table(f"{self.path}::FIELD") as opened:
            if not opened.nrows():
                return ()
            measure = opened.getcolkeywords("PHASE_DIR").get("MEASINFO", {})
            follows = _EPHEMERIS in opened.colnames()
            found = []
            codes = opened.getcol("CODE") if "CODE" in opened.colnames() else None
            for row, name in enumerate(opened.getcol("NAME")):
                code = str(codes[row]).strip() if codes is not None else ""
                terms = np.atleast_2d(opened.getcell("PHASE_DIR", row))
                ra, dec = terms[0]
                frame = _frame(opened, row, measure)
                place = (float(ra), float(dec))
                moves = bool(terms[1:].any()) or (follows and opened.getcell(_EPHEMERIS, row) >= 0)
                pointing = _pointing(opened, row, place)
                found.append(Field(str(name), place, frame, pointing, code, moves))
        return tuple(found)

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """Spectral windows by id."""
        with open_table(f"{self.path}::SPECTRAL_WINDOW") as opened:
            columns = opened.colnames()
            named, framed = "NAME" in columns, "MEAS_FREQ_REF" in columns
            return tuple(
                Window(
                    np.atleast_1d(np.asarray(opened.getcell("CHAN_FREQ", row), np.float64)),
                    np.atleast_1d(np.asarray(opened.getcell("CHAN_WIDTH", row), np.float64)),
                    str(opened.getcell("NAME", row)).strip() if named else "",
                    _frequency_frame(int(opened.getcell("MEAS_FREQ_REF", row)))
                    if framed
                    else "TOPO",
                )
                for row in range(opened.nrows())
            )

    @cached_property
    def descriptions(self) -> tuple[DataDescription, ...]:
        """Data descriptions by id."""
        with open_table(f"{self.path}::DATA_DESCRIPTION") as opened:
            if not opened.nrows():
                return ()
            spws, setups = opened.getcol("SPECTRAL_WINDOW_ID"), opened.getcol("POLARIZATION_ID")
        return tuple(
            DataDescription(int(spw), int(setup)) for spw, setup in zip(spws, setups, strict=True)
        )

    @cached_property
    def setups(self) -> tuple[PolarizationSetup, ...]:
        """Polarization setups by id."""
        with open_table(f"{self.path}::POLARIZATION") as opened:
            return tuple(
                PolarizationSetup(np.atleast_1d(np.asarray(opened.getcell("CORR_TYPE", row), int)))
                for row in range(opened.nrows())
            )

    @cached_property
    def observations(self) -> tuple[ObservationRecord, ...]:
        """Observations by id."""
        with open_table(f"{self.path}::OBSERVATION") as opened:
            if not opened.nrows():
                return ()
            names = opened.getcol("TELESCOPE_NAME")
            known = "OBSERVER" in opened.colnames()
            observers = opened.getcol("OBSERVER") if known else [""] * len(names)
        return tuple(
            ObservationRecord(str(name), str(observer))
            for name, observer in zip(names, observers, strict=True)
        )

    @cached_property
    def states(self) -> tuple[StateRecord, ...]:
        """States by id; empty where they have no intents."""
        with open_table(f"{self.path}::STATE") as opened:
            known = opened.nrows() and "OBS_MODE" in opened.colnames()
            modes = opened.getcol("OBS_MODE") if known else []
        return tuple(StateRecord(str(mode).strip()) for mode in modes)

    @property
    def antenna_names(self) -> tuple[str, ...]:
        """Names of the antennas by id."""
        return tuple(antenna.name for antenna in self.antennas)

    @property
    def position_m(self) -> NDArray[np.float64]:
        """Positions of the antennas, (nant, 3), ITRF, m."""
        return np.array([antenna.position_m for antenna in self.antennas]).reshape(-1, 3)

    @property
    def telescope(self) -> str:
        """Telescope of the first observation; empty when there is none."""
        return self.observations[0].telescope if self.observations else ""

    @property
    def channel_hz(self) -> tuple[NDArray[np.float64], ...]:
        """Channel centres by spectral window, (nchan,) each, Hz."""
        return tuple(window.frequency_hz for window in self.windows)

    @property
    def spw_of(self) -> NDArray[np.int64]:
        """Spectral window by data description, (nddid,)."""
        return np.array([each.spw for each in self.descriptions], dtype=np.int64)

    @property
    def setup_of(self) -> tuple[PolarizationSetup, ...]:
        """Polarization setup by data description."""
        return tuple(self.setups[each.setup] for each in self.descriptions)


def _frequency_frame(code: int) -> str:
    return _FREQUENCY_FRAMES[code] if 0 <= code < len(_FREQUENCY_FRAMES) else str(code)


def antenna_labels(names: Iterable[str], stations: Iterable[str]) -> tuple[str, ...]:
    """Return names of antennas: NAME, else STATION, else ``ANT`` and the row's number."""
    return tuple(
        name.strip() or station.strip() or f"ANT{i}"
        for i, (name, station) in enumerate(zip(names, stations, strict=True))
    )


def _pointing(opened: Any, row: int, phase_centre: tuple[float, float]) -> tuple[float, float]:
    """Return a field's reference direction; its phase centre where that one is not filled.

    Writers that do not fill it leave zeros or another frame than that of the phase centre.
    """
    frames = [
        opened.getcolkeywords(name).get("MEASINFO", {}).get("Ref")
        for name in ("PHASE_DIR", "REFERENCE_DIR")
    ]
    ra, dec = (float(angle) for angle in np.atleast_2d(opened.getcell("REFERENCE_DIR", row))[0])
    if frames[0] != frames[1] or not np.isfinite([ra, dec]).all() or (ra, dec) == (0.0, 0.0):
        return phase_centre
    return ra, dec


def _frame(opened: Any, row: int, measure: Mapping[str, Any]) -> str:
    """Return the frame of a field's phase centre; a column may have one for each row."""
    frame = str(measure.get("Ref", "J2000"))
    if "VarRefCol" in measure:
        code = opened.getcell(measure["VarRefCol"], row)
        names = dict(zip(measure["TabRefCodes"], measure["TabRefTypes"], strict=True))
        frame = str(names.get(code, "J2000") if not isinstance(code, str) else code)
    return frame


# -- writing -------------------------------------------------------------------------------------


def put_phase_centre(
    ms: str | Path, direction_rad: tuple[float, float] | None = None, name: str = ""
) -> None:
    """Give every field of a measurement set another phase centre or name.

    Delay and reference directions are kept, because the station beams still point there.
    """
    with open_table(f"{ms}::FIELD", write=True) as opened:
        for row in range(opened.nrows()):
            if direction_rad is not None:
                opened.putcell("PHASE_DIR", row, np.array([direction_rad]))
                opened.putcell("NUM_POLY", row, 0)
            if name:
                opened.putcell("NAME", row, name)


def add_fields(
    ms: str | Path, fields: Sequence[tuple[str, tuple[float, float]]], time_s: float | None = None
) -> None:
    """Add fields by name and J2000 direction.

    Parameters
    ----------
    ms : path
    fields : sequence of (str, (float, float))
        Names and directions, RA and Dec, rad.
    time_s : float, optional
        Time of the directions, MJD seconds; default that of the first field.
    """
    with open_table(f"{ms}::FIELD", write=True) as opened:
        since = float(opened.getcell("TIME", 0)) if time_s is None else time_s
        for name, direction_rad in fields:
            row = opened.nrows()
            opened.addrows(1)
            for column, value in (
                ("NAME", name), ("CODE", ""), ("TIME", since), ("NUM_POLY", 0),
                ("SOURCE_ID", -1), ("FLAG_ROW", False),
            ):  # fmt: skip
                opened.putcell(column, row, value)
            for column in _DIRECTIONS:
                opened.putcell(column, row, np.array([direction_rad]))


def put_channels(
    ms: str | Path, channels: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> None:
    """Write channel centres and widths, (nchan,) Hz, of each spectral window."""
    with open_table(f"{ms}::SPECTRAL_WINDOW", write=True) as opened:
        for row, (frequency_hz, width_hz) in enumerate(channels):
            opened.putcell("CHAN_FREQ", row, frequency_hz)
            for column in _WIDTHS:
                opened.putcell(column, row, width_hz)


def put_observer(ms: str | Path, observer: str, project: str) -> None:
    """Write the observer and project of the first observation."""
    with open_table(f"{ms}::OBSERVATION", write=True) as opened:
        opened.putcell("OBSERVER", 0, observer)
        opened.putcell("PROJECT", 0, project)


def put_field_names(ms: str | Path, names: Sequence[str]) -> None:
    """Write the names of all fields."""
    with open_table(f"{ms}::FIELD", write=True) as opened:
        opened.putcol("NAME", list(names))


def put_antenna_names(ms: str | Path, names: Sequence[str]) -> None:
    """Write the names of all antennas."""
    with open_table(f"{ms}::ANTENNA", write=True) as opened:
        opened.putcol("NAME", list(names))


def copy_subtable(ms: str | Path, name: str, target: Path) -> None:
    """Copy a subtable whole into another table and attach it there.

    Parameters
    ----------
    ms : path
    name : str
    target : Path
        Measurement set or gain table; its own subtable of this name is replaced.
    """
    place = target / name
    with open_table(target, write=True) as main:
        shutil.rmtree(place, ignore_errors=True)
        with open_table(f"{ms}::{name}") as origin:
            origin.copy(str(place), deep=True, valuecopy=True).close()
        with open_table(place) as copied:
            main.putkeyword(name, copied, makesubrecord=True)


def remove_subtables(ms: Path, names: Iterable[str]) -> None:
    """Remove subtables with their files and keywords."""
    with open_table(ms, write=True) as opened:
        for name in names:
            if name in opened.keywordnames():
                opened.removekeyword(name)
    for name in names:
        shutil.rmtree(ms / name, ignore_errors=True)


def add_empty_subtable(name: str, target: Path) -> None:
    """Create a standard subtable without rows."""
    from casacore.tables import default_ms_subtable

    default_ms_subtable(name, str(target / name)).close()
    with open_table(target, write=True) as main, open_table(target / name) as made:
        main.putkeyword(name, made)
