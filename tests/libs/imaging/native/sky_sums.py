"""Direct Fourier sums, and measurement sets of chosen u, v, w, for the tests of the imager."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms

C_M_S = 299792458.0


def n_minus_1(east: np.ndarray, north: np.ndarray) -> np.ndarray:
    """Return n - 1 of direction cosines."""
    return np.sqrt(1 - east**2 - north**2) - 1


def fourier_sum(
    flux: np.ndarray,
    east: np.ndarray,
    north: np.ndarray,
    uvw_m: np.ndarray,
    frequency_hz: np.ndarray,
) -> np.ndarray:
    """Return visibilities of points, (nrow, nchan); flux is (n,) or (n, nchan), Jy."""
    place = np.stack([east, north, n_minus_1(east, north)])
    turns = (uvw_m @ place)[:, None, :] * (frequency_hz / C_M_S)[None, :, None]
    flux = np.asarray(flux)
    spectrum = flux.T if flux.ndim == 2 else np.broadcast_to(flux, (len(frequency_hz), len(flux)))
    return np.einsum("rcs,cs->rc", np.exp(2j * np.pi * turns), spectrum)


def direct_image(
    visibility: np.ndarray,
    uvw_m: np.ndarray,
    frequency_hz: np.ndarray,
    east: np.ndarray,
    north: np.ndarray,
) -> np.ndarray:
    """Return the sum of weighted visibilities seen toward some directions."""
    place = np.stack([east, north, n_minus_1(east, north)])
    total = np.zeros(len(east))
    for chan, hertz in enumerate(frequency_hz):
        phase = np.exp(-2j * np.pi * (uvw_m @ place) * hertz / C_M_S)
        total += (visibility[:, chan, None] * phase).real.sum(axis=0)
    return total


def earth_tracks(
    antennas: int, longest_m: float, times: int, dec_deg: float, rng: np.random.Generator
) -> np.ndarray:
    """Return u, v, w of an array on the ground followed for eight hours, (ntime * nbl, 3) m.

    Times vary slowest, as `small_ms.make_ms` has its rows.
    """
    ground = rng.normal(0, longest_m / 4, (antennas, 3)) * (1, 1, 0.1)
    one, two = np.triu_indices(antennas, 1)
    baseline = ground[two] - ground[one]
    hour = np.linspace(-1.0, 1.0, times)[:, None]
    dec, lat = np.deg2rad(dec_deg), np.deg2rad(34.0)
    # east, north, up to equatorial
    x = -np.sin(lat) * baseline[:, 1] + np.cos(lat) * baseline[:, 2]
    y = baseline[:, 0]
    z = np.cos(lat) * baseline[:, 1] + np.sin(lat) * baseline[:, 2]
    u = np.sin(hour) * x + np.cos(hour) * y
    v = -np.sin(dec) * (np.cos(hour) * x - np.sin(hour) * y) + np.cos(dec) * z
    w = np.cos(dec) * (np.cos(hour) * x - np.sin(hour) * y) + np.sin(dec) * z
    return np.stack([u, v, w], axis=-1).reshape(-1, 3)


def fill_sky(
    ms: Path, visibilities: Callable[[np.ndarray, np.ndarray], np.ndarray],
    uvw_m: np.ndarray | None = None, *, noise_jy: float = 0.0, seed: int = 3,
    frequency_hz: np.ndarray | None = None,
) -> Path:  # fmt: skip
    """Give a measurement set other u, v, w, frequencies and a sky."""
    if frequency_hz is not None:
        with open_table(f"{ms}::SPECTRAL_WINDOW", write=True) as windows:
            width = np.full(len(frequency_hz), abs(frequency_hz[1] - frequency_hz[0]))
            windows.putcell("CHAN_FREQ", 0, frequency_hz)
            windows.putcell("CHAN_WIDTH", 0, width)
    with open_table(f"{ms}::SPECTRAL_WINDOW") as windows:
        frequency = np.asarray(windows.getcell("CHAN_FREQ", 0))
    rng = np.random.default_rng(seed)
    with open_table(ms, write=True) as opened:
        if uvw_m is not None:
            opened.putcol("UVW", uvw_m)
        uvw = opened.getcol("UVW")
        data = opened.getcol("DATA")
        data[:] = visibilities(uvw, frequency)[:, :, None]
        if noise_jy:
            data += noise_jy * (rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape))
        opened.putcol("DATA", data.astype(np.complex64))
    return ms


def make_sky_ms(
    path: Path, visibilities: Callable[[np.ndarray, np.ndarray], np.ndarray], *,
    antennas: int = 12, times: int = 20, channels: int = 4, longest_m: float = 2e4,
    dec_deg: float = 40.0, seed: int = 3, noise_jy: float = 0.0,
    frequency_hz: np.ndarray | None = None,
) -> Path:  # fmt: skip
    """Make a measurement set of a sky, followed for eight hours."""
    make_ms(path, antennas=antennas, times=times, channels=channels, noise_jy=noise_jy or 0.0)
    uvw = earth_tracks(antennas, longest_m, times, dec_deg, np.random.default_rng(seed))
    return fill_sky(
        path, visibilities, uvw, noise_jy=noise_jy, seed=seed, frequency_hz=frequency_hz
    )
