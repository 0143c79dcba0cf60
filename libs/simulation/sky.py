"""Skies of points, elliptical Gaussians and uniform discs with their exact visibilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.core.coordinates import lm_to_radec
from libs.core.geometry import SPEED_OF_LIGHT_M_S

__all__ = ["Source", "SourceTable", "sky_visibilities", "source_table"]

ARCSEC_RAD = math.pi / 180.0 / 3600.0

_GAUSSIAN, _DISC = 1, 2


@dataclass(frozen=True)
class Source:
    """One unpolarised component of a simulated sky.

    Attributes
    ----------
    flux_jy : float
        Flux density at the reference frequency.
    l_arcsec, m_arcsec : float
        Direction cosines about the phase centre, east and north, as angles in arcsec.
    major_arcsec, minor_arcsec : float
        FWHM axes of a Gaussian, or diameters of a disc; 0 is a point. A ``minor_arcsec`` of 0
        with ``major_arcsec`` above 0 is a line.
    pa_deg : float
        Position angle of the major axis, north through east.
    shape : str
        Shape, ``"gaussian"`` or ``"disc"``.
    spectral_index : float
        Exponent of the frequency to which the flux density is proportional.
    name : str
        Name, for sources that are calibrated separately.
    """

    flux_jy: float
    l_arcsec: float = 0.0
    m_arcsec: float = 0.0
    major_arcsec: float = 0.0
    minor_arcsec: float = 0.0
    pa_deg: float = 0.0
    shape: Literal["gaussian", "disc"] = "gaussian"
    spectral_index: float = 0.0
    name: str = ""

    def radec_rad(self, ra0_rad: float, dec0_rad: float) -> tuple[float, float]:
        """Return the source's RA and Dec about a phase centre, rad."""
        return lm_to_radec(
            self.l_arcsec * ARCSEC_RAD, self.m_arcsec * ARCSEC_RAD, ra0_rad, dec0_rad
        )


@dataclass(frozen=True)
class SourceTable:
    """A sky in the arrays that the kernel reads.

    Attributes
    ----------
    lmn : (nsource, 3) float64
        Direction cosines l, m and n - 1.
    flux_jy : (nsource, nchan) float64
        Flux density at each channel.
    axes_rad : (nsource, 2) float64
        Major and minor axis.
    pa_rad : (nsource,) float64
    kind : (nsource,) int64
        Shape, 1 Gaussian, 2 disc.
    """

    lmn: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    axes_rad: NDArray[np.float64]
    pa_rad: NDArray[np.float64]
    kind: NDArray[np.int64]


def source_table(
    sky: Sequence[Source], frequency_hz: NDArray[np.float64], reference_hz: float
) -> SourceTable:
    """Return the kernel's arrays for a sky at some channels."""
    offset = np.array([(s.l_arcsec, s.m_arcsec) for s in sky]).reshape(-1, 2) * ARCSEC_RAD
    square = (offset**2).sum(axis=1)
    # n - 1 without the rounding error of sqrt(1 - x) - 1
    n_minus_1 = -square / (1.0 + np.sqrt(1.0 - square))
    ratio = np.asarray(frequency_hz) / reference_hz
    flux = np.array([s.flux_jy * ratio**s.spectral_index for s in sky])
    axes = np.array([(s.major_arcsec, s.minor_arcsec) for s in sky]).reshape(-1, 2)
    return SourceTable(
        lmn=np.column_stack([offset, n_minus_1]),
        flux_jy=flux.reshape(len(sky), len(ratio)),
        axes_rad=axes * ARCSEC_RAD,
        pa_rad=np.deg2rad(np.array([s.pa_deg for s in sky], dtype=np.float64)),
        kind=np.array([_DISC if s.shape == "disc" else _GAUSSIAN for s in sky], dtype=np.int64),
    )


@njit(cache=True)
def _bessel_j1_over_x(x: float) -> float:
    """Return J1(x) / x for x >= 0 (Abramowitz & Stegun 9.4.4 to 9.4.6, error below 2e-8)."""
    if x < 3.0:
        y = (x / 3.0) ** 2
        return 0.5 + y * (
            -0.56249985
            + y
            * (
                0.21093573
                + y * (-0.03954289 + y * (0.00443319 + y * (-0.00031761 + y * 0.00001109)))
            )
        )
    y = 3.0 / x
    amplitude = 0.79788456 + y * (
        0.00000156
        + y
        * (0.01659667 + y * (0.00017105 + y * (-0.00249511 + y * (0.00113653 - y * 0.00020033))))
    )
    phase = (
        x
        - 2.35619449
        + y
        * (
            0.12499612
            + y
            * (0.0000565 + y * (-0.00637879 + y * (0.00074348 + y * (0.00079824 - y * 0.00029166))))
        )
    )
    return amplitude * math.cos(phase) / math.sqrt(x) / x


@njit(cache=True)
def _envelope(size: float, kind: int) -> float:
    """Return |V| / flux; size is the axis-weighted uv distance (rad x wavelengths)."""
    if kind == _DISC:
        return 2.0 * _bessel_j1_over_x(math.pi * size)
    # exp(-(pi theta q)^2 / (4 ln 2)), the transform of a Gaussian of FWHM theta
    return math.exp(-((math.pi * size) ** 2) / (4.0 * math.log(2.0)))


@njit(parallel=True, cache=True)
def _accumulate(
    uvw: NDArray[np.float64],
    ant1: NDArray[np.int64],
    ant2: NDArray[np.int64],
    frequency: NDArray[np.float64],
    lmn: NDArray[np.float64],
    flux: NDArray[np.float64],
    axes: NDArray[np.float64],
    pa: NDArray[np.float64],
    kind: NDArray[np.int64],
    tec: NDArray[np.float64],
    out: NDArray[np.complex128],
) -> None:
    ntime, nbl, nchan = out.shape
    for cell in prange(ntime * nbl):
        t, b = cell // nbl, cell % nbl
        p, q = ant1[b], ant2[b]
        u = uvw[t, q, 0] - uvw[t, p, 0]
        v = uvw[t, q, 1] - uvw[t, p, 1]
        w = uvw[t, q, 2] - uvw[t, p, 2]
        for s in range(lmn.shape[0]):
            delay = (u * lmn[s, 0] + v * lmn[s, 1] + w * lmn[s, 2]) / SPEED_OF_LIGHT_M_S
            along = u * math.sin(pa[s]) + v * math.cos(pa[s])
            across = u * math.cos(pa[s]) - v * math.sin(pa[s])
            size = math.hypot(along * axes[s, 0], across * axes[s, 1]) / SPEED_OF_LIGHT_M_S
            d_tec = tec[t, s, p] - tec[t, s, q] if tec.shape[0] else 0.0
            for c in range(nchan):
                turns = delay * frequency[c]
                phase = 2.0 * math.pi * (turns - math.floor(turns))
                phase += TEC_PHASE_HZ * d_tec / frequency[c]
                value = flux[s, c]
                if size > 0.0:
                    value *= _envelope(size * frequency[c], kind[s])
                out[t, b, c] += value * complex(math.cos(phase), math.sin(phase))


def sky_visibilities(
    uvw_m: NDArray[np.float64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    frequency_hz: NDArray[np.float64],
    table: SourceTable,
    direction_tec: NDArray[np.float64] | None = None,
) -> NDArray[np.complex128]:
    """Return the Stokes I visibilities of a sky, without smearing in time or frequency.

    V = sum of S exp(2 pi i (u l + v m + w (n - 1)) / lambda), with the sign that imagers expect in
    measurement sets; u, v, w are those of the second antenna minus the first.

    Parameters
    ----------
    uvw_m : (ntime, nant, 3) float64
        Antenna coordinates, m.
    antenna1, antenna2 : (nbaseline,) int64
    frequency_hz : (nchan,) float64
    table : SourceTable
        Sky at these channels.
    direction_tec : (ntime, nsource, nant) float64, optional
        TEC along the line of sight from each antenna to each source, TECU.

    Returns
    -------
    (ntime, nbaseline, nchan) complex128
        Visibilities, Jy.
    """
    out = np.zeros((len(uvw_m), len(antenna1), len(frequency_hz)), dtype=np.complex128)
    tec = np.empty((0, 0, 0)) if direction_tec is None else direction_tec
    _accumulate(
        uvw_m, antenna1, antenna2, frequency_hz, table.lmn, table.flux_jy,
        table.axes_rad, table.pa_rad, table.kind, tec, out,
    )  # fmt: skip
    return out
