"""Agreement of model visibilities with the closure quantities of data, as reduced chi2."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from libs.closure.formation import BaselineVisibilities, time_blocks
from libs.closure.statistics import ClosureData, average_bispectra, closure_quantities
from libs.core.errors import InputError

__all__ = ["ClosureAgreement", "agreement", "within_baselines"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ClosureAgreement:
    """Reduced chi2 of a model against closure phases and log closure amplitudes.

    Attributes
    ----------
    phase_chi2, amplitude_chi2 : float
        Mean over the independent closure phases (log closure amplitudes) of the squared
        difference over the squared error; NaN where there are none. The number of parameters is
        not subtracted, because it is unknown for an image.
    n_phase, n_amplitude : int
        Number of independent closure phases and log closure amplitudes.
    """

    phase_chi2: float
    amplitude_chi2: float
    n_phase: int
    n_amplitude: int

    @property
    def chi2(self) -> float:
        """Reduced chi2 of both kinds together, each quantity counted once; NaN without any."""
        kinds = ((self.phase_chi2, self.n_phase), (self.amplitude_chi2, self.n_amplitude))
        terms = [chi2 * count for chi2, count in kinds if count]
        return sum(terms) / (self.n_phase + self.n_amplitude) if terms else float("nan")


def within_baselines(
    data: BaselineVisibilities, shortest_m: float = 0.0, longest_m: float = 0.0
) -> BaselineVisibilities:
    """Return the data on baselines between two projected lengths.

    Parameters
    ----------
    shortest_m, longest_m : float
        Limits of the projected length sqrt(u^2 + v^2), m; ``longest_m`` = 0: no upper limit.

    Raises
    ------
    InputError
        No data are left.
    """
    length = np.hypot(data.uvw_m[..., 0], data.uvw_m[..., 1])
    outside = (length < shortest_m) | (length > (longest_m or np.inf))
    sigma = np.where(outside[:, None, :], np.inf, data.sigma)
    if not np.isfinite(sigma).any():
        raise InputError(
            f"no data on baselines of {shortest_m / 1e3:g} to {longest_m / 1e3:g} km",
            "give wider limits",
        )
    return replace(data, sigma=sigma)


def agreement(
    data: BaselineVisibilities,
    model: NDArray[np.complex128],
    interval_s: float,
    *,
    phase_floor_rad: float = 0.0,
    amplitude_floor: float = 0.0,
) -> ClosureAgreement:
    """Compare model visibilities with the closure quantities of data.

    For closure phases psi and log closure amplitudes ln A, with their errors s,
    ``chi2 = mean(|exp(i psi) - exp(i psi_model)|^2 / s_psi^2)`` and
    ``chi2 = mean((ln A - ln A_model)^2 / s_lnA^2)`` (Chael et al. 2018, ApJ 857, 23, sect. 2;
    Event Horizon Telescope Collaboration 2019, ApJ 875, L4, sect. 2.1). The sets are
    independent; correlations of quantities that share a baseline are ignored.

    Parameters
    ----------
    data : BaselineVisibilities
    model : (nbl, nfreq, ntime) complex128
        Model visibilities on the grid of the data. 0 means that there is no model, and closure
        quantities that need it are left out.
    interval_s : float
        Averaging time of bispectra and log amplitudes, s.
    phase_floor_rad, amplitude_floor : float
        Non-closing errors, added in quadrature to the errors of closure phases (rad) and of
        each baseline's amplitude (relative; four of them enter a closure amplitude).

    Raises
    ------
    InputError
        The data have no closure phases.
    """
    if model.shape != data.vis.shape:
        raise ValueError(f"model has shape {model.shape}, data have {data.vis.shape}")
    closures = closure_quantities(data, interval_s)
    modelled = replace(data, vis=model, sigma=np.where(model == 0, np.inf, data.sigma))
    phase, has_phase = _model_phases(modelled, closures, interval_s)
    logs = _model_logs(modelled, interval_s)
    phases, amplitudes = closures.phases, closures.amplitudes
    # chord and its error: the mean square of noise equals its own error, whatever the phases
    chord2 = 4 * np.sin((phases.phase_rad - phase) / 2) ** 2
    phase_terms = (chord2 / (phases.sigma_rad**2 + phase_floor_rad**2))[has_phase]
    parts = logs[amplitudes.block[:, None], amplitudes.baseline]
    difference = amplitudes.log_amplitude - (parts * [1, 1, -1, -1]).sum(axis=1)
    terms = difference**2 / (amplitudes.sigma**2 + 4 * amplitude_floor**2)
    amplitude_terms = terms[np.isfinite(terms)]
    return ClosureAgreement(
        _mean(phase_terms), _mean(amplitude_terms), len(phase_terms), len(amplitude_terms)
    )


def _mean(values: Float) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _model_phases(
    modelled: BaselineVisibilities, closures: ClosureData, interval_s: float
) -> tuple[Float, NDArray[np.bool_]]:
    """Return the model's closure phases, averaged like the data's, and where they exist."""
    every, which = np.unique(closures.phases.triangle, axis=0, return_inverse=True)
    averaged = average_bispectra(modelled, every, interval_s)
    nfreq = len(modelled.frequency_hz)
    block = closures.phases.block
    cell = (which.ravel(), block % nfreq, block // nfreq)
    phase = np.asarray(np.angle(averaged.value[cell]), dtype=np.float64)
    return phase, averaged.count[cell] > 0


def _model_logs(modelled: BaselineVisibilities, interval_s: float) -> Float:
    """Return mean ln |V| of the model, (nblock, nbl), blocks as in ClosureData; NaN if none."""
    edges = time_blocks(modelled.time_s, interval_s)[:-1]
    good = np.isfinite(modelled.sigma)
    logs = np.log(np.where(good, np.abs(modelled.vis), 1.0))
    count = np.add.reduceat(good, edges, axis=2, dtype=np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, np.add.reduceat(logs, edges, axis=2) / count, np.nan)
    return np.asarray(mean.transpose(2, 1, 0).reshape(-1, len(modelled.ant1)))
