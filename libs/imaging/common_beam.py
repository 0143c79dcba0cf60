"""One beam for several images: found from theirs, and laid on each by a convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError

__all__ = ["BeamShape", "common_beam", "deconvolved", "with_beam"]

# (major FWHM, minor FWHM, position angle in deg); the first two in one unit, arcsec or pixels.
BeamShape = tuple[float, float, float]

_ROOM = 1.00001
_FWHM_SQUARE = 8.0 * math.log(2.0)
_ANGLES, _RATIOS = 180, 60


def _covariance(beam: BeamShape) -> NDArray[np.float64]:
    """Return the second moments of a Gaussian in FWHM squared, axes east and north."""
    turn = math.radians(beam[2])
    along = np.array([math.sin(turn), math.cos(turn)])
    across = np.array([math.cos(turn), -math.sin(turn)])
    return beam[0] ** 2 * np.outer(along, along) + beam[1] ** 2 * np.outer(across, across)


def _shape(moments: NDArray[np.float64]) -> BeamShape:
    """Return the Gaussian of some second moments."""
    values, vectors = np.linalg.eigh(moments)
    angle = math.degrees(math.atan2(vectors[0, 1], vectors[1, 1])) % 180.0
    return math.sqrt(max(values[1], 0.0)), math.sqrt(max(values[0], 0.0)), angle


def deconvolved(target: BeamShape, beam: BeamShape) -> BeamShape | None:
    """Return what a beam is convolved with to become another; None where that is impossible."""
    left = _covariance(target) - _covariance(beam)
    if np.linalg.eigvalsh(left)[0] < -1e-9 * target[0] ** 2:
        return None
    return _shape(left)


def common_beam(beams: Sequence[BeamShape]) -> BeamShape:
    """Return the smallest beam, a hair larger, that all beams can be convolved to.

    The smallest area is looked for over position angles and axial ratios; each such ellipse is
    made just large enough for every beam.

    Parameters
    ----------
    beams : sequence of (major, minor, position angle)

    Raises
    ------
    InputError
        There are no beams, or one has no size.
    """
    if not beams or any(not (beam[0] >= beam[1] > 0.0) for beam in beams):
        raise InputError(f"beams {list(beams)} have no common one", "look at the images' headers")
    ratio = np.linspace(min(beam[1] / beam[0] for beam in beams), 1.0, _RATIOS)[None, :]
    angle = np.radians(np.arange(_ANGLES) * 180.0 / _ANGLES)[:, None]
    scale = np.zeros((_ANGLES, _RATIOS))
    for moments in map(_covariance, beams):
        # along and across each position angle, in units of an ellipse of major axis 1
        sine, cosine = np.sin(angle), np.cos(angle)
        east, north, both = moments[0, 0], moments[1, 1], moments[0, 1]
        along = east * sine**2 + north * cosine**2 + 2.0 * both * sine * cosine
        across = (east * cosine**2 + north * sine**2 - 2.0 * both * sine * cosine) / ratio**2
        mixed = ((east - north) * sine * cosine + both * (cosine**2 - sine**2)) / ratio
        largest = 0.5 * (along + across + np.hypot(along - across, 2.0 * mixed))
        scale = np.maximum(scale, largest)
    place = np.unravel_index(int(np.argmin(scale * ratio)), scale.shape)
    major = math.sqrt(float(scale[place]))
    best = major, major * float(ratio[0, place[1]]), math.degrees(float(angle[place[0], 0]))
    smallest = best[0] * best[1]
    for beam in beams:  # where one of them is large enough itself
        if beam[0] * beam[1] <= smallest and all(
            deconvolved(beam, other) is not None for other in beams
        ):
            best, smallest = beam, beam[0] * beam[1]
    return best[0] * _ROOM, best[1] * _ROOM, best[2]


def with_beam(
    image: NDArray[np.floating], beam: BeamShape, target: BeamShape
) -> NDArray[np.float32]:
    """Return an image, Jy/beam, at a larger beam.

    Parameters
    ----------
    image : (ny, nx) array
        Columns run to the west; NaN where blank, and so is the result.
    beam, target : BeamShape
        Beams of the image and of the result, pixels.

    Raises
    ------
    InputError
        The target does not hold the beam.
    """
    if deconvolved(target, beam) is None:
        raise InputError(
            f"an image with a beam of {beam[0]:.4g} x {beam[1]:.4g} pixels cannot have one of"
            f" {target[0]:.4g} x {target[1]:.4g}",
            "choose a larger beam",
        )
    left = _covariance(target) - _covariance(beam)
    blank = ~np.isfinite(image)
    margin = 2 * math.ceil(target[0])
    padded = np.pad(np.where(blank, 0.0, image), margin)
    v, u = np.fft.fftfreq(padded.shape[0])[:, None], np.fft.rfftfreq(padded.shape[1])[None, :]
    # columns run to the west: east is -x
    square = left[0, 0] * u**2 - 2.0 * left[0, 1] * u * v + left[1, 1] * v**2
    transfer = np.exp(-2.0 * math.pi**2 * square / _FWHM_SQUARE)
    smooth = np.fft.irfft2(np.fft.rfft2(padded) * transfer, s=padded.shape)
    scale = target[0] * target[1] / (beam[0] * beam[1])
    inner = smooth[margin : margin + image.shape[0], margin : margin + image.shape[1]] * scale
    return np.where(blank, np.nan, inner).astype(np.float32)
