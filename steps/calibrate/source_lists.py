"""Sources of the final images as lists, with errors and matches in a given one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from libs.catalogues import pybdsf
from libs.catalogues.source_list import FieldSource, read_catalogue
from libs.core.errors import ImageError
from libs.core.files import replacing
from libs.imaging.gaussian_fit import fit_gaussian
from libs.imaging.interface import open_image
from libs.imaging.source_finding import find_sources
from libs.imaging.statistics import grid_of
from selfcal.step import Skip, Step, StepResult
from steps.context import Context

__all__ = ["SourceLists", "list_sources", "match_sources"]

_NSIGMA = 6.0
_UNITS = {
    "RA": "deg", "DEC": "deg", "E_RA": "deg", "E_DEC": "deg", "Total_flux": "Jy",
    "E_Total_flux": "Jy", "Peak_flux": "Jy/beam", "E_Peak_flux": "Jy/beam", "Maj": "arcsec",
    "Min": "arcsec", "PA": "deg", "Isl_rms": "Jy/beam",
}  # fmt: skip


class SourceLists(Step):
    """Find and fit the sources of each target's final image."""

    needs = ("target_images",)
    uses = ("catalogue", "source_finder", "tool_stall")

    def run(self, context: Context) -> StepResult:
        """Write catalogues/FIELD.csv and .vot."""
        path = context.product("targets")
        if path is None:
            raise Skip("there are no targets")
        given = context.settings["catalogue"]
        known = read_catalogue(Path(given)) if given else []
        products, said = {}, []
        finder = _finder(context)
        folder = context.workdir / "catalogues"
        folder.mkdir(exist_ok=True)
        for result in json.loads(path.read_text()):
            image = _final_image(context.workdir, result)
            if image is None:
                continue
            rows = finder(image)
            if known:
                match_sources(rows, known, grid_of(open_image(image)[1]).beam_major_arcsec)
            for kind, ending in (("ascii.ecsv", "ecsv"), ("ascii.csv", "csv"), ("votable", "vot")):
                target = folder / f"{result['label']}.{ending}"
                _write(rows, target, kind)
                products[f"{result['label']}_{ending}"] = context.relative(target)
            matched = sum(1 for row in rows if row.get("Matched"))
            said.append(
                f"{result['label']} {len(rows)}" + (f", {matched} matched" if known else "")
            )
        return StepResult(reason="sources: " + ("; ".join(said) or "none"), products=products)


def _final_image(workdir: Path, result: dict[str, Any]) -> Path | None:
    """The image of the state a target's run ended with."""
    state = result.get("final") or result.get("initial") or {}
    name = state.get("image")
    path = workdir / str(result["workdir"]) / str(name) if name else None
    return path if path is not None and path.exists() else None


def _finder(context: Context) -> Callable[[Path], list[dict[str, Any]]]:
    """Return what finds the sources of an image; that PyBDSF asked for is there, is known."""
    chosen = context.settings["source_finder"]
    if chosen == "native" or (chosen == "auto" and not pybdsf.is_installed()):
        return list_sources
    return partial(
        pybdsf.find_with_pybdsf, nsigma=_NSIGMA, stall_s=context.settings["tool_stall"],
        log=context.workdir / "logs" / "pybdsf.log",
    )  # fmt: skip


def list_sources(image: Path, nsigma: float = _NSIGMA) -> list[dict[str, Any]]:
    """Return the sources of an image, the brightest first, each with a fitted Gaussian.

    An island that no Gaussian fits has its sum and brightest pixel, and no shape.
    """
    rows = []
    for number, source in enumerate(find_sources(image, nsigma=nsigma), 1):
        noise = source.peak_jy_beam / source.snr
        row: dict[str, Any] = {
            "Source_id": number, "RA": source.ra_deg, "DEC": source.dec_deg,
            "E_RA": math.nan, "E_DEC": math.nan,
            "Total_flux": source.flux_jy, "E_Total_flux": noise, "Peak_flux": source.peak_jy_beam,
            "E_Peak_flux": noise, "Maj": math.nan, "Min": math.nan, "PA": math.nan,
            "Isl_rms": noise, "S_Code": "I",
        }  # fmt: skip
        try:
            fit = fit_gaussian(
                image, (source.x_pixel, source.y_pixel), box_beams=3.0, noise_jy_beam=noise
            )
        except ImageError:
            rows.append(row)
            continue
        error = fit.position_error_arcsec / 3600
        rows.append(
            row
            | {
                "RA": fit.ra_deg, "DEC": fit.dec_deg, "E_DEC": error,
                "E_RA": error / max(math.cos(math.radians(fit.dec_deg)), 1e-6),
                "Total_flux": fit.flux_jy, "E_Total_flux": fit.flux_error_jy,
                "Peak_flux": fit.peak_jy_beam, "E_Peak_flux": fit.peak_error_jy_beam,
                "Maj": fit.major_arcsec, "Min": fit.minor_arcsec, "PA": fit.pa_deg, "S_Code": "S",
            }
        )  # fmt: skip
    return rows


def match_sources(
    rows: list[dict[str, Any]], known: list[FieldSource], radius_arcsec: float
) -> None:
    """Add to each source the nearest one of a list within a radius: name, distance, flux."""
    for row in rows:
        ra, dec = math.radians(row["RA"]), math.radians(row["DEC"])

        def apart(one: FieldSource, ra: float = ra, dec: float = dec) -> float:
            east = (one.ra_rad - ra) * math.cos(dec)
            return math.degrees(math.hypot(east, one.dec_rad - dec)) * 3600

        best = min(known, key=apart)
        there = apart(best) <= radius_arcsec
        row["Matched"] = best.name if there else ""
        row["Separation"] = apart(best) if there else math.nan
        row["Matched_flux"] = best.flux_jy if there else math.nan


def _write(rows: list[dict[str, Any]], path: Path, kind: str) -> None:
    from astropy.table import Table

    names = list(rows[0]) if rows else ["Source_id", *_UNITS]
    made = Table({name: [row[name] for row in rows] for name in names})
    for name, unit in _UNITS.items():
        made[name].unit = unit
    with replacing(path) as beside:
        made.write(beside, format=kind, overwrite=True)
