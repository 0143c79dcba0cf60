"""The restoring beam of tclean, set right where it is not that of the PSF's main lobe.

CASA fits the pixels of the PSF above 0.35 that hang together. In sparse data these are more than
the main lobe: of eight antennas and two minutes it made a beam of 1.8 x 0.15 or 1.3 x 0.7 arcsec,
by the size of the pixels, from one of 1.0 x 0.19, and with another cutoff none at all.
"""

from __future__ import annotations

import math
from pathlib import Path

from libs.core.errors import ImageError
from libs.imaging.native.restore import Beam, fit_beam, main_lobe
from libs.imaging.stokes_planes import read_planes

__all__ = ["beam_instead"]

_SAME_AREA = 1.25
"""Ratio of the areas of beam and main lobe that is no fault: a PSF is no Gaussian."""


def beam_instead(image: Path, psf: Path) -> list[str] | None:
    """Return the beam to restore with in place of that of an image, as tclean takes it.

    Parameters
    ----------
    image, psf : Path
        FITS images of tclean.

    Returns
    -------
    list of str or None
        Major and minor axis and position angle with units; None where the image's beam has the
        area of the PSF's main lobe at half power, or no other can be fitted.
    """
    planes, header = read_planes(psf)
    cell = 3600.0 * abs(float(header["CDELT1"]))
    try:
        lobe, fitted = main_lobe(planes[0]), fit_beam(planes[0])
    except ImageError:  # all zero, say: the image is checked for that elsewhere
        return None
    header = read_planes(image)[1]
    found = _area(*(3600.0 * float(header.get(key, 0.0)) / cell for key in ("BMAJ", "BMIN")))
    wanted = _area(lobe.major_pixel, lobe.minor_pixel)
    if wanted / _SAME_AREA <= found <= wanted * _SAME_AREA:
        return None
    return _said(fitted, cell)


def _area(major: float, minor: float) -> float:
    return 0.25 * math.pi * major * minor


def _said(beam: Beam, cell_arcsec: float) -> list[str]:
    axes = (beam.major_pixel * cell_arcsec, beam.minor_pixel * cell_arcsec)
    return [*(f"{axis:.8g}arcsec" for axis in axes), f"{beam.pa_deg:.6g}deg"]
