"""Elevation and parallactic angle against astropy."""

from __future__ import annotations

import numpy as np
import pytest

from libs.core.horizon import elevation_and_parallactic

VLA_M = np.array([-1601185.4, -5041977.5, 3554875.9])


@pytest.mark.parametrize("direction_deg", [(202.8, 30.5), (85.6, 49.9), (187.7, -12.4)])
def test_elevation_agrees_with_astropy(direction_deg: tuple[float, float]) -> None:
    from astropy import units
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time

    times = 4.9e9 + np.arange(0, 86400, 3600.0)
    ours, _ = elevation_and_parallactic(
        VLA_M, (np.radians(direction_deg[0]), np.radians(direction_deg[1])), times
    )
    place = EarthLocation.from_geocentric(*VLA_M, unit=units.m)
    when = Time(times / 86400, format="mjd")
    theirs = SkyCoord(*direction_deg, unit="deg").transform_to(AltAz(obstime=when, location=place))
    assert np.abs(ours - theirs.alt.deg).max() < 0.4


def test_the_parallactic_angle_is_0_at_transit_and_changes_sign() -> None:
    direction = (np.radians(202.8), np.radians(10.0))
    times = 4.9e9 + np.arange(0, 86400, 60.0)
    height, turn = elevation_and_parallactic(VLA_M, direction, times)
    top = int(np.argmax(height))
    assert height[top] == pytest.approx(90 - 34.08 + 10, abs=0.2)
    assert abs(turn[top]) < 1.0
    assert turn[(top - 60) % 1440] < 0 < turn[(top + 60) % 1440]
