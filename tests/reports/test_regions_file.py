"""The mask's islands as regions that ds9 and CASA read, in place and size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from regions import Regions

from reports.regions_file import write_regions
from tests.reports.fake_run import CELL_ARCSEC, write_fits


@pytest.mark.parametrize("frame", ["ICRS", "FK5"])
@pytest.mark.parametrize("suffix", ["reg", "crtf"])
def test_boxes_are_where_the_islands_are(tmp_path: Path, suffix: str, frame: str) -> None:
    mask = np.zeros((128, 160))
    mask[20:30, 40:60] = 1  # rows from the south, columns
    mask[90:91, 150:151] = 1
    path = write_fits(tmp_path / "mask.fits", mask)
    fits.setval(path, "RADESYS", value=frame)
    assert write_regions(path, tmp_path / "plots") is not None
    form = {"reg": "ds9", "crtf": "crtf"}[suffix]
    boxes = Regions.read(tmp_path / "plots" / f"mask.{suffix}", format=form)
    assert len(boxes) == 2
    sky = WCS(fits.getheader(path)).celestial.pixel_to_world(49.5, 24.5)
    assert boxes[0].center.frame.name == frame.lower()
    assert boxes[0].center.separation(sky) < 1e-6 * u.arcsec
    assert boxes[0].width.to_value("arcsec") == pytest.approx(20 * CELL_ARCSEC)
    assert boxes[0].height.to_value("arcsec") == pytest.approx(10 * CELL_ARCSEC)


def test_an_empty_mask_has_none(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "mask.fits", np.zeros((64, 64)))
    assert write_regions(path, tmp_path / "plots") is None
