"""Models that a user brings: images on any grid, lists of components, catalogues."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from libs.core.coordinates import radec_to_lm
from libs.core.errors import InputError
from libs.imaging.masks import grid_header
from libs.imaging.start_model import ComponentSky, ImageSky, SkyComponent, read_sky_image
from libs.imaging.start_model_files import read_component_list, read_start_model

C = 299792458.0
CENTRE_DEG = (225.0, 30.0)
CENTRE = (math.radians(225.0), math.radians(30.0))
FREQUENCY = np.array([1.0e9, 1.4e9, 1.9e9])
UVW = np.random.default_rng(3).uniform(-3000, 3000, (40, 3))

LIST = """Format = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, \
ReferenceFrequency='1.4e9', MajorAxis, MinorAxis, Orientation
s0,POINT,15:00:02.5,30.00.10.25,0.5,[-0.7,0.1],true,1.4e9,,,
s1,GAUSSIAN,14:59:58,+29.59.40,1.25,[0.2],false,1.2e9,6,3,40
"""


def direct(points: list[tuple[float, float, float]]) -> np.ndarray:
    """The sum over (flux, RA, Dec in deg), by the definition."""
    total = np.zeros((len(UVW), len(FREQUENCY)), complex)
    for flux, ra, dec in points:
        l_rad, m_rad = radec_to_lm(math.radians(ra), math.radians(dec), *CENTRE)
        place = np.array([l_rad, m_rad, math.sqrt(1 - l_rad**2 - m_rad**2) - 1])
        total += flux * np.exp(2j * np.pi * np.outer(UVW @ place, FREQUENCY / C))
    return total


def write_model(path: Path, plane: np.ndarray, header: fits.Header) -> Path:
    header = header.copy()
    header["BUNIT"] = "Jy/pixel"
    fits.writeto(path, plane.astype(np.float32)[None, None], header, overwrite=True)
    return path


@given(
    east=st.floats(-1.0, 1.0), north=st.floats(-1.0, 1.0),
    nx=st.integers(16, 65), ny=st.integers(16, 64), seed=st.integers(0, 99),
)  # fmt: skip
def test_an_image_of_any_size_about_any_centre(
    tmp_path_factory: pytest.TempPathFactory,
    east: float, north: float, nx: int, ny: int, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    header = grid_header((nx, ny), 15.0, (CENTRE_DEG[0] + east, CENTRE_DEG[1] + north))
    header["CRPIX1"] += rng.uniform(-5, 5)
    plane = np.zeros((ny, nx), np.float32)
    y, x = rng.integers(0, ny, 6), rng.integers(0, nx, 6)
    plane[y, x] = rng.normal(1, 0.5, 6)
    model = read_sky_image([write_model(tmp_path_factory.mktemp("m") / "m.fits", plane, header)])
    world = WCS(header).celestial
    points = [
        (float(plane[b, a]), *map(float, world.pixel_to_world_values(a, b)))
        for b, a in np.argwhere(plane)
    ]
    found = model.visibilities(UVW, FREQUENCY, CENTRE)
    assert np.abs(found - direct(points)).max() < 2e-5 * np.abs(plane).sum()
    assert model.flux_jy == pytest.approx(plane.sum(), rel=1e-5)


def test_a_list_of_components(tmp_path: Path) -> None:
    path = tmp_path / "sources.txt"
    path.write_text(LIST)
    model, kind = read_start_model(path)
    assert kind == "list of components" and isinstance(model, ComponentSky)
    point, gaussian = model.components
    ra = 15 * (15 + 2.5 / 3600)
    assert np.degrees([point.ra_rad, point.dec_rad]) == pytest.approx([ra, 30 + 10.25 / 3600])
    ratio = np.log10(FREQUENCY / 1.4e9)
    assert point.flux_at(FREQUENCY) == pytest.approx(0.5 * 10 ** (-0.7 * ratio + 0.1 * ratio**2))
    assert gaussian.flux_at(FREQUENCY) == pytest.approx(1.25 + 0.2 * (FREQUENCY / 1.2e9 - 1))
    assert (gaussian.major_arcsec, gaussian.minor_arcsec, gaussian.pa_deg) == (6, 3, 40)
    alone = ComponentSky((point,)).visibilities(UVW, FREQUENCY, CENTRE)
    flux = point.flux_at(FREQUENCY)
    assert alone / flux == pytest.approx(direct([(1.0, ra, 30 + 10.25 / 3600)]), abs=1e-9)
    short = np.zeros((1, 3))
    assert model.visibilities(short, FREQUENCY, CENTRE)[0] == pytest.approx(
        flux + gaussian.flux_at(FREQUENCY)
    )
    along = math.radians(40) + np.array([0, np.pi / 2])
    lengths = 3000.0 * np.stack([np.sin(along), np.cos(along), 0 * along], axis=1)
    seen = np.abs(ComponentSky((gaussian,)).visibilities(lengths, FREQUENCY, CENTRE))[:, 0]
    assert seen[0] < seen[1], "resolved more along its longer axis"


def test_the_older_heading_and_patches(tmp_path: Path) -> None:
    path = tmp_path / "bbs.txt"
    path.write_text(
        "# (Name, Type, Patch, Ra, Dec, I, SpectralIndex='[]') = format\n"
        ", , patch, 15:00:00, +30.00.00\n"
        "a, POINT, patch, 15:00:00, +30.00.00, 2.0\n"
    )
    (one,) = read_component_list(path)
    assert one.flux_jy == 2.0 and one.dec_rad == pytest.approx(CENTRE[1])


@pytest.mark.parametrize("suffix", [".vot", ".csv", ".fits"])
def test_a_catalogue(tmp_path: Path, suffix: str) -> None:
    from astropy.table import Table

    path = tmp_path / f"sources{suffix}"
    Table({"ra": [225.0, 226.0], "dec": [30.0, 30.5], "flux_mJy": [700.0, 20.0]}).write(
        path, format={".vot": "votable", ".csv": "ascii.csv", ".fits": "fits"}[suffix]
    )
    model, kind = read_start_model(path)
    assert kind == "catalogue" and model.flux_jy == pytest.approx(0.72)
    assert isinstance(model, ComponentSky)
    assert len(model.within(CENTRE, math.radians(0.5)).components) == 1
    behind = SkyComponent(CENTRE[0] + math.pi, -CENTRE[1], 1.0)
    assert not ComponentSky((behind,)).within(CENTRE, 1.0).components


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"BUNIT": "Jy/beam"}, "is in jy/beam"),
        ({"CTYPE1": "RA---TAN"}, "not in the SIN projection"),
        ({"CROTA2": 12.0}, "not in the SIN projection"),
        ({"CDELT1": -0.5}, "not in the SIN projection"),
        ({"EQUINOX": 1975.0, "RADESYS": "FK5"}, "equinox 1975"),
    ],
)
def test_images_that_are_not_understood_are_errors(
    tmp_path: Path, changes: dict[str, object], cause: str
) -> None:
    path = write_model(tmp_path / "m.fits", np.eye(16), grid_header((16, 16), 2.0, CENTRE_DEG))
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(changes)
    with pytest.raises(InputError, match=cause):
        read_start_model(path)


def test_models_without_flux_are_errors(tmp_path: Path) -> None:
    header = grid_header((16, 16), 2.0, CENTRE_DEG)
    for plane, cause in ((np.zeros((16, 16)), "is empty"), (np.full((16, 16), np.nan), "finite")):
        with pytest.raises(InputError, match=cause):
            read_start_model(write_model(tmp_path / "m.fits", plane, header))
    for text, cause in (
        (LIST.splitlines()[0] + "\n", "has no components"),
        (LIST.replace("0.5,[", "x,["), "line 2: could not convert"),
        (LIST.replace("POINT", "SHAPELET"), "line 2: a component of the type SHAPELET"),
        ("ra,dec\n225,30\n", "no source with a flux"),
    ):
        path = tmp_path / "list.csv"
        path.write_text(text)
        with pytest.raises(InputError, match=cause):
            read_start_model(path)
    with pytest.raises(InputError, match="does not exist"):
        read_start_model(tmp_path / "none.fits")


def test_an_image_in_icrs_is_converted(tmp_path: Path) -> None:
    header = grid_header((16, 16), 2.0, CENTRE_DEG)
    header["RADESYS"] = "ICRS"
    model, _ = read_start_model(write_model(tmp_path / "m.fits", np.eye(16), header))
    assert isinstance(model, ImageSky)
    apart = np.hypot(*(np.array(model.centre_rad) - CENTRE)) * 206265
    assert 0.001 < apart < 0.1
