"""Gaussian components of a restored image, the beam taken out: where a fit may start from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ImageError
from libs.core.gaussian import GaussianComponent
from libs.core.geometry import ARCSEC_PER_RAD
from libs.imaging.gaussian_fit import FittedGaussian, fit_plane, gaussian_shape
from libs.imaging.interface import open_image
from libs.imaging.statistics import Grid, grid_of, mad_std

__all__ = ["image_components"]

_FWHM = 2 * math.sqrt(2 * math.log(2))
_LEAST_WIDTH = 0.2  # beams: narrower components are points
_BOX_BEAMS = 3.0  # neighbours nearer than this are fitted with the source


def image_components(
    image: Path, *, most: int = 6, nsigma: float = 7.0
) -> tuple[GaussianComponent, ...]:
    """Return the brightest sources of an image as Gaussians, brightest first.

    One after the other is fitted and taken away, so that sources that overlap are found as well.

    Parameters
    ----------
    image : Path
        Restored FITS image; positions are offsets from its centre.
    most : int
    nsigma : float
        Sources fainter than this many sigma of the image's robust noise are left out.

    Returns
    -------
    tuple of GaussianComponent
        Empty where nothing stands out.
    """
    plane, header = open_image(image)
    plane = np.array(np.nan_to_num(plane), np.float64)
    grid, noise = grid_of(header), mad_std(plane)
    found: list[GaussianComponent] = []
    while len(found) < most and plane.max() > nsigma * noise:
        try:
            one = fit_plane(plane, header, box_beams=_BOX_BEAMS, noise_jy_beam=noise)
        except ImageError:
            break  # what is left is no Gaussian
        plane -= _drawn(one, grid, plane.shape)
        found.append(_component(one, grid, plane.shape))
    return tuple(sorted(found, key=lambda c: -c.flux_jy))


def _drawn(one: FittedGaussian, grid: Grid, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a fitted Gaussian as an image."""
    y, x = (axis.astype(np.float64) for axis in np.indices(shape))
    widths = (math.log(w / grid.cell_arcsec / _FWHM) for w in (one.major_arcsec, one.minor_arcsec))
    angle = math.radians(90.0 + one.pa_deg)
    return gaussian_shape(
        np.array([one.peak_jy_beam, one.x_pixel, one.y_pixel, *widths, angle]), x, y
    )


def _component(one: FittedGaussian, grid: Grid, shape: tuple[int, ...]) -> GaussianComponent:
    """Return a fitted Gaussian without the beam."""
    left = _covariance(one.major_arcsec, one.minor_arcsec, one.pa_deg)
    left -= _covariance(grid.beam_major_arcsec, grid.beam_minor_arcsec, grid.beam_pa_deg)
    squares, axes = np.linalg.eigh(left)
    minor, major = np.sqrt(np.maximum(squares, 0.0)) / ARCSEC_PER_RAD
    pa = math.atan2(axes[0, 1], axes[1, 1]) % math.pi
    beam = math.sqrt(grid.beam_major_arcsec * grid.beam_minor_arcsec) / ARCSEC_PER_RAD
    point = bool(major < _LEAST_WIDTH * beam)
    cell = grid.cell_arcsec / ARCSEC_PER_RAD
    return GaussianComponent(
        flux_jy=one.flux_jy,
        l_rad=-(one.x_pixel - shape[1] // 2) * cell,
        m_rad=(one.y_pixel - shape[0] // 2) * cell,
        major_rad=0.0 if point else float(major),
        minor_rad=0.0 if point else float(minor),
        pa_rad=0.0 if point else pa,
        point=point,
    )


def _covariance(major: float, minor: float, pa_deg: float) -> NDArray[np.float64]:
    """Return the matrix of squared widths, axes east and north."""
    pa = math.radians(pa_deg)
    along, across = np.array([math.sin(pa), math.cos(pa)]), np.array([math.cos(pa), -math.sin(pa)])
    return np.asarray(
        major**2 * np.outer(along, along) + minor**2 * np.outer(across, across), np.float64
    )
