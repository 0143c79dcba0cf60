"""Elevation and parallactic angle of a direction over a place on the Earth."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["elevation_and_parallactic"]

_ECCENTRICITY2 = 6.69437999014e-3  # WGS84
_J2000_MJD_S = 51544.5 * 86400.0
_TURN_DEG_DAY = 360.98564736629
_SIDEREAL_DEG = 280.46061837


def elevation_and_parallactic(
    position_m: NDArray[np.float64], direction_rad: tuple[float, float], time_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return elevation and parallactic angle, deg, to a few tenths of a degree.

    Mean sidereal time is taken, UT1 for UTC and the J2000 direction for that of date; refraction
    is left out.

    Parameters
    ----------
    position_m : (3,) float64
        ITRF.
    direction_rad : (float, float)
        J2000 RA and Dec.
    time_s : (ntime,) float64
        MJD seconds, UTC.
    """
    x, y, z = (float(value) for value in position_m)
    longitude = math.atan2(y, x)
    latitude = math.atan2(z, math.hypot(x, y) * (1 - _ECCENTRICITY2))
    ra, dec = direction_rad
    days = (np.asarray(time_s, np.float64) - _J2000_MJD_S) / 86400.0
    sidereal = np.radians(np.mod(_SIDEREAL_DEG + _TURN_DEG_DAY * days, 360.0))
    hour = sidereal + longitude - ra
    height = math.sin(latitude) * math.sin(dec) + math.cos(latitude) * math.cos(dec) * np.cos(hour)
    turn = np.arctan2(
        np.sin(hour), math.tan(latitude) * math.cos(dec) - math.sin(dec) * np.cos(hour)
    )
    return np.degrees(np.arcsin(np.clip(height, -1, 1))), np.degrees(turn)
