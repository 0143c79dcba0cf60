"""Closure phases and log closure amplitudes of averaged baseline visibilities.

Station gains corrupt visibilities as ``V_obs = g_p conj(g_q) V_true``. The phase of the
bispectrum ``V_ij V_jk conj(V_ik)`` and the ratio ``|V_ij V_kl| / |V_ik V_jl|`` do not contain
them (Jennison 1958; Twiss, Carter & Little 1960; Thompson, Moran & Swenson 2017, sect. 10.3).

Everything is formed at the integration time of the data and averaged afterwards: bispectra as
complex numbers, amplitudes as logarithms (or as power where single integrations are mostly noise).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError

__all__ = [
    "BaselineVisibilities",
    "independent_quadrangles",
    "independent_triangles",
    "pattern_sets",
    "station_quality",
    "time_blocks",
]


Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class BaselineVisibilities:
    """Total-intensity visibilities on a (baseline, frequency, time) grid.

    Attributes
    ----------
    time_s : (ntime,) float64
        Centres of the integrations, ascending, s.
    antenna : tuple of str
        Station names; superstations are stations like any other.
    ant1, ant2 : (nbl,) int64
        Stations of each baseline, ``ant1 < ant2``.
    frequency_hz : (nfreq,) float64
        Centre of each frequency block, Hz.
    uvw_m : (nbl, ntime, 3) float64
        Baseline coordinates, m, with the sense of the UVW column: a source at direction cosines
        (l, m) has the phase ``+2 pi (u l + v m)``.
    vis : (nbl, nfreq, ntime) complex128
        Visibilities; their values are ignored where ``sigma`` is infinite.
    sigma : (nbl, nfreq, ntime) float64
        Standard deviation of the real part and of the imaginary part; ``inf`` where there are
        no data.
    """

    time_s: Float
    antenna: tuple[str, ...]
    ant1: Int
    ant2: Int
    frequency_hz: Float
    uvw_m: Float
    vis: NDArray[np.complex128]
    sigma: Float

    def __post_init__(self) -> None:
        shape = (len(self.ant1), len(self.frequency_hz), len(self.time_s))
        if self.vis.shape != shape or self.sigma.shape != shape:
            raise ValueError(f"vis {self.vis.shape}, sigma {self.sigma.shape}; axes say {shape}")
        if self.uvw_m.shape != (shape[0], shape[2], 3):
            raise ValueError(f"uvw_m has shape {self.uvw_m.shape}, not {(shape[0], shape[2], 3)}")
        if np.any(self.ant1 >= self.ant2):
            raise ValueError("every baseline needs ant1 < ant2")

    @classmethod
    def from_rows(
        cls,
        time_s: Float,
        ant1: Int,
        ant2: Int,
        uvw_m: Float,
        frequency_hz: Float,
        vis: NDArray[np.complex128],
        sigma: Float,
        antenna: Sequence[str],
    ) -> BaselineVisibilities:
        """Grid rows in any order; several rows in one cell are averaged with their weights.

        Parameters
        ----------
        time_s, ant1, ant2 : (nrow,)
            Time (s) and stations of each row; autocorrelations are left out.
        uvw_m : (nrow, 3)
            Baseline coordinates of the row, m.
        frequency_hz : (nfreq,)
            Frequency blocks, Hz.
        vis, sigma : (nrow, nfreq)
            Visibilities and the standard deviation of each of their two parts; rows with
            non-finite or non-positive sigma carry no data.
        antenna : sequence of str
            Names of all stations.

        Raises
        ------
        InputError
            No row has data.
        """
        cross = np.flatnonzero(ant1 != ant2)
        swap = ant1[cross] > ant2[cross]
        first = np.where(swap, ant2[cross], ant1[cross])
        second = np.where(swap, ant1[cross], ant2[cross])
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = sigma[cross] ** -2.0
        value = np.where(swap[:, None], np.conj(vis[cross]), vis[cross])
        good = np.isfinite(weight) & (weight > 0) & np.isfinite(value)
        if not good.any():
            raise InputError("no unflagged cross-correlations", "check flags, field and spws")
        weight = np.where(good, weight, 0.0)
        value = np.where(good, value, 0.0)
        times, itime = np.unique(time_s[cross], return_inverse=True)
        key, ibl = np.unique(first * len(antenna) + second, return_inverse=True)
        sums = np.zeros((len(key), len(times), len(frequency_hz)), complex)
        weights = np.zeros(sums.shape)
        uvw = np.zeros((len(key), len(times), 3))
        np.add.at(sums, (ibl, itime), value * weight)
        np.add.at(weights, (ibl, itime), weight)
        uvw[ibl, itime] = np.where(swap[:, None], -uvw_m[cross], uvw_m[cross])
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(weights > 0, sums / weights, 0.0)
            spread = np.where(weights > 0, weights**-0.5, np.inf)
        return cls(
            times,
            tuple(antenna),
            key // len(antenna),
            key % len(antenna),
            np.asarray(frequency_hz, float),
            uvw,
            np.ascontiguousarray(mean.transpose(0, 2, 1)),
            np.ascontiguousarray(spread.transpose(0, 2, 1)),
        )

    @property
    def length_m(self) -> Float:
        """Longest projected length of each baseline with data, (nbl,), m."""
        length = np.linalg.norm(self.uvw_m, axis=2)
        valid = np.isfinite(self.sigma).any(axis=1)
        return np.where(valid, length, 0.0).max(axis=1, initial=0.0)

    def baseline_index(self) -> Int:
        """Index of the baseline of two stations, (nant, nant), -1 where there is none."""
        index = np.full((len(self.antenna), len(self.antenna)), -1, np.int64)
        index[self.ant1, self.ant2] = np.arange(len(self.ant1))
        index[self.ant2, self.ant1] = np.arange(len(self.ant1))
        return index


def time_blocks(time_s: Float, interval_s: float) -> Int:
    """Return the first integration of each averaging block, and the number of integrations.

    A block holds the integrations within ``interval_s`` of its first one, so that a gap in the
    data starts a new block and is not averaged across.

    Returns
    -------
    (nblock + 1,) int64
    """
    starts = [0]
    for i in range(1, len(time_s)):
        # Half a part in a million keeps times at exact multiples from being split by rounding.
        if time_s[i] - time_s[starts[-1]] > interval_s * (1 - 5e-7) - 1e-6:
            starts.append(i)
    return np.array([*starts, len(time_s)], np.int64)


def station_quality(data: BaselineVisibilities) -> Float:
    """Return the median signal-to-noise ratio over each station's baselines, (nant,).

    The ratio is ``sqrt(mean(|V|^2 / sigma^2 - 2) n)^(1/2)`` of a whole baseline; it is derived
    from power, so phase errors do not affect it. Stations without data have 0.
    """
    valid = np.isfinite(data.sigma)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(valid, np.abs(data.vis) ** 2 / data.sigma**2 - 2.0, 0.0)
    count = valid.sum(axis=(1, 2))
    snr = np.sqrt(np.maximum(excess.sum(axis=(1, 2)), 0.0) / np.maximum(count, 1))
    quality = np.zeros(len(data.antenna))
    full = count.max(initial=1)
    for a in range(len(data.antenna)):
        own = ((data.ant1 == a) | (data.ant2 == a)) & (count > 0)
        if own.any():
            # Missing baselines count against a station, because a reference must reach most others.
            quality[a] = np.median(snr[own]) * np.sqrt(count[own].sum() / (full * max(own.size, 1)))
    return quality


def independent_triangles(present: NDArray[np.bool_], order: Sequence[int]) -> Int:
    """Return an independent set of triangles of the baselines present.

    The set has stars of triangles through the first station of ``order``, then through the next
    ones for baselines not covered yet. Each triangle adds a baseline that no earlier one has, so
    the set is independent; on a complete array it has all (N-1)(N-2)/2 members.

    Parameters
    ----------
    present : (nant, nant) bool
        Symmetric matrix, True where two stations have a baseline.
    order : sequence of int
        Stations, best reference first.

    Returns
    -------
    (ntriangle, 3) int64, each row ascending.
    """
    covered = ~present.copy()
    np.fill_diagonal(covered, True)
    chosen: list[tuple[int, int, int]] = []
    for r in order:
        partners = np.flatnonzero(present[r])
        star = []
        for i, j in combinations(partners.tolist(), 2):
            if not covered[i, j]:
                star.append((i, j))
        for i, j in star:
            first, second, third = sorted((r, i, j))
            chosen.append((first, second, third))
            for p, q in ((r, i), (r, j), (i, j)):
                covered[p, q] = covered[q, p] = True
        if covered.all():
            break
    return np.array(chosen, np.int64).reshape(-1, 3)


def independent_quadrangles(present: NDArray[np.bool_], order: Sequence[int]) -> Int:
    """Return an independent set of quadrangles (i, j, k, l) of ``|V_ij V_kl| / |V_ik V_jl|``.

    With r and s the best stations and t the third, it has (i, j, r, s) for every other pair, and
    (s, j, t, r); the pair (s, t) and the star of r determine the station gains. Each member has a
    baseline that no other one of its kind has. A complete array has all N(N-3)/2 of them; with
    baselines missing the set is smaller but still independent.

    Returns
    -------
    (nquad, 4) int64
    """
    stations = [int(a) for a in order if present[a].any()]
    if len(stations) < 4:
        return np.zeros((0, 4), np.int64)
    r, s, t = stations[:3]
    rest = stations[2:]
    quads = [(s, j, t, r) for j in stations[3:]]
    quads += [(i, j, r, s) for i, j in combinations(rest, 2)]
    keep = [
        (i, j, k, m)
        for i, j, k, m in quads
        if present[i, j] and present[k, m] and present[i, k] and present[j, m]
    ]
    return np.array(keep, np.int64).reshape(-1, 4)


def pattern_sets(
    present: NDArray[np.bool_],
    ant1: Int,
    ant2: Int,
    order: NDArray[np.int64],
    choose: Callable[[NDArray[np.bool_], Sequence[int]], Int],
) -> list[Int]:
    """Return independent sets of every block, computed once for each pattern of baselines.

    Parameters
    ----------
    present : (nblock, nbl) bool
        True where a block has data on a baseline.
    ant1, ant2 : (nbl,) int64
    order : (nant,) int64
        Stations, best reference first.
    choose : callable
        Function: `independent_triangles` or `independent_quadrangles`.

    Returns
    -------
    One array for each block.
    """
    known: dict[bytes, Int] = {}
    result = []
    for row in present:
        key = row.tobytes()
        if key not in known:
            matrix = np.zeros((len(order), len(order)), bool)
            matrix[ant1[row], ant2[row]] = True
            known[key] = choose(matrix | matrix.T, order.tolist())
        result.append(known[key])
    return result
