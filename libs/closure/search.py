"""The search for a model: components are added one at a time while they improve the fit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from libs.closure.fit import Fitted, gradient_map, minimise, objective
from libs.closure.problem import Components, FitProblem
from libs.closure.statistics import ClosureData

__all__ = ["FitOptions", "Search", "TriedModel"]

Float = NDArray[np.float64]

_HOPELESS = 10.0  # a reduced chi2 this many times the limit describes nothing;
_PROGRESS = 0.97  # there each component must lower chi2 to this fraction, or the search ends


@dataclass(frozen=True)
class FitOptions:
    """Settings of the fit.

    Attributes
    ----------
    max_components : int
        Most components tried, 1 to 6.
    use_amplitudes : bool
        True fits log closure amplitudes too; without them sizes are known only relative to each
        other.
    phase_floor_rad, amplitude_floor : float
        Non-closing errors, added in quadrature to those of closure phases (rad) and amplitudes
        (relative).
    min_bic_gain : float
        Least fall of BIC for which a model replaces a simpler one; 10 is "very strong" evidence
        (Kass & Raftery 1995).
    chi2_limit : float
        Reduced chi2 up to which a model is called a full description of the data.
    false_alarm : float
        Probability that data without a source are called a detection.
    field_rad : float
        Largest offset of a component, rad; 0: taken from the shortest baselines.
    seeds : int
        Number of positions from which a new component starts.
    breadth : int
        Number of minima with one number of components to which another component is added; at
        least two while the fit is poor. With few stations several minima fit equally well, and the
        best model may grow from the second best.
    max_phases : int
        Largest number of closure phases in the search; data are thinned in time to it. The last
        fit uses all.
    workers : int
        Number of threads; the kernels release the interpreter.
    gain_error : tuple of float
        Relative errors of the stations' amplitudes, in the order of the data; empty: unknown, as
        closure amplitudes assume. Known errors help few stations to determine sizes.
    """

    max_components: int = 6
    use_amplitudes: bool = True
    phase_floor_rad: float = 0.02
    amplitude_floor: float = 0.02
    min_bic_gain: float = 10.0
    chi2_limit: float = 1.5
    false_alarm: float = 0.01
    field_rad: float = 0.0
    seeds: int = 8
    breadth: int = 1
    max_phases: int = 10000
    workers: int = 2
    gain_error: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.max_components <= 6:
            raise ValueError(f"max_components is 1 to 6, not {self.max_components}")
        if not 0 < self.false_alarm < 1:
            raise ValueError(f"false_alarm is a probability, not {self.false_alarm}")


@dataclass(frozen=True)
class TriedModel:
    """One step of the search: a model that was fitted, accepted or not.

    ``bic`` is (chi2 + prior) / max(1, best reduced chi2 so far) + parameters ln(data), so that
    underestimated errors do not justify more components.
    """

    name: str
    n_components: int
    n_parameters: int
    n_data: float
    chi2_phase: float
    chi2_amplitude: float
    seconds: float
    bic: float = np.nan
    taken: bool = False
    fitted: Fitted | None = field(default=None, repr=False, compare=False)

    @property
    def chi2(self) -> float:
        """Chi2 of closure phases and log closure amplitudes together."""
        return self.chi2_phase + self.chi2_amplitude

    @property
    def reduced_chi2(self) -> float:
        """Chi2 per degree of freedom."""
        return self.chi2 / max(self.n_data - self.n_parameters, 1.0)

    @property
    def model(self) -> Components:
        """The fitted components."""
        if self.fitted is None:
            raise ValueError(f"{self.name} was read from a record and holds no model")
        return self.fitted.model


def _thin(data: ClosureData, limit: int) -> NDArray[np.int64] | None:
    """Return blocks evenly spread that hold about ``limit`` closure phases; None for all."""
    blocks = np.unique(data.phases.block)
    if len(data.phases) <= limit:
        return None
    keep = max(int(len(blocks) * limit / len(data.phases)), 1)
    return blocks[np.unique(np.linspace(0, len(blocks) - 1, keep).round().astype(int))]


def _distinct(fits: Iterable[Fitted]) -> list[Fitted]:
    """Return the fits, best first; starts that reached the same minimum count once."""
    chosen: list[Fitted] = []
    for fit in sorted(fits, key=lambda f: f.objective):
        if all(abs(fit.objective - one.objective) > 1e-3 * one.objective for one in chosen):
            chosen.append(fit)
    return chosen


@dataclass(frozen=True)
class _Rung:
    """The best model with some number of components, and all distinct ones, best first."""

    best: TriedModel
    models: list[Components]


class Search:
    """The search for a model of one data set."""

    def __init__(self, data: ClosureData, options: FitOptions) -> None:
        self.options = options
        self.everything = self._problem(data, None)
        self.problem, self.quick = self.everything, self.everything
        medium, small = _thin(data, options.max_phases), _thin(data, 2500)
        field_rad = self.everything.field * self.everything.unit_rad
        if medium is not None:
            self.problem = self._problem(data, medium, field_rad)
        if small is not None:
            self.quick = self._problem(data, small, field_rad)
        self.tried: list[TriedModel] = []
        self.pool = ThreadPoolExecutor(max(options.workers, 1))
        self.random = np.random.default_rng(0)  # the same data give the same model

    def _problem(
        self, data: ClosureData, blocks: NDArray[np.int64] | None, field_rad: float = 0.0
    ) -> FitProblem:
        o = self.options
        return FitProblem.from_closures(
            data,
            use_amplitudes=o.use_amplitudes,
            phase_floor_rad=o.phase_floor_rad,
            amplitude_floor=o.amplitude_floor,
            blocks=blocks,
            field_rad=field_rad or o.field_rad,
            gain_error=o.gain_error,
        )

    def rescale(self, model: Components, source: FitProblem, target: FitProblem) -> Components:
        """Return the same sky in the units of another problem."""
        factor = source.unit_rad / target.unit_rad
        return replace(model, position=model.position * factor, shape=model.shape * factor)

    def polish(self, model: Components, *, robust_first: bool = True) -> Fitted:
        """Minimise the soft-L1 loss, then chi2, on the data of the search."""
        if robust_first:
            model = minimise(self.problem, model, robust=True, iterations=12, tolerance=1.0).model
        # Far from a description of the data the last digits of chi2 do not matter.
        tolerance = max(0.02, 1e-5 * sum(objective(self.problem, model)))
        return minimise(self.problem, model, tolerance=tolerance)

    def best_of(self, starts: Sequence[Components], keep: int = 3) -> list[Fitted]:
        """Minimise from many starts on few data, then the best of them on all; best first."""

        def quick(model: Components) -> Fitted:
            scaled = self.rescale(model, self.problem, self.quick)
            return minimise(self.quick, scaled, robust=True, iterations=15, tolerance=0.3)

        first = _distinct(self.pool.map(quick, starts))
        models = [self.rescale(f.model, self.quick, self.problem) for f in first[:keep]]
        return _distinct(self.pool.map(self.polish, models))

    def record(self, name: str, fitted: Fitted, started: float) -> TriedModel:
        """Add a fit to the record of the search."""
        tried = TriedModel(
            name,
            len(fitted.model),
            len(fitted.model.free()[0]),
            self.problem.n_data,
            fitted.chi2_phase,
            fitted.chi2_amplitude,
            time.perf_counter() - started,
            fitted=fitted,
        )
        self.tried.append(tried)
        return tried

    def bic(self, tried: TriedModel) -> float:
        """Return BIC with errors scaled so that the best model so far has reduced chi2 <= 1."""
        scale = max(1.0, min(t.reduced_chi2 for t in self.tried))
        penalty = tried.fitted.penalty if tried.fitted is not None else 0.0
        return (tried.chi2 + penalty) / scale + tried.n_parameters * float(
            np.log(max(tried.n_data, 2.0))
        )

    def single(self) -> _Rung:
        """Fit a point, and a Gaussian where amplitudes can determine its size."""
        started = time.perf_counter()
        fits = [self.polish(Components.single())]
        options = [self.record("point", fits[0], started)]
        if self.problem.n_amplitude:
            started = time.perf_counter()
            sizes = [s for s in (0.05, 0.2, 0.7, 2.5, 8.0) if s < max(self.problem.field, 0.3)]
            fits += self.best_of([Components.single(s) for s in sizes], keep=2)
            options.append(self.record("1 Gaussian", fits[1], started))
        return _Rung(min(options, key=self.bic), [f.model for f in _distinct(fits)])

    def given(self, models: Mapping[str, Components]) -> _Rung:
        """Fit models that something else gave, as they are and with all components Gaussian."""
        started = time.perf_counter()
        tried, every = [], []
        for name, model in models.items():
            starts = [model]
            if self.problem.n_amplitude:
                starts.append(model.widened(np.ones(len(model), dtype=bool), 0.15))
            fits = _distinct(self.pool.map(self.polish, starts))
            tried.append(self.record(f"{len(model)} components of {name}", fits[0], started))
            every += fits
        return _Rung(min(tried, key=self.bic), [f.model for f in _distinct(every)])

    def seeds(self, model: Components) -> list[Components]:
        """Return models with one more point: at peaks of the residual closures or at random."""
        reach = self.problem.field
        axis = np.linspace(-reach, reach, 2 * int(np.ceil(reach / 0.3)) + 1)
        gain = gradient_map(self.problem, model, axis)
        places = []
        for _ in range(self.options.seeds):
            i, j = np.unravel_index(int(gain.argmax()), gain.shape)
            if gain[i, j] <= 0:
                break
            places.append(np.array([axis[i], axis[j]]))
            gain[np.hypot(axis[:, None] - axis[i], axis[None, :] - axis[j]) < 0.6] = 0.0
        places += [-place for place in places[:2]]
        extent = 1.0 + 2 * np.abs(model.position).max(initial=0.0)
        places += list(self.random.normal(0, min(extent, reach / 2), (3, 2)))

        def start(place: Float) -> Components:
            options = [model.with_new(np.log(ratio), place, 0.0) for ratio in (0.05, 0.2, 0.7)]
            losses = [
                sum(objective(self.quick, self.rescale(o, self.problem, self.quick), robust=True))
                for o in options
            ]
            return options[int(np.argmin(losses))]

        return list(self.pool.map(start, places))

    def more(self, below: _Rung) -> _Rung:
        """Add one component: as a point, as a Gaussian, and with all components Gaussian.

        It starts from the best model with fewer components, and from the second best too while the
        fit is poor, or from more by ``breadth``. The best model with few components need not be
        part of the best with more.
        """
        poor = below.best.reduced_chi2 > self.options.chi2_limit
        kept = max(self.options.breadth, 2 if poor else 1)
        most = max(3, 2 * self.options.breadth)
        n = below.best.n_components + 1
        started = time.perf_counter()
        models = [below.best.model] + [m for m in below.models if m is not below.best.model]
        starts = [s for m in models[:kept] for s in self.seeds(m)]
        points = self.best_of(starts, keep=most)
        options = [self.record(f"{n} components, new one a point", points[0], started)]
        every = list(points)
        last = np.arange(n) == n - 1
        for name in ("new one a Gaussian", "all Gaussians"):
            started = time.perf_counter()
            wide = []
            for fit in points[:kept]:
                extended = fit.model.extended | (last if name == "new one a Gaussian" else True)
                wide += [fit.model.widened(extended, size) for size in (0.15, 0.6)]
            if name == "all Gaussians" and (
                not self.problem.n_amplitude or (points[0].model.extended | last).all()
            ):
                continue
            fits = _distinct(self.pool.map(partial(self.polish, robust_first=False), wide))
            if kept > 1 and name == "new one a Gaussian":
                wider = [s.widened(s.extended | last, 0.5) for s in starts]
                fits = _distinct(fits + self.best_of(wider, keep=most))
            options.append(self.record(f"{n} components, {name}", fits[0], started))
            every += fits
        return _Rung(min(options, key=self.bic), [f.model for f in _distinct(every)])

    def climb(self, given: Mapping[str, Components] | None = None) -> list[TriedModel]:
        """Return the best model of each number of components, up to the last that was tried.

        With ``given`` models to start from, more components are added only while the best of
        them does not describe the data.
        """
        rungs = [self.single()]
        if given:
            rungs.append(self.given(given))
            if rungs[-1].best.reduced_chi2 <= self.options.chi2_limit:
                return [rung.best for rung in rungs]
        while rungs[-1].best.n_components < self.options.max_components:
            rungs.append(self.more(rungs[-1]))
            before, after = rungs[-2].best, rungs[-1].best
            if self.bic(after) > self.bic(before) - self.options.min_bic_gain:
                break
            hopeless = after.reduced_chi2 > _HOPELESS * self.options.chi2_limit
            if hopeless and after.chi2 > _PROGRESS * before.chi2:
                break
        return [rung.best for rung in rungs]
