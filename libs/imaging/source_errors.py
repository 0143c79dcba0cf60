"""Errors of what an image says of its main source: from noise, from times and antennas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.imaging.native.restore import Beam
from libs.imaging.native.source_scores import PARAMETERS, SourceScores

__all__ = [
    "SourceScatter",
    "restoring_error",
    "score_variances",
    "source_scatter",
    "widths_error",
]


_REACH = 2.5  # FWHMs, beyond which a Gaussian is nothing


@dataclass(frozen=True)
class SourceScatter:
    """Errors (1 sigma) that the thermal noise of independent visibilities does not explain.

    Attributes
    ----------
    total : float
        Of the flux of the whole model, relative.
    peak_jy_beam : float
    east_beams, north_beams : float
        Of the position, beams.
    along_beams2, across_beams2 : float
        Of the variances added along and across the major axis, square beams.
    """

    total: float
    peak_jy_beam: float
    east_beams: float
    north_beams: float
    along_beams2: float
    across_beams2: float


def score_variances(scores: SourceScores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variances of the parameters as the data scatter, and by noise alone.

    Parameters
    ----------
    scores : SourceScores

    Returns
    -------
    scatter, noise : (7,) float64
        In the order of `PARAMETERS`.

    Notes
    -----
    With J the inverse of the normal matrix and s the scores, the covariance is J C J. Where all
    visibilities are independent, C is the sum of their s s^T (White 1980, Econometrica 48, 817).
    Errors of gains are common to the visibilities of one time, and to those of one antenna: C is
    then the sum over pairs that share either (Cameron, Gelbach & Miller 2011, J. Bus. Econ.
    Stat. 29, 238, for two ways of sharing; Aronow, Samii & Assenova 2015, Polit. Anal. 23, 564,
    for pairs of antennas), each with the usual factor n / (n - 1) for n parts.
    """
    inverse = np.linalg.pinv(scores.information, rcond=1e-10, hermitian=True)
    times = scores.antenna.sum(axis=1) / 2.0  # every visibility counts for two antennas
    antennas, baselines = scores.antenna.sum(axis=0), scores.baseline.sum(axis=0)
    parts = len(times)
    used = int(np.count_nonzero(np.any(antennas != 0, axis=1)))
    by_time = _outer(times) * (parts / (parts - 1) if parts > 2 else 0.0)
    by_antenna = _outer(antennas) - _outer(baselines.reshape(-1, len(PARAMETERS)))
    by_both = _outer(scores.antenna.reshape(-1, len(PARAMETERS)))
    by_both -= _outer(scores.baseline.reshape(-1, len(PARAMETERS)))
    shared = by_time + used / max(used - 1, 1) * by_antenna - by_both
    noise = np.diag(inverse @ scores.noise @ inverse)
    # such differences can come out too small, even negative, by chance
    found = np.maximum(np.diag(inverse @ shared @ inverse), np.diag(inverse @ by_time @ inverse))
    return np.maximum(found, noise), noise


def _outer(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return scores.T @ scores


def source_scatter(scores: SourceScores) -> SourceScatter:
    """Return the errors in excess of those of independent noise."""
    scatter, noise = score_variances(scores)
    excess = dict(zip(PARAMETERS, np.sqrt(np.maximum(scatter - noise, 0.0)), strict=True))
    return SourceScatter(
        total=float(excess["total"]),
        peak_jy_beam=float(excess["peak"]),
        east_beams=float(excess["east"]),
        north_beams=float(excess["north"]),
        along_beams2=float(excess["along"]),
        across_beams2=float(excess["across"]),
    )


def widths_error(width_beams: float, variance_error: float) -> float:
    """Return the error of a FWHM, beams, from that of the variance added to it, square beams."""
    return 8.0 * math.log(2.0) * variance_error / (2.0 * width_beams)


def restoring_error(psf: NDArray[np.floating], beam: Beam, width_pixel: float) -> float:
    """Return the error of the restored peak of a small source, as a fraction (1 sigma).

    The restored image is M * B + (D - M * P), with model M, restoring beam B, PSF P, and the
    dirty image D = S * P of the sky S. It differs from S * B by (M - S) * (B - P): where CLEAN's
    model is not the sky, it shows by as much as the PSF differs from the beam. Below the
    resolution CLEAN does not tell them apart. At worst M is a point and S a Gaussian of half the
    beam's width, or of the source's own where that is less. The difference at the peak lies
    between nothing and what it is then, each as likely: 1 / sqrt(12) of it is the standard
    deviation.

    Parameters
    ----------
    psf : (ny, nx) float
        The peak of 1 at (ny // 2, nx // 2).
    beam : Beam
    width_pixel : float
        FWHM of the source without the beam; 0: a point.
    """
    width = min(width_pixel, 0.5 * math.sqrt(beam.major_pixel * beam.minor_pixel))
    if not width > 0:
        return 0.0
    half = max(2, math.ceil(_REACH * width))
    cy, cx = psf.shape[0] // 2, psf.shape[1] // 2
    half = min(half, cy, cx)
    y, x = np.mgrid[-half:half, -half:half]
    a, b, c = beam.exponent()
    shape = np.exp(-(a * x * x + 2 * b * x * y + c * y * y))
    sky = np.exp(-4.0 * math.log(2.0) * (x * x + y * y) / width**2)
    near = psf[cy - half : cy + half, cx - half : cx + half]
    return abs(float(np.sum(sky * (shape - near)))) / float(np.sum(sky * shape)) / math.sqrt(12.0)
