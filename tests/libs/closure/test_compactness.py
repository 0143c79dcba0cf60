"""Compactness by closure phases, whatever the antennas' phases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.closure.compactness import measure_compactness
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, Source, SpectralWindow
from libs.simulation.session import SessionErrors, SessionField, simulate_session


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A point of 2 Jy, a double of 2 Jy, an empty field; delays and phases of the antennas."""
    observation = Observation(
        load_configuration("vla.d"), (0, 0), 5.0e9, 10.0, 60.0, (SpectralWindow(1.4e9, 32e6, 16),),
        noise_jy=0.2,
    )  # fmt: skip
    double = (Source(1.2, l_arcsec=-60), Source(0.8, l_arcsec=60))
    fields = [
        SessionField("point", (88.0, 40.0), (Source(2.0),), (0.0, 300.0), 60.0),
        SessionField("double", (89.0, 41.0), double, (100.0,), 60.0),
        SessionField("empty", (90.0, 42.0), (), (200.0,), 60.0),
    ]
    errors = SessionErrors(delay_ns=(1.0, 40.0), amplitude=0.2)
    path = tmp_path_factory.mktemp("compact") / "a.ms"
    return simulate_session(path, observation, fields, errors, seed=3).ms


def test_a_flagged_antenna_does_not_matter(session: Path) -> None:
    with open_table(session, write=True) as opened:
        kept = opened.getcol("FLAG")
        lost = (opened.getcol("ANTENNA1") == 0) | (opened.getcol("ANTENNA2") == 0)
        opened.putcol("FLAG", kept | lost[:, None, None])
    point = measure_compactness(session, (0,))
    with open_table(session, write=True) as opened:
        opened.putcol("FLAG", kept)
    assert point.snr > 20 and point.closure_deg < 2


def test_points_close_and_doubles_do_not(session: Path) -> None:
    point = measure_compactness(session, (0,))
    assert point.snr > 20 and point.closure_deg < 2
    double = measure_compactness(session, (1,))
    assert double.closure_deg > 15
    empty = measure_compactness(session, (2,))
    assert empty.snr < 3 and (np.isnan(empty.closure_deg) or empty.snr < 5)
