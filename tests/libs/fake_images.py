"""Small FITS images with known contents."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

CELL_ARCSEC = 0.5
BEAM_ARCSEC = 2.5
FWHM_TO_SIGMA = 1 / math.sqrt(8 * math.log(2))


def header(
    shape: tuple[int, int],
    *,
    cell_arcsec: float = CELL_ARCSEC,
    beam_arcsec: float = BEAM_ARCSEC,
    axes: int = 4,
) -> fits.Header:
    """Return the header of a restored image centred at 180 deg, +40 deg."""
    head = fits.Header()
    head["SIMPLE"], head["BITPIX"], head["NAXIS"] = True, -32, axes
    for axis, length in enumerate((shape[1], shape[0], 1, 1)[:axes], start=1):
        head[f"NAXIS{axis}"] = length
    names = ("RA---SIN", "DEC--SIN", "FREQ", "STOKES")
    values = (180.0, 40.0, 5e9, 1.0)
    steps = (-cell_arcsec / 3600, cell_arcsec / 3600, 1e8, 1.0)
    centres = (shape[1] // 2 + 1, shape[0] // 2 + 1, 1, 1)
    for axis in range(axes):
        number = axis + 1
        head[f"CTYPE{number}"], head[f"CRVAL{number}"] = names[axis], values[axis]
        head[f"CDELT{number}"], head[f"CRPIX{number}"] = steps[axis], centres[axis]
    head["BUNIT"] = "JY/BEAM"
    head["BMAJ"], head["BMIN"], head["BPA"] = beam_arcsec / 3600, beam_arcsec / 3600, 0.0
    return head


def gaussian(
    shape: tuple[int, int],
    x: float,
    y: float,
    peak: float,
    fwhm_pixels: float = BEAM_ARCSEC / CELL_ARCSEC,
) -> NDArray[np.float64]:
    """Return a round Gaussian."""
    rows, columns = np.indices(shape)
    sigma = fwhm_pixels * FWHM_TO_SIGMA
    return np.asarray(peak * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / sigma**2))


def write(
    path: Path,
    plane: NDArray[np.floating],
    *,
    cell_arcsec: float = CELL_ARCSEC,
    beam_arcsec: float = BEAM_ARCSEC,
    axes: int = 4,
) -> Path:
    """Write a plane as a restored image."""
    head = header(plane.shape, cell_arcsec=cell_arcsec, beam_arcsec=beam_arcsec, axes=axes)
    data = plane.astype(np.float32).reshape((1,) * (axes - 2) + plane.shape)
    fits.PrimaryHDU(data, head).writeto(path, overwrite=True)
    return path
