from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from matplotlib.patches import Ellipse

from libs.core.errors import InputError
from reports.image_figures import (
    Panel,
    compare_images,
    compare_residuals,
    image_history,
    round_images,
    zoom_box,
)
from reports.image_panels import shared_scale
from reports.image_view import bright_box, mask_box, read_shown
from tests.reports.fake_run import BEAM_ARCSEC, CELL_ARCSEC, make_images, write_fits
from tests.reports.test_gain_figures import ink


def panel(workdir: Path, step: str, status: str = "done", size: int = 200) -> Panel:
    products = make_images(workdir, step, size, seed=len(step))
    image, residual, mask = (workdir / products[name] for name in ("image", "residual", "mask"))
    return Panel(step, image, residual, mask, "DR 10", status)


@pytest.fixture
def panels(tmp_path: Path) -> list[Panel]:
    return [panel(tmp_path, "test_image"), panel(tmp_path, "p2", "rejected"), panel(tmp_path, "p1")]


def image_axes(figure) -> list:
    return [axes for axes in figure.axes if axes.images and axes.get_visible()]


def test_all_panels_share_one_colour_scale(panels: list[Panel]) -> None:
    figure = compare_images([panels[0], panels[2]])
    axes = image_axes(figure)
    assert len(axes) == 4  # zoom and full, twice
    limits = {(a.images[0].norm.vmin, a.images[0].norm.vmax) for a in axes}
    assert len(limits) == 1
    peak = max(read_shown(p.image).plane.max() for p in (panels[0], panels[2]))
    assert limits.pop()[1] == pytest.approx(peak)
    assert ink(figure) > 0.2
    assert [a.get_title("left") for a in axes[:2]] == ["test_image", "p1"]


def test_the_zoom_holds_the_mask_and_the_mask_is_drawn(panels: list[Panel]) -> None:
    figure = compare_images([panels[2]])
    zoom, full = image_axes(figure)
    assert zoom.collections  # the contour
    mask = fits.getdata(panels[2].mask).squeeze() > 0
    rows, columns = np.nonzero(mask)
    east = -(columns - 100) * CELL_ARCSEC
    north = (rows - 100) * CELL_ARCSEC
    assert zoom.get_xlim()[0] > east.max() and zoom.get_xlim()[1] < east.min()
    assert zoom.get_ylim()[0] < north.min() and zoom.get_ylim()[1] > north.max()
    assert abs(np.subtract(*full.get_xlim())) == pytest.approx(200 * CELL_ARCSEC)
    assert [patch for patch in full.patches if patch.get_gid() == "zoom"]


def test_east_is_left_and_the_reference_pixel_is_zero(tmp_path: Path) -> None:
    plane = np.zeros((64, 64))
    plane[32, 32] = 1.0  # FITS pixel 33, the reference
    path = write_fits(tmp_path / "a.fits", plane)
    left, right, bottom, top = read_shown(path).extent_arcsec
    assert left > 0 > right and bottom < 0 < top
    x = left + (32 + 0.5) * (right - left) / 64
    assert x == pytest.approx(0, abs=1e-9)
    assert read_shown(path).centre == "12h29m06.70s +02°03\u203208.6\u2033"


def test_the_beam_is_drawn_to_scale_and_turned_from_north_to_east(panels: list[Panel]) -> None:
    axes = image_axes(compare_images([panels[2]]))[0]
    (beam,) = [patch for patch in axes.patches if isinstance(patch, Ellipse)]
    assert (beam.height, beam.width) == pytest.approx(BEAM_ARCSEC[:2])
    # the tip of the major axis: east (positive x) for a position angle between 0 and 90 deg
    tip = beam.get_patch_transform().transform([(0.0, 1.0)])[0] - np.array(beam.center)
    angle = np.degrees(np.arctan2(tip[0], tip[1])) % 180
    assert angle == pytest.approx(BEAM_ARCSEC[2])


def test_residuals_have_one_symmetric_scale(panels: list[Panel]) -> None:
    figure = compare_residuals(panels)
    assert figure is not None
    limits = {a.images[0].get_clim() for a in image_axes(figure)}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high < 0
    assert compare_residuals([Panel("a", panels[0].image)]) is None


def test_history_marks_a_rejected_step(panels: list[Panel]) -> None:
    figure = image_history(panels)
    axes = image_axes(figure)
    assert [a.get_title("left") for a in axes] == ["test_image", "p2", "p1"]
    colours = [a.spines["left"].get_edgecolor() for a in axes]
    assert colours[0] == colours[2] != colours[1]
    assert "rejected" in axes[1].texts[0].get_text()
    assert len({a.images[0].norm.vmax for a in axes}) == 1


def test_round_images_take_the_given_scale(panels: list[Panel]) -> None:
    scale = shared_scale([p.image for p in panels])
    axes = image_axes(round_images(panels[2], scale))
    assert [a.get_title("left") for a in axes] == ["Around the source", "Image", "Residual"]
    assert axes[0].images[0].norm.vmax == axes[1].images[0].norm.vmax == scale.high_jy


def test_blank_empty_and_noiseless_images_are_drawn(tmp_path: Path) -> None:
    zero = write_fits(tmp_path / "zero.fits", np.zeros((32, 32)))
    blank = write_fits(tmp_path / "nan.fits", np.full((32, 32), np.nan))
    mask = write_fits(tmp_path / "mask.fits", np.zeros((32, 32)))
    figure = compare_images([Panel("zero", zero, zero, mask), Panel("blank", blank, blank)])
    assert len(image_axes(figure)) == 2  # an empty mask gives no zoom
    assert compare_residuals([Panel("zero", zero, zero), Panel("blank", blank, blank)])
    assert ink(figure) > 0.05


def test_large_images_are_reduced_and_keep_their_peaks(tmp_path: Path) -> None:
    plane = np.random.default_rng(1).normal(0, 0.1, (1000, 1000))
    plane[777, 333], plane[100, 900] = 5.0, -4.0
    view = read_shown(write_fits(tmp_path / "a.fits", plane), max_side=100)
    assert view.plane.shape == (100, 100)
    assert view.plane[77, 33] == 5.0 and view.plane[10, 90] == -4.0


def test_the_box_around_a_mask_stays_in_the_image(tmp_path: Path) -> None:
    mask = np.zeros((100, 120))
    mask[2:6, 110:118] = 1
    x0, x1, y0, y1 = mask_box(write_fits(tmp_path / "m.fits", mask))
    assert 0 <= x0 <= 110 and 118 <= x1 <= 120 and y0 == 0 and y1 >= 6
    assert x1 - x0 == y1 - y0


def test_images_of_several_planes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.zeros((3, 8, 8), np.float32)).writeto(path)
    with pytest.raises(InputError, match="not a single image plane"):
        read_shown(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_shown(tmp_path / "missing.fits")


def test_without_a_mask_the_cut_out_is_on_what_is_bright(tmp_path: Path) -> None:
    """As for a ring of 40 microarcsec in a field 16 times as wide."""
    y, x = np.mgrid[:512, :512]
    ring = np.exp(-((np.hypot(x - 270, y - 256) - 12) ** 2) / 18.0)
    image = write_fits(tmp_path / "ring.fits", ring)
    x0, x1, y0, y1 = bright_box(image)
    assert x1 - x0 == y1 - y0 < 128
    assert abs((x0 + x1) / 2 - 270) < 3 and abs((y0 + y1) / 2 - 256) < 3
    figure = compare_images([Panel("p0", image), Panel("ap1", image)])
    assert len(image_axes(figure)) == 4  # cut-out and full image of each


def test_the_cut_out_holds_the_jet_of_a_bright_core(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """As for 3C 273: a jet of three hundredths of the core, far above the noise."""
    y, x = np.mgrid[:256, :256]
    along, aside = (x - 128 + 128 - y) / np.sqrt(2), (x - 128 - 128 + y) / np.sqrt(2)
    # its bridge to the core is below the artefacts
    jet = 0.03 * np.exp(-(aside**2) / 18.0) * ((along > 15) & (along < 50))
    core = np.exp(-((x - 128) ** 2 + (y - 128) ** 2) / 18.0)
    image = write_fits(tmp_path / "jet.fits", core + jet + rng.normal(0, 1e-4, x.shape))
    x0, x1, y0, y1 = bright_box(image)
    assert x0 < 128 < 163 < x1 <= 256 and y0 < 93 < 128 < y1
    assert x1 - x0 < 128, "the field around is not part of it"
    mask = write_fits(tmp_path / "mask.fits", core > 0.5)
    before, after = Panel("p0", image, mask=mask, status="done"), Panel("ap1", image, status="done")
    assert zoom_box([before]) == mask_box(mask, image)
    joint = zoom_box([before, after])
    assert joint is not None and joint[0] <= x0 < x1 <= joint[1], "the last CLEAN had no mask"


def test_a_blank_image_is_shown_whole(tmp_path: Path) -> None:
    image = write_fits(tmp_path / "blank.fits", np.zeros((64, 64)))
    assert bright_box(image) == (0, 64, 0, 64)
