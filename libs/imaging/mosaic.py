"""Mosaics: where pointings and their primary beams lie on the grid of one image.

All pointings share one plane that touches the sky at the image's centre. An image of a mosaic is
attenuated by its response, sqrt(sum w B^2) over its largest value, so that its noise is the same
everywhere: the "flat noise" of CASA.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.core.coordinates import radec_to_lm
from libs.core.errors import ConfigError, InputError
from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.interface import ImageProducts, ImagingOptions, open_image, write_image
from libs.imaging.phase_centre import PhaseCentre, field_centre
from libs.imaging.primary_beam import PrimaryBeam, find_beam
from libs.ms.subtables import Subtables

__all__ = [
    "Pointing",
    "alike_sets",
    "beam_plane",
    "check_mosaic",
    "correct_by_response",
    "mosaic_beam",
    "mosaic_centre",
    "mosaic_size",
    "pointings",
]

# Steps of the table of a beam; between them it is interpolated in the square of the angle.
_TABLE_STEPS = 4096


@dataclass(frozen=True)
class Pointing:
    """A pointing of a mosaic.

    Attributes
    ----------
    field_id : int
    name : str
    offset_rad : (float, float)
        Direction cosines (l, m) of its direction about the image's centre.
    """

    field_id: int
    name: str
    offset_rad: tuple[float, float]


def mosaic_centre(options: ImagingOptions) -> PhaseCentre:
    """Return the centre of a mosaic's image in the frame of the data."""
    assert options.mosaic is not None and options.phase_centre_deg is not None
    first = field_centre(options.vis[0], options.mosaic.field_ids[0])
    return first.at(*options.phase_centre_deg)


def pointings(options: ImagingOptions) -> tuple[Pointing, ...]:
    """Return the pointings of a mosaic, in the order of the options.

    Raises
    ------
    ConfigError
        A measurement set has no such field, or another one under that id.
    """
    assert options.mosaic is not None
    centre = mosaic_centre(options)
    origin = math.radians(centre.ra_deg), math.radians(centre.dec_deg)
    fields = [Subtables(ms).fields for ms in options.vis]
    found = []
    for field_id in options.mosaic.field_ids:
        for ms, there in zip(options.vis, fields, strict=True):
            if field_id >= len(there):
                raise ConfigError(f"{ms} has no field {field_id}", "correct the field")
        places = [there[field_id] for there in fields]
        for ms, place in zip(options.vis[1:], places[1:], strict=True):
            apart = radec_to_lm(*place.pointing_rad, *places[0].pointing_rad)
            if math.hypot(*apart) * ARCSEC_PER_RAD > 1.0:
                raise ConfigError(
                    f"field {field_id} of {ms.name} is not that of {options.vis[0].name}",
                    "image sets with the same pointings together",
                )
        offset = radec_to_lm(*places[0].pointing_rad, *origin)
        found.append(Pointing(field_id, places[0].name, offset))
    return tuple(found)


def mosaic_beam(
    options: ImagingOptions, frequency_hz: float, ms: Path | None = None
) -> PrimaryBeam:
    """Return the primary beam of a mosaic's dishes, or of those of one measurement set.

    Raises
    ------
    ConfigError
        None is known.
    """
    assert options.mosaic is not None
    mosaic = options.mosaic
    dish_m = mosaic.dish_diameter_m
    if mosaic.unlike and ms is not None:
        dish_m = float(np.median([each.diameter_m for each in Subtables(ms).antennas]))
    beam = find_beam(mosaic.instrument, frequency_hz, dish_m)
    if beam is None:
        raise ConfigError(
            f"the primary beam of {mosaic.instrument} at {frequency_hz / 1e9:.4g} GHz is not known",
            "image its pointings one by one",
        )
    return beam


def alike_sets(options: ImagingOptions) -> tuple[tuple[Path, ...], ...]:
    """Return the measurement sets of a mosaic in groups whose dishes are alike."""
    assert options.mosaic is not None
    return tuple((ms,) for ms in options.vis) if options.mosaic.unlike else (options.vis,)


def mosaic_size(options: ImagingOptions) -> tuple[float, float]:
    """Return how many pixels wide and high an image must be to hold a mosaic.

    Its pointings' beams count down to the power at which the image is blanked. Of the options the
    measurement sets, windows, centre, cell and mosaic matter.
    """
    extents = _extents(options).values()
    return max(extent[0] for extent in extents), max(extent[1] for extent in extents)


def _extents(options: ImagingOptions) -> dict[Pointing, tuple[float, float]]:
    """Pixels that each pointing needs about the image's centre."""
    assert options.mosaic is not None
    windows = Subtables(options.vis[0]).windows
    chosen = options.spws or tuple(range(len(windows)))
    if any(spw >= len(windows) for spw in chosen):
        raise ConfigError(
            f"{options.vis[0].name} has no window {max(chosen)}",
            f"its windows are 0 to {len(windows) - 1}",
        )
    lowest = min(float(windows[spw].frequency_hz.min()) for spw in chosen)
    reach = max(
        mosaic_beam(options, lowest, sets[0]).reach_rad(lowest, options.mosaic.least_power)
        for sets in alike_sets(options)
    )
    cell = options.cell_arcsec / ARCSEC_PER_RAD
    return {
        pointing: (
            2.0 * (abs(pointing.offset_rad[0]) + reach) / cell,
            2.0 * (abs(pointing.offset_rad[1]) + reach) / cell,
        )
        for pointing in pointings(options)
    }


def check_mosaic(options: ImagingOptions) -> None:
    """Refuse a mosaic that the image does not hold.

    tclean only warns of it while its grid aliases the beam, which took 40 % of a simulated
    source's flux.

    Raises
    ------
    ConfigError
        A pointing's beam, down to the power at which the image is blanked, reaches beyond it.
    """
    needed = _extents(options)
    outside = [
        f"{pointing.field_id} ({pointing.name})"
        for pointing, extent in needed.items()
        if any(size > pixels for size, pixels in zip(extent, options.imsize, strict=True))
    ]
    if outside:
        size = " x ".join(str(2 * math.ceil(pixels / 2)) for pixels in mosaic_size(options))
        raise ConfigError(
            f"an image of {options.imsize[0]} x {options.imsize[1]} pixels does not hold the"
            f" mosaic: the primary beams of fields {', '.join(outside)} reach beyond it",
            f"make it at least {size} pixels (imsize), centre it on the mosaic, or leave out"
            " these fields",
        )


def beam_plane(
    beam: PrimaryBeam,
    frequencies_hz: Sequence[float],
    l_rad: NDArray[np.float64],
    m_rad: NDArray[np.float64],
    pointing_rad: tuple[float, float],
) -> NDArray[np.float32]:
    """Return the mean power of a beam over some frequencies on a grid; 0 beyond its main lobe.

    Fits of neighbouring frequencies differ by up to a per cent, so that the beam at the middle of
    a window is not the mean of its channels' beams.

    Parameters
    ----------
    beam : PrimaryBeam
    frequencies_hz : sequence of float
    l_rad : (nx,) float64
        Direction cosines of the columns about the image's centre.
    m_rad : (ny,) float64
        The same of the rows.
    pointing_rad : (float, float)
        Direction cosines of the axis of the beam.

    Returns
    -------
    (ny, nx) float32
    """
    reach = max(beam.reach_rad(hz) for hz in frequencies_hz)
    chord = 2.0 * math.sin(0.5 * reach)
    square = np.linspace(0.0, chord**2, _TABLE_STEPS + 1)
    angle = 2.0 * np.arcsin(np.minimum(0.5 * np.sqrt(square), 1.0))
    table = np.mean([np.nan_to_num(beam.power(angle, hz)) for hz in frequencies_hz], axis=0)
    out = np.zeros((len(m_rad), len(l_rad)), np.float32)
    _look_up(l_rad, m_rad, *pointing_rad, table, chord**2, out)
    return out


@njit(cache=True, nogil=True)
def _look_up(
    l_rad: NDArray[np.float64],
    m_rad: NDArray[np.float64],
    east: float,
    north: float,
    table: NDArray[np.float64],
    farthest: float,
    out: NDArray[np.float32],
) -> None:
    """Interpolate a table in the square of the chord between pixels and a pointing."""
    steps = table.size - 1
    along = math.sqrt(1.0 - east**2 - north**2)
    for row in range(m_rad.size):
        for column in range(l_rad.size):
            rest = 1.0 - l_rad[column] ** 2 - m_rad[row] ** 2
            if rest <= 0.0:
                continue
            square = (
                (l_rad[column] - east) ** 2
                + (m_rad[row] - north) ** 2
                + (math.sqrt(rest) - along) ** 2
            )
            place = square / farthest * steps
            low = int(place)
            if low < steps:
                part = place - low
                out[row, column] = (1.0 - part) * table[low] + part * table[low + 1]


def correct_by_response(products: ImageProducts, least_response: float) -> Path:
    """Write a mosaic's image divided by its response, NaN where that is low.

    Parameters
    ----------
    products : ImageProducts
        Images of one Stokes parameter of a mosaic.
    least_response : float
        The image is NaN where the response is lower.

    Returns
    -------
    Path
        ``NAME-pbcor.fits`` beside ``NAME-image.fits``.

    Raises
    ------
    InputError
        It is not an image of a mosaic.
    """
    if products.response is None:
        raise InputError(
            f"{products.image.name} has no response of a mosaic", "correct it with a single beam"
        )
    plane, header = open_image(products.image)
    response, _ = open_image(products.response)
    with np.errstate(invalid="ignore", divide="ignore"):
        corrected = np.where(response >= least_response, plane / response, np.nan)
    name = products.image.name.removesuffix(".fits").removesuffix("-image")
    return write_image(corrected, header, products.image.with_name(f"{name}-pbcor.fits"))
