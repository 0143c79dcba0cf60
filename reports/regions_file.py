"""The islands of a mask as regions for ds9 and CARTA (CRTF)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage

from libs.core.files import write_atomically

__all__ = ["write_regions"]

MOST_REGIONS = 200


def write_regions(mask: Path, folder: Path) -> tuple[Path, Path] | None:
    """Write a box around each island of a mask.

    Parameters
    ----------
    mask : Path
        FITS mask, zero outside, on a SIN grid.
    folder : Path
        Folder that receives ``mask.reg`` (ds9) and ``mask.crtf`` (CARTA, CASA).

    Returns
    -------
    tuple of Path or None
        The two files; None for an empty mask.
    """
    with fits.open(mask) as hdus:
        header = hdus[0].header
        plane = np.nan_to_num(hdus[0].data.reshape(hdus[0].shape[-2:])) > 0
    labels, count = ndimage.label(plane)
    if not count:
        return None
    # the two differ by more than a beam of VLBI
    fk5 = str(header.get("RADESYS", "")).strip().upper() == "FK5"
    ds9 = ["# Region file format: DS9 version 4.1", "fk5" if fk5 else "icrs"]
    crtf = ["#CRTFv0"]
    cell = abs(float(header["CDELT2"])) * 3600
    for place in ndimage.find_objects(labels)[:MOST_REGIONS]:
        rows, columns = place
        ra, dec = _sky(
            header, (columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2
        )
        wide = (columns.stop - columns.start) * cell
        tall = (rows.stop - rows.start) * cell
        ds9.append(f'box({ra:.12f},{dec:.12f},{wide:.6g}",{tall:.6g}",0)')
        crtf.append(
            f"centerbox [[{ra:.12f}deg, {dec:.12f}deg], [{wide:.6g}arcsec, {tall:.6g}arcsec]]"
            f" coord={'J2000' if fk5 else 'ICRS'}"
        )
    folder.mkdir(exist_ok=True)
    paths = folder / "mask.reg", folder / "mask.crtf"
    for path, lines in zip(paths, (ds9, crtf), strict=True):
        write_atomically(path, "\n".join(lines) + "\n")
    return paths


def _sky(header: fits.Header, x: float, y: float) -> tuple[float, float]:
    """Return RA and Dec (deg) of a pixel, counted from 0, of a SIN image."""
    east = math.radians((x + 1 - float(header["CRPIX1"])) * float(header["CDELT1"]))
    north = math.radians((y + 1 - float(header["CRPIX2"])) * float(header["CDELT2"]))
    ra0, dec0 = math.radians(float(header["CRVAL1"])), math.radians(float(header["CRVAL2"]))
    towards = math.sqrt(max(0.0, 1 - east**2 - north**2))
    dec = math.asin(north * math.cos(dec0) + towards * math.sin(dec0))
    ra = ra0 + math.atan2(east, towards * math.cos(dec0) - north * math.sin(dec0))
    return math.degrees(ra) % 360, math.degrees(dec)
