"""Types of data in HISTORY, in the form that observatories' pipelines write and read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.ms.history import (
    ORIGIN_OF_TYPES,
    DataTypes,
    append_history,
    read_data_types,
    read_history,
)
from libs.ms.tables import open_table, settle_rows
from tests.libs.small_ms import make_ms

COLUMN = "data_type_per_column = {'REGCAL_CONTLINE_SCIENCE': 'DATA'}"
SOURCE = "data_types_per_source_and_spw = {('2039540-005735', 16): ['REGCAL_CONTLINE_SCIENCE']}"


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    return make_ms(tmp_path / "a.ms", times=1)


def test_what_a_pipeline_wrote_is_read(ms: Path) -> None:
    append_history(ms, "importdata", ["some irrelevant log"])
    raw = "data_types_per_source_and_spw = {('2039540-005735', 16): ['RAW']}"
    append_history(ms, ORIGIN_OF_TYPES, ["data_type_per_column = {'RAW': 'DATA'}", raw])
    append_history(ms, ORIGIN_OF_TYPES, [COLUMN, SOURCE])
    found = read_data_types(ms)
    assert found.per_column == {"REGCAL_CONTLINE_SCIENCE": "DATA"}, "the last counts"
    assert found.per_source == {("2039540-005735", 16): ("REGCAL_CONTLINE_SCIENCE",)}
    assert found.messages == (COLUMN, SOURCE)
    assert len(read_history(ms, ORIGIN_OF_TYPES)) == 4


def test_unreadable_messages_say_nothing(ms: Path) -> None:
    append_history(ms, ORIGIN_OF_TYPES, [COLUMN, "data_type_per_column = {'A': ", "a = {}"])
    assert read_data_types(ms).per_column == {"REGCAL_CONTLINE_SCIENCE": "DATA"}
    assert read_data_types(ms).per_source == {}


def test_messages_of_other_origins_do_not_count(ms: Path) -> None:
    append_history(ms, "somebody", [COLUMN])
    assert read_data_types(ms) == DataTypes()


NAMES = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12)


@given(st.dictionaries(st.tuples(NAMES, st.integers(0, 99)), st.just(("A", "B")), max_size=4))
def test_any_name_of_a_source_survives(sources: dict[tuple[str, int], tuple[str, ...]]) -> None:
    import ast

    _, text = DataTypes({}, sources).messages
    literal = ast.literal_eval(text.split(" = ", 1)[1])
    assert {key: tuple(value) for key, value in literal.items()} == sources


def test_a_table_holds_its_rows_without_its_lock(tmp_path: Path, ms: Path) -> None:
    """Rows added to an existing table are noted in its lock only."""
    place = ms / "HISTORY"
    append_history(ms, "x", ["one", "two"])
    with open_table(place) as opened:
        assert opened.nrows() == 2
    settle_rows(place)
    (place / "table.lock").unlink()
    with open_table(place) as opened:
        assert opened.nrows() == 2
        assert "selfcal_settled" not in opened.keywordnames()
