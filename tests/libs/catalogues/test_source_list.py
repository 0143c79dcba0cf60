"""Lists of sources: columns and units of several surveys, matches, selection, layers, queries."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from libs.catalogues.matching import cross_match, make_layers, select_sources
from libs.catalogues.query import query_catalogue
from libs.catalogues.source_list import (
    CatalogueComponent,
    FieldSource,
    is_resolved,
    read_catalogue,
    with_components,
)
from libs.core.errors import ConfigError, InputError

DEG = math.pi / 180


def source(name: str, ra: float, dec: float, flux: float = math.nan, **more: object) -> FieldSource:
    return FieldSource(name, ra * DEG, dec * DEG, flux, **more)  # type: ignore[arg-type]


def test_plain_csv(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name,ra,dec,flux_mJy\na,here,52,1\n")
    with pytest.raises(InputError, match="not an angle"):
        read_catalogue(path)
    path.write_text("name,ra,dec,flux_mJy\ncal 1,210.5,+52:15:00,400\n,14:00:00,51.5,20\n")
    first, second = read_catalogue(path)
    assert first.name == "cal_1"
    assert first.ra_rad == pytest.approx(210.5 * DEG)
    assert first.flux_jy == pytest.approx(0.4)
    assert second.name == "J210.0000+51.5000"
    assert not first.is_calibrator


def test_lotss_votable_with_units(tmp_path: Path) -> None:
    table = Table(
        {
            "Source_Name": ["ILTJ1", "ILTJ2"],
            "RA": [210.0, 211.0] * units.deg,
            "DEC": [52.0, 52.5] * units.deg,
            "Total_flux": [100.0, 30.0] * units.mJy,
            "Peak_flux": [40.0, 29.0] * units.Unit("mJy/beam"),
            "Isl_rms": [0.1, 0.1] * units.Unit("mJy/beam"),
            "Maj": [20.0, 6.1] * units.arcsec,
            "Min": [10.0, 6.0] * units.arcsec,
            "PA": [30.0, 0.0] * units.deg,
        }
    )
    table.write(tmp_path / "lotss.vot", format="votable")
    big, small = read_catalogue(tmp_path / "lotss.vot")
    assert big.flux_jy == pytest.approx(0.1)
    assert big.peak_jy == pytest.approx(0.04)
    assert big.resolved and not small.resolved
    assert big.components[0].major_arcsec == pytest.approx(20.0)
    assert big.map_arcsec == pytest.approx(60.0)
    assert small.map_arcsec == 20.0


def test_lbcs_flags_are_found_by_their_look(tmp_path: Path) -> None:
    path = tmp_path / "lbcs.csv"
    path.write_text(
        "obsid,raj2000,decj2000,ft_flags\nL1,210.0,52.0,PPPSP-XPP\nL2,210.5,52.0,XXXXXXXPX\n"
    )
    good, bad = read_catalogue(path)
    assert good.lbcs_flags == "PPPSP-XPP" and good.is_calibrator
    assert not bad.is_calibrator


@pytest.mark.parametrize(("flags", "good"), [("P", True), ("S", True), ("X", False), ("", False)])
def test_one_letter_for_all_stations(flags: str, good: bool) -> None:
    assert source("a", 1, 1, lbcs_flags=flags).is_calibrator is good


def test_fluxes_without_a_unit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("ra,dec,Total_flux\n210.0,52.0,30\n")
    with pytest.raises(InputError, match=r"no unit.*flux_unit"):
        read_catalogue(path)
    assert read_catalogue(path, flux_unit="mJy")[0].flux_jy == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("name,flux_Jy\na,1\n", "no column of RA"),
        ("ra,dec\n1.0,100.0\n", "beyond a pole"),
        ("ra,dec\n1.0,\n2.0,3.0\n", "missing values"),
    ],
)
def test_bad_lists_are_explained(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=cause):
        read_catalogue(path)


def test_missing_and_unreadable_lists(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_catalogue(tmp_path / "none.csv")
    (tmp_path / "bad.vot").write_text("not xml")
    with pytest.raises(InputError, match="cannot be read"):
        read_catalogue(tmp_path / "bad.vot")


def test_the_rule_of_resolved_sources() -> None:
    limit = 1.25 + 3.1 * 100**-0.53
    assert is_resolved(1.01 * limit, 1.0, 0.01)
    assert not is_resolved(0.99 * limit, 1.0, 0.01)
    assert not is_resolved(5.0, 1.0, math.nan)


def test_matches_within_five_arcsec() -> None:
    near, far = 4.0 / 3600, 6.0 / 3600
    survey = [source("a", 210.0, 52.0, 0.1), source("b", 211.0, 52.0, 0.1)]
    lbcs = [
        source("L1", 210.0, 52.0 + near, lbcs_flags="PP"),
        source("a", 211.0, 52.0 + far, lbcs_flags="PP"),
    ]
    joined = cross_match(survey, lbcs)
    assert [s.name for s in joined] == ["a", "b", "a_LBCS"]
    assert [s.is_calibrator for s in joined] == [True, False, True]
    assert joined[0].dec_rad == survey[0].dec_rad


@given(st.floats(0, 359.99), st.floats(-89, 89), st.floats(0, 2.5), st.floats(0, 360))
def test_selection_by_distance(ra: float, dec: float, apart: float, angle: float) -> None:
    from astropy.coordinates import SkyCoord

    centre = SkyCoord(ra, dec, unit="deg")
    place = centre.directional_offset_by(angle * units.deg, apart * units.deg)
    one = FieldSource("x", place.ra.rad, place.dec.rad, 0.011)
    two = FieldSource("y", place.ra.rad, place.dec.rad, lbcs_flags="PS")
    faint = FieldSource("z", place.ra.rad, place.dec.rad, 0.009)
    chosen = [s.name for s in select_sources([one, two, faint], ra * DEG, dec * DEG)]
    if abs(apart - 1.24) > 1e-6 and abs(apart - 1.5) > 1e-6:
        assert chosen == ["x"] * (apart < 1.24) + ["y"] * (apart < 1.5)


def test_layers_share_out_the_sources() -> None:
    sources = [
        source("a", 1, 1, 0.5), source("b", 1, 1, 0.02), source("c", 1, 1, 0.02, lbcs_flags="PP"),
        source("d", 1, 1, lbcs_flags="PP"), source("e", 1, 1, 0.001), source("f", 1, 1, 0.03),
    ]  # fmt: skip
    layers = make_layers(sources, [0.3, 0.1, 0.01])
    assert [[s.name for s in layer] for layer in layers] == [["a", "c", "d"], ["f", "b"]]
    with pytest.raises(InputError, match="do not fall"):
        make_layers(sources, [0.1, 0.3])


def test_components_of_a_table_that_names_their_source(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    path.write_text(
        "Parent_Source,RA,DEC,Total_flux_mJy,Maj,Min,PA\n"
        "one,210.0,52.0,10,5,4,0\none,210.0,52.005,20,8,4,90\ntwo,211.0,52.0,5,6,6,0\n"
    )
    one, other = with_components([source("one", 210.0, 52.0, 0.03), source("o", 1, 1)], path)
    assert len(one.components) == 2
    assert one.components[1] == CatalogueComponent(
        pytest.approx(210 * DEG), pytest.approx(52.005 * DEG), pytest.approx(0.02), 8, 4, 90, True
    )
    assert one.map_arcsec == pytest.approx(2 * 18 + 24, rel=1e-6)
    assert other.components == ()


class _NoAccessError(Exception):
    pass


def _service(calls: list[tuple[float, float]], error: Exception | None = None) -> SimpleNamespace:
    """A stand-in for pyvo."""
    table = Table({"raj2000": [210.0], "decj2000": [52.0], "flags": ["PPPP"]})

    class Service:
        def __init__(self, url: str) -> None:
            assert url.startswith("https://")

        def search(
            self, pos: tuple[float, float], radius: float, verbosity: int
        ) -> SimpleNamespace:
            assert verbosity == 3
            calls.append(pos)
            if error:
                raise error
            nothing = SimpleNamespace(infos=[], resources=[])
            return SimpleNamespace(to_table=lambda: table, votable=nothing)

    return SimpleNamespace(dal=SimpleNamespace(SCSService=Service, DALAccessError=_NoAccessError))


def test_a_query_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[float, float]] = []
    monkeypatch.setattr(importlib, "import_module", lambda name: _service(calls))
    paths = {query_catalogue("lbcs", 210 * DEG, 52 * DEG, 1.5, tmp_path) for _ in range(2)}
    assert len(calls) == 1 and np.allclose(calls[0], (210.0, 52.0))
    (found,) = read_catalogue(paths.pop())
    assert found.is_calibrator


@pytest.mark.parametrize("error", [_NoAccessError("no"), ConnectionError("no network")])
def test_no_network_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: _service([], error))
    with pytest.raises(InputError, match=r"did not answer.*as a file"):
        query_catalogue("lotss", 1.0, 0.5, 1.5, tmp_path)
    assert not list(tmp_path.iterdir())


def test_queries_without_pyvo_or_of_unknown_catalogues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="pyvo is not installed"):
        query_catalogue("lbcs", 1.0, 0.5, 1.5, tmp_path)
    with pytest.raises(ConfigError, match=r"catalogue \w+ is unknown"):
        query_catalogue("nvss", 1.0, 0.5, 1.5, tmp_path)
