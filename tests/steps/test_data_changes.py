"""What steps change in the data is put back when they, or steps before them, run again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.ms.kept_column import move_and_scale, scale_weights
from libs.ms.tables import open_table
from selfcal.step import StepResult
from steps.data_changes import keep_data, kept_name, undo_changes
from tests.libs.small_ms import make_ms


def values(ms: Path, name: str = "DATA") -> NDArray[Any]:
    with open_table(ms) as opened:
        return np.asarray(opened.getcol(name))


def put(ms: Path, factor: float) -> None:
    with open_table(ms, write=True) as opened:
        opened.putcol("DATA", opened.getcol("DATA") * np.complex64(factor))


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return make_ms(tmp_path / "data" / "one.ms", antennas=5, times=4)


def context(workdir: Path, *done: str) -> Any:
    results = {name: StepResult() for name in done}
    results = {"startup": StepResult(metrics={"working_copies": ["one.ms"]}), **results}
    return SimpleNamespace(workdir=workdir, results=results)


def test_a_step_that_runs_again_finds_the_data_as_before(tmp_path: Path, ms: Path) -> None:
    before, weight = values(ms), values(ms, "WEIGHT")
    keep_data(ms, "align")
    move_and_scale(ms, kept_name("align"), (1e-6, -2e-6), 1.1)
    scale_weights(ms, 1.1)
    np.testing.assert_allclose(values(ms, "WEIGHT"), weight * 1.21, rtol=1e-5)
    assert np.abs(values(ms) - before).max() > 0
    undo_changes(context(tmp_path, "align"), SimpleNamespace(name="p0"))  # type: ignore[arg-type]
    assert np.abs(values(ms) - before).max() > 0, "align has run: its change stays"
    undo_changes(context(tmp_path), SimpleNamespace(name="align"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(values(ms), before)
    np.testing.assert_array_equal(values(ms, "WEIGHT"), weight)


def test_two_changes_are_undone_in_turn(tmp_path: Path, ms: Path) -> None:
    before = values(ms)
    keep_data(ms, "peel")
    put(ms, 2.0)
    keep_data(ms, "align")
    put(ms, 3.0)
    undo_changes(context(tmp_path, "peel"), SimpleNamespace(name="align"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(values(ms), 2 * before)
    undo_changes(context(tmp_path), SimpleNamespace(name="fov_image"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(values(ms), before)


def test_what_was_kept_is_kept_once(tmp_path: Path, ms: Path) -> None:
    """A step that was killed half-way and begins again must not keep its own half."""
    before = values(ms)
    keep_data(ms, "peel")
    put(ms, 5.0)
    keep_data(ms, "peel")
    np.testing.assert_array_equal(values(ms, kept_name("peel")), before)


def test_the_sky_moves_back_by_the_offset(ms: Path) -> None:
    keep_data(ms, "align")
    move_and_scale(ms, kept_name("align"), (3e-6, 1e-6), 0.5)
    again = values(ms)
    move_and_scale(ms, kept_name("align"), (3e-6, 1e-6), 0.5)
    np.testing.assert_array_equal(values(ms), again)
    kept = values(ms, kept_name("align"))
    there = np.abs(kept) > 0
    np.testing.assert_allclose(np.abs(again[there]) / np.abs(kept[there]), 2.0, rtol=1e-5)


def test_data_cannot_be_moved_from_themselves(ms: Path) -> None:
    with pytest.raises(ValueError, match="kept"):
        move_and_scale(ms, "DATA", (0.0, 0.0), 1.0)
