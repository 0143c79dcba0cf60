"""Final steps common to every imager: a scratch folder, checks of the images, the beam."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np

from libs.core.errors import ImageError, ToolError
from libs.core.process import tail
from libs.imaging.interface import ImagingOptions, open_image

__all__ = ["check_made", "fresh_scratch", "plane_name", "restoring_beam"]


def plane_name(options: ImagingOptions, stokes: str) -> str:
    """Return the stem of the products of one Stokes parameter.

    Of several, each has its letter in the name, as in WSClean's names.
    """
    return options.basename if len(options.stokes) == 1 else f"{options.basename}-{stokes}"


def fresh_scratch(options: ImagingOptions, program: str) -> Path:
    """Return an empty folder beside the products; files of a killed run there are removed."""
    scratch = options.folder.resolve() / f".{options.basename}.{program}"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise ToolError(
            f"{scratch} cannot be made ({error})", "make the work directory writable"
        ) from error
    return scratch


def check_made(
    program: str, kind: str, path: Path, log: Path, *, blank_allowed: bool = False
) -> None:
    """Check that an image exists, is finite and, unless it is a model, is not all zero.

    Parameters
    ----------
    program, kind : str
        Program and kind of image, for the message.
    path, log : Path
        Image and log of the program.
    blank_allowed : bool
        True: some pixels may be blank, as outside the primary beams of a mosaic.

    Raises
    ------
    ToolError
        The image does not exist.
    ImageError
        The image holds nothing usable.
    """
    if not path.exists():
        raise ToolError(
            f"{program} made no {kind} image; its last lines:\n{tail(log)}", f"see {log}"
        )
    plane, _ = open_image(path)
    finite = np.isfinite(plane)
    if not (finite.any() if blank_allowed else finite.all()):
        raise ImageError(
            f"{program}'s {kind} image is not finite",
            f"check whether the data are flagged, have zero weights or hold NaN; see {log}",
        )
    if kind != "model" and not plane[finite].any():
        raise ImageError(
            f"{program}'s {kind} image is all zero",
            f"check whether the data are flagged or have zero weights; see {log}",
        )


def restoring_beam(image: Path, log: Path) -> tuple[float, float, float]:
    """Return the restoring beam: major and minor FWHM, arcsec, and position angle, deg.

    Raises
    ------
    ToolError
        The image has no restoring beam, or one without a size.
    """
    from astropy.io import fits

    header = fits.getheader(image)
    try:
        major, minor = 3600.0 * header["BMAJ"], 3600.0 * header["BMIN"]
        angle = float(header["BPA"])
    except KeyError as error:
        raise ToolError(
            f"{image.name} has no restoring beam ({error})", f"no beam fitted the PSF, see {log}"
        ) from error
    if not (major > 0 and minor > 0 and all(map(math.isfinite, (major, minor, angle)))):
        raise ToolError(
            f"{image.name} has a beam of {major} x {minor} arcsec", f"see {log} for the PSF's fit"
        )
    return major, minor, angle
