"""Queries with the real client, of a service on this machine that answers as VizieR does."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import pytest
from astropy import units
from astropy.table import Table

from libs.catalogues import query
from libs.catalogues.entry import find_entry
from libs.catalogues.query import query_catalogue
from libs.catalogues.source_list import read_catalogue
from libs.core.errors import InputError


class Service(BaseHTTPRequestHandler):
    """A cone search of FIRST with two rows."""

    asked: ClassVar[list[dict[str, list[str]]]] = []
    cut_short: ClassVar[bool] = False

    def do_GET(self) -> None:
        """Answer with a VOTable."""
        Service.asked.append(parse_qs(urlparse(self.path).query))
        table = Table(
            {
                "FIRST": ["J140000.0+520000", "J140009.9+520100"],
                "RAJ2000": ["14 00 00.10", "14 00 09.90"],
                "DEJ2000": ["+52 00 01.0", "+52 01 00.0"],
                "Fpeak": [60.0, 5.0] * units.mJy,
                "Fint": [100.0, 5.0] * units.mJy,
                "Rms": [0.14, 0.14] * units.mJy,
                "Maj": [9.0, 0.0] * units.arcsec,
                "Min": [4.0, 0.0] * units.arcsec,
                "PA": [40.0, 0.0] * units.deg,
            }
        )
        stream = io.BytesIO()
        table.write(stream, format="votable")
        answer = stream.getvalue()
        if Service.cut_short:  # as services say that they do not send all
            answer = answer.replace(
                b"</RESOURCE>", b'<INFO name="QUERY_STATUS" value="OVERFLOW"/></RESOURCE>'
            )
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    pytest.importorskip("pyvo")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Service.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/conesearch"
    monkeypatch.setattr(query, "SERVICES", {"first": url})
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_is_read_and_kept(service: HTTPServer, tmp_path: Path) -> None:
    ra, dec = math.radians(210.0), math.radians(52.0)
    path = query_catalogue("first", ra, dec, 0.05, tmp_path / "catalogues")
    (asked,) = Service.asked
    assert [float(asked[name][0]) for name in ("RA", "DEC", "SR")] == pytest.approx([210, 52, 0.05])
    assert asked["VERB"] == ["3"]
    entry = find_entry(read_catalogue(path, flux_unit="mJy"), ra, dec)
    assert entry is not None
    assert entry.name == "J140000.0+520000"
    assert entry.flux_jy == pytest.approx(0.1)
    assert entry.components[0].major_arcsec == pytest.approx(9.0), "deconvolved as it is"
    assert entry.resolved.startswith("S_int/S_peak 1.67")
    assert entry.map_arcsec == pytest.approx(27 + 2 * 1.36, abs=0.1)
    service.shutdown()
    assert query_catalogue("first", ra, dec, 0.05, tmp_path / "catalogues") == path
    assert len(Service.asked) == 1


def test_an_answer_that_is_cut_short_is_not_kept(
    service: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "cut_short", True)
    with pytest.raises(InputError, match=r"a part of its sources within 0\.05 deg only"):
        query_catalogue("first", 1.0, 0.5, 0.05, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_service_that_is_away_is_said(service: HTTPServer, tmp_path: Path) -> None:
    service.shutdown()
    service.server_close()
    with pytest.raises(InputError, match=r"first did not answer.*as a file"):
        query_catalogue("first", 1.0, 0.5, 0.05, tmp_path)
