"""Phase centres in the frame recorded with the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import ConfigError, ToolError
from libs.ms.subtables import Subtables

__all__ = ["PhaseCentre", "field_centre"]


@dataclass(frozen=True)
class PhaseCentre:
    """Phase centre of a field's visibilities.

    Attributes
    ----------
    frame : str
        Frame as recorded: ``J2000``, ``ICRS``, ``B1950`` or ``B1950_VLA``.
    ra_deg, dec_deg : float
        Right ascension and declination in that frame.
    """

    frame: str
    ra_deg: float
    dec_deg: float

    def _astropy_frame(self) -> Any:
        # B1950_VLA is the VLA's own approximation to B1950, good to a fraction of an arcsecond.
        from astropy.coordinates import FK4, FK5

        b1950 = FK4(equinox="B1950")
        frames = {
            "B1950": b1950,
            "B1950_VLA": b1950,
            "J2000": FK5(equinox="J2000"),
            "ICRS": "icrs",
        }
        if self.frame not in frames:
            raise ToolError(
                f"the phase centre is given in {self.frame}", "use J2000, ICRS or B1950"
            )
        return frames[self.frame]

    def at(self, ra_deg: float, dec_deg: float) -> PhaseCentre:
        """Return a J2000 position in this frame."""
        import astropy.units as u
        from astropy.coordinates import FK5, SkyCoord

        there = SkyCoord(ra_deg * u.deg, dec_deg * u.deg, frame=FK5(equinox="J2000"))
        there = there.transform_to(self._astropy_frame())
        return PhaseCentre(self.frame, float(there.ra.deg), float(there.dec.deg))

    def offset_rad(self, other: PhaseCentre) -> tuple[float, float]:
        """Return the direction cosines (l, m) of another position relative to this one."""
        ra, dec = math.radians(self.ra_deg), math.radians(self.dec_deg)
        there, up = math.radians(other.ra_deg), math.radians(other.dec_deg)
        east = math.cos(up) * math.sin(there - ra)
        north = math.sin(up) * math.cos(dec) - math.cos(up) * math.sin(dec) * math.cos(there - ra)
        return east, north

    def casa(self) -> str:
        """Return the position in CASA's notation."""
        return f"{self.frame} {self.ra_deg:.10f}deg {self.dec_deg:.10f}deg"


def field_centre(ms: Path, field_id: int) -> PhaseCentre:
    """Read the phase centre of a field.

    Raises
    ------
    ConfigError
        There is no such field.
    """
    fields = Subtables(ms).fields
    if field_id >= len(fields):
        raise ConfigError(f"{ms} has no field {field_id}", "correct the field")
    ra_deg, dec_deg = np.degrees(fields[field_id].direction_rad)
    return PhaseCentre(fields[field_id].frame, float(ra_deg), float(dec_deg))
