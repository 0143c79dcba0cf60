"""Position of a source from how fast its fringes turn, before any phases are calibrated.

Where phases are wild, an image shows a source anywhere. Each baseline still adds up coherently for
as long as the phases of its two stations hold, if its visibilities are turned to the place of the
source; turned to another place they are smeared (fringe-rate mapping: Giuffrida 1977, MIT thesis;
Walker 1981, AJ 86, 1323). The constant phase of each baseline does not matter, since powers are
added. Closure phases cannot tell this: those of a point are zero wherever it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities, time_blocks
from libs.core.geometry import EARTH_RATE_RAD_S, SPEED_OF_LIGHT_M_S

__all__ = ["FringePlace", "place_by_fringes"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
ModelVisibilities = Callable[[Float, Float], Complex]

FALSE_ALARM = 0.01
_LENGTHS_S = (30.0, 60.0, 120.0, 240.0, 480.0, 960.0)
_LEAST_TIMES = 3  # integrations of an interval in which fringes are followed
_GAP = 2.5  # integrations; phases may be others after so long a gap
_LEAST_COHERENCE, _SURE = 0.9, 1.0  # part of the source that is left, by so many sigma
_PER_RESOLUTION = 2.5  # places within the width to which fringes tell one
_LEAST_GRID, _MOST_GRID = 17, 129  # places along each axis, the middle one at the centre
_BASELINES = 64  # at a time
_MOST_WORK = 1e9  # products of visibilities and places; beyond it intervals are left out


@dataclass(frozen=True)
class FringePlace:
    """The place at which baselines add up best.

    Attributes
    ----------
    offset_rad : (float, float)
        Direction cosines (l, m) of the model's origin.
    sigma : float
        Excess of the power there over that at the start, in standard deviations: of the noise, or
        of its scatter over intervals and baselines where that is the larger.
    needed : float
        The value of ``sigma`` that a source at the start exceeds at any of the places looked at
        with the probability `FALSE_ALARM`.
    interval_s : float
        Time over which baselines were added up coherently.
    band : bool
        Whether they were added up over the band as well.
    """

    offset_rad: tuple[float, float]
    sigma: float
    needed: float
    interval_s: float
    band: bool

    @property
    def significant(self) -> bool:
        """Whether the source does not lie at the start."""
        return self.sigma > self.needed


def place_by_fringes(
    data: BaselineVisibilities,
    model: ModelVisibilities,
    half_width_rad: float,
    start_rad: tuple[float, float] = (0.0, 0.0),
) -> FringePlace | None:
    """Return the place of a model's origin at which the visibilities add up best.

    For a place, an interval and a baseline, S = sum w V conj(M) over the interval, with M the model
    at the place and w = 1 / sigma^2, and Q = sum |S|^2 / sum w |M|^2 over baselines and intervals.
    Of noise each term has the mean 2 and the variance 4, of a source that adds s to its mean the
    variance 4 + 4 s (non-central chi squared of two degrees of freedom). Intervals of several
    lengths are tried, with and without adding up over the band, as phases between parts of the
    band may be wild as well. Of those over which phases hold, so that as much of the source is
    left as over the shortest, that counts by which Q stands out most above its mean.

    Parameters
    ----------
    data : BaselineVisibilities
        Uncalibrated data, not averaged in time.
    model : callable
        Function ``model(uvw_m, frequency_hz)`` that returns (n, nfreq) visibilities for (n, 3)
        coordinates, m.
    half_width_rad : float
        Largest offset looked at along each axis, rad.
    start_rad : (float, float)
        Where the origin is taken to lie unless the fringes say otherwise, rad.

    Returns
    -------
    FringePlace or None
        None where no interval holds three integrations.
    """
    from scipy.stats import norm

    # two windows whose phases differ look like a shift: three are needed to tell
    looks = [
        look
        for length_s in _lengths(data)
        for band in ((False, True) if len(np.unique(data.frequency_hz)) > 2 else (False,))
        if (look := _power_map(data, model, half_width_rad, length_s, band)) is not None
    ]
    if not looks:
        return None
    best = max(_coherent(looks), key=lambda look: look.contrast)
    l0, m0 = start_rad
    there, _ = _power(data, model, (np.array([l0]), np.array([m0])), best.length_s, best.band)
    sigma = min(best.above(float(there[0, 0])), _agreed(data, model, best, start_rad))
    needed = float(norm.isf(FALSE_ALARM / sum(look.power.size for look in looks)))
    finer = _finer(data, model, best)
    return FringePlace(finer.place_rad, float(sigma), needed, best.length_s, best.band)


def _coherent(looks: list[_PowerMap]) -> list[_PowerMap]:
    """Return the looks over whose intervals and bands phases hold, with the shortest, in any case.

    Of a source whose phases hold, s does not depend on what is added up; phases that do not hold
    make it smaller, and make a place of the fringes that they turn.
    """
    first = looks[0]
    return [
        look
        for look in looks
        if look is first
        or look.excess + _SURE * look.excess_error >= _LEAST_COHERENCE * first.excess
    ]


def _lengths(data: BaselineVisibilities) -> list[float]:
    """Return the interval lengths to try, s: those that hold enough integrations, once each."""
    if len(data.time_s) < _LEAST_TIMES:
        return []
    step_s = float(np.median(np.diff(data.time_s)))
    span_s = float(np.ptp(data.time_s)) + step_s
    lengths = [length for length in _LENGTHS_S if length >= (_LEAST_TIMES - 0.5) * step_s]
    different: dict[tuple[tuple[int, int], ...], float] = {}
    for length in lengths or [span_s]:
        blocks = tuple((each.start, each.stop) for each in _blocks(data.time_s, length))
        different.setdefault(blocks, length)
    return list(different.values())


def _axis(data: BaselineVisibilities, half_width_rad: float, length_s: float, band: bool) -> Float:
    """Return the places to look at along l and m, rad: as close as fringes can tell them apart.

    On the longest baseline an offset turns the fringes within an interval by 2 pi times itself
    over the resolution.
    """
    longest = float(data.length_m.max()) * float(data.frequency_hz.max()) / SPEED_OF_LIGHT_M_S
    width = float(np.ptp(data.frequency_hz)) / float(data.frequency_hz.max()) if band else 0.0
    turn = max(longest * max(EARTH_RATE_RAD_S * length_s, width), 1e-300)
    count = int(np.clip(2.0 * half_width_rad * turn * _PER_RESOLUTION, _LEAST_GRID, _MOST_GRID))
    return np.linspace(-half_width_rad, half_width_rad, count | 1)


@dataclass(frozen=True)
class _PowerMap:
    """Q at each place, (nl, nm), the places, and what was added up.

    Attributes
    ----------
    power : (nl, nm) float64
    terms : int
        Baselines, intervals and parts of the band that were added.
    along_l, along_m : (nl,), (nm,) float64
        Regular direction cosines.
    length_s, band : float, bool
        As in `FringePlace`.
    """

    power: Float
    terms: int
    along_l: Float
    along_m: Float
    length_s: float
    band: bool

    @property
    def highest(self) -> tuple[int, int]:
        """Place of the highest power, as indices."""
        at = np.unravel_index(int(self.power.argmax()), self.power.shape)
        return int(at[0]), int(at[1])

    @property
    def contrast(self) -> float:
        """Excess of the highest power over the mean of all places, in its standard deviations."""
        return float(self.power.max() - self.power.mean()) / self.excess_error

    @property
    def excess(self) -> float:
        """Excess of the highest power over what noise has in the mean."""
        return float(self.power.max()) - 2.0 * self.terms

    @property
    def excess_error(self) -> float:
        """Standard deviation of the highest power."""
        return float(np.sqrt(self._variance(float(self.power.max()))))

    @property
    def place_rad(self) -> tuple[float, float]:
        """Maximum of a parabola along each axis through the highest power, (l, m)."""
        i, j = self.highest
        return _vertex(self.power[:, j], i, self.along_l), _vertex(self.power[i], j, self.along_m)

    def _variance(self, power: float) -> float:
        return 4.0 * self.terms + 4.0 * max(power - 2.0 * self.terms, 0.0)

    def above(self, power: float) -> float:
        """Return the excess of the highest power over another, both as independent, sigma."""
        highest = float(self.power.max())
        error = np.sqrt(self._variance(highest) + self._variance(power))
        return (highest - power) / float(error)


def _agreed(
    data: BaselineVisibilities,
    model: ModelVisibilities,
    look: _PowerMap,
    start_rad: tuple[float, float],
) -> float:
    """Return the excess of the highest power over that at the start, in units of its scatter.

    Phases that wander turn the fringes of a bright source by much more than its noise does, but
    differently in each interval and on each antenna; a source that lies elsewhere gains power in
    all of them. The baselines of an interval share antennas: the variance of the sum is taken as
    twice that of independent baselines, as for held-out folds (`libs.heldout.scores`).
    """
    i, j = look.highest
    place = float(look.along_l[i]), float(look.along_m[j])
    blocks, groups = _blocks(data.time_s, look.length_s), _groups(data.frequency_hz, look.band)
    gained = np.zeros((len(blocks), len(data.ant1)))
    for number, block in enumerate(blocks):
        for cell in _cells(data, model, block, groups):
            np.add.at(gained[number], cell.baseline, cell.power(place) - cell.power(start_rad))
    scatter = float(np.sqrt(2.0 * np.sum((gained - gained.mean()) ** 2)))
    return float(gained.sum()) / scatter if scatter > 0 else 0.0


@dataclass(frozen=True)
class _Cell:
    """Samples of some baselines that are added up coherently, each baseline by itself.

    Attributes
    ----------
    baseline : (nbl,) int64
        Their numbers among all.
    value : (nbl, nsample) complex128
        w V conj(M).
    norm : (nbl,) float64
        Sums of w |M|^2.
    u, v : (nbl, nsample) float64
        In wavelengths.
    """

    baseline: NDArray[np.int64]
    value: Complex
    norm: Float
    u: Float
    v: Float

    def power(self, place_rad: tuple[float, float]) -> Float:
        """Return what each baseline adds to Q at one place, (nbl,)."""
        turn = np.exp(-2j * np.pi * (self.u * place_rad[0] + self.v * place_rad[1]))
        total = (self.value * turn).sum(axis=1)
        return np.asarray((total.real**2 + total.imag**2) / self.norm)


def _power_map(
    data: BaselineVisibilities,
    model: ModelVisibilities,
    half_width_rad: float,
    length_s: float,
    band: bool,
) -> _PowerMap | None:
    """Return Q over the whole field; None where the intervals hold too few integrations."""
    axis = _axis(data, half_width_rad, length_s, band)
    power, terms = _power(data, model, (axis, axis), length_s, band)
    return _PowerMap(power, terms, axis, axis, length_s, band) if terms else None


def _finer(data: BaselineVisibilities, model: ModelVisibilities, coarse: _PowerMap) -> _PowerMap:
    """Return Q about the highest place of a map, eight times as fine."""
    i, j = coarse.highest
    step = coarse.along_l[1] - coarse.along_l[0]
    near = np.linspace(-step, step, 17)
    axes = coarse.along_l[i] + near, coarse.along_m[j] + near
    power, terms = _power(data, model, axes, coarse.length_s, coarse.band)
    return _PowerMap(power, terms, *axes, coarse.length_s, coarse.band)


def _power(
    data: BaselineVisibilities,
    model: ModelVisibilities,
    axes: tuple[Float, Float],
    length_s: float,
    band: bool,
) -> tuple[Float, int]:
    """Return Q at each place, and the number of terms."""
    along_l, along_m = axes
    blocks = _blocks(data.time_s, length_s)
    groups = _groups(data.frequency_hz, band)
    work = data.vis.size * len(along_l) * len(along_m)
    every = max(1, int(np.ceil(work / _MOST_WORK)))
    power, terms = np.zeros((len(along_l), len(along_m))), 0
    for block in blocks[::every]:
        for cell in _cells(data, model, block, groups):
            scaled = (cell.value / np.sqrt(cell.norm)[:, None]).astype(np.complex64)
            turned = _turns(along_l, cell.u) * scaled[:, None]
            total = turned @ _turns(along_m, cell.v).swapaxes(1, 2)
            power += (total.real**2 + total.imag**2).sum(axis=0, dtype=np.float64)
            terms += len(cell.norm)
    return power, terms


def _turns(places: Float, wavelengths: Float) -> NDArray[np.complex64]:
    """Return exp(-2 pi i x u), (nbl, nplace, nsample), in single precision, which is enough."""
    angle = -2.0 * np.pi * places[None, :, None] * wavelengths[:, None]
    result = np.empty(angle.shape, np.complex64)
    result.real, result.imag = np.cos(angle, dtype=np.float32), np.sin(angle, dtype=np.float32)
    return result


def _blocks(time_s: Float, length_s: float) -> list[slice]:
    """Return the intervals that hold enough integrations; none spans a gap in the data."""
    gaps = np.flatnonzero(np.diff(time_s) > _GAP * np.median(np.diff(time_s))) + 1
    blocks = []
    for start, end in pairwise([0, *gaps, len(time_s)]):
        for low, high in pairwise(time_blocks(time_s[start:end], length_s)):
            if high - low >= _LEAST_TIMES:
                blocks.append(slice(start + int(low), start + int(high)))
    return blocks


def _groups(frequency_hz: Float, band: bool) -> list[NDArray[np.int64]]:
    """Return the blocks that are added up coherently: each alone, or those of one hand."""
    if not band:
        return [np.array([block]) for block in range(len(frequency_hz))]
    _, which, count = np.unique(frequency_hz, return_inverse=True, return_counts=True)
    seen = np.zeros(len(count), np.int64)
    hand = np.zeros(len(frequency_hz), np.int64)
    for block, number in enumerate(which):
        hand[block] = seen[number]
        seen[number] += 1
    return [np.flatnonzero(hand == number) for number in range(int(seen.max()))]


def _cells(
    data: BaselineVisibilities,
    model: ModelVisibilities,
    block: slice,
    groups: list[NDArray[np.int64]],
) -> Iterator[_Cell]:
    """Yield a cell for each group and some baselines, without those that have too few samples."""
    times = block.stop - block.start
    for low in range(0, len(data.ant1), _BASELINES):
        some = slice(low, low + _BASELINES)
        uvw_m = data.uvw_m[some, block]
        shape = (len(uvw_m), times, len(data.frequency_hz))
        expected = model(uvw_m.reshape(-1, 3), data.frequency_hz).reshape(shape).swapaxes(1, 2)
        sigma, vis = data.sigma[some, :, block], data.vis[some, :, block]
        weight = np.where(np.isfinite(sigma), 1.0 / sigma**2, 0.0)
        inner = np.where(weight > 0, weight * vis * np.conj(expected), 0.0)
        norm = weight * np.abs(expected) ** 2
        for group in groups:
            total = norm[:, group].sum(axis=(1, 2))
            used = (weight[:, group] > 0).sum(axis=(1, 2)) >= _LEAST_TIMES
            used &= total > 0
            if not used.any():
                continue
            flat = (int(used.sum()), len(group) * times)
            per_m = data.frequency_hz[group, None] / SPEED_OF_LIGHT_M_S
            u, v = ((per_m * uvw_m[used, None, :, k]).reshape(flat) for k in (0, 1))
            yield _Cell(
                low + np.flatnonzero(used), inner[used][:, group].reshape(flat), total[used], u, v
            )


def _vertex(power: Float, at: int, axis: Float) -> float:
    """Return the maximum of the parabola through a point and its neighbours; at an edge, that."""
    if not 0 < at < len(axis) - 1:
        return float(axis[at])
    below, here, above = power[at - 1 : at + 2]
    bend = 2.0 * here - below - above
    part = 0.5 * (above - below) / bend if bend > 0 else 0.0
    return float(axis[at] + part * (axis[1] - axis[0]))
