"""An elliptical Gaussian fitted to a source in an image, with errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ImageError
from libs.imaging.interface import open_image, sky_position
from libs.imaging.statistics import grid_of, mad_std

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["FittedGaussian", "fit_gaussian", "fit_plane", "gaussian_shape"]

_FWHM = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class FittedGaussian:
    """A Gaussian in an image.

    Attributes
    ----------
    x_pixel, y_pixel : float
        Centre, counted from 0.
    ra_deg, dec_deg : float
        J2000.
    peak_jy_beam, peak_error_jy_beam : float
    flux_jy, flux_error_jy : float
        Integrated flux; errors are those of the noise alone (Condon 1997, PASP 109, 166).
    major_arcsec, minor_arcsec, pa_deg : float
        FWHM and position angle, the beam included.
    position_error_arcsec : float
    noise_jy_beam : float
    """

    x_pixel: float
    y_pixel: float
    ra_deg: float
    dec_deg: float
    peak_jy_beam: float
    peak_error_jy_beam: float
    flux_jy: float
    flux_error_jy: float
    major_arcsec: float
    minor_arcsec: float
    pa_deg: float
    position_error_arcsec: float
    noise_jy_beam: float


def gaussian_shape(
    parameters: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Gaussian of peak, x, y, log major, log minor (sigma, pixels) and angle of the major axis."""
    peak, x0, y0, log_a, log_b, angle = parameters
    along = (x - x0) * math.cos(angle) + (y - y0) * math.sin(angle)
    across = -(x - x0) * math.sin(angle) + (y - y0) * math.cos(angle)
    square = (along / math.exp(log_a)) ** 2 + (across / math.exp(log_b)) ** 2
    return np.asarray(peak * np.exp(-0.5 * square))


def fit_gaussian(
    image: Path,
    at_pixel: tuple[float, float] | None = None,
    *,
    box_beams: float = 5.0,
    noise_jy_beam: float = 0.0,
) -> FittedGaussian:
    """Fit an elliptical Gaussian to the source at a pixel, or to the brightest one.

    Parameters
    ----------
    image : Path
        Restored FITS image.
    at_pixel : (float, float), optional
        Column and row, counted from 0; default the brightest pixel.
    box_beams : float
        Width of the box that is fitted, in widths of the beam.
    noise_jy_beam : float
        0: the robust noise of the image.

    Raises
    ------
    ImageError
        The fit does not converge within the box.
    """
    plane, header = open_image(image)
    try:
        return fit_plane(plane, header, at_pixel, box_beams=box_beams, noise_jy_beam=noise_jy_beam)
    except ImageError as error:
        raise ImageError(f"{image.name}: {error.cause}", error.remedy) from error


def fit_plane(
    plane: NDArray[np.floating],
    header: fits.Header,
    at_pixel: tuple[float, float] | None = None,
    *,
    box_beams: float = 5.0,
    noise_jy_beam: float = 0.0,
) -> FittedGaussian:
    """Fit an elliptical Gaussian to a source of an image in memory; see `fit_gaussian`."""
    from scipy.optimize import least_squares

    grid = grid_of(header)
    noise = noise_jy_beam or mad_std(plane)
    plane = np.nan_to_num(np.asarray(plane, np.float64))
    if at_pixel is None:
        row, column = np.unravel_index(int(np.argmax(plane)), plane.shape)
        at_pixel = (float(column), float(row))
    half = max(3, math.ceil(0.5 * box_beams * grid.beam_major_arcsec / grid.cell_arcsec))
    left, low = max(0, round(at_pixel[0]) - half), max(0, round(at_pixel[1]) - half)
    box = plane[low : round(at_pixel[1]) + half + 1, left : round(at_pixel[0]) + half + 1]
    y, x = (axis.astype(np.float64) for axis in np.mgrid[0 : box.shape[0], 0 : box.shape[1]])
    axes = [
        math.log(width / grid.cell_arcsec / _FWHM)
        for width in (grid.beam_major_arcsec, grid.beam_minor_arcsec)
    ]
    x0, y0 = at_pixel[0] - left, at_pixel[1] - low
    top = float(box[min(round(y0), box.shape[0] - 1), min(round(x0), box.shape[1] - 1)])
    start = [top, x0, y0, *axes, math.radians(90.0 + grid.beam_pa_deg)]
    scale = max(abs(top), 1e-30)
    fit = least_squares(
        lambda p: ((gaussian_shape(np.array([p[0] * scale, *p[1:]]), x, y) - box) / scale).ravel(),
        [1.0 if top > 0 else -1.0, *start[1:]], method="lm", max_nfev=4000,
    )  # fmt: skip
    peak, x0, y0, log_a, log_b, angle = (float(v) for v in fit.x)
    inside = 0 <= x0 < box.shape[1] and 0 <= y0 < box.shape[0]
    if not (fit.success and inside and max(log_a, log_b) < math.log(2.0 * half)):
        raise ImageError(
            f"no Gaussian fits the source at pixel {at_pixel[0]:.0f}, {at_pixel[1]:.0f}",
            "look at the image: the source may be extended or noise",
        )
    widths = sorted((math.exp(log_a), math.exp(log_b)), reverse=True)
    if log_b > log_a:
        angle += math.pi / 2
    major, minor = (width * _FWHM * grid.cell_arcsec for width in widths)
    beam = grid.beam_major_arcsec * grid.beam_minor_arcsec
    peak *= scale
    flux = peak * major * minor / beam
    of_peak, of_major, of_minor = (
        _relative_error(abs(peak) / noise if noise > 0 else math.inf, major, minor, beam, powers)
        for powers in ((1.5, 1.5), (2.5, 0.5), (0.5, 2.5))
    )
    of_flux = math.sqrt(of_peak**2 + beam / (major * minor) * (of_major**2 + of_minor**2))
    ra, dec = sky_position(header, x0 + left, y0 + low)
    return FittedGaussian(
        x0 + left, y0 + low, ra, dec, peak, abs(peak) * of_peak, flux, abs(flux) * of_flux,
        major, minor, (math.degrees(angle) - 90.0) % 180.0,
        of_major * major / math.sqrt(8 * math.log(2)), noise,
    )  # fmt: skip


def _relative_error(
    snr: float, major: float, minor: float, beam: float, powers: tuple[float, float]
) -> float:
    """Condon's equations 21 and 41: noise that is as wide as the beam, of a parameter's powers."""
    rho = 0.25 * major * minor / beam * snr**2
    rho *= (1 + beam / major**2) ** powers[0] * (1 + beam / minor**2) ** powers[1]
    return math.sqrt(2 / rho) if rho > 0 else math.inf
