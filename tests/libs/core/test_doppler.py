"""Frequencies at the telescope against two other programs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from libs.core.doppler import topocentric_factor
from libs.core.geometry import DAY_S, SPEED_OF_LIGHT_M_S

ALMA_M = np.array([2225061.164, -5440057.37, -2481681.15])


@pytest.mark.parametrize(
    ("mjd", "direction_deg", "topo_hz"),
    [
        # casatools 6.7 measures: 230 GHz LSRK to TOPO at ALMA
        (58849.3, (67.8, 18.13), 230e9 - 21541308.9),
        (58940.9, (283.0, 1.2), 230e9 + 33922285.7),
        (59030.6, (200.0, -60.0), 230e9 - 16526446.2),
    ],
)
def test_casa_has_the_same_frequencies(
    mjd: float, direction_deg: tuple[float, float], topo_hz: float
) -> None:
    toward = (math.radians(direction_deg[0]), math.radians(direction_deg[1]))
    factor = topocentric_factor(ALMA_M, toward, np.array([mjd * DAY_S]))
    assert abs(230e9 * factor[0] - topo_hz) / 230e9 * SPEED_OF_LIGHT_M_S < 0.3, "0.3 m/s"


def test_astropy_has_the_same_earth() -> None:
    """Without the Sun's own motion it is the barycentric correction."""
    from astropy import units
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    mjd = np.array([58849.3, 58940.9, 59030.6])
    place = SkyCoord(67.8, 18.13, unit="deg")
    with iers.conf.set_temp("auto_download", False):
        velocity = place.radial_velocity_correction(
            "barycentric", obstime=Time(mjd, format="mjd"),
            location=EarthLocation(*(ALMA_M * units.m)),
        ).to_value(units.m / units.s)  # fmt: skip
    factor = topocentric_factor(ALMA_M, (place.ra.rad, place.dec.rad), mjd * DAY_S)
    ours = SPEED_OF_LIGHT_M_S * np.log(factor)
    # what remains is the Sun's own velocity, the same at all times
    assert np.ptp(ours - velocity) < 1.0
    apex = SkyCoord(270.9586, 30.0047, unit="deg")
    expected = 20000.0 * math.cos(apex.separation(place).rad)
    assert ours - velocity == pytest.approx(expected, abs=5.0)
