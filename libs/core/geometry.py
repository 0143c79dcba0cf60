"""Image geometry from what the array is: pixel size, field of view, sizes that transform fast."""

from __future__ import annotations

import math
from dataclasses import dataclass

from libs.core.errors import ConfigError

__all__ = [
    "ARCSEC_PER_RAD",
    "DAY_S",
    "EARTH_RATE_RAD_S",
    "MJD_ZERO_JD",
    "SPEED_OF_LIGHT_M_S",
    "CoarseField",
    "auto_cell_arcsec",
    "coarse_field",
    "frequency_slices",
    "good_size",
    "primary_beam_fwhm_arcsec",
    "resolution_arcsec",
    "smearing_limits",
]

SPEED_OF_LIGHT_M_S = 299792458.0
DAY_S = 86400.0
MJD_ZERO_JD = 2400000.5
EARTH_RATE_RAD_S = 7.292115e-5  # sidereal
ARCSEC_PER_RAD = 180.0 * 3600.0 / math.pi

# FWHM of a paraboloid's power pattern in units of wavelength over diameter: 1.02 for uniform
# illumination (Airy), 1.13 for the 12 m ALMA dishes (ALMA Technical Handbook, section 3.2),
# whose taper of about 10 dB is usual.
_FWHM_FACTOR = 1.13


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(
                f"{name} is {value}, so the image geometry is unknown",
                "give imsize and cell as numbers",
            )


def good_size(pixels: float, *, least: int = 16) -> int:
    """Return the smallest even 2^a 3^b 5^c that is at least ``pixels`` (and ``least``).

    FFTs of such sizes are fast in every library; imagers want even ones.
    """
    wanted = max(math.ceil(pixels), least, 2)
    size = wanted + wanted % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def resolution_arcsec(longest_baseline_m: float, max_frequency_hz: float) -> float:
    """Return wavelength over longest baseline, arcsec: the FWHM of the PSF within some 20 %.

    Raises
    ------
    ConfigError
        A number is not positive and finite.
    """
    _positive(longest_baseline_m=longest_baseline_m, max_frequency_hz=max_frequency_hz)
    return SPEED_OF_LIGHT_M_S / max_frequency_hz / longest_baseline_m * ARCSEC_PER_RAD


def auto_cell_arcsec(
    longest_baseline_m: float, max_frequency_hz: float, *, oversampling: float = 5.0
) -> float:
    """Return the pixel size that samples the PSF ``oversampling`` times across, arcsec.

    Parameters
    ----------
    longest_baseline_m : float
        Of the unflagged visibilities, m.
    max_frequency_hz : float
        Highest frequency imaged, Hz.
    oversampling : float
        Pixels over the resolution; 2 is the sampling theorem's, 5 usual for CLEAN.

    Returns
    -------
    float
        Rounded down to two significant digits.

    Raises
    ------
    ConfigError
        A number is not positive and finite.
    """
    _positive(oversampling=oversampling)
    cell = resolution_arcsec(longest_baseline_m, max_frequency_hz) / oversampling
    step = 10.0 ** (math.floor(math.log10(cell)) - 1)
    # The division of two floats may fall short of a whole number by one rounding.
    return float(f"{math.floor(cell / step * (1 + 1e-12)) * step:.2g}")


def primary_beam_fwhm_arcsec(
    frequency_hz: float, dish_diameter_m: float, *, factor: float = _FWHM_FACTOR
) -> float:
    """Return the FWHM of a dish's primary beam, arcsec: ``factor`` x wavelength / diameter.

    Raises
    ------
    ConfigError
        A number is not positive and finite.
    """
    _positive(frequency_hz=frequency_hz, dish_diameter_m=dish_diameter_m)
    return factor * SPEED_OF_LIGHT_M_S / frequency_hz / dish_diameter_m * ARCSEC_PER_RAD


@dataclass(frozen=True)
class CoarseField:
    """The grid of an image of the whole primary beam.

    Attributes
    ----------
    imsize : (int, int)
        Pixels.
    cell_arcsec : float
        Pixel size.
    uvmax_m : float
        Longest baseline the pixels can hold, m; 0 when all fit.
    width_arcsec : float
        Imaged width.
    """

    imsize: tuple[int, int]
    cell_arcsec: float
    uvmax_m: float

    @property
    def width_arcsec(self) -> float:
        """Width of the image, arcsec."""
        return self.imsize[0] * self.cell_arcsec


def coarse_field(
    longest_baseline_m: float,
    frequency_hz: tuple[float, float],
    dish_diameter_m: float,
    *,
    fwhms: float = 1.5,
    oversampling: float = 2.5,
    max_pixels: int = 3000,
) -> CoarseField:
    """Return the grid on which the whole primary beam is searched for sources.

    The pixels are twice those for CLEAN; where the image would still be larger than
    ``max_pixels`` they grow further and the baselines too long for them are left out, so that
    the search costs seconds whatever the array.

    Parameters
    ----------
    longest_baseline_m : float
        Of the unflagged visibilities, m.
    frequency_hz : (float, float)
        Lowest and highest frequency imaged, Hz: the widest beam, the finest resolution.
    dish_diameter_m : float
        Of the smallest dish, m.
    fwhms : float
        Width of the image in FWHM of the primary beam; at 1.5 its edge is at 21 % power.
    oversampling : float
        Pixels over the resolution.
    max_pixels : int
        Largest width.

    Returns
    -------
    CoarseField
        The grid.

    Raises
    ------
    ConfigError
        A number is not positive and finite.
    """
    lowest, highest = min(frequency_hz), max(frequency_hz)
    width = fwhms * primary_beam_fwhm_arcsec(lowest, dish_diameter_m)
    cell = auto_cell_arcsec(longest_baseline_m, highest, oversampling=oversampling)
    # Sizes that transform fast are never rare: one lies within 7 % of any number.
    largest = good_size(max_pixels)
    if width / cell <= largest:
        size = good_size(width / cell, least=128)
        return CoarseField((size, size), cell, 0.0)
    cell = width / largest
    uvmax = resolution_arcsec(1.0, highest) / (oversampling * cell)
    return CoarseField((largest, largest), cell, uvmax)


def frequency_slices(
    min_frequency_hz: float, max_frequency_hz: float, channels: int
) -> tuple[int, int]:
    """Return into how many slices a band is imaged, and with how many spectral terms.

    Parameters
    ----------
    min_frequency_hz, max_frequency_hz : float
        Ends of the band, Hz.
    channels : int
        Channels of all spectral windows.

    Returns
    -------
    channels_out, nterms : int
        For :class:`libs.imaging.interface.ImagingOptions`.

    Raises
    ------
    ConfigError
        A frequency is not positive and finite.

    Notes
    -----
    A source whose flux goes as the frequency to the power -0.7 differs from its mean by
    0.35 x bandwidth / frequency at the band's ends: 2 % at 5 %, below which one slice does. A
    straight line is left by 0.15 (bandwidth / frequency)^2, 1 % at 25 %; wider bands need a
    curve.
    """
    _positive(min_frequency_hz=min_frequency_hz, max_frequency_hz=max_frequency_hz)
    middle = (max_frequency_hz + min_frequency_hz) / 2
    width = (max_frequency_hz - min_frequency_hz) / middle
    if width < 0.05 or channels < 2:
        return 1, 1
    wanted, terms = (4, 2) if width < 0.25 else (8, 3)
    slices = min(wanted, channels)
    return slices, min(terms, slices)


def smearing_limits(
    baseline_m: float, frequency_hz: float, radius_rad: float, loss: float = 0.02
) -> tuple[float, float]:
    """Return the integration (s) and channel width (Hz) that lose a given amplitude at an edge.

    A fringe that turns by 2 x within an average loses x^2 / 6 of its amplitude (sinc x); half
    of the loss is left to each of time and frequency. The fringe turns with frequency by
    2 pi B theta / c, with time at most by 2 pi B theta omega_E / lambda (Bridle & Schwab 1999,
    ASP 180, 371).

    Parameters
    ----------
    baseline_m : float
        The longest.
    frequency_hz : float
        The highest.
    radius_rad : float
        Distance of the map's edge from the phase centre.
    loss : float
        Of the amplitude there on the longest baseline.
    """
    half_turn = math.sqrt(3.0 * loss) / math.pi
    delay_s = baseline_m * radius_rad / SPEED_OF_LIGHT_M_S
    if delay_s <= 0:
        return math.inf, math.inf
    return half_turn / (delay_s * frequency_hz * EARTH_RATE_RAD_S), half_turn / delay_s
