"""Primary beams: widths as published, images divided by them, agreement with CASA."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from libs.casa.session import CasaSession
from libs.imaging import primary_beam
from libs.imaging.interface import open_image
from libs.imaging.masks import grid_header
from libs.imaging.primary_beam import ImagedBand, correct_image, find_beam
from libs.simulation.observation import StationErrors
from tests import odd_data

ARCMIN = math.radians(1 / 60)


def fwhm_arcmin(name: str, ghz: float, dish_m: float = 25.0) -> float:
    beam = find_beam(name, ghz * 1e9, dish_m)
    assert beam is not None
    first = 30.0 / ghz / dish_m * 60  # beyond half power
    while not beam.power(np.array([first * ARCMIN]), ghz * 1e9)[0] > 0.5:
        first *= 0.9
    last = first
    while beam.power(np.array([last * ARCMIN]), ghz * 1e9)[0] > 0.5:
        last *= 1.05
    edge = brentq(
        lambda a: float(beam.power(np.array([a * ARCMIN]), ghz * 1e9)[0]) - 0.5, first / 2, last
    )
    return 2 * edge


@pytest.mark.parametrize(
    ("name", "ghz", "dish_m", "expected", "within"),
    [
        ("vla", 1.5, 25.0, 42.0 / 1.5, 0.03),  # NRAO's OSS: 42 arcmin / GHz
        ("vla", 6.0, 25.0, 42.0 / 6.0, 0.03),
        ("vla", 22.0, 25.0, 42.0 / 22.0, 0.03),
        ("alma", 100.0, 12.0, 58.3 / 60, 0.03),  # Technical Handbook: 1.13 lambda / D
        ("alma", 300.0, 7.0, 33.0 / 60, 0.03),
        ("meerkat", 1.5, 13.5, 57.5, 0.03),  # Mauch et al. 2020
        ("meerkat", 0.816, 13.5, 57.5 * 1.5 / 0.816, 0.04),
        ("gmrt", 0.4, 45.0, 75.0, 0.05),  # Gupta et al. 2017
        ("gmrt", 0.65, 45.0, 43.0 * 0.65 / 0.61 * (0.61 / 0.65) ** 2, 0.1),
        ("gmrt", 1.28, 45.0, 26.2, 0.1),
    ],
)
def test_widths_as_published(
    name: str, ghz: float, dish_m: float, expected: float, within: float
) -> None:
    assert fwhm_arcmin(name, ghz, dish_m) == pytest.approx(expected, rel=within)


@given(
    case=st.sampled_from([("vla", 0.35), ("vla", 3.1), ("vla", 45.0), ("alma", 230.0),
                          ("meerkat", 0.7), ("meerkat", 1.4), ("gmrt", 0.65)]),
    turns=st.floats(0, 3),
)  # fmt: skip
def test_main_lobes_fall_from_one_and_nothing_is_said_beyond(
    case: tuple[str, float], turns: float
) -> None:
    name, ghz = case
    beam = find_beam(name, ghz * 1e9, 12.0)
    assert beam is not None
    unit = 0.3 / ghz / 12.0
    angles = np.array([0.0, 0.5 * turns * unit, turns * unit])
    power = beam.power(angles, ghz * 1e9)
    assert power[0] == 1.0
    known = power[np.isfinite(power)]
    assert (np.diff(known) <= 1e-9).all() and (known > 0).all()
    assert np.isnan(power[np.isnan(power).argmax() :]).all() or np.isfinite(power).all()
    assert np.isnan(beam.power(np.array([20 * unit]), ghz * 1e9)[0])


def test_instruments_without_a_known_beam() -> None:
    assert find_beam("lofar", 1.4e8, 30.0) is None
    assert find_beam("other", 1.4e9, 25.0) is None
    assert find_beam("meerkat", 2.4e9, 13.5) is None
    assert find_beam("vla", 7e7, 25.0) is None


def test_meerkat_without_katbeam(monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = fwhm_arcmin("meerkat", 1.284, 13.5)
    monkeypatch.setattr(primary_beam, "find_spec", lambda name: None)
    beam = find_beam("meerkat", 1.284e9, 13.5)
    assert beam is not None and "katbeam is not installed" in beam.name
    assert fwhm_arcmin("meerkat", 1.284, 13.5) == pytest.approx(with_it, rel=0.03)


@pytest.mark.parametrize("away_deg", [0.0, 0.1])
def test_an_image_is_divided_by_the_power_at_each_pixel(tmp_path: Path, away_deg: float) -> None:
    header = grid_header((300, 200), 12.0, (225.0, 30.0))
    header["BUNIT"] = "JY/BEAM"
    fits.writeto(tmp_path / "a-image.fits", np.ones((1, 1, 200, 300), np.float32), header)
    beam = find_beam("vla", 1.5e9, 25.0)
    assert beam is not None
    pointing = (math.radians(225.0), math.radians(30.0 + away_deg))
    made = correct_image(tmp_path / "a-image.fits", beam, ImagedBand((1.4e9, 1.6e9)), pointing, 0.2)
    power, _ = open_image(made.beam)
    corrected, _ = open_image(made.image)
    assert (made.beam.name, made.image.name) == ("a-pb.fits", "a-pbcor.fits")
    y, x = 100 + round(away_deg * 300), 150 - 60  # 12 arcmin east of the pointing
    expected = np.mean([beam.power(np.array([12 * ARCMIN]), f)[0] for f in (1.4e9, 1.6e9)])
    assert power[y, x] == pytest.approx(expected, rel=2e-3)
    good = np.isfinite(power)
    assert corrected[good] == pytest.approx(1 / power[good])
    assert power[good].min() >= 0.2 and np.isnan(corrected[~good]).all() and (~good).any()


@pytest.mark.tools
@pytest.mark.parametrize(
    ("telescope", "ghz", "dish_m"),
    [("EVLA", 1.5, 25.0), ("EVLA", 5.05, 25.0), ("ALMA", 230.0, 12.0)],
)
def test_the_same_as_casa(
    tmp_path: Path, session: CasaSession, telescope: str, ghz: float, dish_m: float
) -> None:
    from libs.ms.tables import open_table

    ms = odd_data.plain(
        tmp_path / "a.ms", windows=((ghz * 1e9, 1e6, 1),), antennas=6, scans=1, integrations=1,
        errors=StationErrors(),
    )  # fmt: skip
    with open_table(f"{ms}::OBSERVATION", write=True) as opened:
        opened.putcell("TELESCOPE_NAME", 0, telescope)
    with open_table(f"{ms}::ANTENNA", write=True) as opened:
        opened.putcol("DISH_DIAMETER", np.full(opened.nrows(), dish_m))
    cell = 0.02 * 72.0 / ghz / dish_m * 3600 / 60 * 10
    prefix = str(tmp_path / "casa")
    session.run(
        "tclean", vis=str(ms), imagename=prefix, imsize=[256, 256], cell=f"{cell}arcsec", niter=0,
        datacolumn="data", pblimit=0.01,
    )  # fmt: skip
    session.run("exportfits", imagename=f"{prefix}.pb", fitsimage=f"{prefix}-image.fits")
    theirs, _ = open_image(tmp_path / "casa-image.fits")
    beam = find_beam({"EVLA": "vla", "ALMA": "alma"}[telescope], ghz * 1e9, dish_m)
    assert beam is not None
    centre = (math.radians(225.0), math.radians(30.0))
    made = correct_image(tmp_path / "casa-image.fits", beam, ImagedBand((ghz * 1e9,)), centre, 0.2)
    ours, _ = open_image(made.beam)
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert both.sum() > 3000 and theirs[both].min() < 0.3
    # CASA looks its pattern up in a table, whose steps are coarse for ALMA
    assert np.abs(ours - theirs)[both].max() < 0.015


@given(terms=st.integers(1, 4), count=st.integers(4, 20), seed=st.integers(0, 99))
def test_the_weights_of_frequencies_give_the_first_term_of_a_spectrum(
    terms: int, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frequency = np.sort(rng.uniform(1e9, 2e9, count))
    coefficients = rng.normal(size=terms)
    spectrum = np.polynomial.polynomial.polyval(frequency / 1.5e9 - 1, coefficients)
    weights = ImagedBand(tuple(frequency), terms, 1.5e9).weights()
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ spectrum == pytest.approx(coefficients[0], abs=1e-8)
