"""A shift between two images is told only where they show the same thing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from steps.rounds.judging_round import _with_shift
from steps.rounds.record import RoundRecord
from tests.reports.fake_run import CELL_ARCSEC, artefacts, sky, write_fits


def record_of(folder: Path, before: np.ndarray, after: np.ndarray) -> RoundRecord:
    write_fits(folder / "before.fits", before)
    image = SimpleNamespace(products=SimpleNamespace(image=write_fits(folder / "a.fits", after)))
    best = SimpleNamespace(image=SimpleNamespace(products={"image": "before.fits"}))
    context, trial = SimpleNamespace(workdir=folder), SimpleNamespace(image=image)
    return _with_shift(context, best, trial, RoundRecord())


@pytest.mark.parametrize("seed", range(8))
def test_artefacts_tell_no_shift(tmp_path: Path, seed: int) -> None:
    """As of a first image that is mostly phase errors: 14 arcsec were told where nothing moved."""
    before = 0.1 * sky(256) + artefacts(256, 0.5, seed)
    found = record_of(tmp_path, before, sky(256) + artefacts(256, 0.01, 1000 + seed))
    assert found.shift_arcsec is None
    assert found.shift is not None and found.shift.startswith("unknown: ")


@pytest.mark.parametrize("seed", range(8))
def test_a_source_that_moved_is_told(tmp_path: Path, seed: int) -> None:
    moved = ndimage.shift(sky(256), (3.0, -4.0))
    before = sky(256) + artefacts(256, 0.01, seed)
    found = record_of(tmp_path, before, moved + artefacts(256, 0.01, 1000 + seed))
    assert found.shift_arcsec == pytest.approx(5 * CELL_ARCSEC, rel=0.05)
