"""Simulated averaged visibilities with known components and gains, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities
from libs.core.geometry import SPEED_OF_LIGHT_M_S

ARCSEC = np.pi / 180 / 3600
EARTH_RADIUS_M = 6371e3

# Approximate longitudes and latitudes, degrees: good to some km, which is all a test needs.
LOFAR_STATIONS = {
    "ST001": (6.87, 52.91), "DE601": (6.88, 50.52), "DE602": (11.29, 48.50),
    "DE603": (11.71, 50.98), "DE604": (13.02, 52.44), "DE605": (6.42, 50.90),
    "FR606": (2.19, 47.38), "SE607": (11.93, 57.40), "UK608": (-1.43, 51.14),
    "PL610": (17.07, 52.28), "PL611": (20.49, 49.96), "PL612": (20.59, 53.59),
    "IE613": (-7.92, 53.09), "RS508": (6.95, 53.24),
}  # fmt: skip
VLBI_STATIONS = {
    "BR": (-119.7, 48.1), "FD": (-103.9, 30.6), "HN": (-71.9, 42.9), "KP": (-111.6, 31.9),
    "LA": (-106.2, 35.8), "MK": (-155.5, 19.8), "NL": (-91.6, 41.8), "OV": (-118.3, 37.2),
    "PT": (-108.1, 34.3), "SC": (-64.6, 17.8),
}  # fmt: skip


@dataclass(frozen=True)
class Gaussian:
    """An elliptical Gaussian: flux in Jy, everything else in arcsec and degrees."""

    flux_jy: float
    l_arcsec: float = 0.0
    m_arcsec: float = 0.0
    major_arcsec: float = 0.0
    minor_arcsec: float = 0.0
    pa_deg: float = 0.0

    def visibility(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Visibility at (u, v) in wavelengths; the position angle runs from north to east."""
        pa = np.deg2rad(self.pa_deg)
        along = (u * np.sin(pa) + v * np.cos(pa)) * self.major_arcsec * ARCSEC
        across = (u * np.cos(pa) - v * np.sin(pa)) * self.minor_arcsec * ARCSEC
        envelope = np.exp(-(np.pi**2) * (along**2 + across**2) / (4 * np.log(2)))
        angle = 2 * np.pi * ARCSEC * (u * self.l_arcsec + v * self.m_arcsec)
        return self.flux_jy * envelope * np.exp(1j * angle)


LOFAR_SOURCE = (Gaussian(0.4), Gaussian(0.2, 1.6, 0.7, 0.40, 0.20, 30.0))
JET_SOURCE = (
    Gaussian(0.50, 0, 0, 0.0003, 0.0002, 20.0),
    Gaussian(0.25, 0.0014, 0.0005, 0.0006, 0.0004, 70.0),
    Gaussian(0.15, 0.0034, 0.0016, 0.0010, 0.0006, 60.0),
    Gaussian(0.08, 0.0065, 0.0022, 0.0012, 0.0010, 10.0),
)


def simulate(
    stations: dict[str, tuple[float, float]],
    source: Sequence[Gaussian],
    *,
    frequency_hz: Sequence[float],
    dec_deg: float,
    hours: float,
    integration_s: float,
    sigma_jy: float,
    walk_deg_per_10min: float = 0.0,
    amplitude_error: float = 0.0,
    seed: int = 1,
) -> BaselineVisibilities:
    """Visibilities of ``source`` behind a random walk of station phases and slow gain errors.

    ``sigma_jy`` is the standard deviation of each part of one visibility.
    """
    rng = np.random.default_rng(seed)
    time_s = np.arange(0.0, hours * 3600, integration_s, dtype=np.float64)
    ant1, ant2 = np.array(list(combinations(range(len(stations)), 2))).T
    uvw_m = _uvw(np.array(list(stations.values())), ant1, ant2, time_s, dec_deg)
    frequency = np.asarray(frequency_hz, float)
    uv = uvw_m[:, None, :, :] * (frequency / SPEED_OF_LIGHT_M_S)[None, :, None, None]
    vis = sum(g.visibility(uv[..., 0], uv[..., 1]) for g in source) + np.zeros(
        uv.shape[:3], complex
    )
    step = np.deg2rad(walk_deg_per_10min) * np.sqrt(integration_s / 600)
    shape = (len(stations), len(frequency), len(time_s))
    phase = rng.uniform(-np.pi, np.pi, shape[:2])[..., None] * bool(step)
    phase = phase + step * np.cumsum(rng.standard_normal(shape), axis=2)
    gain = np.exp(1j * phase + amplitude_error * rng.standard_normal((*shape[:2], 1)))
    noise = rng.standard_normal((*vis.shape, 2)) @ np.array([1, 1j]) * sigma_jy
    return BaselineVisibilities(
        time_s,
        tuple(stations),
        ant1,
        ant2,
        frequency,
        uvw_m,
        gain[ant1] * np.conj(gain[ant2]) * vis + noise,
        np.full(vis.shape, sigma_jy),
    )


def _uvw(
    lonlat_deg: NDArray[np.float64],
    ant1: NDArray[np.int64],
    ant2: NDArray[np.int64],
    time_s: NDArray[np.float64],
    dec_deg: float,
) -> NDArray[np.float64]:
    """(nbl, ntime, 3): Thompson, Moran & Swenson 2017, eq. 4.1, transit in the middle."""
    lon, lat = np.deg2rad(lonlat_deg).T
    lon = lon - lon.mean()
    xyz = EARTH_RADIUS_M * np.stack(
        [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1
    )
    x, y, z = (xyz[ant1] - xyz[ant2]).T[:, :, None]
    hour = 2 * np.pi * (time_s - time_s.mean()) / 86164.1
    sin_h, cos_h = np.sin(hour), np.cos(hour)
    dec = np.deg2rad(dec_deg)
    u = sin_h * x + cos_h * y
    v = -np.sin(dec) * cos_h * x + np.sin(dec) * sin_h * y + np.cos(dec) * z
    w = np.cos(dec) * cos_h * x - np.cos(dec) * sin_h * y + np.sin(dec) * z
    return np.stack([u, v, w], axis=2)


def lofar_case(seed: int = 1, sigma_jy: float = 0.05) -> BaselineVisibilities:
    """A core and a component behind 300 deg of phase walk per 10 minutes."""
    return simulate(
        LOFAR_STATIONS, LOFAR_SOURCE, frequency_hz=[140e6, 150e6], dec_deg=55, hours=2,
        integration_s=8, sigma_jy=sigma_jy, walk_deg_per_10min=300, amplitude_error=0.2, seed=seed,
    )  # fmt: skip


def jet_case(seed: int = 1, sigma_jy: float = 0.01) -> BaselineVisibilities:
    """A core with three jet components on ten VLBI stations at 8 GHz."""
    return simulate(
        VLBI_STATIONS, JET_SOURCE, frequency_hz=[8.4e9], dec_deg=40, hours=6, integration_s=30,
        sigma_jy=sigma_jy, walk_deg_per_10min=200, amplitude_error=0.1, seed=seed,
    )  # fmt: skip


def noise_case(seed: int = 1, hours: float = 1.0, integration_s: float = 8) -> BaselineVisibilities:
    """No source at all."""
    return simulate(
        LOFAR_STATIONS, (), frequency_hz=[150e6], dec_deg=55, hours=hours,
        integration_s=integration_s, sigma_jy=0.1, seed=seed,
    )  # fmt: skip


def read_uvfits(path: str | Path) -> BaselineVisibilities:
    """Parallel hands of a single-channel UVFITS file (random groups), averaged.

    Cross hands of some files carry infinite weights: only finite positive ones count.
    """
    from astropy.io import fits

    with fits.open(path) as hdus:
        groups = hdus[0].data
        names = [str(name).upper() for name in groups.parnames]
        frequency_hz = float(hdus[0].header["CRVAL4"])
        stations = hdus["AIPS AN"].data
        numbers = {int(n): i for i, n in enumerate(stations["NOSTA"])}
        antenna = [str(name).strip() for name in stations["ANNAME"]]
        column = [np.asarray(groups.par(i), np.float64) for i in range(len(names))]
        cube = np.asarray(groups.data, np.float64).reshape(len(groups), -1, 3)[:, :2]
    dates = [column[i] for i, name in enumerate(names) if name == "DATE"]
    time_s = np.round((sum(dates) - np.floor(dates[0].min())) * 86400.0, 2)
    code = np.round(column[names.index("BASELINE")]).astype(int)
    ant1 = np.array([numbers[n] for n in code // 256])
    ant2 = np.array([numbers[n] for n in code % 256])
    uvw_m = np.stack(column[:3], axis=1) * SPEED_OF_LIGHT_M_S
    weight = np.where(np.isfinite(cube[..., 2]) & (cube[..., 2] > 0), cube[..., 2], 0.0)
    total = weight.sum(axis=1)
    vis = ((cube[..., 0] + 1j * cube[..., 1]) * weight).sum(axis=1) / np.maximum(total, 1e-300)
    with np.errstate(divide="ignore"):
        sigma = total**-0.5
    return BaselineVisibilities.from_rows(
        time_s, ant1, ant2, uvw_m, np.array([frequency_hz]), vis[:, None], sigma[:, None], antenna
    )
