"""Antenna lists with ITRF positions: CASA's configuration files and the LOFAR stations."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError, ToolError
from libs.ms.antennas import AntennaArray
from libs.ms.tables import open_table

__all__ = [
    "configuration_names",
    "geodetic_to_itrf",
    "load_configuration",
    "local_to_itrf",
    "lofar_hba",
    "read_configuration",
    "utm_to_geodetic",
]

# semi-major axis (m), inverse flattening; shift of the datum's origin from WGS 84 (m) from NIMA
# TR8350.2 (3rd ed., 2000), appendix B: mean of South America; mean of the western USA
_WGS84 = (6378137.0, 298.257223563)
_DATUMS = {
    "WGS84": (*_WGS84, (0.0, 0.0, 0.0)),
    "SAM56": (6378388.0, 297.0, (-288.0, 175.0, -376.0)),
    "NAD27": (6378206.4, 294.9786982, (-8.0, 159.0, 175.0)),
}
# Effective diameters of LOFAR's HBA stations, m (van Haarlem et al. 2013, table B.1)
_LOFAR_DIAMETER_M = {"CS": 30.75, "RS": 41.05, "ST": 300.0}
_LOFAR_INTERNATIONAL_M = 56.5


def geodetic_to_itrf(
    longitude_rad: NDArray[np.float64] | float,
    latitude_rad: NDArray[np.float64] | float,
    height_m: NDArray[np.float64] | float,
    datum: str = "WGS84",
) -> NDArray[np.float64]:
    """Convert geodetic coordinates to geocentric ones in the frame of WGS 84 (ITRF).

    Returns
    -------
    (..., 3) float64
        Positions, m; for the old datums they are accurate to tens of metres, as a common shift.
    """
    axis_m, inverse_flattening, shift_m = _DATUMS[datum]
    e2 = (2.0 - 1.0 / inverse_flattening) / inverse_flattening
    sin_lat, cos_lat = np.sin(latitude_rad), np.cos(latitude_rad)
    normal = axis_m / np.sqrt(1.0 - e2 * sin_lat**2)
    xyz = np.stack(
        np.broadcast_arrays(
            (normal + height_m) * cos_lat * np.cos(longitude_rad),
            (normal + height_m) * cos_lat * np.sin(longitude_rad),
            (normal * (1.0 - e2) + height_m) * sin_lat,
        ),
        axis=-1,
    )
    return np.asarray(xyz + np.array(shift_m), dtype=np.float64)


def local_to_itrf(
    enu_m: NDArray[np.float64], longitude_rad: float, latitude_rad: float, height_m: float
) -> NDArray[np.float64]:
    """Convert east, north, up on the tangent plane of a WGS 84 site to ITRF, (n, 3) m."""
    sin_lon, cos_lon = math.sin(longitude_rad), math.cos(longitude_rad)
    sin_lat, cos_lat = math.sin(latitude_rad), math.cos(latitude_rad)
    east = np.array([-sin_lon, cos_lon, 0.0])
    north = np.array([-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat])
    up = np.array([cos_lat * cos_lon, cos_lat * sin_lon, sin_lat])
    origin = geodetic_to_itrf(longitude_rad, latitude_rad, height_m)
    return np.asarray(origin + enu_m @ np.stack([east, north, up]), dtype=np.float64)


def utm_to_geodetic(
    easting_m: NDArray[np.float64],
    northing_m: NDArray[np.float64],
    zone: int,
    hemisphere: str = "N",
    datum: str = "WGS84",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert UTM coordinates to geodetic longitude and latitude of the same datum, rad.

    The series is Krueger's to third order in the third flattening (Karney 2011, J. Geodesy 85, 475,
    eqs. 11, 35, 36); it is better than a millimetre within a zone.
    """
    axis_m, inverse_flattening, _ = _DATUMS[datum]
    f = 1.0 / inverse_flattening
    n = f / (2.0 - f)
    radius = axis_m / (1.0 + n) * (1.0 + n**2 / 4.0 + n**4 / 64.0)
    false_northing = 10_000_000.0 if hemisphere.upper().startswith("S") else 0.0
    xi = (np.asarray(northing_m) - false_northing) / (0.9996 * radius)
    eta = (np.asarray(easting_m) - 500_000.0) / (0.9996 * radius)
    beta = (
        n / 2.0 - 2.0 / 3.0 * n**2 + 37.0 / 96.0 * n**3,
        n**2 / 48.0 + n**3 / 15.0,
        17.0 / 480.0 * n**3,
    )
    xi_p, eta_p = xi.copy(), eta.copy()
    for j, coefficient in enumerate(beta, start=1):
        xi_p = xi_p - coefficient * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
        eta_p = eta_p - coefficient * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
    longitude = np.arctan2(np.sinh(eta_p), np.cos(xi_p)) + math.radians(6 * zone - 183)
    # conformal to geodetic latitude by fixed point: tau' = sinh(asinh(tau) - e atanh(e sin))
    conformal = np.arcsin(np.sin(xi_p) / np.cosh(eta_p))
    e = math.sqrt(f * (2.0 - f))
    latitude = conformal
    for _ in range(6):
        latitude = np.arctan(
            np.sinh(np.arctanh(np.sin(conformal)) + e * np.arctanh(e * np.sin(latitude)))
        )
    return longitude, latitude


def _configuration_folder() -> Path:
    spec = importlib.util.find_spec("casadata")
    if spec is None:
        raise ToolError("the package casadata is missing", "pip install casadata")
    import casadata

    return Path(casadata.datapath) / "alma" / "simmos"


def configuration_names() -> list[str]:
    """Return the names of the configurations that casadata holds (``"vla.a"``, ...)."""
    return sorted(path.stem for path in _configuration_folder().glob("*.cfg"))


def load_configuration(name: str) -> AntennaArray:
    """Read an array configuration of the casadata package by name.

    Parameters
    ----------
    name : str
        Name, e.g. ``"vla.a"``, ``"alma.cycle8.6"``, ``"vlba"``.

    Raises
    ------
    ToolError
        casadata is not installed.
    InputError
        casadata has no such configuration.
    """
    path = _configuration_folder() / f"{name}.cfg"
    if not path.exists():
        import difflib

        near = difflib.get_close_matches(name, configuration_names())
        raise InputError(
            f"casadata has no array configuration {name}",
            f"did you mean {', '.join(near)}?" if near else "see configuration_names()",
        )
    return read_configuration(path)


def _observatory_site(name: str) -> tuple[float, float, float]:
    """Return longitude (rad), geodetic latitude (rad) and height (m) from CASA's site table."""
    name = {"ALMASD": "ALMA"}.get(name.upper(), name)  # its single dishes are on the same site
    table = _configuration_folder().parent.parent / "geodetic" / "Observatories"
    with open_table(table) as sites:
        known = [str(site).upper() for site in sites.getcol("Name")]
        if name.upper() not in known:
            raise InputError(
                f"CASA's table of observatories does not list {name}", "correct the name"
            )
        row = sites.row()[known.index(name.upper())]
    if row["Type"] == "WGS84":
        return math.radians(row["Long"]), math.radians(row["Lat"]), float(row["Height"])
    from astropy import units
    from astropy.coordinates import EarthLocation

    place = EarthLocation.from_geocentric(row["X"], row["Y"], row["Z"], unit=units.m)
    return (
        float(place.lon.to_value(units.rad)),
        float(place.lat.to_value(units.rad)),
        float(place.height.to_value(units.m)),
    )


def read_configuration(path: str | Path) -> AntennaArray:
    """Read an array configuration file as CASA's simulator writes them.

    Header lines ``# key = value`` give the observatory and the coordinate system: ``XYZ``
    (ITRF), ``LOC`` (east, north, up at the observatory of that name) or ``UTM`` (with datum,
    zone, hemisphere and heights). Other lines hold three coordinates, the diameter and
    optionally the pad and antenna names.

    Raises
    ------
    InputError
        A line cannot be read or the coordinate system is not known.
    """
    path = Path(path)
    header: dict[str, str] = {}
    coordinates: list[list[float]] = []
    diameters: list[float] = []
    stations: list[str] = []
    names: list[str] = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        text, _, comment = line.partition("#")
        words = text.split()
        if not words:
            match = re.match(r"\s*(\w+)\s*=\s*(\S+)", comment)
            if match:
                header[match[1].lower()] = match[2]
            continue
        try:
            coordinates.append([float(word) for word in words[:3]])
            diameters.append(float(words[3]))
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{path} line {number} is not x y z diameter [pad [antenna]]", "correct the line"
            ) from error
        stations.append(words[4] if len(words) > 4 else f"{len(stations) + 1}")
        names.append(words[5] if len(words) > 5 else stations[-1])
    position = _to_itrf(np.array(coordinates).reshape(-1, 3), header, path)
    # CASA selections would take a name such as 12 or 2m for an id or a length
    names = [f"A{name}" if name[0].isdigit() else name for name in names]
    return AntennaArray(
        header.get("observatory", "UNKNOWN"),
        tuple(_all_different(names)),
        tuple(stations),
        position,
        np.array(diameters),
    )


def _all_different(names: list[str]) -> list[str]:
    """Number the repeats of a name: some files list two antennas on one pad."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique


def _to_itrf(
    coordinates: NDArray[np.float64], header: dict[str, str], path: Path
) -> NDArray[np.float64]:
    system = header.get("coordsys", "").upper()
    if system == "XYZ":
        return coordinates
    if system == "LOC":
        return local_to_itrf(coordinates, *_observatory_site(header.get("observatory", "")))
    datum = header.get("datum", "WGS84").upper()
    if system == "UTM" and datum in _DATUMS and header.get("zone", "").isdigit():
        longitude, latitude = utm_to_geodetic(
            coordinates[:, 0],
            coordinates[:, 1],
            int(header["zone"]),
            header.get("hemisphere", "N"),
            datum,
        )
        return geodetic_to_itrf(longitude, latitude, coordinates[:, 2], datum)
    raise InputError(
        f"{path} has the coordinate system {system or 'none'} (datum {datum})",
        "give coordsys XYZ, LOC or UTM in its header",
    )


def lofar_hba(
    *, core: str = "superstation", international: bool = True, remote: bool = True
) -> AntennaArray:
    """Return the antennas of LOFAR's high-band stations.

    Parameters
    ----------
    core : str
        Form of the core: ``"superstation"`` combines it to one station ST001 at its mean position;
        ``"split"`` has the two ears of each core station (HBA0, HBA1); ``"none"`` leaves it out.
    international, remote : bool
        True includes those stations.

    Raises
    ------
    ToolError
        The package lofarantpos is not installed.
    """
    if core not in ("superstation", "split", "none"):
        raise ValueError(f"core is superstation, split or none, not {core!r}")
    try:
        from lofarantpos.db import LofarAntennaDatabase
    except ImportError as error:
        raise ToolError("the package lofarantpos is missing", "pip install lofarantpos") from error
    centres = LofarAntennaDatabase().phase_centres
    ears = sorted(name for name in centres if re.fullmatch(r"CS\d{3}HBA[01]", name))
    chosen: dict[str, NDArray[np.float64]] = {}
    if core == "split":
        chosen.update({name: centres[name] for name in ears})
    for name in sorted(centres):
        country = re.fullmatch(r"([A-Z]{2})\d{3}HBA", name)
        if country is None or country[1] == "CS":
            continue
        if remote if country[1] == "RS" else international:
            chosen[name] = centres[name]
    if core == "superstation":
        chosen["ST001"] = np.mean([centres[name] for name in ears], axis=0)
    names = tuple(chosen)
    diameters = [_LOFAR_DIAMETER_M.get(name[:2], _LOFAR_INTERNATIONAL_M) for name in names]
    position = np.array(list(chosen.values()), dtype=np.float64).reshape(-1, 3)
    return AntennaArray("LOFAR", names, names, position, np.array(diameters))
