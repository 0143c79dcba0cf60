"""Errors of the main source hold noise, and what antennas and times have in common."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.imaging.native.restore import Beam
from libs.imaging.native.source_scores import SourceScores
from libs.imaging.source_errors import (
    restoring_error,
    score_variances,
    source_scatter,
    widths_error,
)

Draw = Callable[[np.random.Generator, NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
NANT, NPART = 12, 8


def _scores(rng: np.random.Generator, errors: Draw) -> tuple[SourceScores, float]:
    """Scores of one parameter seen by every baseline and part of the time, and its estimate."""
    one, two = np.triu_indices(NANT, 1)
    value = errors(rng, one, two)  # (npart, nbl)
    antenna = np.zeros((NPART, NANT, 7))
    baseline = np.zeros((NPART, NANT, NANT, 7))
    for part in range(NPART):
        np.add.at(antenna[part, :, 0], one, value[part])
        np.add.at(antenna[part, :, 0], two, value[part])
        baseline[part, one, two, 0] = value[part]
    information = np.eye(7)
    information[0, 0] = value.size
    noise = np.zeros((7, 7))
    noise[0, 0] = float((value**2).sum())
    return SourceScores(antenna, baseline, information, noise), float(value.mean())


def _noise(rng: np.random.Generator, one: NDArray[np.int64], _: object) -> NDArray[np.float64]:
    return rng.normal(size=(NPART, len(one)))


def _antennas(
    rng: np.random.Generator, one: NDArray[np.int64], two: NDArray[np.int64]
) -> NDArray[np.float64]:
    each = rng.normal(size=NANT)
    return _noise(rng, one, two) + each[one] + each[two]


def _times(
    rng: np.random.Generator, one: NDArray[np.int64], two: NDArray[np.int64]
) -> NDArray[np.float64]:
    return _noise(rng, one, two) + rng.normal(size=(NPART, 1))


@pytest.mark.parametrize(("errors", "least", "most"), [
    (_noise, 0.55, 1.1), (_antennas, 0.75, 1.3), (_times, 0.75, 1.3),
])  # fmt: skip
def test_errors_are_those_of_the_estimate(errors: Draw, least: float, most: float) -> None:
    rng = np.random.default_rng(5)
    pulls, noise_only = [], []
    for _ in range(300):
        scores, estimate = _scores(rng, errors)
        scatter, noise = score_variances(scores)
        pulls.append(estimate / np.sqrt(scatter[0]))
        noise_only.append(estimate / np.sqrt(noise[0]))
    # the larger of two estimates is taken, so that errors of plain noise are rather too large
    assert least < np.std(pulls) < most
    if errors is not _noise:
        assert np.std(noise_only) > 2.0


def test_plain_noise_hardly_adds_to_the_errors() -> None:
    rng = np.random.default_rng(6)
    found = [source_scatter(_scores(rng, _noise)[0]) for _ in range(50)]
    one = 1.0 / np.sqrt(NPART * NANT * (NANT - 1) / 2)
    # `total` has no scores here, `flux` is not among those given
    assert max(each.total for each in found) == 0.0
    scatter = [np.sqrt(score_variances(_scores(rng, _noise)[0])[0][0]) for _ in range(50)]
    assert np.median(scatter) < 1.6 * one


def test_error_of_a_width_follows_from_that_of_its_square() -> None:
    # FWHM^2 = 8 ln 2 variance: of a width of 2 beams, d(width) = 8 ln 2 d(variance) / (2 width)
    width = 2.0
    moved = np.sqrt(width**2 + 8 * np.log(2) * 1e-4)
    assert widths_error(width, 1e-4) == pytest.approx(moved - width, rel=1e-3)


def test_a_psf_like_the_beam_restores_exactly_and_a_point_always() -> None:
    y, x = np.mgrid[-32:32, -32:32]
    beam = Beam(6.0, 4.0, 30.0)
    a, b, c = beam.exponent()
    psf = np.exp(-(a * x * x + 2 * b * x * y + c * y * y))
    assert restoring_error(psf, beam, 3.0) == pytest.approx(0.0, abs=1e-12)
    assert restoring_error(np.zeros((64, 64)), beam, 0.0) == 0.0


def test_what_a_psf_lacks_shows_by_half_a_beam_at_most() -> None:
    beam = Beam(6.0, 6.0, 0.0)
    psf = np.zeros((64, 64))
    psf[32, 32] = 1.0
    found = [restoring_error(psf, beam, width) for width in (0.5, 1.5, 3.0, 30.0)]
    assert found == sorted(found)
    assert found[2] == found[3] < 1 / np.sqrt(12)
