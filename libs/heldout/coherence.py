"""Which antennas are in phase with the array, by baselines that took no part in the solve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.gains.normal_equations import NormalEquations
from libs.heldout.folds import FOLDS, Candidate, solve_without
from libs.heldout.phase_groups import phase_groups
from libs.heldout.scores import FOLD_SCATTER

__all__ = ["HeldOutCoherence", "held_out_coherence"]


@dataclass(frozen=True)
class HeldOutCoherence:
    """Whether corrected visibilities that were held out of the solve show the source.

    Attributes
    ----------
    antenna : tuple of str
    coherence : (nant,) float64
        Weighted mean of Re(V conj(G M)) / |G M|^2 over the held-out baselines of each antenna to
        the coherent ones: 1 when they are as the model says, 0 for noise; NaN without data.
    sigma : (nant,) float64
        The same over its standard deviation from noise; NaN without data.
    coherent : (nant,) bool
        In phase with the array.
    false_alarm : float
        Probability that an antenna which receives only noise is called coherent.
    apart : tuple of str
        Antennas in phase with neighbours of theirs, but not with the array.
    explained : float
        Fall of sum w |V - f G M|^2 over the held-out visibilities of coherent antennas by the
        source, at the flux f that they show; 0 where that is negative.
    """

    antenna: tuple[str, ...]
    coherence: NDArray[np.float64]
    sigma: NDArray[np.float64]
    coherent: NDArray[np.bool_]
    false_alarm: float
    apart: tuple[str, ...] = ()
    explained: float = np.nan


def held_out_coherence(
    equations: NormalEquations,
    candidate: Candidate,
    *,
    refants: Sequence[int] = (),
    minblperant: int = 4,
    folds: int = FOLDS,
    false_alarm: float = 0.01,
) -> HeldOutCoherence:
    """Test each antenna's solutions on baselines that took no part in them.

    The gains of a fold are independent of the noise of the baselines it holds out, so for an
    antenna that sees only noise the sum of w Re(V conj(G M)) over its held-out baselines is
    normal with variance s^2 sum w |G M|^2 in each fold, whatever the number of samples and
    whether both polarizations share a gain or not. Every baseline is held out once, so all data
    are used; that the folds share baselines is allowed for by ``FOLD_SCATTER``. The threshold
    then follows from the false-alarm rate alone. Antennas are tested against those that are in
    phase (:func:`libs.heldout.phase_groups.phase_groups`).
    """
    shape = (len(equations.antenna), len(equations.antenna))
    inner, norm = np.zeros(shape), np.zeros(shape)
    across, count = 0.0, 0
    for fits in solve_without(equations, candidate, refants, minblperant, folds):
        *parts, off, predicted = fits.project(equations)
        for total, part in zip((inner, norm), parts, strict=True):
            np.add.at(total, (equations.antenna1, equations.antenna2), part.sum(axis=0))
        across, count = across + off, count + predicted
    noise = FOLD_SCATTER**2 * across / count if count else np.inf
    groups = phase_groups(inner + inner.T, norm + norm.T, noise, false_alarm)
    apart = tuple(n for n, one in zip(equations.antenna, groups.apart, strict=True) if one)
    coherent = np.ix_(groups.main, groups.main)
    shown = max(float(inner[coherent].sum()), 0.0)
    return HeldOutCoherence(
        equations.antenna, groups.coherence, groups.sigma, groups.main, false_alarm, apart,
        explained=shown**2 / float(norm[coherent].sum()) if shown else 0.0,
    )  # fmt: skip
