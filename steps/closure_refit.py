"""Components of an image fitted anew to closure quantities, which its gains cannot spoil.

The search for components from nothing may end in a model that fits as well and is wrong, with few
stations above all. Once an image is calibrated it says how many components there are and about
where; a fit that starts there ends at what the closure quantities say of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.closure.agreement import agreement
from libs.closure.astrometry import place_by_band
from libs.closure.coherence_time import averaged
from libs.closure.formation import BaselineVisibilities
from libs.closure.model import FitOptions, refit_components
from libs.closure.statistics import closure_quantities
from libs.core.errors import InputError
from libs.core.gaussian import GaussianComponent, component_visibilities
from libs.core.geometry import ARCSEC_PER_RAD, EARTH_RATE_RAD_S, SPEED_OF_LIGHT_M_S
from libs.imaging.image_components import image_components
from steps.closure_data import PLACING_BLOCKS, read_closure_data
from steps.context import Context
from steps.data_state import ensure_tables
from steps.facts import model_facts, startup_facts
from steps.images import best_image
from steps.model_components import on_pixel

__all__ = ["RefittedModel", "refitted_model"]

_LEAST_FLOOR = 0.1  # of the non-closing errors that were assumed
_STILL_RAD = 0.05  # phases that change by less than this may be averaged


@dataclass(frozen=True)
class RefittedModel:
    """Components from an image, fitted to closure quantities.

    Attributes
    ----------
    components : tuple of GaussianComponent
        About the brightest.
    centre_rad : (float, float)
        Offset (l, m) of the brightest from the phase centre, by the image, rad.
    chi2, image_chi2 : float
        Reduced chi2 of the closure quantities against the components and against the image's own
        model.
    better : bool
        Whether the components describe the closure quantities better than the image's model
        does, by more than their parameters explain.
    """

    components: tuple[GaussianComponent, ...]
    centre_rad: tuple[float, float]
    chi2: float
    image_chi2: float
    better: bool


def refitted_model(
    context: Context, image: Path, fill_image_model: Callable[[], object]
) -> RefittedModel | None:
    """Return the components of an image fitted to the closure quantities of the data as they came.

    None where no closure model was sought, the image shows nothing that Gaussians describe, or
    these do not describe the closure quantities.

    Parameters
    ----------
    context : Context
    image : Path
        Restored image about the phase centre.
    fill_image_model : callable
        Function that fills MODEL_DATA from the image's model.

    Notes
    -----
    The non-closing errors are known roughly at best, so chi2 tells models apart by its logarithm:
    with n quantities of unknown common variance, BIC is n ln(chi2) + parameters ln(n).
    """
    fit = model_facts(context).closure_fit
    if fit is None:
        return None
    options = FitOptions(**{**fit["options"], "gain_error": tuple(fit["options"]["gain_error"])})
    start = image_components(image, most=options.max_components)
    if not start:
        return None
    ensure_tables(context, ())
    fill_image_model()
    with context.clock.time("solving"):
        try:
            return _fitted(context, fit, options, start)
        except InputError:
            return None  # calibration has flagged what they would be formed of


def _fitted(
    context: Context,
    fit: Mapping[str, Any],
    options: FitOptions,
    start: Sequence[GaussianComponent],
) -> RefittedModel | None:
    """Fit, sharpen, place and compare with the image's model, which is in MODEL_DATA."""
    data, of_image = _averages(context, fit)
    interval_s = min(fit["interval_s"], _interval_s(context, start))
    quantities = closure_quantities(data, interval_s)
    found = refit_components(quantities, {"the image": start}, options)
    if not found.accepted or found.partial:
        return None
    # errors that do not close were a guess; a model that describes the data says what is left
    floor = max(_LEAST_FLOOR, np.sqrt(min(found.reduced_chi2, 1.0)))
    sharper = replace(
        options,
        phase_floor_rad=floor * options.phase_floor_rad,
        amplitude_floor=floor * options.amplitude_floor,
    )
    again = refit_components(quantities, {"the image": found.components}, sharper)
    found = again if again.accepted and not again.partial else found
    by_time = component_visibilities(found.components, data.uvw_m, data.frequency_hz)
    own, other = (
        agreement(
            data, vis, interval_s, phase_floor_rad=sharper.phase_floor_rad,
            amplitude_floor=sharper.amplitude_floor,
        )
        for vis in (np.ascontiguousarray(by_time.transpose(0, 2, 1)), of_image)
    )  # fmt: skip
    count = own.n_phase + own.n_amplitude
    if not (count and own.chi2 > 0 and other.chi2 > 0):
        return None
    gain = count * np.log(other.chi2 / own.chi2) - found.n_parameters * np.log(count)
    return RefittedModel(
        found.components, _placed(context, fit, found.components, start), own.chi2, other.chi2,
        bool(gain >= options.min_bic_gain),
    )  # fmt: skip


def _interval_s(context: Context, components: Sequence[GaussianComponent]) -> float:
    """Return the time in which phases of the longest baselines hardly change for the sky, s."""
    places = np.array([(c.l_rad, c.m_rad) for c in components])
    widths = max(c.major_rad for c in components)
    extent_rad = float(np.ptp(places, axis=0).max(initial=0.0)) + widths
    data = startup_facts(context)
    turns = data.longest_baseline_m * data.max_frequency_hz / SPEED_OF_LIGHT_M_S * extent_rad
    return _STILL_RAD / (2 * np.pi * turns * EARTH_RATE_RAD_S) if turns > 0 else np.inf


def _placed(
    context: Context,
    fit: Mapping[str, Any],
    fitted: Sequence[GaussianComponent],
    seen: Sequence[GaussianComponent],
) -> tuple[float, float]:
    """Return where the first component lies, (l, m) rad: by the band where that tells it."""
    start = _place(fitted, seen)
    data = read_closure_data(context, uvmin_m=fit["uvmin_m"], least_blocks=PLACING_BLOCKS)
    found = place_by_band(
        averaged(data, fit["average_s"]),
        lambda uvw_m, frequency_hz: component_visibilities(fitted, uvw_m, frequency_hz),
        start,
        fit["interval_s"],
    )
    place = found.offset_rad if found is not None and found.significant else start
    image = best_image(context).statistics
    beam = np.sqrt(image.beam_major_arcsec * image.beam_minor_arcsec) / ARCSEC_PER_RAD
    return on_pixel(context, fitted, place, image.cell_arcsec / ARCSEC_PER_RAD, float(beam))


def _averages(
    context: Context, fit: Mapping[str, Any]
) -> tuple[BaselineVisibilities, NDArray[np.complex128]]:
    """Return the averages of which closure quantities were formed, and of MODEL_DATA alike."""
    data, model = (
        read_closure_data(context, uvmin_m=fit["uvmin_m"], column=column)
        for column in ("DATA", "MODEL_DATA")
    )
    alike = replace(data, vis=model.vis)
    return averaged(data, fit["average_s"]), averaged(alike, fit["average_s"]).vis


def _place(
    fitted: Sequence[GaussianComponent], seen: Sequence[GaussianComponent]
) -> tuple[float, float]:
    """Return where the first fitted component lies in the image, (l, m) rad.

    Two components may be about as bright, so that the first of the fit need not be the first of
    the image: that place is taken from which the others lie nearest to what the image shows.
    """
    places = np.array([(c.l_rad, c.m_rad) for c in seen])
    offsets = np.array([(c.l_rad, c.m_rad) for c in fitted])
    flux = np.array([c.flux_jy for c in fitted])

    def misfit(anchor: np.ndarray) -> float:
        apart = np.linalg.norm(places[None] - (anchor + offsets)[:, None], axis=-1).min(axis=1)
        return float(flux @ apart)

    best = min(places, key=misfit)
    return float(best[0]), float(best[1])
