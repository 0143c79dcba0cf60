"""What a hostile file makes a command write outside its work directory is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.torture import escapes
from benchmarks.torture.escapes import Escapes
from benchmarks.torture.outcomes import Attempt


def drawn(
    monkeypatch: pytest.MonkeyPatch, folder: Path, touched: str
) -> tuple[Escapes, Attempt, str]:
    """Make a draw in which the command writes one file."""

    def attempt(what: str, words: Any, cwd: Path, **_: Any) -> Attempt:
        place = cwd.parent / touched
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("written")
        return Attempt(what, 0, "")

    monkeypatch.setattr(escapes, "attempt", attempt)
    monkeypatch.setattr(escapes, "_TRAPS", {"none": lambda rng, box: escapes._Trap("none", [])})
    draws = Escapes(folder / "boxes", folder / "origin.ms", 1)
    return draws, *draws.draw(0)


@pytest.mark.parametrize("touched", ["outside/escaped", "outside/kept", "home/a", "work/b"])
def test_an_escape_is_told_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, touched: str
) -> None:
    draws, _, more = drawn(monkeypatch, tmp_path, touched)
    assert more == f"escape: {touched}"
    assert (draws.folder / "escape_0" / touched).exists()


def test_the_work_directory_may_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    draws, _, more = drawn(monkeypatch, tmp_path, "work/run/summary.json")
    assert not more
    assert not (draws.folder / "escape_0").exists()
