"""Components of an image as the start of a fit to closure quantities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.closure_cases import ARCSEC, JET_SOURCE, jet_case
from libs.closure.model import FitOptions, refit_components
from libs.closure.problem import Components
from libs.closure.statistics import closure_quantities
from libs.closure.units import fitted_components
from libs.core.gaussian import GaussianComponent


def _seen(rng: np.random.Generator) -> list[GaussianComponent]:
    """The jet as an image with errors of its own would show it, anywhere on the sky."""
    beam = 5e-4 * ARCSEC
    return [
        GaussianComponent(
            flux_jy=source.flux_jy * float(rng.uniform(0.8, 1.2)),
            l_rad=source.l_arcsec * ARCSEC + float(rng.normal(0.0, 0.2 * beam)) + 3 * beam,
            m_rad=source.m_arcsec * ARCSEC + float(rng.normal(0.0, 0.2 * beam)) - 2 * beam,
            major_rad=0.5 * beam, minor_rad=0.4 * beam, pa_rad=0.3,
        )
        for source in JET_SOURCE
    ]  # fmt: skip


def test_it_ends_at_the_true_components() -> None:
    start = _seen(np.random.default_rng(2))
    closures = closure_quantities(jet_case(), 120)
    model = refit_components(closures, {"the image": start}, FitOptions(max_phases=2500),
                             total_flux_jy=0.98)  # fmt: skip
    assert model.accepted and not model.partial and model.reduced_chi2 < 1.2
    assert "of the image" in model.reason
    for found, true in zip(model.components, JET_SOURCE, strict=True):
        assert found.flux_jy == pytest.approx(true.flux_jy, rel=0.02)
        assert found.l_rad / ARCSEC == pytest.approx(true.l_arcsec, abs=3e-5)
        assert found.m_rad / ARCSEC == pytest.approx(true.m_arcsec, abs=3e-5)


def test_the_better_of_two_starts_is_taken() -> None:
    start = _seen(np.random.default_rng(2))
    closures = closure_quantities(jet_case(), 120)
    starts = {"one point": [GaussianComponent(1.0, 0, 0, 0, 0, 0, point=True)], "the image": start}
    model = refit_components(closures, starts, FitOptions(max_phases=2500))
    assert "of the image" in model.reason


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0.1, 3.0), st.floats(0.05, 1.0), st.floats(0.0, math.pi - 1e-3),
    st.floats(-5.0, 5.0), st.floats(-5.0, 5.0),
)  # fmt: skip
def test_shapes_are_kept(major: float, ratio: float, pa: float, l_rad: float, m_rad: float) -> None:
    unit = 1e-6
    one = GaussianComponent(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, point=True)
    two = GaussianComponent(0.5, l_rad * unit, m_rad * unit, major * unit, ratio * major * unit, pa)
    made: Components = fitted_components([one, two], unit)
    xx, xy, yy = made.covariance[1] * 8 * math.log(2)
    along, across = (math.sin(pa), math.cos(pa)), (math.cos(pa), -math.sin(pa))
    square = np.array([[xx, xy], [xy, yy]])
    assert along @ square @ along == pytest.approx(major**2, rel=1e-6)
    assert across @ square @ across == pytest.approx((ratio * major) ** 2, rel=1e-6)
    assert made.position[1] == pytest.approx([l_rad, m_rad], abs=1e-9)
    assert not made.extended[0] and made.extended[1]
    assert made.log_flux[1] == pytest.approx(math.log(0.5))
