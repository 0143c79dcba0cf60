"""Which antennas are in phase with one another, by baselines that took no part in the solve.

Two stations near each other may see a source that no other baseline of theirs sees. Their
solutions then predict the baseline between them, but their phases against the rest of the array
are noise. Tested one at a time against all others they pass for coherent; so antennas are sorted
into groups here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PhaseGroups", "phase_groups"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class PhaseGroups:
    """Antennas by what they are in phase with.

    Attributes
    ----------
    main : (nant,) bool
        The array: the group of the most antennas.
    apart : (nant,) bool
        Antennas of smaller groups, in phase with each other and not with the array.
    coherence : (nant,) float64
        Weighted mean of Re(V conj(G M)) / |G M|^2 over the baselines to the array; NaN without.
    sigma : (nant,) float64
        The same over its standard deviation from noise.
    """

    main: NDArray[np.bool_]
    apart: NDArray[np.bool_]
    coherence: Float
    sigma: Float


def phase_groups(inner: Float, norm: Float, noise: float, false_alarm: float) -> PhaseGroups:
    """Sort antennas into groups in phase.

    An antenna belongs to the array when the sum over its baselines to it exceeds what noise gives
    with the probability ``false_alarm``, and so must any part of the array that baselines
    between it and the rest tie to it. Smaller groups must be as sure as the best of so many
    pairs of antennas.

    Parameters
    ----------
    inner, norm : (nant, nant) float64
        Symmetric; sums of w Re(V conj(G M)) and w |G M|^2 of each baseline, 0 without data.
    noise : float
        Variance of ``inner`` over ``norm`` where there is only noise.
    false_alarm : float
        Probability that an antenna which receives only noise is counted to the array.
    """
    from scipy.special import ndtri

    nant = len(inner)
    left = norm.sum(axis=1) > 0
    main = _group(inner, norm, noise, -float(ndtri(false_alarm)), left)
    apart = np.zeros(nant, bool)
    pairs = max(1.0, int(left.sum()) ** 2 / 2)
    strict = -float(ndtri(false_alarm / pairs))
    left = left & ~main
    while left.sum() > 1:
        found = _group(inner, norm, noise, strict, left)
        if not found.any():
            break
        apart |= found
        left &= ~found
    tied = main if main.any() else norm.sum(axis=1) > 0
    power = norm[:, tied].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        coherence = np.where(power > 0, inner[:, tied].sum(axis=1) / power, np.nan)
    return PhaseGroups(main, apart, coherence, _sigma(inner, norm, noise, tied))


def _sigma(inner: Float, norm: Float, noise: float, tied: NDArray[np.bool_]) -> Float:
    """Significance (nant,) of the baselines of each antenna to a group; NaN without data."""
    power = norm[:, tied].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma = inner[:, tied].sum(axis=1) / np.sqrt(noise * power)
    return np.where(power > 0, sigma, np.nan)


def _group(
    inner: Float, norm: Float, noise: float, limit: float, left: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The largest group among some antennas, none where nothing exceeds the limit."""
    group = left.copy()
    while group.any():
        sigma = np.where(group, np.nan_to_num(_sigma(inner, norm, noise, group), nan=-1.0), np.inf)
        worst = int(np.argmin(sigma))
        if not sigma[worst] > limit:
            group[worst] = False
            continue
        parts = _weakest_split(inner, norm, noise, np.flatnonzero(group))
        if parts is None or parts[0] > limit:
            break
        group[parts[1]] = False
    if not group.any():
        return group
    # those dropped while noise was still among the others have another chance
    others = np.nan_to_num(_sigma(inner, norm, noise, group), nan=-1.0)
    return group | (left & (others > limit))


def _weakest_split(
    inner: Float, norm: Float, noise: float, members: NDArray[np.int64]
) -> tuple[float, NDArray[np.int64]] | None:
    """How surely the two last clusters of a group hang together, and the smaller of them.

    Clusters are joined two by two, those first between which the baselines are most
    significant. None for a single antenna.
    """
    if len(members) < 2:
        return None
    clusters = [np.array([one]) for one in members]
    total, power = inner[np.ix_(members, members)], norm[np.ix_(members, members)]
    size = np.ones(len(members))
    alive = np.ones(len(members), bool)
    while True:
        with np.errstate(invalid="ignore", divide="ignore"):
            sigma = np.where(power > 0, total / np.sqrt(noise * power), -np.inf)
        sigma[~alive] = sigma[:, ~alive] = -np.inf
        np.fill_diagonal(sigma, -np.inf)
        i, j = np.unravel_index(int(np.argmax(sigma)), sigma.shape)
        if i == j:  # no baseline between the clusters that are left
            i, j = np.flatnonzero(alive)[:2]
        if alive.sum() == 2:
            smaller = min(
                (i, j), key=lambda one: (size[one], power[one, one] if size[one] > 1 else 0.0)
            )
            return float(sigma[i, j]), clusters[smaller]
        for matrix in (total, power):
            matrix[i] += matrix[j]
            matrix[:, i] += matrix[:, j]
        size[i] += size[j]
        clusters[i] = np.concatenate([clusters[i], clusters[j]])
        alive[j] = False
