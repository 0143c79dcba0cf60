"""MODEL_DATA of a mosaic: each pointing sees the model through its primary beam."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.imaging.interface import ImagingOptions, open_image
from libs.imaging.mosaic import mosaic_centre, pointings
from libs.imaging.native.gridding import MODEL_TURNS, cropped
from libs.imaging.native.measurement import taylor_visibilities
from libs.imaging.native.pointings import PointingView, view_grid
from libs.imaging.native.samples import referred_uvw, turn_phases
from libs.imaging.native.visibility_store import turn_to
from libs.imaging.predict import read_model
from libs.ms.columns import ensure_data_column
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = ["MosaicModel", "predict_mosaic", "predict_sky", "response_of_weights"]

_CHUNK_BYTES = 128 * 1024**2  # of MODEL_DATA; each chunk transforms a part of the image


class MosaicModel:
    """A model of the sky in Taylor terms, on the grid of a mosaic's image.

    Attributes
    ----------
    terms : (nterms, ny, nx) float64
        Jy/pixel, not attenuated.
    reference_hz : float
        Reference frequency of the terms.
    """

    def __init__(
        self,
        models: Sequence[Path],
        options: ImagingOptions,
        response: NDArray[np.floating] | None = None,
    ) -> None:
        """Read model images.

        Parameters
        ----------
        models : sequence of Path
            One for each Taylor term.
        options : ImagingOptions
            Of the mosaic whose grid they are on.
        response : (ny, nx) array, optional
            What they are attenuated by; None: they are not.

        Raises
        ------
        InputError
            The models are not on the grid of the options.
        """
        assert options.mosaic is not None
        found = read_model(models)
        if found.terms.shape[1:] != options.imsize[::-1]:
            raise InputError(
                f"model {models[0].name} has {found.terms.shape[2]} x {found.terms.shape[1]}"
                f" pixels, the image {options.imsize[0]} x {options.imsize[1]}",
                "give imsize and cell of the model",
            )
        cell = found.cell_rad * ARCSEC_PER_RAD
        if abs(cell / options.cell_arcsec - 1.0) > 1e-6:
            raise InputError(
                f"model {models[0].name} has pixels of {cell:.6g} arcsec, the image"
                f" {options.cell_arcsec:.6g}",
                "give imsize and cell of the model",
            )
        self.terms = found.terms
        self.reference_hz = found.frequency_hz
        if response is not None:
            seen = np.nan_to_num(response) >= options.mosaic.least_power
            self.terms = np.divide(
                found.terms, response[None], out=np.zeros_like(found.terms), where=seen[None]
            )


def predict_mosaic(models: Sequence[Path], options: ImagingOptions, threads: int = 1) -> float:
    """Fill MODEL_DATA from the models of an imaging run; return the seconds it took.

    Parameters
    ----------
    models : sequence of Path
        `ImageProducts.models` of a mosaic, or masked copies beside them; the response is read
        from the file ``NAME-pb.fits`` in the folder of the options.
    options : ImagingOptions
        Those of the run.
    threads : int

    Raises
    ------
    InputError
        The response is not there.
    """
    candidates = [
        options.folder / f"{options.basename}-I-pb.fits",
        options.folder / f"{options.basename}-pb.fits",
    ]
    path = next((one for one in candidates if one.exists()), None)
    if path is None:
        raise InputError(
            f"the response of the mosaic, {candidates[-1]}, does not exist", "make the image again"
        )
    return predict_sky(MosaicModel(models, options, open_image(path)[0]), options, threads=threads)


def predict_sky(model: MosaicModel, options: ImagingOptions, *, threads: int = 1) -> float:
    """Fill MODEL_DATA of a mosaic's fields and windows; return the seconds it took.

    Every row of them gets its model, flagged or not: parallel hands the model, cross hands 0.

    Parameters
    ----------
    model : MosaicModel
    options : ImagingOptions
        Measurement sets, grid, windows and mosaic.
    threads : int
    """
    start = time.monotonic()
    centre = mosaic_centre(options)
    for ms in options.vis:
        ensure_data_column(ms, "MODEL_DATA")
        found = Subtables(ms)
        chosen = options.spws or tuple(range(len(found.windows)))
        with open_table(ms, write=True) as opened:
            for pointing in pointings(options):
                turn = turn_to(ms, pointing.field_id, centre)
                where = f"FIELD_ID == {pointing.field_id}"
                for ddid, rows in row_pieces(
                    opened, ("DATA",), max_bytes=_CHUNK_BYTES, where=where
                ):
                    spw = int(found.spw_of[ddid])
                    if spw not in chosen:
                        continue
                    hz = found.channel_hz[spw]
                    uvw = np.asarray(read_rows(opened, ("UVW",), rows)["UVW"], np.float64)
                    longest = float(np.abs(uvw).max() * hz.max()) / SPEED_OF_LIGHT_M_S
                    view = view_grid(options, pointing, hz, longest, threads, ms)
                    values = _seen(model, view, uvw, turn, hz)
                    shape = np.shape(opened.getcell("DATA", int(rows[0])))
                    filled = np.zeros((len(rows), *shape), np.complex64)
                    filled[:, :, list(found.setup_of[ddid].parallel)] = values[:, :, None]
                    write_rows(opened, rows, {"MODEL_DATA": filled})
    return time.monotonic() - start


def _seen(
    model: MosaicModel,
    view: PointingView,
    uvw_m: NDArray[np.float64],
    turn: NDArray[np.float64] | None,
    frequency_hz: NDArray[np.float64],
) -> NDArray[np.complexfloating]:
    """Return the visibilities of a model through a pointing's beam, (nrow, nchan) Jy."""
    reference = model.reference_hz or float(frequency_hz.mean())
    part = _attenuated(model.terms[:, view.rows, view.columns], view, frequency_hz, reference)
    if not part.any():
        return np.zeros((len(uvw_m), len(frequency_hz)), np.complex64)
    about, path = referred_uvw(uvw_m, turn, view.facet)
    gridder, terms = cropped(view.gridder, part)
    longest = float(np.abs(about[:, 2]).max() * frequency_hz.max()) / SPEED_OF_LIGHT_M_S
    values = taylor_visibilities(
        gridder.for_w(longest, MODEL_TURNS), terms, about, frequency_hz, reference
    )
    return values * turn_phases(-path, frequency_hz)


def _attenuated(
    terms: NDArray[np.floating],
    view: PointingView,
    frequency_hz: NDArray[np.float64],
    reference_hz: float,
) -> NDArray[np.floating]:
    """Return Taylor terms times a beam that is linear in frequency over the window.

    Off its axis a beam of the VLA changes by some per cent over a window of 128 MHz.
    """
    low, high = float(frequency_hz.min()), float(frequency_hz.max())
    if not high > low:
        return terms * view.power()
    edges = [replace(view, frequencies_hz=(hz,)).power() for hz in (low, high)]
    slope = (edges[1] - edges[0]) * (reference_hz / (high - low))
    constant = edges[0] - slope * (low / reference_hz - 1.0)
    found = np.zeros((len(terms) + 1, *terms.shape[1:]))
    found[:-1] = terms * constant
    found[1:] += terms * slope
    return found


def response_of_weights(options: ImagingOptions) -> NDArray[np.float32]:
    """Return the response of a mosaic by the weights of its unflagged data, (ny, nx).

    Parameters
    ----------
    options : ImagingOptions
        Measurement sets, grid, windows and mosaic.
    """
    square = np.zeros(options.imsize[::-1])
    for ms in options.vis:
        found = Subtables(ms)
        chosen = options.spws or tuple(range(len(found.windows)))
        names = ("WEIGHT", "FLAG", "FLAG_ROW")
        with open_table(ms) as opened:
            for pointing in pointings(options):
                where = f"FIELD_ID == {pointing.field_id}"
                for ddid, rows in row_pieces(opened, names, where=where):
                    spw = int(found.spw_of[ddid])
                    if spw not in chosen:
                        continue
                    read = read_rows(opened, names, rows)
                    hands = list(found.setup_of[ddid].parallel)
                    good = ~(read["FLAG"].any(axis=2) | read["FLAG_ROW"][:, None])
                    weight = read["WEIGHT"][:, hands].min(axis=1) * good.sum(axis=1)
                    view = view_grid(options, pointing, found.channel_hz[spw], 0.0, 1, ms)
                    power = view.power().astype(np.float64)
                    square[view.rows, view.columns] += float(weight.sum()) * power**2
    if not square.any():
        raise InputError("no visibility of the mosaic has a weight", "look at flags and weights")
    return np.sqrt(square / square.max()).astype(np.float32)
