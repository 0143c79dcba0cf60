"""The user's own starting model (config key ``start_model``)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.closure.agreement import agreement
from libs.closure.formation import BaselineVisibilities
from libs.core.angles import separation_rad
from libs.core.coordinates import to_j2000
from libs.core.errors import ConfigError, InputError
from libs.core.files import write_atomically
from libs.core.geometry import ARCSEC_PER_RAD, primary_beam_fwhm_arcsec
from libs.core.numbers import format_quantity
from libs.imaging.joint import Mosaic
from libs.imaging.phase_centre import field_centre
from libs.imaging.predict import fill_model_column
from libs.imaging.primary_beam import PrimaryBeam, find_beam
from libs.imaging.seen_model import SeenModel
from libs.imaging.start_model import (
    ComponentSky,
    ImageSky,
    SkyComponent,
    StartModel,
    read_sky_image,
)
from libs.imaging.start_model_files import read_start_model
from libs.imaging.user_mask import draw_mask
from libs.ms.subtables import Subtables
from libs.ms.summary import summarise
from selfcal.step import StepResult
from steps.context import Context
from steps.data_state import measurement_sets, set_note
from steps.facts import ModelFacts, as_metrics, grid_facts, startup_facts
from steps.images import run_grid
from steps.instruments import dish_diameter_m
from steps.mosaics import run_mosaic

__all__ = [
    "MODEL_SETTING",
    "ORIGIN",
    "fill_start_model",
    "record_start_model",
    "start_visibilities",
]

MODEL_SETTING = "start_model"
ORIGIN = "start_model"
"""What `ModelFacts.model_origin` says of it."""

_LIST, _IMAGE = "start_model.json", "start_model.fits"


def record_start_model(context: Context, data: BaselineVisibilities | None) -> StepResult:
    """Read the user's model, keep a copy in the work directory and say how it fits.

    Sources of a catalogue that lie beyond the primary beam are left out: its fluxes say nothing
    of how they are seen.

    Parameters
    ----------
    context : Context
    data : BaselineVisibilities or None
        What its closure quantities are compared with; None where there are none.
    """
    paths = _model_files(context)
    path = paths[0]
    if len(paths) > 1:
        model: ComponentSky | ImageSky = read_sky_image(paths)
        said = f"{path.name} and {len(paths) - 1} more (Taylor terms)"
    else:
        model, kind = read_start_model(path, flux_unit=context.settings["model_flux_unit"])
        said = f"{path.name} ({kind})"
    if isinstance(model, ComponentSky):
        model, left_out = _near(context, model)
        said += f": {len(model.components)} components"
        said += f", {left_out} more are outside the primary beam" if left_out else ""
    said += f", {format_quantity(model.flux_jy, 'Jy', 4)}"
    if isinstance(model, ImageSky):
        _check_overlap(context, paths)
    name = _keep(context, paths, model)
    fitted: dict[str, float] = {}
    if data is not None:
        chi2 = _closure_chi2(context, model, data)
        if np.isfinite(chi2):
            fitted["closure_reduced_chi2"] = chi2
            said += f"; reduced chi2 of closures {chi2:.3g}"
    facts = ModelFacts(closure_model=name, closure_model_complete=False, model_origin=ORIGIN)
    return StepResult(
        reason=f"the user's model: {said}",
        tables=context.tables,
        template=context.template,
        products={"start_model": name},
        metrics={
            "accepted": True, "model_flux_jy": model.flux_jy, **fitted, **as_metrics(facts)
        },
    )  # fmt: skip


def _model_files(context: Context) -> list[Path]:
    """Return the file of the user's model, or those of its Taylor terms."""
    value = context.settings[MODEL_SETTING]
    names = [value] if isinstance(value, str) else list(value)
    return [Path(name).expanduser() for name in names]


def _check_overlap(context: Context, paths: Sequence[Path]) -> None:
    """Refuse a model image that has no flux within the image of the run.

    Raises
    ------
    ConfigError
        It has none.
    """
    grid = grid_facts(context)
    if not grid.imsize or not grid.cell_arcsec:
        return  # nothing is imaged before the model is asked for
    try:
        draw_mask(paths[0], run_grid(context, grid.imsize, grid.cell_arcsec))
    except ConfigError as error:
        raise ConfigError(
            f"the model {paths[0].name} has no flux inside the image of"
            f" {grid.imsize[0]} x {grid.imsize[1]} pixels",
            "name a model of this field, or enlarge imsize",
        ) from error


def _near(context: Context, model: ComponentSky) -> tuple[ComponentSky, int]:
    """Return the components within a beam's width of a phase centre; how many are not."""
    data = startup_facts(context)
    diameter = dish_diameter_m(data.instrument, data.dish_diameter_m)
    width = primary_beam_fwhm_arcsec(data.min_frequency_hz, diameter) / ARCSEC_PER_RAD
    radius = min(width, np.pi / 3)
    centre = (data.right_ascension_rad, data.declination_rad)
    places = [
        (np.radians(one["ra_deg"]), np.radians(one["dec_deg"])) for one in data.pointings
    ] or [centre]
    near = {one for place in places for one in model.within(place, radius).components}
    kept = ComponentSky(tuple(one for one in model.components if one in near))
    if not kept.components:
        nearest = min(
            float(separation_rad(np.array([one.ra_rad, one.dec_rad]), np.array(centre)))
            for one in model.components
        )
        raise ConfigError(
            f"{context.settings[MODEL_SETTING]} has nothing within the primary beam: the nearest"
            f" of its components is {np.rad2deg(nearest):.3g} deg from the phase centre",
            "name a model of this field",
        )
    return kept, len(model.components) - len(kept.components)


def _keep(context: Context, paths: Sequence[Path], model: ComponentSky | ImageSky) -> str:
    """Copy the model into the work directory, so that a run goes on with what it began with."""
    for old in context.workdir.glob(f"{Path(_IMAGE).stem}.tt*.fits"):
        old.unlink()
    if isinstance(model, ImageSky):
        names = [_IMAGE, *(_term_name(number) for number in range(1, len(paths)))]
        for path, name in zip(paths, names, strict=True):
            beside = context.workdir / f".{name}.part"
            shutil.copyfile(path, beside)
            beside.replace(context.workdir / name)
        return _IMAGE
    text = json.dumps({"components": [asdict(one) for one in model.components]}, indent=1)
    write_atomically(context.workdir / _LIST, text)
    return _LIST


def _term_name(number: int) -> str:
    """Return the name of a kept Taylor term above the first."""
    return f"{Path(_IMAGE).stem}.tt{number}.fits"


def _read_kept(path: Path) -> ComponentSky | ImageSky:
    if path.suffix == ".fits":
        more = path.parent.glob(f"{path.stem}.tt*.fits")
        return read_sky_image([path, *sorted(more, key=lambda term: (len(term.name), term.name))])
    found = json.loads(path.read_text())["components"]
    return ComponentSky(
        tuple(SkyComponent(**{**one, "spectrum": tuple(one["spectrum"])}) for one in found)
    )


def fill_start_model(context: Context, path: Path) -> None:
    """Fill MODEL_DATA of every working copy from the user's model, kept in the work directory.

    Pointings of a mosaic see it through their primary beams.
    """
    model = _read_kept(path)
    data = startup_facts(context)
    found = run_mosaic(data)
    for ms in measurement_sets(context):
        set_note(ms, model="")
        with context.clock.time("solving"):
            if found is None:
                _fill_field(ms, model, 0)
                continue
            beam = _beam_of(found[0], data.frequency_hz, ms)
            for number in found[0].field_ids:
                field = Subtables(ms).fields[number]
                place = to_j2000(field.pointing_rad, field.frame)
                _fill_field(ms, SeenModel(model, beam, place), number)


def _fill_field(ms: Path, model: StartModel | SeenModel, field_id: int) -> None:
    """Fill MODEL_DATA of one field."""
    centre = field_centre(ms, field_id)
    place = (np.radians(centre.ra_deg), np.radians(centre.dec_deg))

    def visibilities(uvw_m: Any, frequency_hz: Any) -> Any:
        return model.visibilities(uvw_m, frequency_hz, place)

    fill_model_column([ms], visibilities, field_id=field_id)


def _beam_of(mosaic: Mosaic, frequency_hz: float, ms: Path) -> PrimaryBeam:
    """Return the primary beam of a set of a mosaic, which startup has asked for."""
    dish_m = summarise(ms).dish_diameter_m if mosaic.unlike else mosaic.dish_diameter_m
    beam = find_beam(mosaic.instrument, frequency_hz, dish_m)
    assert beam is not None, "pointings are joined where it is known"
    return beam


def start_visibilities(
    context: Context, path: Path, data: BaselineVisibilities
) -> NDArray[np.complex128]:
    """Return the model's visibilities in the shape of averaged data, (nbl, nfreq, ntime)."""
    return _as_averaged(context, _read_kept(path), data)


def _as_averaged(
    context: Context, model: StartModel, data: BaselineVisibilities
) -> NDArray[np.complex128]:
    facts = startup_facts(context)
    centre = (facts.right_ascension_rad, facts.declination_rad)
    by_time = model.visibilities(data.uvw_m, data.frequency_hz, centre)
    return np.ascontiguousarray(by_time.transpose(0, 2, 1), dtype=np.complex128)


def _closure_chi2(context: Context, model: StartModel, data: BaselineVisibilities) -> float:
    options = context.options
    try:
        found = agreement(
            data, _as_averaged(context, model, data), options["interval"],
            phase_floor_rad=options["phase_floor"], amplitude_floor=options["amplitude_floor"],
        )  # fmt: skip
    except InputError:  # no closure quantities: it is taken without a word of them
        return float("nan")
    return found.chi2
