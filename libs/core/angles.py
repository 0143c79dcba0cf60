"""Angles: phases, directions and their text, and the phases that the ionosphere's TEC causes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError

__all__ = [
    "TEC_PHASE_HZ",
    "direction_text",
    "parse_direction",
    "separation_rad",
    "tec_phase_rad",
    "wrap_rad",
]

TEC_PHASE_HZ = -8.44797245e9
"""Phase of 1 TECU at 1 Hz, rad: phi = TEC_PHASE_HZ * TEC[TECU] / nu[Hz].

It is -e^2 1e16 / (4 pi epsilon0 m_e c).
"""

Array = NDArray[np.float64]


def wrap_rad(phase_rad: Array) -> Array:
    """Return phases in (-pi, pi]."""
    return np.asarray(np.pi - np.mod(np.pi - phase_rad, 2 * np.pi))


def separation_rad(a_rad: Array, b_rad: Array) -> Array:
    """Return the angle between directions (RA, Dec) on the last axis, rad (Vincenty's formula)."""
    ra_a, dec_a = np.moveaxis(np.asarray(a_rad, dtype=float), -1, 0)
    ra_b, dec_b = np.moveaxis(np.asarray(b_rad, dtype=float), -1, 0)
    cos_ra, sin_ra = np.cos(ra_b - ra_a), np.sin(ra_b - ra_a)
    across = np.hypot(
        np.cos(dec_b) * sin_ra,
        np.cos(dec_a) * np.sin(dec_b) - np.sin(dec_a) * np.cos(dec_b) * cos_ra,
    )
    along = np.sin(dec_a) * np.sin(dec_b) + np.cos(dec_a) * np.cos(dec_b) * cos_ra
    return np.asarray(np.arctan2(across, along))


def tec_phase_rad(tec_tecu: Array, frequency_hz: Array) -> Array:
    """Return the phase of a TEC at given frequencies.

    Parameters
    ----------
    tec_tecu : (ntime, nant, ndir) float64
        Total electron content, TECU.
    frequency_hz : (nfreq,) float64

    Returns
    -------
    (ntime, nfreq, nant, ndir) float64
        Phase, rad, not wrapped.
    """
    per_tecu = TEC_PHASE_HZ / frequency_hz
    return np.asarray(tec_tecu[:, np.newaxis] * per_tecu[:, np.newaxis, np.newaxis])


def parse_direction(ra: str, dec: str) -> tuple[float, float]:
    """Return RA and Dec in rad.

    Plain numbers are degrees; ``14h29m43s``, ``217.4deg`` carry their unit, ``14:29:43`` is
    hours for RA and degrees for Dec.

    Raises
    ------
    ConfigError
        The text is not an angle.
    """
    from astropy import units as u
    from astropy.coordinates import Angle

    try:
        hours = ":" in ra or " " in ra.strip()
        ra_rad = Angle(ra.strip(), unit=u.hourangle if hours else u.deg).to_value(u.rad)
        dec_rad = Angle(dec.strip(), unit=u.deg).to_value(u.rad)
    except (ValueError, u.UnitsError) as error:
        raise ConfigError(
            f"{ra} {dec} is not a direction ({error})", "write RA DEC as 217.43deg +35.2deg"
        ) from error
    if not abs(dec_rad) <= np.pi / 2:
        raise ConfigError(f"declination {dec} is beyond a pole", "write RA first, then Dec")
    return float(ra_rad), float(dec_rad)


def direction_text(
    ra_rad: float, dec_rad: float, separators: tuple[str, str], digits: tuple[int, int] = (7, 7)
) -> tuple[str, str]:
    """Return RA in hours and Dec in degrees as sexagesimal text with a sign.

    Parameters
    ----------
    ra_rad, dec_rad : float
        Direction, rad.
    separators : (str, str)
        Separators between the parts of RA and of Dec: ``":"``, ``"."``, ``"hms"`` or ``"dms"``.
    digits : (int, int)
        Decimals of the seconds; VLBI at millimetre wavelengths needs seven.
    """
    ra_hours = np.degrees(ra_rad) / 15.0 % 24.0
    dec_deg = float(np.degrees(dec_rad))
    sign = "-" if np.signbit(dec_deg) else "+"
    return (
        _sexagesimal(float(ra_hours), separators[0], digits[0], turn=24),
        sign + _sexagesimal(abs(dec_deg), separators[1], digits[1]),
    )


def _sexagesimal(value: float, separators: str, digits: int, turn: int | None = None) -> str:
    """Write a positive number with minutes and seconds; one that is rounded to a turn is 0."""
    unit = 10**digits
    count = round(value * 3600 * unit)
    if turn is not None:
        count %= turn * 3600 * unit
    minutes, rest = divmod(count, 60 * unit)
    seconds, decimals = divmod(rest, unit)
    whole, minutes = divmod(minutes, 60)
    parts = f"{whole:02d}", f"{minutes:02d}", f"{seconds:02d}"
    after = f".{decimals:0{digits}d}" if digits else ""
    if len(separators) == 1:
        return separators.join(parts) + after
    return "".join(
        part + mark for part, mark in zip((*parts[:2], parts[2] + after), separators, strict=True)
    )
