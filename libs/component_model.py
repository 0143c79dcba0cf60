"""Source models of up to six elliptical Gaussians, fitted to closure quantities.

Phase errors of stations cannot touch such a model, so it is a start for self-calibration that
no badly phased image can give. Closures fix neither the total flux nor the position: the flux
comes from the shortest baselines or from the caller, the brightest component goes where the
caller says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from libs.closure import SPEED_OF_LIGHT_M_S, ClosureData
from libs.component_fit import (
    Components,
    FitProblem,
    Fitted,
    gradient_map,
    minimise,
    objective,
)
from libs.uvw import lm_to_radec

__all__ = [
    "ComponentModel",
    "FitOptions",
    "GaussianComponent",
    "TriedModel",
    "TwoComponents",
    "fit_components",
]

log = logging.getLogger(__name__)

Float = NDArray[np.float64]
_FWHM = float(np.sqrt(8 * np.log(2)))
_RAD_ARCSEC = 180 * 3600 / np.pi
_PARTIAL = 0.5  # a partial model must explain half of what a point leaves


@dataclass(frozen=True)
class FitOptions:
    """How to fit.

    Attributes
    ----------
    max_components : int
        Most components tried, 1 to 6.
    use_amplitudes : bool
        Fit log closure amplitudes too; without them sizes are known only relative to each other.
    phase_floor_rad, amplitude_floor : float
        Non-closing errors, added in quadrature to closure phases (rad) and amplitudes (relative).
    min_bic_gain : float
        A model must lower BIC by this much to replace a simpler one; 10 is "very strong"
        (Kass & Raftery 1995).
    chi2_limit : float
        Reduced chi2 up to which a model is called a full description of the data.
    false_alarm : float
        Probability that data without a source are called a detection.
    field_rad : float
        Largest offset of a component, rad; 0: from the shortest baselines.
    seeds : int
        Places from which a new component starts.
    max_phases : int
        Closure phases that the search uses; more are thinned in time, the last fit uses all.
    workers : int
        Threads; the kernels release the interpreter.
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
    max_phases: int = 20000
    workers: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.max_components <= 6:
            raise ValueError(f"max_components is 1 to 6, not {self.max_components}")
        if not 0 < self.false_alarm < 1:
            raise ValueError(f"false_alarm is a probability, not {self.false_alarm}")


@dataclass(frozen=True)
class GaussianComponent:
    """An elliptical Gaussian and its errors (1 sigma); axes are full widths at half maximum.

    Attributes
    ----------
    flux_jy, flux_err_jy : float
        The error is that of the share of the total, whose scale closures do not fix.
    l_rad, m_rad, l_err_rad, m_err_rad : float
        Offsets east and north; errors relative to the brightest component, whose own are 0.
    major_rad, minor_rad, pa_rad : float
        Position angle of the major axis from north to east, 0 to pi. 0 for points.
    major_err_rad, minor_err_rad, pa_err_rad : float
        For an unresolved axis the error is the largest width that the data allow.
    point : bool
        Whether it was fitted as a point.
    """

    flux_jy: float
    l_rad: float
    m_rad: float
    major_rad: float
    minor_rad: float
    pa_rad: float
    flux_err_jy: float = 0.0
    l_err_rad: float = 0.0
    m_err_rad: float = 0.0
    major_err_rad: float = 0.0
    minor_err_rad: float = 0.0
    pa_err_rad: float = 0.0
    point: bool = False

    def visibility(self, u: Float, v: Float) -> NDArray[np.complex128]:
        """Visibility at (u, v), wavelengths.

        ``S exp(-(pi theta q)^2 / (4 ln 2)) exp(2 pi i (u l + v m))`` for a full width theta
        along the direction of q (Thompson, Moran & Swenson 2017, sect. 10.4). The sign is the
        one of the UVW column, as CASA and WSClean predict: u, v, w point from the second
        station to the first.
        """
        along = (u * np.sin(self.pa_rad) + v * np.cos(self.pa_rad)) * self.major_rad
        across = (u * np.cos(self.pa_rad) - v * np.sin(self.pa_rad)) * self.minor_rad
        envelope = np.exp(-(np.pi**2) * (along**2 + across**2) / (4 * np.log(2)))
        phase = np.exp(2j * np.pi * (u * self.l_rad + v * self.m_rad))
        return np.asarray(self.flux_jy * envelope * phase)


@dataclass(frozen=True)
class TriedModel:
    """One rung of the ladder: a model that was fitted, whether or not it was taken.

    ``bic`` is chi2 / max(1, best reduced chi2 so far) + parameters ln(data): errors that are
    too small must not buy components.
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
        """Closure phases and log closure amplitudes together."""
        return self.chi2_phase + self.chi2_amplitude

    @property
    def reduced_chi2(self) -> float:
        """chi2 per degree of freedom."""
        return self.chi2 / max(self.n_data - self.n_parameters, 1.0)


@dataclass(frozen=True)
class TwoComponents:
    """The answer for two components, whatever the best model is.

    ``bic_gain`` is by how much two components lower BIC below the best single one.
    """

    components: tuple[GaussianComponent, ...]
    reduced_chi2: float
    bic_gain: float
    accepted: bool
    reason: str


@dataclass(frozen=True)
class ComponentModel:
    """The best model found, its quality and everything tried on the way.

    Attributes
    ----------
    components : tuple of GaussianComponent
        Brightest first. Present even when not accepted.
    chi2_phase, chi2_amplitude, reduced_chi2 : float
        Of closure phases, log closure amplitudes (covariances included), and of both.
    n_phase : float
        Effective number of closure phases: those of pure noise do not count.
    n_amplitude, n_parameters : int
    detection_sigma, detection_limit : float
        Agreement of the closure phases with the model, in standard deviations of pure noise;
        and what noise exceeds with the probability ``false_alarm``, after the same fit.
    ladder : tuple of TriedModel
    accepted : bool
        Whether to start from it: it is no noise and it either describes the data or beats
        every simpler model.
    partial : bool
        It beats the simpler models but does not describe the data fully.
    reason : str
        Why, in one line.
    two_component : TwoComponents or None
        None when only one component was allowed.
    flux_origin : str
        Where the total flux comes from.
    seconds : float
    """

    components: tuple[GaussianComponent, ...]
    chi2_phase: float
    chi2_amplitude: float
    reduced_chi2: float
    n_phase: float
    n_amplitude: int
    n_parameters: int
    detection_sigma: float
    detection_limit: float
    ladder: tuple[TriedModel, ...]
    accepted: bool
    partial: bool
    reason: str
    two_component: TwoComponents | None
    flux_origin: str
    seconds: float

    @property
    def total_flux_jy(self) -> float:
        """Sum over components."""
        return sum(c.flux_jy for c in self.components)

    def predict(self, uvw_m: Float, frequency_hz: float | Float) -> NDArray[np.complex128]:
        """Visibilities of the model.

        Parameters
        ----------
        uvw_m : (..., 3)
            Baseline coordinates, m, sense of the UVW column.
        frequency_hz : float or (nfreq,)

        Returns
        -------
        (...) or (..., nfreq) complex128
            Jy. The spectrum is flat.
        """
        scale = np.asarray(frequency_hz) / SPEED_OF_LIGHT_M_S
        u = np.multiply.outer(uvw_m[..., 0], scale)
        v = np.multiply.outer(uvw_m[..., 1], scale)
        total = np.zeros(u.shape, np.complex128)
        for component in self.components:
            total += component.visibility(u, v)
        return total

    def as_arrays(self) -> dict[str, Float]:
        """Every value and error of the components by field name, (ncomponent,) each."""
        names = [n for n in GaussianComponent.__dataclass_fields__ if n != "point"]
        return {n: np.array([getattr(c, n) for c in self.components]) for n in names}

    def to_source_list(
        self, path: str | Path, ra_rad: float, dec_rad: float, reference_hz: float
    ) -> Path:
        """Write the text source list that WSClean and DP3 read; offsets are from (RA, Dec)."""
        columns = "Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI"
        frequency = f"ReferenceFrequency='{reference_hz:.6f}'"
        lines = [f"Format = {columns}, {frequency}, MajorAxis, MinorAxis, Orientation"]
        for n, c in enumerate(self.components):
            ra, dec = lm_to_radec(c.l_rad, c.m_rad, ra_rad, dec_rad)
            shape = ",,"
            if c.major_rad > 0:
                shape = (
                    f"{c.major_rad * _RAD_ARCSEC:.6g},{c.minor_rad * _RAD_ARCSEC:.6g},"
                    f"{np.rad2deg(c.pa_rad):.4f}"
                )
            kind = "GAUSSIAN" if c.major_rad > 0 else "POINT"
            lines.append(
                f"s{n},{kind},{_sexagesimal(ra * 12 / np.pi, ':')},"
                f"{_sexagesimal(np.rad2deg(dec), '.', sign=True)},{c.flux_jy:.8g},[0],false,"
                f"{reference_hz:.6f},{shape}"
            )
        path = Path(path)
        path.write_text("\n".join(lines) + "\n")
        return path


def _sexagesimal(value: float, separator: str, *, sign: bool = False) -> str:
    """hh:mm:ss.sssssss or [+-]dd.mm.ss.sssssss: seven decimals serve VLBI at millimetres."""
    digits = round(abs(value) * 3600 * 10**7)
    whole, rest = divmod(digits, 3600 * 10**7)
    minutes, seconds = divmod(rest, 60 * 10**7)
    lead = ("-" if value < 0 else "+") if sign else ""
    second = f"{seconds // 10**7:02d}.{seconds % 10**7:07d}"
    return f"{lead}{whole:02d}{separator}{minutes:02d}{separator}{second}"


def _thin(data: ClosureData, limit: int) -> NDArray[np.int64] | None:
    """Blocks evenly through the data that hold about ``limit`` closure phases; None for all."""
    blocks = np.unique(data.phases.block)
    if len(data.phases) <= limit:
        return None
    keep = max(int(len(blocks) * limit / len(data.phases)), 1)
    return blocks[np.unique(np.linspace(0, len(blocks) - 1, keep).round().astype(int))]


class _Search:
    """The ladder of models on one data set."""

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
        )

    def _rescale(self, model: Components, source: FitProblem, target: FitProblem) -> Components:
        factor = source.unit_rad / target.unit_rad
        return replace(model, position=model.position * factor, shape=model.shape * factor)

    def polish(self, model: Components, *, robust_first: bool = True) -> Fitted:
        """Robust, then plain least squares on the data of the search."""
        if robust_first:
            model = minimise(self.problem, model, robust=True, iterations=12, tolerance=1.0).model
        return minimise(self.problem, model, tolerance=0.02)

    def best_of(self, starts: Sequence[Components], keep: int = 3) -> Fitted:
        """Minimise from many places: all on a few data, the best of them on all."""
        def quick(model: Components) -> Fitted:
            scaled = self._rescale(model, self.problem, self.quick)
            return minimise(self.quick, scaled, robust=True, iterations=15, tolerance=0.3)

        first = sorted(self.pool.map(quick, starts), key=lambda f: f.chi2)
        chosen: list[Fitted] = []
        for fit in first:
            # Starts that ran into the same minimum count once.
            if all(abs(fit.chi2 - other.chi2) > 1e-3 * other.chi2 for other in chosen):
                chosen.append(fit)
        models = [self._rescale(f.model, self.quick, self.problem) for f in chosen[:keep]]
        return min(self.pool.map(self.polish, models), key=lambda f: f.chi2)

    def record(self, name: str, fitted: Fitted, started: float) -> TriedModel:
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
        """BIC with the errors scaled so that the best model so far has reduced chi2 <= 1."""
        scale = max(1.0, min(t.reduced_chi2 for t in self.tried))
        return tried.chi2 / scale + tried.n_parameters * float(np.log(max(tried.n_data, 2.0)))

    def single(self) -> TriedModel:
        """A point, and a Gaussian where amplitudes can tell its size."""
        started = time.perf_counter()
        best = self.record("point", self.polish(Components.single()), started)
        if self.problem.n_amplitude:
            started = time.perf_counter()
            sizes = [s for s in (0.05, 0.2, 0.7, 2.5, 8.0) if s < max(self.problem.field, 0.3)]
            fit = self.best_of([Components.single(s) for s in sizes], keep=2)
            gaussian = self.record("1 Gaussian", fit, started)
            best = min((best, gaussian), key=self.bic)
        return best

    def seeds(self, model: Components) -> list[Components]:
        """Models with one more point: at peaks of the residual closures, and a few at random."""
        reach = self.problem.field
        axis = np.linspace(-reach, reach, 2 * int(np.ceil(reach / 0.25)) + 1)
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
                sum(objective(self.quick, self._rescale(o, self.problem, self.quick), robust=True))
                for o in options
            ]
            return options[int(np.argmin(losses))]

        return list(self.pool.map(start, places))

    def more(self, model: Components) -> TriedModel:
        """One component more than ``model``: as a point, as a Gaussian, and all as Gaussians."""
        n = len(model) + 1
        started = time.perf_counter()
        fit = self.best_of(self.seeds(model))
        options = [self.record(f"{n} components, new one a point", fit, started)]
        last = np.arange(n) == n - 1
        variants = {"new one a Gaussian": fit.model.extended | last}
        if self.problem.n_amplitude and not variants["new one a Gaussian"].all():
            variants["all Gaussians"] = np.ones(n, bool)
        for name, extended in variants.items():
            started = time.perf_counter()
            fresh = extended & ~fit.model.extended
            # More than one size to start from: a point is a saddle of the size.
            starts = []
            for size in (0.15, 0.6):
                shape = np.where(fresh[:, None], [size, 0.0, size], fit.model.shape)
                starts.append(replace(fit.model, shape=shape, extended=extended))
            best = min(self.pool.map(self.polish, starts), key=lambda f: f.chi2)
            options.append(self.record(f"{n} components, {name}", best, started))
        return min(options, key=self.bic)

    def climb(self) -> list[TriedModel]:
        """Best model of each number of components, up to the last that was taken or tried."""
        rungs = [self.single()]
        while len(rungs) < self.options.max_components:
            fitted = rungs[-1].fitted
            assert fitted is not None
            rungs.append(self.more(fitted.model))
            if self.bic(rungs[-1]) > self.bic(rungs[-2]) - self.options.min_bic_gain:
                break
        return rungs


def _detection(problem: FitProblem, model: Components, false_alarm: float) -> tuple[float, float]:
    """Agreement of closure phases with the model in standard deviations of pure noise, and limit.

    For phases of noise ``sum 2 cos(difference) / s^2`` has mean 0 and variance ``sum 2 / s^4``.
    A fit of p parameters raises it; the limit grows as in BIC: ``z^2 = z_fa^2 + p ln(n)``.
    """
    variance = problem.private + (problem.load**2).sum(axis=1)
    differences = _model_closures(problem, model) - problem.phase
    weight = 2 / variance
    noise = np.sqrt((weight**2).sum() / 2)
    sigma = float((weight * np.cos(differences)).sum() / max(noise, 1e-300))
    n_parameters = len(model.free()[0])
    limit = norm.isf(false_alarm) ** 2 + n_parameters * np.log(max(problem.n_phase, 2))
    return sigma, float(np.sqrt(limit))


def _model_visibilities(problem: FitProblem, model: Components) -> NDArray[np.complex128]:
    total = np.zeros(len(problem.u), np.complex128)
    u, v = problem.u, problem.v
    for log_flux, x, y, a, b, c in model.table():
        exponent = log_flux - 2 * np.pi**2 * (a * u * u + 2 * b * u * v + c * v * v)
        total += np.exp(exponent + 2j * np.pi * (u * x + v * y))
    return total


def _model_closures(problem: FitProblem, model: Components) -> Float:
    angle = np.angle(_model_visibilities(problem, model))[problem.triangle]
    return np.asarray(angle[:, 0] + angle[:, 1] - angle[:, 2])


def _flux_scale(problem: FitProblem, model: Components) -> tuple[float, str]:
    """Jy of component 0 from the amplitudes on the shortest fifth of the usable baselines."""
    good = problem.log_weight > 0
    if not good.any():
        return 1.0, "unknown: no amplitude is good enough, component 1 set to 1 Jy"
    length = np.hypot(problem.u, problem.v)
    short = good & (length <= np.quantile(length[good], 0.2))
    ratio = problem.log_amplitude[short] - np.log(np.abs(_model_visibilities(problem, model)[short]))
    return float(np.exp(np.median(ratio))), "amplitudes of the shortest baselines"


def _covariance(fitted: Fitted, scale: float) -> Float:
    """(6 ncomp, 6 ncomp) covariance of ln flux, l, m and sky covariance; 0 for fixed values."""
    component, kind = fitted.model.free()
    full = np.zeros((6 * len(fitted.model),) * 2)
    if len(component):
        size = np.sqrt(np.maximum(np.diag(fitted.normal), 1e-30))
        scaled = fitted.normal / np.outer(size, size)
        inverse = np.linalg.pinv(scaled, hermitian=True, rcond=1e-12) / np.outer(size, size)
        place = 6 * component + kind
        inverse[np.diag_indices_from(inverse)] = np.maximum(np.diag(inverse), 0.0)
        full[np.ix_(place, place)] = inverse * scale
    return full


def _ellipse(shape: Float) -> Float:
    """(major variance, minor variance, position angle) of (C_ll, C_lm, C_mm)."""
    xx, xy, yy = shape
    mean, half = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    angle = 0.5 * np.arctan2(2 * xy, yy - xx) % np.pi
    return np.array([mean + half, max(mean - half, 0.0), angle])


def _ellipse_errors(shape: Float, covariance: Float) -> Float:
    """Errors of `_ellipse`, from its derivatives."""
    xx, xy, yy = shape
    d, half = 0.5 * (xx - yy), np.hypot(0.5 * (xx - yy), xy)
    if half < 1e-12 * max(xx + yy, 1e-300):
        error = float(np.sqrt(max(np.trace(covariance) / 2, 0.0)))
        return np.array([error, error, np.pi / 2])
    slope = np.array([0.5 * d, xy, -0.5 * d]) / half
    mean = np.array([0.5, 0.0, 0.5])
    turn = np.array([xy / 2, -d, -xy / 2]) / (2 * half**2)
    rows = np.stack([mean + slope, mean - slope, turn])
    errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", rows, covariance, rows), 0.0))
    errors[2] = min(errors[2], np.pi / 2)
    return np.asarray(errors)


def _components(
    fitted: Fitted,
    unit_rad: float,
    scale: float,
    total_jy: float,
    centre_rad: tuple[float, float],
) -> tuple[GaussianComponent, ...]:
    """Values and errors in physical units, brightest first; it must be component 0."""
    model = fitted.model
    covariance = _covariance(fitted, scale)
    share = np.exp(model.log_flux - model.log_flux.max())
    share /= share.sum()
    # d S_k / S_k = d ln r_k - sum_j share_j d ln r_j, at a fixed total.
    turn = np.eye(len(share)) - share[None, :]
    flux_error = share * np.sqrt(np.maximum(np.diag(turn @ covariance[::6, ::6] @ turn.T), 0.0))
    result = []
    for k in np.argsort(-model.log_flux, kind="stable"):
        own = covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6]
        major2, minor2, pa = _ellipse(model.covariance[k])
        error = _ellipse_errors(model.covariance[k], own[3:, 3:])
        axes = _FWHM * unit_rad * np.sqrt([major2, minor2])
        axes_error = (
            _FWHM * unit_rad * (np.sqrt([major2 + error[0], minor2 + error[1]])) - axes
        )
        point = not model.extended[k]
        result.append(
            GaussianComponent(
                float(total_jy * share[k]),
                float(model.position[k, 0] * unit_rad + centre_rad[0]),
                float(model.position[k, 1] * unit_rad + centre_rad[1]),
                0.0 if point else float(axes[0]),
                0.0 if point else float(axes[1]),
                0.0 if point else float(pa),
                float(total_jy * flux_error[k]),
                float(unit_rad * np.sqrt(own[1, 1])),
                float(unit_rad * np.sqrt(own[2, 2])),
                0.0 if point else float(axes_error[0]),
                0.0 if point else float(axes_error[1]),
                0.0 if point else float(error[2]),
                bool(point),
            )
        )
    return tuple(result)


@dataclass(frozen=True)
class _Final:
    """A model refitted to all data with the brightest component as the reference."""

    fitted: Fitted
    components: tuple[GaussianComponent, ...]
    reduced_chi2: float
    flux_origin: str


def _finish(
    search: _Search, tried: TriedModel, total_jy: float, centre: tuple[float, float]
) -> _Final:
    assert tried.fitted is not None
    problem = search.everything
    model = search._rescale(tried.fitted.model, search.problem, problem)
    model = model.referred_to(int(np.argmax(model.log_flux)))
    fitted = minimise(problem, model, tolerance=0.02, iterations=15)
    brightest = int(np.argmax(fitted.model.log_flux))
    if brightest:  # two of nearly the same flux
        fitted = minimise(problem, fitted.model.referred_to(brightest), iterations=5)
    freedom = max(problem.n_data - len(fitted.model.free()[0]), 1)
    reduced = fitted.chi2 / freedom
    origin = "given"
    if total_jy <= 0:
        scale, origin = _flux_scale(problem, fitted.model)
        total_jy = scale * float(np.exp(fitted.model.log_flux).sum())
    components = _components(fitted, problem.unit_rad, max(1.0, reduced), total_jy, centre)
    return _Final(fitted, components, reduced, origin)


def _two(
    search: _Search,
    rungs: list[TriedModel],
    detected: bool,
    total_jy: float,
    centre: tuple[float, float],
) -> TwoComponents | None:
    """The two-component answer the long-baseline strategy asks for."""
    if len(rungs) < 2:
        return None
    final = _finish(search, rungs[1], total_jy, centre)
    gain = search.bic(rungs[0]) - search.bic(rungs[1])
    needed, limit = search.options.min_bic_gain, search.options.chi2_limit
    if not detected:
        reason = "closure phases are noise"
    elif gain < needed:
        reason = f"one component is enough: BIC gain {gain:.1f}, needed {needed:g}"
    elif final.reduced_chi2 > limit:
        reason = f"BIC gain {gain:.1f}, but reduced chi2 {final.reduced_chi2:.2f} > {limit:g}"
    else:
        reason = f"BIC gain {gain:.1f}, reduced chi2 {final.reduced_chi2:.2f}"
        return TwoComponents(final.components, final.reduced_chi2, gain, True, reason)
    return TwoComponents(final.components, final.reduced_chi2, gain, False, reason)


def _verdict(
    name: str,
    detection: tuple[float, float],
    reduced: float,
    point_chi2: float,
    gain: float,
    options: FitOptions,
) -> tuple[bool, bool, str]:
    """(accepted, partial, reason); ``point_chi2`` is reduced, ``gain`` the fall of BIC."""
    sigma, limit = detection
    if sigma <= limit:
        return False, False, (
            f"closure phases are noise: {sigma:.1f} sigma, {limit:.1f} needed at a false-alarm "
            f"rate of {options.false_alarm:g}"
        )
    if reduced <= options.chi2_limit:
        return True, False, f"{name}: reduced chi2 {reduced:.2f}"
    if gain >= options.min_bic_gain and reduced <= _PARTIAL * point_chi2:
        return True, True, (
            f"{name}: reduced chi2 {reduced:.2f} is not a full description, but that of a point "
            f"is {point_chi2:.2f}"
        )
    return False, False, (
        f"no model describes the data: {name} has reduced chi2 {reduced:.2f}, a point "
        f"{point_chi2:.2f}"
    )


def fit_components(
    data: ClosureData,
    options: FitOptions | None = None,
    *,
    total_flux_jy: float = 0.0,
    centre_rad: tuple[float, float] = (0.0, 0.0),
) -> ComponentModel:
    """Fit Gaussian components to closure quantities, adding them while BIC says so.

    Parameters
    ----------
    data : ClosureData
        From `libs.closure.closure_quantities`.
    options : FitOptions, optional
    total_flux_jy : float
        Total flux; 0: from the amplitudes of the shortest baselines.
    centre_rad : tuple of float
        (l, m) at which to put the brightest component, rad.

    Returns
    -------
    ComponentModel
        With ``accepted`` false when the data are noise or no model fits; it is never raised.
    """
    options = options or FitOptions()
    started = time.perf_counter()
    search = _Search(data, options)
    try:
        rungs = search.climb()
        best = min(rungs, key=search.bic)
        if best is rungs[-1] and len(rungs) > 1:
            gain_last = search.bic(rungs[-2]) - search.bic(best)
            best = best if gain_last >= options.min_bic_gain else rungs[-2]
        final = _finish(search, best, total_flux_jy, centre_rad)
        point = search.tried[0]
        # Two looks at the noise, so each has half of the false-alarm rate.
        share = options.false_alarm / 2
        looks = [
            _detection(search.everything, Components.single(), share),
            _detection(search.everything, final.fitted.model, share),
        ]
        sigma, limit = max(looks, key=lambda look: look[0] - look[1])
        if sigma <= limit:  # what was fitted to noise is of no use to anyone
            best, final = point, _finish(search, point, total_flux_jy, centre_rad)
        gain = search.bic(point) - search.bic(best)
        accepted, partial, reason = _verdict(
            best.name, (sigma, limit), final.reduced_chi2, point.reduced_chi2, gain, options
        )
        two = _two(search, rungs, sigma > limit, total_flux_jy, centre_rad)
    finally:
        search.pool.shutdown()
    ladder = tuple(
        replace(t, bic=search.bic(t), taken=t is best) for t in search.tried
    )
    log.info("closure model: %s", reason)
    return ComponentModel(
        final.components,
        final.fitted.chi2_phase,
        final.fitted.chi2_amplitude,
        final.reduced_chi2,
        search.everything.n_phase,
        search.everything.n_amplitude,
        best.n_parameters,
        sigma,
        limit,
        ladder,
        accepted,
        partial,
        reason,
        two,
        final.flux_origin,
        time.perf_counter() - started,
    )
