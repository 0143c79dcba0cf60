"""CLEAN masks from images."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError
from libs.imaging.interface import open_image, write_image
from libs.imaging.source_finding import EIGHT_NEIGHBOURS
from libs.imaging.statistics import dilate, grid_of, mad_std

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = [
    "MaskOptions", "MaskResult", "disc", "grid_header", "make_mask", "mask_header", "mask_plane",
]  # fmt: skip

logger = logging.getLogger(__name__)

Plane = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskOptions:
    """Thresholds of a mask.

    Attributes
    ----------
    sigma : float
        Threshold for a source, in units of the image's robust noise.
    floor : float
        Lowest value to which sigma is reduced when nothing is found.
    step : float
        Step by which sigma is reduced.
    dilate_beams : float
        Number of beam widths by which the mask grows on all sides.
    """

    sigma: float
    floor: float = 6.0
    step: float = 2.0
    dilate_beams: float = 0.5

    def __post_init__(self) -> None:
        if not (self.sigma > 1 and self.floor > 1 and self.step > 0 and self.dilate_beams >= 0):
            raise ConfigError(
                f"no mask can be made with {self}",
                "sigma and floor must be above 1, step above 0, dilate_beams 0 or more",
            )


@dataclass(frozen=True)
class MaskResult:
    """A mask, or the reason why there is none.

    Attributes
    ----------
    path : Path or None
        FITS mask, 1 inside and 0 outside, on the image's grid; None: no source was found.
    sigma : float
        Threshold at which sources were found, or the last one tried.
    noise_jy_beam : float
        Robust noise of the image, 1.4826 MAD.
    peak_sigma : float
        Peak of the image over the noise.
    islands : int
        Number of separate regions.
    pixels : int
        Number of pixels inside.
    reason : str
        Result in one line.
    """

    path: Path | None
    sigma: float
    noise_jy_beam: float
    peak_sigma: float
    islands: int
    pixels: int
    reason: str


def _ladder(options: MaskOptions) -> list[float]:
    """Return the thresholds to try: sigma, reduced in steps, and finally floor."""
    if options.sigma <= options.floor:
        return [options.sigma]
    count = math.ceil((options.sigma - options.floor) / options.step - 1e-9)
    return [max(options.floor, options.sigma - options.step * i) for i in range(count + 1)]


def mask_plane(
    plane: Plane, noise: float, beam_width_pixels: float, options: MaskOptions
) -> tuple[Mask, float]:
    """Return the mask of an image and the sigma at which sources were found.

    It holds the pixels above sigma - 1 that are connected to one above sigma, dilated. (Regions
    that only reach sigma - 1 are left out.)

    Parameters
    ----------
    plane : (ny, nx) array
        Restored image, Jy/beam; NaN outside.
    noise : float
        Robust rms of the image, Jy/beam.
    beam_width_pixels : float
        FWHM of the beam.
    options : MaskOptions
        Thresholds.

    Returns
    -------
    mask : (ny, nx) bool
        Mask; it has no True where nothing reaches the floor.
    sigma : float
        Threshold that was used.
    """
    from scipy import ndimage

    steps = _ladder(options)
    peak = float(np.nanmax(plane)) if np.isfinite(plane).any() else 0.0
    for sigma in steps:
        if not (peak > 0 and peak >= sigma * noise):
            continue
        with np.errstate(invalid="ignore"):
            labels, _ = ndimage.label(plane >= (sigma - 1) * noise, EIGHT_NEIGHBOURS)
            seeds = np.unique(labels[plane >= sigma * noise])
        inside = np.isin(labels, seeds[seeds > 0])
        return dilate(inside, options.dilate_beams * beam_width_pixels), sigma
    return np.zeros(plane.shape, dtype=bool), steps[-1]


def make_mask(image: Path, path: Path, options: MaskOptions) -> MaskResult:
    """Write the CLEAN mask of an image.

    Parameters
    ----------
    image : Path
        Restored FITS image.
    path : Path
        Mask file to write; an existing one is removed if no source is found.
    options : MaskOptions
        Thresholds.

    Returns
    -------
    MaskResult
        Result; its ``path`` is None when no pixel reaches the floor.

    Raises
    ------
    InputError
        The image cannot be read or has no beam.
    """
    from scipy import ndimage

    plane, header = open_image(image)
    noise = mad_std(plane)
    if not math.isfinite(noise):
        raise InputError(f"{image.name} is blank", "make the image again")
    inside, sigma = mask_plane(plane, noise, grid_of(header).beam_width_pixels, options)
    highest = float(np.nanmax(plane)) / max(noise, 1e-30)
    if not inside.any():
        path.unlink(missing_ok=True)
        reason = f"no source above {sigma:g} sigma: the peak of {image.name} is at {highest:.1f}"
        return MaskResult(None, sigma, noise, highest, 0, 0, reason)
    write_image(inside, mask_header(header), path)
    islands = int(ndimage.label(inside, EIGHT_NEIGHBOURS)[1])
    pixels = int(np.count_nonzero(inside))
    regions = "1 region" if islands == 1 else f"{islands} regions"
    reason = f"mask at {sigma:g} sigma: {regions}, {pixels} pixels"
    if sigma < options.sigma:
        reason += f" (nothing reached {options.sigma:g} sigma, the peak is at {highest:.1f})"
    logger.info("%s: %s", path.name, reason)
    return MaskResult(path, sigma, noise, highest, islands, pixels, reason)


def mask_header(header: fits.Header) -> fits.Header:
    """Return the header of a mask on an image's grid: no beam, no unit, no history."""
    plain = header.copy()
    for name in ("BMAJ", "BMIN", "BPA", "HISTORY", "COMMENT", "DATAMIN", "DATAMAX"):
        plain.remove(name, ignore_missing=True, remove_all=True)
    plain["BUNIT"] = ""
    plain["BTYPE"] = "mask"
    return plain


def disc(imsize: tuple[int, int], cell_arcsec: float, radius_arcsec: float) -> Mask:
    """Return a disc around an image's centre, (ny, nx) bool, with its edge.

    Parameters
    ----------
    imsize : (int, int)
        Width and height, pixels; the centre is pixel (width // 2, height // 2) counted from 0.
    cell_arcsec : float
        Pixel size.
    radius_arcsec : float
        Radius.
    """
    width, height = imsize
    y, x = np.ogrid[:height, :width]
    return np.asarray(np.hypot(x - width // 2, y - height // 2) * cell_arcsec <= radius_arcsec)


def grid_header(
    imsize: tuple[int, int], cell_arcsec: float, centre_deg: tuple[float, float]
) -> fits.Header:
    """Return the header of an image with four axes, in the orthographic projection (SIN).

    Parameters
    ----------
    imsize : (int, int)
        Width and height, pixels.
    cell_arcsec : float
        Pixel size.
    centre_deg : (float, float)
        Right ascension and declination (J2000) of pixel (width // 2, height // 2) from 0.
    """
    from astropy.io import fits

    width, height = imsize
    header = fits.Header()
    header["NAXIS"] = 4
    for number, length in enumerate((width, height, 1, 1), start=1):
        header[f"NAXIS{number}"] = length
    for axis, (kind, value, step, pixel) in enumerate(
        (
            ("RA---SIN", centre_deg[0], -cell_arcsec / 3600, width // 2 + 1),
            ("DEC--SIN", centre_deg[1], cell_arcsec / 3600, height // 2 + 1),
            ("FREQ", 1e9, 1e9, 1),
            ("STOKES", 1.0, 1.0, 1),
        ),
        start=1,
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind, value
        header[f"CDELT{axis}"], header[f"CRPIX{axis}"] = step, pixel
    header["EQUINOX"], header["RADESYS"], header["SPECSYS"] = 2000.0, "FK5", "LSRK"
    return header
