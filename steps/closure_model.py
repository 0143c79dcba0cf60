"""Steps that look at closure quantities: their statistic, and a model that phase errors spare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from libs import tables
from libs.closure import BaselineVisibilities, closure_quantities
from libs.closure_coherence import baseline_coherence, station_coherence
from libs.closure_ms import read_visibilities
from libs.component_model import (
    ComponentModel,
    FitOptions,
    GaussianComponent,
    component_visibilities,
    fit_components,
)
from libs.errors import InputError
from libs.predict import fill_model_column
from selfcal.context import Context
from selfcal.options import Option
from selfcal.state import write_atomically
from selfcal.step import Skip, Step, StepResult
from steps.data_state import ensure_tables, measurement_sets, set_note

__all__ = ["ClosureStats", "InitialModel", "fill_component_model"]

ARCSEC = np.pi / 180 / 3600
SPEED_OF_LIGHT_M_S = 299792458.0
SURE_SNR = 20.0
HARMLESS_RAD = 0.5
COMPLETE_CHI2 = 1.5

CLOSURE_OPTIONS = (
    Option("average", "time", "0s", "averaging before closures are formed; 0: none", minimum=0),
    Option("interval", "time", "60s", "averaging of the bispectra, short for the source's changes",
           minimum=0),
    Option("false_alarm", "float", 0.01, "probability that noise passes for a source", minimum=0),
)  # fmt: skip


def _read(context: Context) -> BaselineVisibilities:
    """Averaged visibilities of the working copy with the most data."""
    copies = measurement_sets(context)
    largest = max(copies, key=lambda ms: tables.summarise(ms).rows)
    context.progress.activity(f"closure quantities of {largest.name}")
    try:
        return read_visibilities(largest, average_s=context.options["average"])
    except InputError as error:
        raise Skip(f"no closure quantities: {error}") from error


class ClosureStats(Step):
    """Closure-phase statistic of each station, and the maximum coherent baseline."""

    options = CLOSURE_OPTIONS

    def run(self, context: Context) -> StepResult:
        """Write closure.csv; record how far in baseline length the source is seen."""
        ensure_tables(context, ())
        data = _read(context)
        interval = context.options["interval"]
        alarm = context.options["false_alarm"]
        stations = station_coherence(data, interval, false_alarm=alarm)
        lengths = baseline_coherence(data, interval, false_alarm=alarm)
        lines = ["station,coherence,threshold,p_value,samples,coherent"]
        for i, name in enumerate(stations.antenna):
            lines.append(
                f"{name},{stations.coherence[i]:.6g},{stations.threshold[i]:.6g},"
                f"{stations.p_value[i]:.6g},{stations.n_samples[i]},{bool(stations.coherent[i])}"
            )
        write_atomically(context.workdir / "closure.csv", "\n".join(lines) + "\n")
        bins = ["shortest_km,longest_km,coherence,threshold,p_value,coherent"]
        for i in range(len(lengths.shortest_m)):
            bins.append(
                f"{lengths.shortest_m[i] / 1e3:.6g},{lengths.longest_m[i] / 1e3:.6g},"
                f"{lengths.coherence[i]:.6g},{lengths.threshold[i]:.6g},"
                f"{lengths.p_value[i]:.6g},{bool(lengths.coherent[i])}"
            )
        write_atomically(context.workdir / "closure_baselines.csv", "\n".join(bins) + "\n")
        seen = [n for n, good in zip(stations.antenna, stations.coherent, strict=True) if good]
        longest_km = lengths.max_coherent_m / 1e3
        return StepResult(
            reason=f"{len(seen)} of {len(stations.antenna)} stations coherent,"
            f" up to {longest_km:.4g} km",
            tables=context.tables,
            template=context.template,
            products={"closure": "closure.csv", "closure_baselines": "closure_baselines.csv"},
            metrics={
                "coherent_stations": seen,
                "max_coherent_km": longest_km,
                "station_coherent_fraction": len(seen) / max(1, len(stations.antenna)),
            },
        )


class InitialModel(Step):
    """Fit Gaussian components to closure quantities, which station phases cannot spoil."""

    uses = ("threads",)
    options = (
        *CLOSURE_OPTIONS,
        Option("max_components", "int", 6, "most components tried, 1 to 6", minimum=1),
        Option("amplitudes", "bool", True, "log closure amplitudes as well as phases"),
        Option("phase_floor", "float", 0.02, "non-closing error of the phases, rad", minimum=0),
        Option("centre", "choice", "auto", "where the brightest component goes; auto: the image's"
               " peak, unless its place is doubtful and the band wide enough to tell",
               choices=("auto", "peak", "phase_centre")),
        Option("field_of_view", "angle", "0arcsec",
               "largest offset of a component; 0: from the shortest baselines", minimum=0),
        Option("amplitude_floor", "float", 0.02, "non-closing error of the amplitudes", minimum=0),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Fit, judge and write the model; p0 starts from it when it is accepted."""
        ensure_tables(context, ())
        data = _read(context)
        options = context.options
        try:
            closures = closure_quantities(data, options["interval"])
        except InputError as error:
            raise Skip(f"no closure quantities: {error}") from error
        context.progress.activity("fitting components to closure phases and amplitudes")
        with context.clock.time("solving"):
            model = fit_components(
                closures,
                FitOptions(
                    max_components=options["max_components"],
                    use_amplitudes=options["amplitudes"],
                    phase_floor_rad=options["phase_floor"],
                    amplitude_floor=options["amplitude_floor"],
                    field_rad=options["field_of_view"] * ARCSEC,
                    false_alarm=options["false_alarm"],
                    workers=context.settings["threads"] or FitOptions().workers,
                ),
            )
        model = _with_flux(model, context.results["test_image"].metrics["total_flux_jy"])
        complete = (
            model.accepted
            and model.reduced_chi2 < COMPLETE_CHI2
            and len(model.components) < options["max_components"]
        )
        centre = self._centre(context)
        path = context.workdir / "initial_model.json"
        write_atomically(path, json.dumps(_as_json(model, centre), indent=1))
        source_list = model.to_source_list(
            context.workdir / "initial_model.txt",
            float(context.metric("right_ascension_rad")),
            float(context.metric("declination_rad")),
            float(context.metric("frequency_hz")),
        )
        return StepResult(
            reason=f"{'accepted' if model.accepted else 'not accepted'}: {model.reason}",
            tables=context.tables,
            template=context.template,
            products={"model_json": path.name, "model_list": source_list.name},
            metrics={
                "accepted": model.accepted,
                "components": len(model.components),
                "model_flux_jy": model.total_flux_jy,
                "closure_reduced_chi2": model.reduced_chi2,
                "closure_model": path.name if model.accepted else "",
                "closure_model_complete": complete,
                "two_components": model.two_component.reason if model.two_component else "",
            },
        )

    def _centre(self, context: Context) -> tuple[float, float]:
        """(l, m) of the brightest component, rad: a pixel's centre, so that CLEAN can hold it."""
        test = context.results["test_image"].metrics
        nx, ny = test["imsize"]
        cell = test["cell_arcsec"] * ARCSEC
        peak = ((nx // 2 - test["peak_x_pixel"]) * cell, (test["peak_y_pixel"] - ny // 2) * cell)
        wanted = context.options["centre"]
        if wanted == "auto":
            # A wrong place is a phase slope over the band that one gain for all of it leaves.
            low, high = context.metric("min_frequency_hz"), context.metric("max_frequency_hz")
            slope_rad = (
                2 * np.pi * np.hypot(*peak) * context.metric("longest_baseline_m")
                * (high - low) / SPEED_OF_LIGHT_M_S
            )  # fmt: skip
            sure = test["snr"] >= SURE_SNR or slope_rad < HARMLESS_RAD
            wanted = "peak" if sure else "phase_centre"
        return peak if wanted == "peak" else (0.0, 0.0)


def _with_flux(model: ComponentModel, total_jy: float) -> ComponentModel:
    """Give a model whose flux the data do not tell that of the image."""
    if not model.flux_origin.startswith("unknown") or model.total_flux_jy <= 0 or total_jy <= 0:
        return model
    factor = total_jy / model.total_flux_jy
    scaled = tuple(
        replace(c, flux_jy=c.flux_jy * factor, flux_err_jy=c.flux_err_jy * factor)
        for c in model.components
    )
    return replace(model, components=scaled, flux_origin="total flux of the test image")


def _as_json(model: ComponentModel, centre: tuple[float, float]) -> dict[str, Any]:
    """The model and how it was found, for the record and for the next start."""
    return {
        "centre_rad": centre,
        "accepted": model.accepted,
        "partial": model.partial,
        "reason": model.reason,
        "flux_origin": model.flux_origin,
        "components": [
            {name: getattr(c, name) for name in GaussianComponent.__dataclass_fields__}
            for c in model.components
        ],
        "ladder": [
            {"name": t.name, "components": t.n_components, "bic": t.bic,
             "reduced_chi2": t.reduced_chi2, "taken": t.taken}
            for t in model.ladder
        ],
    }  # fmt: skip


def fill_component_model(context: Context, path: Path) -> None:
    """Fill MODEL_DATA of every working copy with the components of ``initial_model.json``."""
    found: Mapping[str, Any] = json.loads(path.read_text())
    components = tuple(GaussianComponent(**values) for values in found["components"])
    l0, m0 = found["centre_rad"]
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
