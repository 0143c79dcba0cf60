"""What a model of the sky explains of visibilities that took no part in its gains.

Gains can make any model fit the visibilities they were solved with. What they cannot do is
predict, with a wrong model, the baselines that were held out of the solve. Models are therefore
compared by

    explained = sum over held-out visibilities of w (|V|^2 - |V - G M|^2)
              = sum of 2 w Re(V conj(G M)) - w |G M|^2,

with gains G solved for each model M by the other baselines: the fall of chi2 against no source
at all. It needs no gains in common, no image, and no unit: a model with the wrong structure
explains less whatever its SNR looks like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.gains.frequency_blocks import merge_blocks, spw_groups
from libs.gains.normal_equations import NormalEquations
from libs.heldout.folds import FOLDS, SOLVED_BY_WINDOW, Candidate, solve_stages_without
from libs.heldout.scores import FOLD_SCATTER

__all__ = [
    "CERTAIN",
    "Evidence",
    "ModelComparison",
    "joined",
    "model_evidence",
    "unsolved_evidence",
]

# sigma that a model must reach where nothing else speaks for a source: the best of a ladder of
# solves on noise, which is more than a single one (python -m benchmarks.false_alarms)
CERTAIN = 4.0
_MOST_PARTS = 32  # of the time, over which a difference is seen to scatter


@dataclass(frozen=True)
class Evidence:
    """What a model with its gains explains of the baselines held out.

    Attributes
    ----------
    inner : (npart, nbl) float64
        Sum of w Re(V conj(G M)) over the held-out visibilities of each part of the time and each
        baseline.
    norm : (npart, nbl) float64
        Sum of w |G M|^2.
    noise : float
        Variance of the data in units of 1 / weight, in each of real and imaginary part, and what
        model and gains did not follow.
    """

    inner: NDArray[np.float64]
    norm: NDArray[np.float64]
    noise: float

    @property
    def flux_factor(self) -> float:
        """Factor by which the model's flux should be multiplied to explain the most; at least 0."""
        norm = float(self.norm.sum())
        return max(float(self.inner.sum()) / norm, 0.0) if norm > 0 else 0.0

    @property
    def explained(self) -> float:
        """Fall of chi2 against no source, with the best flux, in units of weight x Jy^2."""
        return float(self._parts().sum())

    def _parts(self) -> NDArray[np.float64]:
        # phases do not depend on the model's flux, which the next image takes from the data
        factor = self.flux_factor
        return 2 * factor * self.inner - factor**2 * self.norm

    @property
    def significance(self) -> float:
        """How far the model, at its best flux, is from noise alone, sigma."""
        error = FOLD_SCATTER * np.sqrt(self.noise * float(self.norm.sum()))
        return float(self.inner.sum()) / error if error > 0 else 0.0

    def against(self, other: Evidence) -> ModelComparison:
        """Compare with another model's evidence from the same data.

        The error of the difference is what it scatters by from baseline to baseline and from one
        part of the time to another, as if these were independent, times `FOLD_SCATTER` for the
        antennas that they share.
        """
        parts = self._parts() - other._parts()
        noise = min(self.noise, other.noise)
        scatter = float(np.sqrt(np.sum((parts - parts.mean()) ** 2)))
        return ModelComparison(float(parts.sum()), FOLD_SCATTER * scatter, noise)


@dataclass(frozen=True)
class ModelComparison:
    """By how much more one model explains than another.

    Attributes
    ----------
    difference : float
        In units of weight x Jy^2.
    error : float
        Standard deviation of ``difference``, from its scatter over baselines and time.
    noise : float
        The lower of the two models' noises.
    """

    difference: float
    error: float
    noise: float

    @property
    def sigma(self) -> float:
        """The difference over its error; 0 where the models explain the same everywhere.

        A fall of chi2 by x counts as root x sigma at most. The scatter alone would make much of
        models that hardly differ.
        """
        if not self.error > 0:
            return 0.0
        most = math.sqrt(abs(self.chi2)) if self.noise > 0 else math.inf
        return math.copysign(min(abs(self.difference) / self.error, most), self.difference)

    @property
    def chi2(self) -> float:
        """The difference as a fall of chi2, in units of the noise."""
        return self.difference / self.noise if self.noise > 0 else 0.0


def model_evidence(
    equations: NormalEquations,
    candidates: Sequence[Candidate],
    *,
    refants: Sequence[int] = (),
    minblperant: int = 4,
    folds: int = FOLDS,
) -> Evidence:
    """Solve for the gains of a model with each fold held out, and see what both explain of it.

    Parameters
    ----------
    equations : NormalEquations
        Of the data and the model, at the shortest interval.
    candidates : sequence of Candidate
        How to solve: for one set of gains, or for further ones on top of those before.
    refants : sequence of int
        Antennas in order of preference, to reference the phases to.
    minblperant : int
        Fewest baselines of an antenna.
    folds : int
    """
    fine = any(one.solution not in SOLVED_BY_WINDOW or one.channels_per_block for one in candidates)
    used = equations if fine else merge_blocks(equations, spw_groups(equations.spw))
    parts = _part_of(len(used.time_s))
    shape = (int(parts[-1]) + 1, len(used.antenna1))
    inner, norm = np.zeros(shape), np.zeros(shape)
    across, count = 0.0, 0
    for solved, fits in solve_stages_without(used, candidates, refants, minblperant, folds):
        *sums, off, predicted = fits.project(solved)
        for total, part in zip((inner, norm), sums, strict=True):
            np.add.at(total, parts, part)
        across, count = across + off, count + predicted
    return Evidence(inner, norm, across / count if count else np.inf)


def unsolved_evidence(equations: NormalEquations, noise: float) -> Evidence:
    """Return what the model explains without any gains; all baselines are then held out.

    Parameters
    ----------
    equations : NormalEquations
        Of the data and the model, at the shortest interval.
    noise : float
        As `Evidence.noise`.
    """
    parts = _part_of(len(equations.time_s))
    shape = (int(parts[-1]) + 1, len(equations.antenna1))
    inner, norm = np.zeros(shape), np.zeros(shape)
    np.add.at(inner, parts, equations.vis.real.sum(axis=(1, 3)))
    np.add.at(norm, parts, equations.weight.sum(axis=(1, 3)))
    return Evidence(inner, norm, noise)


def joined(each: Sequence[Evidence]) -> Evidence:
    """Return the evidence of several measurement sets as one.

    Their baselines differ, so that parts of one set are followed by those of the next.
    """
    noise = np.average([e.noise for e in each], weights=[max(e.norm.sum(), 1e-300) for e in each])
    inner = np.concatenate([e.inner.ravel() for e in each])[None]
    norm = np.concatenate([e.norm.ravel() for e in each])[None]
    return Evidence(inner, norm, float(noise))


def _part_of(times: int) -> NDArray[np.int64]:
    """Return the part of the time that each interval belongs to."""
    return np.arange(times) * min(times, _MOST_PARTS) // max(times, 1)
