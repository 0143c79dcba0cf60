"""What a survey tells of the source observed: the size of its map, and a model if resolved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from libs.catalogues.entry import CatalogueEntry, find_entry, model_components, read_entry
from libs.catalogues.query import SERVICES, query_catalogue
from libs.catalogues.source_list import read_catalogue, with_components
from libs.closure.agreement import agreement
from libs.closure.formation import BaselineVisibilities
from libs.closure.model import ComponentModel, FluxOrigin
from libs.core.errors import InputError
from libs.core.gaussian import GaussianComponent, component_visibilities
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S, good_size
from selfcal.options import Option
from steps.context import Context
from steps.facts import grid_facts, startup_facts
from steps.imaging import COHERENT_LEAST_M, default_cell_arcsec

__all__ = [
    "CATALOGUE_OPTIONS",
    "as_model",
    "catalogue_components",
    "catalogue_files",
    "closure_chi2",
    "describe",
    "look_up",
    "map_grid",
]

LEAST_BEAMS = 16
_QUERY_RADIUS_DEG = 0.05
_LARGEST_PIXELS = 4096
_LEAST_VISIBILITY = 1e-3

CATALOGUE_OPTIONS = (
    Option("catalogue", "path", "", "list of sources (CSV, VOTable, FITS) with that of the data;"
           " or lotss, first: ask the survey", words=tuple(SERVICES)),
    Option("components", "path", "", "list of the catalogue's Gaussians with their Parent_Source"),
    Option("flux_unit", "choice", "", "Jy or mJy, for lists that give none",
           choices=("", "Jy", "mJy")),
    Option("match_radius", "angle", "10arcsec", "the entry is within this of the phase centre",
           minimum=0),
    Option("catalogue_beam", "angle", "6arcsec", "beam in the list's fitted axes, where it has no"
           " deconvolved ones", minimum=0),
    Option("map_size", "angle", "0arcsec", "width of the map where the catalogue does not tell;"
           " 0: not from here", minimum=0),
)  # fmt: skip


def catalogue_files(options: Mapping[str, Any]) -> list[Path]:
    """Return the lists that the options name, as far as they are files."""
    names = [options["catalogue"], options["components"]]
    return [Path(name) for name in names if name and name not in SERVICES]


def look_up(context: Context) -> CatalogueEntry | None:
    """Return the catalogue's entry of the source at the phase centre; None without one.

    Raises
    ------
    InputError
        A list cannot be read, or the survey does not answer.
    """
    options = context.options
    name = options["catalogue"]
    if not name:
        return None
    data = startup_facts(context)
    place = (data.right_ascension_rad, data.declination_rad)
    path, unit = Path(name), options["flux_unit"]
    if name in SERVICES and not path.exists():
        context.progress.activity(f"asking {name}")
        folder = context.workdir / "catalogues"
        path = query_catalogue(name, *place, _QUERY_RADIUS_DEG, folder)
        unit = unit or "mJy"
    if path.suffix == ".json":
        return read_entry(path)
    sources = read_catalogue(path, flux_unit=unit)
    if options["components"]:
        sources = with_components(sources, Path(options["components"]), flux_unit=unit)
    return find_entry(
        sources, *place, match_arcsec=options["match_radius"],
        beam_arcsec=options["catalogue_beam"],
    )  # fmt: skip


def describe(context: Context, entry: CatalogueEntry | None) -> str:
    """Return what was found, for a step's reason."""
    name = Path(context.options["catalogue"]).name
    if entry is None:
        if not name:
            return ""
        return f"; no entry within {context.options['match_radius']:g} arcsec in {name}"
    state = f"resolved ({entry.resolved})" if entry.resolved else "not resolved"
    return f"; {entry.name} in {name}: {state}, map of {entry.map_arcsec:.3g} arcsec"


def map_grid(context: Context, entry: CatalogueEntry | None, coherent_m: float) -> dict[str, Any]:
    """Return metrics: the map's width, and its grid where nothing else has chosen one.

    The width is that of `libs.catalogues.entry.find_entry`, else the option ``map_size``. The
    first images, of the baselines at which the source is coherent, may have beams nearly as wide:
    the grid then has some `LEAST_BEAMS` of them, without which CLEAN finds neither the noise nor
    the source's edge. A size in the config, or one that an image of the field has chosen, stays.
    """
    width = entry.map_arcsec if entry else float(context.options["map_size"])
    if not width:
        return {}
    found: dict[str, Any] = {"map_arcsec": width}
    if context.settings["imsize"] != "auto" or grid_facts(context).imsize:
        return found
    cell = context.settings["cell"]
    if cell == "auto":
        cell = grid_facts(context).cell_arcsec or default_cell_arcsec(context)
    wavelength_m = SPEED_OF_LIGHT_M_S / startup_facts(context).min_frequency_hz
    beam_arcsec = wavelength_m / max(coherent_m, COHERENT_LEAST_M) * ARCSEC_PER_RAD
    wanted = max(width, LEAST_BEAMS * beam_arcsec)
    size = good_size(min(wanted / cell, _LARGEST_PIXELS), least=128)
    return {**found, "cell_arcsec": cell, "imsize": [size, size]}


def catalogue_components(
    context: Context, wanted: str
) -> tuple[tuple[GaussianComponent, ...], str]:
    """Return the catalogue's Gaussians where they are to be the first model, and why or why not.

    Parameters
    ----------
    context : Context
    wanted : str
        ``auto``: those of a source that is resolved and described completely; ``catalogue``:
        those of any; ``closures``: none.

    Returns
    -------
    components : tuple of GaussianComponent
        About the phase centre; empty: not from the catalogue.
    reason : str
        Empty where the catalogue has no say.

    Raises
    ------
    InputError
        The catalogue is asked for and has no entry, or no flux.
    """
    path = context.product("catalogue")
    entry = read_entry(path) if path and wanted != "closures" else None
    if entry is None:
        if wanted == "catalogue":
            raise InputError(
                "no catalogue entry for the initial model",
                "run closure_stats with a catalogue that has the source, or set model to auto",
            )
        return (), ""
    if wanted == "catalogue" and not math.isfinite(entry.flux_jy):
        raise InputError(f"{entry.name} has no flux in the catalogue", "set model to auto")
    if wanted == "auto" and not entry.resolved:
        return (), f"{entry.name} is not resolved in the catalogue"
    if wanted == "auto" and not entry.complete:
        return (), f"{entry.name} is resolved ({entry.resolved}) but its Gaussians are not given"
    data = startup_facts(context)
    place = (data.right_ascension_rad, data.declination_rad)
    components = model_components(entry, *place)
    why = entry.resolved or "asked for"
    return components, (
        f"catalogue: {entry.name}, {why}: {len(components)} component(s), {entry.flux_jy:.4g} Jy"
    )


def closure_chi2(
    data: BaselineVisibilities,
    components: tuple[GaussianComponent, ...],
    options: Mapping[str, Any],
) -> tuple[float, float]:
    """Return the reduced chi2 of closures for the catalogue's Gaussians and for a point.

    Where a point does better, the source has compact structure that the survey's beam hides.
    Of closure phases and log closure amplitudes together (`libs.closure.agreement.agreement`).
    A model is taken to be at least 1e-3 of its flux on any baseline: below that, data differ
    from it in whatever else they hold.

    Raises
    ------
    InputError
        The data have no closure phases.
    """
    by_time = component_visibilities(components, data.uvw_m, data.frequency_hz)
    model = np.ascontiguousarray(by_time.transpose(0, 2, 1))
    least = _LEAST_VISIBILITY * sum(part.flux_jy for part in components)
    size = np.abs(model)
    seen = np.where(size > least, model, least * np.where(size > 0, model / (size + 1e-300), 1.0))
    found = []
    for one in (seen, np.ones_like(model)):
        chi2 = agreement(
            data, one, options["interval"], phase_floor_rad=options["phase_floor"],
            amplitude_floor=options["amplitude_floor"],
        )  # fmt: skip
        parts = [(chi2.phase_chi2, chi2.n_phase), (chi2.amplitude_chi2, chi2.n_amplitude)]
        total = sum(value * count for value, count in parts if count)
        found.append(total / max(1, sum(count for _, count in parts)))
    return found[0], found[1]


def as_model(components: tuple[GaussianComponent, ...], reason: str) -> ComponentModel:
    """Return the catalogue's Gaussians as a model like one fitted to closures, without a fit."""
    unknown = math.nan
    return ComponentModel(
        components=components, chi2_phase=unknown, chi2_amplitude=unknown, reduced_chi2=unknown,
        n_phase=0.0, n_amplitude=0, n_parameters=0, detection_sigma=unknown,
        detection_limit=unknown, ladder=(), accepted=True, partial=False, reason=reason,
        two_component=None, flux_origin=FluxOrigin.CATALOGUE, seconds=0.0,
    )  # fmt: skip
