"""The model of the calibrators: the standard's flux and shape, 1 Jy for those of unknown flux."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from libs.catalogues.flux_standards import FluxStandard, named_standard
from libs.core.coordinates import radec_to_lm
from libs.core.geometry import resolution_arcsec
from libs.imaging.predict import fill_model_column
from libs.imaging.standard_models import (
    find_model_image,
    point_model,
    read_model_image,
    resolved_model,
)
from libs.ms.field_directions import j2000_directions
from libs.ms.subtables import Subtables
from libs.ms.summary import summarise
from selfcal.step import Step, StepResult
from steps.calibrate.session_data import roles_of, tunings_of, write_record
from steps.context import Context

__all__ = ["SetModel"]

_IMAGE_BELOW_ARCSEC = 10.0  # beams smaller than this see the shape of the standards


class SetModel(Step):
    """Fill MODEL_DATA of the calibrators: Perley-Butler 2017 for the standard."""

    needs = ("combine", "identify")
    uses = ("threads",)

    def run(self, context: Context) -> StepResult:
        """Write MODEL_DATA and record the flux of each window."""
        roles = roles_of(context)
        standard = named_standard(roles.standard)
        assert standard is not None
        rows, said = [], []
        for tuning in tunings_of(context):
            ms = context.workdir / tuning.ms
            said.append(_set_standard(ms, roles.ids[roles.flux_calibrator], standard, context))
            for name in roles.phase_calibrators:
                if name == roles.flux_calibrator:
                    continue
                for field in roles.ids[name]:
                    fill_model_column([ms], point_model(np.ones_like, (0.0, 0.0)), field_id=field)
            for spw, window in enumerate(Subtables(ms).windows):
                flux = float(standard.flux_jy(np.array([window.mean_hz]))[0])
                rows.append(
                    {"tuning": tuning.name, "spw": spw, "frequency_hz": window.mean_hz,
                     "flux_jy": flux}
                )  # fmt: skip
        write_record(context.workdir / "tables" / "standard_flux.json", rows)
        fluxes = ", ".join(f"{row['flux_jy']:.3f} Jy" for row in rows[:4])
        return StepResult(
            reason=f"{roles.flux_calibrator} {fluxes}; {'; '.join(dict.fromkeys(said))}",
            products={"standard_flux": "tables/standard_flux.json"},
            metrics={"standard_flux_jy": rows[0]["flux_jy"]},
        )


def _set_standard(
    ms: Path, fields: tuple[int, ...], standard: FluxStandard, context: Context
) -> str:
    """Fill the model of the flux calibrator; return what it is."""
    places = j2000_directions(ms)
    at = np.radians([standard.right_ascension_deg, standard.declination_deg])
    known = summarise(ms)
    beam = resolution_arcsec(known.longest_baseline_m, known.max_frequency_hz)
    centre_hz = float(np.mean([window.mean_hz for window in Subtables(ms).windows]))
    image = find_model_image(standard, centre_hz) if beam < _IMAGE_BELOW_ARCSEC else None
    for field in fields:
        if image is not None:
            model = read_model_image(image, places[field])
            visibilities = resolved_model(model, standard, threads=context.settings["threads"] or 1)
        else:
            # the named place: fields are pointed there to some arcsec
            offset = radec_to_lm(float(at[0]), float(at[1]), *places[field])
            visibilities = point_model(standard.flux_jy, offset)
        fill_model_column([ms], visibilities, field_id=field)
    if image is not None:
        return f"with its image {image.name}, the beam is {beam:.2g} arcsec"
    if beam < standard.size_arcsec * 10 and beam < _IMAGE_BELOW_ARCSEC:
        context.progress.note(
            f"  {standard.name} is about {standard.size_arcsec:g} arcsec wide and there is no image"
            f" of it: with a beam of {beam:.2g} arcsec its flux scale is too low",
            warning=True,
        )
    return f"as a point, the beam is {beam:.3g} arcsec"
