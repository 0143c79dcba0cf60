"""Models of flux calibrators."""

from __future__ import annotations

import numpy as np
import pytest

from libs.catalogues.flux_standards import named_standard
from libs.imaging.standard_models import (
    find_model_image,
    point_model,
    read_model_image,
    resolved_model,
)

UVW_M = np.array([[100.0, 0, 0], [0, 100.0, 0], [3000.0, -2000.0, 500.0], [0, 0, 0]])


def test_bands_have_their_image() -> None:
    standard = named_standard("3C286")
    assert standard is not None
    for ghz, letter in ((1.4, "L"), (3.0, "S"), (6.0, "C"), (10.0, "X"), (15.0, "U"), (33.0, "A")):
        path = find_model_image(standard, 1e9 * ghz)
        assert path is not None and path.name == f"3C286_{letter}.im"
    other = named_standard("3C295")
    assert other is not None and find_model_image(other, 5e9) is None


def test_an_image_is_where_the_source_is_and_has_its_flux() -> None:
    standard = named_standard("3C286")
    assert standard is not None
    path = find_model_image(standard, 1.4e9)
    assert path is not None
    at = np.radians([standard.right_ascension_deg, standard.declination_deg])
    model = read_model_image(path, (float(at[0]), float(at[1])))
    hz = np.array([1.4e9, 1.5e9])
    seen = resolved_model(model, standard)(UVW_M, hz)
    flux = standard.flux_jy(hz)
    # short baselines see all of it at the named place, long ones less
    assert np.abs(seen[:2] / flux - 1).max() < 0.01
    assert seen[3] == pytest.approx(flux, rel=1e-5)
    moved = read_model_image(path, (float(at[0]), float(at[1]) - np.radians(10 / 3600)))
    expected = point_model(standard.flux_jy, (0.0, np.radians(10 / 3600)))(UVW_M, hz)
    assert np.abs(resolved_model(moved, standard)(UVW_M, hz)[:2] / expected[:2] - 1).max() < 0.01


def test_a_resolved_standard_is_seen_less_on_long_baselines() -> None:
    standard = named_standard("3C147")
    assert standard is not None
    path = find_model_image(standard, 10e9)
    assert path is not None
    at = np.radians([standard.right_ascension_deg, standard.declination_deg])
    model = read_model_image(path, (float(at[0]), float(at[1])))
    far = np.array([[30e3, 10e3, 0.0]])
    seen = np.abs(resolved_model(model, standard)(far, np.array([10e9])))[0, 0]
    assert seen < 0.97 * standard.flux_jy(np.array([10e9]))[0]
