"""Primary flux calibrators: where they are, and their spectra on the scale of Perley & Butler.

Coefficients: Perley & Butler 2017, ApJS 230, 7, table 6: log10 S [Jy] is a polynomial of
log10 nu [GHz], valid within the range given there. Positions: VLA calibrator manual, J2000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError

__all__ = ["MATCH_ARCSEC", "STANDARDS", "FluxStandard", "find_standard", "named_standard"]

MATCH_ARCSEC = 5.0


@dataclass(frozen=True)
class FluxStandard:
    """A primary flux calibrator.

    Attributes
    ----------
    name : str
    aliases : tuple of str
    right_ascension_deg, declination_deg : float
        J2000.
    coefficients : tuple of float
        Of the polynomial, from the power 0 on.
    range_ghz : (float, float)
        Frequencies at which it holds.
    size_arcsec : float
        Roughly how large the source is: a beam below this resolves it.
    variable : bool
        Its flux changes by several per cent within years.
    """

    name: str
    aliases: tuple[str, ...]
    right_ascension_deg: float
    declination_deg: float
    coefficients: tuple[float, ...]
    range_ghz: tuple[float, float]
    size_arcsec: float
    variable: bool = False

    def flux_jy(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flux density at frequencies, Jy.

        Raises
        ------
        InputError
            A frequency is outside the range of the scale.
        """
        ghz = np.asarray(frequency_hz, np.float64) / 1e9
        low, high = self.range_ghz
        if ghz.size and not (low <= ghz.min() and ghz.max() <= high):
            raise InputError(
                f"the flux of {self.name} is known from {low:g} to {high:g} GHz, the data are at"
                f" {ghz.min():.4g} to {ghz.max():.4g} GHz",
                "name another flux_calibrator",
            )
        powers = np.log10(ghz)[..., None] ** np.arange(len(self.coefficients))
        return np.asarray(10 ** (powers @ np.array(self.coefficients)))


def _place(hours: tuple[int, int, float], degrees: tuple[int, int, float]) -> tuple[float, float]:
    ra = 15 * (hours[0] + hours[1] / 60 + hours[2] / 3600)
    return ra, degrees[0] + degrees[1] / 60 + degrees[2] / 3600


STANDARDS: tuple[FluxStandard, ...] = (
    FluxStandard(
        "3C48", ("0137+331", "J0137+3309", "0134+329"),
        *_place((1, 37, 41.2994), (33, 9, 35.133)), (1.3253, -0.7553, -0.1914, 0.0498),
        (0.05, 50.0), 1.2, variable=True,
    ),
    FluxStandard(
        "3C123", ("0437+296", "J0437+2940"),
        *_place((4, 37, 4.3754), (29, 40, 13.819)), (1.8017, -0.7884, -0.1035, -0.0248, 0.0090),
        (0.06, 50.0), 44.0,
    ),
    FluxStandard(
        "3C138", ("0521+166", "J0521+1638", "0518+165"),
        *_place((5, 21, 9.8860), (16, 38, 22.051)), (1.0088, -0.4981, -0.1552, -0.0102, 0.0223),
        (0.2, 50.0), 0.7, variable=True,
    ),
    FluxStandard(
        "3C147", ("0542+498", "J0542+4951", "0538+498"),
        *_place((5, 42, 36.1379), (49, 51, 7.234)),
        (1.4516, -0.6961, -0.2007, 0.0640, -0.0464, 0.0289), (0.05, 50.0), 0.9,
    ),
    FluxStandard(
        "3C196", ("0813+482", "J0813+4813", "0809+483"),
        *_place((8, 13, 36.0561), (48, 13, 2.636)), (1.2872, -0.8530, -0.1534, -0.0200, 0.0201),
        (0.05, 50.0), 7.0,
    ),
    FluxStandard(
        "3C286", ("1331+305", "J1331+3030", "1328+307"),
        *_place((13, 31, 8.2880), (30, 30, 32.959)), (1.2481, -0.4507, -0.1798, 0.0357),
        (0.05, 50.0), 3.0,
    ),
    FluxStandard(
        "3C295", ("1411+522", "J1411+5212", "1409+524"),
        *_place((14, 11, 20.5190), (52, 12, 9.970)), (1.4701, -0.7658, -0.2780, -0.0347, 0.0399),
        (0.05, 50.0), 6.0,
    ),
    FluxStandard(
        "3C380", ("1829+487", "J1829+4844", "1828+487"),
        *_place((18, 29, 31.7809), (48, 44, 46.161)),
        (1.2320, -0.7909, 0.0947, 0.0976, -0.1794, -0.1566), (0.05, 4.0), 18.0,
    ),
)  # fmt: skip


def find_standard(ra_rad: float, dec_rad: float) -> FluxStandard | None:
    """Return the standard within `MATCH_ARCSEC` of a J2000 position, rad, or None."""
    for one in STANDARDS:
        ra, dec = math.radians(one.right_ascension_deg), math.radians(one.declination_deg)
        half = (
            math.sin((dec_rad - dec) / 2) ** 2
            + math.cos(dec) * math.cos(dec_rad) * math.sin((ra_rad - ra) / 2) ** 2
        )
        apart = 2 * math.asin(min(1.0, math.sqrt(half)))
        if math.degrees(apart) * 3600 <= MATCH_ARCSEC:
            return one
    return None


def named_standard(name: str, known: Sequence[FluxStandard] = STANDARDS) -> FluxStandard | None:
    """Return the standard of a name or alias, None where there is none."""
    wanted = name.strip().lower().replace(" ", "")
    for one in known:
        if wanted in (one.name.lower(), *(alias.lower() for alias in one.aliases)):
            return one
    return None
