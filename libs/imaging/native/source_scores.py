"""How single times, antennas and baselines pull at what an image says of its main source.

Around the model of the image the visibilities are linear in small changes of the source: of its
flux, position and widths, of the flux of the whole model, and of the brightness at the peak. What
each visibility wants to change is its score; sums of scores over the integrations of a part of
the time, or over the baselines of an antenna, say how that part differs from the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.core.errors import ImageError
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.imaging.interface import ImagingOptions
from libs.imaging.native.gridding import cropped
from libs.imaging.native.model_column import GriddedModel, degridded, model_of
from libs.imaging.native.samples import Block, Selection
from libs.imaging.native.visibility_store import VisibilityStore, open_store
from libs.imaging.native.weighting import make_weighting
from libs.imaging.phase_centre import field_centre

__all__ = ["PARAMETERS", "SourceScores", "SourceShape", "source_scores", "sum_rows"]

# Relative flux of the source; its position east and north, and the squares of its widths along
# and across, in beams; relative flux of the whole model; brightness at the peak, Jy/beam.
PARAMETERS = ("flux", "east", "north", "along", "across", "total", "peak")
_FITTED = 5  # solved for together; the last two on their own
_TIME_PARTS = 8


@dataclass(frozen=True)
class SourceShape:
    """The place and shape of a source in an image.

    Attributes
    ----------
    x_pixel, y_pixel : float
        Place, counted from 0.
    half_pixel : int
        Half the width of the box that holds it.
    pa_deg : float
        Position angle of its major axis, north through east.
    beam_arcsec : float
        Geometric mean of the beam's widths: the unit of positions and widths.
    """

    x_pixel: float
    y_pixel: float
    half_pixel: int
    pa_deg: float
    beam_arcsec: float


@dataclass(frozen=True)
class SourceScores:
    """Sums of scores, and the normal equations that turn them into changes.

    Attributes
    ----------
    antenna : (npart, nant, 7) float64
        By part of the time and antenna; every visibility counts for both its antennas.
    baseline : (npart, nant, nant, 7) float64
        By part of the time and baseline.
    information : (7, 7) float64
        Normal matrix; the last two parameters are not coupled to the others.
    noise : (7, 7) float64
        Sum of the outer products of the scores of single visibilities.
    """

    antenna: NDArray[np.float64]
    baseline: NDArray[np.float64]
    information: NDArray[np.float64]
    noise: NDArray[np.float64]


def source_scores(
    options: ImagingOptions, models: Sequence[Path], shape: SourceShape
) -> SourceScores:
    """Read the visibilities of an image and sum their scores.

    Parameters
    ----------
    options : ImagingOptions
        Those of the image.
    models : sequence of Path
        Its model, or one for each Taylor term.
    shape : SourceShape
        Of the source.

    Raises
    ------
    ImageError
        The model holds nothing at the source, or no visibility can be used.
    InputError
        A column is missing.
    """
    selection = Selection(options.column, options.field_id, options.uvmin_m, options.uvmax_m)
    store = open_store(options.vis, selection, memory_bytes=options.memory_limit_bytes)
    cell_rad = options.cell_arcsec / ARCSEC_PER_RAD
    store.weigh(
        make_weighting(
            store.blocks(), options.imsize, cell_rad, briggs=options.weighting == "briggs",
            robust=options.robust, taper_arcsec=options.uvtaper_arcsec,
        )
    )  # fmt: skip
    whole = model_of(models, options)
    part, place = _source_of(whole, options, shape)
    edges, antennas = _parts_and_antennas(store)
    count = antennas[-1]
    parts = len(edges) + 1
    out = SourceScores(
        np.zeros((parts, count, 7)), np.zeros((parts, count, count, 7)), np.zeros((7, 7)),
        np.zeros((7, 7)),
    )  # fmt: skip
    unit = np.array([shape.beam_arcsec / ARCSEC_PER_RAD, math.radians(shape.pa_deg), *place])
    for block in store.weighted():
        _sum_block(block, whole, part, unit, edges, antennas, options.cores, out)
    out.information[:] += np.triu(out.information, 1).T
    out.noise[:] += np.triu(out.noise, 1).T
    return out


def _source_of(
    whole: GriddedModel, options: ImagingOptions, shape: SourceShape
) -> tuple[GriddedModel, tuple[float, float]]:
    """Return the model of the source alone and the direction cosines of its place."""
    cell_rad = options.cell_arcsec / ARCSEC_PER_RAD
    nx, ny = options.imsize
    centre = (0.0, 0.0)
    if options.phase_centre_deg is not None:
        field = field_centre(options.vis[0], options.field_id)
        centre = field.offset_rad(field.at(*options.phase_centre_deg))
    east = centre[0] - (shape.x_pixel - nx // 2) * cell_rad
    north = centre[1] + (shape.y_pixel - ny // 2) * cell_rad
    grid = whole.gridder
    width, height = grid.imsize
    column = width // 2 - (east - grid.offset_rad[0]) / cell_rad
    row = height // 2 + (north - grid.offset_rad[1]) / cell_rad
    y, x = np.ogrid[0:height, 0:width]
    near = (abs(x - column) <= shape.half_pixel) & (abs(y - row) <= shape.half_pixel)
    terms = np.where(near, whole.terms, 0)
    if not terms[0].any():
        raise ImageError("the model holds nothing at the source", "CLEAN deeper")
    gridder, kept = cropped(grid, terms)
    return replace(whole, gridder=gridder, terms=kept), (east, north)


def _parts_and_antennas(
    store: VisibilityStore,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the times between parts of equal numbers of integrations; first antenna of each set.

    The last element of the second is the number of all antennas. Those of different executions
    are different ones: their gains have nothing in common.
    """
    times: list[NDArray[np.float64]] = []
    most = np.zeros(len(store.layouts), dtype=np.int64)
    for block in store.blocks():
        times.append(np.unique(block.time_s))
        most[block.ms] = max(most[block.ms], block.antenna1.max() + 1, block.antenna2.max() + 1)
    known = np.unique(np.concatenate(times))
    parts = min(_TIME_PARTS, len(known))
    first = np.array([len(known) * k // parts for k in range(1, parts)], dtype=np.int64)
    edges = 0.5 * (known[first] + known[first - 1]) if len(first) else np.zeros(0)
    return edges, np.concatenate([[0], np.cumsum(most)])


def _sum_block(
    block: Block,
    whole: GriddedModel,
    part: GriddedModel,
    unit: NDArray[np.float64],
    edges: NDArray[np.float64],
    antennas: NDArray[np.int64],
    threads: int,
    out: SourceScores,
) -> None:
    """Add the scores of a block."""
    everything = degridded(whole, block.uvw_m, block.frequency_hz, threads=threads)
    source = degridded(part, block.uvw_m, block.frequency_hz, threads=threads)
    sum_rows(
        block.uvw_m, block.frequency_hz / SPEED_OF_LIGHT_M_S, block.weight, block.visibility,
        everything.astype(np.complex64), source.astype(np.complex64), unit,
        np.searchsorted(edges, block.time_s), antennas[block.ms] + block.antenna1,
        antennas[block.ms] + block.antenna2, out.antenna, out.baseline, out.information, out.noise,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def sum_rows(
    uvw: NDArray[np.float64],
    per_m: NDArray[np.float64],
    weight: NDArray[np.float32],
    visibility: NDArray[np.complex64],
    everything: NDArray[np.complex64],
    source: NDArray[np.complex64],
    unit: NDArray[np.float64],
    part: NDArray[np.int64],
    one: NDArray[np.int64],
    two: NDArray[np.int64],
    by_antenna: NDArray[np.float64],
    by_baseline: NDArray[np.float64],
    information: NDArray[np.float64],
    noise: NDArray[np.float64],
) -> None:
    """Add the scores of rows, summed over channels, to the sums of a `SourceScores`.

    Parameters
    ----------
    uvw : (nrow, 3) float64
        m.
    per_m : (nchan,) float64
        Wavelengths in a metre.
    weight : (nrow, nchan) float32
    visibility, everything, source : (nrow, nchan) complex64
        Data, whole model and model of the source alone, Jy.
    unit : (4,) float64
        Beam, rad, position angle, rad, and direction cosines of the source.
    part, one, two : (nrow,) int64
        Part of the time and antennas.
    by_antenna, by_baseline, information, noise : float64
        As in `SourceScores`; of the last two, the upper triangle.
    """
    beam, pa, east, north = unit
    depth = math.sqrt(max(0.0, 1.0 - east * east - north * north)) - 1.0
    sin_pa, cos_pa = math.sin(pa), math.cos(pa)
    basis = np.zeros(7, np.complex128)
    score, row_score = np.zeros(7), np.zeros(7)
    for row in range(uvw.shape[0]):
        row_score[:] = 0.0
        for chan in range(weight.shape[1]):
            w = float(weight[row, chan])
            if not w > 0.0:
                continue
            u, v = uvw[row, 0] * per_m[chan], uvw[row, 1] * per_m[chan]
            model = complex(source[row, chan])
            along, across = u * sin_pa + v * cos_pa, u * cos_pa - v * sin_pa
            basis[0] = model
            basis[1] = 2j * math.pi * u * beam * model
            basis[2] = 2j * math.pi * v * beam * model
            basis[3] = -2.0 * (math.pi * along * beam) ** 2 * model
            basis[4] = -2.0 * (math.pi * across * beam) ** 2 * model
            basis[5] = complex(everything[row, chan])
            turn = 2.0 * math.pi * (
                u * east + v * north + uvw[row, 2] * per_m[chan] * depth
            )  # fmt: skip
            basis[6] = complex(math.cos(turn), math.sin(turn))
            left = complex(visibility[row, chan]) - complex(everything[row, chan])
            for p in range(7):
                score[p] = w * (basis[p].real * left.real + basis[p].imag * left.imag)
                row_score[p] += score[p]
            for p in range(7):
                for q in range(p, 7):
                    noise[p, q] += score[p] * score[q]
                    if q < 5 or p == q:
                        information[p, q] += w * (
                            basis[p].real * basis[q].real + basis[p].imag * basis[q].imag
                        )
        for p in range(7):
            by_antenna[part[row], one[row], p] += row_score[p]
            by_antenna[part[row], two[row], p] += row_score[p]
            by_baseline[part[row], one[row], two[row], p] += row_score[p]
