"""Parts of a measurement set, chosen by ids and copied as mstransform and split copy them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.casa.session import CasaSession
from libs.core.errors import InputError
from libs.inputs import selected_copy
from libs.inputs.input_data import resolve_inputs
from libs.inputs.selected_copy import mstransform_options
from libs.ms import subset_copy
from libs.ms.subset import NotUnderstoodError, choose_subset
from libs.ms.subset_copy import copy_subset
from libs.ms.tables import open_table
from libs.ms.view import read_view
from tests.archives import unpacked
from tests.libs.mixed_ms import CHANNELS, make_mixed_ms
from tests.libs.small_ms import tree_hash


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three windows, three fields, four correlations. Read only."""
    return make_mixed_ms(tmp_path_factory.mktemp("mixed") / "in.ms")


def rows_of(ms: Path) -> dict[str, list[Any]]:
    """Every column, in the order of time, window, antennas."""
    with open_table(ms) as opened:
        keys = [opened.getcol(n) for n in ("ANTENNA2", "ANTENNA1", "DATA_DESC_ID", "TIME")]
        order = np.lexsort(keys)
        return {
            name: [opened.getcell(name, int(row)) for row in order]
            for name in opened.colnames()
            if name != "FLAG_CATEGORY"
        }


# what a selection means


@pytest.mark.parametrize(
    ("field", "ids"),
    [
        ("", (0, 1, 2)),
        ("0", (0,)),
        ("1~2,0", (0, 1, 2)),
        ("one", (0,)),
        ("t*", (1,)),
        ("two, one", (0, 1)),
        ("2", (2,)),  # a field of that name is there, and the same
        ("o?e", (0,)),
    ],
)
def test_fields(mixed: Path, field: str, ids: tuple[int, ...]) -> None:
    assert choose_subset(mixed, field=field).fields == ids


@pytest.mark.parametrize(
    ("spw", "windows"),
    [
        ("", {0: range(8), 1: range(5), 2: range(8)}),
        ("*", {0: range(8), 1: range(5), 2: range(8)}),
        ("2,0", {2: range(8), 0: range(8)}),
        ("0:2~4;6~7, 1", {0: (2, 3, 4, 6, 7), 1: range(5)}),
        ("*:1~3", {0: (1, 2, 3), 1: (1, 2, 3), 2: (1, 2, 3)}),
        ("1~2:4", {1: (4,), 2: (4,)}),
    ],
)
def test_windows_keep_the_order_they_are_named_in(mixed: Path, spw: str, windows: dict) -> None:
    subset = choose_subset(mixed, spw=spw)
    assert subset.windows == tuple(windows)
    for channels, expected in zip(subset.channels, windows.values(), strict=True):
        assert np.array_equal(channels, list(expected))


@pytest.mark.parametrize(
    "selection",
    [
        {"field": "three"}, {"field": "7"}, {"field": ">1"}, {"field": "ONE"},
        {"field": "/o.*/"}, {"field": "2~1"}, {"spw": "1.4GHz"}, {"spw": "spw1"},
        {"spw": "0:1~5^2"}, {"spw": "0:9"}, {"spw": "*:6~7"}, {"spw": "0:4~6;1~2"},
        {"spw": "0:1,0:2"}, {"spw": "3"}, {"spw": "<2"}, {"correlation": "XX"},
    ],
)  # fmt: skip
def test_what_could_be_misread_is_left_to_casa(mixed: Path, selection: dict[str, str]) -> None:
    with pytest.raises(NotUnderstoodError):
        choose_subset(mixed, **selection)


def test_a_code_of_a_calibrator_is_left_to_casa(tmp_path: Path) -> None:
    ms = make_mixed_ms(tmp_path / "a.ms")
    with open_table(f"{ms}::FIELD", write=True) as opened:
        opened.putcell("CODE", 2, "one")
    with pytest.raises(NotUnderstoodError):
        choose_subset(ms, field="one")
    assert choose_subset(ms, field="two").fields == (1,)


# what is copied


@settings(max_examples=12)
@given(
    fields=st.sets(st.integers(0, 2), min_size=1),
    windows=st.permutations([0, 1, 2]).flatmap(
        lambda order: st.integers(1, 3).map(lambda count: order[:count])
    ),
    data=st.data(),
)
def test_every_row_and_channel_of_a_selection_arrives(
    mixed: Path, tmp_path_factory: pytest.TempPathFactory, fields: set[int], windows: list[int],
    data: st.DataObject,
) -> None:  # fmt: skip
    target = tmp_path_factory.mktemp("copy") / "out.ms"
    kept = {
        window: sorted(data.draw(st.sets(st.integers(0, CHANNELS[window] - 1), min_size=1)))
        for window in windows
    }
    spw = ",".join(f"{window}:{';'.join(map(str, kept[window]))}" for window in windows)
    subset = choose_subset(mixed, field=",".join(map(str, fields)), spw=spw)
    count = copy_subset(mixed, target, subset)
    with open_table(mixed) as source, open_table(target) as made:
        one, two, field, spws = (
            source.getcol(n) for n in ("ANTENNA1", "ANTENNA2", "FIELD_ID", "DATA_DESC_ID")
        )
        wanted = (one != two) & np.isin(field, list(fields)) & np.isin(spws, windows)
        rows = np.flatnonzero(wanted)
        assert count == made.nrows() == len(rows)
        for place, row in enumerate(rows.tolist()):
            window = int(spws[row])
            assert made.getcell("DATA_DESC_ID", place) == windows.index(window)
            assert made.getcell("FIELD_ID", place) == sorted(fields).index(int(field[row]))
            for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM"):
                expected = source.getcell(name, row)[kept[window]]
                assert np.array_equal(made.getcell(name, place), expected)
            for name in ("TIME", "UVW", "SCAN_NUMBER", "FLAG_ROW", "OBSERVATION_ID", "ANTENNA2"):
                assert np.array_equal(made.getcell(name, place), source.getcell(name, row))
    with (
        open_table(f"{mixed}::SPECTRAL_WINDOW") as source,
        open_table(f"{target}::SPECTRAL_WINDOW") as made,
    ):
        for place, window in enumerate(windows):
            expected = source.getcell("CHAN_FREQ", window)[kept[window]]
            assert np.array_equal(made.getcell("CHAN_FREQ", place), expected)
            assert made.getcell("NUM_CHAN", place) == len(kept[window])


def test_small_blocks_and_short_stretches_make_no_difference(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subset = choose_subset(mixed, spw="0:1~2,2", column="CORRECTED_DATA")
    copy_subset(mixed, tmp_path / "a.ms", subset)
    monkeypatch.setattr(subset_copy, "BLOCK_BYTES", 500)
    monkeypatch.setattr(
        subset_copy, "stretches", lambda n: [(low, min(7, n - low)) for low in range(0, n, 7)]
    )
    copy_subset(mixed, tmp_path / "b.ms", subset)
    one, two = rows_of(tmp_path / "a.ms"), rows_of(tmp_path / "b.ms")
    assert set(one) == set(two)
    for name, cells in one.items():
        assert all(np.array_equal(a, b) for a, b in zip(cells, two[name], strict=True)), name


def test_rows_without_values_are_told(tmp_path: Path) -> None:
    from casacore.tables import makearrcoldesc, maketabdesc

    ms = make_mixed_ms(tmp_path / "a.ms", corrected=False)
    with open_table(ms, write=True) as opened:
        column = makearrcoldesc("CORRECTED_DATA", 0j, ndim=2, valuetype="complex")
        opened.addcols(maketabdesc([column]))
        spw = opened.getcol("DATA_DESC_ID")
        for row in np.flatnonzero(spw == 1).tolist():
            opened.putcell("CORRECTED_DATA", row, opened.getcell("DATA", row))
    with pytest.raises(InputError, match="CORRECTED_DATA has rows without values"):
        copy_subset(ms, tmp_path / "b.ms", choose_subset(ms, column="CORRECTED_DATA"))
    assert copy_subset(ms, tmp_path / "b.ms", choose_subset(ms, spw="1", column="CORRECTED_DATA"))


def test_a_column_of_no_complex_numbers_is_left_to_casa(mixed: Path, tmp_path: Path) -> None:
    for column in ("FLAG", "MODEL_DATA"):
        with pytest.raises(NotUnderstoodError):
            copy_subset(mixed, tmp_path / "b.ms", choose_subset(mixed, column=column))


# as CASA does it

CASES: dict[str, dict[str, str]] = {
    "all": {},
    "channels": {"field": "0,2", "spw": "0:2~4;6~7,2", "datacolumn": "corrected"},
    "hands": {"field": "1", "spw": "1", "correlation": "RR,LL"},
    "other order": {"spw": "2:1~3,1:0~1"},
}


def assert_alike(own: Path, casa: Path) -> None:
    """Compare two sets: rows whatever their order, numbers to float32's last digits."""
    mine, theirs = rows_of(own), rows_of(casa)
    assert set(mine) == set(theirs)
    for name, cells in theirs.items():
        for a, b in zip(mine[name], cells, strict=True):
            if name.startswith("SIGMA"):
                b = np.where(b == -1, 0, b)  # CASA's SIGMA of what has no weight
            if np.asarray(b).dtype == np.float32:
                assert np.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True), name
            elif np.asarray(b).dtype.kind in "fc":
                assert np.array_equal(a, b, equal_nan=True), name
            else:
                assert np.array_equal(a, b), name
    with open_table(own) as opened:
        tables = [n for n, v in opened.getkeywords().items() if str(v).startswith("Table: ")]
    for table in tables:
        if table == "HISTORY":
            continue
        with open_table(own / table) as mine, open_table(casa / table) as theirs:
            assert mine.nrows() == theirs.nrows(), table
            for name in set(mine.colnames()) & set(theirs.colnames()):
                for row in range(mine.nrows()):
                    # mstransform leaves out cells of LOFAR's own columns
                    if mine.iscelldefined(name, row) and theirs.iscelldefined(name, row):
                        a, b = mine.getcell(name, row), theirs.getcell(name, row)
                        assert str(a) == str(b) or np.array_equal(a, b), (table, name)


def _both(ms: Path, folder: Path, session: CasaSession, **selection: str) -> tuple[Path, Path]:
    """Copy a selection twice: the product's way, which must not ask CASA, and by mstransform."""
    own, casa = folder / "own.ms", folder / "casa.ms"
    words = {"field": "", "spw": "", "datacolumn": "data", **selection}
    (source,) = resolve_inputs(str(ms))
    with read_view(ms, folder / "view") as view:
        options = mstransform_options(view.path, own, **words)
        notes = selected_copy.copy_selected(
            source, view.path, options, session, None, print, np.empty(0, np.int64)
        )
        assert notes == []
        session.run("mstransform", **mstransform_options(view.path, casa, **words))
    return own, casa


@pytest.mark.tools
@pytest.mark.parametrize("spectrum", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_as_mstransform(case: str, spectrum: bool, tmp_path: Path, session: CasaSession) -> None:
    ms = make_mixed_ms(tmp_path / "in.ms", spectrum=spectrum)
    with open_table(ms, write=True) as opened:  # contradict WEIGHT, and leave some out
        sigma = opened.getcol("SIGMA") * 3
        sigma[::7] = 0
        opened.putcol("SIGMA", sigma)
    tree = tree_hash(ms)
    assert_alike(*_both(ms, tmp_path, session, **CASES[case]))
    assert tree_hash(ms) == tree


@pytest.mark.tools
@pytest.mark.parametrize("column", ["data", "corrected"])
def test_as_split(column: str, mixed: Path, tmp_path: Path, session: CasaSession) -> None:
    casa, own = tmp_path / "casa.ms", tmp_path / "own.ms"
    session.run("split", vis=mixed, outputvis=casa, datacolumn=column, keepflags=True)
    name = {"data": "DATA", "corrected": "CORRECTED_DATA"}[column]
    copy_subset(mixed, own, choose_subset(mixed, column=name, autocorrelations=True))
    assert_alike(own, casa)


@pytest.mark.tools
@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("vla/day2_TDEM0003_10s_norx_1src_1spw.ms", "data"),
        ("lofar/lofar_hba_intl.ms", "corrected"),
        ("lofar/lofar_hba_intl.ms", "data"),
    ],
)
def test_real_data_as_mstransform(
    name: str, column: str, shared_data: Path, tmp_path: Path, session: CasaSession
) -> None:
    path = shared_data / name
    given = unpacked(path.with_name(f"{path.name}.tar.gz"), tmp_path / "input")
    own, casa = _both(given, tmp_path, session, datacolumn=column)
    assert_alike(own, casa)
