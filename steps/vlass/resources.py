"""The resources that a continuum run leaves for images of its data: found, checked, unpacked."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from libs.core.archives import extract_safely
from libs.core.errors import InputError
from libs.core.files import fsync_tree

__all__ = ["FLAG_VERSION", "Resources", "find_resources", "unpack_resources"]

FLAG_VERSION = "statwt_1"
"""Flag version of the continuum run after its weights were set."""


@dataclass(frozen=True)
class Resources:
    """What of the resources is used.

    Attributes
    ----------
    flags : Path
        Table of the flag version `FLAG_VERSION`.
    table : Path
        Gain table of the phase self-calibration.
    models : tuple of Path
        Taylor terms of the model, CASA or FITS images.
    tier1, tier2 : Path
        Masks.
    """

    flags: Path
    table: Path
    models: tuple[Path, ...]
    tier1: Path
    tier2: Path


def unpack_resources(archive: Path, folder: Path) -> None:
    """Unpack the archive anew; the folder is complete or not there.

    Raises
    ------
    InputError
        The archive is damaged, or something in it is not harmless.
    """
    part = folder.with_name(f".{folder.name}.part")
    for old in (part, folder):
        shutil.rmtree(old, ignore_errors=True)
    extract_safely(archive, part)
    fsync_tree(part)
    part.rename(folder)


def find_resources(folder: Path, vis_name: str) -> Resources:
    """Find what is needed among the files unpacked.

    Parameters
    ----------
    folder : Path
    vis_name : str
        Name of the measurement set.

    Raises
    ------
    InputError
        Something is missing, or there twice; the error names all of it.
    """
    stem = vis_name.removesuffix(".ms")
    faults: list[str] = []

    def only(pattern: str, what: str) -> Path:
        found = _matches(folder, pattern)
        if len(found) == 1:
            return found[0]
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        faults.append(
            f"{what} ({pattern}) is there {len(found)} times: {names}" if found
            else f"{what} ({pattern}) is missing"
        )  # fmt: skip
        return folder

    flags = only(f"{vis_name}.flagversions", "the backup of the flags")
    version = flags / f"flags.{FLAG_VERSION}"
    if flags != folder and not (version / "table.dat").exists():
        faults.append(
            f"the flag version (flags.{FLAG_VERSION} in {vis_name}.flagversions) is missing"
        )
    table = only(f"{stem}*.phase-self-cal.tbl", "the self-cal table")
    models = _matches(folder, "s*_0.*.I.iter1.model.tt?")
    if not models:
        faults.append("the self-cal model (s*_0.NAME.I.iter1.model.tt0) is missing")
    elif [path.name[-1] for path in models] != [str(term) for term in range(len(models))]:
        names = ", ".join(path.name for path in models)
        faults.append(f"the self-cal model is not one of consecutive Taylor terms: {names}")
    tier1 = only("*.QLcatmask-tier1.mask", "the tier-1 mask")
    tier2 = only("*.combined-tier2.mask", "the tier-2 mask")
    if faults:
        raise InputError(
            f"the resources are not complete: {'; '.join(faults)}",
            "get reimaging_resources.tgz of the continuum run of these data",
        )
    return Resources(version, table, models, tier1, tier2)


def _matches(folder: Path, pattern: str) -> tuple[Path, ...]:
    """Return files and tables of a name, by name; those within a table are not looked for."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if fnmatchcase(name, pattern):
                found.append(Path(place) / name)
        folders[:] = [name for name in folders if not (Path(place) / name / "table.dat").exists()]
    return tuple(sorted(found, key=lambda path: path.name))
