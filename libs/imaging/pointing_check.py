"""One pointing of a mosaic by itself: its own image, and what the joint model shows of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import lm_to_radec
from libs.core.errors import InputError
from libs.core.geometry import ARCSEC_PER_RAD, good_size
from libs.imaging.interface import ImageProducts, ImagingOptions, open_image, write_image
from libs.imaging.mosaic import (
    Pointing,
    alike_sets,
    beam_plane,
    mosaic_beam,
    mosaic_centre,
    pointings,
)
from libs.imaging.native.mosaic_model import MosaicModel
from libs.imaging.native.restore import Beam, restored
from libs.imaging.statistics import ImageStatistics, measure_products
from libs.ms.rows import chunks
from libs.ms.subtables import Subtables

__all__ = ["JointModel", "PointingMeasure", "measure_pointing", "pointing_options"]

_LEAST_PIXELS = 64


@dataclass(frozen=True)
class JointModel:
    """The model of a mosaic's image, and how that was made.

    Attributes
    ----------
    model, response : Path
    options : ImagingOptions
        Of the mosaic.
    """

    model: Path
    response: Path
    options: ImagingOptions


@dataclass(frozen=True)
class PointingMeasure:
    """The image of one pointing, not corrected for its primary beam.

    Attributes
    ----------
    snr, peak_jy_beam, rms_jy_beam, total_flux_jy : float
        As in `ImageStatistics`.
    model_snr : float
        Peak of the joint model in this image, through the primary beam, over the image's noise.
    """

    snr: float
    peak_jy_beam: float
    rms_jy_beam: float
    total_flux_jy: float
    model_snr: float


def _place(options: ImagingOptions, pointing: Pointing) -> tuple[int, int]:
    """Pixel of a mosaic's image nearest to a pointing, counted from 0."""
    cell = options.cell_arcsec / ARCSEC_PER_RAD
    east, north = pointing.offset_rad
    return round(options.imsize[0] // 2 - east / cell), round(options.imsize[1] // 2 + north / cell)


def pointing_options(
    options: ImagingOptions, number: int, folder: Path, basename: str
) -> ImagingOptions:
    """Return the options of the image of one pointing, as that of the mosaic is made.

    It reaches as far as the primary beam counts, and its pixels lie on those of the mosaic, of
    whose mask it has its part; where that is empty nothing is CLEANed.

    Parameters
    ----------
    options : ImagingOptions
        Of the mosaic.
    number : int
        Place of the pointing in the mosaic.
    folder, basename
        Where its files go.
    """
    assert options.mosaic is not None
    pointing = pointings(options)[number]
    cell = options.cell_arcsec / ARCSEC_PER_RAD
    hz = _frequencies(options)
    reach = max(
        mosaic_beam(options, min(hz), sets[0]).reach_rad(min(hz), options.mosaic.least_power)
        for sets in alike_sets(options)
    )
    size = good_size(2.0 * reach / cell, least=_LEAST_PIXELS)
    x, y = _place(options, pointing)
    east = (options.imsize[0] // 2 - x) * cell
    north = (y - options.imsize[1] // 2) * cell
    centre = mosaic_centre(options)
    ra, dec = lm_to_radec(east, north, math.radians(centre.ra_deg), math.radians(centre.dec_deg))
    own = replace(
        options, mosaic=None, field_id=pointing.field_id, imsize=(size, size), folder=folder,
        phase_centre_deg=(math.degrees(ra), math.degrees(dec)), basename=basename, mask=None,
    )  # fmt: skip
    if options.mask is None:
        return own
    plane, header = open_image(options.mask)
    part = _cut(np.nan_to_num(plane) != 0, x, y, size)
    if not part.any():
        return replace(own, niter=0)
    return replace(own, mask=write_image(part, header, folder / f"{basename}-window.fits"))


def _cut(plane: NDArray[np.bool_], x: int, y: int, size: int) -> NDArray[np.bool_]:
    """Return a square about a pixel, which is at (size // 2, size // 2); False off the plane."""
    padded = np.pad(plane, size)
    low_y, low_x = (place + size - size // 2 for place in (y, x))
    return padded[low_y : low_y + size, low_x : low_x + size]


def _frequencies(options: ImagingOptions) -> list[float]:
    """Mean frequencies of the windows imaged, Hz."""
    windows = Subtables(options.vis[0]).windows
    return [float(windows[spw].frequency_hz.mean()) for spw in options.spws or range(len(windows))]


def measure_pointing(
    products: ImageProducts, own: ImagingOptions, joint: JointModel, number: int
) -> PointingMeasure:
    """Compare the image of a pointing with the model of the mosaic through its primary beam.

    Parameters
    ----------
    products : ImageProducts
        Image made with ``own``.
    own : ImagingOptions
        From `pointing_options`.
    joint : JointModel
    number : int
        Place of the pointing in the mosaic.
    """
    statistics: ImageStatistics = measure_products(products)
    seen = _seen(products, own, joint, number)
    return PointingMeasure(
        snr=statistics.snr,
        peak_jy_beam=statistics.peak_jy_beam,
        rms_jy_beam=statistics.rms_jy_beam,
        total_flux_jy=statistics.total_flux_jy,
        model_snr=float(seen.max(initial=0.0)) / statistics.rms_jy_beam,
    )


def _shares(options: ImagingOptions, pointing: Pointing) -> dict[tuple[Path, ...], float]:
    """Return the part that sets with the same dishes have of a pointing's weights."""
    groups = alike_sets(options)
    if len(groups) == 1:
        return {groups[0]: 1.0}
    weight = {sets: sum(_weight(ms, pointing.field_id) for ms in sets) for sets in groups}
    total = sum(weight.values())
    return {sets: own / total for sets, own in weight.items() if total > 0}


def _weight(ms: Path, field_id: int) -> float:
    """Return the sum of the weights of a field's unflagged samples."""
    total = 0.0
    for chunk in chunks(ms, ("WEIGHT", "FLAG", "FLAG_ROW"), where=f"FIELD_ID == {field_id}"):
        good = ~(chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None])
        total += float((chunk["WEIGHT"] * good.sum(axis=1)).sum())
    return total


def _seen(
    products: ImageProducts, own: ImagingOptions, joint: JointModel, number: int
) -> NDArray[np.float32]:
    """Return the joint model, through the beam, as a pointing's image would show it, Jy/beam."""
    options = joint.options
    pointing = pointings(options)[number]
    terms = MosaicModel([joint.model], options, open_image(joint.response)[0]).terms[0]
    cell = options.cell_arcsec / ARCSEC_PER_RAD
    nx, ny = options.imsize
    l_rad = (nx // 2 - np.arange(nx, dtype=np.float64)) * cell
    m_rad = (np.arange(ny, dtype=np.float64) - ny // 2) * cell
    power = np.zeros((ny, nx), np.float32)
    for sets, share in _shares(options, pointing).items():
        beam_of_sets = mosaic_beam(options, min(_frequencies(options)), sets[0])
        power += np.float32(share) * beam_plane(
            beam_of_sets, _frequencies(options), l_rad, m_rad, pointing.offset_rad
        )
    size = own.imsize[0]
    x, y = _place(options, pointing)
    low = x - size // 2, y - size // 2
    plane = np.zeros((size, size))
    columns = slice(max(low[0], 0), min(low[0] + size, nx))
    rows = slice(max(low[1], 0), min(low[1] + size, ny))
    if columns.stop <= columns.start or rows.stop <= rows.start:
        raise InputError(f"pointing {number} lies outside the mosaic", "make the image larger")
    plane[
        rows.start - low[1] : rows.stop - low[1], columns.start - low[0] : columns.stop - low[0]
    ] = (terms * power)[rows, columns]
    beam = Beam(
        products.beam_major_arcsec / own.cell_arcsec,
        products.beam_minor_arcsec / own.cell_arcsec,
        products.beam_pa_deg,
    )
    return restored(plane, np.zeros_like(plane), beam)
