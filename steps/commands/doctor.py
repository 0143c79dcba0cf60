"""``doctor``: what is installed, which imager a run would use, and how much disk there is."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from libs.core.errors import ConfigError, ToolError
from libs.core.files import replacing
from steps.commands.words import usage_name

__all__ = ["command", "doctor_parser", "examine", "pack"]

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
    parser = argparse.ArgumentParser(
        prog=usage_name("doctor"),
        description="Tell what is installed, which imager is used, free disk.",
    )
    parser.add_argument("--bundle", metavar="WORKDIR", type=Path,
                        help="also pack a run's records and logs, without data and images, into"
                        " WORKDIR-report.zip for a bug report")  # fmt: skip
    return parser


def command(argv: Sequence[str]) -> int:
    """Print what was found; return 0 when a run could start, else 1."""
    bundle = doctor_parser().parse_args(argv).bundle
    lines, healthy = examine()
    print("\n".join(lines))
    if bundle is not None:
        print(f"written: {pack(bundle, lines)}")
    return 0 if healthy else 1


def pack(workdir: Path, lines: Sequence[str]) -> Path:
    """Pack the records and logs of a run into a zip file beside its work directory.

    Raises
    ------
    ConfigError
        No run was recorded there.
    """
    if not (workdir / "steps.csv").exists():
        raise ConfigError(f"{workdir} holds no steps.csv", "name the work directory of a run")
    target = workdir.with_name(workdir.name + "-report.zip")
    files = [
        path
        for pattern in ("*.csv", "*.json", "*.yaml", "*.log", "logs/*", "records/*")
        for path in sorted(workdir.glob(pattern))
        if path.is_file()
    ]
    with replacing(target) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("doctor.txt", "\n".join(lines) + "\n")
        for path in files:
            archive.write(path, path.relative_to(workdir))
    return target


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
