"""Positions of a working copy's fields: one fixed position each, in a frame of the sky.

A field may follow an ephemeris, from which its PHASE_DIR is then an offset, or move as a
polynomial of time (MeasurementSet definition 2.0, FIELD). Images and tables of solutions have one
position each, that at the middle of the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import separation_rad
from libs.core.coordinates import SKY_FRAMES, to_j2000
from libs.core.errors import InputError
from libs.core.geometry import ARCSEC_PER_RAD
from libs.ms.subtables import Field, Subtables
from libs.ms.tables import open_table

__all__ = ["j2000_directions", "join_coincident", "settle_directions"]

_COLUMNS = ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR")
# Frames in which coordinates of visibilities may be; others are converted to J2000.
_KEPT = ("J2000", "ICRS", "B1950", "B1950_VLA")
_DAY_S = 86400.0
SAME_PLACE_RAD = 1.0 / ARCSEC_PER_RAD  # a second of arc


def j2000_directions(ms: Path) -> list[tuple[float, float]]:
    """Return the phase centre of each field, J2000 RA and Dec, rad.

    Raises
    ------
    InputError
        A field is given in a frame that is not of the sky.
    """
    return [to_j2000(field.direction_rad, field.frame) for field in Subtables(ms).fields]


def settle_directions(ms: Path, origin: Path) -> list[str]:
    """Give every field that the rows name one fixed position, in place.

    Parameters
    ----------
    ms : Path
        A working copy.
    origin : Path
        What it was made of: its FIELD table has the ephemerides.

    Returns
    -------
    list of str
        Changes, one line each.

    Raises
    ------
    InputError
        A position is not understood: its frame, or an ephemeris that is not there or does not
        reach the data.
    """
    with open_table(ms) as opened:
        ids, times = opened.getcol("FIELD_ID"), opened.getcol("TIME")
        uvw_frame = str(opened.getcolkeywords("UVW").get("MEASINFO", {}).get("Ref", "J2000"))
    notes = []
    for number in np.unique(ids).tolist():
        own = times[ids == number]
        notes += _settle(ms, origin, number, 0.5 * float(own.min() + own.max()))
    fields = Subtables(ms).fields
    others = sorted({fields[number].frame for number in np.unique(ids)} - set(_KEPT))
    if others:
        notes += _to_j2000(ms, np.unique(ids).tolist(), fields, uvw_frame)
    return notes


def join_coincident(ms: Path) -> list[str]:
    """Make one field of those of one name at one place, in place.

    Some writers repeat a field for each of its setups.

    Parameters
    ----------
    ms : Path
        A working copy whose directions are settled.

    Returns
    -------
    list of str
        Changes, one line each.
    """
    with open_table(ms) as opened:
        ids = opened.getcol("FIELD_ID")
    used = np.unique(ids).tolist()
    if len(used) < 2:
        return []
    fields, directions = Subtables(ms).fields, j2000_directions(ms)
    first: dict[int, int] = {}
    for number in used:
        alike = [
            other for other in dict.fromkeys(first.values())
            if fields[other].name.strip() == fields[number].name.strip()
            and float(separation_rad(np.array(directions[other]), np.array(directions[number])))
            <= SAME_PLACE_RAD
        ]  # fmt: skip
        first[number] = alike[0] if alike else number
    moved = [number for number in used if first[number] != number]
    if not moved:
        return []
    new = np.arange(max(used) + 1, dtype=np.int32)
    new[used] = [first[number] for number in used]
    with open_table(ms, write=True) as opened:
        opened.putcol("FIELD_ID", new[ids])
    names = ", ".join(dict.fromkeys(fields[number].name.strip() for number in moved))
    return [f"fields {moved} of {names} are where others of that name are, and are one with them"]


def _settle(ms: Path, origin: Path, number: int, time_s: float) -> list[str]:
    """Fix the position of one field at a time; MJD seconds."""
    with open_table(f"{ms}::FIELD", write=True) as opened:
        name = str(opened.getcell("NAME", number))
        names = opened.colnames()
        follows = "EPHEMERIS_ID" in names and int(opened.getcell("EPHEMERIS_ID", number)) >= 0
        terms = {column: np.atleast_2d(opened.getcell(column, number)) for column in _COLUMNS}
        moves = any(len(value) > 1 and np.any(value[1:]) for value in terms.values())
        if not all(np.isfinite(value).all() for value in terms.values()):
            raise InputError(
                f"the position of field {name} is not a number", "correct PHASE_DIR of the input"
            )
        if not (follows or moves):
            return []
        since = float(opened.getcell("TIME", number))
        base = None
        if follows:
            base = _ephemeris(origin, name, int(opened.getcell("EPHEMERIS_ID", number)), time_s)
        for column, value in terms.items():
            power = (time_s - since) ** np.arange(len(value))
            place = (value * power[:, None]).sum(axis=0)
            if base is not None:  # an offset on the sky, along right ascension and declination
                place = base + place / [np.cos(base[1]), 1.0]
                place[0] %= 2 * np.pi
            opened.putcell(column, number, place[None])
        opened.putcell("NUM_POLY", number, 0)
        if follows:
            opened.putcell("EPHEMERIS_ID", number, -1)
    ra, dec = np.rad2deg(Subtables(ms).fields[number].direction_rad)
    what = "follows an ephemeris" if follows else "moves"
    return [f"field {name} {what}: RA {ra % 360:.5f} Dec {dec:.5f} deg, where it was midway"]


def _ephemeris(origin: Path, name: str, number: int, time_s: float) -> NDArray[np.float64]:
    """RA and Dec (rad) of an ephemeris of the FIELD table at a time."""
    found = sorted((origin / "FIELD").glob(f"EPHEM{number}_*"))
    if not found:
        raise InputError(
            f"field {name} follows ephemeris {number}, which is not in the FIELD table",
            "copy the measurement set again from where it came, with its ephemerides",
        )
    with open_table(found[0]) as opened:
        day = np.asarray(opened.getcol("MJD"), float)
        ra = np.unwrap(np.radians(_degrees(opened, "RA")))
        dec = np.radians(_degrees(opened, "DEC"))
    when = time_s / _DAY_S
    if not (len(day) > 1 and day.min() <= when <= day.max()):
        raise InputError(
            f"the ephemeris of field {name} does not reach MJD {when:.2f}",
            "attach one that does, with the CASA tool ms.addephemeris",
        )
    return np.array([np.interp(when, day, ra), np.interp(when, day, dec)])


def _degrees(opened: Any, column: str) -> NDArray[np.float64]:
    values = np.asarray(opened.getcol(column), float)
    unit = np.atleast_1d(opened.getcolkeywords(column).get("QuantumUnits", ["deg"]))[0]
    return np.rad2deg(values) if unit == "rad" else values


def _to_j2000(ms: Path, numbers: list[int], fields: tuple[Field, ...], uvw_frame: str) -> list[str]:
    """Convert the positions of fields in frames that are not used for coordinates."""
    notes = []
    for number in numbers:
        field = fields[number]
        if field.frame not in (*SKY_FRAMES, *_KEPT) or uvw_frame == field.frame:
            raise InputError(
                f"the position of field {field.name} is given in {field.frame}"
                + (", and so are u, v and w" if uvw_frame == field.frame else ""),
                "phase the data to a position in J2000, with the CASA task phaseshift",
            )
        if field.frame not in _KEPT:
            notes.append(f"the position of field {field.name} is in {field.frame}: now in J2000")
    with open_table(f"{ms}::FIELD", write=True) as opened:
        for column in _COLUMNS:
            measure = opened.getcolkeywords(column)["MEASINFO"]
            for number in numbers:
                value = np.atleast_2d(opened.getcell(column, number))
                there = to_j2000((float(value[0, 0]), float(value[0, 1])), fields[number].frame)
                opened.putcell(column, number, np.array([there]))
                if "VarRefCol" in measure:
                    types = list(measure["TabRefTypes"])
                    code = int(measure["TabRefCodes"][types.index("J2000")])
                    opened.putcell(measure["VarRefCol"], number, code)
            if "VarRefCol" not in measure:
                measure["Ref"] = "J2000"
                opened.putcolkeyword(column, "MEASINFO", measure)
    return notes
