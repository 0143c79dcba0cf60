"""CLEAN with scales on an array whose PSF has sidelobes up to the edge of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.campaign.draw import draw
from libs.imaging.interface import ImagingOptions
from libs.imaging.native.native import NativeImager
from libs.imaging.statistics import check_clean, measure_products
from libs.simulation.scenarios import make_scenario

# a jet seen by ten dishes of the ACA
SEED = 9517


@pytest.mark.tools
def test_scales_do_not_make_clean_diverge(tmp_path: Path) -> None:
    case = draw(SEED)
    made = make_scenario(case.scenario, tmp_path / "draw.ms")
    assert made.perfect_ms is not None
    options = ImagingOptions(
        vis=(made.perfect_ms,), folder=tmp_path, basename="deep", imsize=(256, 256),
        cell_arcsec=1.3, robust=0.0, niter=100_000, automask_nsigma=4.0,
        autothreshold_nsigma=0.3, multiscale=True,
    )  # fmt: skip
    products = NativeImager().image(options)
    check_clean(products)
    statistics = measure_products(products)
    truth = sum(source.flux_jy for source in case.scenario.sky)
    assert statistics.total_flux_jy == pytest.approx(truth, rel=0.1)
