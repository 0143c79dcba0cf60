"""A mosaic of ALMA's 12 m and 7 m dishes in one image: each set is seen through its own beam."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.wcs import WCS

from libs.core.coordinates import lm_to_radec
from libs.imaging.gaussian_fit import fit_gaussian
from libs.imaging.interface import ImagingOptions, open_image
from libs.imaging.joint import Mosaic
from libs.imaging.native.mosaic_model import predict_mosaic
from libs.imaging.native.native import NativeImager
from libs.ms.tables import open_table
from libs.simulation.observation import Source
from tests.pipeline_case import (
    ARCSEC,
    FIELDS,
    FIRST,
    MOSAIC_DEG,
    MOSAIC_SKY,
    WINDOWS,
    ExecutionMade,
    GainErrors,
    make_pipeline_case,
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Three pointings seen by 12 m dishes and by 7 m dishes, without errors of gains."""
    small = ExecutionMade("uid___A002_X2b_X7", 59030.0, array="7m")
    return make_pipeline_case(
        tmp_path_factory.mktemp("unlike"), [FIRST, small], antennas=9, windows=WINDOWS[:1],
        fields=(FIELDS[0], *FIELDS[3:]), errors=GainErrors(walk_deg=0.0), noise_jy=0.005,
    ).vis  # fmt: skip


def options(sets: tuple[Path, ...], folder: Path, *, unlike: bool) -> ImagingOptions:
    folder.mkdir()
    return ImagingOptions(
        vis=sets, folder=folder, basename="joint", imsize=(1200, 1200), cell_arcsec=0.1,
        robust=0.5, niter=2000, automask_nsigma=5.0, autothreshold_nsigma=2.0,
        mosaic=Mosaic((1, 2, 3), "alma", 12.0, unlike=unlike), phase_centre_deg=MOSAIC_DEG,
    )  # fmt: skip


def fluxes(image: Path, response: Path) -> list[float]:
    """Fluxes of the sources over the response in their places, by Gaussians."""
    _, header = open_image(image)
    plane, found = open_image(response)[0], []
    for source in MOSAIC_SKY:
        place = _pixel(source, WCS(header, fix=False).celestial)
        found.append(float(fit_gaussian(image, place).flux_jy / plane[place[1], place[0]]))
    return found


def _pixel(source: Source, wcs: WCS) -> tuple[int, int]:
    ra, dec = lm_to_radec(
        source.l_arcsec * ARCSEC, source.m_arcsec * ARCSEC, *map(math.radians, MOSAIC_DEG)
    )
    x, y = wcs.all_world2pix(math.degrees(ra), math.degrees(dec), 0)
    return round(float(x)), round(float(y))


def test_fluxes_are_those_of_the_sky_and_the_model_those_of_the_data(
    sets: tuple[Path, ...], tmp_path: Path
) -> None:
    true = [source.flux_jy for source in MOSAIC_SKY]
    wanted = options(sets, tmp_path / "own", unlike=True)
    made = NativeImager().image(wanted)
    assert fluxes(made.image, wanted.folder / "joint-pb.fits") == pytest.approx(true, rel=0.04)
    predict_mosaic(made.models, wanted)
    for ms in sets:  # the brightest source is off the axis of a beam in all pointings
        with open_table(ms) as opened:
            mosaic = opened.getcol("FIELD_ID") > 0
            data, model = (opened.getcol(name)[mosaic] for name in ("DATA", "MODEL_DATA"))
        inner = np.vdot(model, data).real / np.vdot(model, model).real
        assert inner == pytest.approx(1.0, abs=0.03)
    # one beam for both is wrong by more
    alike = options(sets, tmp_path / "one", unlike=False)
    other = NativeImager().image(alike)
    assert fluxes(other.image, alike.folder / "joint-pb.fits")[0] > 1.1 * true[0]
