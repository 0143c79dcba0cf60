"""Frequencies at the telescope of what is at rest at a frequency of the local standard of rest."""

from __future__ import annotations

import math

import erfa
import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import AU_DAY_M_S
from libs.core.geometry import DAY_S, EARTH_RATE_RAD_S, MJD_ZERO_JD, SPEED_OF_LIGHT_M_S

__all__ = ["topocentric_factor"]

# The kinematic local standard of rest: the Sun moves at 20 km/s towards RA 18 h, Dec +30 deg of
# 1900 (Gordon 1975, Methods of Experimental Physics 12C, 281), here in J2000 coordinates.
_SUN_M_S = 20000.0
_APEX_RAD = (math.radians(270.9586), math.radians(30.0047))


def _unit(direction_rad: tuple[float, float]) -> NDArray[np.float64]:
    ra, dec = direction_rad
    return np.array([math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)])


def topocentric_factor(
    position_m: NDArray[np.float64], direction_rad: tuple[float, float], time_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return TOPO over LSRK frequency of radiation from a direction.

    Parameters
    ----------
    position_m : (3,) float64
        Position of the telescope, ITRF, m.
    direction_rad : (float, float)
        Right ascension and declination, J2000, rad.
    time_s : (ntime,) float64
        UTC, MJD seconds.

    Returns
    -------
    (ntime,) float64
        Factor; above 1 where the telescope moves towards the source.

    Notes
    -----
    The velocities of the Sun against the standard of rest, of the Earth's centre and of its
    rotation are added as special relativity has it, each as a radial velocity, as casacore's
    measures do. UTC stands for UT1 in the rotation: the second between them is 0.03 m/s.
    """
    mjd = np.atleast_1d(np.asarray(time_s, dtype=np.float64)) / DAY_S
    toward = _unit(direction_rad)
    tt = erfa.taitt(*erfa.utctai(MJD_ZERO_JD, mjd))
    # TT serves for TDB: they differ by 2 ms, in which the velocity hardly changes
    earth = erfa.epv00(*tt)[1]["v"] * AU_DAY_M_S
    to_itrf = erfa.c2t06a(*tt, MJD_ZERO_JD, mjd, 0.0, 0.0)
    spin = np.array([-position_m[1], position_m[0], 0.0]) * EARTH_RATE_RAD_S
    turning = np.einsum("i,tij->tj", spin, to_itrf)
    sun = _SUN_M_S * _unit(_APEX_RAD)
    factor = np.ones(len(mjd))
    for velocity in (earth, turning, np.broadcast_to(sun, earth.shape)):
        beta = velocity @ toward / SPEED_OF_LIGHT_M_S
        factor *= np.sqrt((1.0 + beta) / (1.0 - beta))
    return factor
