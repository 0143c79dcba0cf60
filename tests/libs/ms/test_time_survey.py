"""Time stamps of data: what is found, and that no column is ever read whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.core.errors import InputError
from libs.directions import dp3
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.gains.tec_table import used_channels
from libs.ms import data_power
from libs.ms import rows as ms_rows
from libs.ms.data_power import typical_power
from libs.ms.tables import open_table
from libs.ms.time_survey import (
    TimeSurvey,
    first_of_stamps,
    read_survey,
    rows_by_slot,
    survey_times,
    write_survey,
)
from libs.simulation.corrupt import corrupt_ms
from tests.libs.small_ms import make_ms

SLAB = 32


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    """10 baselines at 40 times in 2 scans."""
    return make_ms(tmp_path / "a.ms", times=40, scans=2)


def reorder(ms: Path, order: np.ndarray) -> None:
    with open_table(ms, write=True) as opened:
        for name in ("TIME", "SCAN_NUMBER", "ANTENNA1", "ANTENNA2"):
            opened.putcol(name, opened.getcol(name)[order])


def columns(ms: Path, *names: str) -> list[np.ndarray]:
    with open_table(ms) as opened:
        return [opened.getcol(name) for name in names]


@pytest.mark.parametrize("slab", [SLAB, 10**6])
def test_stamps_are_those_of_the_rows(ms: Path, monkeypatch: pytest.MonkeyPatch, slab: int) -> None:
    monkeypatch.setattr(ms_rows, "SLAB_ROWS", slab)
    with open_table(ms, write=True) as opened:
        opened.putcol("FIELD_ID", (np.arange(400) % 7 == 3).astype(np.int32))
    reorder(ms, np.random.default_rng(3).permutation(400))
    time, scan, field = columns(ms, "TIME", "SCAN_NUMBER", "FIELD_ID")
    own = np.flatnonzero(field == field[0])
    survey = survey_times(ms)
    stamps, counts = np.unique(time[own], return_counts=True)
    assert np.array_equal(survey.time_s, stamps)
    assert np.array_equal(survey.rows.sum(axis=1), counts)
    for i, stamp in enumerate(stamps):
        here = own[time[own] == stamp]
        assert (survey.first[i], survey.last[i]) == (here[0], here[-1])
        assert survey.scan[i] == scan[here[0]]
    assert survey.field_ids.tolist() == [0, 1] and not survey.in_order
    assert survey.spacing_s == survey.median_interval_s == 10.0


def test_a_survey_is_kept(ms: Path, tmp_path: Path) -> None:
    survey = survey_times(ms)
    write_survey(tmp_path / "s.npz", survey)
    found = read_survey(tmp_path / "s.npz")
    for name in TimeSurvey.__dataclass_fields__:
        assert np.array_equal(getattr(found, name), getattr(survey, name)), name
    assert survey.in_order
    (tmp_path / "s.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a survey"):
        read_survey(tmp_path / "s.npz")


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(most=st.integers(1, 500), width=st.integers(1, 45), seed=st.integers(0, 3))
def test_pieces_hold_whole_slots_and_every_row_once(
    ms: Path, most: int, width: int, seed: int
) -> None:
    if seed:
        reorder(ms, np.random.default_rng(seed).permutation(400))
    survey = survey_times(ms)
    slot = np.arange(40) // width
    (time,) = columns(ms, "TIME")
    truth = slot[np.searchsorted(survey.time_s, time)]
    with open_table(ms) as opened:
        pieces = list(rows_by_slot(opened, survey, slot, most))
    assert np.array_equal(np.sort(np.concatenate([rows for rows, _ in pieces])), np.arange(400))
    seen: set[int] = set()
    for rows, slots in pieces:
        assert (np.diff(rows) > 0).all() and np.array_equal(truth[rows], slots)
        assert len(rows) <= max(most, int(np.bincount(truth).max()))
        assert not seen & set(slots.tolist())
        seen |= set(slots.tolist())


@pytest.fixture
def read(ms: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Columns of the main table that were read, and how many rows of each."""
    monkeypatch.setattr(ms_rows, "SLAB_ROWS", SLAB)
    monkeypatch.setattr(data_power, "_PIECE_ROWS", 4)
    monkeypatch.setattr(data_power, "_PIECES", 8)
    calls: list[tuple[str, int]] = []
    getcol = table.getcol

    def counting(self: table, name: str, startrow: int = 0, nrow: int = -1, rowincr: int = 1):
        values = getcol(self, name, startrow, nrow, rowincr)
        if "DATA_DESC_ID" in self.colnames():
            calls.append((name, len(values)))
        return values

    monkeypatch.setattr(table, "getcol", counting)
    return calls


def _gains(ms: Path) -> GainSolutions:
    with open_table(f"{ms}::ANTENNA") as antennas:
        names, position = antennas.getcol("NAME"), antennas.getcol("POSITION")
    shape = (2, 1, len(names), 2)
    return GainSolutions(
        time_s=np.array([4.9e9, 4.9e9 + 100]), interval_s=np.full(2, 100.0),
        frequency_hz=np.array([1e9]), spw=np.zeros(1, np.int64), antenna=tuple(names),
        position_m=position, polarization=("R", "L"), gain=np.ones(shape, complex),
        flag=np.zeros(shape, bool), snr=np.ones(shape),
    )  # fmt: skip


WORK: dict[str, Callable[[Path], object]] = {
    "survey": survey_times,
    "unfit": dp3.unfit,
    "typical_power": typical_power,
    "used_channels": used_channels,
    "write_caltable": lambda ms: write_caltable(ms.parent / "g.cal", _gains(ms), ms),
    "corrupt_ms": lambda ms: corrupt_ms(ms, seed=1, phase_rms_deg=10.0),
}


@pytest.mark.parametrize("name", WORK)
def test_no_column_is_read_whole(ms: Path, read: list[tuple[str, int]], name: str) -> None:
    WORK[name](ms)
    assert read and max(rows for _, rows in read) <= SLAB


def test_rows_in_order_are_looked_at_once(ms: Path, read: list[tuple[str, int]]) -> None:
    survey = survey_times(ms)
    read.clear()
    with open_table(ms) as opened:
        assert len(list(rows_by_slot(opened, survey, np.arange(40), 20))) == 20
    for name in ("TIME", "FIELD_ID"):
        assert sum(rows for column, rows in read if column == name) == 400


def test_the_first_row_of_each_stamp(ms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ms_rows, "SLAB_ROWS", SLAB)
    reorder(ms, np.random.default_rng(5).permutation(400))
    time, one = columns(ms, "TIME", "ANTENNA1")
    with open_table(ms) as opened:
        found = first_of_stamps(opened, ("ANTENNA1",))
    stamps, first = np.unique(time, return_index=True)
    assert np.array_equal(found["TIME"], stamps)
    assert np.array_equal(found["ANTENNA1"], one[first])
