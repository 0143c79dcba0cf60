"""Statistics of an image, by which rounds are judged and which ``images.csv`` records."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ImageError, InputError
from libs.imaging.interface import ImageProducts, open_image, sky_position

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = [
    "Grid",
    "ImageStatistics",
    "check_clean",
    "dilate",
    "fluxes_within",
    "grid_of",
    "mad_std",
    "measure",
    "measure_products",
    "near_field_ring",
]

Plane = NDArray[np.floating]
Mask = NDArray[np.bool_]

# A Gaussian's standard deviation over its median absolute deviation, 1 / Phi^-1(3/4).
_MAD_TO_SIGMA = 1.482602218505602

# For more pixels, the median is taken over a regular subset: a million independent values
# determine the MAD to 0.1 %.
_MEDIAN_PIXELS = 1_000_000

# Boxes larger than this are dilated by a square instead of a disc, which is ten times as fast.
_DISC_PIXELS = 500_000

# The ring for the near-field noise extends this many beams beyond the source, and has at least
# so many beam areas.
_RING_BEAMS = 5.0
_RING_LEAST_BEAM_AREAS = 20.0

_OWN_MASK_NSIGMA = 5.0

# A converging CLEAN lowers the largest residual; a diverging one raises it by orders of magnitude.
_DIVERGED = 2.0


@dataclass(frozen=True)
class Grid:
    """Pixel size and beam of an image.

    Attributes
    ----------
    cell_arcsec : float
        Pixel size (geometric mean of the axes).
    beam_major_arcsec, beam_minor_arcsec, beam_pa_deg : float
        FWHM and position angle of the restoring beam.
    """

    cell_arcsec: float
    beam_major_arcsec: float
    beam_minor_arcsec: float
    beam_pa_deg: float

    @property
    def beam_area_arcsec2(self) -> float:
        """Solid angle of the Gaussian beam, pi/(4 ln 2) major minor, arcsec squared."""
        return math.pi / (4 * math.log(2)) * self.beam_major_arcsec * self.beam_minor_arcsec

    @property
    def beam_area_pixels(self) -> float:
        """Solid angle of the beam, pixels; divides a sum of Jy/beam into Jy."""
        return self.beam_area_arcsec2 / self.cell_arcsec**2

    @property
    def beam_width_pixels(self) -> float:
        """Geometric mean of the FWHMs, pixels."""
        return math.sqrt(self.beam_major_arcsec * self.beam_minor_arcsec) / self.cell_arcsec


def grid_of(header: fits.Header) -> Grid:
    """Read pixel size and beam from the header of a restored image.

    Raises
    ------
    InputError
        There is no beam or no pixel size.
    """
    try:
        cell = 3600.0 * math.sqrt(abs(header["CDELT1"] * header["CDELT2"]))
        grid = Grid(cell, 3600 * header["BMAJ"], 3600 * header["BMIN"], float(header["BPA"]))
    except KeyError as error:
        raise InputError(
            f"the image has no {error.args[0]} in its header", "give a restored image"
        ) from error
    if not (cell > 0 and grid.beam_major_arcsec > 0 and grid.beam_minor_arcsec > 0):
        raise InputError("the image has a pixel or beam of size 0", "give a restored image")
    return grid


def mad_std(values: NDArray[np.floating]) -> float:
    """Return 1.4826 x the median absolute deviation of the finite values, a robust rms.

    Parameters
    ----------
    values : array
        Values in any shape; above a million, a regular subset is used.

    Returns
    -------
    float
        Robust rms in the unit of the values; NaN when none is finite.
    """
    flat = values.ravel()
    if flat.size > _MEDIAN_PIXELS:
        # An odd step does not stay in the same columns of images whose width is even.
        flat = flat[:: (flat.size // _MEDIAN_PIXELS) | 1]
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return math.nan
    return _MAD_TO_SIGMA * float(np.median(np.abs(flat - np.median(flat))))


def dilate(mask: Mask, radius_pixels: float) -> Mask:
    """Return the mask grown by a radius, pixels, in all directions.

    Only the surroundings of the mask are processed, which is fast on large images. Where these
    are large, a square of the disc's area is used instead.
    """
    from scipy import ndimage

    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not rows.size or radius_pixels <= 0:
        return mask.copy()
    margin = math.ceil(radius_pixels) + 1
    box = (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )
    grown = mask.copy()
    if mask[box].size <= _DISC_PIXELS:
        grown[box] = ndimage.distance_transform_edt(~mask[box]) <= radius_pixels
        return grown
    side = 2 * round(radius_pixels * math.sqrt(math.pi) / 2) + 1
    part = ndimage.maximum_filter1d(mask[box].view(np.uint8), side, axis=0, mode="constant")
    grown[box] = ndimage.maximum_filter1d(part, side, axis=1, mode="constant").view(np.bool_)
    return grown


@dataclass(frozen=True)
class ImageStatistics:
    """Measurements of one image; every name carries its unit.

    Attributes
    ----------
    peak_jy_beam : float
        Brightest pixel of the restored image.
    peak_x_pixel, peak_y_pixel : int
        Position of the brightest pixel, counted from 0.
    peak_ra_deg, peak_dec_deg : float
        Position of the brightest pixel on the sky, J2000.
    min_jy_beam : float
        Most negative pixel.
    rms_jy_beam : float
        Noise, 1.4826 MAD of the residual image.
    residual_rms_jy_beam : float
        Plain rms of the residual image, which unlike the MAD includes what CLEAN left of sources.
    residual_peak_jy_beam : float
        Largest absolute value of the residual image.
    near_field_rms_jy_beam : float
        1.4826 MAD of the residual in a ring of 5 beams around the source mask.
    corner_rms_jy_beam : float
        Median rms of the image over its four corners (an eighth of the width each).
    image_mad_jy_beam : float
        1.4826 MAD of the restored image.
    snr : float
        Ratio peak_jy_beam / rms_jy_beam.
    near_field_snr : float
        Ratio peak_jy_beam / near_field_rms_jy_beam.
    dynamic_range : float
        Ratio peak_jy_beam / residual_rms_jy_beam.
    total_flux_jy : float
        Flux in the source mask.
    flux_error_jy : float
        Error of the flux, in quadrature: noise over the mask's beams, the flux CLEAN left there,
        and the flux of all pixels as far below zero as those of a source mask are above it. No
        source is negative: those pixels are artefacts, and the mask holds about as many.
    flux_above_3mad_jy : float
        Flux of all pixels above 3 image_mad_jy_beam.
    flux_unmasked_jy : float
        Flux of all pixels.
    inner_flux_fraction, mid_flux_fraction, low_flux_fraction : float
        Fractions of the mask's flux in pixels above 50 %, from 10 to 50 % and below 10 % of the
        peak. A point source has 0.5, 0.4, 0.1 (a Gaussian has 1-f above a fraction f of its
        peak); the larger the first, the more compact the source.
    mask_beams : float
        Area of the source mask in beam areas.
    beam_major_arcsec, beam_minor_arcsec, beam_pa_deg, beam_area_arcsec2 : float
        Restoring beam: FWHM, position angle and area.
    cell_arcsec : float
        Pixel size.
    thermal_rms_jy_beam : float
        Noise that the visibilities alone give the image, from differences of neighbours about the
        model; NaN where the imager does not tell it.
    """

    peak_jy_beam: float
    peak_x_pixel: int
    peak_y_pixel: int
    peak_ra_deg: float
    peak_dec_deg: float
    min_jy_beam: float
    rms_jy_beam: float
    residual_rms_jy_beam: float
    residual_peak_jy_beam: float
    near_field_rms_jy_beam: float
    corner_rms_jy_beam: float
    image_mad_jy_beam: float
    snr: float
    near_field_snr: float
    dynamic_range: float
    total_flux_jy: float
    flux_error_jy: float
    flux_above_3mad_jy: float
    flux_unmasked_jy: float
    inner_flux_fraction: float
    mid_flux_fraction: float
    low_flux_fraction: float
    mask_beams: float
    beam_major_arcsec: float
    beam_minor_arcsec: float
    beam_pa_deg: float
    beam_area_arcsec2: float
    cell_arcsec: float
    thermal_rms_jy_beam: float = math.nan

    def as_row(self) -> dict[str, float]:
        """Return the numbers by name, in order, for a table; thermal noise only where known."""
        row = dataclasses.asdict(self)
        if math.isnan(self.thermal_rms_jy_beam):
            del row["thermal_rms_jy_beam"]
        return row


def check_clean(products: ImageProducts) -> None:
    """Raise an error when CLEAN diverged.

    CLEAN amplifies its own components where phases are unusable, or where the sidelobes of a
    sparse array are nearly as high as the peak.

    Raises
    ------
    ImageError
        The largest residual is over twice that of the image before CLEAN. Imagers that keep no
        such image are not checked.
    """
    if products.dirty is None:
        return
    before, after = (
        float(np.nanmax(np.abs(open_image(path)[0])))
        for path in (products.dirty, products.residual)
    )
    if after > _DIVERGED * before:
        raise ImageError(
            f"CLEAN diverged: the largest residual went from {before:.3g} to {after:.3g} Jy/beam",
            "CLEAN less deeply, or within a smaller radius (clean_radius)",
        )


def measure_products(products: ImageProducts, mask: Path | Mask | None = None) -> ImageStatistics:
    """Measure the images of one run; see :func:`measure`."""
    measured = measure(products.image, products.residual, mask)
    return dataclasses.replace(measured, thermal_rms_jy_beam=products.thermal_jy_beam)


def fluxes_within(image: Path, residual: Path, other: Path) -> tuple[float, float]:
    """Return the fluxes, Jy, of two images within the source mask of the first.

    Parameters
    ----------
    image, residual : Path
        Better image, whose source mask, widened by a beam, defines the source.
    other : Path
        Other image on the same grid, whose own mask may contain artefacts.

    Raises
    ------
    InputError
        A file cannot be read, or the grids differ.
    """
    plane, header = open_image(image)
    left, _ = open_image(residual)
    compared, compared_header = open_image(other)
    if plane.shape != compared.shape:
        raise InputError(f"{image} and {other} differ in shape", "make both with the same imsize")
    plane, left, compared = (np.nan_to_num(item) for item in (plane, left, compared))
    grid, second = grid_of(header), grid_of(compared_header)
    inside = dilate(_source_mask(plane, left, None, grid), grid.beam_width_pixels)
    return (
        _sum(plane[inside]) / grid.beam_area_pixels,
        _sum(compared[inside]) / second.beam_area_pixels,
    )


def measure(image: Path, residual: Path, mask: Path | Mask | None = None) -> ImageStatistics:
    """Measure a restored image and its residual.

    Parameters
    ----------
    image, residual : Path
        FITS images of one run; NaN is blank.
    mask : Path, (ny, nx) bool or None
        Mask of the source; None, or an empty mask: the pixels connected to one brighter than
        5 sigma, and at least the beam around the peak.

    Returns
    -------
    ImageStatistics
        Statistics with finite numbers only.

    Raises
    ------
    ImageError
        The image is all zero or blank, or has no positive pixel.
    InputError
        A file cannot be read, shapes differ, or there is no beam.
    """
    plane, header = open_image(image)
    left, _ = open_image(residual)
    if left.shape != plane.shape:
        raise InputError(f"{residual} and {image} differ in shape", "give images of one run")
    good = np.isfinite(plane) & np.isfinite(left)
    if not good.all():
        plane, left = np.where(good, plane, 0), np.where(good, left, 0)
    if plane.max() <= 0:
        raise ImageError(
            f"{image.name} has no positive pixel",
            "check whether the data are flagged, have zero weights or hold no source",
        )
    grid = grid_of(header)
    inside = _source_mask(plane, left, mask, grid)
    values = _peak(plane, header)
    values |= _noise(plane, left, good, inside, grid)
    peak = values["peak_jy_beam"]
    values["snr"] = _ratio(peak, values["rms_jy_beam"])
    values["near_field_snr"] = _ratio(peak, values["near_field_rms_jy_beam"])
    values["dynamic_range"] = _ratio(peak, values["residual_rms_jy_beam"])
    values |= _flux(plane, left, inside, grid, values)
    values |= {
        "beam_major_arcsec": grid.beam_major_arcsec,
        "beam_minor_arcsec": grid.beam_minor_arcsec,
        "beam_pa_deg": grid.beam_pa_deg,
        "beam_area_arcsec2": grid.beam_area_arcsec2,
        "cell_arcsec": grid.cell_arcsec,
    }
    x, y = int(values.pop("peak_x_pixel")), int(values.pop("peak_y_pixel"))
    return ImageStatistics(peak_x_pixel=x, peak_y_pixel=y, **values)


def _sum(values: Plane) -> float:
    """Return a sum in double precision, whatever the precision of the image."""
    return float(values.sum(dtype=np.float64))


def _ratio(peak: float, noise: float) -> float:
    """Return peak over noise; noiseless images, which only simulations have, count as 1e9."""
    return peak / max(noise, 1e-9 * peak)


def _source_mask(plane: Plane, left: Plane, mask: Path | Mask | None, grid: Grid) -> Mask:
    """Return the mask of the source, never empty."""
    if isinstance(mask, Path):
        mask = open_image(mask)[0] > 0
    if mask is not None and mask.shape != plane.shape:
        raise InputError(
            f"the mask has shape {mask.shape}, the image {plane.shape}", "make the mask again"
        )
    if mask is not None and mask.any():
        return mask.astype(bool)
    own = plane > max(_OWN_MASK_NSIGMA * mad_std(left), 0.0)
    core = np.zeros_like(own)
    core[np.unravel_index(int(plane.argmax()), plane.shape)] = True
    return own | dilate(core, grid.beam_width_pixels)


def _peak(plane: Plane, header: fits.Header) -> dict[str, float]:
    y, x = np.unravel_index(int(plane.argmax()), plane.shape)
    ra, dec = sky_position(header, int(x), int(y))
    return {
        "peak_jy_beam": float(plane[y, x]),
        "peak_x_pixel": int(x),
        "peak_y_pixel": int(y),
        "peak_ra_deg": ra,
        "peak_dec_deg": dec,
        "min_jy_beam": float(plane.min()),
    }


def _noise(plane: Plane, left: Plane, good: Mask, inside: Mask, grid: Grid) -> dict[str, float]:
    rms = mad_std(left if good.all() else left[good])
    return {
        "rms_jy_beam": rms,
        "residual_rms_jy_beam": math.sqrt(_sum(left**2) / np.count_nonzero(good)),
        "residual_peak_jy_beam": float(max(left.max(), -left.min())),
        "near_field_rms_jy_beam": _near_field(left, good, inside, grid, rms),
        "corner_rms_jy_beam": _corner_rms(plane),
        "image_mad_jy_beam": mad_std(plane if good.all() else plane[good]),
    }


def _near_field(left: Plane, good: Mask, inside: Mask, grid: Grid, rms: float) -> float:
    """Return the robust rms of the residual in a ring around the mask, Jy/beam."""
    ring = _ring(good, inside, grid)
    # The mask may fill the image, so that only the far field is left.
    return rms if ring is None else mad_std(left[ring])


def _ring(good: Mask, inside: Mask, grid: Grid) -> Mask | None:
    """Return the ring around a mask; None where there is no room for one."""
    needed = _RING_LEAST_BEAM_AREAS * grid.beam_area_pixels
    for beams in (_RING_BEAMS, 2 * _RING_BEAMS):
        ring = dilate(inside, beams * grid.beam_width_pixels) & ~inside & good
        if np.count_nonzero(ring) >= needed:
            return np.asarray(ring)
    return None


def near_field_ring(plane: Plane, left: Plane, good: Mask, grid: Grid) -> Mask | None:
    """Return the ring around the source in which the near-field noise is measured.

    Parameters
    ----------
    plane, left : (ny, nx) float
        Image and residual, Jy/beam.
    good : (ny, nx) bool
        Where neither is blank.
    grid : Grid

    Returns
    -------
    (ny, nx) bool or None
        None where the source leaves no room for one.
    """
    return _ring(good, _source_mask(plane, left, None, grid), grid)


def _corner_rms(plane: Plane) -> float:
    """Return the median over the corner boxes of their rms, Jy/beam."""
    height, width = (max(4, length // 8) for length in plane.shape)
    corners = (
        plane[:height, :width],
        plane[:height, -width:],
        plane[-height:, :width],
        plane[-height:, -width:],
    )
    return float(np.median([corner.std(dtype=np.float64) for corner in corners]))


def _flux(
    plane: Plane, left: Plane, inside: Mask, grid: Grid, values: dict[str, float]
) -> dict[str, float]:
    area = grid.beam_area_pixels
    pixels = plane[inside]
    total = _sum(pixels) / area
    beams = pixels.size / area
    remains = _sum(left[inside]) / area
    noise = values["rms_jy_beam"] * math.sqrt(beams)
    bright = pixels >= 0.5 * values["peak_jy_beam"]
    faint = pixels < 0.1 * values["peak_jy_beam"]
    parts = [_sum(pixels[some]) / area for some in (bright, ~bright & ~faint, faint)]
    inner, mid, low = (part / total if total > 0 else 0.0 for part in parts)
    above = plane > 3 * values["image_mad_jy_beam"]
    negative = _sum(plane[plane < -_OWN_MASK_NSIGMA * values["rms_jy_beam"]]) / area
    return {
        "total_flux_jy": total,
        "flux_error_jy": math.hypot(noise, remains, negative),
        "flux_above_3mad_jy": _sum(plane[above]) / area,
        "flux_unmasked_jy": _sum(plane) / area,
        "inner_flux_fraction": inner,
        "mid_flux_fraction": mid,
        "low_flux_fraction": low,
        "mask_beams": beams,
    }
