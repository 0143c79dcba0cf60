"""Where the sources are: CLEAN masks, source lists, and the smallest image that holds them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from libs.core.errors import ConfigError, InputError
from libs.core.geometry import good_size
from libs.imaging.interface import open_image, sky_position, write_image
from libs.imaging.statistics import dilate, grid_of, mad_std

__all__ = [
    "FieldSize",
    "MaskOptions",
    "MaskResult",
    "Source",
    "find_sources",
    "make_mask",
    "mask_plane",
    "smallest_square_holding",
    "write_disc",
]

logger = logging.getLogger(__name__)

Plane = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Artefacts of phase errors and of the sidelobes come in both signs: what is no brighter than
# this many times the deepest negative is not taken for a source.
_NEGATIVE_FACTOR = 1.2

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class MaskOptions:
    """How a mask is made.

    Attributes
    ----------
    sigma : float
        A source reaches this many times the image's robust noise.
    floor : float
        Where nothing does, sigma is lowered as far as this.
    step : float
        By so much at a time.
    dilate_beams : float
        The mask grows by this many beam widths on all sides.
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
    """A mask, or why there is none.

    Attributes
    ----------
    path : Path or None
        FITS mask, 1 inside and 0 outside, on the image's grid; None: no source was found.
    sigma : float
        The threshold at which something was found, or the last one tried.
    noise_jy_beam : float
        1.4826 MAD of the image.
    peak_sigma : float
        The image's peak over that.
    islands : int
        Number of separate regions.
    pixels : int
        Pixels inside.
    reason : str
        In one line, what was done.
    """

    path: Path | None
    sigma: float
    noise_jy_beam: float
    peak_sigma: float
    islands: int
    pixels: int
    reason: str


def _ladder(options: MaskOptions) -> list[float]:
    """Return the thresholds to try: sigma, lowered by step as far as floor, floor itself last."""
    if options.sigma <= options.floor:
        return [options.sigma]
    count = math.ceil((options.sigma - options.floor) / options.step - 1e-9)
    return [max(options.floor, options.sigma - options.step * i) for i in range(count + 1)]


def mask_plane(
    plane: Plane, noise: float, beam_width_pixels: float, options: MaskOptions
) -> tuple[Mask, float]:
    """Return the mask of an image and the sigma at which sources were found.

    The pixels above sigma - 1 that hang together with one above sigma, dilated. (Regions that
    reach sigma - 1 alone are left out.)

    Parameters
    ----------
    plane : (ny, nx) array
        Restored image, Jy/beam; NaN is outside.
    noise : float
        Its robust rms, Jy/beam.
    beam_width_pixels : float
        FWHM of the beam.
    options : MaskOptions
        Thresholds.

    Returns
    -------
    mask : (ny, nx) bool
        Without a True where nothing reaches the floor.
    sigma : float
        Of the threshold that was used.
    """
    steps = _ladder(options)
    peak = float(np.nanmax(plane)) if np.isfinite(plane).any() else 0.0
    for sigma in steps:
        if not (peak > 0 and peak >= sigma * noise):
            continue
        with np.errstate(invalid="ignore"):
            labels, _ = ndimage.label(plane >= (sigma - 1) * noise, _EIGHT_NEIGHBOURS)
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
        The mask to make; what was there before is removed if no source is found.
    options : MaskOptions
        Thresholds.

    Returns
    -------
    MaskResult
        With ``path`` None when no pixel reaches the floor: the caller decides what that means.

    Raises
    ------
    InputError
        The image cannot be read or has no beam.
    """
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
    islands = int(ndimage.label(inside, _EIGHT_NEIGHBOURS)[1])
    pixels = int(np.count_nonzero(inside))
    reason = f"mask at {sigma:g} sigma: {islands} regions, {pixels} pixels"
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


def write_disc(
    path: Path,
    imsize: tuple[int, int],
    cell_arcsec: float,
    centre_deg: tuple[float, float],
    radius_arcsec: float,
) -> Path:
    """Write a mask that holds a disc around the image's centre.

    Parameters
    ----------
    path : Path
        The mask to make.
    imsize : (int, int)
        Width and height, pixels.
    cell_arcsec : float
        Pixel size.
    centre_deg : (float, float)
        Right ascension and declination (J2000) of the image's centre, pixel
        (width // 2, height // 2) from 0.
    radius_arcsec : float
        Of the disc; its edge is within.

    Returns
    -------
    Path
        ``path``.
    """
    width, height = imsize
    y, x = np.ogrid[:height, :width]
    inside = np.hypot(x - width // 2, y - height // 2) * cell_arcsec <= radius_arcsec
    header = fits.Header()
    header["NAXIS"] = 4
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
    return write_image(inside, mask_header(header), path)


@dataclass(frozen=True)
class Source:
    """An island of emission.

    Attributes
    ----------
    x_pixel, y_pixel : int
        Its brightest pixel, from 0.
    ra_deg, dec_deg : float
        The same on the sky, J2000.
    peak_jy_beam, flux_jy : float
        Brightest pixel; sum over the island.
    snr : float
        Peak over the local noise.
    left_pixel, right_pixel, bottom_pixel, top_pixel : int
        First and last column and row of the island.
    """

    x_pixel: int
    y_pixel: int
    ra_deg: float
    dec_deg: float
    peak_jy_beam: float
    flux_jy: float
    snr: float
    left_pixel: int
    right_pixel: int
    bottom_pixel: int
    top_pixel: int


def _local_noise(plane: Plane, x: int, y: int, half: int) -> float:
    """Return the robust rms of a box around a pixel."""
    box = plane[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
    return mad_std(box)


def find_sources(image: Path, *, nsigma: float = 7.0, local_beams: float = 25.0) -> list[Source]:
    """List the sources of an image, brightest first.

    A source's peak is above ``nsigma`` of both the image's and the local robust noise, and
    above 1.2 times the deepest negative pixel, because the artefacts of uncalibrated phases
    come in both signs. It extends over the pixels above half ``nsigma``, at least 3 sigma.

    Parameters
    ----------
    image : Path
        Restored FITS image.
    nsigma : float
        Threshold.
    local_beams : float
        The local noise is that of a box of this many beam widths to each side.

    Returns
    -------
    list of Source
        Empty where nothing is significant.
    """
    plane, header = open_image(image)
    grid = grid_of(header)
    noise = mad_std(plane)
    plane = np.nan_to_num(plane)
    threshold = max(nsigma * noise, -_NEGATIVE_FACTOR * float(plane.min()))
    labels, count = ndimage.label(plane > max(3.0, nsigma / 2) * noise, _EIGHT_NEIGHBOURS)
    if not count:
        return []
    # of islands alone: they are few pixels of what may be a large image
    pixel = np.flatnonzero(labels)
    island, value = labels.ravel()[pixel], plane.ravel()[pixel]
    peaks = np.full(count + 1, -np.inf)
    np.maximum.at(peaks, island, value)
    bright = np.flatnonzero(peaks > threshold)
    if not bright.size:
        return []
    order = np.lexsort((pixel, -value, island))
    highest = pixel[order][np.searchsorted(island[order], bright)]
    places = np.stack(np.unravel_index(highest, plane.shape), axis=1)
    fluxes = np.bincount(island, weights=value)[bright] / grid.beam_area_pixels
    boxes = ndimage.find_objects(labels)
    half = math.ceil(local_beams * grid.beam_width_pixels)
    sources = []
    for number, (y, x), flux in zip(bright, places, fluxes, strict=True):
        local = max(_local_noise(plane, int(x), int(y), half), 1e-9 * float(plane.max()))
        if plane[y, x] < nsigma * local:
            continue
        ra, dec = sky_position(header, int(x), int(y))
        rows, columns = boxes[number - 1]
        sources.append(
            Source(
                x_pixel=int(x),
                y_pixel=int(y),
                ra_deg=ra,
                dec_deg=dec,
                peak_jy_beam=float(plane[y, x]),
                flux_jy=float(flux),
                snr=float(plane[y, x]) / local,
                left_pixel=columns.start,
                right_pixel=columns.stop - 1,
                bottom_pixel=rows.start,
                top_pixel=rows.stop - 1,
            )
        )
    return sorted(sources, key=lambda source: -source.peak_jy_beam)


@dataclass(frozen=True)
class FieldSize:
    """The smallest image that holds what was found.

    Attributes
    ----------
    imsize : (int, int)
        Pixels of ``cell_arcsec``, a size that transforms fast.
    cell_arcsec : float
        Pixel size of the images to come.
    phase_centre_deg : (float, float) or None
        Where its centre lies; None: at the centre of the image searched.
    inside, outside : tuple of Source
        Sources it holds, and those it had to leave out, to be reported.
    """

    imsize: tuple[int, int]
    cell_arcsec: float
    phase_centre_deg: tuple[float, float] | None
    inside: tuple[Source, ...]
    outside: tuple[Source, ...]


def _reach(source: Source, centre: tuple[float, float]) -> float:
    """Return how far from a centre the source's box extends along x or y, pixels."""
    x, y = centre
    return max(
        abs(source.left_pixel - x),
        abs(source.right_pixel - x),
        abs(source.bottom_pixel - y),
        abs(source.top_pixel - y),
    )


def smallest_square_holding(
    sources: Sequence[Source],
    searched: Path,
    cell_arcsec: float,
    *,
    least: int = 256,
    largest: int = 4096,
    margin_beams: float = 10.0,
    least_fraction: float = 0.02,
    shift: bool = False,
) -> FieldSize:
    """Return the smallest square image that holds the sources.

    Parameters
    ----------
    sources : sequence of Source
        As found on ``searched``; none: the smallest image.
    searched : Path
        The coarse FITS image, for its grid.
    cell_arcsec : float
        Pixel size of the images to come.
    least, largest : int
        Bounds on its width, pixels. The lower leaves room for noise to be measured.
    margin_beams : float
        Room beyond the outermost source, in beam widths of ``searched``.
    least_fraction : float
        Sources with less than this fraction of the brightest one's peak do not make the image
        larger: their sidelobes are below what self-calibration could notice.
    shift : bool
        Whether the image may be centred elsewhere than ``searched`` is.

    Returns
    -------
    FieldSize
        Size, and what lies outside. Where ``largest`` cannot hold all, the farthest sources
        are left out first.
    """
    plane, header = open_image(searched)
    coarse = grid_of(header)
    middle = (float(plane.shape[1] // 2), float(plane.shape[0] // 2))
    brightest = max((source.peak_jy_beam for source in sources), default=0.0)
    wanted = [item for item in sources if item.peak_jy_beam >= least_fraction * brightest]
    scale = coarse.cell_arcsec / cell_arcsec
    margin = margin_beams * coarse.beam_width_pixels

    def width(some: Sequence[Source], centre: tuple[float, float]) -> float:
        return 2 * scale * (max((_reach(item, centre) for item in some), default=0.0) + margin)

    centre = _middle_of(wanted) if shift and wanted else middle
    while wanted and width(wanted, centre) > largest:
        wanted.remove(max(wanted, key=lambda item: _reach(item, centre)))
        centre = _middle_of(wanted) if shift and wanted else middle
    size = min(good_size(width(wanted, centre), least=least), good_size(largest))
    held = tuple(item for item in sources if 2 * scale * _reach(item, centre) < size)
    position = None
    if centre != middle:
        position = sky_position(header, *centre)
    outside = tuple(item for item in sources if item not in held)
    return FieldSize((size, size), cell_arcsec, position, held, outside)


def _middle_of(sources: Sequence[Source]) -> tuple[float, float]:
    """Return the centre of the box around all sources, pixels."""
    return (
        (min(s.left_pixel for s in sources) + max(s.right_pixel for s in sources)) / 2,
        (min(s.bottom_pixel for s in sources) + max(s.top_pixel for s in sources)) / 2,
    )
