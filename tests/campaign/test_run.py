"""The campaign's command: cases run anywhere, kept one by one, and gone on with after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.campaign import run
from benchmarks.campaign.scoring import Drawing, Score

KINDS = {"array": "EVN", "sky": "point", "errors": "phases", "noise": "SNR below 100",
         "windows": "1", "flags": "none"}  # fmt: skip


class Cases:
    """Stands in for the run of a case: seed 12 breaks."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, drawing: Drawing) -> Score:
        self.seeds.append(drawing.seed)
        if drawing.seed == 12:
            raise MemoryError("no room")
        return Score(drawing.seed, f"case {drawing.seed}", "improved", KINDS, snr_perfect=50.0,
                     dr_perfect=100.0, dr_final=101.0, ratio=1.01, flux_ratio=1.0, flux_error=0.01,
                     rounds="p0")  # fmt: skip


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> Cases:
    found = Cases()
    monkeypatch.setattr(run, "run_drawn", found)
    return found


def words(folder: Path, *more: str) -> list[str]:
    return ["--seed", "10", "--cluster", "inline", "--results", str(folder), *more]


def test_cases_on_record_are_not_run_again(
    tmp_path: Path, cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(words(tmp_path, "--n", "2")) == 0
    record = tmp_path / "campaign.jsonl"
    assert [json.loads(line)["seed"] for line in record.read_text().splitlines()] == [10, 11]
    record.write_text(record.read_text()[:-20])  # a kill cuts the last line off
    for _ in range(2):
        assert run.main(words(tmp_path, "--n", "2")) == 0
    assert cases.seeds == [10, 11, 11]
    assert "case 11" in capsys.readouterr().out


def test_a_case_that_breaks_does_not_end_the_campaign(
    tmp_path: Path, cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(words(tmp_path, "--n", "4")) == 1
    assert cases.seeds == [10, 11, 12, 13]
    told = capsys.readouterr()
    assert "12 unknown: not run" in told.err
    assert "MemoryError: no room" in told.err


def test_a_scheduler_that_is_not_there_is_told_in_one_line(
    tmp_path: Path, cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main([*words(tmp_path), "--cluster", "somewhere"])
    assert ended.value.code == 2
    assert "unknown cluster 'somewhere'" in capsys.readouterr().err
    assert not cases.seeds
