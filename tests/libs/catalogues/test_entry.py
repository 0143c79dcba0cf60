"""What a survey says of one source: its entry, its map, whether it is resolved, its model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from libs.catalogues.entry import find_entry, model_components, read_entry
from libs.catalogues.source_list import read_catalogue, with_components
from libs.core.errors import InputError

RA, DEC = math.radians(210.0), math.radians(52.0)
HEAD = (
    "Source_Name,RA,DEC,Total_flux_mJy,Peak_flux_mJy,Isl_rms_mJy,Maj,Min,PA,DC_Maj,DC_Min,DC_PA,"
    "S_Code\n"
)


def lotss(tmp_path: Path, *rows: str, head: str = HEAD) -> Path:
    path = tmp_path / "lotss.csv"
    path.write_text(head + "\n".join(rows) + "\n")
    return path


def row(name: str, east: float, north: float, flux: float, peak: float, dc: float,
        code: str = "S", pa: float = 30.0) -> str:  # fmt: skip
    """A line of a list, ``east`` and ``north`` arcsec from the phase centre."""
    ra = 210.0 + east / 3600 / math.cos(DEC)
    fitted = math.hypot(dc, 6.0)
    return (
        f"{name},{ra:.9f},{52 + north / 3600:.9f},{flux},{peak},0.1,{fitted},6.0,{pa},{dc},0.0,"
        f"{pa},{code}"
    )


def test_a_point_has_the_smallest_map_and_is_not_resolved(tmp_path: Path) -> None:
    path = lotss(tmp_path, row("far", 300, 0, 500, 500, 0), row("near", 2, 0, 100, 97, 0))
    entry = find_entry(read_catalogue(path), RA, DEC)
    assert entry is not None
    assert entry.name == "near" and entry.separation_arcsec == pytest.approx(2.0, abs=1e-3)
    assert entry.map_arcsec == 20.0
    assert entry.resolved == "" and not entry.complete
    assert entry.flux_jy == pytest.approx(0.1)


def test_nothing_near_enough_is_none(tmp_path: Path) -> None:
    sources = read_catalogue(lotss(tmp_path, row("a", 15, 0, 100, 97, 0)))
    assert find_entry(sources, RA, DEC) is None
    assert find_entry(sources, RA, DEC, match_arcsec=16.0) is not None
    assert find_entry([], RA, DEC) is None


@pytest.mark.parametrize(("dc", "width"), [(4.0, 20.0), (10.0, 30.0), (90.0, 120.0)])
def test_the_map_is_three_deconvolved_widths_within_limits(
    tmp_path: Path, dc: float, width: float
) -> None:
    entry = find_entry(read_catalogue(lotss(tmp_path, row("a", 0, 0, 100, 40, dc))), RA, DEC)
    assert entry is not None
    assert entry.map_arcsec == pytest.approx(width)
    assert entry.resolved.startswith("S_int/S_peak 2.5 at SNR 400")
    assert entry.complete


def test_fitted_axes_lose_the_beam_those_of_first_do_not(tmp_path: Path) -> None:
    head = "Source_Name,RA,DEC,Total_flux_mJy,Maj,Min,PA\n"
    path = lotss(tmp_path, "a,210.0,52.0,100,10,6.5,0", head=head)
    (part,) = find_entry(read_catalogue(path), RA, DEC).components  # type: ignore[union-attr]
    assert part.major_arcsec == pytest.approx(8.0)
    assert part.minor_arcsec == pytest.approx(2.5)
    head = "FIRST,RAJ2000,DEJ2000,Fpeak_mJy,Fint_mJy,Rms_mJy,Maj,Min,PA,fMaj,fMin,fPA\n"
    path = lotss(tmp_path, "J14+52,14 00 00.0,+52 00 00,90,100,0.1,10,-2,0,12,6,0", head=head)
    (source,) = read_catalogue(path)
    assert (source.name, source.flux_jy, source.peak_jy) == ("J14+52", 0.1, 0.09)
    (part,) = find_entry([source], RA, DEC).components  # type: ignore[union-attr]
    assert (part.major_arcsec, part.minor_arcsec) == (10.0, 0.0)


def test_entries_within_the_map_are_components_and_widen_it(tmp_path: Path) -> None:
    path = lotss(
        tmp_path, row("core", 0, 0, 100, 97, 0), row("lobe", 9, 0, 50, 49, 4),
        row("next", 14, 0, 50, 49, 0), row("weak", 0, 9, 4, 4, 0), row("other", 70, 0, 900, 900, 0),
    )  # fmt: skip
    entry = find_entry(read_catalogue(path), RA, DEC)
    assert entry is not None
    # the lobe reaches to 9 + 6 arcsec, a map of 30 arcsec, which holds the next as well
    assert entry.map_arcsec == pytest.approx(30.0, abs=1e-3)
    assert len(entry.components) == 3
    assert entry.resolved == "3 entries within its map"
    assert entry.complete
    assert entry.flux_jy == pytest.approx(0.2)


def test_several_gaussians_need_their_list(tmp_path: Path) -> None:
    sources = read_catalogue(lotss(tmp_path, row("a", 0, 0, 100, 40, 12, code="M")))
    entry = find_entry(sources, RA, DEC)
    assert entry is not None
    assert entry.resolved == "S_Code M"
    assert not entry.complete, "one ellipse does not describe several Gaussians"
    gaussians = tmp_path / "gaul.csv"
    gaussians.write_text(
        "Parent_Source,RA,DEC,Total_flux_mJy,DC_Maj,DC_Min,DC_PA\n"
        f"a,{210 - 8 / 3600 / math.cos(DEC)},52.0,40,3,1,20\na,210.0,52.0,60,2,2,0\n"
    )
    entry = find_entry(with_components(sources, gaussians), RA, DEC)
    assert entry is not None
    assert entry.resolved == "2 Gaussians" and entry.complete
    assert entry.map_arcsec == pytest.approx(25.0, abs=1e-3)


def test_a_source_without_flux_makes_no_model(tmp_path: Path) -> None:
    head = "Source_Name,RA,DEC,DC_Maj,DC_Min,DC_PA,S_Code\n"
    path = lotss(tmp_path, "a,210.0,52.0,10,5,0,S", head=head)
    entry = find_entry(read_catalogue(path), RA, DEC)
    assert entry is not None and entry.map_arcsec == 30.0
    assert not entry.complete


def test_the_model_is_in_place_and_written_entries_come_back(tmp_path: Path) -> None:
    path = lotss(
        tmp_path, row("core", -1, 2, 50, 49, 4, pa=190.0), row("lobe", 5, -3, 100, 97, 0)
    )  # fmt: skip
    entry = find_entry(read_catalogue(path), RA, DEC)
    assert entry is not None
    first, second = model_components(entry, RA, DEC)
    arcsec = math.pi / 180 / 3600
    assert (first.flux_jy, second.flux_jy) == pytest.approx((0.1, 0.05))
    assert np.allclose([first.l_rad, first.m_rad], np.array([5, -3]) * arcsec, atol=1e-4 * arcsec)
    assert np.allclose([second.l_rad, second.m_rad], np.array([-1, 2]) * arcsec, atol=1e-4 * arcsec)
    assert first.point and not second.point
    assert second.major_rad == pytest.approx(4 * arcsec)
    assert math.degrees(second.pa_rad) == pytest.approx(10.0)
    (tmp_path / "entry.json").write_text(entry.as_json())
    assert read_entry(tmp_path / "entry.json") == entry
    (tmp_path / "entry.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="not a catalogue entry"):
        read_entry(tmp_path / "entry.json")
