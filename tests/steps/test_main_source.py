"""The main source's numbers: what they are made of, and where they are not known."""

from __future__ import annotations

import dataclasses
import math

import pytest

from libs.gains.scatter import GainFreedom
from libs.imaging.gaussian_fit import FittedGaussian
from libs.imaging.source_errors import SourceScatter
from libs.imaging.statistics import ImageStatistics
from steps.main_source import CleanDifference, source_with_errors

FITTED = FittedGaussian(10.0, 12.0, 80.0, 60.0, 2.0, 0.01, 2.2, 0.02, 2.0, 1.5, 30.0, 0.01, 0.01)
NOTHING = SourceScatter(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
FIXED = GainFreedom(0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def statistics() -> ImageStatistics:
    values = {f.name: 0.0 for f in dataclasses.fields(ImageStatistics)}
    values |= {"peak_jy_beam": 2.1, "rms_jy_beam": 0.01}
    values |= {"total_flux_jy": 4.0, "flux_error_jy": 0.05}
    values |= {"beam_major_arcsec": 1.6, "beam_minor_arcsec": 0.9}
    return ImageStatistics(**values)  # type: ignore[arg-type]


def test_noise_alone(statistics: ImageStatistics) -> None:
    source = source_with_errors(FITTED, statistics, NOTHING, FIXED)
    assert (source.peak_jy_beam, source.peak_error_jy_beam) == (2.0, 0.01)
    assert (source.total_flux_jy, source.total_flux_error_jy) == (4.0, 0.05)
    assert source.ra_error_arcsec == source.dec_error_arcsec == 0.01


def test_sidelobes_that_are_left_count_as_noise(statistics: ImageStatistics) -> None:
    sparse = dataclasses.replace(statistics, residual_rms_jy_beam=0.2)
    assert source_with_errors(FITTED, sparse, NOTHING, FIXED).peak_error_jy_beam == 0.2


def test_what_gains_leave_open_is_added_in_quadrature(statistics: ImageStatistics) -> None:
    source = source_with_errors(FITTED, statistics, NOTHING, GainFreedom(0.03, 0.04, 0.02, 0.5))
    assert source.peak_error_jy_beam == pytest.approx(math.hypot(0.01, 2.0 * 0.02))
    assert source.total_flux_error_jy == pytest.approx(math.hypot(0.05, 4.0 * 0.02))
    assert source.ra_error_arcsec == pytest.approx(math.hypot(0.01, 0.03))
    assert source.dec_error_arcsec == pytest.approx(math.hypot(0.01, 0.04))


def test_after_large_phases_the_position_is_open(statistics: ImageStatistics) -> None:
    source = source_with_errors(FITTED, statistics, NOTHING, GainFreedom(0.03, 0.04, 0.0, 1.3))
    assert math.isnan(source.ra_error_arcsec) and math.isnan(source.dec_error_arcsec)
    assert source.ra_deg == 80.0


def test_without_a_gaussian_there_is_peak_and_flux(statistics: ImageStatistics) -> None:
    source = source_with_errors(None, statistics, SourceScatter(0.1, 0.2, 0, 0, 0, 0), FIXED)
    assert source.peak_jy_beam == 2.1
    assert source.peak_error_jy_beam == pytest.approx(math.hypot(0.01, 0.2))
    assert source.total_flux_error_jy == pytest.approx(math.hypot(0.05, 0.4))
    assert math.isnan(source.ra_deg) and math.isnan(source.major_arcsec)


def test_what_clean_leaves_open_is_added_in_quadrature(statistics: ImageStatistics) -> None:
    by_clean = CleanDifference(-0.03, 0.12, 0.02, -0.03, 0.05, -0.06)
    source = source_with_errors(FITTED, statistics, NOTHING, FIXED, by_clean)
    without = source_with_errors(FITTED, statistics, NOTHING, FIXED)
    for name, added in (
        ("peak_error_jy_beam", 0.03), ("total_flux_error_jy", 0.12), ("ra_error_arcsec", 0.02),
        ("dec_error_arcsec", 0.03), ("major_error_arcsec", 0.05), ("minor_error_arcsec", 0.06),
    ):  # fmt: skip
        before, after = getattr(without, name), getattr(source, name)
        assert after == pytest.approx(math.hypot(before, added / math.sqrt(3))), name
    assert source.peak_jy_beam == without.peak_jy_beam


def test_a_model_below_the_resolution_leaves_peak_and_widths_open(
    statistics: ImageStatistics,
) -> None:
    source = source_with_errors(FITTED, statistics, NOTHING, FIXED, restoring=0.02)
    without = source_with_errors(FITTED, statistics, NOTHING, FIXED)
    assert source.peak_error_jy_beam == pytest.approx(math.hypot(0.01, 0.04))
    assert source.major_error_arcsec == pytest.approx(math.hypot(without.major_error_arcsec, 0.02))
    assert source.total_flux_error_jy == without.total_flux_error_jy
