"""``doctor``: what is installed, which imager a run would use, and how much disk there is."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from libs.core.errors import ToolError

__all__ = ["command", "doctor_parser", "examine"]

NEEDED = ("casatools", "casatasks", "casadata", "python-casacore", "numpy", "scipy", "astropy",
          "numba", "h5py", "matplotlib", "ducc0", "pyyaml", "psutil")  # fmt: skip
OPTIONAL = {
    "dp3": "data of a field's sources, core stations added up",
    "losoto": "a second reader of h5parms",
    "pyvo": "asking LoTSS, FIRST and LBCS",
    "lofarantpos": "simulations of LOFAR",
    "pyuvdata": "uvh5 files (ATA)",
    "distributed": "sources of a field side by side",
}


def doctor_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    return argparse.ArgumentParser(
        prog="auto_selfcal.py doctor",
        description="Tell what is installed, which imager is used, free disk.",
    )


def command(argv: Sequence[str]) -> int:
    """Print what was found; return 0 when a run could start, else 1."""
    doctor_parser().parse_args(argv)
    lines, healthy = examine()
    print("\n".join(lines))
    return 0 if healthy else 1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def examine() -> tuple[list[str], bool]:
    """Return what to print, and whether a run could start."""
    from libs.casa.session import casa_versions
    from libs.imaging.native.native import NativeImager
    from libs.imaging.wsclean import WSClean

    lines = [f"python {platform.python_version()}, {os.cpu_count()} cores"]
    missing = [name for name in NEEDED if not _version(name)]
    lines.append("packages: " + ", ".join(f"{n} {_version(n)}" for n in NEEDED if _version(n)))
    if missing:
        lines.append(f"MISSING: {', '.join(missing)} (pip install {' '.join(missing)})")
    for name, purpose in OPTIONAL.items():
        lines.append(f"optional {name}: {_version(name) or 'not installed'} ({purpose})")
    lines.append(f"imager: {NativeImager().version()}")
    try:
        lines.append(f"other imagers: {WSClean().version()}")
    except ToolError as error:
        lines.append(f"other imagers: WSClean cannot be used ({error.cause})")
    lines.append(f"other imagers: CASA tclean {casa_versions().get('casatasks', '')}")
    free = shutil.disk_usage(Path.cwd()).free / 1024**3
    lines.append(f"free disk here: {free:.1f} GiB")
    return lines, not missing
