"""PSF, dirty image and CLEANed image beside WSClean's, on a small simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.imaging.interface import ImagingOptions, open_image
from libs.imaging.native.native import NativeImager
from libs.imaging.wsclean import WSClean
from libs.simulation.scenarios import make_scenario

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def ms(tmp_path_factory: pytest.TempPathFactory, wsclean: Path) -> Path:
    path = tmp_path_factory.mktemp("sim") / "vla.ms"
    perfect = make_scenario("vla_a_5ghz", path, 0.25, antennas=15).perfect_ms
    assert perfect is not None
    return perfect


@pytest.mark.parametrize(
    "changes",
    [
        {"weighting": "natural"},
        {"robust": 0.0},
        {"robust": -1.5},
        {"robust": 0.5, "uvmin_m": 3000.0, "uvmax_m": 20000.0},
    ],
    ids=str,
)
def test_psf_and_dirty_image_are_those_of_wsclean(
    ms: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    options = ImagingOptions(
        vis=(ms,), folder=tmp_path, basename="own", imsize=(256, 200), cell_arcsec=0.08, niter=0,
        threads=1,
    ).but(**changes)  # fmt: skip
    own = NativeImager().image(options)
    # without CLEAN it refuses data of several windows
    theirs = WSClean().image(options.but(basename="theirs", niter=1))
    for kind in ("psf", "dirty"):
        one, two = (open_image(getattr(products, kind))[0] for products in (own, theirs))
        assert np.abs(one - two).max() < 3e-4 * np.abs(two).max(), kind


def test_cleaned_image_is_no_worse_than_wsclean_s(ms: Path, tmp_path: Path) -> None:
    options = ImagingOptions(
        vis=(ms,), folder=tmp_path, basename="own", imsize=(256, 256), cell_arcsec=0.08,
        robust=0.0, niter=100000, automask_nsigma=5, autothreshold_nsigma=0.5, threads=1,
        update_model=True,
    )  # fmt: skip
    own = NativeImager().image(options)
    theirs = WSClean().image(options.but(basename="theirs", update_model=False))
    one, two = (open_image(products.residual)[0].std() for products in (own, theirs))
    assert one < 1.03 * two
    one, two = (open_image(products.model)[0].sum() for products in (own, theirs))
    assert one == pytest.approx(two, rel=0.02)
