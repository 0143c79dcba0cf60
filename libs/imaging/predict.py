"""Visibilities of a model image, written to MODEL_DATA without an imager.

CASA's own prediction does not change visibilities where any correlation is flagged, and the next
solve may unflag them again; here every visibility gets its model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.interface import open_image
from libs.ms.columns import ensure_data_column
from libs.ms.rows import put_rows, read_rows, row_pieces
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["ModelImage", "fill_model_column", "model_visibilities", "predict_model", "read_model"]

# Accuracy relative to the model's total flux; MODEL_DATA holds single precision, 6e-8.
_ACCURACY = 1e-6
_CHUNK_BYTES = 8 * 1024**2  # of MODEL_DATA; a sum of components needs tens of times as much
_IMAGE_CHUNK_BYTES = 64 * 1024**2  # each chunk transforms the whole image

# Fields of microarcseconds are too small for w-gridding, which returns NaN. Across such a field
# the w term w (n - 1) of the longest baseline on Earth is 3e-6, which is negligible.
_TINY_FIELD_ARCSEC = 0.01

# The degridder computes exp(-2 pi i (u x + v y - w (n - 1))). With x = -l, because columns run
# west, the sign of measurement sets results when only v is negated.
_NORTH_FLIPPED = np.array([1.0, -1.0, 1.0])


@dataclass(frozen=True)
class ModelImage:
    """A model of the sky on a grid; its spectrum is a polynomial.

    Attributes
    ----------
    terms : (nterm, ny, nx) float64
        Coefficients of ((nu - nu0) / nu0)^t, Jy/pixel.
    frequency_hz : float
        Reference frequency nu0; it has no meaning when there is one term.
    cell_rad : float
        Pixel size.
    offset_rad : (float, float)
        Direction cosines (l, m) of pixel (nx/2, ny/2) relative to the phase centre of the data.
    """

    terms: NDArray[np.float64]
    frequency_hz: float
    cell_rad: float
    offset_rad: tuple[float, float] = (0.0, 0.0)


def read_model(models: Sequence[Path], offset_rad: tuple[float, float] = (0.0, 0.0)) -> ModelImage:
    """Read the model images of one imaging run, one for each Taylor term.

    Parameters
    ----------
    models : sequence of Path
        FITS images in Jy/pixel.
    offset_rad : (float, float)
        Direction cosines of the images' centre relative to the phase centre of the data.

    Raises
    ------
    InputError
        The images cannot be read, differ in shape or hold values that are not finite.
    """
    from astropy.io import fits

    planes: list[NDArray[np.floating]] = []
    header = fits.Header()
    for path in models:
        plane, header = open_image(path)
        if not np.isfinite(plane).all():
            raise InputError(f"model image {path} is not finite", "make the image again")
        planes.append(plane)
    if not planes or len({plane.shape for plane in planes}) > 1:
        raise InputError(
            "there are no model images, or they differ in shape", "give those of one run"
        )
    cell = abs(header["CDELT2"]) * 3600 / ARCSEC_PER_RAD
    frequency = next(
        (float(header[f"CRVAL{axis}"]) for axis in (3, 4) if _is_frequency(header, axis)), 0.0
    )
    return ModelImage(np.stack(planes).astype(np.float64), frequency, cell, offset_rad)


def _is_frequency(header: fits.Header, axis: int) -> bool:
    return str(header.get(f"CTYPE{axis}", "")).startswith("FREQ")


def model_visibilities(
    model: ModelImage,
    uvw_m: NDArray[np.float64],
    frequency_hz: NDArray[np.float64],
    *,
    threads: int = 1,
) -> NDArray[np.complex128]:
    """Return Stokes I visibilities of a model.

    Parameters
    ----------
    model : ModelImage
        Model of the sky.
    uvw_m : (nrow, 3) float64
        Coordinates as in the UVW column, m.
    frequency_hz : (nchan,) float64
        Channel centres, Hz.
    threads : int
        Number of cores.

    Returns
    -------
    (nrow, nchan) complex128
        Visibilities, Jy, accurate to 1e-6 of the total flux.

    Notes
    -----
    V = sum I(l, m) exp(2 pi i (u l + v m + w (n - 1))), l to the east, m to the north: the
    convention of measurement sets. The sum is computed by degridding with w-gridding (Arras et al.
    2021, A&A 646, A58).
    """
    from ducc0.wgridder import dirty2vis

    total = np.zeros((len(uvw_m), len(frequency_hz)), dtype=np.complex128)
    reach = max(model.terms.shape[1:]) * model.cell_rad + float(np.hypot(*model.offset_rad))
    fraction = (frequency_hz - model.frequency_hz) / (model.frequency_hz or 1.0)
    # the degridder needs frequencies that rise; those of a window may fall
    rising = np.argsort(frequency_hz, kind="stable")
    own_order = np.argsort(rising)
    for power, term in enumerate(model.terms):
        if not term.any():
            continue
        part = dirty2vis(
            uvw=uvw_m * _NORTH_FLIPPED,
            freq=np.ascontiguousarray(frequency_hz[rising]),
            dirty=np.ascontiguousarray(term.T),
            pixsize_x=model.cell_rad,
            pixsize_y=model.cell_rad,
            center_x=-model.offset_rad[0],
            center_y=model.offset_rad[1],
            epsilon=_ACCURACY,
            do_wgridding=reach * ARCSEC_PER_RAD > _TINY_FIELD_ARCSEC,
            divide_by_n=False,
            nthreads=threads,
        )[:, own_order]
        total += part * fraction**power if power else part
    return total


def predict_model(
    vis: Sequence[Path], model: ModelImage, *, field_id: int = 0, threads: int = 1
) -> float:
    """Fill MODEL_DATA of measurement sets: the model in parallel hands, 0 in cross hands.

    Parameters
    ----------
    vis : sequence of Path
        Measurement sets.
    model : ModelImage
        Model of the sky.
    field_id : int
        FIELD_ID of the rows to fill; other rows are unchanged.
    threads : int
        Number of cores.

    Returns
    -------
    float
        Wall-clock time, s.
    """

    def visibilities(
        uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        return model_visibilities(model, uvw_m, frequency_hz, threads=threads)

    return fill_model_column(vis, visibilities, field_id=field_id, chunk_bytes=_IMAGE_CHUNK_BYTES)


def fill_model_column(
    vis: Sequence[Path],
    visibilities: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.complex128]],
    *,
    field_id: int = 0,
    chunk_bytes: int = _CHUNK_BYTES,
) -> float:
    """Fill MODEL_DATA of measurement sets: the model in parallel hands, 0 in cross hands.

    Parameters
    ----------
    vis : sequence of Path
        Measurement sets.
    visibilities : callable
        Function (uvw_m (nrow, 3), frequency_hz (nchan,)) -> (nrow, nchan) complex128, Jy.
    field_id : int
        FIELD_ID of the rows to fill; other rows are unchanged.
    chunk_bytes : int
        Largest size of MODEL_DATA computed at once.

    Returns
    -------
    float
        Wall-clock time, s.
    """
    start = time.monotonic()
    for ms in vis:
        ensure_data_column(ms, "MODEL_DATA")
        found = Subtables(ms)
        where = f"FIELD_ID == {field_id}"
        with open_table(ms) as opened:
            for ddid, rows in row_pieces(opened, ("DATA",), max_bytes=chunk_bytes, where=where):
                uvw_m = read_rows(opened, ("UVW",), rows)["UVW"]
                values = visibilities(uvw_m, found.channel_hz[found.spw_of[ddid]])
                shape = np.shape(opened.getcell("DATA", int(rows[0])))
                filled = np.zeros((len(rows), *shape), dtype=np.complex64)
                filled[:, :, found.setup_of[ddid].parallel] = values[:, :, None]
                put_rows(ms, rows, {"MODEL_DATA": filled})
    return time.monotonic() - start
