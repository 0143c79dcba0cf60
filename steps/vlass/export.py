"""FITS files to keep: cubes of IQU and V, at their own and at one common beam, and a manifest."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.files import fsync_tree, write_atomically
from libs.core.horizon import elevation_and_parallactic
from libs.imaging.common_beam import BeamShape, common_beam, with_beam
from libs.imaging.interface import open_image
from libs.imaging.stokes_planes import write_cube
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from selfcal.step import Step, StepResult
from steps.context import Context
from steps.vlass.plane_images import named_like
from steps.vlass.vlass_data import good_groups, image_targets
from steps.vlass.vlass_startup import working_copy

__all__ = ["Export", "position_shift_arcsec", "shifted"]

_FOLDER = "products"
_SETS = ("IQU", "V")
_SHIFT_ARCSEC, _SHIFT_HZ = 0.25, 3.0e9
_SHIFT_WORD = "POSSHIFT"
_DAY_S = 86400.0
_MJD_EPOCH_JD = 2400000.5


class Export(Step):
    """Write the products of the cube and a manifest of all of them."""

    needs = ("cutouts",)
    uses_files = ("seip_list", "ccip_list")

    def run(self, context: Context) -> StepResult:
        """Write the folder ``products``; it is complete or not there."""
        folder = context.workdir / _FOLDER
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        words = _observation(context)
        groups = good_groups(context)
        target = _common(groups)
        entries: list[dict[str, Any]] = []
        for row in groups:
            context.progress.activity(f"exporting {row['label']}")
            for stokes in _SETS:
                entries += _write_set(context, row, stokes, part, words, target)
        for key in ("seip_list", "ccip_list"):
            source = Path(context.settings[key])
            shutil.copyfile(source, part / f"{key}.{source.name}")
            entries.append({"file": f"{key}.{source.name}", "kind": "parameter list"})
        for name in ("stokes.json", "cutouts.json", "rms.json"):
            if (context.workdir / name).exists():
                shutil.copyfile(context.workdir / name, part / name)
                entries.append({"file": name, "kind": "table"})
        _write_manifest(part, entries, words)
        fsync_tree(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        beam = f"{target[0]:.4g} x {target[1]:.4g} arcsec, {target[2]:.0f} deg"
        return StepResult(
            reason=f"{len(entries)} files in {_FOLDER}; common beam {beam}",
            products={"manifest": f"{_FOLDER}/manifest.json", "manifest_xml":
                      f"{_FOLDER}/manifest.xml"},
            metrics={"common_beam_arcsec": list(target)},
        )  # fmt: skip


def _beam(plane: Mapping[str, Any]) -> BeamShape:
    return plane["beam_major_arcsec"], plane["beam_minor_arcsec"], plane["beam_pa_deg"]


def _common(groups: list[dict[str, Any]]) -> BeamShape:
    """Return the smallest beam that all planes that are not marked can have."""
    chosen = [row for row in groups if not row["mark"]] or groups
    return common_beam([_beam(plane) for row in chosen for plane in row["planes"]])


def _write_set(
    context: Context, row: Mapping[str, Any], stokes: str, folder: Path,
    words: Mapping[str, Any], target: BeamShape,
) -> list[dict[str, Any]]:  # fmt: skip
    """Write the cubes of a set of Stokes parameters of one group."""
    planes = {plane["stokes"]: plane for plane in row["planes"]}
    if not set(stokes) <= set(planes):
        return []
    entries = []
    for kind in ("pbcor", "rms"):
        read = [
            open_image(named_like(context.workdir / planes[one]["image"], f"{kind}-subim"))
            for one in stokes
        ]
        header = _completed(read[0][1], row, words)
        values: list[NDArray[np.floating]] = [plane for plane, _ in read]
        name = f"{row['name']}.{stokes}.{kind}.fits"
        write_cube(values, header, folder / name, stokes)
        entries.append(_entry(name, kind, row, stokes))
        if kind != "pbcor":
            continue
        cell = abs(float(header["CDELT2"])) * 3600.0
        try:
            smooth = [
                with_beam(plane, _in_pixels(_beam(planes[one]), cell), _in_pixels(target, cell))
                for plane, one in zip(values, stokes, strict=True)
            ]
        except InputError:  # a marked plane has no part in the common beam
            context.progress.note(f"  {row['label']} is larger than the common beam", warning=True)
            continue
        header["BMAJ"], header["BMIN"], header["BPA"] = (
            target[0] / 3600,
            target[1] / 3600,
            target[2],
        )
        name = f"{row['name']}.{stokes}.{kind}.com.fits"
        write_cube(smooth, header, folder / name, stokes)
        entries.append(_entry(name, f"{kind}, common beam", row, stokes))
    return entries


def _entry(name: str, kind: str, row: Mapping[str, Any], stokes: str) -> dict[str, Any]:
    return {
        "file": name, "kind": kind, "stokes": stokes, "spws": row["spws"],
        "frequency_hz": row["frequency_hz"], "marked": row["mark"],
    }  # fmt: skip


def _in_pixels(beam: BeamShape, cell: float) -> BeamShape:
    return beam[0] / cell, beam[1] / cell, beam[2]


def _observation(context: Context) -> dict[str, Any]:
    """Return times, place and name for the headers."""
    ms = working_copy(context)
    found = Subtables(ms)
    with open_table(ms) as opened:
        times, spans = opened.getcol("TIME"), opened.getcol("INTERVAL")
    begin, end = float((times - spans / 2).min()), float((times + spans / 2).max())
    (first, *_) = image_targets(context, "edit_image_list_ccip")
    direction = math.radians(first.phasecenter_deg[0]), math.radians(first.phasecenter_deg[1])
    height, turn = elevation_and_parallactic(
        found.position_m.mean(axis=0), direction, np.array([0.5 * (begin + end)])
    )
    return {
        "DATE-OBS": _iso(begin), "DATE-END": _iso(end),
        "OBJECT": first.name.removesuffix(f".{first.label}"), "TELESCOP": found.telescope,
        "zenith_deg": 90.0 - float(height[0]), "parallactic_deg": float(turn[0]),
    }  # fmt: skip


def _iso(time_s: float) -> str:
    from astropy.time import Time

    return str(Time(time_s / _DAY_S + _MJD_EPOCH_JD, format="jd", scale="utc").isot)


def _completed(
    header: fits.Header, row: Mapping[str, Any], words: Mapping[str, Any]
) -> fits.Header:
    """Return a header with times, names and the shift of the position."""
    full = header.copy()
    for word in ("DATE-OBS", "DATE-END", "OBJECT", "TELESCOP"):
        full[word] = words[word]
    full["RADESYS"] = full.get("RADESYS", "FK5")
    return shifted(full, row["frequency_hz"], words["zenith_deg"], words["parallactic_deg"])


def position_shift_arcsec(
    frequency_hz: float, zenith_deg: float, parallactic_deg: float
) -> tuple[float, float]:
    """Return the shift of positions that the mosaic gridder leaves, east and north, arcsec.

    It is 0.25 arcsec at 3 GHz and 45 deg from the zenith, goes with the tangent of the zenith
    angle and the wavelength squared, and points along the parallactic angle plus 180 deg.
    """
    size = _SHIFT_ARCSEC * math.tan(math.radians(zenith_deg)) * (_SHIFT_HZ / frequency_hz) ** 2
    angle = math.radians(parallactic_deg + 180.0)
    return size * math.sin(angle), size * math.cos(angle)


def shifted(
    header: fits.Header, frequency_hz: float, zenith_deg: float, parallactic_deg: float
) -> fits.Header:
    """Return a header whose reference position is shifted; one that is already stays as it is."""
    if _SHIFT_WORD in header:
        return header
    east, north = position_shift_arcsec(frequency_hz, zenith_deg, parallactic_deg)
    moved = header.copy()
    moved["CRVAL1"] += east / 3600.0 / math.cos(math.radians(header["CRVAL2"]))
    moved["CRVAL2"] += north / 3600.0
    moved[_SHIFT_WORD] = (math.hypot(east, north), "arcsec, position moved by this")
    return moved


def _write_manifest(folder: Path, entries: list[dict[str, Any]], words: Mapping[str, Any]) -> None:
    """Write the manifest as JSON and as XML."""
    for entry in entries:
        path = folder / entry["file"]
        entry["bytes"] = path.stat().st_size
        entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    content = {"object": words["OBJECT"], "files": entries}
    write_atomically(folder / "manifest.json", json.dumps(content, indent=1) + "\n")
    root = ElementTree.Element("manifest", object=str(words["OBJECT"]))
    for entry in entries:
        plain = {
            key: ",".join(map(str, value)) if isinstance(value, list) else str(value)
            for key, value in entry.items()
        }
        ElementTree.SubElement(root, "file", plain)
    ElementTree.indent(root)
    write_atomically(folder / "manifest.xml", ElementTree.tostring(root, encoding="unicode") + "\n")
