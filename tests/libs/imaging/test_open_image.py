"""Reading an image: a file that is not what its header says is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from libs.core.errors import InputError
from libs.imaging.interface import open_image


def test_a_header_that_promises_more_than_there_is_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mask.fits"
    fits.PrimaryHDU(np.ones((64, 64), np.float32)).writeto(path)
    raw = path.read_bytes()
    said = b"NAXIS1  =                   64"
    assert said in raw
    path.write_bytes(raw.replace(said, b"NAXIS1  =              1000000"))
    with pytest.raises(InputError, match="cannot be read as FITS"):
        open_image(path)
