"""Dishes of a mosaic: executions may differ in them, antennas of one execution may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.core.errors import ConfigError
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from steps.mosaics import check_dishes, unlike_dishes
from tests.odd_data import plain


def put_dishes(ms: Path, *diameters_m: float) -> None:
    with open_table(f"{ms}::ANTENNA", write=True) as antennas:
        count = antennas.nrows()
        values = [diameters_m[number % len(diameters_m)] for number in range(count)]
        antennas.putcol("DISH_DIAMETER", values)


def test_executions_may_differ_in_their_dishes(tmp_path: Path) -> None:
    sets = [plain(tmp_path / f"{name}.ms", scans=1) for name in "ab"]
    assert not unlike_dishes([summarise(ms) for ms in sets])
    put_dishes(sets[0], 12.0)
    put_dishes(sets[1], 7.0)
    used = [summarise(ms) for ms in sets]
    assert unlike_dishes(used)
    check_dishes("two fields", sets, used)


def test_antennas_of_an_execution_may_not(tmp_path: Path) -> None:
    ms = plain(tmp_path / "mixed.ms", scans=1)
    put_dishes(ms, 12.0, 7.0)
    with pytest.raises(ConfigError, match=r"mixed.ms has dishes of 7 m, 12 m") as refused:
        check_dishes("two fields", [ms], [summarise(ms)])
    assert "split it by kind of dish" in refused.value.remedy
