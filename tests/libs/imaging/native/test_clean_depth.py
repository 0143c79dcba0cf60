"""How deep CLEAN goes with few stations, where sidelobes hide the noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.campaign.draw import draw
from benchmarks.campaign.true_source import true_plane
from libs.core.errors import ConfigError
from libs.imaging.interface import ImageProducts, ImagingOptions, open_image
from libs.imaging.native.native import NativeImager
from libs.imaging.statistics import mad_std, measure_products
from libs.imaging.tclean import Tclean
from libs.imaging.wsclean import WSClean
from libs.simulation.scenarios import make_scenario

# a Gaussian of 1.04 Jy seen by the six stations of e-MERLIN
FEW_STATIONS = 10000

# a Gaussian so large that the image without CLEAN shows nothing above its own sidelobes
LOST = 10229

# a disc seen by ten dishes of the ACA, with PSF sidelobes of 40 %
DISC = 10005


def options(ms: Path, cell_arcsec: float, **changes: object) -> ImagingOptions:
    first = ImagingOptions(
        vis=(ms,), folder=ms.parent / "images", basename="i", imsize=(256, 256),
        cell_arcsec=cell_arcsec, robust=0.0, niter=100_000, automask_nsigma=3.0,
        autothreshold_nsigma=1.5, deeper=True,
    )  # fmt: skip
    return first.but(**changes)


def noise(products: ImageProducts) -> float:
    return mad_std(open_image(products.residual)[0])


@pytest.mark.tools
def test_sidelobes_of_the_sky_are_cleaned_and_those_of_gains_are_not(tmp_path: Path) -> None:
    made = make_scenario(draw(FEW_STATIONS).scenario, tmp_path / "draw.ms")
    assert made.perfect_ms is not None
    imager = NativeImager()
    shallow = imager.image(options(made.perfect_ms, 0.037, basename="s", deeper=False))
    deep = imager.image(options(made.perfect_ms, 0.037))
    assert noise(shallow) > 20 * shallow.thermal_jy_beam
    assert noise(deep) < 1.5 * deep.thermal_jy_beam
    assert float(np.sum(open_image(shallow.model)[0])) < 0.9
    assert float(np.sum(open_image(deep.model)[0])) == pytest.approx(1.038, rel=0.02)

    spoilt = imager.image(options(made.ms, 0.037))
    without = imager.image(options(made.ms, 0.037, basename="s", deeper=False))
    assert np.array_equal(open_image(spoilt.model)[0], open_image(without.model)[0])


@pytest.mark.tools
def test_a_source_lost_in_its_own_sidelobes_is_found(tmp_path: Path) -> None:
    drawn = draw(LOST)
    made = make_scenario(drawn.scenario, tmp_path / "draw.ms")
    assert made.perfect_ms is not None
    how = options(made.perfect_ms, 0.036, automask_nsigma=6.0, autothreshold_nsigma=3.0)
    imager = NativeImager()
    left, found = (
        imager.image(how.but(basename=name, deeper=deeper))
        for name, deeper in (("left", False), ("found", True))
    )
    assert not np.any(open_image(left.model)[0]), "the peak is 1.8 times the noise"
    assert noise(found) < 0.05 * noise(left)
    errors = [
        float(np.std(open_image(each.image)[0] - true_plane(drawn.scenario, each.image)))
        for each in (left, found)
    ]
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.tools
def test_components_that_make_the_image_noisier_are_taken_back(tmp_path: Path) -> None:
    made = make_scenario(draw(DISC).scenario, tmp_path / "draw.ms")
    assert made.perfect_ms is not None
    products = NativeImager().image(options(made.perfect_ms, 1.1, imsize=(512, 512), deeper=False))
    statistics = measure_products(products)
    assert statistics.dynamic_range > 2000
    assert float(np.sum(open_image(products.model)[0])) == pytest.approx(0.125, rel=0.06)


@pytest.mark.parametrize("imager", [WSClean(), Tclean(session=None)])  # type: ignore[arg-type]
def test_other_imagers_say_that_they_cannot(tmp_path: Path, imager: WSClean | Tclean) -> None:
    assert not imager.goes_deeper
    with pytest.raises(ConfigError, match="by the noise of the visibilities"):
        imager.image(options(tmp_path / "none.ms", 1.0))
