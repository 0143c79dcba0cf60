"""One fixed position for every field: ephemerides, polynomials, frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.coordinates import to_j2000
from libs.core.errors import InputError
from libs.ms.field_directions import settle_directions
from libs.ms.subtables import Subtables
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from tests.libs.small_ms import TIME0_S, make_ms

ARCSEC = np.pi / 180 / 3600
PLACE = np.array([2.3, 0.7])


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    return make_ms(tmp_path / "a.ms")


def put_frame(ms: Path, frame: str, place: np.ndarray) -> None:
    with open_table(f"{ms}::FIELD", write=True) as opened:
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            opened.putcell(column, 0, np.array([place]))
            opened.putcolkeyword(column, "MEASINFO", {"type": "direction", "Ref": frame})


def add_ephemeris(ms: Path, first: float, rate_deg: float) -> None:
    """An ephemeris that crosses RA 0 at TIME0, moving along it."""
    from casacore.tables import makescacoldesc, maketabdesc, table

    names = ("MJD", "RA", "DEC")
    place = ms / "FIELD" / "EPHEM0_moving.tab"
    made = table(str(place), maketabdesc([makescacoldesc(n, 0.0) for n in names]), 3, ack=False)
    day = TIME0_S / 86400 + np.array([-1.0, 0.0, 1.0]) + first
    made.putcol("MJD", day)
    made.putcol("RA", (rate_deg * np.array([-1.0, 0.0, 1.0])) % 360)
    made.putcol("DEC", np.full(3, 20.0))
    made.close()
    with open_table(f"{ms}::FIELD", write=True) as opened:
        opened.addcols(makescacoldesc("EPHEMERIS_ID", 0))


def test_a_field_in_j2000_stays_as_it_is(ms: Path) -> None:
    before = Subtables(ms).fields
    assert settle_directions(ms, ms) == []
    assert Subtables(ms).fields == before


@pytest.mark.parametrize("frame", ["B1950", "B1950_VLA", "GALACTIC", "ICRS"])
def test_positions_are_told_in_j2000(ms: Path, frame: str) -> None:
    """As casacore's own measures convert them."""
    from casacore.measures import measures
    from casacore.quanta import quantity

    put_frame(ms, frame, PLACE)
    notes = settle_directions(ms, ms)
    found = summarise(ms).direction_rad
    engine = measures()
    given = engine.direction(frame, *(quantity(float(angle), "rad") for angle in PLACE))
    there = engine.measure(given, "J2000")
    expected = there["m0"]["value"], there["m1"]["value"]
    turn = (found[0] - expected[0] + np.pi) % (2 * np.pi) - np.pi
    apart = np.hypot(turn * np.cos(expected[1]), found[1] - expected[1])
    assert apart < 0.5 * ARCSEC
    # B1950 and ICRS are frames that images can be in; GALACTIC is none
    assert bool(notes) == (frame == "GALACTIC")
    assert Subtables(ms).fields[0].frame == ("J2000" if notes else frame)


@pytest.mark.parametrize("frame", ["AZEL", "HADEC", "APP", "SUPERGAL"])
def test_a_frame_of_the_observer_is_an_error(ms: Path, frame: str) -> None:
    put_frame(ms, frame, PLACE)
    with pytest.raises(InputError, match=f"is given in {frame}"):
        settle_directions(ms, ms)
    with pytest.raises(InputError, match=frame):
        to_j2000((0.0, 0.0), frame)


def test_an_ephemeris_gives_the_place_midway_and_the_offset_is_on_the_sky(ms: Path) -> None:
    add_ephemeris(ms, 0.0, 2.0)
    offset = np.array([30.0, -10.0]) * ARCSEC
    with open_table(f"{ms}::FIELD", write=True) as opened:
        opened.putcell("PHASE_DIR", 0, offset[None])
        opened.putcell("EPHEMERIS_ID", 0, 0)
    (note,) = settle_directions(ms, ms)
    assert "follows an ephemeris" in note
    middle = np.mean(summarise(ms).time_range_s)
    ra = np.radians(2.0 * (middle - TIME0_S) / 86400) + offset[0] / np.cos(np.radians(20))
    found = Subtables(ms).fields[0].direction_rad
    np.testing.assert_allclose(found, (ra, np.radians(20) + offset[1]), atol=1e-9)
    assert settle_directions(ms, ms) == []


def test_an_ephemeris_that_is_not_there_or_ends_is_an_error(ms: Path) -> None:
    add_ephemeris(ms, 300.0, 2.0)
    with open_table(f"{ms}::FIELD", write=True) as opened:
        opened.putcell("EPHEMERIS_ID", 0, 0)
    with pytest.raises(InputError, match="does not reach"):
        settle_directions(ms, ms)
    with open_table(f"{ms}::FIELD", write=True) as opened:
        opened.putcell("EPHEMERIS_ID", 0, 3)
    with pytest.raises(InputError, match="ephemeris 3, which is not"):
        settle_directions(ms, ms)


def test_a_field_that_moves_stands_where_it_was_midway(ms: Path) -> None:
    rate = 1e-9
    with open_table(f"{ms}::FIELD", write=True) as opened:
        opened.putcell("PHASE_DIR", 0, np.array([[1.2, 0.6], [rate, -rate]]))
        opened.putcell("NUM_POLY", 0, 1)
    (note,) = settle_directions(ms, ms)
    assert "moves" in note
    span = np.mean(summarise(ms).time_range_s) - TIME0_S
    found = Subtables(ms).fields[0].direction_rad
    np.testing.assert_allclose(found, (1.2 + rate * span, 0.6 - rate * span), atol=1e-12)


def test_a_position_that_is_no_number_is_an_error(ms: Path) -> None:
    put_frame(ms, "J2000", np.array([np.nan, 0.5]))
    with pytest.raises(InputError, match="not a number"):
        settle_directions(ms, ms)
