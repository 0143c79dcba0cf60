"""Which tables the pointings of a mosaic have after a round."""

from __future__ import annotations

from selfcal.step import TableRef
from steps.rounds.mosaic_state import newest, restricted
from steps.solution_file import of_most_pointings

P0, P1, P2 = (TableRef("a.ms", f"tables/{name}", round=name) for name in ("p0", "p1", "p2"))
AGAIN = TableRef("a.ms", "tables/p1_2", round="p1")


def fields(refs: tuple[TableRef, ...]) -> dict[str, tuple[int, ...]]:
    return {ref.path.removeprefix("tables/"): ref.fields for ref in refs}


def test_all_pointings_have_the_new_tables() -> None:
    assert restricted([P1], [0, 1, 2], [P0], 3) == (P1,)


def test_the_others_keep_what_they_had() -> None:
    refs = restricted([P1], [0, 2], [P0], 4)
    assert fields(refs) == {"p1": (0, 2), "p0": (1, 3)}
    later = restricted([AGAIN], [2, 3], refs, 4)
    assert fields(later) == {"p1_2": (2, 3), "p1": (0,), "p0": (1,)}


def test_pointings_without_any_stay_without() -> None:
    assert fields(restricted([P0], [0], (), 3)) == {"p0": (0,)}


def test_a_table_beneath_both_is_there_once_and_first() -> None:
    refs = restricted([P0, P2], [0], [P0, P1], 2)
    assert fields(refs) == {"p0": (), "p2": (0,), "p1": (1,)}


def test_the_newest_table_of_a_round_is_that_beneath_the_next() -> None:
    refs = restricted([AGAIN], [1], restricted([P1], [0], (), 2), 2)
    assert newest(refs) == (AGAIN,)


def test_the_h5parm_has_the_tables_of_most_pointings() -> None:
    assert of_most_pointings([P0, P1]) == (P0, P1)
    refs = restricted([P1], [0, 2], [P0], 3)
    assert [ref.path for ref in of_most_pointings(refs)] == ["tables/p1"]
