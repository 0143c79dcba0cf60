"""Elliptical Gaussian components and their visibilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.core.geometry import SPEED_OF_LIGHT_M_S

__all__ = ["GaussianComponent", "component_visibilities"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianComponent:
    """An elliptical Gaussian with errors (1 sigma); axes are full widths at half maximum.

    Attributes
    ----------
    flux_jy, flux_err_jy : float
        Flux density and its error, Jy. The error is that of the share of the total, because
        closures do not fix the flux scale.
    l_rad, m_rad, l_err_rad, m_err_rad : float
        Offsets east and north, rad; errors are relative to the brightest component, whose own
        errors are 0.
    major_rad, minor_rad, pa_rad : float
        Full widths, and position angle of the major axis from north to east, 0 to pi, rad; 0
        for points.
    major_err_rad, minor_err_rad, pa_err_rad : float
        Errors, rad; for an unresolved axis the largest width that the data allow.
    point : bool
        True for a component fitted as a point.
    """

    flux_jy: float
    l_rad: float
    m_rad: float
    major_rad: float
    minor_rad: float
    pa_rad: float
    flux_err_jy: float = 0.0
    l_err_rad: float = 0.0
    m_err_rad: float = 0.0
    major_err_rad: float = 0.0
    minor_err_rad: float = 0.0
    pa_err_rad: float = 0.0
    point: bool = False

    def visibility(self, u: Float, v: Float) -> NDArray[np.complex128]:
        """Return the visibility at (u, v) in wavelengths, Jy.

        ``S exp(-(pi theta q)^2 / (4 ln 2)) exp(2 pi i (u l + v m))`` for a full width theta
        along the direction of q (Thompson, Moran & Swenson 2017, sect. 10.4). The sign is that
        of the UVW column, as CASA and WSClean predict: u, v, w point from the second station to
        the first.
        """
        along = (u * np.sin(self.pa_rad) + v * np.cos(self.pa_rad)) * self.major_rad
        across = (u * np.cos(self.pa_rad) - v * np.sin(self.pa_rad)) * self.minor_rad
        envelope = np.exp(-(np.pi**2) * (along**2 + across**2) / (4 * np.log(2)))
        phase = np.exp(2j * np.pi * (u * self.l_rad + v * self.m_rad))
        return np.asarray(self.flux_jy * envelope * phase)


def component_visibilities(
    components: Sequence[GaussianComponent], uvw_m: Float, frequency_hz: float | Float
) -> NDArray[np.complex128]:
    """Return the visibilities of components with flat spectra, Jy.

    Parameters
    ----------
    components : sequence of GaussianComponent
    uvw_m : (..., 3) float64
        Baseline coordinates as in the UVW column, m.
    frequency_hz : float or (nfreq,) float64

    Returns
    -------
    (...) or (..., nfreq) complex128
    """
    scale = np.asarray(frequency_hz) / SPEED_OF_LIGHT_M_S
    u = np.multiply.outer(uvw_m[..., 0], scale)
    v = np.multiply.outer(uvw_m[..., 1], scale)
    total = np.zeros(u.shape, np.complex128)
    for component in components:
        total += component.visibility(u, v)
    return total
