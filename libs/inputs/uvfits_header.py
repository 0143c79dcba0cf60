"""Header of a UVFITS file: its axes, its parameters and the tables that go with them.

A file written in a form not understood here raises `libs.ms.subset.NotUnderstoodError`, so that
the caller can leave it to CASA's importuvfits instead of guessing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.ms.fill_subtables import Antennas, Sources, Windows
from libs.ms.subset import NotUnderstoodError

__all__ = ["UvfitsHeader", "read_uvfits_header"]

# AIPS memo 117: codes of the STOKES axis to those of the POLARIZATION subtable
_CORR_TYPE = {-1: 5, -3: 6, -4: 7, -2: 8, -5: 9, -7: 10, -8: 11, -6: 12}
_MOUNTS = {
    0: "ALT-AZ", 1: "EQUATORIAL", 3: "X-Y", 4: "ALT-AZ+NASMYTH-R", 5: "ALT-AZ+NASMYTH-L",
    6: "BIZARRE",
}  # fmt: skip
_FRAMES = {"REST": 0, "LSRK": 1, "LSRD": 2, "BARYCENT": 3, "GEOCENTR": 4, "TOPOCENT": 5}
_NUMBERS = {-32: ">f4", -64: ">f8"}  # of BITPIX
_TOPOCENTRIC = 5
_OBSERVED = (0, 3)  # VELREF mod 256: none given, or the observer's frame
_VLA_SIDE_M = 100.0  # AIPS puts the VLA's centre 53 m from the origin of its pads
_VLA_M = (-1601185.365, -5041977.547, 3554875.870)  # from CASA's table of observatories
# Dish diameters, m, of observatories whose UVFITS files lack them; else 25 m, as AIPS assumes.
_DISH_M = {
    "ATCA": 22.0, "SMA": 6.0, "ATA": 6.1, "HATCREEK": 6.1, "BIMA": 6.1, "GMRT": 45.0,
    "IRAM_PDB": 15.0, "IRAM PDB": 15.0,
}  # fmt: skip


@dataclass(frozen=True)
class UvfitsHeader:
    """Contents of a UVFITS file apart from its visibilities.

    Attributes
    ----------
    path : Path
    data_offset : int
        Offset of the groups in the file, bytes.
    number : str
        Type of the numbers of the groups: big-endian, of 4 or 8 bytes.
    groups : int
        Number of groups.
    shape : tuple of int
        Shape of a group's array after its axes are put in the order (nif, nchan, ncorr, 3).
    axes : tuple of int
        Index in the file's array of each axis of ``shape``.
    file_shape : tuple of int
        Shape of a group's array in the file.
    parameters : tuple of (str, float, float)
        Name, scale and zero of each parameter.
    corr_type : (ncorr,) int32
        Codes of the POLARIZATION subtable, in order.
    corr_order : (ncorr,) int64
        Index of each on the file's axis.
    """

    path: Path
    data_offset: int
    number: str
    groups: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    file_shape: tuple[int, ...]
    parameters: tuple[tuple[str, float, float], ...]
    corr_type: NDArray[np.int32]
    corr_order: NDArray[np.int64]
    windows: Windows
    antennas: Antennas
    sources: Sources
    telescope: str
    observer: str
    history: tuple[str, ...]

    @property
    def ifs(self) -> int:
        """Number of windows observed at once."""
        return self.shape[0]

    def parameter(self, name: str) -> list[int]:
        """Return the indices of the parameters with a name."""
        return [i for i, (own, _, _) in enumerate(self.parameters) if own == name]


def read_uvfits_header(path: Path) -> UvfitsHeader:
    """Read everything except the visibilities.

    Raises
    ------
    NotUnderstoodError
        The file has something that this reader does not know.
    InputError
        The file holds no correlations, or is cut off.
    """
    from astropy.io import fits

    with fits.open(path, memmap=True) as hdus:
        primary = hdus[0]
        header = primary.header
        tables: dict[str, list[Any]] = {}
        for hdu in hdus[1:]:
            tables.setdefault(hdu.name.strip(), []).append(hdu)
        offset = int(primary.fileinfo()["datLoc"])
        if int(header["BITPIX"]) not in _NUMBERS:
            raise NotUnderstoodError(
                f"its visibilities are stored with BITPIX = {header['BITPIX']}"
            )
        if header.get("BSCALE", 1.0) != 1.0 or header.get("BZERO", 0.0) != 0.0:
            raise NotUnderstoodError("its visibilities are scaled (BSCALE, BZERO)")
        axis = _axes(header)
        shape, axes, file_shape = _shape(header, axis)
        corr_type, order = _correlations(header, axis["STOKES"], path)
        telescope = str(header.get("TELESCOP", "unknown")).strip()
        made = UvfitsHeader(
            path=path,
            data_offset=offset,
            number=_NUMBERS[int(header["BITPIX"])],
            groups=int(header["GCOUNT"]),
            shape=shape,
            axes=axes,
            file_shape=file_shape,
            parameters=_parameters(header),
            corr_type=corr_type,
            corr_order=order,
            windows=_windows(header, axis["FREQ"], shape, tables),
            antennas=_antennas(tables, telescope),
            sources=_sources(header, axis, tables, telescope),
            telescope="BIMA" if telescope == "HATCREEK" else telescope,
            observer=str(header.get("OBSERVER", "")).strip(),
            history=tuple(str(line) for line in header.get("HISTORY", ())),
        )
    _check_size(made)
    return made


def _check_size(header: UvfitsHeader) -> None:
    row = int(header.number[-1]) * (len(header.parameters) + int(np.prod(header.shape)))
    if header.path.stat().st_size < header.data_offset + row * header.groups:
        raise InputError(f"{header.path.name} is cut off", "copy it again")


def _axes(header: Any) -> dict[str, int]:
    """Return the number of each axis, by the first word of its name."""
    found: dict[str, int] = {}
    for number in range(2, int(header["NAXIS"]) + 1):
        name = str(header.get(f"CTYPE{number}", "")).strip()
        if name in ("", "IF") and int(header[f"NAXIS{number}"]) == 1:
            continue
        word = re.split("-", name)[0]
        if word in found or word not in ("COMPLEX", "STOKES", "FREQ", "IF", "RA", "DEC"):
            raise NotUnderstoodError(f"its axis {number} is {name!r}")
        found[word] = number
    missing = {"COMPLEX", "STOKES", "FREQ"} - set(found)
    if missing:
        raise NotUnderstoodError(f"it has no axis {', '.join(sorted(missing))}")
    if int(header[f"NAXIS{found['COMPLEX']}"]) != 3:
        raise NotUnderstoodError("its visibilities have no weights")
    if any(int(header[f"NAXIS{found[n]}"]) != 1 for n in ("RA", "DEC") if n in found):
        raise NotUnderstoodError("it has several positions on its RA and DEC axes")
    return found


def _shape(
    header: Any, axis: dict[str, int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return (nif, nchan, ncorr, 3), the index of each in the file, and the file's own shape."""
    count = int(header["NAXIS"])
    file_shape = tuple(int(header[f"NAXIS{n}"]) for n in range(count, 1, -1))
    numbers = [axis.get("IF"), axis["FREQ"], axis["STOKES"], axis["COMPLEX"]]
    if axis.get("IF") is None:
        # any axis of one element can stand in for a missing one
        spare = [n for n in range(2, count + 1) if n not in numbers]
        if not spare:
            return (
                (1, *(int(header[f"NAXIS{n}"]) for n in numbers[1:] if n)),
                (0, *(count - n + 1 for n in numbers[1:] if n)),
                (1, *file_shape),
            )
        numbers[0] = spare[0]
    places = tuple(count - n for n in numbers if n is not None)
    return tuple(file_shape[place] for place in places), places, file_shape


def _correlations(
    header: Any, number: int, path: Path
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    count = int(header[f"NAXIS{number}"])
    first, pixel, step = (float(header[f"{w}{number}"]) for w in ("CRVAL", "CRPIX", "CDELT"))
    codes = [round(first + (i + 1 - pixel) * step) for i in range(count)]
    if any(code not in _CORR_TYPE for code in codes):
        raise InputError(
            f"{path.name} holds Stokes parameters (codes {codes} of its STOKES axis), not "
            "correlations of two feeds",
            "write it with RR, LL or XX, YY: gains of feeds cannot be told from Stokes parameters",
        )
    types = np.array([_CORR_TYPE[code] for code in codes], np.int32)
    order = np.argsort(types, kind="stable")
    return types[order], order


def _parameters(header: Any) -> tuple[tuple[str, float, float], ...]:
    made = []
    for number in range(1, int(header["PCOUNT"]) + 1):
        name = str(header.get(f"PTYPE{number}", "")).strip().upper()
        word = re.match("UU|VV|WW", name)
        made.append(
            (
                word[0] if word else name,
                float(header.get(f"PSCAL{number}", 1.0)),
                float(header.get(f"PZERO{number}", 0.0)),
            )
        )
    names = [name for name, _, _ in made]
    for wanted in ("UU", "VV", "WW", "DATE"):
        if wanted not in names or (wanted != "DATE" and names.count(wanted) > 1):
            raise NotUnderstoodError(f"it does not have exactly one parameter {wanted}")
    if "BASELINE" not in names and not {"ANTENNA1", "ANTENNA2"} <= set(names):
        raise NotUnderstoodError("it has no parameter BASELINE")
    return tuple(made)


def _columns(hdu: Any, *names: str) -> list[NDArray[Any]]:
    missing = [name for name in names if name not in hdu.columns.names]
    if missing:
        raise NotUnderstoodError(f"its table {hdu.name} has no column {', '.join(missing)}")
    return [np.asarray(hdu.data[name]) for name in names]


def _windows(
    header: Any, number: int, shape: tuple[int, ...], tables: dict[str, list[Any]]
) -> Windows:
    nif, nchan = shape[:2]
    reference, pixel, step = (float(header[f"{w}{number}"]) for w in ("CRVAL", "CRPIX", "CDELT"))
    hdus = tables.get("AIPS FQ", [])
    if len(hdus) > 1:
        raise NotUnderstoodError("it has several tables AIPS FQ")
    if hdus:
        found = _columns(hdus[0], "FRQSEL", "IF FREQ", "CH WIDTH", "TOTAL BANDWIDTH")
        ids = found[0].ravel()
        if not np.array_equal(ids, 1 + np.arange(len(ids))):
            raise NotUnderstoodError("the frequency selections of AIPS FQ are not numbered from 1")
        if any(np.size(part) != len(ids) * nif for part in found[1:]):
            raise NotUnderstoodError(f"AIPS FQ does not list the {nif} IFs of the data")
        offset, width, total = (np.asarray(part, float).ravel() for part in found[1:])
    else:
        if nif > 1:
            raise NotUnderstoodError("it has several IFs and no table AIPS FQ")
        offset, width, total = np.zeros(1), np.array([step]), np.array([abs(nchan * step)])
    if not np.all(width):
        raise NotUnderstoodError("AIPS FQ has channels without width")
    at = reference + offset
    channel = np.arange(nchan) + 1 - pixel
    return Windows(
        frequency_hz=at[:, None] + channel * width[:, None],
        width_hz=np.repeat(np.abs(width)[:, None], nchan, axis=1),
        reference_hz=at,
        total_hz=total,
        sideband=np.where(width > 0, 1, -1).astype(np.int32),
        frame=_frequency_frame(header),
    )


def _frequency_frame(header: Any) -> int:
    said = str(header.get("SPECSYS", "")).strip().upper()
    if said:
        frames = [code for name, code in _FRAMES.items() if said.startswith(name[: len(said)])]
        if len(frames) != 1:
            raise NotUnderstoodError(f"its frequencies are in the frame SPECSYS = {said!r}")
        return frames[0]
    if int(header.get("VELREF", 0)) % 256 not in _OBSERVED:
        raise NotUnderstoodError(f"its frequencies are in the frame VELREF = {header['VELREF']}")
    return _TOPOCENTRIC


def _antennas(tables: dict[str, list[Any]], telescope: str) -> Antennas:
    hdus = tables.get("AIPS AN", [])
    if len(hdus) != 1:
        raise NotUnderstoodError(f"it has {len(hdus) or 'no'} tables AIPS AN (subarrays)")
    hdu = hdus[0]
    number, name, xyz, mount, axis_m, angle_a, angle_b = _columns(
        hdu, "NOSTA", "ANNAME", "STABXYZ", "MNTSTA", "STAXOF", "POLAA", "POLAB"
    )
    header = hdu.header
    if any(int(kind) not in _MOUNTS for kind in mount) and telescope != "SMA":
        raise NotUnderstoodError("it has antennas in orbit or on unknown mounts")
    order = np.argsort(number, kind="stable")
    if len(np.unique(number)) != len(number):
        raise NotUnderstoodError("AIPS AN names an antenna twice")
    offset = np.zeros((len(number), 3))
    offset[:, 0] = np.asarray(axis_m, float).ravel()[order]
    angles = np.stack([_first(angle_a), _first(angle_b)], axis=1)
    dish = _columns(hdu, "DIAMETER")[0] if "DIAMETER" in hdu.columns.names else np.zeros(1)
    names = [str(one).split("\0")[0].strip() for one in name[order]]
    return Antennas(
        number=np.asarray(number, np.int64)[order],
        name=tuple(_antenna_name(telescope, int(n)) for n in number[order]),
        station=tuple(names),
        mount=tuple("ALT-AZ" if telescope == "SMA" else _MOUNTS[int(k)] for k in mount[order]),
        position_m=_positions(header, np.asarray(xyz, float))[order],
        offset_m=offset,
        diameter_m=np.asarray(dish, float).ravel()[order]
        if np.any(dish > 0)
        else _diameters(telescope, number[order], names),
        angle_rad=np.deg2rad(angles[order]),
        time_system=_time_system(header),
    )


def _first(column: NDArray[Any]) -> NDArray[np.float64]:
    """Return the value of the first IF of a column that may have one for each IF."""
    return np.asarray(column, float).reshape(len(column), -1)[:, 0]


def _antenna_name(telescope: str, number: int) -> str:
    """Return the name that CASA gives, which tables of earlier runs and other people use."""
    prefix = {"CARMA": "CA{}", "EVLA": "EA{:02d}", "VLA": "VA{:02d}"}
    return prefix.get(telescope, "{}").format(number)


def _diameters(
    telescope: str, number: NDArray[np.int64], stations: list[str]
) -> NDArray[np.float64]:
    if telescope in ("OVRO", "CARMA"):
        return np.where(number <= 6, 10.4, 6.1)
    made = np.full(len(number), _DISH_M.get(telescope, 25.0))
    if telescope == "ALMA":
        for place, station in enumerate(stations):
            made[place] = {"CM": 7.0, "DA": 12.0, "DV": 12.0, "PM": 12.0}.get(station[:2], 25.0)
    return made


def _positions(header: Any, xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ITRF positions, (nant, 3) m."""
    try:
        centre = np.array([float(header[f"ARRAY{letter}"]) for letter in "XYZ"])
    except KeyError as error:
        raise NotUnderstoodError("AIPS AN does not say where the array is") from error
    hand = str(header.get("XYZHAND", "")).strip().upper()
    if hand not in ("", "LEFT", "RIGHT"):
        raise NotUnderstoodError(f"antenna positions are given with XYZHAND = {hand!r}")
    array = str(header.get("ARRNAM", "")).strip()
    if array == "VLA" and "FRAME" not in header and np.all(np.abs(centre - _VLA_M) < _VLA_SIDE_M):
        # the VLA's old on-line system counted X along the meridian of the array
        centre = np.array(_VLA_M)
        angle = np.arctan2(centre[1], centre[0])
        cos, sin = np.cos(angle), np.sin(angle)
        xyz = xyz @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    if hand == "LEFT":
        xyz = xyz * [1, -1, 1]
    return np.asarray(centre + xyz, np.float64)


def _time_system(header: Any) -> str:
    # some writers of VLBI data spell the keyword with an E
    said = str(header.get("TIMSYS", header.get("TIMESYS", "IAT"))).strip().upper()
    if said not in ("UTC", "IAT", "TAI"):
        raise NotUnderstoodError(f"its times are {said}")
    return "UTC" if said == "UTC" else "TAI"


def _epoch_frame(epoch: float, telescope: str) -> str:
    if abs(epoch - 2000.0) < 0.01:
        return "J2000"
    if abs(epoch - 1950.0) < 0.01:
        return "B1950_VLA" if telescope == "VLA" else "B1950"
    raise NotUnderstoodError(f"its positions are of the equinox {epoch:g}")


def _header_frame(header: Any, telescope: str) -> str:
    said = header.get("EPOCH", header.get("EQUINOX", 2000.0))
    words = re.fullmatch(r"\s*[JB]?\s*(\d+(?:\.\d*)?)\s*", str(said))
    if not words:
        raise NotUnderstoodError(f"its equinox is {said!r}")
    return _epoch_frame(float(words[1]), telescope)


def _sources(
    header: Any, axis: dict[str, int], tables: dict[str, list[Any]], telescope: str
) -> Sources:
    hdus = tables.get("AIPS SU", [])
    if len(hdus) > 1:
        raise NotUnderstoodError("it has several tables AIPS SU")
    if not hdus:
        if not {"RA", "DEC"} <= set(axis):
            raise NotUnderstoodError("it has neither axes RA and DEC nor a table AIPS SU")
        degrees = [float(header[f"CRVAL{axis[name]}"]) for name in ("RA", "DEC")]
        rest = np.array([float(header.get("RESTFREQ", 0.0))])
        return Sources(
            (str(header.get("OBJECT", "unknown")).strip(),), ("",), _wrapped([degrees]),
            np.ones(1, bool), rest, np.zeros(1), _header_frame(header, telescope),
        )  # fmt: skip
    return _source_table(hdus[0], telescope)


def _source_table(hdu: Any, telescope: str) -> Sources:
    number, name, quality, code, ra, dec, epoch, pm_ra, pm_dec = _columns(
        hdu, "ID. NO.", "SOURCE", "QUAL", "CALCODE", "RAEPO", "DECEPO", "EPOCH", "PMRA", "PMDEC"
    )
    if np.any(pm_ra) or np.any(pm_dec):
        raise NotUnderstoodError("it has sources that move")
    if str(hdu.header.get("VELTYP", "")).strip().upper() not in ("", "TOPOCENT"):
        raise NotUnderstoodError(f"its frequencies are in the frame {hdu.header['VELTYP']}")
    frames = {_epoch_frame(float(one), telescope) for one in epoch}
    if len(frames) != 1 or number.min() < 1 or len(np.unique(number)) != len(number):
        raise NotUnderstoodError("its sources are of several equinoxes or numbers")
    count = int(number.max())
    names, codes = [""] * count, [""] * count
    direction, present = np.zeros((count, 2)), np.zeros(count, bool)
    rest, velocity = np.zeros(count), np.zeros(count)
    several = len(np.unique(quality)) > 1
    for row, place in enumerate(np.asarray(number, int) - 1):
        suffix = f"_{int(quality[row])}" if several else ""
        names[place] = str(name[row]).strip() + suffix
        codes[place] = str(code[row]).strip()
        direction[place] = _wrapped([[float(ra[row]), float(dec[row])]])[0]
        present[place] = True
        for column, into in (("RESTFREQ", rest), ("LSRVEL", velocity)):
            if column in hdu.columns.names:
                into[place] = np.ravel(hdu.data[column][row])[0]
    return Sources(
        tuple(names), tuple(codes), direction, present, rest, velocity, next(iter(frames))
    )


def _wrapped(degrees: list[list[float]]) -> NDArray[np.float64]:
    """Return radians with right ascensions from -pi to pi, as CASA writes them."""
    made = np.deg2rad(np.array(degrees, float))
    made[:, 0] = np.mod(made[:, 0] + np.pi, 2 * np.pi) - np.pi
    return made
