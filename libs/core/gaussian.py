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
    """An elliptical Gaussian and its errors (1 sigma); axes are full widths at half maximum.

    Attributes
    ----------
    flux_jy, flux_err_jy : float
        The error is that of the share of the total, whose scale closures do not fix.
    l_rad, m_rad, l_err_rad, m_err_rad : float
        Offsets east and north; errors relative to the brightest component, whose own are 0.
    major_rad, minor_rad, pa_rad : float
        Position angle of the major axis from north to east, 0 to pi. 0 for points.
    major_err_rad, minor_err_rad, pa_err_rad : float
        For an unresolved axis the error is the largest width that the data allow.
    point : bool
        Whether it was fitted as a point.
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
        """Visibility at (u, v), wavelengths.

        ``S exp(-(pi theta q)^2 / (4 ln 2)) exp(2 pi i (u l + v m))`` for a full width theta
        along the direction of q (Thompson, Moran & Swenson 2017, sect. 10.4). The sign is the
        one of the UVW column, as CASA and WSClean predict: u, v, w point from the second
        station to the first.
        """
        along = (u * np.sin(self.pa_rad) + v * np.cos(self.pa_rad)) * self.major_rad
        across = (u * np.cos(self.pa_rad) - v * np.sin(self.pa_rad)) * self.minor_rad
        envelope = np.exp(-(np.pi**2) * (along**2 + across**2) / (4 * np.log(2)))
        phase = np.exp(2j * np.pi * (u * self.l_rad + v * self.m_rad))
        return np.asarray(self.flux_jy * envelope * phase)


def component_visibilities(
    components: Sequence[GaussianComponent], uvw_m: Float, frequency_hz: float | Float
) -> NDArray[np.complex128]:
    """Return the visibilities of components, Jy; their spectrum is flat.

    Parameters
    ----------
    components : sequence of GaussianComponent
    uvw_m : (..., 3) float64
        m, as in the UVW column.
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
