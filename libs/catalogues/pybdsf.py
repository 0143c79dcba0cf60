"""PyBDSF, where it is installed, as a finder of the sources of an image.

Mohan & Rafferty 2015, ASCL 1502.007.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError
from libs.core.process import run_tool

__all__ = ["check_pybdsf", "find_with_pybdsf", "is_installed"]

# Islands reach down to 3 sigma, as is PyBDSF's own default.
_ISLAND_SIGMA = 3.0
_PROGRAM = """
import sys
import bdsf
image, target, island, pixel = sys.argv[1:]
found = bdsf.process_image(image, thresh_isl=float(island), thresh_pix=float(pixel), quiet=True)
found.write_catalog(outfile=target, format="fits", catalog_type="srl", clobber=True)
"""
_DEGREES = ("RA", "E_RA", "DEC", "E_DEC")
_PLAIN = ("Total_flux", "E_Total_flux", "Peak_flux", "E_Peak_flux")


def is_installed() -> bool:
    """Whether PyBDSF can be imported."""
    return find_spec("bdsf") is not None


def check_pybdsf(setting: str) -> None:
    """Refuse a setting that asks for PyBDSF where it is not installed.

    Raises
    ------
    ConfigError
        It is not installed; ``setting`` is what asked for it.
    """
    if not is_installed():
        raise ConfigError(
            f"{setting}, and PyBDSF is not installed",
            "pip install -e '.[sources]', or choose source_finder = native",
        )


def find_with_pybdsf(
    image: Path, *, nsigma: float, log: Path, stall_s: float
) -> list[dict[str, Any]]:
    """Return the sources of an image, the brightest first.

    Parameters
    ----------
    image : Path
        FITS image.
    nsigma : float
        Peak over the local noise that a source must have.
    log : Path
    stall_s : float
        Time without output and CPU use after which it is killed, s.

    Returns
    -------
    list of dict
        Columns of the lists of `calibrate`: angles of positions in deg, of sizes in arcsec; fluxes
        in Jy.

    Raises
    ------
    ToolError
        It fails.
    """
    from astropy.table import Table

    with tempfile.TemporaryDirectory() as folder:
        # it writes a log beside the image that it is given
        copy, target = Path(folder) / "image.fits", Path(folder) / "sources.fits"
        shutil.copyfile(image, copy)
        run_tool(
            [sys.executable, "-c", _PROGRAM, copy, target, str(_ISLAND_SIGMA), str(nsigma)], log,
            stall_s=stall_s,
        )  # fmt: skip
        found = Table.read(target) if target.exists() else []  # nothing is written for no sources
        rows = [_row(one) for one in found]
    rows.sort(key=lambda row: -float(row["Peak_flux"]))
    return [{"Source_id": number, **row} for number, row in enumerate(rows, 1)]


def _row(found: Any) -> dict[str, Any]:
    row: dict[str, Any] = {name: float(found[name]) for name in (*_DEGREES, *_PLAIN)}
    row["RA"] %= 360.0
    return row | {
        "Maj": 3600 * float(found["Maj"]), "Min": 3600 * float(found["Min"]),
        "PA": float(found["PA"]), "Isl_rms": float(found["Isl_rms"]),
        "S_Code": str(found["S_Code"]).strip(),
    }  # fmt: skip
