"""Pointings of a mosaic: which belong together, numbered alike, and visits to them as scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.ms.field_directions import j2000_directions
from libs.ms.pointings import common_pointings, linked, number_pointings, number_visit_groups
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms

ARCSEC = np.pi / 180 / 3600


def place_fields(ms: Path, east_arcsec: list[float]) -> None:
    with open_table(f"{ms}::FIELD", write=True) as opened:
        for row, east in enumerate(east_arcsec):
            for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
                opened.putcell(column, row, np.array([[1.0 + east * ARCSEC, 0.0]]))


def mosaic(path: Path, names: tuple[str, ...], east_arcsec: list[float]) -> Path:
    ms = make_ms(path, times=2 * len(names), scans=2 * len(names), fields=names)
    place_fields(ms, east_arcsec)
    return ms


def test_a_chain_of_steps_links_places() -> None:
    places = [(0.0, 0.0), (2.0, 0.0), (1.0, 0.0), (3.5, 0.0)]
    assert linked(places, 1.2) == [[0, 1, 2], [3]]
    assert linked(places, 1.6) == [[0, 1, 2, 3]]
    assert linked(places, 0.5) == [[0], [1], [2], [3]]
    assert linked([(0.01, 0.0), (2 * np.pi - 0.01, 0.0)], 0.03) == [[0, 1]]


def test_pointings_have_one_number_in_all_copies(tmp_path: Path) -> None:
    first = mosaic(tmp_path / "a.ms", ("map", "map"), [0.0, 10.0])
    second = mosaic(tmp_path / "b.ms", ("map", "map"), [20.0, 0.2])
    found = common_pointings([first, second])
    assert [round((ra - 1.0) / ARCSEC) for _, (ra, _) in found] == [0, 10, 20]
    with open_table(second) as opened:
        before = opened.getcol("FIELD_ID")
    for ms in (first, second):
        number_pointings(ms, found)
        east = [(ra - 1.0) / ARCSEC for ra, _ in j2000_directions(ms)]
        np.testing.assert_allclose(east, [0.0, 10.0, 20.0], atol=0.3)
        assert [field.name for field in Subtables(ms).fields] == ["map"] * 3
    with open_table(second) as opened:
        after = opened.getcol("FIELD_ID")
    assert (after == np.where(before == 0, 2, 0)).all()


def test_a_pointing_that_a_copy_in_b1950_lacks_is_refused(tmp_path: Path) -> None:
    first = mosaic(tmp_path / "a.ms", ("map", "map"), [0.0, 10.0])
    with open_table(f"{first}::FIELD", write=True) as opened:
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            opened.putcolkeyword(column, "MEASINFO", {"type": "direction", "Ref": "B1950"})
    places = [*common_pointings([first]), ("map", (1.1, 0.1))]
    with pytest.raises(InputError, match="gives positions in B1950"):
        number_pointings(first, places)


def test_scans_without_a_break_become_one(tmp_path: Path) -> None:
    """Twelve scans of 20 s, 10 s apart; 200 s are missing after the sixth."""
    ms = make_ms(tmp_path / "a.ms", times=24, scans=12, fields=("map", "map"), interval_s=10.0)
    with open_table(ms, write=True) as opened:
        scan = opened.getcol("SCAN_NUMBER")
        time = opened.getcol("TIME") - 1000.0 * (scan - 1)
        time += 10.0 * (scan - 1) + 200.0 * (scan > 6)
        opened.putcol("TIME", time)
    assert number_visit_groups(ms) == (12, 2)
    with open_table(ms) as opened:
        assert (opened.getcol("SCAN_NUMBER") == 1 + (scan > 6)).all()
