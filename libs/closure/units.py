"""Components in the units of a fit and in physical ones, with their errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from libs.closure.fit import Fitted
from libs.closure.problem import Components
from libs.core.gaussian import GaussianComponent

__all__ = ["fitted_components", "physical_components"]

Float = NDArray[np.float64]
_FWHM = float(np.sqrt(8 * np.log(2)))


def _covariance(fitted: Fitted, scale: float) -> Float:
    """Return the covariance of ln flux, l, m and sky covariance, (6 ncomp, 6 ncomp); 0 if fixed."""
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
    """Return (major variance, minor variance, position angle) of (C_ll, C_lm, C_mm)."""
    xx, xy, yy = shape
    mean, half = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    angle = 0.5 * np.arctan2(2 * xy, yy - xx) % np.pi
    return np.array([mean + half, max(mean - half, 0.0), angle])


def _ellipse_errors(shape: Float, covariance: Float) -> Float:
    """Return the errors of `_ellipse` from its derivatives."""
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


def physical_components(
    fitted: Fitted,
    unit_rad: float,
    scale: float,
    total_jy: float,
    centre_rad: tuple[float, float],
) -> tuple[GaussianComponent, ...]:
    """Return values and errors in physical units, brightest first, which must be component 0."""
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
        axes_error = _FWHM * unit_rad * (np.sqrt([major2 + error[0], minor2 + error[1]])) - axes
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


def fitted_components(start: Sequence[GaussianComponent], unit_rad: float) -> Components:
    """Return components in the units of a fit, referred to the first."""
    flux = np.array([max(c.flux_jy, 1e-6 * start[0].flux_jy) for c in start])
    position = np.array([[c.l_rad, c.m_rad] for c in start]) / unit_rad
    shape = np.zeros((len(start), 3))
    for k, c in enumerate(start):
        east, north = np.sin(c.pa_rad), np.cos(c.pa_rad)
        turn = np.array([[east, north], [north, -east]])
        axes = np.array([c.major_rad, c.minor_rad]) / (_FWHM * unit_rad)
        least = 1e-3 * max(axes.max(), 1e-6)  # a line has no Cholesky factor
        lower = np.linalg.cholesky(turn.T @ np.diag(np.maximum(axes, least) ** 2) @ turn)
        shape[k] = lower[0, 0], lower[1, 0], lower[1, 1]
    extended = np.array([c.major_rad > 0 for c in start])
    shape[~extended] = 0.0
    return Components(np.log(flux / flux[0]), position - position[0], shape, extended)
