"""Properties of a field's data: found once, for all sources and processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.ms.summary import summarise
from libs.ms.tables import open_table
from steps.field import known_data
from steps.field.known_data import data_identity, know_data
from tests.libs.small_ms import make_ms


def test_data_are_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ms = make_ms(tmp_path / "a.ms")
    calls: list[str] = []
    for name, module in (("summarise", known_data), ("survey_times", known_data)):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda path, n=name, f=real: (calls.append(n), f(path))[1]
        )
    found = [know_data(ms, tmp_path / "surveys") for _ in range(5)]
    assert calls == ["summarise", "survey_times"]
    summary = summarise(ms)
    for one in found:
        assert one.longest_baseline_m == summary.longest_baseline_m
        assert one.max_frequency_hz == summary.max_frequency_hz
        assert one.survey.time_s.tolist() == found[0].survey.time_s.tolist()


def test_other_data_are_looked_through_again(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms")
    before = know_data(ms, tmp_path / "surveys").survey.time_s
    with open_table(ms, write=True) as opened:
        opened.putcol("TIME", opened.getcol("TIME") + 100.0)
    assert (know_data(ms, tmp_path / "surveys").survey.time_s == before + 100.0).all()


def test_identity_of_a_table_is_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "1.h5", tmp_path / "2.h5"
    one.write_bytes(b"a")
    two.write_bytes(b"a")
    assert data_identity([], one) == data_identity([], two) != data_identity([], None)
    two.write_bytes(b"b")
    assert data_identity([], one) != data_identity([], two)
