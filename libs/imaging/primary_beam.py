"""Primary beams of single dishes, and images corrected for them.

Only main lobes are known: beyond them a power is NaN, and so is a corrected image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import radec_to_lm
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.imaging.interface import open_image, sky_position, write_image

__all__ = ["SAME_DISH", "CorrectedImage", "ImagedBand", "PrimaryBeam", "correct_image", "find_beam"]

SAME_DISH = 1.1
"""Ratio of the largest to the smallest dish up to which they have a beam in common."""

Float = NDArray[np.float64]

# Below this power the fits say nothing, and neither does an image corrected by them.
_LEAST_POWER = 0.02

_STRIP_PIXELS = 4_000_000
_ARCMIN_PER_RAD = ARCSEC_PER_RAD / 60.0


@dataclass(frozen=True)
class ImagedBand:
    """How an image came from frequencies.

    Attributes
    ----------
    frequencies_hz : tuple of float
        From the whole band.
    terms : int
        Coefficients of the polynomial in (nu - nu0) / nu0 whose first one the image is; 1: it is
        the mean.
    reference_hz : float
        nu0.
    """

    frequencies_hz: tuple[float, ...]
    terms: int = 1
    reference_hz: float = 0.0

    def weights(self) -> Float:
        """Return the weight of each frequency in the image; their sum is 1."""
        terms = min(self.terms, len(self.frequencies_hz))
        if terms == 1:
            return np.full(len(self.frequencies_hz), 1.0 / len(self.frequencies_hz))
        x = np.array(self.frequencies_hz) / self.reference_hz - 1.0
        return np.asarray(np.linalg.pinv(np.vander(x, terms, increasing=True))[0])


@dataclass(frozen=True)
class PrimaryBeam:
    """A circular power pattern, 1 in the middle.

    Attributes
    ----------
    name : str
        What it is, with its source.
    pattern : callable
        Function (angle from the axis (n,), rad; frequency, Hz) -> power (n,).
    """

    name: str
    pattern: Callable[[Float, float], Float]

    def power(self, angle_rad: Float, frequency_hz: float) -> Float:
        """Return the power at angles from the axis; NaN beyond the main lobe."""
        grid = self.reach_rad(frequency_hz)
        flat = np.asarray(angle_rad, np.float64).ravel()
        inside = np.isfinite(flat) & (flat <= grid)
        found = np.full(flat.shape, np.nan)
        found[inside] = self.pattern(flat[inside], frequency_hz)
        return found.reshape(np.shape(angle_rad))

    def band_power(self, angle_rad: Float, band: ImagedBand) -> Float:
        """Return the power by which an image of a band is attenuated."""
        total = np.zeros(np.shape(angle_rad))
        for frequency, weight in zip(band.frequencies_hz, band.weights(), strict=True):
            total += weight * self.power(angle_rad, frequency)
        return total

    def reach_rad(self, frequency_hz: float, least_power: float = _LEAST_POWER) -> float:
        """Return the angle, rad, to which the pattern falls from the middle on.

        Parameters
        ----------
        frequency_hz : float
        least_power : float
            The main lobe is followed down to this power.
        """
        widest = 4.0 * SPEED_OF_LIGHT_M_S / frequency_hz / _SMALLEST_DISH_M
        angle = np.linspace(0.0, min(widest, 1.5), 4000)
        power = self.pattern(angle, frequency_hz)
        over = (np.diff(power, append=-np.inf) >= 0) | (power < max(least_power, _LEAST_POWER))
        over[0] = False  # in the middle it is flat
        return float(angle[int(np.argmax(over)) if over.any() else -1])


_SMALLEST_DISH_M = 5.0


# -- patterns -------------------------------------------------------------------------------------


def _polynomial(angle_rad: Float, frequency_hz: float, terms: Sequence[float]) -> Float:
    """Return 1 + a x^2 + b x^4 + ... with x in arcmin GHz."""
    square = (angle_rad * _ARCMIN_PER_RAD * frequency_hz / 1e9) ** 2
    return np.asarray(np.polynomial.polynomial.polyval(square, [1.0, *terms]))


@lru_cache(maxsize=1)
def _vla_table() -> Float:
    """Return frequency (MHz) and coefficients, (n, 5), of the file ``vla_beam.csv``."""
    path = Path(__file__).with_name("vla_beam.csv")
    table = np.loadtxt(path, delimiter=",", comments="#")
    table[:, 1:] *= [1e-3, 1e-7, 1e-10, 1e-14]
    return np.asarray(table)


def _vla(angle_rad: Float, frequency_hz: float) -> Float:
    """Perley 2016, EVLA Memo 195: the fit of the nearest frequency, scaled, as CASA does."""
    table = _vla_table()
    nearest = table[int(np.argmin(np.abs(table[:, 0] - frequency_hz / 1e6)))]
    return _polynomial(angle_rad, frequency_hz, nearest[1:])


# NCRA, "uGMRT primary beam shape" (Kale and Ishwara-Chandra 2018): upper end of the band in Hz,
# coefficients of x^2, x^4, x^6 and x^8.
_GMRT = (
    (5.0e8, (-2.939e-3, 33.312e-7, -16.659e-10, 3.066e-13)),
    (9.5e8, (-3.190e-3, 38.642e-7, -20.471e-10, 3.964e-13)),
    (1.5e9, (-2.608e-3, 27.357e-7, -13.091e-10, 2.368e-13)),
)


def _gmrt(angle_rad: Float, frequency_hz: float) -> Float:
    terms = next((terms for edge, terms in _GMRT if frequency_hz < edge), _GMRT[-1][1])
    return _polynomial(angle_rad, frequency_hz, terms)


def _blocked_airy(diameter_m: float, blockage_m: float) -> Callable[[Float, float], Float]:
    """Return the pattern of a uniformly illuminated aperture with a hole in its middle."""
    from scipy.special import j1

    def jinc(x: Float) -> Float:
        safe = np.where(x == 0, 1.0, x)
        return np.where(x == 0, 1.0, 2.0 * j1(safe) / safe)

    def pattern(angle_rad: Float, frequency_hz: float) -> Float:
        x = math.pi * frequency_hz / SPEED_OF_LIGHT_M_S * np.sin(angle_rad)
        hole = (blockage_m / diameter_m) ** 2
        voltage = (jinc(x * diameter_m) - hole * jinc(x * blockage_m)) / (1.0 - hole)
        return np.asarray(voltage**2)

    return pattern


def _cosine_taper(angle_rad: Float, frequency_hz: float) -> Float:
    """Mauch et al. 2020, ApJ 888, 61, equations 3 and 4: FWHM 57.5 arcmin at 1.5 GHz."""
    rho = 1.18896 * angle_rad * _ARCMIN_PER_RAD / (57.5 * 1.5e9 / frequency_hz)
    near = np.abs(rho - 0.5) < 1e-6  # where numerator and denominator are zero
    safe = np.where(near, 0.25, rho)
    voltage = np.cos(math.pi * safe) / (1.0 - 4.0 * safe**2)
    return np.where(near, math.pi / 4, voltage) ** 2


def _meerkat(angle_rad: Float, frequency_hz: float) -> Float:
    """Katbeam's Stokes I, averaged over position angles, through which the sky turns."""
    return np.asarray(np.interp(angle_rad, *_meerkat_profile(float(frequency_hz)), right=0.0))


@lru_cache(maxsize=64)
def _meerkat_profile(frequency_hz: float) -> tuple[Float, Float]:
    """Return angles, rad, well beyond the main lobe, and the mean power at them."""
    from katbeam import JimBeam

    band = "UHF" if frequency_hz < _MEERKAT_UHF_HZ else "L"
    beam = JimBeam(f"MKAT-AA-{band}-JIM-2020")
    radius = np.linspace(0.0, 2.5 * SPEED_OF_LIGHT_M_S / frequency_hz / 13.5, 1000)
    turn = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    x, y = (np.degrees(np.outer(radius, part)) for part in (np.cos(turn), np.sin(turn)))
    mean = beam.I(x, y, frequency_hz / 1e6).mean(axis=1)
    return radius, mean / mean[0]


_MEERKAT_UHF_HZ = 0.97e9
_MEERKAT_L_HZ = 1.73e9


def find_beam(instrument: str, frequency_hz: float, dish_diameter_m: float) -> PrimaryBeam | None:
    """Return the primary beam of an instrument; None where none is known.

    Parameters
    ----------
    instrument : str
        Name as in templates/instruments.yaml.
    frequency_hz : float
        Mean frequency.
    dish_diameter_m : float
        Diameter by the data.
    """
    megahertz = frequency_hz / 1e6
    if instrument == "vla" and megahertz > 0.9 * _vla_table()[0, 0]:
        return PrimaryBeam("VLA, Perley 2016 (EVLA Memo 195)", _vla)
    if instrument == "alma":
        if dish_diameter_m < 9.0:
            return PrimaryBeam(
                "ALMA 7 m, blocked Airy pattern of 6.25 m", _blocked_airy(6.25, 0.75)
            )
        return PrimaryBeam("ALMA 12 m, blocked Airy pattern of 10.7 m", _blocked_airy(10.7, 0.75))
    if instrument == "gmrt" and megahertz > 250:
        return PrimaryBeam("GMRT, NCRA 2018", _gmrt)
    if instrument == "meerkat" and frequency_hz < _MEERKAT_L_HZ:
        if find_spec("katbeam") is not None:
            return PrimaryBeam("MeerKAT, katbeam", _meerkat)
        return PrimaryBeam(
            "MeerKAT, cosine taper of Mauch et al. 2020 (katbeam is not installed)", _cosine_taper
        )
    return None


# -- images ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CorrectedImage:
    """Files of a corrected image.

    Attributes
    ----------
    beam, image : Path
        The power pattern, and the image divided by it.
    """

    beam: Path
    image: Path


def correct_image(
    image: Path,
    beam: PrimaryBeam,
    band: ImagedBand,
    pointing_rad: tuple[float, float],
    least_power: float,
) -> CorrectedImage:
    """Write the primary beam on the grid of an image, and the image divided by it.

    Parameters
    ----------
    image : Path
        FITS image in the SIN projection.
    beam : PrimaryBeam
    band : ImagedBand
    pointing_rad : (float, float)
        Where the dishes point, J2000.
    least_power : float
        Both files are NaN where the power is lower.

    Returns
    -------
    CorrectedImage
        ``NAME-pb.fits`` and ``NAME-pbcor.fits`` beside ``NAME-image.fits``.
    """
    plane, header = open_image(image)
    middle = sky_position(header, header["CRPIX1"] - 1, header["CRPIX2"] - 1)
    centre = math.radians(middle[0]), math.radians(middle[1])
    l_rad = np.radians((np.arange(plane.shape[1]) + 1 - header["CRPIX1"]) * header["CDELT1"])
    m_rad = np.radians((np.arange(plane.shape[0]) + 1 - header["CRPIX2"]) * header["CDELT2"])
    power = np.empty(plane.shape, np.float32)
    step = max(1, _STRIP_PIXELS // plane.shape[1])
    table = _by_angle(beam, band)
    for low in range(0, plane.shape[0], step):
        rows = slice(low, low + step)
        angle = _angles(l_rad, m_rad[rows], radec_to_lm(*pointing_rad, *centre))
        power[rows] = np.interp(angle, *table, right=np.nan)
    with np.errstate(invalid="ignore"):
        power[~(power >= least_power)] = np.nan
    name = image.name.removesuffix(".fits").removesuffix("-image")
    named = header.copy()
    named["PBMODEL"] = (beam.name[:60], "primary beam")
    beam_header = named.copy()
    beam_header["BUNIT"], beam_header["BTYPE"] = "", "Beam"
    return CorrectedImage(
        write_image(power, beam_header, image.with_name(f"{name}-pb.fits")),
        write_image(plane / power, named, image.with_name(f"{name}-pbcor.fits")),
    )


def _by_angle(beam: PrimaryBeam, band: ImagedBand) -> tuple[Float, Float]:
    """Return angles within the main lobe at every frequency, rad, and the power at them."""
    widest = 4.0 * SPEED_OF_LIGHT_M_S / min(band.frequencies_hz) / _SMALLEST_DISH_M
    angle = np.linspace(0.0, min(widest, 1.5), 20_000)
    power = beam.band_power(angle, band)
    known = np.isfinite(power)
    return angle[known], power[known]


def _angles(l_rad: Float, m_rad: Float, pointing: tuple[float, float]) -> Float:
    """Return the angle of each pixel from the pointing, (ny, nx), rad; NaN off the sky."""
    east, north = np.meshgrid(l_rad, m_rad)
    with np.errstate(invalid="ignore"):
        along = np.sqrt(1.0 - east**2 - north**2)
    p_l, p_m = pointing
    p_n = math.sqrt(1.0 - p_l**2 - p_m**2)
    chord = np.sqrt((east - p_l) ** 2 + (north - p_m) ** 2 + (along - p_n) ** 2)
    return np.asarray(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)))
