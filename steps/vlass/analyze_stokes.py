"""Spectra of the brightest places: flux densities, polarization and rotation measures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.files import write_atomically
from libs.imaging.interface import open_image, sky_position
from libs.imaging.native.restore import Beam
from libs.imaging.stokes_spectrum import PlaneValues, fit_power_law, rotation_measure
from selfcal.step import Skip, Step, StepResult
from steps.context import Context
from steps.vlass.plane_images import named_like
from steps.vlass.vlass_data import good_groups

__all__ = ["AnalyzeStokes"]

_HALF = 1  # pixels around the middle of 3 x 3


class AnalyzeStokes(Step):
    """Measure the planes at the peaks of Stokes I and of the linear polarization."""

    needs = ("rms_images",)

    def run(self, context: Context) -> StepResult:
        """Find the peaks at the lowest frequency inside both masks; write stokes.json."""
        groups = [row for row in good_groups(context) if _has_all(row)]
        if not groups:
            raise Skip("no plane has Stokes I, Q and U")
        inside = _inside(context)
        lowest = groups[0]
        places = _peaks(context, lowest, inside)
        found: list[dict[str, Any]] = []
        left_out: dict[str, str] = {}
        for what, (y, x) in places.items():
            values = []
            for row in groups:
                try:
                    values.append(_plane_values(context, row, y, x))
                except InputError as error:
                    left_out[row["label"]] = error.cause
            found.append(_source(context, lowest, what, (y, x), values))
        content = {"sources": found, "left_out": left_out}
        write_atomically(context.workdir / "stokes.json", json.dumps(content, indent=1) + "\n")
        for label, why in left_out.items():
            context.progress.note(f"  {label} is left out: {why}", warning=True)
        return StepResult(
            reason="; ".join(_said(source) for source in found)
            + (f"; left out: {', '.join(left_out)}" if left_out else ""),
            products={"stokes": "stokes.json"},
            metrics={"left_out": [f"{label}: {why}" for label, why in left_out.items()]},
        )


def _has_all(row: dict[str, Any]) -> bool:
    return {"I", "Q", "U"} <= {plane["stokes"] for plane in row["planes"]}


def _inside(context: Context) -> NDArray[np.bool_]:
    """Return where both masks are set."""
    masks = context.metric("masks")
    planes = [open_image(context.workdir / masks[name])[0] for name in ("tier1", "tier2")]
    both: NDArray[np.bool_] = (np.nan_to_num(planes[0]) != 0) & (np.nan_to_num(planes[1]) != 0)
    if not both.any():
        raise InputError(
            "the tier-1 and tier-2 masks have no pixel in common", "look at the resources"
        )
    return both


def _image(context: Context, row: dict[str, Any], stokes: str, kind: str) -> NDArray[np.floating]:
    plane = next(one for one in row["planes"] if one["stokes"] == stokes)
    return open_image(named_like(context.workdir / plane["image"], kind))[0]


def _peaks(
    context: Context, row: dict[str, Any], inside: NDArray[np.bool_]
) -> dict[str, tuple[int, int]]:
    """Return row and column of the peaks of Stokes I and of the linear polarization."""
    images = {stokes: _image(context, row, stokes, "pbcor") for stokes in "IQU"}
    linear = np.hypot(images["Q"], images["U"])
    found = {}
    for what, plane in (("peak of Stokes I", images["I"]), ("peak of linear polarization", linear)):
        masked = np.where(inside & np.isfinite(plane), plane, -np.inf)
        y, x = np.unravel_index(int(np.argmax(masked)), masked.shape)
        found[what] = int(y), int(x)
    return found


def _plane_values(context: Context, row: dict[str, Any], y: int, x: int) -> PlaneValues:
    """Return means of 3 x 3 pixels of one group, as of a point, with errors from the noise."""
    mean: dict[str, float] = {}
    error: dict[str, float] = {}
    factor = _of_a_point(row["planes"][0], context)
    around = slice(y - _HALF, y + _HALF + 1), slice(x - _HALF, x + _HALF + 1)
    for plane in row["planes"]:
        stokes = plane["stokes"]
        values = _image(context, row, stokes, "pbcor")[around]
        noise = _image(context, row, stokes, "rms")[around]
        if values.size < (2 * _HALF + 1) ** 2 or not np.isfinite(values).all():
            raise InputError(f"Stokes {stokes} is blank at the place", "")
        mean[stokes] = float(values.mean()) / factor
        # pixels within a beam have the same noise, so that their mean has it as well
        error[stokes] = float(noise.mean()) / factor
    return PlaneValues(row["label"], row["frequency_hz"], mean, error)


def _of_a_point(plane: dict[str, Any], context: Context) -> float:
    """Return the mean of 3 x 3 pixels around a point of 1 Jy in the middle one.

    It differs from plane to plane as the beam does; without it a flat spectrum of a point would
    seem to fall toward the planes with the smaller beams.
    """
    header = open_image(context.workdir / plane["image"])[1]
    cell = abs(float(header["CDELT2"])) * 3600.0
    beam = Beam(
        plane["beam_major_arcsec"] / cell, plane["beam_minor_arcsec"] / cell, plane["beam_pa_deg"]
    )
    a, b, c = beam.exponent()
    x, y = np.meshgrid(np.arange(-_HALF, _HALF + 1), np.arange(-_HALF, _HALF + 1))
    return float(np.exp(-(a * x * x + 2.0 * b * x * y + c * y * y)).mean())


def _source(
    context: Context, row: dict[str, Any], what: str, place: tuple[int, int],
    values: list[PlaneValues],
) -> dict[str, Any]:  # fmt: skip
    """Return the record of one place."""
    header = open_image(context.workdir / row["planes"][0]["image"])[1]
    ra, dec = sky_position(header, place[1], place[0])
    planes = [
        {
            "label": one.label, "frequency_hz": one.frequency_hz, "mean_jy_beam": one.mean,
            "error_jy_beam": one.error, "polarized_jy_beam": one.polarized,
            "polarized_error_jy_beam": one.polarized_error, "q_over_i": one.ratio("Q"),
            "u_over_i": one.ratio("U"), "angle_deg": one.angle_deg,
        }
        for one in values
    ]  # fmt: skip
    return {
        "what": what, "ra_deg": ra, "dec_deg": dec, "pixel": [place[1], place[0]],
        "planes": planes, "power_law": fit_power_law(values), "rotation": rotation_measure(values),
    }  # fmt: skip


def _said(source: dict[str, Any]) -> str:
    law, turn = source["power_law"], source["rotation"]
    text = f"{source['what']}:"
    if law:
        text += f" {1e3 * law['flux_jy']:.4g} mJy at 3 GHz"
        if law["index"] is not None:
            text += f", spectral index {law['index']:.3f}"
            if math.isfinite(law["index_error"]):
                text += f" +- {law['index_error']:.3f}"
    if turn:
        text += f", rotation measure {turn['rad_m2']:.3g} +- {turn['error_rad_m2']:.2g} rad/m2"
    return text


def read_stokes(workdir: Path) -> dict[str, Any]:
    """Return the record of the spectra; empty where there is none."""
    path = workdir / "stokes.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found
