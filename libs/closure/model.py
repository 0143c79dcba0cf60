"""Source models of up to six elliptical Gaussians, fitted to closure quantities.

Phase errors of stations do not affect such a model, so it can start self-calibration where a badly
phased image cannot. Closures fix neither the total flux nor the position: the flux comes from the
shortest baselines or from the caller, and the brightest component is put where the caller says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.closure.detection import agreement_of_phases
from libs.closure.fit import Fitted, minimise
from libs.closure.formation import BaselineVisibilities
from libs.closure.problem import Components, FitProblem
from libs.closure.search import FitOptions, Search, TriedModel
from libs.closure.statistics import ClosureData, closure_quantities
from libs.closure.units import fitted_components, physical_components
from libs.core.angles import direction_text
from libs.core.coordinates import lm_to_radec
from libs.core.gaussian import GaussianComponent, component_visibilities

__all__ = [
    "ComponentModel",
    "FitOptions",
    "FluxOrigin",
    "TriedModel",
    "TwoComponents",
    "fit_components",
    "fit_visibilities",
    "refit_components",
]

log = logging.getLogger(__name__)

Float = NDArray[np.float64]
_FWHM = float(np.sqrt(8 * np.log(2)))
_RAD_ARCSEC = 180 * 3600 / np.pi
_PARTIAL = 0.5  # a partial model must explain half of what a point leaves


class FluxOrigin(StrEnum):
    """Origin of the total flux of a model, which closure quantities alone do not determine."""

    GIVEN = "given"
    SHORTEST_BASELINES = "amplitudes of the shortest baselines"
    TEST_IMAGE = "total flux of the test image"
    CATALOGUE = "catalogue"
    UNKNOWN = "unknown: no amplitude is good enough, component 1 set to 1 Jy"


@dataclass(frozen=True)
class TwoComponents:
    """The two-component result, whatever the best model is.

    ``bic_gain`` is the amount by which two components lower BIC below the best single one.
    """

    components: tuple[GaussianComponent, ...]
    reduced_chi2: float
    bic_gain: float
    accepted: bool
    reason: str


@dataclass(frozen=True)
class ComponentModel:
    """The best model found, its quality and all models that were tried.

    Attributes
    ----------
    components : tuple of GaussianComponent
        Components, brightest first; present even when the model is not accepted.
    chi2_phase, chi2_amplitude, reduced_chi2 : float
        Chi2 of closure phases and of log closure amplitudes (covariances included), and reduced
        chi2 of both.
    n_phase : float
        Effective number of closure phases; those of pure noise do not count.
    n_amplitude, n_parameters : int
        Number of independent log closure amplitudes, and of fitted parameters.
    detection_sigma, detection_limit : float
        Agreement of the closure phases with the model in standard deviations of pure noise, and
        the value that noise exceeds with the probability ``false_alarm`` after the same fit.
    ladder : tuple of TriedModel
        All models that were tried, in order.
    accepted : bool
        True when calibration may start from the model: it is not noise, and it either describes the
        data or beats every simpler model.
    partial : bool
        True when the model beats the simpler ones but does not describe the data fully.
    reason : str
        Reason of the verdict, in one line.
    two_component : TwoComponents or None
        Result for two components; None when only one was allowed.
    flux_origin : FluxOrigin
        Origin of the total flux.
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
    flux_origin: FluxOrigin
    seconds: float

    @property
    def total_flux_jy(self) -> float:
        """Total flux density of the components, Jy."""
        return sum(c.flux_jy for c in self.components)

    def predict(self, uvw_m: Float, frequency_hz: float | Float) -> NDArray[np.complex128]:
        """Return the visibilities of the model.

        Parameters
        ----------
        uvw_m : (..., 3)
            Baseline coordinates, m, with the sense of the UVW column.
        frequency_hz : float or (nfreq,)

        Returns
        -------
        (...) or (..., nfreq) complex128
            Visibilities, Jy; the spectrum is flat.
        """
        return component_visibilities(self.components, uvw_m, frequency_hz)

    def to_source_list(
        self, path: str | Path, ra_rad: float, dec_rad: float, reference_hz: float
    ) -> Path:
        """Write a text source list that WSClean and DP3 read; offsets are from (RA, Dec)."""
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
                f"s{n},{kind},{','.join(direction_text(ra, dec, (':', '.')))},"
                f"{c.flux_jy:.8g},[0],false,"
                f"{reference_hz:.6f},{shape}"
            )
        path = Path(path)
        path.write_text("\n".join(lines) + "\n")
        return path


def _detection(problem: FitProblem, model: Components, false_alarm: float) -> tuple[float, float]:
    """Return the agreement of closure phases with the model, in sigma of noise, and its limit.

    See `libs.closure.detection`; the limit allows for the fitted parameters. It is infinite where
    the amplitudes say that all closure phases are noise.
    """
    variance = problem.private + (problem.load**2).sum(axis=1)
    found = agreement_of_phases(_model_closures(problem, model) - problem.phase, 1 / variance)
    # less than one closure phase is above the noise: any agreement is chance
    if problem.n_phase < 1:
        return found.sigma, float(np.inf)
    return found.sigma, found.limit(false_alarm, len(model.free()[0]))


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


def _flux_scale(problem: FitProblem, model: Components) -> tuple[float, FluxOrigin]:
    """Return Jy of component 0 from amplitudes on the shortest fifth of the usable baselines."""
    good = problem.log_weight > 0
    if not good.any():
        return 1.0, FluxOrigin.UNKNOWN
    length = np.hypot(problem.u, problem.v)
    short = good & (length <= np.quantile(length[good], 0.2))
    ratio = problem.log_amplitude[short] - np.log(
        np.abs(_model_visibilities(problem, model)[short])
    )
    return float(np.exp(np.median(ratio))), FluxOrigin.SHORTEST_BASELINES


@dataclass(frozen=True)
class _Final:
    """A model refitted to all data with the brightest component as the reference."""

    fitted: Fitted
    components: tuple[GaussianComponent, ...]
    reduced_chi2: float
    flux_origin: FluxOrigin


def _finish(
    search: Search, tried: TriedModel, total_jy: float, centre: tuple[float, float]
) -> _Final:
    assert tried.fitted is not None
    problem = search.everything
    model = search.rescale(tried.fitted.model, search.problem, problem)
    model = model.referred_to(int(np.argmax(model.log_flux)))
    fitted = minimise(problem, model, tolerance=0.02, iterations=15)
    brightest = int(np.argmax(fitted.model.log_flux))
    if brightest:  # two components have nearly the same flux
        fitted = minimise(problem, fitted.model.referred_to(brightest), iterations=5)
    freedom = max(problem.n_data - len(fitted.model.free()[0]), 1)
    reduced = fitted.chi2 / freedom
    origin = FluxOrigin.GIVEN
    if total_jy <= 0:
        scale, origin = _flux_scale(problem, fitted.model)
        total_jy = scale * float(np.exp(fitted.model.log_flux).sum())
    components = physical_components(fitted, problem.unit_rad, max(1.0, reduced), total_jy, centre)
    return _Final(fitted, components, reduced, origin)


def _two(
    search: Search,
    rungs: list[TriedModel],
    detected: bool,
    total_jy: float,
    centre: tuple[float, float],
) -> TwoComponents | None:
    """Return the two-component result, which the long-baseline strategy asks for."""
    if len(rungs) < 2:
        return None
    final = _finish(search, rungs[1], total_jy, centre)
    gain = search.bic(rungs[0]) - search.bic(rungs[1])
    needed, limit = search.options.min_bic_gain, search.options.chi2_limit
    if not detected:
        reason = "closure phases are noise"
    elif gain < needed:
        reason = f"one component is enough: two lower BIC by {gain:.1f}, {needed:g} is needed"
    elif final.reduced_chi2 > limit:
        reason = f"BIC falls by {gain:.1f}, but reduced chi2 {final.reduced_chi2:.2f} > {limit:g}"
    else:
        reason = f"BIC falls by {gain:.1f}, reduced chi2 {final.reduced_chi2:.2f}"
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
    """Return (accepted, partial, reason); ``point_chi2`` is reduced, ``gain`` the fall of BIC."""
    sigma, limit = detection
    if sigma <= limit:
        rate = f"needed at a false-alarm rate of {options.false_alarm:g}"
        return False, False, f"closure phases are noise ({sigma:.1f} sigma; {limit:.1f} {rate})"
    if reduced <= options.chi2_limit:
        return True, False, f"{name}: reduced chi2 {reduced:.2f}"
    point = f"that of a point is {point_chi2:.2f}"
    if gain >= options.min_bic_gain and reduced <= _PARTIAL * point_chi2:
        reason = f"{name}: reduced chi2 {reduced:.2f} is not a full description, but {point}"
        return True, True, reason
    return False, False, f"no model fits: {name} has reduced chi2 {reduced:.2f}, {point}"


def _choose(search: Search, rungs: list[TriedModel]) -> TriedModel:
    """Return the last model that was sufficiently better than the one before it."""
    best = rungs[0]
    for rung in rungs[1:]:
        if search.bic(best) - search.bic(rung) < search.options.min_bic_gain:
            break
        best = rung
    return best


def fit_components(
    data: ClosureData,
    options: FitOptions | None = None,
    *,
    total_flux_jy: float = 0.0,
    centre_rad: tuple[float, float] = (0.0, 0.0),
) -> ComponentModel:
    """Fit Gaussian components to closure quantities, adding components while BIC improves.

    Parameters
    ----------
    data : ClosureData
        Closure quantities from `libs.closure.statistics.closure_quantities`.
    options : FitOptions, optional
    total_flux_jy : float
        Total flux, Jy; 0: taken from the amplitudes of the shortest baselines.
    centre_rad : tuple of float
        Direction cosines (l, m) of the brightest component, rad.

    Returns
    -------
    ComponentModel
        Model; ``accepted`` is False, without an error, when the data are noise or no model fits.
    """
    search = Search(data, options or FitOptions())
    try:
        model = _climb(search, total_flux_jy, centre_rad)
    finally:
        search.pool.shutdown()
    log.info("closure model: %s", model.reason)
    return model


def refit_components(
    data: ClosureData,
    starts: Mapping[str, Sequence[GaussianComponent]],
    options: FitOptions | None = None,
    *,
    total_flux_jy: float = 0.0,
    centre_rad: tuple[float, float] = (0.0, 0.0),
) -> ComponentModel:
    """Fit components to closure quantities from models that an image or an earlier fit gave.

    Parameters
    ----------
    data : ClosureData
    starts : mapping of str to sequence of GaussianComponent
        Models by what gave them; at least one component each, of which the brightest
        ``max_components`` are used.
    options, total_flux_jy, centre_rad
        As for `fit_components`.

    Returns
    -------
    ComponentModel
        The best that was reached from any of them, with more components where it does not
        describe the data.
    """
    search = Search(data, options or FitOptions())
    most = search.options.max_components
    try:
        given = {
            name: fitted_components(
                sorted(start, key=lambda c: -c.flux_jy)[:most], search.problem.unit_rad
            )
            for name, start in starts.items()
        }
        model = _climb(search, total_flux_jy, centre_rad, given)
    finally:
        search.pool.shutdown()
    log.info("closure model: %s", model.reason)
    return model


def fit_visibilities(
    data: BaselineVisibilities, interval_s: float, options: FitOptions | None = None
) -> ComponentModel:
    """Fit Gaussian components to the closure quantities of ``data`` averaged over ``interval_s``.

    `libs.closure.statistics.closure_quantities` describes the errors that are raised, and
    `fit_components` the result.
    """
    return fit_components(closure_quantities(data, interval_s), options)


def _climb(
    search: Search,
    total_jy: float,
    centre: tuple[float, float],
    given: Mapping[str, Components] | None = None,
) -> ComponentModel:
    """Fit models of increasing complexity, or those given, and judge the best one."""
    options, started = search.options, time.perf_counter()
    rungs = search.climb(given)
    best, point = _choose(search, rungs), search.tried[0]
    final = _finish(search, best, total_jy, centre)
    # Noise is tested twice, so each test has half of the false-alarm rate.
    looks = [
        _detection(search.everything, model, options.false_alarm / 2)
        for model in (Components.single(), final.fitted.model)
    ]
    detection = max(looks, key=lambda look: look[0] - look[1])
    detected = detection[0] > detection[1]
    if not detected:  # a fit to noise is of no use
        best, final = point, _finish(search, point, total_jy, centre)
    accepted, partial, reason = _verdict(
        best.name,
        detection,
        final.reduced_chi2,
        point.reduced_chi2,
        search.bic(point) - search.bic(best),
        options,
    )
    return ComponentModel(
        final.components,
        final.fitted.chi2_phase,
        final.fitted.chi2_amplitude,
        final.reduced_chi2,
        search.everything.n_phase,
        search.everything.n_amplitude,
        best.n_parameters,
        *detection,
        tuple(replace(t, bic=search.bic(t), taken=t is best) for t in search.tried),
        accepted,
        partial,
        reason,
        None if given else _two(search, rungs, detected, total_jy, centre),
        final.flux_origin,
        time.perf_counter() - started,
    )
