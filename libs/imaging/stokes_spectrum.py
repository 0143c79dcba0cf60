"""Spectra of Stokes parameters: power laws, debiased polarization, rotation measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from libs.core.geometry import SPEED_OF_LIGHT_M_S

__all__ = ["REFERENCE_HZ", "PlaneValues", "fit_power_law", "rotation_measure"]

REFERENCE_HZ = 3.0e9
"""Frequency of the flux density of a power law."""

_BAND_SIGMA = 2.0
_LEAST_SNR = 3.0
_FITTED_POINTS = 41


@dataclass(frozen=True)
class PlaneValues:
    """Stokes parameters at one place and frequency.

    Attributes
    ----------
    label : str
        Name of the plane.
    frequency_hz : float
    mean, error : mapping of str to float
        Value and its error by Stokes parameter, Jy/beam.
    """

    label: str
    frequency_hz: float
    mean: Mapping[str, float]
    error: Mapping[str, float]

    @property
    def polarized_error(self) -> float:
        """Error of the linear polarization, Jy/beam."""
        return math.sqrt(0.5 * (self.error["Q"] ** 2 + self.error["U"] ** 2))

    @property
    def polarized(self) -> float:
        """Linear polarization without the bias of its noise (Wardle & Kronberg 1974), Jy/beam."""
        square = self.mean["Q"] ** 2 + self.mean["U"] ** 2 - self.polarized_error**2
        return math.sqrt(max(square, 0.0))

    @property
    def angle_deg(self) -> float:
        """Angle of the polarization, north through east, -90 to 90."""
        return 0.5 * math.degrees(math.atan2(self.mean["U"], self.mean["Q"]))

    def ratio(self, stokes: str) -> tuple[float, float]:
        """Return a parameter over Stokes I, and its error."""
        value = self.mean[stokes] / self.mean["I"]
        part = self.error["I"] * value
        return value, math.hypot(self.error[stokes], part) / abs(self.mean["I"])


def fit_power_law(values: Sequence[PlaneValues]) -> dict[str, object] | None:
    """Return the fit of I = A (nu / 3 GHz)^alpha.

    Parameters
    ----------
    values : sequence of PlaneValues

    Returns
    -------
    dict or None
        ``flux_jy`` and ``index`` with ``flux_error_jy`` and ``index_error``, and the band of 2
        sigma as lists ``frequency_hz``, ``low_jy``, ``high_jy``. With one plane the index is
        None; without a positive flux density there is no fit.
    """
    good = [one for one in values if one.mean["I"] > 0.0 and one.error["I"] > 0.0]
    if not good:
        return None
    if len(good) == 1:
        return {
            "flux_jy": good[0].mean["I"], "flux_error_jy": good[0].error["I"], "index": None,
            "index_error": None, "frequency_hz": [], "low_jy": [], "high_jy": [],
        }  # fmt: skip
    x = np.log([one.frequency_hz / REFERENCE_HZ for one in good])
    flux = np.array([one.mean["I"] for one in good])
    relative = np.array([one.error["I"] for one in good]) / flux
    design = np.stack([np.ones_like(x), x], axis=1) / relative[:, None]
    covariance = np.linalg.inv(design.T @ design)
    constant, index = covariance @ design.T @ (np.log(flux) / relative)
    ends = np.linspace(x.min(), x.max(), _FITTED_POINTS)
    spread = np.sqrt(covariance[0, 0] + 2.0 * ends * covariance[0, 1] + ends**2 * covariance[1, 1])
    line = constant + index * ends
    return {
        "flux_jy": float(np.exp(constant)),
        "flux_error_jy": float(np.exp(constant) * np.sqrt(covariance[0, 0])),
        "index": float(index), "index_error": float(np.sqrt(covariance[1, 1])),
        "frequency_hz": (REFERENCE_HZ * np.exp(ends)).tolist(),
        "low_jy": np.exp(line - _BAND_SIGMA * spread).tolist(),
        "high_jy": np.exp(line + _BAND_SIGMA * spread).tolist(),
    }  # fmt: skip


def rotation_measure(values: Sequence[PlaneValues]) -> dict[str, object] | None:
    """Return the rotation measure that lines the polarizations of the planes up best.

    Parameters
    ----------
    values : sequence of PlaneValues

    Returns
    -------
    dict or None
        ``rad_m2`` with ``error_rad_m2``, and ``ambiguity_rad_m2``: planes so far apart cannot
        tell values that differ by it. None where less than two planes are polarized.
    """
    good = [one for one in values if one.polarized > _LEAST_SNR * one.polarized_error]
    if len(good) < 2:
        return None
    square = np.array([(SPEED_OF_LIGHT_M_S / one.frequency_hz) ** 2 for one in good])
    linear = np.array([complex(one.mean["Q"], one.mean["U"]) / one.mean["I"] for one in good])
    error = np.array([one.polarized_error / abs(one.mean["I"]) for one in good])
    weight = error**-2.0
    step = float(np.diff(np.sort(square)).min())
    if step <= 0.0:
        return None
    ambiguity = math.pi / step
    mean = float((weight * square).sum() / weight.sum())
    spread = math.sqrt(float((weight * (square - mean) ** 2).sum() / weight.sum()))
    # finer than the width of the peak by far; values within half the ambiguity differ
    trial = np.arange(-0.5 * ambiguity, 0.5 * ambiguity, 0.02 / spread)
    turned = linear[:, None] * np.exp(-2j * np.outer(square - mean, trial))
    height = np.abs((weight[:, None] * turned).sum(axis=0))
    best = float(trial[int(np.argmax(height))])
    left = linear * np.exp(-2j * (square - mean) * best)
    # a linear fit of what is left of the angles
    angle = 0.5 * np.angle(left * np.conj((weight * left).sum()))
    sigma = 0.5 * error / np.abs(linear)
    per = sigma**-2.0
    slope_error = 1.0 / math.sqrt(float((per * (square - mean) ** 2).sum()))
    slope = float((per * (square - mean) * angle).sum()) * slope_error**2
    return {
        "rad_m2": best + slope, "error_rad_m2": slope_error, "ambiguity_rad_m2": ambiguity,
        "planes": len(good),
    }  # fmt: skip
