"""What the scatter of solved gains leaves open: the place of the sky and the scale of fluxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import antenna_uvw
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.gains.gain_solutions import GainSolutions

__all__ = ["GainFreedom", "gain_freedom"]

_MOST_TIMES = 60  # of a table; antennas are compared, not times


@dataclass(frozen=True)
class GainFreedom:
    """Errors (1 sigma) that solving for gains adds to an image.

    Attributes
    ----------
    east_arcsec, north_arcsec : float
        Of the position of everything in the image.
    flux_scale : float
        Of all fluxes, relative.
    phase_rad : float
        rms of the phases of the antennas about the gradient, of the table where it is largest.
    """

    east_arcsec: float
    north_arcsec: float
    flux_scale: float
    phase_rad: float


def gain_freedom(
    tables: Sequence[GainSolutions], direction_rad: tuple[float, float]
) -> GainFreedom:
    """Return the errors of position and flux scale that solved gains leave.

    A gradient of phase over the array moves the sky, and self-calibration cannot tell it from a
    sky that was elsewhere. If antennas' phase errors have nothing to do with where the antennas
    stand, the gradient that they have by chance follows from their scatter. The same holds of
    the mean of log amplitudes, which scales all fluxes.

    Parameters
    ----------
    tables : sequence of GainSolutions
        All that are applied, of one execution.
    direction_rad : (float, float)
        J2000 right ascension and declination of the phase centre.

    Returns
    -------
    GainFreedom
        Zeros where there are no tables.

    Notes
    -----
    The phase of antenna a at time t is a common one plus 2 pi (u l + v m) plus an error of the
    antenna. Least squares over all times give (l, m) with the influence of each antenna; its
    covariance is the sum of their outer products, times n / (n - 2) for n antennas.
    """
    place: dict[str, NDArray[np.float64]] = {}
    scale: dict[str, float] = {}
    phase_rad = 0.0
    for table in tables:
        pulls_of, rms_rad = _gradient(table, direction_rad)
        phase_rad = max(phase_rad, rms_rad)
        for name, pull in pulls_of.items():
            place[name] = place.get(name, np.zeros(2)) + pull
        for name, mean in _log_amplitudes(table).items():
            scale[name] = scale.get(name, 0.0) + mean
    covariance = np.zeros((2, 2))
    if len(place) > 2:
        pulls = np.array(list(place.values()))
        pulls -= pulls.mean(axis=0)
        covariance = pulls.T @ pulls * len(pulls) / (len(pulls) - 2)
    logs = np.array(list(scale.values()))
    # a baseline's amplitude has two antennas' gains in it
    flux = 2.0 * float(logs.std(ddof=1)) / math.sqrt(len(logs)) if len(logs) > 1 else 0.0
    east, north = np.sqrt(np.diag(covariance)) * ARCSEC_PER_RAD
    return GainFreedom(float(east), float(north), flux, phase_rad)


def _some(count: int) -> NDArray[np.int64]:
    """Return indices of at most so many times, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_TIMES)).astype(np.int64))


def _gradient(
    table: GainSolutions, direction_rad: tuple[float, float]
) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Return how far each antenna's phases pull the sky, (l, m) in rad; rms about that, rad."""
    times = _some(len(table.time_s))
    good = ~table.flag[times]
    if not np.any(good) or np.all(np.abs(np.angle(table.gain[times][good])) < 1e-9):
        return {}, 0.0
    uvw = antenna_uvw(table.position_m, direction_rad, table.time_s[times])
    per_m = table.frequency_hz / SPEED_OF_LIGHT_M_S
    u, v = (2.0 * math.pi * uvw[:, None, :, axis, None] * per_m[None, :, None, None]
            for axis in (0, 1))  # fmt: skip
    weight = good.astype(np.float64)
    count = np.maximum(weight.sum(axis=2, keepdims=True), 1.0)
    gain = np.where(good, table.gain[times], 0.0)
    unit = gain / np.maximum(np.abs(gain), 1e-30)
    mean = unit.sum(axis=2, keepdims=True)
    phase = np.where(good, np.angle(unit * np.conj(mean)), 0.0)
    phase = np.where(good, phase - phase.sum(axis=2, keepdims=True) / count, 0.0)
    axes = [np.where(good, x - (x * weight).sum(axis=2, keepdims=True) / count, 0.0)
            for x in (u, v)]  # fmt: skip
    normal = np.array([[float((p * q).sum()) for q in axes] for p in axes])
    inverse = np.linalg.pinv(normal, rcond=1e-8, hermitian=True)
    found = inverse @ np.array([float((x * phase).sum()) for x in axes])
    left = phase - np.where(good, found[0] * axes[0] + found[1] * axes[1], 0.0)
    pulls = inverse @ np.array([(x * left).sum(axis=(0, 1, 3)) for x in axes])
    present = np.asarray(np.any(good, axis=(0, 1, 3)))
    rms_rad = math.sqrt(float((left**2).sum()) / max(int(good.sum()), 1))
    return {name: pulls[:, k] for k, name in enumerate(table.antenna) if present[k]}, rms_rad


def _log_amplitudes(table: GainSolutions) -> dict[str, float]:
    """Return the mean log amplitude of each antenna; empty where all are 1."""
    good = np.asarray(~table.flag & (np.abs(table.gain) > 0))
    logs = np.where(good, np.log(np.maximum(np.abs(table.gain), 1e-30)), 0.0)
    if not good.any() or np.all(np.abs(logs[good]) < 1e-9):
        return {}
    count = good.sum(axis=(0, 1, 3))
    mean = logs.sum(axis=(0, 1, 3)) / np.maximum(count, 1)
    return {name: float(mean[k]) for k, name in enumerate(table.antenna) if count[k]}
