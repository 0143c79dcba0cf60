"""Reading and writing measurement sets: order of axes, chunks, several data descriptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.core.files import tree_bytes
from libs.ms import rows as ms_rows
from libs.ms.columns import ensure_data_column
from libs.ms.integration import read_integration_time_s
from libs.ms.rows import chunks, distinct, put_rows, read_rows, sample_baselines, write_rows
from libs.ms.summary import flagged_fraction, summarise
from libs.ms.tables import column_names, open_table
from tests.libs.small_ms import TIME0_S, make_ms

NAMES = ("TIME", "DATA", "FLAG", "ANTENNA1", "DATA_DESC_ID")


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    """5 antennas, 6 times, 8 channels, 2 correlations; each visibility has its own value."""
    path = make_ms(tmp_path / "a.ms")
    with open_table(path, write=True) as opened:
        shape = opened.getcol("DATA").shape
        assert shape == (60, 8, 2)
        opened.putcol("DATA", np.arange(60 * 16).reshape(shape).astype(np.complex64))
    return path


@pytest.fixture
def two_windows(ms: Path) -> Path:
    """Every third row belongs to a second window of the same channels, 1 GHz higher."""
    with open_table(f"{ms}::SPECTRAL_WINDOW", write=True) as windows:
        windows.copyrows(windows)
        windows.putcell("CHAN_FREQ", 1, windows.getcell("CHAN_FREQ", 0) + 1e9)
    with open_table(f"{ms}::DATA_DESCRIPTION", write=True) as descriptions:
        descriptions.copyrows(descriptions)
        descriptions.putcol("SPECTRAL_WINDOW_ID", np.array([1, 0], np.int32))
    with open_table(ms, write=True) as opened:
        opened.putcol("DATA_DESC_ID", (np.arange(60) % 3 == 0).astype(np.int32))
    return ms


def test_the_flagged_fraction_of_the_other_antennas(ms: Path) -> None:
    with open_table(ms, write=True) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        flag = opened.getcol("FLAG")
        flag[(one == 3) | (two == 3)] = True
        flag[(one == 0) & (two == 1), :4] = True
        opened.putcol("FLAG", flag)
    # of 10 baselines 4 are those of antenna 3, and a half of one is flagged besides
    assert flagged_fraction(ms) == pytest.approx(0.45)
    assert flagged_fraction(ms, without=[3]) == pytest.approx(0.5 / 6)
    assert flagged_fraction(ms, without=[3, 1]) == 0


def test_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened as a table"), open_table(tmp_path):
        pass
    with pytest.raises(InputError), open_table(tmp_path / "none.ms"):
        pass


def test_the_order_is_row_channel_correlation(ms: Path) -> None:
    (chunk,) = chunks(ms, NAMES)
    assert chunk["DATA"].shape == (60, 8, 2) == chunk["FLAG"].shape
    assert chunk["DATA"][3, 5, 1] == 3 * 16 + 5 * 2 + 1
    np.testing.assert_array_equal(chunk.rows, np.arange(60))
    assert (chunk.data_desc_id, chunk.spw) == (0, 0)


@pytest.mark.parametrize("max_bytes", [1, 300, 1000, 5000, 10**9])
def test_chunks_are_bounded_and_miss_nothing(ms: Path, max_bytes: int) -> None:
    found = list(chunks(ms, ("DATA", "TIME"), max_bytes=max_bytes))
    row_bytes = 16 * 8 + 8
    for chunk in found:
        size = sum(values.nbytes for values in chunk.columns.values())
        assert size <= max(max_bytes, row_bytes), "at least one row"
    np.testing.assert_array_equal(np.concatenate([c.rows for c in found]), np.arange(60))
    data = np.concatenate([chunk["DATA"] for chunk in found])
    np.testing.assert_array_equal(data.real.ravel(), np.arange(960))
    assert len(found) == -(-60 // max(1, min(60, max_bytes // row_bytes)))


def test_a_chunk_has_one_data_description(two_windows: Path) -> None:
    found = list(chunks(two_windows, NAMES, max_bytes=2000))
    assert [c.data_desc_id for c in found] == sorted(c.data_desc_id for c in found)
    for chunk in found:
        assert (chunk["DATA_DESC_ID"] == chunk.data_desc_id).all()
        assert chunk.spw == 1 - chunk.data_desc_id, "by the subtable"
        np.testing.assert_array_equal(chunk["DATA"][:, 0, 0].real, 16 * chunk.rows)
    rows = np.concatenate([chunk.rows for chunk in found])
    assert sorted(rows) == list(range(60))


def test_rows_by_condition(two_windows: Path) -> None:
    found = list(chunks(two_windows, NAMES, where="ANTENNA1 == 2"))
    assert len(found) == 2
    for chunk in found:
        assert (chunk["ANTENNA1"] == 2).all()
        np.testing.assert_array_equal(
            chunk["DATA"][:, 0, 0].real, 16 * chunk.rows, "rows are those of the whole table"
        )
    assert list(chunks(two_windows, NAMES, where="ANTENNA1 == 77")) == []


@pytest.mark.parametrize("rows", [[4, 5, 6], [9, 2, 30], [59], [7, 5, 6]])
def test_rows_are_written_where_they_belong(ms: Path, rows: list[int]) -> None:
    values = -np.arange(len(rows) * 16, dtype=np.complex64).reshape(-1, 8, 2) - 1
    flag = np.ones(values.shape, bool)
    put_rows(ms, np.array(rows), {"DATA": values, "FLAG": flag})
    with open_table(ms) as opened:
        data, flags = opened.getcol("DATA"), opened.getcol("FLAG")
    np.testing.assert_array_equal(data[rows], values)
    others = np.setdiff1d(np.arange(60), rows)
    np.testing.assert_array_equal(data.real[others, 0, 0], 16 * others)
    np.testing.assert_array_equal(np.flatnonzero(flags.all(axis=(1, 2))), sorted(rows))
    assert not flags[others].any()


def test_chunks_written_back_are_the_same_data(two_windows: Path) -> None:
    for chunk in chunks(two_windows, ("DATA",), max_bytes=2000):
        put_rows(two_windows, chunk.rows, {"DATA": 2 * chunk["DATA"]})
    with open_table(two_windows) as opened:
        np.testing.assert_array_equal(opened.getcol("DATA").real.ravel(), 2 * np.arange(960))


def test_columns_are_added_once(two_windows: Path) -> None:
    ensure_data_column(two_windows, "MODEL_DATA")
    ensure_data_column(two_windows, "CORRECTED_DATA", copy="DATA")
    with open_table(two_windows) as opened:
        model, corrected = opened.getcol("MODEL_DATA"), opened.getcol("CORRECTED_DATA")
        np.testing.assert_array_equal(corrected, opened.getcol("DATA"))
    assert not model.any(), "zeros: a model never filled must not pass for a point source"
    assert model.shape == (60, 8, 2)
    put_rows(two_windows, np.arange(60), {"MODEL_DATA": model + 3})
    ensure_data_column(two_windows, "MODEL_DATA", copy="DATA")
    with open_table(two_windows) as opened:
        assert (opened.getcol("MODEL_DATA") == 3).all(), "what is there stays"
    assert {"MODEL_DATA", "CORRECTED_DATA"} <= set(column_names(two_windows))


def test_summary_of_a_simulated_set(tmp_path: Path) -> None:
    path = make_ms(tmp_path / "b.ms", antennas=4, times=8, scans=2, fields=("target", "phase"))
    found = summarise(path)
    assert (found.rows, found.channels, found.scans) == (48, 8, 2)
    assert found.antenna == ("A0", "A1", "A2", "A3")
    assert found.field == ("target", "phase") and found.fields_used == (0, 1)
    assert found.spws_used == (0,)
    assert found.correlation == ("RR", "LL")
    assert found.telescope == "EVLA"
    assert found.integration_s == pytest.approx(10.0), "not the gap of the scans"
    assert found.time_range_s == (TIME0_S, TIME0_S + 1070.0)
    assert found.direction_rad == pytest.approx((1.2, 0.6))
    assert found.dish_diameter_m == 25.0
    place = [100, 200j, -300, -400j]  # m, a spiral
    lengths = [abs(a - b) for i, a in enumerate(place) for b in place[:i]]
    assert found.longest_baseline_m == pytest.approx(max(lengths))
    assert found.shortest_baseline_m == pytest.approx(min(lengths))
    assert found.min_frequency_hz == 5e9 and found.max_frequency_hz == 5.014e9
    assert found.mean_frequency_hz == pytest.approx(5.007e9)
    assert found.flagged_fraction == 0 and found.weights_positive
    assert found.antennas_used == (0, 1, 2, 3)
    assert found.size_bytes == tree_bytes(path) > 10000


def test_the_summary_goes_by_unflagged_data(tmp_path: Path) -> None:
    path = make_ms(tmp_path / "b.ms", antennas=4, times=2, autocorrelations=True)
    with open_table(path, write=True) as opened:
        far = (opened.getcol("ANTENNA1") == 3) | (opened.getcol("ANTENNA2") == 3)
        opened.putcol("FLAG_ROW", far)
    found = summarise(path)
    assert found.antennas_used == (0, 1, 2)
    assert found.longest_baseline_m == pytest.approx(400.0), "A0 to A2"
    assert found.shortest_baseline_m == pytest.approx(np.hypot(100, 200)), "no autocorrelation"
    assert found.flagged_fraction == pytest.approx(far.mean())
    assert flagged_fraction(path) == pytest.approx(far.mean())


def test_everything_flagged_or_without_weight(tmp_path: Path) -> None:
    path = make_ms(tmp_path / "b.ms", antennas=4, times=2)
    with open_table(path, write=True) as opened:
        opened.putcol("WEIGHT", np.full_like(opened.getcol("WEIGHT"), -1))
    assert not summarise(path).weights_positive
    with open_table(path, write=True) as opened:
        opened.putcol("FLAG_ROW", np.ones(opened.nrows(), bool))
    found = summarise(path)
    assert found.flagged_fraction == 1 and found.antennas_used == ()
    assert (found.longest_baseline_m, found.shortest_baseline_m) == (0, 0)


def test_what_is_no_measurement_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        summarise(tmp_path / "none.ms")
    with pytest.raises(InputError, match="is not a measurement set"):
        summarise(tmp_path)
    path = make_ms(tmp_path / "empty.ms", antennas=3, times=0)
    with pytest.raises(InputError, match="has no rows"):
        summarise(path)


def test_slabs_of_a_large_table_miss_nothing(
    two_windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("TIME", "DATA", "ANTENNA1")

    def everything(where: str) -> dict[str, np.ndarray]:
        found = list(chunks(two_windows, names, where=where))
        rows = np.concatenate([chunk.rows for chunk in found])
        order = np.argsort(rows)
        values = {n: np.concatenate([chunk[n] for chunk in found])[order] for n in names}
        return {**values, "rows": rows[order]}

    with open_table(two_windows) as opened:
        times, spacing = (
            opened.getcol("TIME"),
            read_integration_time_s(opened, ("ANTENNA1", "ANTENNA2")),
        )
    whole = [everything(where) for where in ("", "ANTENNA1 == 1")]
    monkeypatch.setattr(ms_rows, "SLAB_ROWS", 17)
    for one, other in zip(
        whole, [everything(where) for where in ("", "ANTENNA1 == 1")], strict=True
    ):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])
    with open_table(two_windows) as opened:
        np.testing.assert_array_equal(distinct(opened, "TIME"), np.unique(times))
        some = sample_baselines(opened, ("TIME", "ANTENNA1", "ANTENNA2"), most=2)
        pairs = set(zip(some["ANTENNA1"].tolist(), some["ANTENNA2"].tolist(), strict=True))
        assert len(pairs) == 2
        np.testing.assert_array_equal(np.unique(some["TIME"]), np.unique(times))
        assert len(sample_baselines(opened, ("TIME",), most=10)["TIME"]) <= 17, "rows of a slab"
        few = read_integration_time_s(opened, ("ANTENNA1", "ANTENNA2"), most_rows=len(times) // 2)
        assert few == pytest.approx(spacing)


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], [0, 2, 4, 6], [*range(40), *range(60, 99)]])
def test_rows_are_read_as_written(ms: Path, rows: list[int]) -> None:
    """As one run, as several and through a selection."""
    with open_table(ms, write=True) as opened:
        rows = [row for row in rows if row < opened.nrows()]
        numbers = np.array(rows, np.int64)
        expected = opened.getcol("DATA")
        np.testing.assert_array_equal(
            read_rows(opened, ("DATA",), numbers)["DATA"], expected[numbers]
        )
        expected[numbers] = np.arange(len(rows))[:, None, None]
        write_rows(opened, numbers, {"DATA": expected[numbers]})
        np.testing.assert_array_equal(opened.getcol("DATA"), expected)


def test_what_is_flagged_throughout_counts_as_little_as_what_is_not_there(
    two_windows: Path,
) -> None:
    whole = summarise(two_windows)
    assert (whole.spws_used, whole.channels) == ((0, 1), 16)
    with open_table(two_windows, write=True) as opened:
        flag = opened.getcol("FLAG")
        window = opened.getcol("DATA_DESC_ID")  # description 0 is window 1
        flag[window == 0] = True
        flag[:, :3] = True
        opened.putcol("FLAG", flag)
    left = summarise(two_windows)
    hz = whole.frequency_hz[0]
    assert (left.spws_used, left.channels) == ((0,), 5)
    assert (left.min_frequency_hz, left.max_frequency_hz) == (hz[3:].min(), hz[3:].max())
    assert left.mean_frequency_hz == pytest.approx(hz[3:].mean())
    with open_table(two_windows, write=True) as opened:
        opened.putcol("FLAG", np.ones_like(flag))
    nothing = summarise(two_windows)
    assert (nothing.spws_used, nothing.max_frequency_hz) == ((0, 1), whole.max_frequency_hz)
