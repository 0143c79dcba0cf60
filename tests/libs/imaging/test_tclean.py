from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from libs.core.errors import ToolError
from libs.imaging.interface import ImagingOptions, open_image, write_image
from libs.imaging.statistics import measure_products
from libs.imaging.tclean import PhaseCentre, Tclean, needs_w_projection, tclean_arguments
from libs.ms.tables import open_table
from tests.libs import point_source
from tests.pipeline_case import FIELDS, FIRST, WINDOWS, make_pipeline_case


def options(**changes):
    base = ImagingOptions(
        vis=(Path("/data/a.ms"),),
        folder=Path("/out"),
        basename="p0",
        imsize=(512, 256),
        cell_arcsec=0.06,
    )
    return base.but(**changes)


def arguments(nsigma=3.0, niter=1000, **changes):
    mask = changes.pop("casa_mask", None)
    return tclean_arguments(
        options(**changes), Path("/s/p0"), nsigma=nsigma, niter=niter, mask=mask
    )


def test_a_plain_image():
    found = arguments()
    assert found["vis"] == ["/data/a.ms"]
    assert found["imsize"] == [512, 256]
    assert found["cell"] == ["0.06arcsec"]
    assert found["datacolumn"] == "data"
    assert found["deconvolver"] == "hogbom"
    assert found["gridder"] == "standard"
    assert found["weighting"] == "briggs"
    assert found["robust"] == 0.5
    assert found["savemodel"] == "none"
    assert found["uvrange"] == ""
    assert found["mask"] == ""
    assert found["calcpsf"]
    assert found["calcres"]
    assert not found["restart"]


def test_nsigma_never_meets_a_primary_beam_limit_of_minus_one():
    # "No valid values to deconvolve" otherwise
    assert arguments(nsigma=3.0)["pblimit"] == -0.1


def test_partly_flagged_visibilities_are_used():
    assert arguments()["stokes"] == "pseudoI"


def test_second_pass_goes_on_from_the_first():
    found = tclean_arguments(
        options(), Path("/s/p0"), nsigma=1.0, niter=10, mask=Path("/s/c.mask"), go_on=True
    )
    assert found["restart"]
    assert not found["calcpsf"]
    assert not found["calcres"]
    assert found["usemask"] == "user"
    assert found["mask"] == "/s/c.mask"


def test_column_weighting_taper_and_limits():
    found = arguments(
        column="CORRECTED_DATA",
        weighting="natural",
        uvtaper_arcsec=0.4,
        uvmin_m=10.0,
        uvmax_m=8e4,
    )
    assert found["datacolumn"] == "corrected"
    assert found["weighting"] == "natural"
    assert found["uvtaper"] == ["0.4arcsec"]
    assert found["uvrange"] == "10~80000m"
    assert arguments(uvmin_m=10.0)["uvrange"] == ">10m"


def test_deconvolvers():
    assert arguments(multiscale=True)["deconvolver"] == "multiscale"
    assert arguments(multiscale=True)["scales"] == [0, 5, 15]
    assert arguments(multiscale=True, scales_pixel=(0.0, 7.6))["scales"] == [0, 8]
    assert arguments(multiscale=True, gain=0.05)["gain"] == 0.2
    assert arguments(gain=0.05)["gain"] == 0.05
    spectral = arguments(nterms=2)
    assert spectral["deconvolver"] == "mtmfs"
    assert spectral["nterms"] == 2


def test_w_projection_for_wide_fields_only():
    narrow = options(imsize=(256, 256), cell_arcsec=0.4)
    assert not needs_w_projection(narrow, 2800.0, 8e9)
    wide = options(imsize=(4096, 4096), cell_arcsec=0.5)
    assert needs_w_projection(wide, 20e3, 1.4e9)
    assert not needs_w_projection(wide.but(uvmax_m=50.0), 20e3, 1.4e9)
    found = tclean_arguments(wide, Path("/s/p"), nsigma=0, niter=0, w_projection=True)
    assert (found["gridder"], found["wprojplanes"]) == ("wproject", -1)


def test_phase_centre_in_the_frame_of_the_data():
    here = PhaseCentre("J2000", 180.0, 60.0)
    assert here.casa() == "J2000 180.0000000000deg 60.0000000000deg"
    east, north = here.offset_rad(here.at(180.02, 60.0))
    assert east == pytest.approx(math.radians(0.01), rel=1e-5)
    assert north == pytest.approx(0, abs=1e-7)
    # 3C 273, J2000 12:29:06.70 +02:03:08.6, is B1950 12:26:33.25 +02:19:43.3
    old = PhaseCentre("B1950_VLA", 0.0, 0.0).at(187.277915, 2.052388)
    assert old.ra_deg == pytest.approx(186.638535, abs=1e-4)
    assert old.dec_deg == pytest.approx(2.328694, abs=1e-4)
    with pytest.raises(ToolError, match="GALACTIC"):
        PhaseCentre("GALACTIC", 0.0, 0.0).at(1.0, 1.0)


class _Casa:
    """Stands in for the CASA session: records tasks, makes no images."""

    def __init__(self):
        self.tasks = []

    def run(self, task, *, log=None, module="casatasks", **kwargs):
        self.tasks.append(task)
        return {"iterdone": 3}


def test_a_run_that_makes_no_images_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "libs.imaging.tclean._phase_centre", lambda _: PhaseCentre("J2000", 0.0, 0.0)
    )
    monkeypatch.setattr("libs.imaging.tclean.longest_w", lambda *_: (1.0, 1e9))
    casa = _Casa()
    with pytest.raises(ToolError, match="tclean made no image image"):
        Tclean(casa).image(options(folder=tmp_path))
    assert casa.tasks == ["tclean"]
    assert list(tmp_path.iterdir()) == []


# With the real tool


@pytest.fixture(scope="module")
def point_ms(tmp_path_factory, session):
    return point_source.make(tmp_path_factory.mktemp("tclean") / "point.ms", session, rms_jy=0.01)


def real_options(ms, folder, **changes):
    return ImagingOptions(
        (ms,),
        folder,
        "point",
        (128, 128),
        point_source.CELL_ARCSEC,
        robust=0.0,
        niter=1000,
        gain=0.1,
        automask_nsigma=6.0,
        autothreshold_nsigma=3.0,
    ).but(**changes)


def _peak(products):
    plane, _ = open_image(products.image)
    y, x = np.unravel_index(plane.argmax(), plane.shape)
    return int(x) - plane.shape[1] // 2, int(y) - plane.shape[0] // 2, float(plane.max())


EAST, NORTH = point_source.OFFSET_PIXELS


@pytest.mark.tools
def test_point_source_is_where_and_what_it_is_and_so_is_its_model(point_ms, tmp_path, session):
    made = Tclean(session).image(real_options(point_ms, tmp_path, update_model=True))
    assert _peak(made) == (-EAST, NORTH, pytest.approx(point_source.FLUX_JY, rel=2e-3))
    assert point_source.model_error(point_ms) < 0.01
    found = measure_products(made)
    assert found.total_flux_jy == pytest.approx(point_source.FLUX_JY, rel=0.01)
    assert found.dynamic_range > 3000
    assert {path.name for path in tmp_path.iterdir()} == {
        "point.log",
        *(f"point-{kind}.fits" for kind in ("image", "residual", "model", "psf")),
    }
    # 3C 273's field in B1950; 10 pixels of 0.4 arcsec east, 7 south of it
    assert found.peak_dec_deg == pytest.approx(2.05238 - 7 * 0.4 / 3600, abs=1e-4)
    assert found.peak_ra_deg == pytest.approx(187.27792 + 10 * 0.4 / 3600, abs=1e-4)
    assert fits.getval(made.image, "EQUINOX") == 1950.0


@pytest.mark.tools
def test_shifted_image_with_a_mask_predicts_rightly(point_ms, tmp_path, session):
    imager = Tclean(session)
    plain = real_options(point_ms, tmp_path)
    found = measure_products(imager.image(plain.but(niter=0)))
    shifted = plain.but(
        phase_centre_deg=(found.peak_ra_deg, found.peak_dec_deg), basename="shifted"
    )
    made = imager.image(shifted.but(niter=0))
    assert _peak(made)[:2] == (0, 0)
    plane, head = open_image(made.image)
    mask = np.zeros_like(plane)
    mask[61:68, 61:68] = 1
    path = write_image(mask, head, tmp_path / "mask.fits")
    made = imager.image(shifted.but(mask=path, update_model=True))
    model, _ = open_image(made.model)
    assert model.sum() == pytest.approx(point_source.FLUX_JY, rel=0.01)
    assert not model[mask == 0].any()
    # The frames agree to a tenth of an arcsecond: a quarter of a pixel off, components around.
    assert point_source.model_error(point_ms) < 0.2


@pytest.mark.tools
def test_taylor_terms_of_a_single_channel_are_not_fitted(point_ms, tmp_path, session):
    made = Tclean(session).image(real_options(point_ms, tmp_path, nterms=2, update_model=True))
    assert made.models == (made.model,)
    assert point_source.model_error(point_ms) < 0.01


@pytest.mark.tools
@pytest.mark.parametrize("harm", ["flags", "weights"])
def test_data_without_weight_are_an_error(point_ms, tmp_path, session, harm):
    ms = tmp_path / "bad.ms"
    shutil.copytree(point_ms, ms)
    with open_table(ms, write=True) as opened:
        names = ["FLAG"] if harm == "flags" else ["WEIGHT", "WEIGHT_SPECTRUM"]
        for name in names:
            opened.putcol(name, np.full_like(opened.getcol(name), name == "FLAG"))
    with pytest.raises(ToolError):
        Tclean(session).image(real_options(ms, tmp_path))
    assert not list(tmp_path.glob("*.fits"))


@pytest.mark.tools
def test_the_beam_of_sparse_data_does_not_depend_on_the_pixels(tmp_path, session):
    """Eight antennas, two minutes: sidelobes beside the main lobe are no part of the beam."""
    case = make_pipeline_case(
        tmp_path, [FIRST], fields=FIELDS[1:2], windows=WINDOWS[:1], antennas=8, scans=1,
        scan_s=120.0,
    )  # fmt: skip
    beams = []
    for size, cell in ((256, 0.06), (512, 0.03)):
        made = Tclean(session).image(ImagingOptions(
            case.vis, tmp_path, f"cell{size}", (size, size), cell, robust=-0.5, niter=1,
            automask_nsigma=6.0, autothreshold_nsigma=3.0,
        ))  # fmt: skip
        header = fits.getheader(made.image)
        beams.append([3600 * header[key] for key in ("BMAJ", "BMIN")])
    assert beams[0] == pytest.approx(beams[1], rel=0.05)
