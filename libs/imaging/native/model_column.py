"""Visibilities of model images: for the solver in memory, for other programs in MODEL_DATA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import rotation
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.interface import ImagingOptions
from libs.imaging.native.gridding import FINAL_ACCURACY, MODEL_TURNS, Gridder, cropped
from libs.imaging.native.measurement import taylor_visibilities
from libs.imaging.native.samples import read_set_layout, turn_phases
from libs.imaging.native.visibility_store import field_centre
from libs.imaging.predict import read_model
from libs.ms.columns import ensure_data_column
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["GriddedModel", "degridded", "model_of", "write_model_column"]

_CHUNK_BYTES = 128 * 1024**2  # of MODEL_DATA; each chunk transforms the image


@dataclass(frozen=True)
class GriddedModel:
    """A model of the sky and what predicts it.

    Attributes
    ----------
    terms : (nterms, ny, nx) array
        Jy/pixel, coefficients of ((nu - nu0) / nu0)^t.
    reference_hz : float
        nu0.
    gridder : Gridder
        Its grid, about the phase centre.
    centre_deg : (float, float)
        The phase centre, in the frame of the data.
    """

    terms: NDArray[np.floating]
    reference_hz: float
    gridder: Gridder
    centre_deg: tuple[float, float]


def model_of(models: Sequence[Path], options: ImagingOptions) -> GriddedModel:
    """Read the model images of one run.

    Parameters
    ----------
    models : sequence of Path
        One for each Taylor term.
    options : ImagingOptions
        Those they were made with.

    Raises
    ------
    InputError
        They cannot be read, differ in shape or are not finite.
    """
    centre = field_centre(options.vis[0], options.field_id)
    offset = (0.0, 0.0)
    if options.phase_centre_deg is not None:
        offset = centre.offset_rad(centre.at(*options.phase_centre_deg))
    model = read_model(models, offset)
    ny, nx = model.terms.shape[1:]
    gridder, terms = cropped(Gridder((nx, ny), model.cell_rad, offset), model.terms)
    return GriddedModel(terms, model.frequency_hz, gridder, (centre.ra_deg, centre.dec_deg))


def degridded(
    model: GriddedModel,
    uvw_m: NDArray[np.float64],
    frequency_hz: NDArray[np.float64],
    *,
    threads: int = 1,
    accuracy: float = FINAL_ACCURACY,
) -> NDArray[np.complexfloating]:
    """Return Stokes I visibilities of a model, (nrow, nchan), Jy.

    Parameters
    ----------
    model : GriddedModel
    uvw_m : (nrow, 3) float64
        About the model's phase centre, as in the UVW column, m.
    frequency_hz : (nchan,) float64
        Channel centres.
    threads : int
    accuracy : float
        Relative to the flux of each term.
    """
    if not model.terms.any() or not len(uvw_m):
        return np.zeros((len(uvw_m), len(frequency_hz)), np.complex64)
    longest = float(np.abs(uvw_m[:, 2]).max()) * float(frequency_hz.max()) / SPEED_OF_LIGHT_M_S
    gridder = replace(model.gridder.for_w(longest, MODEL_TURNS), threads=threads)
    return taylor_visibilities(
        gridder, model.terms, uvw_m, frequency_hz, model.reference_hz, accuracy
    )


def write_model_column(
    ms: Path, model: GriddedModel, options: ImagingOptions, *, threads: int = 1
) -> None:
    """Fill MODEL_DATA of a measurement set: parallel hands the model, cross hands 0.

    Parameters
    ----------
    ms : Path
    model : GriddedModel
    options : ImagingOptions
        Of the field only.
    threads : int
    """
    ensure_data_column(ms, "MODEL_DATA")
    layout = read_set_layout(ms)
    parallel = [setup.parallel for setup in Subtables(ms).setup_of]
    own = field_centre(ms, options.field_id)
    old, new = ((math.radians(a), math.radians(d)) for a, d in (
        (own.ra_deg, own.dec_deg), model.centre_deg
    ))  # fmt: skip
    turn = None if old == new else rotation(old, new)
    where = f"FIELD_ID == {options.field_id}"
    with open_table(ms, write=True) as opened:
        for ddid, rows in row_pieces(opened, ("DATA",), max_bytes=_CHUNK_BYTES, where=where):
            frequency = layout.frequency_hz[int(layout.spw_of[ddid])]
            uvw = np.asarray(read_rows(opened, ("UVW",), rows)["UVW"], dtype=np.float64)
            turned = uvw if turn is None else uvw @ turn.T
            values = degridded(model, turned, frequency, threads=threads)
            if turn is not None:
                values = values * turn_phases(turned[:, 2] - uvw[:, 2], frequency)
            shape = np.shape(opened.getcell("DATA", int(rows[0])))
            filled = np.zeros((len(rows), *shape), dtype=np.complex64)
            filled[:, :, list(parallel[ddid])] = values[:, :, None]
            write_rows(opened, rows, {"MODEL_DATA": filled})
