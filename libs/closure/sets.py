"""Independent sets of triangles and quadrangles of the baselines present."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["independent_quadrangles", "independent_triangles", "pattern_sets"]

Int = NDArray[np.int64]


def independent_triangles(present: NDArray[np.bool_], order: Sequence[int]) -> Int:
    """An independent set of triangles of the baselines present.

    Stars of triangles through the first station of ``order``, then through the next ones for
    baselines not covered yet. Each triangle brings a baseline that no earlier one has, hence
    the set is independent; on a complete array it has (N-1)(N-2)/2 members, all it can have.

    Parameters
    ----------
    present : (nant, nant) bool
        Symmetric: is there a baseline between two stations.
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
    """An independent set of quadrangles: rows (i, j, k, l) of ``|V_ij V_kl| / |V_ik V_jl|``.

    With r and s the best stations and t the third: (i, j, r, s) for every other pair, and
    (s, j, t, r), the pair (s, t) and the star of r being what determines the station gains.
    Each member has a baseline that no other one of its kind has; N(N-3)/2 of them on a complete
    array, all it can have. With baselines missing it is a smaller but still independent set.

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
    """Independent sets of every block, worked out once for each pattern of baselines.

    Parameters
    ----------
    present : (nblock, nbl) bool
        Which baselines each block has.
    ant1, ant2 : (nbl,) int64
    order : (nant,) int64
        Stations, best reference first.
    choose : callable
        `independent_triangles` or `independent_quadrangles`.

    Returns
    -------
    list of (n, 3) or (n, 4) int64, one for each block.
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
