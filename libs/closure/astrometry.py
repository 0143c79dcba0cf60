"""Position of a source from phases that change over the band, which its gains cannot absorb.

Self-calibration against a model at a wrong position moves the source there: the gains absorb the
phase of the shift at the middle of the band. A slope over the band remains,
2 pi (f' - f) (u l + v m + w (n - 1)) / c between two frequencies, which limits the dynamic range.
The phase between two frequencies of one baseline is free of gains that both share, so it gives
the position before anything is calibrated (the principle of delay astrometry: Thompson, Moran &
Swenson 2017, Interferometry and Synthesis in Radio Astronomy, ch. 12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities, time_blocks
from libs.core.geometry import SPEED_OF_LIGHT_M_S

__all__ = ["Placement", "place_by_band"]

Float = NDArray[np.float64]
ModelVisibilities = Callable[[Float, Float], NDArray[np.complex128]]

_ITERATIONS = 10
_CONVERGED = 1e-3  # as a fraction of the error
_SIGNIFICANT = 3.0
_NEGLIGIBLE = 1e-9  # as a fraction of the largest weight


@dataclass(frozen=True)
class Placement:
    """A position and its error.

    Attributes
    ----------
    offset_rad : (float, float)
        Direction cosines (l, m) of the model's origin.
    error_rad : float
        Error of the larger axis from leaving out each antenna in turn, so that one constant delay
        of each antenna is included. For noise of the baselines alone, which is then left out
        twice, it is a factor of root 2 too large.
    significant : bool
        True when the position differs from the start by more than three times the error.
    """

    offset_rad: tuple[float, float]
    error_rad: float
    significant: bool


@dataclass(frozen=True)
class _Slopes:
    """Phases between pairs of frequencies, and their change per radian of offset.

    ``product`` (npair, nbl, ntime) has the expected value exp(i phase); ``weight`` is the weight
    of the phase, rad^-2; ``turn_hz`` (npair,) is the difference of the frequencies.
    """

    product: NDArray[np.complex128]
    weight: Float
    turn_hz: Float


def place_by_band(
    data: BaselineVisibilities,
    model: ModelVisibilities,
    start_rad: tuple[float, float] = (0.0, 0.0),
    interval_s: float = 60.0,
) -> Placement | None:
    """Return the position of a model's origin on the sky.

    It fits (l, m) to the phases of V(f') conj(V(f)) conj(M(f')) M(f): first between neighbouring
    frequency blocks, which have no ambiguities over the widest field, then between the two halves
    of the band, which constrain it best.

    Parameters
    ----------
    data : BaselineVisibilities
        Uncalibrated data, with one or more blocks for each hand.
    model : callable
        Function ``model(uvw_m, frequency_hz)`` that returns (n, nfreq) visibilities, Jy, for
        (n, 3) coordinates, m.
    start_rad : (float, float)
        Direction cosines of the starting position.
    interval_s : float
        Averaging time of the products, s.

    Returns
    -------
    Placement or None
        None when the band has only one block or the phases do not determine a position.
    """
    hands = _hands(data.frequency_hz)
    if hands.shape[1] < 2:
        return None
    place = np.array(start_rad, np.float64)
    for lag in sorted({1, max(1, hands.shape[1] // 2)}):
        slopes, uvw_m = _slopes(data, model, hands, lag, interval_s)
        fitted = _fit(slopes, uvw_m, place)
        if fitted is None:
            return None
        place = fitted
    error = _jackknife(slopes, uvw_m, place, data.ant1, data.ant2)
    moved = float(np.hypot(*(place - np.array(start_rad))))
    if not np.isfinite(error) or np.hypot(*place) >= 1:
        return None
    return Placement((float(place[0]), float(place[1])), error, moved > _SIGNIFICANT * error)


def _hands(frequency_hz: Float) -> NDArray[np.int64]:
    """Return (nhand, nfreq) blocks of each hand, by frequency; blocks without both are left out."""
    _, which, count = np.unique(frequency_hz, return_inverse=True, return_counts=True)
    most = int(count.max())
    full = np.flatnonzero(count == most)
    return np.array([np.flatnonzero(which == number) for number in full], np.int64).T


def _slopes(
    data: BaselineVisibilities,
    model: ModelVisibilities,
    hands: NDArray[np.int64],
    lag: int,
    interval_s: float,
) -> tuple[_Slopes, Float]:
    """Return averaged products of all pairs ``lag`` blocks apart, and uvw (nbl, ntime, 3), m."""
    edges = time_blocks(data.time_s, interval_s)[:-1]
    count = np.diff(np.append(edges, len(data.time_s)))
    uvw_m = np.add.reduceat(data.uvw_m, edges, axis=1) / count[:, None]
    low, high = hands[:, :-lag].ravel(), hands[:, lag:].ravel()
    shape = (len(low), len(data.ant1), len(edges))
    product, weight = np.zeros(shape, np.complex128), np.zeros(shape)
    first_hand = hands[0]
    expected = {
        int(block): model(data.uvw_m.reshape(-1, 3), data.frequency_hz[[block]]).reshape(
            data.uvw_m.shape[:2]
        )
        for block in first_hand
    }
    twin = {int(block): int(first_hand[i]) for row in hands for i, block in enumerate(row)}
    for pair, (f, g) in enumerate(zip(low, high, strict=True)):
        lower, upper = expected[twin[int(f)]], expected[twin[int(g)]]
        size = np.abs(lower) ** 2 * np.abs(upper) ** 2
        value = data.vis[:, g] * np.conj(data.vis[:, f]) * np.conj(upper) * lower
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            noise_f = data.sigma[:, f] ** 2 / np.abs(lower) ** 2
            noise_g = data.sigma[:, g] ** 2 / np.abs(upper) ** 2
            # variance of a product's phase, including the product of both noises
            one = 1.0 / (noise_f + noise_g + 2 * noise_f * noise_g)
            one = np.where(np.isfinite(one) & (size > 0), one, 0.0)
            # where the model is resolved out its amplitudes are too small to divide by
            one[one < _NEGLIGIBLE * one.max(initial=0.0)] = 0.0
            phasor = np.where(one > 0, value / size, 0.0)
        weight[pair] = np.add.reduceat(one, edges, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.add.reduceat(phasor * one, edges, axis=1) / weight[pair]
        product[pair] = np.where(weight[pair] > 0, mean, 0.0)
    return _Slopes(product, weight, data.frequency_hz[high] - data.frequency_hz[low]), uvw_m


def _normal(slopes: _Slopes, uvw_m: Float, place: Float) -> tuple[Float, Float]:
    """Return the normal matrix (nbl, 2, 2) and right-hand side (nbl, 2) of a step by baseline."""
    height = np.sqrt(1 - place @ place)
    path_m = uvw_m @ np.array([*place, height - 1])
    slope_m = uvw_m[..., :2] - uvw_m[..., 2:] * place / height
    matrix = np.zeros((uvw_m.shape[0], 2, 2))
    right = np.zeros((uvw_m.shape[0], 2))
    for product, weight, turn_hz in zip(slopes.product, slopes.weight, slopes.turn_hz, strict=True):
        per_m = 2 * np.pi * turn_hz / SPEED_OF_LIGHT_M_S
        left = (product * np.exp(-1j * per_m * path_m)).imag
        matrix += per_m**2 * np.einsum("bt,btx,bty->bxy", weight, slope_m, slope_m)
        right += per_m * np.einsum("bt,btx->bx", weight * left, slope_m)
    return matrix, right


def _fit(slopes: _Slopes, uvw_m: Float, place: Float) -> Float | None:
    """Take Gauss-Newton steps from ``place``; return None where they do not converge."""
    for _ in range(_ITERATIONS):
        matrix, right = (part.sum(axis=0) for part in _normal(slopes, uvw_m, place))
        # the condition of a positive 2 x 2 matrix is at most trace^2 over determinant
        if not np.trace(matrix) ** 2 < 1e10 * np.linalg.det(matrix):
            return None
        covariance = np.linalg.inv(matrix)
        step = covariance @ right
        place = place + step
        if np.hypot(*place) >= 1:
            return None
        if step @ matrix @ step < _CONVERGED**2:
            return np.asarray(place)
    return None


def _jackknife(
    slopes: _Slopes,
    uvw_m: Float,
    place: Float,
    ant1: NDArray[np.int64],
    ant2: NDArray[np.int64],
) -> float:
    """Return the standard error of the position, rad, from leaving out each antenna in turn."""
    matrix, right = _normal(slopes, uvw_m, place)
    antennas = np.union1d(ant1, ant2)
    steps = []
    for antenna in antennas:
        keep = (ant1 != antenna) & (ant2 != antenna)
        normal = matrix[keep].sum(axis=0)
        if np.linalg.matrix_rank(normal) < 2:
            return float("inf")
        steps.append(np.linalg.solve(normal, right[keep].sum(axis=0)))
    count = len(antennas)
    if count < 3:
        return float("inf")
    spread = np.array(steps) - np.mean(steps, axis=0)
    return float(np.sqrt((count - 1) / count * (spread**2).sum(axis=0)).max())
