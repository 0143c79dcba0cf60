"""Images of one field with pixels of different size are not laid over each other."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from libs.core.errors import InputError
from reports.image_view import read_shown
from reports.records import read_run
from reports.run_panels import comparable_steps
from reports.viewer_data import read_viewer
from tests.reports.fake_run import CELL_ARCSEC, make_run, sky, write_fits


def _with_coarse_first_image(workdir: Path) -> None:
    """Give test_image half as many pixels of twice the size: the same field."""
    rows = list(csv.DictReader((workdir / "steps.csv").open()))
    products = next(json.loads(row["products"]) for row in rows if row["step"] == "test_image")
    for name in ("image", "residual", "mask"):
        write_fits(workdir / products[name], sky(64), 2 * CELL_ARCSEC)


def test_a_wide_view_as_wide_as_the_image_is_not_compared(tmp_path: Path) -> None:
    workdir = make_run(tmp_path / "work", finished=False)
    _with_coarse_first_image(workdir)
    run = read_run(workdir)
    assert [row.step for row in comparable_steps(run)] == ["p0"]
    viewer = read_viewer(run)
    assert viewer is not None and [frame.label for frame in viewer.frames] == ["p0"]


def test_a_box_outside_the_image_is_an_error(tmp_path: Path) -> None:
    image = write_fits(tmp_path / "a.fits", sky(64))
    with pytest.raises(InputError, match="not within"):
        read_shown(image, (40, 80, 0, 40))
