"""Baseline coordinates and sky offsets: ITRF positions to (u, v, w), (l, m) to RA and Dec."""

from __future__ import annotations

import math

import erfa
import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.geometry import DAY_S, EARTH_RATE_RAD_S, MJD_ZERO_JD, SPEED_OF_LIGHT_M_S

__all__ = [
    "AU_DAY_M_S",
    "SKY_FRAMES",
    "antenna_uvw",
    "lm_to_radec",
    "radec_to_lm",
    "rotation",
    "to_j2000",
    "transit_s",
    "uvw_sign",
]

# Frames fixed to the sky, by their names in measurement sets, as astropy has them; those of the
# observer (AZEL, HADEC, APP) need a place and a time. B1950_VLA is the VLA's own approximation
# to B1950, good to a fraction of an arcsecond.
SKY_FRAMES = {
    "J2000": ("fk5", {"equinox": "J2000"}),
    "ICRS": ("icrs", {}),
    "B1950": ("fk4", {"equinox": "B1950"}),
    "B1950_VLA": ("fk4", {"equinox": "B1950"}),
    "GALACTIC": ("galactic", {}),
}

AU_DAY_M_S = 149597870700.0 / DAY_S


def lm_to_radec(l_rad: float, m_rad: float, ra0_rad: float, dec0_rad: float) -> tuple[float, float]:
    """Return RA and Dec of direction cosines (l east, m north) about a phase centre, rad.

    The projection is orthographic (SIN): Thompson, Moran & Swenson 2017, eqs. 3.33 to 3.35.
    """
    n = math.sqrt(1.0 - l_rad**2 - m_rad**2)
    dec = math.asin(m_rad * math.cos(dec0_rad) + n * math.sin(dec0_rad))
    ra = ra0_rad + math.atan2(l_rad, n * math.cos(dec0_rad) - m_rad * math.sin(dec0_rad))
    return ra % (2.0 * math.pi), dec


def radec_to_lm(
    ra_rad: float, dec_rad: float, ra0_rad: float, dec0_rad: float
) -> tuple[float, float]:
    """Return the direction cosines (l east, m north) of a position about a phase centre."""
    d_ra = ra_rad - ra0_rad
    l_rad = math.cos(dec_rad) * math.sin(d_ra)
    m_rad = math.sin(dec_rad) * math.cos(dec0_rad) - math.cos(dec_rad) * math.sin(
        dec0_rad
    ) * math.cos(d_ra)
    return l_rad, m_rad


def to_j2000(place_rad: tuple[float, float], frame: str) -> tuple[float, float]:
    """Return RA and Dec, J2000, rad, of a position in another frame.

    Raises
    ------
    InputError
        The frame is none of `SKY_FRAMES`.
    """
    if frame == "J2000":
        return place_rad
    if frame not in SKY_FRAMES:
        raise InputError(
            f"a position is given in {frame}", "phase the data to J2000, with CASA's phaseshift"
        )
    from astropy.coordinates import FK5, SkyCoord

    name, words = SKY_FRAMES[frame]
    there = SkyCoord(*place_rad, unit="rad", frame=name, **words)
    there = there.transform_to(FK5(equinox="J2000"))
    return float(there.ra.rad), float(there.dec.rad)


def _earth_orientation(
    mjd: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return UT1-UTC (s) and polar motion (rad) from the IERS table that astropy brings."""
    from astropy import units
    from astropy.utils import iers

    table = iers.IERS_B.open()  # the packaged file: nothing is downloaded
    first, last = table["MJD"][0].value, table["MJD"][-1].value
    if mjd.min() < first or mjd.max() > last - 1:
        raise InputError(
            f"MJD {mjd.min():.1f} to {mjd.max():.1f} is outside the table of earth orientation",
            f"choose a date between MJD {first:.0f} and {last - 1:.0f}",
        )
    dut1 = table.ut1_utc(np.full_like(mjd, MJD_ZERO_JD), mjd)
    polar_x, polar_y = table.pm_xy(np.full_like(mjd, MJD_ZERO_JD), mjd)
    return dut1.to_value(units.s), polar_x.to_value(units.rad), polar_y.to_value(units.rad)


def _apparent_rotation(
    toward: NDArray[np.float64], velocity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the rotation by stellar aberration of one direction, (ntime, 3, 3).

    It is exact to first order in v/c: the direction moves towards the velocity by the velocity's
    component across it.
    """
    across = velocity - (velocity @ toward)[:, None] * toward
    axis = np.cross(toward, across)
    angle = np.linalg.norm(axis, axis=1)
    axis = axis / np.where(angle > 0, angle, 1.0)[:, None]
    cross = np.zeros((len(velocity), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2] = -axis[:, 2], axis[:, 1]
    cross[:, 1, 0], cross[:, 1, 2] = axis[:, 2], -axis[:, 0]
    cross[:, 2, 0], cross[:, 2, 1] = -axis[:, 1], axis[:, 0]
    return np.asarray(
        np.eye(3)
        + np.sin(angle)[:, None, None] * cross
        + (1.0 - np.cos(angle))[:, None, None] * (cross @ cross)
    )


def antenna_uvw(
    position_m: NDArray[np.float64], direction_rad: tuple[float, float], time_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each antenna's (u, v, w) about the array's mean position.

    A baseline's UVW is that of ANTENNA2 minus that of ANTENNA1 in LOFAR's measurement sets, and
    the reverse in those that CASA's fillers write.

    ITRF is turned to the celestial frame by IAU 2006/2000A precession-nutation, with UT1 and
    polar motion from the IERS; the baseline is then turned by annual and diurnal aberration, as
    casacore's measures do. The two agree to 4e-6 of the baseline length.

    Parameters
    ----------
    position_m : (nant, 3) float64
        Positions, ITRF, m.
    direction_rad : (float, float)
        J2000 right ascension and declination of the phase centre, rad.
    time_s : (ntime,) float64
        UTC, MJD seconds, as in the TIME column.

    Returns
    -------
    (ntime, nant, 3) float64
        Coordinates, m.

    Raises
    ------
    InputError
        A time is outside the packaged table of earth orientation.
    """
    mjd = np.atleast_1d(np.asarray(time_s, dtype=np.float64)) / DAY_S
    dut1_s, polar_x, polar_y = _earth_orientation(mjd)
    tai = erfa.utctai(MJD_ZERO_JD, mjd)
    tt = erfa.taitt(*tai)
    ut1 = erfa.utcut1(MJD_ZERO_JD, mjd, dut1_s)
    to_itrf = erfa.c2t06a(*tt, *ut1, polar_x, polar_y)  # celestial to terrestrial
    ra, dec = direction_rad
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    toward = np.array([math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)])
    north = np.cross(toward, east)
    centre = position_m.mean(axis=0)
    # TT serves for TDB: they differ by 2 ms, in which the velocity hardly changes
    velocity = erfa.epv00(*tt)[1]["v"] * (AU_DAY_M_S / SPEED_OF_LIGHT_M_S)
    spin = np.array([-centre[1], centre[0], 0.0]) * (EARTH_RATE_RAD_S / SPEED_OF_LIGHT_M_S)
    velocity = velocity + np.einsum("i,tij->tj", spin, to_itrf)
    aberration = _apparent_rotation(toward, velocity)
    axes = np.einsum("tij,kj->tki", aberration, np.stack([east, north, toward]))
    to_uvw = np.einsum("tij,tkj->tik", to_itrf, axes)
    return np.asarray(np.einsum("ai,tik->tak", position_m - centre, to_uvw))


def uvw_sign(
    uvw_m: NDArray[np.float64],
    antenna1: int,
    antenna2: int,
    position_m: NDArray[np.float64],
    direction_rad: tuple[float, float],
    time_s: float,
) -> int:
    """Return 1 where a baseline's UVW is ANTENNA2 minus ANTENNA1, -1 for the reverse.

    Parameters
    ----------
    uvw_m : (3,) float64
        UVW of the baseline in the measurement set.
    antenna1, antenna2 : int
    position_m, direction_rad, time_s
        As in `antenna_uvw`; one time.
    """
    place = antenna_uvw(position_m, direction_rad, np.array([time_s]))[0]
    return 1 if float(uvw_m @ (place[antenna2] - place[antenna1])) >= 0 else -1


def transit_s(position_m: NDArray[np.float64], ra_rad: float, day_mjd: float) -> float:
    """Return the time (UTC, MJD s) on a day at which a right ascension transits, within 1 min."""
    centre = position_m.mean(axis=0)
    longitude = math.atan2(centre[1], centre[0])
    sidereal = float(erfa.gmst06(MJD_ZERO_JD, day_mjd, MJD_ZERO_JD, day_mjd))
    angle = (ra_rad - longitude - sidereal) % (2.0 * math.pi)
    return (day_mjd + angle / (2.0 * math.pi) * 0.99726957) * DAY_S


def rotation(old_rad: tuple[float, float], new_rad: tuple[float, float]) -> NDArray[np.float64]:
    """Return the matrix that turns (u, v, w) about one phase centre to those about another.

    Parameters
    ----------
    old_rad, new_rad : (float, float)
        Right ascension and declination, rad.

    Returns
    -------
    (3, 3) float64
        Matrix to be applied as ``matrix @ uvw``.
    """
    return np.asarray(_axes(new_rad) @ _axes(old_rad).T)


def _axes(direction_rad: tuple[float, float]) -> NDArray[np.float64]:
    """Return east, north and the direction itself, in celestial coordinates, as rows."""
    ra, dec = direction_rad
    toward = np.array([math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)])
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    return np.stack([east, np.cross(toward, east), toward])
