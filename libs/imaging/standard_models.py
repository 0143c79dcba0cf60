"""Models of flux calibrators: points, or the images that CASA's data package brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.casa.session import data_path
from libs.catalogues.flux_standards import FluxStandard
from libs.core.coordinates import radec_to_lm
from libs.imaging.predict import ModelImage, model_visibilities

__all__ = ["find_model_image", "point_model", "read_model_image", "resolved_model"]

Visibilities = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.complex128]]

_FOLDER = "nrao/VLA/CalModels"
# lower limits of the bands by whose letters the images are named, Hz
_BANDS = (
    (0.2e9, "P"), (0.9e9, "L"), (2e9, "S"), (4e9, "C"), (8e9, "X"), (12e9, "U"), (18e9, "K"),
    (26.5e9, "A"), (40e9, "Q"),
)  # fmt: skip


def find_model_image(standard: FluxStandard, frequency_hz: float) -> Path | None:
    """Return the image of a standard for a frequency; None where there is none of its band."""
    letters = [letter for low, letter in _BANDS if frequency_hz >= low]
    root = data_path() / _FOLDER
    for letter in letters[-1:]:
        path = root / f"{standard.name}_{letter}.im"
        if path.exists():
            return path
    return None


def read_model_image(path: Path, centre_rad: tuple[float, float]) -> ModelImage:
    """Read a CASA image of clean components, scaled to 1 Jy in all.

    Parameters
    ----------
    path : Path
    centre_rad : (float, float)
        Phase centre of the data, J2000, rad.
    """
    from casacore.images import image

    opened = image(str(path))
    plane = np.asarray(opened.getdata(), np.float64)
    plane = plane.reshape(plane.shape[-2:])
    direction = opened.coordinates()["direction"]
    # the axes are declination and right ascension, as those of the array
    step_dec, step_ra = (float(step) for step in direction.get_increment())
    at_dec, at_ra = (float(pixel) for pixel in direction.get_referencepixel())
    dec, ra = (float(angle) for angle in direction.get_referencevalue())
    if step_ra > 0:
        plane, at_ra = plane[:, ::-1], plane.shape[1] - 1 - at_ra
    ny, nx = plane.shape
    there = radec_to_lm(ra, dec, *centre_rad)
    offset = (
        there[0] - abs(step_ra) * (nx // 2 - at_ra),
        there[1] + step_dec * (ny // 2 - at_dec),
    )
    return ModelImage((plane / plane.sum())[None], 1.0, abs(step_dec), offset)


def point_model(
    flux_jy: Callable[[NDArray[np.float64]], NDArray[np.float64]], offset_rad: tuple[float, float]
) -> Visibilities:
    """Visibilities of a point of a spectrum, at direction cosines from the phase centre."""

    def visibilities(
        uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        l_rad, m_rad = offset_rad
        n_rad = np.sqrt(1 - l_rad**2 - m_rad**2) - 1
        path_m = uvw_m @ np.array([l_rad, m_rad, n_rad])
        turns = path_m[:, None] * frequency_hz / 299792458.0
        return np.asarray(flux_jy(frequency_hz)[None, :] * np.exp(2j * np.pi * turns))

    return visibilities


def resolved_model(model: ModelImage, standard: FluxStandard, threads: int = 1) -> Visibilities:
    """Visibilities of an image of 1 Jy with the spectrum of a standard."""

    def visibilities(
        uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        unit = model_visibilities(model, uvw_m, frequency_hz, threads=threads)
        return unit * standard.flux_jy(frequency_hz)

    return visibilities
