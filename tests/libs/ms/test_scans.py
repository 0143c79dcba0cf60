"""Scan numbers made anew, and visits of fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.ms.scans import number_scans, read_visits
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, SpectralWindow
from libs.simulation.session import SessionErrors, SessionField, simulate_session


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Three fields; the second is left for 10 minutes between its two visits of scan 1."""
    observation = Observation(
        load_configuration("vla.d"), (0, 0), 5.0e9, 10.0, 60.0, (SpectralWindow(1.4e9, 64e6),)
    )
    fields = [
        SessionField("a", (85.0, 49.0), (), (0.0, 1500.0), 60.0),
        SessionField("b", (88.0, 40.0), (), (100.0, 760.0), 60.0),
        SessionField("c", (90.0, 45.0), (), (900.0,), 120.0),
    ]
    made = simulate_session(
        tmp_path / "a.ms", observation, fields, SessionErrors(), scan_numbers=False
    )
    return made.ms


def test_scans_begin_at_changes_of_field_and_gaps(session: Path) -> None:
    assert {visit.scan for visit in read_visits(session)} == {1}
    assert number_scans(session) == (1, 5)
    found = [(visit.field, visit.scan, visit.integrations) for visit in read_visits(session)]
    # two visits to b that nothing but time lies between are two scans
    assert found == [(0, 1, 6), (1, 2, 6), (1, 3, 6), (2, 4, 12), (0, 5, 6)]
    assert number_scans(session) == (5, 5)


def test_the_order_of_rows_does_not_matter(session: Path) -> None:
    number_scans(session)
    with open_table(session, write=True) as opened:
        order = np.random.default_rng(1).permutation(opened.nrows())
        known = opened.getcol("SCAN_NUMBER")[order]
        for name in ("TIME", "FIELD_ID", "ANTENNA1", "ANTENNA2"):
            opened.putcol(name, opened.getcol(name)[order])
        opened.putcol("SCAN_NUMBER", np.ones(opened.nrows(), np.int32))
    number_scans(session)
    with open_table(session) as opened:
        assert (opened.getcol("SCAN_NUMBER") == known).all()
