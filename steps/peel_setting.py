"""Directions that the key ``peel`` names."""

from __future__ import annotations

from libs.core.errors import ConfigError

__all__ = ["direction_of"]


def direction_of(words: str) -> tuple[float, float]:
    """Return a direction of ``peel``, J2000 RA and Dec, rad.

    Raises
    ------
    ConfigError
        The words are no direction.
    """
    from libs.core.angles import parse_direction  # numpy, for which no help should wait

    parts = words.split()
    if len(parts) != 2:
        raise ConfigError(
            f"peel = {words!r} is no direction", 'write RA and Dec: "13h31m08.29s +30d30m33.0s"'
        )
    return parse_direction(*parts)
