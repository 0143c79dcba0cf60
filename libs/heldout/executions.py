"""Offsets in position and flux scale between executions of one target, from their visibilities.

Both are sought in what gains of antennas cannot imitate. The flux scale comes from products of
two halves of the band, in which the phases of antennas cancel and noise has no mean. The position
comes from the whole array, and counts only as far as antennas that had no part in finding it are
predicted better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from libs.core.coordinates import antenna_uvw
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.gains.normal_equations import NormalEquations

__all__ = ["FEWEST_ANTENNAS", "ExecutionSums", "Offset", "measure_offset"]

FEWEST_ANTENNAS = 6
SIGMA = 5.0  # the fall of chance in a few offsets is below 1e-5
_GROUPS = 8
_SPLITS = 4
_SEARCH_BEAMS = 2.0
_STEPS_PER_BEAM = 5
_NEWTON_STEPS = 30
_MOST_SEARCHED = 200_000
_NEGLIGIBLE_BEAM = 0.02
_NEGLIGIBLE_SCALE = 0.01


@dataclass(frozen=True)
class ExecutionSums:
    """Sums over one execution's visibilities V against a model M that all executions share.

    Attributes
    ----------
    vis : (ntime, nblock, nbl, npol) complex128
        Sums of w V conj(M).
    weight : (ntime, nblock, nbl, npol) float64
        Sums of w |M|^2.
    uv_wavelengths : (ntime, nblock, nbl, 2) float64
        With the sign by which a source at (l, m) has the phase 2 pi (u l + v m).
    antenna1, antenna2 : (nbl,) int64
    """

    vis: NDArray[np.complex128]
    weight: NDArray[np.float64]
    uv_wavelengths: NDArray[np.float64]
    antenna1: NDArray[np.int64]
    antenna2: NDArray[np.int64]

    @classmethod
    def of(
        cls, equations: NormalEquations, direction_rad: tuple[float, float], uvw_sign: int
    ) -> ExecutionSums:
        """Return the sums of normal equations.

        Parameters
        ----------
        equations : NormalEquations
        direction_rad : (float, float)
            Phase centre, J2000.
        uvw_sign : int
            1 where UVW of the measurement set is ANTENNA2 minus ANTENNA1, -1 for the reverse.
        """
        place = uvw_sign * antenna_uvw(equations.position_m, direction_rad, equations.time_s)
        first, second = equations.antenna1, equations.antenna2
        uv_m = place[:, second, :2] - place[:, first, :2]
        per_m = equations.frequency_hz / SPEED_OF_LIGHT_M_S
        uv = uv_m[:, None] * per_m[None, :, None, None]
        return cls(equations.vis, equations.weight, uv, first, second)

    @cached_property
    def antennas(self) -> NDArray[np.int64]:
        """Antennas with data."""
        seen = (self.weight > 0).any(axis=(0, 1, 3))
        return np.unique(np.concatenate([self.antenna1[seen], self.antenna2[seen]]))

    @cached_property
    def beam_rad(self) -> float:
        """Width of the beam, about 1 / (2 pi) of the inverse of the rms baseline times 2.35."""
        weight = self.weight.sum(axis=3)
        square = (self.uv_wavelengths**2).sum(axis=3)
        rms = np.sqrt(float((weight * square).sum() / (2 * weight.sum())))
        return float(2.355 / (2 * np.pi * rms))

    def length_range(self) -> tuple[float, float]:
        """Return the range of baseline lengths that holds all but 2 % of the data, wavelengths."""
        length = np.sqrt((self.uv_wavelengths**2).sum(axis=3))[self.weight.sum(axis=3) > 0]
        return float(np.quantile(length, 0.01)), float(np.quantile(length, 0.99))

    def within(self, low: float, high: float) -> ExecutionSums:
        """Return the sums of baselines within a range of lengths, wavelengths."""
        length = np.sqrt((self.uv_wavelengths**2).sum(axis=3))
        inside = ((length >= low) & (length <= high))[..., None]
        return ExecutionSums(
            np.where(inside, self.vis, 0), np.where(inside, self.weight, 0.0),
            self.uv_wavelengths, self.antenna1, self.antenna2,
        )  # fmt: skip

    def among(self, antennas: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which baselines are between some antennas, (nbl,)."""
        return np.isin(self.antenna1, antennas) & np.isin(self.antenna2, antennas)


@dataclass(frozen=True)
class Offset:
    """By what an execution differs from the reference.

    Attributes
    ----------
    offset_rad, offset_error_rad : (float, float)
        (l, m) by which its sky lies too far east and north, with errors (1 sigma).
    scale, scale_error : float
        Factor of its fluxes; 1 where the band cannot be halved.
    moved, scaled : bool
        Whether position and scale differ: at 5 sigma, by more than matters, and predicting
        antennas that were held out.
    beam_rad : float
    """

    offset_rad: tuple[float, float]
    offset_error_rad: tuple[float, float]
    scale: float
    scale_error: float
    moved: bool
    scaled: bool
    beam_rad: float


def measure_offset(reference: ExecutionSums, other: ExecutionSums, seed: int = 0) -> Offset:
    """Return by what one execution differs from another, both against one model.

    Parameters
    ----------
    reference, other : ExecutionSums
        Sums against a model made of the reference.
    seed : int
        Of the choice of antennas that are held out.

    Notes
    -----
    Only baselines of lengths that both have take part: elsewhere the model is not known. Errors
    are those of leaving out groups of antennas in turn, so that the errors of antennas count.
    """
    ranges = [each.length_range() for each in (reference, other)]
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    one, two = reference.within(low, high), other.within(low, high)
    beam = two.beam_rad
    start = _search(two, beam)
    every = np.ones(len(two.antenna1), bool)
    own, place = _refine(one, every, np.zeros(2)), _refine(two, every, start)
    offset = place - own
    error = np.hypot(_jackknife_position(one, own, seed), _jackknife_position(two, place, seed))
    ratio, ratio_error = _scale_ratio(one, two, seed)
    moved = bool(
        np.hypot(*offset) > SIGMA * np.hypot(*error)
        and np.hypot(*offset) > _NEGLIGIBLE_BEAM * beam
        and _position_holds(two, place, own, seed)
    )
    scaled = bool(
        abs(ratio - 1) > max(SIGMA * ratio_error, _NEGLIGIBLE_SCALE)
        and _scale_holds(one, two, seed)
    )
    return Offset(
        (float(offset[0]), float(offset[1])), (float(error[0]), float(error[1])),
        ratio, ratio_error, moved, scaled, beam,
    )  # fmt: skip


# -- position --------------------------------------------------------------------------------------


@njit(parallel=True, cache=True)
def _score(
    vis: NDArray[np.complex128], uv: NDArray[np.float64], place: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sums of Re(V conj(M) exp(-i phase)) at places (n, 2), rad."""
    found = np.zeros(place.shape[0])
    for n in prange(place.shape[0]):
        total = 0.0
        for i in range(vis.shape[0]):
            phase = 2 * np.pi * (uv[i, 0] * place[n, 0] + uv[i, 1] * place[n, 1])
            total += vis[i].real * np.cos(phase) + vis[i].imag * np.sin(phase)
        found[n] = total
    return found


def _samples(
    sums: ExecutionSums, baselines: NDArray[np.bool_]
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Return the visibilities of both hands together and their coordinates, without gaps."""
    vis = sums.vis[:, :, baselines].sum(axis=3)
    there = sums.weight[:, :, baselines].sum(axis=3) > 0
    return vis[there], sums.uv_wavelengths[:, :, baselines][there]


def _search(sums: ExecutionSums, beam_rad: float) -> NDArray[np.float64]:
    """Return the place on a grid of some beams where the model fits best, rad."""
    vis, uv = _samples(sums, np.ones(len(sums.antenna1), bool))
    step = max(1, len(vis) // _MOST_SEARCHED)
    count = round(_SEARCH_BEAMS * _STEPS_PER_BEAM)
    axis = np.arange(-count, count + 1) * beam_rad / _STEPS_PER_BEAM
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(places[np.argmax(_score(vis[::step], uv[::step], places))])


def _refine(
    sums: ExecutionSums, baselines: NDArray[np.bool_], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the best place by Newton's steps from a start; the start where they run away."""
    vis, uv = _samples(sums, baselines)
    place = start.astype(float)
    for _ in range(_NEWTON_STEPS):
        turned = vis * np.exp(-2j * np.pi * (uv @ place))
        slope = 2 * np.pi * (turned.imag @ uv)
        curvature = (2 * np.pi) ** 2 * (uv.T * turned.real) @ uv
        if np.linalg.eigvalsh(curvature)[0] <= 0:
            return start
        step = np.linalg.solve(curvature, slope)
        place = place + step
        if np.hypot(*step) < 1e-4 * sums.beam_rad:
            break
    return place if np.hypot(*(place - start)) < sums.beam_rad else start


def _groups(sums: ExecutionSums, seed: int) -> list[NDArray[np.int64]]:
    """Divide the antennas at random into groups that are left out in turn."""
    mixed = np.random.default_rng(seed).permutation(sums.antennas)
    return np.array_split(mixed, min(_GROUPS, len(mixed)))


def _jackknife(values: Sequence[NDArray[np.float64] | float]) -> NDArray[np.float64]:
    """Return the error of an estimate by those without a group each."""
    found = np.asarray(values, float)
    count = len(found)
    return np.sqrt((count - 1) / count * ((found - found.mean(axis=0)) ** 2).sum(axis=0))


def _without(sums: ExecutionSums, group: NDArray[np.int64]) -> NDArray[np.bool_]:
    return sums.among(np.setdiff1d(sums.antennas, group))


def _jackknife_position(
    sums: ExecutionSums, place: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    groups = _groups(sums, seed)
    return _jackknife([_refine(sums, _without(sums, group), place) for group in groups])


def _halves(sums: ExecutionSums, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return pairs of disjoint halves of the antennas, each way round."""
    rng = np.random.default_rng(seed + 1)
    found = []
    for _ in range(_SPLITS):
        one, two = np.array_split(rng.permutation(sums.antennas), 2)
        found += [(one, two), (two, one)]
    return found


def _position_holds(
    sums: ExecutionSums, place: NDArray[np.float64], own: NDArray[np.float64], seed: int
) -> bool:
    """Whether the place found by one half of the antennas fits the other's baselines better."""
    for found_by, held_out in _halves(sums, seed):
        found = _refine(sums, sums.among(found_by), place)
        vis, uv = _samples(sums, sums.among(held_out))
        here, there = _score(vis, uv, np.stack([own, found]))
        if there <= here:
            return False
    return True


# -- flux scale ------------------------------------------------------------------------------------


def _power(sums: ExecutionSums, baselines: NDArray[np.bool_]) -> float:
    """Return the flux of the data over that of the model, from products of halves of the band.

    Where there is one frequency block, neighbouring times take the place of the halves. NaN
    where neither can be had.
    """
    vis, weight = sums.vis[:, :, baselines], sums.weight[:, :, baselines]
    axis = 1 if vis.shape[1] > 1 else 0
    if vis.shape[axis] < 2:
        return float("nan")
    pairs = vis.shape[axis] // 2 * 2
    index = [np.arange(start, pairs, 2) for start in (0, 1)]
    data = [np.take(vis, i, axis=axis) for i in index]
    model = [np.take(weight, i, axis=axis) for i in index]
    if axis == 1:
        data, model = [d.sum(axis=1) for d in data], [m.sum(axis=1) for m in model]
    product = float((data[0] * np.conj(data[1])).real.sum())
    expected = float((model[0] * model[1]).sum())
    if expected <= 0 or product <= 0:
        return float("nan")
    return float(np.sqrt(product / expected))


def _scale_ratio(one: ExecutionSums, two: ExecutionSums, seed: int) -> tuple[float, float]:
    """Return the ratio of the executions' fluxes and its error; (1, inf) where it is unknown."""
    ratio, variance = 1.0, 0.0
    for sums, power in ((one, -1), (two, 1)):
        value = _power(sums, np.ones(len(sums.antenna1), bool))
        parts = [_power(sums, _without(sums, group)) for group in _groups(sums, seed)]
        if not np.all(np.isfinite([value, *parts])):
            return 1.0, float("inf")
        ratio *= value**power
        variance += float(_jackknife(parts) / value) ** 2
    return ratio, ratio * float(np.sqrt(variance))


def _scale_holds(one: ExecutionSums, two: ExecutionSums, seed: int) -> bool:
    """Whether the ratio found by one half of the antennas is nearer to the other half's than 1."""
    whole = _power(one, np.ones(len(one.antenna1), bool))
    for found_by, held_out in _halves(two, seed):
        found = _power(two, two.among(found_by)) / whole
        other = _power(two, two.among(held_out)) / whole
        if not abs(np.log(other) - np.log(found)) < abs(np.log(other)):
            return False
    return True
