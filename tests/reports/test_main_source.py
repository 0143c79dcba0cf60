"""The table of the main source."""

from __future__ import annotations

from reports.main_source import main_source_table


def _one(value: float | None, error: float | None) -> dict[str, float | None]:
    return {"value": value, "error": error}


SOURCE = {
    "peak_jy_beam": _one(0.1234, 0.0021), "total_flux_jy": _one(0.5, 0.01),
    "ra_deg": _one(187.5, 0.012), "dec_deg": _one(-12.25, 0.02),
    "major_arcsec": _one(1.5, 0.01), "minor_arcsec": _one(1.2, 0.02),
}  # fmt: skip


def test_values_stand_beside_their_errors() -> None:
    page = str(main_source_table({"main_source": SOURCE}))
    assert "123.4 mJy/beam" in page and "2.1 mJy/beam" in page
    assert "12h30m00" in page and "-12d15m00" in page.replace("\u2212", "-")
    assert "0.012 arcsec" in page and "68 %" in page


def test_an_open_position_is_said_to_be_open() -> None:
    source = SOURCE | {"ra_deg": _one(187.5, None), "dec_deg": _one(-12.25, None)}
    page = str(main_source_table({"main_source": source}))
    assert page.count("unknown") == 2


def test_without_errors_there_is_no_table() -> None:
    assert not main_source_table({}) and not main_source_table({"main_source": {}})


def test_a_source_that_is_no_gaussian_has_peak_and_flux() -> None:
    source = {name: _one(None, None) for name in SOURCE}
    source |= {name: SOURCE[name] for name in ("peak_jy_beam", "total_flux_jy")}
    page = str(main_source_table({"main_source": source}))
    assert page.count("<tr") == 3 and "Declination" not in page
