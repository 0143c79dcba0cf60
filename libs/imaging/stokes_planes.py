"""FITS images of several Stokes parameters, as CASA writes them: planes apart and joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from libs.imaging.interface import write_image

__all__ = ["EQUINOX_B1950_VLA", "mend_equinox", "read_planes", "split_plane", "write_cube"]

# CASA's mark for B1950_VLA in FITS: B1950 with the E-terms of the middle of the VLA's use of it.
# CASA takes images without the mark to be in another frame and regrids them.
EQUINOX_B1950_VLA = 1979.9


def read_planes(path: Path) -> tuple[list[NDArray[np.floating]], fits.Header]:
    """Read the planes of a FITS image with a header for one of them."""
    with fits.open(path, memmap=False) as hdus:
        data, header = np.asarray(hdus[0].data), hdus[0].header.copy()
    return list(data.reshape(-1, *data.shape[-2:])), header


def write_cube(
    planes: Sequence[NDArray[Any]], header: fits.Header, path: Path, stokes: str
) -> Path:
    """Write planes with axes RA, Dec, Stokes and frequency, as tclean's images have them."""
    axes = {str(header.get(f"CTYPE{axis}", ""))[:4]: axis for axis in (3, 4)}
    named = header.copy()
    frequency = axes.get("FREQ")
    for word, value in (("CTYPE", "FREQ"), ("CRVAL", 1.0), ("CDELT", 1.0), ("CRPIX", 1.0)):
        named[f"{word}4"] = header[f"{word}{frequency}"] if frequency else value
    named["CUNIT4"] = "Hz"
    codes = ["IQUV".index(one) + 1 for one in stokes]
    step = codes[1] - codes[0] if len(codes) > 1 else 1
    for word, value in (
        ("CTYPE", "STOKES"), ("CRVAL", codes[0]), ("CDELT", step), ("CRPIX", 1.0), ("CUNIT", "")
    ):  # fmt: skip
        named[f"{word}3"] = value
    cube = np.stack(planes).astype(np.float32)[None]
    fits.PrimaryHDU(cube, named).writeto(path, overwrite=True)
    return path


def _beam_of_plane(path: Path, number: int) -> dict[str, float]:
    """Return header words of one plane's beam, where CASA wrote a table of beams."""
    with fits.open(path) as hdus:
        if "BEAMS" not in hdus:
            return {}
        table = hdus["BEAMS"]
        rows = [row for row in table.data if int(row["POL"]) == number]
        if not rows:
            return {}
        units = {column.name: column.unit for column in table.columns}
        per_deg = 3600.0 if units["BMAJ"] == "arcsec" else 1.0
        return {
            "BMAJ": float(rows[0]["BMAJ"]) / per_deg,
            "BMIN": float(rows[0]["BMIN"]) / per_deg,
            "BPA": float(rows[0]["BPA"]),
        }


def split_plane(path: Path, number: int, stokes: str, target: Path) -> Path:
    """Write one Stokes parameter of an exported image as an image of its own."""
    planes, header = read_planes(path)
    if len(planes) == 1:
        return path if path == target else path.replace(target)
    header.update(_beam_of_plane(path, number))
    for axis in (3, 4):
        if str(header.get(f"CTYPE{axis}", "")).startswith("STOKES"):
            header[f"CRVAL{axis}"], header[f"CRPIX{axis}"] = float("IQUV".index(stokes) + 1), 1.0
    header.pop("CASAMBM", None)
    return write_image(planes[number], header, target)


def mend_equinox(path: Path) -> None:
    """Correct the equinox of images in B1950_VLA to the value that other FITS readers expect."""
    if fits.getval(path, "EQUINOX") == EQUINOX_B1950_VLA:
        fits.setval(path, "EQUINOX", value=1950.0)
