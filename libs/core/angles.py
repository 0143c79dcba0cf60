"""Angles as users write them."""

from __future__ import annotations

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle

from libs.core.errors import ConfigError

__all__ = ["parse_direction"]


def parse_direction(ra: str, dec: str) -> tuple[float, float]:
    """Return RA and Dec in rad.

    Plain numbers are degrees; ``14h29m43s``, ``217.4deg`` carry their unit, ``14:29:43`` is
    hours for RA and degrees for Dec.

    Raises
    ------
    ConfigError
        Not an angle.
    """
    try:
        hours = ":" in ra or " " in ra.strip()
        ra_rad = Angle(ra.strip(), unit=u.hourangle if hours else u.deg).to_value(u.rad)
        dec_rad = Angle(dec.strip(), unit=u.deg).to_value(u.rad)
    except (ValueError, u.UnitsError) as error:
        raise ConfigError(
            f"no direction: {ra} {dec} ({error})", "write RA DEC as 217.43deg +35.2deg"
        ) from error
    if not abs(dec_rad) <= np.pi / 2:
        raise ConfigError(f"declination {dec} is beyond a pole", "write RA first, then Dec")
    return float(ra_rad), float(dec_rad)
