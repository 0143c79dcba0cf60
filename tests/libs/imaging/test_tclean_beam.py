"""The beam that tclean restores with: CASA's where it is that of the main lobe, else another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from libs.imaging.tclean_beam import beam_instead

CELL_ARCSEC = 0.06
FWHM_PIXELS = (12.0, 3.2)


def write(path: Path, plane: np.ndarray, **axes: float) -> Path:
    header = fits.Header({"CDELT1": -CELL_ARCSEC / 3600, **axes})
    fits.writeto(path, plane[None, None].astype(np.float32), header)
    return path


def psf() -> np.ndarray:
    """A main lobe along the rows, and sidelobes of 0.4 of its peak around it."""
    y, x = np.mgrid[-64:64, -64:64].astype(float)
    lobe = np.exp(-4 * np.log(2) * ((x / FWHM_PIXELS[0]) ** 2 + (y / FWHM_PIXELS[1]) ** 2))
    return lobe + 0.4 * np.exp(-(((x - 14) / 5) ** 2) - ((y - 6) / 5) ** 2) * (np.abs(y) > 3)


@pytest.mark.parametrize(
    ("axes_pixels", "kept"),
    [((12.0, 3.2), True), ((13.0, 3.0), True), ((30.0, 2.6), False), ((22.0, 12.0), False),
     ((1e-6, 1e-6), False)],
)  # fmt: skip
def test_a_beam_of_another_area_than_the_main_lobes_is_replaced(
    tmp_path: Path, axes_pixels: tuple[float, float], kept: bool
) -> None:
    shape = dict(zip(("BMAJ", "BMIN"), (p * CELL_ARCSEC / 3600 for p in axes_pixels), strict=True))
    image = write(tmp_path / "image.fits", np.zeros((128, 128)), **shape, BPA=90.0)
    found = beam_instead(image, write(tmp_path / "psf.fits", psf()))
    assert (found is None) is kept
    if found is not None:
        axes = [float(word.removesuffix("arcsec")) / CELL_ARCSEC for word in found[:2]]
        assert axes == pytest.approx(FWHM_PIXELS, rel=0.25)
        assert float(found[2].removesuffix("deg")) == pytest.approx(90.0, abs=15.0)


def test_a_psf_without_a_peak_gives_none(tmp_path: Path) -> None:
    image = write(tmp_path / "image.fits", np.zeros((128, 128)))
    assert beam_instead(image, write(tmp_path / "psf.fits", np.zeros((128, 128)))) is None
