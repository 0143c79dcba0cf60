"""Answers in the forms in which the services give them, read by the code that reads live ones."""

from __future__ import annotations

import base64
import math
import struct
from pathlib import Path

import pytest

from libs.catalogues.entry import find_entry
from libs.catalogues.query import query_catalogue
from libs.catalogues.source_list import FieldSource, read_catalogue
from libs.core.errors import InputError

PLACE = (math.radians(210.0), math.radians(52.0))

# VizieR's cone search of VIII/92/first14: sexagesimal positions, TABLEDATA, blanks for no number
FIRST = """<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
 <DESCRIPTION>VizieR Astronomical Server</DESCRIPTION>
 <INFO name="QUERY_STATUS" value="OK"/>
 <RESOURCE ID="yCat_8092" name="VIII/92" type="results">
  <COOSYS ID="H_2000.000" system="ICRS" equinox="2000.000"/>
  <TABLE ID="VIII_92_first14" name="VIII/92/first14">
   <FIELD name="_r" ucd="pos.angDistance" datatype="double" unit="deg"/>
   <FIELD name="FIRST" ucd="meta.id;meta.main" datatype="char" arraysize="16"/>
   <FIELD name="RAJ2000" ucd="pos.eq.ra;meta.main" ref="H_2000.000" datatype="char"
     arraysize="12" unit="&quot;h:m:s&quot;"/>
   <FIELD name="DEJ2000" ucd="pos.eq.dec;meta.main" ref="H_2000.000" datatype="char"
     arraysize="12" unit="&quot;d:m:s&quot;"/>
   <FIELD name="p(S)" ucd="stat.probability" datatype="float"/>
   <FIELD name="Fpeak" ucd="phot.flux.density;em.radio" datatype="float" unit="mJy"/>
   <FIELD name="Fint" ucd="phot.flux.density;em.radio" datatype="float" unit="mJy"/>
   <FIELD name="Rms" ucd="instr.det.noise" datatype="float" unit="mJy"/>
   <FIELD name="Maj" datatype="float" unit="arcsec"/>
   <FIELD name="Min" datatype="float" unit="arcsec"/>
   <FIELD name="PA" datatype="float" unit="deg"/>
   <FIELD name="fMaj" datatype="float" unit="arcsec"/>
   <FIELD name="fMin" datatype="float" unit="arcsec"/>
   <FIELD name="fPA" datatype="float" unit="deg"/>
   <DATA><TABLEDATA>
    <TR><TD>0.0003</TD><TD>J140000.1+520001</TD><TD>14 00 00.102</TD><TD>+52 00 01.02</TD>
     <TD>0.014</TD><TD>60.12</TD><TD>100.30</TD><TD>0.141</TD><TD>9.00</TD><TD>4.00</TD>
     <TD>40.0</TD><TD>10.54</TD><TD>6.72</TD><TD>40.1</TD></TR>
    <TR><TD>0.0171</TD><TD>J140009.9+520100</TD><TD>14 00 09.900</TD><TD>+52 01 00.00</TD>
     <TD>0.035</TD><TD>5.01</TD><TD>4.92</TD><TD>0.139</TD><TD/><TD/><TD/><TD>5.35</TD>
     <TD>5.20</TD><TD>0.0</TD></TR>
   </TABLEDATA></DATA>
  </TABLE>
 </RESOURCE>
</VOTABLE>
"""


def _dachs(name: str, fields: str, rows: list[bytes], status: str = "OK") -> str:
    """An answer of the server software DaCHS: numbers as BINARY2, a byte of blanks before each."""
    stream = base64.b64encode(b"".join(rows)).decode()
    return f"""<?xml version="1.0" encoding="utf-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
 <DESCRIPTION>{name}</DESCRIPTION>
 <RESOURCE type="results">
  <INFO name="server_software" value="DaCHS/2.9 twistedWeb/22.4.0"/>
  <INFO name="QUERY_STATUS" value="{status}">Query successful</INFO>
  <TABLE name="main">{fields}
   <DATA><BINARY2><STREAM encoding="base64">{stream}</STREAM></BINARY2></DATA></TABLE>
  {"<INFO name='QUERY_STATUS' value='OVERFLOW'/>" if status == "OVERFLOW" else ""}
 </RESOURCE>
</VOTABLE>
"""


LOTSS_FIELDS = "".join(
    f'<FIELD name="{name}" datatype="{kind}" {"unit=" + chr(34) + unit + chr(34) if unit else ""}'
    f' {"arraysize=" + chr(34) + size + chr(34) if size else ""}/>'
    for name, kind, unit, size in (
        ("Source_Name", "char", "", "*"), ("RA", "double", "deg", ""), ("DEC", "double", "deg", ""),
        ("Peak_flux", "double", "mJy/beam", ""), ("Total_flux", "double", "mJy", ""),
        ("Maj", "double", "arcsec", ""), ("Min", "double", "arcsec", ""),
        ("DC_Maj", "double", "arcsec", ""), ("DC_Min", "double", "arcsec", ""),
        ("PA", "double", "deg", ""), ("DC_PA", "double", "deg", ""),
        ("Isl_rms", "double", "mJy/beam", ""), ("S_Code", "char", "", "1"),
    )
)  # fmt: skip


def _lotss_row(name: str, *numbers: float, code: str) -> bytes:
    text = name.encode()
    return (bytes(2) + struct.pack(">I", len(text)) + text
            + struct.pack(f">{len(numbers)}d", *numbers) + code.encode())  # fmt: skip


LOTSS_ROWS = [
    _lotss_row("ILTJ140000.10+520001.0", 210.0004, 52.0003, 300.0, 420.0, 8.0, 6.5, 5.1, 2.4, 30.0,
               31.0, 0.2, code="S"),
    _lotss_row("ILTJ140009.90+520100.0", 210.0412, 52.0167, 7.0, 7.1, 6.0, 6.0, 0.0, 0.0, 0.0, 0.0,
               0.1, code="C"),
]  # fmt: skip

LBCS_FIELDS = "".join(
    f'<FIELD name="{name}" datatype="{kind}" {more}/>'
    for name, kind, more in (
        ("Observation", "char", 'arraysize="*"'), ("RA", "double", 'unit="deg"'),
        ("DEC", "double", 'unit="deg"'), ("Goodness", "char", 'arraysize="*"'),
    )
)  # fmt: skip


def _lbcs_row(name: str, ra: float, dec: float, goodness: str) -> bytes:
    words = [struct.pack(">I", len(text)) + text.encode() for text in (name, goodness)]
    return bytes(1) + words[0] + struct.pack(">2d", ra, dec) + words[1]


def kept_answer(folder: Path, name: str, text: str) -> list[FieldSource]:
    """Lay an answer where a query keeps it, and ask; there is no network in this."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}_210.0000+52.0000_0.050deg.vot").write_text(text)
    return read_catalogue(query_catalogue(name, *PLACE, 0.05, folder), flux_unit="")


def test_first_of_vizier(tmp_path: Path) -> None:
    sources = kept_answer(tmp_path / "kept", "first", FIRST)
    entry = find_entry(sources, *PLACE)
    assert entry is not None and entry.name == "J140000.1+520001"
    assert entry.flux_jy == pytest.approx(0.1003)
    assert entry.components[0].major_arcsec == pytest.approx(9.0), "Maj is deconvolved, fMaj is not"
    assert entry.resolved
    assert sources[1].components[0].major_arcsec == 0.0, "a blank is a point"


def test_lotss_of_dachs(tmp_path: Path) -> None:
    text = _dachs("LoTSS DR2", LOTSS_FIELDS, LOTSS_ROWS)
    sources = kept_answer(tmp_path / "kept", "lotss", text)
    entry = find_entry(sources, *PLACE)
    assert entry is not None and entry.name == "ILTJ140000.10+520001.0"
    assert entry.flux_jy == pytest.approx(0.42)
    assert sources[0].rms_jy == pytest.approx(2e-4) and sources[0].code == "S"
    assert entry.components[0].major_arcsec == pytest.approx(5.1), "DC_Maj, not Maj"
    assert [source.code for source in sources] == ["S", "C"]


def test_lbcs_of_dachs(tmp_path: Path) -> None:
    rows = [
        _lbcs_row("L231212", 210.001, 52.001, "PPSXX-PPP"),
        _lbcs_row("L231214", 210.03, 52.02, "XXXXXXXXX"),
    ]
    sources = kept_answer(tmp_path / "kept", "lbcs", _dachs("LBCS", LBCS_FIELDS, rows))
    assert [source.is_calibrator for source in sources] == [True, False]
    assert sources[0].name == "L231212"


def test_an_answer_without_rows_is_no_source(tmp_path: Path) -> None:
    sources = kept_answer(tmp_path / "kept", "lotss", _dachs("LoTSS DR2", LOTSS_FIELDS, []))
    assert sources == [] and find_entry(sources, *PLACE) is None


@pytest.mark.parametrize("text", ["<html><body>Please log in</body></html>", "", FIRST[:900]])
def test_an_answer_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read as votable|has no column of RA"):
        kept_answer(tmp_path / "kept", "first", text)
