"""Reading of the part of a FITS image that a figure shows, reduced to the pixels of a screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from libs.core.angles import direction_text
from libs.core.errors import InputError

__all__ = ["Box", "View", "bright_box", "joint_box", "mask_box", "read_frame", "read_shown"]

# a cut-out: least width in beams, margin of its width, and the part of the peak that is the source
SMALLEST_BEAMS, PAD, BRIGHT_PART = 8, 0.35, 0.2
Box = tuple[int, int, int, int]  # x0, x1, y0, y1, pixels, ends exclusive


@dataclass(frozen=True)
class View:
    """A part of an image on offset axes.

    Attributes
    ----------
    plane : (ny, nx) float64
        Brightness, Jy/beam; in a reduced image the value of each block farthest from zero.
    extent_arcsec : tuple of float
        Left, right, bottom and top edge as offsets from the image's reference position; right
        ascension increases to the left.
    beam_arcsec_deg : tuple of float or None
        Major and minor axis (FWHM, arcsec) and position angle (deg, north through east).
    centre : str
        Reference position as text.
    pixels : (int, int)
        Width and height of the image that it is a part of.
    """

    plane: NDArray[np.float64]
    extent_arcsec: tuple[float, float, float, float]
    beam_arcsec_deg: tuple[float, float, float] | None
    centre: str
    pixels: tuple[int, int]


def _open(path: Path) -> fits.HDUList:
    try:
        return fits.open(path, memmap=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read as FITS ({error})", "make it again") from error


def _shape(hdu: fits.PrimaryHDU, path: Path) -> tuple[int, int]:
    shape = hdu.shape
    if len(shape) < 2 or math.prod(shape) != shape[-1] * shape[-2] or 0 in shape:
        raise InputError(
            f"{path} is not a single image plane: its shape is {shape}", "give one plane"
        )
    return int(shape[-2]), int(shape[-1])


def read_shown(path: str | Path, box: Box | None = None, *, max_side: int = 900) -> View:
    """Read a box of an image, a strip at a time, reduced to at most ``max_side`` pixels a side.

    Parameters
    ----------
    path : path
        FITS image of one plane.
    box : tuple of int or None
        Pixels x0, x1, y0, y1; None is the whole image.
    max_side : int
        Longest side of the result, pixels.

    Returns
    -------
    View

    Raises
    ------
    InputError
        The file cannot be read or holds more than one plane.
    """
    path = Path(path)
    with _open(path) as hdus:
        hdu = hdus[0]
        ny, nx = _shape(hdu, path)
        x0, x1, y0, y1 = box or (0, nx, 0, ny)
        if not (0 <= x0 < x1 <= nx and 0 <= y0 < y1 <= ny):
            raise InputError(
                f"the box of pixels {x0} to {x1} and {y0} to {y1} is not within {path.name} of"
                f" {nx} x {ny}",
                "choose it on this image's grid",
            )
        factor = max(1, math.ceil(max(x1 - x0, y1 - y0) / max_side))
        # whole blocks only, without the last, partial one
        x1, y1 = x0 + (x1 - x0) // factor * factor, y0 + (y1 - y0) // factor * factor
        plane = np.empty(((y1 - y0) // factor, (x1 - x0) // factor))
        lead = (0,) * (len(hdu.shape) - 2)
        strip = max(1, 2**21 // max(1, (x1 - x0) * factor))
        for start in range(0, plane.shape[0], strip):
            stop = min(start + strip, plane.shape[0])
            rows = slice(y0 + start * factor, y0 + stop * factor)
            part = np.asarray(hdu.section[(*lead, rows, slice(x0, x1))])
            plane[start:stop] = _reduce(part, factor)
        header = hdu.header
    extent = _extent(header, (x0, x1, y0, y1))
    return View(plane, extent, _beam(header), _centre(header), (nx, ny))


def read_frame(path: str | Path, box: Box | None = None) -> View:
    """Read the position of a box of an image without its pixels: the plane is empty.

    Parameters
    ----------
    path : path
        FITS image of one plane.
    box : tuple of int or None
        Box as in :func:`read_shown`.

    Returns
    -------
    View

    Raises
    ------
    InputError
        The errors are those of :func:`read_shown`.
    """
    path = Path(path)
    with _open(path) as hdus:
        ny, nx = _shape(hdus[0], path)
        header = hdus[0].header
    extent = _extent(header, box or (0, nx, 0, ny))
    return View(np.empty((0, 0)), extent, _beam(header), _centre(header), (nx, ny))


def _reduce(part: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """Keep each block's value farthest from zero, so that sources and artefacts stay visible."""
    if factor == 1:
        return part
    ny, nx = part.shape[0] // factor, part.shape[1] // factor
    # rows first: whole lines are compared at once, in the byte order of the machine
    blocks = part.astype(part.dtype.newbyteorder("="), copy=False).reshape(ny, factor, -1)
    # fmax and fmin ignore NaN
    highest, lowest = (
        extreme.reduce(extreme.reduce(blocks, axis=1).reshape(ny, nx, factor), axis=2)
        for extreme in (np.fmax, np.fmin)
    )
    return np.asarray(np.where(highest >= -lowest, highest, lowest))


def _extent(header: fits.Header, box: Box) -> tuple[float, float, float, float]:
    """Return the edges of a box as offsets: direction cosines of the image plane, in arcsec."""
    x0, x1, y0, y1 = box
    # FITS pixels count from 1 at their centres
    left = (x0 + 0.5 - float(header.get("CRPIX1", 1))) * float(header.get("CDELT1", -1 / 3600))
    right = (x1 + 0.5 - float(header.get("CRPIX1", 1))) * float(header.get("CDELT1", -1 / 3600))
    bottom = (y0 + 0.5 - float(header.get("CRPIX2", 1))) * float(header.get("CDELT2", 1 / 3600))
    top = (y1 + 0.5 - float(header.get("CRPIX2", 1))) * float(header.get("CDELT2", 1 / 3600))
    return left * 3600, right * 3600, bottom * 3600, top * 3600


def _beam(header: fits.Header) -> tuple[float, float, float] | None:
    if "BMAJ" not in header or "BMIN" not in header or float(header["BMAJ"]) <= 0:
        return None
    bmaj, bmin = float(header["BMAJ"]) * 3600, float(header["BMIN"]) * 3600
    return bmaj, bmin, float(header.get("BPA", 0.0))


def _centre(header: fits.Header) -> str:
    if "CRVAL1" not in header or not str(header.get("CTYPE1", "")).startswith("RA"):
        return ""
    place = math.radians(float(header["CRVAL1"])), math.radians(float(header["CRVAL2"]))
    right_ascension, declination = direction_text(*place, ("hms", ":"), (2, 1))
    degrees, minutes, seconds = declination.split(":")
    return f"{right_ascension} {degrees}\u00b0{minutes}\u2032{seconds}\u2033"


def bright_box(path: str | Path) -> Box:
    """Return a square box around the brightest sources, for want of a mask.

    They are what exceeds a fifth of the peak, with all that is less than a beam from it, step by
    step, and above the artefacts: these are about as deep as they are high, so what is twice as
    high as the deepest pixel is none.
    """
    with _open(Path(path)) as hdus:
        ny, nx = _shape(hdus[0], Path(path))
        plane = np.nan_to_num(np.asarray(hdus[0].data, dtype=np.float32).reshape(ny, nx))
    peak = float(plane.max())
    bright = plane > BRIGHT_PART * peak if peak > 0 else np.zeros(plane.shape, bool)
    deepest = float(plane.min())
    above = bright | (plane > -2 * deepest) if deepest < 0 else bright
    reach = math.ceil(_beam_pixels(Path(path)) / 2)
    near = ndimage.binary_dilation(above, np.ones((3, 3)), iterations=reach)
    islands, _ = ndimage.label(near)
    inside = above & np.isin(islands, np.unique(islands[bright]))
    across, along = np.asarray(inside.any(axis=0)), np.asarray(inside.any(axis=1))
    return _box_around(across, along, Path(path), PAD)


def joint_box(path: str | Path, *boxes: Box) -> Box:
    """Return the smallest square box of an image that holds others; as large as fits at most."""
    with _open(Path(path)) as hdus:
        ny, nx = _shape(hdus[0], Path(path))
    x0, x1 = min(box[0] for box in boxes), max(box[1] for box in boxes)
    y0, y1 = min(box[2] for box in boxes), max(box[3] for box in boxes)
    side = min(max(x1 - x0, y1 - y0), nx, ny)
    x0 = int(np.clip((x0 + x1 - side) // 2, 0, nx - side))
    y0 = int(np.clip((y0 + y1 - side) // 2, 0, ny - side))
    return (x0, x0 + side, y0, y0 + side)


def mask_box(path: str | Path, reference: str | Path | None = None, *, pad: float = PAD) -> Box:
    """Return a square box around the part of a mask that is set.

    Parameters
    ----------
    path : path
        FITS mask, zero outside.
    reference : path or None
        Image whose beam sets the smallest box: 8 beams.
    pad : float
        Margin on each side, as a fraction of the extent.

    Returns
    -------
    tuple of int
        Pixels x0, x1, y0, y1 within the image; the whole image when the mask is empty.
    """
    path = Path(path)
    with _open(path) as hdus:
        hdu = hdus[0]
        ny, nx = _shape(hdu, path)
        lead = (0,) * (len(hdu.shape) - 2)
        inside_x, inside_y = np.zeros(nx, bool), np.zeros(ny, bool)
        strip = max(1, 2**22 // nx)
        for start in range(0, ny, strip):
            part = np.asarray(hdu.section[(*lead, slice(start, start + strip), slice(None))])
            inside = np.nan_to_num(part) > 0
            inside_x |= inside.any(axis=0)
            inside_y[start : start + strip] = inside.any(axis=1)
    return _box_around(inside_x, inside_y, Path(reference) if reference else None, pad)


def _box_around(
    inside_x: NDArray[np.bool_], inside_y: NDArray[np.bool_], reference: Path | None, pad: float
) -> Box:
    """Return a square box, within the image, around the columns and rows that are set."""
    nx, ny = len(inside_x), len(inside_y)
    if not inside_x.any():
        return (0, nx, 0, ny)
    xs, ys = np.flatnonzero(inside_x), np.flatnonzero(inside_y)
    smallest = _beam_pixels(reference) * SMALLEST_BEAMS if reference else 32
    extent = max(xs[-1] - xs[0], ys[-1] - ys[0]) + 1
    side = int(min(max(extent * (1 + 2 * pad), smallest), nx, ny))
    x0 = int(np.clip((xs[0] + xs[-1] + 1 - side) // 2, 0, nx - side))
    y0 = int(np.clip((ys[0] + ys[-1] + 1 - side) // 2, 0, ny - side))
    return (x0, x0 + side, y0, y0 + side)


def _beam_pixels(path: Path) -> int:
    with _open(path) as hdus:
        header = hdus[0].header
    beam = _beam(header)
    cell = abs(float(header.get("CDELT2", 0.0))) * 3600
    return math.ceil(beam[0] / cell) if beam and cell > 0 else 2
