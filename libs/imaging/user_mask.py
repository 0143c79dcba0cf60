"""A user's own mask, a FITS image or regions of ds9 or CASA, drawn on the grid of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError
from libs.imaging.interface import open_image

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.wcs import WCS

__all__ = ["DrawnMask", "draw_mask"]

Mask = NDArray[np.bool_]

_FITS_BEGINS = (b"SIMPLE  =", b"\x1f\x8b")  # the second: compressed by gzip
_CRTF_BEGINS = "#CRTF"
_BLOCK_PIXELS = 4_000_000  # positions that are converted at once


@dataclass(frozen=True)
class DrawnMask:
    """A mask on the grid of an image.

    Attributes
    ----------
    inside : (ny, nx) bool
    kind : str
        ``FITS image``, ``ds9 regions`` or ``CASA regions``.
    outside_fraction : float
        Part of the mask's area that lies outside the image.
    """

    inside: Mask
    kind: str
    outside_fraction: float


def draw_mask(path: Path, header: fits.Header) -> DrawnMask:
    """Draw a user's mask on the grid of an image.

    Parameters
    ----------
    path : Path
        FITS image on any grid, whose pixels other than 0 and NaN are inside; or a text file with
        regions of ds9 or CASA (CRTF) in sky coordinates. A region that is excluded takes what
        it holds out of those before it.
    header : Header
        Header of an image with the grid.

    Raises
    ------
    ConfigError
        It has nothing inside the image.
    InputError
        The file cannot be read, has no mask, or gives regions in pixels.
    """
    from astropy.wcs import WCS

    wcs = WCS(header, fix=False).celestial
    shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
    kind = _kind(path)
    if kind == "FITS image":
        inside, outside = _from_image(path, wcs, shape)
    else:
        inside, outside = _from_regions(path, kind, wcs, shape)
    if not inside.any():
        raise ConfigError(
            f"the mask {path.name} has nothing inside the image of {shape[1]} x {shape[0]} pixels",
            "enlarge imsize, or correct the mask's position",
        )
    return DrawnMask(inside, kind, outside)


def _kind(path: Path) -> str:
    """Tell the kind of a file by its beginning."""
    try:
        with path.open("rb") as stream:
            begin = stream.read(200)
    except OSError as error:
        raise InputError(
            f"the mask {path} cannot be read ({error.strerror or error})", "correct mask"
        ) from error
    if begin.startswith(_FITS_BEGINS):
        return "FITS image"
    if begin.decode("utf-8", "replace").lstrip().startswith(_CRTF_BEGINS):
        return "CASA regions"
    return "ds9 regions"


# -- images ---------------------------------------------------------------------------------------


def _from_image(path: Path, wcs: WCS, shape: tuple[int, int]) -> tuple[Mask, float]:
    """Draw a mask image: pixels of the grid by what lies under their centre, and the reverse.

    The reverse keeps what is smaller than a pixel of the grid.
    """
    from astropy import wcs as astropy_wcs
    from astropy.wcs.utils import pixel_to_skycoord

    plane, header = open_image(path)
    given = np.nan_to_num(plane) != 0
    own = astropy_wcs.WCS(header, fix=False).celestial
    if own.naxis != 2:
        raise InputError(f"the mask {path.name} has no sky coordinates", "give it a WCS")
    y, x = np.nonzero(given)
    if not len(x):
        raise InputError(f"the mask {path.name} is empty", "mark the source in it")
    inside = np.zeros(shape, bool)
    there = np.zeros(len(x), bool)
    for low in range(0, len(x), _BLOCK_PIXELS):
        part = slice(low, low + _BLOCK_PIXELS)
        column, row, there[part] = _pixels(pixel_to_skycoord(x[part], y[part], own), wcs, shape)
        inside[row, column] = True
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if len(rows):
        inside |= _under(given, own, wcs, shape, (rows, columns))
    return inside, 1.0 - float(there.mean())


def _under(given: Mask, own: WCS, wcs: WCS, shape: tuple[int, int], box: tuple[Any, Any]) -> Mask:
    """Return the pixels of a grid, within a box, whose centre is inside a mask on another."""
    from astropy.wcs.utils import pixel_to_skycoord, proj_plane_pixel_scales

    # the box is of pixels under the centres of the mask's own, which may be larger
    own_deg, grid_deg = (max(proj_plane_pixel_scales(one)) for one in (own, wcs))
    margin = 1 + math.ceil(own_deg / grid_deg)
    (top, bottom), (left, right) = (
        (max(0, ends.min() - margin), min(size, ends.max() + margin + 1))
        for ends, size in zip(box, shape, strict=True)
    )
    found = np.zeros(shape, bool)
    step = max(1, _BLOCK_PIXELS // (right - left))
    for low in range(top, bottom, step):
        y, x = np.mgrid[low : min(low + step, bottom), left:right]
        sky = pixel_to_skycoord(x.ravel(), y.ravel(), wcs)
        column, row, good = _pixels(sky, own, given.shape)
        values = np.zeros(x.size, bool)
        values[good] = given[row, column]
        found[y.ravel(), x.ravel()] = values
    return found


def _pixels(
    sky: SkyCoord, wcs: WCS, shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Mask]:
    """Return column and row of the positions inside an image, and which they are."""
    from astropy.wcs.utils import skycoord_to_pixel

    x, y = skycoord_to_pixel(sky, wcs)
    with np.errstate(invalid="ignore"):
        good = (x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5)
    return np.rint(x[good]).astype(np.int64), np.rint(y[good]).astype(np.int64), good


# -- regions --------------------------------------------------------------------------------------


def _from_regions(path: Path, kind: str, wcs: WCS, shape: tuple[int, int]) -> tuple[Mask, float]:
    """Draw regions one after the other."""
    from regions import SkyRegion

    inside = np.zeros(shape, bool)
    drawn = within = 0
    for region in _read_regions(path, kind):
        if not isinstance(region, SkyRegion):
            raise InputError(
                f"the mask {path.name} gives regions in pixels, of an image that is not known here",
                "save them in sky coordinates (fk5 or icrs)",
            )
        part, area = _draw(region.to_pixel(wcs), shape)
        if _is_excluded(region):
            inside &= ~part
            continue
        inside |= part
        drawn += area
        within += int(part.sum())
    return inside, 1.0 - within / drawn if drawn else 0.0


def _read_regions(path: Path, kind: str) -> Sequence[Any]:
    """Return the regions of a file that have an area, or are points.

    Raises
    ------
    InputError
        The file is neither, or has no such region.
    """
    import warnings

    from regions import LineSkyRegion, Regions, TextPixelRegion, TextSkyRegion

    name = "crtf" if kind == "CASA regions" else "ds9"
    remedy = "give a FITS image, or regions saved by ds9 or CASA"
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = list(Regions.parse(path.read_text(encoding="utf-8"), format=name))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"the mask {path.name} is not of {kind}: {error}", remedy) from error
    skipped = [str(one.message) for one in said if "skipping" in str(one.message)]
    if skipped:
        raise InputError(f"the mask {path.name} is not of {kind}: {skipped[0]}", remedy)
    areas = [
        one for one in found if not isinstance(one, TextSkyRegion | TextPixelRegion | LineSkyRegion)
    ]
    if not areas:
        raise InputError(f"the mask {path.name} has no region with an area", remedy)
    return areas


def _is_excluded(region: Any) -> bool:
    """Whether a region takes out what it holds: ``-`` before it in both kinds of files."""
    return region.meta.get("include", True) in (False, "-", 0)


def _draw(region: Any, shape: tuple[int, int]) -> tuple[Mask, int]:
    """Return the pixels of an image whose centres are in a region, and the region's own number.

    A point, and a region too small to hold a centre, is the pixel it lies in.
    """
    from regions import PixCoord, PointPixelRegion

    found = np.zeros(shape, bool)
    if isinstance(region, PointPixelRegion):
        return found | _pixel_at(region.center.x, region.center.y, shape), 1
    try:
        box = region.bounding_box
    except ValueError:  # beyond the horizon of the projection it has no pixels, but NaN
        return found, 1
    rows, columns = (box.iymin, box.iymax), (box.ixmin, box.ixmax)
    whole = (rows[1] - rows[0]) * (columns[1] - columns[0]) <= _BLOCK_PIXELS
    if not whole:
        rows, columns = (
            (max(low, 0), min(high, size))
            for (low, high), size in zip((rows, columns), shape, strict=True)
        )
    y, x = np.mgrid[slice(*rows), slice(*columns)]
    held = region.contains(PixCoord(x, y)) if x.size else np.zeros(x.shape, bool)
    there = held & (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    found[y[there], x[there]] = True
    if whole and not held.any():
        middle_x, middle_y = (0.5 * (ends[0] + ends[1] - 1) for ends in (columns, rows))
        return found | _pixel_at(middle_x, middle_y, shape), 1
    return found, int(held.sum()) if whole else round(region.area)


def _pixel_at(x: float, y: float, shape: tuple[int, int]) -> Mask:
    """Return a mask of the one pixel at a place; of none, where it is outside."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows == round(float(y))) & (columns == round(float(x))))
