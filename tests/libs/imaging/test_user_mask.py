"""Masks that a user brings: FITS images on any grid, regions of ds9 and CASA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from libs.core.errors import ConfigError, InputError
from libs.imaging.interface import sky_position
from libs.imaging.masks import grid_header
from libs.imaging.user_mask import draw_mask

CENTRE = (225.0, 30.0)
GRID = grid_header((200, 160), 2.0, CENTRE)
DS9 = "# Region file format: DS9 version 4.1\nglobal color=green\n"


def place(east_arcsec: float, north_arcsec: float) -> SkyCoord:
    centre = SkyCoord(*CENTRE, unit="deg", frame="fk5")
    return centre.spherical_offsets_by(
        east_arcsec / 3600 * units.deg, north_arcsec / 3600 * units.deg
    )


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def expected(radius: float, east: float = 0.0, north: float = 0.0) -> np.ndarray:
    """A disc on the grid, whose pixel (100, 80) is the centre; columns run west."""
    y, x = np.mgrid[:160, :200]
    return np.hypot((100 - x) * 2.0 - east, (y - 80) * 2.0 - north) <= radius


def alike(one: np.ndarray, two: np.ndarray) -> bool:
    """Equal but for pixels at the edge."""
    return np.count_nonzero(one ^ two) <= 0.05 * np.count_nonzero(two) + 2


@pytest.mark.parametrize("frame", ["fk5", "icrs", "galactic"])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (60.0, -40.0)])
def test_a_circle_of_ds9(tmp_path: Path, frame: str, offset: tuple[float, float]) -> None:
    where = place(*offset).transform_to(frame)
    lon, lat = where.spherical.lon.deg, where.spherical.lat.deg
    path = text(tmp_path / "a.reg", f'{DS9}{frame}\ncircle({lon:.8f},{lat:.8f},25")\n')
    drawn = draw_mask(path, GRID)
    assert drawn.kind == "ds9 regions"
    assert drawn.outside_fraction < 0.01
    assert alike(drawn.inside, expected(25.0, *offset))


def test_what_is_excluded_is_taken_out_and_points_are_a_pixel(tmp_path: Path) -> None:
    ring = text(
        tmp_path / "a.reg",
        f'{DS9}fk5\ncircle(225,30,30")\n-circle(225,30,12")\npoint(225,{30 + 80 / 3600})\n'
        f'circle(225,{30 - 100 / 3600},0.5")\n# text(225,30) text={{not a region}}\n',
    )
    inside = draw_mask(ring, GRID).inside
    assert inside[120, 100] and inside[30, 100], "the point, and the circle below a pixel"
    inside[120, 100] = inside[30, 100] = False
    assert alike(inside, expected(30.0) & ~expected(12.0))


def test_regions_of_casa(tmp_path: Path) -> None:
    path = text(
        tmp_path / "a.crtf",
        "#CRTFv0 CASA Region Text Format version 0\n"
        "ellipse [[15:00:00.0, +30.00.00.0], [40arcsec, 20arcsec], 90deg] coord=J2000\n"
        "-circle [[15h00m00s, 30d00m00s], 6arcsec] coord=J2000\n",
    )
    drawn = draw_mask(path, GRID)
    assert drawn.kind == "CASA regions"
    assert drawn.inside.sum() * 4 == pytest.approx(np.pi * (40 * 20 - 36), rel=0.03)
    assert not drawn.inside[80, 100]


@given(
    cell=st.floats(0.3, 9.0), turn=st.floats(-180, 180), east=st.floats(-80, 80),
    north=st.floats(-60, 60), kind=st.sampled_from(["SIN", "TAN", "CAR"]),
    galactic=st.booleans(),
)  # fmt: skip
def test_an_image_on_any_grid(
    tmp_path_factory: pytest.TempPathFactory,
    cell: float, turn: float, east: float, north: float, kind: str, galactic: bool,
) -> None:  # fmt: skip
    """What is inside is what lies within the source's disc, to the finer pixel of both grids."""
    where = place(east, north)
    own = WCS(naxis=2)
    centre = where.galactic if galactic else where
    own.wcs.crval = [centre.spherical.lon.deg, centre.spherical.lat.deg]
    own.wcs.ctype = (
        [f"GLON-{kind}", f"GLAT-{kind}"] if galactic else [f"RA---{kind}", f"DEC--{kind}"]
    )
    if kind == "CAR":  # its reference is on the equator
        own.wcs.crval = [centre.spherical.lon.deg, 0.0]
        own.wcs.crpix = [31.0, 31.0 - centre.spherical.lat.deg / (cell / 3600)]
        turn = 0.0
    else:
        own.wcs.crpix = [31.0, 31.0]
    own.wcs.cdelt = [-cell / 3600, cell / 3600]
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    own.wcs.pc = [[cos, -sin], [sin, cos]]
    y, x = np.mgrid[:61, :61]
    plane = np.where(np.hypot(x - 30, y - 30) <= 20, 1.0, np.nan)
    path = tmp_path_factory.mktemp("mask") / "m.fits"
    fits.writeto(path, plane.astype(np.float32), own.to_header())
    drawn = draw_mask(path, GRID)
    radius = 20 * cell
    y, x = np.mgrid[:160, :200]
    apart = np.hypot((100 - x) * 2.0 - east, (y - 80) * 2.0 - north)
    margin = 1.5 * max(cell, 2.0)
    if kind == "CAR":  # its pixels are narrower off the equator
        assert drawn.inside[apart <= np.cos(centre.spherical.lat.rad) * radius - margin].all()
    else:
        assert drawn.inside[apart <= radius - margin].all()
    assert not drawn.inside[apart > radius + margin].any()


def test_a_mask_finer_than_the_grid_keeps_its_sources(tmp_path: Path) -> None:
    fine = grid_header((4000, 3200), 0.1, CENTRE)
    plane = np.zeros((3200, 4000), np.float32)
    plane[1600, 2005] = 1.0  # 0.5 arcsec west: within the middle pixel, off its centre
    fits.writeto(tmp_path / "m.fits", plane[None, None], fine)
    inside = draw_mask(tmp_path / "m.fits", GRID).inside
    assert np.argwhere(inside).tolist() == [[80, 100]]
    assert sky_position(GRID, 100, 80) == pytest.approx(CENTRE)


def test_a_mask_that_is_cut_off_says_by_how_much(tmp_path: Path) -> None:
    path = text(tmp_path / "a.reg", f'{DS9}fk5\nbox(225,{30 + 160 / 3600},80",80",0)\n')
    assert draw_mask(path, GRID).outside_fraction == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("a.reg", f"{DS9}image\ncircle(10,10,3)\n", "regions in pixels"),
        ("a.reg", f"{DS9}fk5\nline(225,30,225.1,30)\n", "no region with an area"),
        ("a.reg", "some text\n", "is not of ds9 regions"),
        ("a.crtf", "#CRTF\ncircle [[15h00m00s]]\n", "is not of CASA regions"),
        ("a.reg", f'{DS9}fk5\ncircle(10,30,25")\n', "has nothing inside the image of 200 x 160"),
        ("a.fits", "SIMPLE  = nothing else", "cannot be read as FITS"),
    ],
)
def test_what_is_no_mask_is_an_error(tmp_path: Path, name: str, content: str, cause: str) -> None:
    # what lies outside of the image is a fault of the config
    kind = ConfigError if "nothing inside" in cause else InputError
    with pytest.raises(kind, match=cause) as caught:
        draw_mask(text(tmp_path / name, content), GRID)
    assert caught.value.remedy


def test_an_empty_image_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    small = grid_header((20, 20), 2.0, CENTRE)
    fits.writeto(tmp_path / "m.fits", np.zeros((1, 1, 20, 20), np.float32), small)
    with pytest.raises(InputError, match="is empty"):
        draw_mask(tmp_path / "m.fits", GRID)
    with pytest.raises(InputError, match="cannot be read"):
        draw_mask(tmp_path / "none.reg", GRID)
