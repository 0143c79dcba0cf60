"""Images of a session: calibrators cleaned in two rounds and fitted, targets self-calibrated."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import ImageError
from libs.core.files import write_atomically
from libs.core.geometry import auto_cell_arcsec
from libs.core.horizon import elevation_and_parallactic
from libs.gains.caltable import read_caltable
from libs.imaging.gaussian_fit import FittedGaussian, fit_gaussian
from libs.imaging.interface import ImageProducts, ImagingOptions, open_image
from libs.imaging.statistics import mad_std
from libs.ms.field_directions import j2000_directions
from libs.ms.scans import read_visits
from libs.ms.subtables import Subtables
from libs.ms.summary import summarise
from selfcal.step import Step, StepResult
from steps.calibrate.roles import Roles
from steps.calibrate.session_data import (
    Tuning,
    file_name,
    roles_of,
    split_path,
    tunings_of,
)
from steps.context import Context

__all__ = ["CalibratorImages", "session_imaging", "systematic_errors"]

_PIXELS = 512
_ROBUST_CALIBRATOR = 0.0
# Perley & Butler 2017: the scale is right to 3 % from 1 to 20 GHz, to 5 % outside
_SCALE_ERROR, _SCALE_ERROR_OUTSIDE = 0.03, 0.05
# zenith opacity below 15 GHz in good weather; the gain curves of dishes change by as much
_OPACITY = 0.01

FLUX_COLUMNS = (
    "field", "tuning", "frequency_hz", "flux_jy", "flux_error_jy", "fitted_jy", "fitted_error_jy",
    "major_arcsec", "minor_arcsec", "pa_deg", "antennas_jy", "scans_jy", "standard_jy",
    "elevation_jy", "resolution_jy", "total_error_jy",
)  # fmt: skip


def session_imaging(
    context: Context, ms: Path, folder: Path, basename: str, robust: float
) -> ImagingOptions:
    """Return the options of a dirty image of calibrated data of one field."""
    settings = context.settings
    known = summarise(ms)
    cell = settings["cell"]
    if cell == "auto":
        cell = auto_cell_arcsec(known.longest_baseline_m, known.max_frequency_hz)
    size = _PIXELS if settings["imsize"] == "auto" else settings["imsize"]
    size += size % 2
    return ImagingOptions(
        (ms,), folder, basename, (size, size), cell, robust=robust, niter=0,
        threads=settings["threads"],
    )  # fmt: skip


class CalibratorImages(Step):
    """Image the calibrators: dirty, cleaned to 5 noises, cleaned to 5 of the noises then left."""

    needs = ("combine", "identify", "calibrate", "apply_calibration")
    uses = ("imager", "imsize", "cell", "clean_depth", "threads")

    def run(self, context: Context) -> StepResult:
        """Write IMAGES/FIELD, fitting_results.txt of each and fluxes.csv."""
        roles = roles_of(context)
        records = {
            item["tuning"]: item
            for item in json.loads((context.product("calibration") or Path()).read_text())
        }
        products: dict[str, str] = {}
        rows, images, said = [], [], []
        for tuning in tunings_of(context):
            for name in roles.calibrators:
                context.progress.activity(f"{name} {tuning.name}".strip())
                made, noise = self._image(context, tuning, name)
                row = _flux_row(context, tuning, roles, name, made[-1], records[tuning.name])
                rows.append(row)
                label = f"{file_name(name)}{tuning.suffix}"
                for item in made:
                    products[f"{item.image.stem}"] = context.relative(item.image)
                fitted = "no Gaussian fits" if row["fitted_jy"] is None else (
                    f"{row['fitted_jy']:.4g} +- {row['fitted_error_jy']:.2g} Jy"
                )  # fmt: skip
                said.append(f"{label} {fitted}")
                images.append({"step": self.name, "name": label, "rms_jy_beam": noise})
        write_atomically(context.workdir / "fluxes.csv", _as_csv(rows))
        products["fluxes"] = "fluxes.csv"
        return StepResult(reason="; ".join(said), products=products)

    def _image(
        self, context: Context, tuning: Tuning, name: str
    ) -> tuple[list[ImageProducts], float]:
        """Make the three images; return them and the noise of the last."""
        folder = context.workdir / "IMAGES" / file_name(name)
        stem = f"{file_name(name)}{tuning.suffix}"
        options = session_imaging(
            context, split_path(context, tuning, name), folder, f"{stem}_dirty", _ROBUST_CALIBRATOR
        )
        with context.clock.time("imaging"):
            made = [context.tools.imager.image(options)]
            depth = context.settings["clean_depth"]
            noise = _noise(made[0].image)
            for number in (1, 2):
                made.append(
                    context.tools.imager.image(
                        options.but(
                            basename=f"{stem}_clean_iter{number}", niter=20000,
                            threshold_jy_beam=depth * noise,
                        )
                    )
                )  # fmt: skip
                noise = _noise(made[-1].residual)
        return made, noise


def _noise(image: Path) -> float:
    """Robust noise: the rms of an image of a strong source is the source's."""
    return mad_std(open_image(image)[0])


def _flux_row(
    context: Context,
    tuning: Tuning,
    roles: Roles,
    name: str,
    image: ImageProducts,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """What is known of the flux of a calibrator; writes fitting_results.txt."""
    fit: FittedGaussian | None = None
    try:
        fit = fit_gaussian(image.image, noise_jy_beam=_noise(image.residual))
    except ImageError as why:
        context.progress.note(f"  {name}: {why}", warning=True)
    standard = json.loads((context.product("standard_flux") or Path()).read_text())
    if name == roles.flux_calibrator:
        own = [row["flux_jy"] for row in standard if row["tuning"] == tuning.name]
        flux, error = float(np.mean(own)), 0.0
    else:
        row = next(r for r in record["fluxes"] if r["field"] == name and r["spw"] == -1)
        flux, error = row["flux_jy"], row["error_jy"]
    parts = systematic_errors(context, tuning, roles, name, flux, error, fit, record)
    total = float(np.sqrt(sum(value**2 for value in parts.values())))
    if fit:
        parts_said = ", ".join(f"{key} {1e3 * value:.2g} mJy" for key, value in parts.items())
        write_atomically(
            image.image.parent / f"fitting_results{tuning.suffix}.txt",
            f"{name}: {fit.flux_jy:.6g} +- {fit.flux_error_jy:.2g} Jy (noise only), peak"
            f" {fit.peak_jy_beam:.6g} +- {fit.peak_error_jy_beam:.2g} Jy/beam,"
            f" {fit.major_arcsec:.4g} x {fit.minor_arcsec:.4g} arcsec, PA {fit.pa_deg:.1f} deg\n"
            f"gains: {flux:.6g} Jy; errors: {parts_said}; together {total:.2g} Jy\n",
        )
    return {
        "field": name, "tuning": tuning.name,
        "frequency_hz": tuning.centre_hz, "flux_jy": flux, "flux_error_jy": error,
        "fitted_jy": fit.flux_jy if fit else None,
        "fitted_error_jy": fit.flux_error_jy if fit else None,
        "major_arcsec": fit.major_arcsec if fit else None,
        "minor_arcsec": fit.minor_arcsec if fit else None,
        "pa_deg": fit.pa_deg if fit else None,
        **{f"{key}_jy": value for key, value in parts.items()}, "total_error_jy": total,
    }  # fmt: skip


def systematic_errors(
    context: Context,
    tuning: Tuning,
    roles: Roles,
    name: str,
    flux_jy: float,
    error_jy: float,
    fit: FittedGaussian | None,
    record: Mapping[str, Any],
) -> dict[str, float]:
    """Return the errors of a calibrator's flux by their causes, Jy.

    ``antennas``: scatter of the ratios of gains; ``scans``: scatter of the scans, divided by the
    root of their number; ``standard``: that of the scale; ``elevation``: opacity times the
    difference in air mass from the flux calibrator; ``resolution``: integrated less peak flux of
    the fit, what a longer baseline would miss.
    """
    ghz = tuning.centre_hz / 1e9
    scale = _SCALE_ERROR if 1 <= ghz <= 20 else _SCALE_ERROR_OUTSIDE
    ms = context.workdir / tuning.ms
    air = [_air_mass(ms, roles.ids[field]) for field in (name, roles.flux_calibrator)]
    resolved = abs(fit.flux_jy - fit.peak_jy_beam) / abs(fit.flux_jy) if fit else 0.0
    return {
        "antennas": error_jy,
        "scans": flux_jy * _scan_scatter(context, record, roles.ids[name]),
        "standard": scale * flux_jy,
        "elevation": _OPACITY * abs(air[0] - air[1]) * flux_jy,
        "resolution": resolved * flux_jy,
    }


def _scan_scatter(context: Context, record: Mapping[str, Any], fields: tuple[int, ...]) -> float:
    """Relative scatter of the mean power of a field's gains from scan to scan, of their mean."""
    table = read_caltable(context.workdir / record["tables"]["G1"])
    power = []
    for part in table.spws.values():
        own = part.of_fields(fields)
        if own is None:
            continue
        size = np.where(own.flag, np.nan, np.abs(own.gain) ** 2)
        with np.errstate(invalid="ignore"):
            relative = size / np.nanmean(size, axis=0)
            power.append(np.nanmedian(relative.reshape(len(relative), -1), axis=1))
    if not power:
        return 0.0
    scans = np.nanmean(np.stack([p for p in power if len(p) == len(power[0])]), axis=0)
    return float(np.nanstd(scans) / np.sqrt(len(scans))) if len(scans) > 1 else 0.0


def _air_mass(ms: Path, fields: tuple[int, ...]) -> float:
    """Mean air mass of a field."""
    times = [0.5 * (v.begin_s + v.end_s) for v in read_visits(ms) if v.field in fields]
    place = np.mean(Subtables(ms).position_m, axis=0)
    height, _ = elevation_and_parallactic(place, j2000_directions(ms)[fields[0]], np.array(times))
    return float(np.mean(1 / np.sin(np.radians(np.maximum(height, 3.0)))))


def _as_csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FLUX_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return stream.getvalue()
