"""MODEL_DATA of components: those that closure quantities gave, or any others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.gaussian import GaussianComponent, component_visibilities
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.predict import fill_model_column
from steps.context import Context
from steps.data_state import measurement_sets, set_note
from steps.facts import model_facts, startup_facts
from steps.start_model import ORIGIN, fill_start_model

__all__ = ["fill_component_model", "fill_components", "on_pixel", "peak_component"]

ROUNDED_RAD = 0.1


def peak_component(components: Sequence[GaussianComponent], beam_rad: float) -> GaussianComponent:
    """Return the component with the highest peak in an image: not that of most flux, if it is wide.

    Parameters
    ----------
    components : sequence of GaussianComponent
    beam_rad : float
        Width of the beam.
    """
    return max(components, key=lambda c: c.flux_jy / (1 + c.major_rad * c.minor_rad / beam_rad**2))


def on_pixel(
    context: Context,
    components: Sequence[GaussianComponent],
    centre_rad: tuple[float, float],
    cell_rad: float,
    beam_rad: float,
) -> tuple[float, float]:
    """Return the place of components with their most compact bright one on a pixel's centre.

    CLEAN holds a point best on a pixel's centre, and no gains tell a sky from the same one moved by
    less than a pixel, unless the band is so wide that a shift is a slope of phases over it.

    Parameters
    ----------
    context : Context
    components : sequence of GaussianComponent
    centre_rad : (float, float)
        Offset (l, m) of their origin from the phase centre, rad.
    cell_rad, beam_rad : float
        Widths of a pixel and of the beam.
    """
    data = startup_facts(context)
    width_hz = data.max_frequency_hz - data.min_frequency_hz
    slope = 2 * np.pi * data.longest_baseline_m * width_hz / SPEED_OF_LIGHT_M_S
    if slope * cell_rad >= ROUNDED_RAD:
        return centre_rad
    peak = peak_component(components, beam_rad)
    place = np.array([centre_rad[0] + peak.l_rad, centre_rad[1] + peak.m_rad])
    moved = np.round(place / cell_rad) * cell_rad - place
    return float(centre_rad[0] + moved[0]), float(centre_rad[1] + moved[1])


def fill_component_model(context: Context, path: Path) -> None:
    """Fill MODEL_DATA of every working copy with the components of ``initial_model.json``.

    Or with the user's own model, where that is the first one.
    """
    if model_facts(context).model_origin == ORIGIN:
        fill_start_model(context, path)
        return
    found: Mapping[str, Any] = json.loads(path.read_text())
    components = tuple(GaussianComponent(**values) for values in found["components"])
    fill_components(context, components, tuple(found["centre_rad"]))


def fill_components(
    context: Context, components: Sequence[GaussianComponent], centre_rad: tuple[float, float]
) -> None:
    """Fill MODEL_DATA of every working copy with components about a place of the image.

    Parameters
    ----------
    context : Context
    components : sequence of GaussianComponent
    centre_rad : (float, float)
        Offset (l, m) of their origin from the phase centre, rad.
    """
    l0, m0 = centre_rad
    n0 = np.sqrt(1 - l0**2 - m0**2) - 1

    def visibilities(uvw_m: Any, frequency_hz: Any) -> Any:
        around = component_visibilities(components, uvw_m, frequency_hz)
        path_m = uvw_m @ np.array([l0, m0, n0])
        turns = np.multiply.outer(path_m, frequency_hz / SPEED_OF_LIGHT_M_S)
        return around * np.exp(2j * np.pi * turns)

    copies = measurement_sets(context)
    for ms in copies:
        set_note(ms, model="")
    with context.clock.time("solving"):
        fill_model_column(copies, visibilities)
