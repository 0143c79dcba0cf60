from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.errors import ConfigError
from libs.core.geometry import (
    auto_cell_arcsec,
    coarse_field,
    frequency_slices,
    good_size,
    primary_beam_fwhm_arcsec,
    resolution_arcsec,
    smeared_field_arcsec,
)


def _only_2_3_5(size: int) -> bool:
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    return size == 1


@given(st.integers(16, 20000))
def test_good_size_is_the_next_even_number_of_small_primes(pixels):
    size = good_size(pixels)
    assert size >= pixels
    assert size % 2 == 0
    assert _only_2_3_5(size)
    assert not any(_only_2_3_5(n) for n in range(pixels + pixels % 2, size, 2))


def test_good_sizes_known():
    assert [good_size(n) for n in (500, 501, 512, 513, 641, 1000, 7)] == [
        500,
        512,
        512,
        540,
        648,
        1000,
        16,
    ]


def test_resolution_of_the_vla_a_array_at_1_4_ghz():
    # 36.4 km at 1.4 GHz: 1.2 arcsec; VLA status summary: 1.3 arcsec at L band.
    assert resolution_arcsec(36.4e3, 1.4e9) == pytest.approx(1.21, abs=0.01)


@given(st.floats(10, 1e7), st.floats(1e8, 1e12), st.floats(2, 10))
def test_cell_samples_the_beam_at_least_as_often_as_asked(baseline, frequency, oversampling):
    cell = auto_cell_arcsec(baseline, frequency, oversampling=oversampling)
    samples = resolution_arcsec(baseline, frequency) / cell
    assert oversampling * (1 - 1e-9) <= samples < oversampling * 1.11
    assert float(f"{cell:.2g}") == cell


@pytest.mark.parametrize("baseline", [0.0, -1.0, math.nan, math.inf])
def test_no_baseline_is_an_error_that_names_the_remedy(baseline):
    with pytest.raises(ConfigError, match="imsize and cell"):
        auto_cell_arcsec(baseline, 1e9)


def test_primary_beam_of_alma_at_100_ghz():
    # ALMA Technical Handbook: 12 m dishes, 58 arcsec at 100 GHz.
    assert primary_beam_fwhm_arcsec(100e9, 12.0) == pytest.approx(58.2, abs=0.3)


def test_coarse_field_of_a_small_array_holds_every_baseline():
    field = coarse_field(3728.0, (8.06e9, 8.11e9), 25.0)
    assert field.uvmax_m == 0
    assert field.imsize == (648, 648)
    assert field.cell_arcsec == 0.81
    assert field.width_arcsec >= 1.5 * primary_beam_fwhm_arcsec(8.06e9, 25.0)


def test_coarse_field_of_a_large_array_leaves_out_baselines_its_pixels_cannot_hold():
    field = coarse_field(36.4e3, (1e9, 2e9), 25.0, max_pixels=1000)
    assert field.imsize == (1000, 1000)
    assert field.width_arcsec == pytest.approx(1.5 * primary_beam_fwhm_arcsec(1e9, 25.0))
    assert 0 < field.uvmax_m < 36.4e3
    assert resolution_arcsec(field.uvmax_m, 2e9) == pytest.approx(2.5 * field.cell_arcsec)


def test_an_array_without_short_baselines_is_given_the_field_it_does_not_smear():
    """Ten VLBA antennas at 8.4 GHz have no baseline that fits 3000 pixels of the primary beam."""
    lengths = np.geomspace(2e5, 8.6e6, 45)
    smeared = smeared_field_arcsec(8.6e6, 8.4e9, 8e6, 4.0)
    # 0.6034 c / (8600 km x 8 MHz) = 2.63e-6 rad to each side
    assert smeared == pytest.approx(2 * 0.542, rel=0.01)
    field = coarse_field(8.6e6, (8.4e9, 8.5e9), 25.0, lengths_m=lengths, smeared_arcsec=smeared)
    assert field.uvmax_m == 0, "every baseline is imaged"
    assert field.imsize[0] <= 3000
    assert field.width_arcsec <= 1.07 * smeared
    assert field.cell_arcsec < resolution_arcsec(8.6e6, 8.5e9) / 2


def test_an_array_of_mostly_short_baselines_keeps_its_primary_beam():
    lengths = np.concatenate([np.full(60, 5e3), np.full(40, 36e3)])
    plain = coarse_field(36.4e3, (5e9, 5e9), 25.0)
    assert coarse_field(36.4e3, (5e9, 5e9), 25.0, lengths_m=lengths, smeared_arcsec=9.0) == plain


def test_long_integrations_smear_more_than_narrow_channels():
    assert smeared_field_arcsec(1e6, 1e9, 1e3, 10.0) < smeared_field_arcsec(1e6, 1e9, 1e3, 1.0)
    assert math.isinf(smeared_field_arcsec(1e6, 1e9, 0.0, 0.0))


def test_wide_bands_are_imaged_in_slices():
    assert frequency_slices(np.linspace(8.06e9, 8.11e9, 64)) == (1, 1)
    assert frequency_slices(np.linspace(4.5e9, 5.5e9, 512)) == (4, 2)
    assert frequency_slices(np.linspace(1e9, 2e9, 1024)) == (8, 3)
    assert frequency_slices(np.array([2e9, 1e9])) == (2, 2)
    assert frequency_slices(np.array([1e9])) == (1, 1)
    with pytest.raises(ConfigError):
        frequency_slices(np.array([0.0, 1e9]))


def test_no_more_spectral_terms_than_the_channels_tell():
    low, high = np.linspace(1.084e9, 1.116e9, 8), np.linspace(1.384e9, 1.416e9, 8)
    middle = np.linspace(1.234e9, 1.266e9, 8)
    assert frequency_slices(np.concatenate([low, high])) == (8, 2)  # a curve between: anything
    assert frequency_slices(np.concatenate([high, low, middle])) == (8, 3)
    # one channel far from a hundred says little of the middle between
    assert frequency_slices(np.append(np.linspace(1.0e9, 1.01e9, 100), 1.4e9)) == (8, 1)
