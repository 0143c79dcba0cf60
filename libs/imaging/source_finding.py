"""Sources found in an image, and the smallest field that contains them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.geometry import good_size
from libs.imaging.interface import open_image, sky_position
from libs.imaging.statistics import grid_of, mad_std

__all__ = [
    "EIGHT_NEIGHBOURS",
    "NEGATIVE_FACTOR",
    "FieldSize",
    "FoundSource",
    "find_sources",
    "smallest_square_holding",
]

logger = logging.getLogger(__name__)
Plane = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Artefacts of phase errors and sidelobes have both signs, so nothing is taken for a source that is
# not brighter than this many times the deepest negative.
NEGATIVE_FACTOR = 1.2

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class FoundSource:
    """An island of emission.

    Attributes
    ----------
    x_pixel, y_pixel : int
        Brightest pixel, counted from 0.
    ra_deg, dec_deg : float
        Position of the brightest pixel, J2000.
    peak_jy_beam, flux_jy : float
        Brightness of the brightest pixel, and sum over the island.
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


def find_sources(
    image: Path, *, nsigma: float = 7.0, local_beams: float = 25.0
) -> list[FoundSource]:
    """List the sources of an image, brightest first.

    A source's peak is above ``nsigma`` of both the image's and the local robust noise, and
    above 1.2 times the deepest negative pixel, because artefacts of uncalibrated phases have both
    signs. It extends over the pixels above half ``nsigma``, at least 3 sigma.

    Parameters
    ----------
    image : Path
        Restored FITS image.
    nsigma : float
        Threshold in units of the noise.
    local_beams : float
        Half width, in beam widths, of the box in which the local noise is measured.

    Returns
    -------
    list of FoundSource
        Sources, brightest first; empty where nothing is significant.
    """
    from scipy import ndimage

    plane, header = open_image(image)
    grid = grid_of(header)
    noise = mad_std(plane)
    plane = np.nan_to_num(plane)
    threshold = max(nsigma * noise, -NEGATIVE_FACTOR * float(plane.min()))
    labels, count = ndimage.label(plane > max(3.0, nsigma / 2) * noise, EIGHT_NEIGHBOURS)
    if not count:
        return []
    # noise around islands only, because they are few pixels of a possibly large image
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
            FoundSource(
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
    """The smallest image that contains the sources found.

    Attributes
    ----------
    imsize : (int, int)
        Width and height, pixels of ``cell_arcsec``, with a fast FFT.
    cell_arcsec : float
        Pixel size of the images to come.
    phase_centre_deg : (float, float) or None
        Centre of the image; None: the centre of the image that was searched.
    inside, outside : tuple of FoundSource
        Sources inside the image, and those left out, which are reported.
    """

    imsize: tuple[int, int]
    cell_arcsec: float
    phase_centre_deg: tuple[float, float] | None
    inside: tuple[FoundSource, ...]
    outside: tuple[FoundSource, ...]


def _reach(source: FoundSource, centre: tuple[float, float]) -> float:
    """Return how far from a centre the source's box extends along x or y, pixels."""
    x, y = centre
    return max(
        abs(source.left_pixel - x),
        abs(source.right_pixel - x),
        abs(source.bottom_pixel - y),
        abs(source.top_pixel - y),
    )


def smallest_square_holding(
    sources: Sequence[FoundSource],
    searched: Path,
    cell_arcsec: float,
    *,
    least: int = 256,
    largest: int = 4096,
    margin_beams: float = 10.0,
    least_fraction: float = 0.02,
    shift: bool = False,
) -> FieldSize:
    """Return the smallest square image that contains the sources.

    Parameters
    ----------
    sources : sequence of FoundSource
        Sources found on ``searched``; without any, the image has its least size.
    searched : Path
        Coarse FITS image that defines the grid of the sources.
    cell_arcsec : float
        Pixel size of the images to come.
    least, largest : int
        Bounds on the width, pixels. The lower one leaves room to measure noise.
    margin_beams : float
        Margin beyond the outermost source, in beam widths of ``searched``.
    least_fraction : float
        Least peak, as a fraction of the brightest one's, of sources that enlarge the image;
        sidelobes of fainter ones do not affect self-calibration.
    shift : bool
        True allows a centre other than that of ``searched``.

    Returns
    -------
    FieldSize
        Size of the image, and the sources outside it. Where ``largest`` cannot contain all, the
        farthest sources are left out first.
    """
    plane, header = open_image(searched)
    coarse = grid_of(header)
    middle = (float(plane.shape[1] // 2), float(plane.shape[0] // 2))
    brightest = max((source.peak_jy_beam for source in sources), default=0.0)
    wanted = [item for item in sources if item.peak_jy_beam >= least_fraction * brightest]
    scale = coarse.cell_arcsec / cell_arcsec
    margin = margin_beams * coarse.beam_width_pixels

    def width(some: Sequence[FoundSource], centre: tuple[float, float]) -> float:
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


def _middle_of(sources: Sequence[FoundSource]) -> tuple[float, float]:
    """Return the centre of the box around all sources, pixels."""
    return (
        (min(s.left_pixel for s in sources) + max(s.right_pixel for s in sources)) / 2,
        (min(s.bottom_pixel for s in sources) + max(s.top_pixel for s in sources)) / 2,
    )
