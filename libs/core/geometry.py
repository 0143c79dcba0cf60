"""Image geometry from the array: pixel size, field of view, and image sizes whose FFT is fast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    "smeared_field_arcsec",
    "smearing_limits",
]

SPEED_OF_LIGHT_M_S = 299792458.0
DAY_S = 86400.0
MJD_ZERO_JD = 2400000.5
EARTH_RATE_RAD_S = 7.292115e-5  # sidereal
ARCSEC_PER_RAD = 180.0 * 3600.0 / math.pi

_HALF_SINC = 0.6034  # x at which sin(pi x) / (pi x) is 1/2
# An image of the field that leaves out most baselines says little of the sources they see.
_MOST_TERM_NOISE = 2.0
_LEAST_HELD = 0.5

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

    FFTs of such sizes are fast in every library, and imagers want even sizes.
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
    """Return wavelength over longest baseline, arcsec: the FWHM of the PSF to within 20 %.

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
        Longest unflagged baseline, m.
    max_frequency_hz : float
        Highest frequency imaged, Hz.
    oversampling : float
        Pixels over the resolution: the sampling theorem asks for 2, CLEAN usually has 5.

    Returns
    -------
    float
        Pixel size, arcsec, rounded down to two significant digits.

    Raises
    ------
    ConfigError
        A number is not positive and finite.
    """
    _positive(oversampling=oversampling)
    cell = resolution_arcsec(longest_baseline_m, max_frequency_hz) / oversampling
    step = 10.0 ** (math.floor(math.log10(cell)) - 1)
    # The division of two floats may fall short of a whole number by one rounding error.
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
        Width and height, pixels.
    cell_arcsec : float
        Pixel size, arcsec.
    uvmax_m : float
        Longest baseline that the pixels can sample, m; 0 when they sample all.
    width_arcsec : float
        Width of the image, arcsec.
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
    smeared_arcsec: float = math.inf,
    lengths_m: NDArray[np.float64] | None = None,
) -> CoarseField:
    """Return the grid on which the whole primary beam is searched for sources.

    The pixels are twice as large as those for CLEAN. Where the image would still exceed
    ``max_pixels``, they grow further and the baselines too long for them are left out, so that
    the search takes seconds for any array.

    An array most of whose baselines would be left out, such as any VLBI array, cannot image its
    primary beam this way. It is searched over the part of the sky that its channels and
    integrations do not smear away, as far as ``max_pixels`` of its own resolution reach.

    Parameters
    ----------
    longest_baseline_m : float
        Longest unflagged baseline, m.
    frequency_hz : (float, float)
        Lowest and highest frequency imaged, Hz; they set the widest beam and the resolution.
    dish_diameter_m : float
        Diameter of the smallest dish, m.
    fwhms : float
        Width of the image in FWHM of the primary beam; at 1.5 its edge is at 21 % power.
    oversampling : float
        Pixels over the resolution.
    max_pixels : int
        Largest width of the image, pixels.
    smeared_arcsec : float
        Width beyond which the longest baselines lose a source, arcsec
        (:func:`smeared_field_arcsec`).
    lengths_m : (n,) array, optional
        Lengths of all baselines, m; None when enough of them are known to be short.

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
    # Sizes with a fast FFT are never rare: one lies within 7 % of any number.
    largest = good_size(max_pixels)
    if width / cell <= largest:
        size = good_size(width / cell, least=128)
        return CoarseField((size, size), cell, 0.0)
    coarse = width / largest
    uvmax = resolution_arcsec(1.0, highest) / (oversampling * coarse)
    if lengths_m is None or np.mean(lengths_m <= uvmax) >= _LEAST_HELD:
        return CoarseField((largest, largest), coarse, uvmax)
    size = good_size(min(min(width, smeared_arcsec) / cell, max_pixels), least=128)
    return CoarseField((size, size), cell, 0.0)


def smeared_field_arcsec(
    longest_baseline_m: float, frequency_hz: float, channel_hz: float, integration_s: float
) -> float:
    """Return the width of the field that a baseline sees in spite of smearing, arcsec.

    At its edge the mean over a channel, or over an integration as the Earth turns, has half the
    amplitude. On a baseline b the phase of a source at the angle r from the phase centre turns by
    ``2 pi b r / c`` radians per Hz, and by up to ``2 pi b r nu Omega / c`` per second
    (Thompson, Moran & Swenson 2017, sections 6.3 and 6.4).

    Parameters
    ----------
    longest_baseline_m, frequency_hz : float
        Longest baseline (m) and its frequency (Hz).
    channel_hz, integration_s : float
        Widths of channels and integrations; 0 where one is unknown, which then is ignored.
    """
    _positive(longest_baseline_m=longest_baseline_m, frequency_hz=frequency_hz)
    spread_hz = max(channel_hz, frequency_hz * EARTH_RATE_RAD_S * integration_s)
    if spread_hz <= 0:
        return math.inf
    radius = _HALF_SINC * SPEED_OF_LIGHT_M_S / (longest_baseline_m * spread_hz)
    return 2 * radius * ARCSEC_PER_RAD


def frequency_slices(frequency_hz: NDArray[np.float64]) -> tuple[int, int]:
    """Return the number of slices in which a band is imaged, and the number of spectral terms.

    Parameters
    ----------
    frequency_hz : (n,) float64
        Channel centres with data, of all spectral windows, in any order, Hz.

    Returns
    -------
    channels_out, nterms : int
        As in :class:`libs.imaging.interface.ImagingOptions`.

    Raises
    ------
    ConfigError
        A frequency is not positive and finite.

    Notes
    -----
    A source whose flux density goes as the frequency to the power -0.7 differs from its mean by
    0.35 x bandwidth / frequency at the band's ends: 2 % at 5 %, below which one slice is enough. A
    straight line leaves 0.15 (bandwidth / frequency)^2, 1 % at 25 %; wider bands need a curve.

    An image is the first term, the flux density in the middle of the band. The channels must say
    what it is: two windows at the ends of the band tell a line, but a curve between them may be
    anything. Terms are left out until the noise of the first one is at most twice that of the
    mean of all channels; of channels without gaps a curve has 1.5 times, a line has that noise.
    """
    frequency = np.unique(np.asarray(frequency_hz, np.float64))
    _positive(min_frequency_hz=float(frequency[0]), max_frequency_hz=float(frequency[-1]))
    middle = (frequency[-1] + frequency[0]) / 2
    width = (frequency[-1] - frequency[0]) / middle
    if width < 0.05:
        return 1, 1
    wanted, terms = (4, 2) if width < 0.25 else (8, 3)
    slices = min(wanted, len(frequency))
    terms = min(terms, slices)
    while terms > 1 and _noise_of_first_term(frequency / middle - 1, terms) > _MOST_TERM_NOISE:
        terms -= 1
    return slices, terms


def _noise_of_first_term(x: NDArray[np.float64], terms: int) -> float:
    """Return the noise at x = 0 of a polynomial through equally noisy values, over their mean's."""
    if len(x) < terms:
        return math.inf
    weights = np.linalg.pinv(np.vander(x, terms, increasing=True))[0]
    return float(np.sqrt(len(x) * np.sum(weights**2)))


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
        Longest baseline, m.
    frequency_hz : float
        Highest frequency, Hz.
    radius_rad : float
        Distance of the map's edge from the phase centre, rad.
    loss : float
        Fraction of the amplitude lost there on the longest baseline.
    """
    half_turn = math.sqrt(3.0 * loss) / math.pi
    delay_s = baseline_m * radius_rad / SPEED_OF_LIGHT_M_S
    if delay_s <= 0:
        return math.inf, math.inf
    return half_turn / (delay_s * frequency_hz * EARTH_RATE_RAD_S), half_turn / delay_s
