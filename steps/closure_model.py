"""Steps that look at closure quantities: their statistic, and a model that phase errors spare."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.closure.astrometry import place_by_band
from libs.closure.coherence import (
    BaselineCoherence,
    StationCoherence,
    baseline_coherence,
    station_coherence,
)
from libs.closure.formation import BaselineVisibilities
from libs.closure.model import ComponentModel, FitOptions, FluxOrigin, fit_visibilities
from libs.core.errors import InputError
from libs.core.files import write_atomically
from libs.core.gaussian import GaussianComponent, component_visibilities
from libs.gains.flux_scale import sharing_a_site
from libs.imaging.statistics import ImageStatistics
from libs.ms.summary import describe_ms
from selfcal.options import Option
from selfcal.step import Skip, Step, StepResult
from steps.closure_data import (
    CLOSURE_READ_OPTIONS,
    PLACING_BLOCKS,
    ClosureInput,
    closure_input,
)
from steps.closure_starts import most_evident
from steps.context import Context
from steps.data_state import ensure_tables, measurement_sets
from steps.facts import GridFacts, ModelFacts, as_metrics, recorded, startup_facts
from steps.images import ImageRecord
from steps.model_components import on_pixel
from steps.mosaics import is_mosaic, single_fields_only
from steps.source_catalogue import (
    CATALOGUE_OPTIONS,
    as_model,
    catalogue_components,
    catalogue_files,
    closure_chi2,
    describe,
    look_up,
    map_grid,
)
from steps.source_place import SURE_SNR, SourcePlace, at_the_peak, place_before_calibration
from steps.start_model import MODEL_SETTING, record_start_model

__all__ = ["ClosureStats", "InitialModel"]

ARCSEC = np.pi / 180 / 3600
COMPLETE_CHI2 = 1.5
MOST_AHEAD = 1e7  # rows x channels of data whose model is fitted before its turn


class ClosureStats(Step):
    """Closure-phase statistic of each station, maximum coherent baseline, size of the map."""

    uses = ("imsize", "cell")
    options = (*CLOSURE_READ_OPTIONS, *CATALOGUE_OPTIONS)

    def files(self, options: Mapping[str, Any]) -> Sequence[Path]:
        """Return the lists of sources."""
        return catalogue_files(options)

    def run(self, context: Context) -> StepResult:
        """Write closure.csv; record how far in baseline length the source is seen."""
        single_fields_only(context, "closure quantities")
        ensure_tables(context, ())
        products = {"closure": "closure.csv", "closure_baselines": "closure_baselines.csv",
                    "closure_pairs": "closure_pairs.csv"}  # fmt: skip
        entry = look_up(context)
        if entry is not None:
            products["catalogue"] = "catalogue.json"
            write_atomically(context.workdir / products["catalogue"], entry.as_json())
        data = closure_input(context).averaged()
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
        write_atomically(context.workdir / "closure_pairs.csv", _pairs(data, lengths))
        seen = [n for n, good in zip(stations.antenna, stations.coherent, strict=True) if good]
        longest_km = lengths.max_coherent_m / 1e3
        return StepResult(
            reason=f"{_share_coherent(stations)}, up to {longest_km:.4g} km"
            f"{describe(context, entry)}",
            tables=context.tables,
            template=context.template,
            products=products,
            metrics={
                "coherent_stations": seen,
                "max_coherent_km": longest_km,
                "station_coherent_fraction": len(seen) / max(1, len(stations.antenna)),
                **map_grid(context, entry, lengths.max_coherent_m),
            },
        )


def _share_coherent(stations: StationCoherence) -> str:
    """Return how many stations are coherent, of those with closure phases."""
    measured = int(np.count_nonzero(stations.n_samples > 0))
    text = f"{int(np.count_nonzero(stations.coherent))} of {measured} stations coherent"
    without = len(stations.antenna) - measured
    return text + (f" ({without} without closure phases)" if without else "")


def _pairs(data: BaselineVisibilities, lengths: BaselineCoherence) -> str:
    """Rows of closure_pairs.csv: the coherence of each baseline, as the longest of triangles."""
    lines = ["antenna1,antenna2,length_km,coherence,p_value"]
    for i in np.flatnonzero(np.isfinite(lengths.baseline_coherence)):
        lines.append(
            f"{data.antenna[data.ant1[i]]},{data.antenna[data.ant2[i]]},"
            f"{lengths.baseline_length_m[i] / 1e3:.6g},{lengths.baseline_coherence[i]:.6g},"
            f"{lengths.baseline_p_value[i]:.6g}"
        )
    return "\n".join(lines) + "\n"


class InitialModel(Step):
    """The first model: the user's, the catalogue's of a resolved source, or one of closures.

    Station phases spoil none of them.
    """

    needs = ("test_image",)
    uses = ("threads", "model_flux_unit")
    uses_files = (MODEL_SETTING,)
    options = (
        *CLOSURE_READ_OPTIONS,
        Option("model", "choice", "auto", "the catalogue's Gaussians or ones fitted to closures;"
               " auto: by the catalogue and the closures",
               choices=("auto", "catalogue", "closures")),
        Option("max_components", "int", 6, "most components tried, 1 to 6", minimum=1),
        Option("amplitudes", "bool", True, "log closure amplitudes as well as phases"),
        Option("phase_floor", "float", 0.02, "non-closing error of the phases, rad", minimum=0),
        Option("centre", "choice", "auto", "place of the brightest component; auto: by the phases"
               " over the band or the image; centroid: the model's at the phase centre",
               choices=("auto", "peak", "phase_centre", "centroid")),
        Option("field_of_view", "angle", "0arcsec",
               "largest offset of a component; 0: from the shortest baselines", minimum=0),
        Option("amplitude_floor", "float", 0.02, "non-closing error of the amplitudes", minimum=0),
        Option("uvmin", "length", "0m", "shortest baseline used", minimum=0),
        Option("breadth", "int", 1, "minima of each number of components that are built upon: more"
               " for few stations", minimum=1),
        Option("station_error", "float", 0.0, "relative error of the stations' amplitudes, as far"
               " as it is known; 0: unknown, closure amplitudes alone count", minimum=0),
        Option("site_error", "float", 0.0, "the same for stations with another within 10 km; 0:"
               " station_error", minimum=0),
    )  # fmt: skip

    def run(self, context: Context) -> StepResult:
        """Fit, judge and write the model; p0 starts from it when it is accepted."""
        if context.settings[MODEL_SETTING] and is_mosaic(context):
            return record_start_model(context, None)
        single_fields_only(context, "closure quantities")
        ensure_tables(context, ())
        options = context.options
        if context.settings[MODEL_SETTING]:
            return record_start_model(context, _data_or_none(context))
        components, said = catalogue_components(context, options["model"])
        if components and options["model"] == "catalogue":
            return self._record(context, as_model(components, said), (0.0, 0.0), False, said)
        source = closure_input(context, uvmin_m=options["uvmin"])
        if components:
            data = source.averaged()
            own, point = closure_chi2(data, components, options)
            said += f"; reduced chi2 of closures {own:.3g}, of a point {point:.3g}"
            if own <= 1.01 * point:
                return self._record(context, as_model(components, said), (0.0, 0.0), False, said)
            said += ": it has compact structure that the survey does not see"
        context.progress.activity("fitting components to closure phases and amplitudes")
        try:
            model, others, average_s = self._best_fit(context, source)
        except InputError as error:
            raise Skip(f"no closure quantities: {error}") from error
        model = _with_flux(model, _test_image(context).total_flux_jy)
        complete = (
            model.accepted
            and model.reduced_chi2 < COMPLETE_CHI2
            and len(model.components) < options["max_components"]
        )
        centre, placed = self._centre(context, model, source.data)
        words = (
            f"{'accepted' if model.accepted else 'not accepted'}: {model.reason}{placed}{others}"
        )
        words = f"{words}; {said}" if said else words
        how = asdict(self._fit_options(context))
        fit = {"average_s": average_s, "interval_s": options["interval"],
               "uvmin_m": options["uvmin"], "options": how}  # fmt: skip
        return self._record(context, model, centre, complete, words, fit)

    def begin_ahead(self, context: Context) -> None:
        """Begin the fit while the first images are made, unless the data are large.

        Large data take longer to image than any fit takes, and what is fitted is held twice.
        """
        data = startup_facts(context)
        samples = data.rows * data.channels
        if self.name in context.ahead or samples > MOST_AHEAD:
            return
        if context.settings[MODEL_SETTING] or is_mosaic(context):
            return
        # with threads set other runs have the rest of the machine
        if context.settings["threads"] or context.options["model"] == "catalogue":
            return
        ensure_tables(context, ())
        source = closure_input(context, uvmin_m=context.options["uvmin"])
        context.ahead.begin(self.name, *self._fit(context, source.averaged()))

    def _best_fit(
        self, context: Context, source: ClosureInput
    ) -> tuple[ComponentModel, str, float]:
        """Fit at the averaging time, and where one was needed, at shorter and longer ones.

        Short averages are noisy, long ones smear what lies far apart, and with few stations
        several models fit the closures alike. That one is taken which, with gains of its own,
        explains the most of baselines that are held out of the gains. Noise shows no coherence,
        so it is fitted once, and the rate of false alarms stays that of one fit.

        Returns
        -------
        ComponentModel
        str
            What was chosen among several.
        float
            Averaging time of its visibilities, s.
        """
        models = {}
        for average_s in source.trials_s():
            key, fit, *given = self._fit(context, source.averaged(average_s))
            with context.clock.time("solving"):
                models[average_s] = context.ahead.take(self.name, key) or fit(*given)
        accepted = {length: one for length, one in models.items() if one.accepted}
        if len(models) == 1 or not accepted:
            return models[source.average_s], "", source.average_s
        if len(accepted) == 1:
            (best_s,) = accepted
            said = f"; of averages of {_seconds(models)}, {best_s:.3g} s gave it"
            return accepted[best_s], said, best_s
        starts = {
            key: self._start(context, one, source.data).offset_rad for key, one in accepted.items()
        }
        best_s = most_evident(context, accepted, starts)
        said = (
            f"; of the fits to averages of {_seconds(accepted)} that of {best_s:.3g} s explains the"
            " most of the held-out baselines"
        )
        return accepted[best_s], said, best_s

    def _fit(
        self, context: Context, data: BaselineVisibilities
    ) -> tuple[str, Callable[..., ComponentModel], BaselineVisibilities, float, FitOptions]:
        """A digest of everything that the fit's result depends on, the fit, its arguments."""
        interval, how = context.options["interval"], self._fit_options(context)
        digest = hashlib.blake2b(repr((interval, how, data.antenna)).encode())
        for item in fields(data):
            if item.name != "antenna":
                digest.update(np.ascontiguousarray(getattr(data, item.name)).data)
        return digest.hexdigest(), fit_visibilities, data, interval, how

    def _fit_options(self, context: Context) -> FitOptions:
        options = context.options
        return FitOptions(
            max_components=options["max_components"],
            use_amplitudes=options["amplitudes"],
            phase_floor_rad=options["phase_floor"],
            amplitude_floor=options["amplitude_floor"],
            field_rad=options["field_of_view"] * ARCSEC,
            false_alarm=options["false_alarm"],
            breadth=options["breadth"],
            workers=context.settings["threads"] or FitOptions().workers,
            gain_error=self._gain_error(context),
        )

    def _gain_error(self, context: Context) -> tuple[float, ...]:
        """Relative errors of the stations' amplitudes; empty where they are unknown."""
        options = context.options
        if not options["station_error"]:
            return ()
        copies = measurement_sets(context)
        summary = max(map(describe_ms, copies), key=lambda summary: summary.rows)
        near = sharing_a_site(summary.position_m)
        errors = np.where(near & (options["site_error"] > 0), options["site_error"],
                          options["station_error"])  # fmt: skip
        return tuple(errors.tolist())

    def _record(
        self,
        context: Context,
        model: ComponentModel,
        centre: tuple[float, float],
        complete: bool,
        reason: str,
        fit: Mapping[str, Any] | None = None,
    ) -> StepResult:
        """Write the model and say what it is."""
        path = context.workdir / "initial_model.json"
        write_atomically(path, json.dumps(_as_json(model, centre), indent=1))
        data = startup_facts(context)
        source_list = model.to_source_list(
            context.workdir / "initial_model.txt",
            data.right_ascension_rad,
            data.declination_rad,
            data.frequency_hz,
        )
        facts = ModelFacts(
            closure_model=path.name if model.accepted else "",
            closure_model_complete=complete,
            model_origin="closures" if model.ladder else "catalogue",
            closure_fit=fit,
        )
        fitted = {"closure_reduced_chi2": model.reduced_chi2} if model.ladder else {}
        return StepResult(
            reason=reason,
            tables=context.tables,
            template=context.template,
            products={"model_json": path.name, "model_list": source_list.name},
            metrics={
                "accepted": model.accepted,
                "components": len(model.components),
                "model_flux_jy": model.total_flux_jy,
                **fitted,
                **as_metrics(facts),
                "two_components": model.two_component.reason if model.two_component else "",
            },
        )

    def _start(
        self, context: Context, model: ComponentModel, data: BaselineVisibilities
    ) -> SourcePlace:
        """Place of the components' origin before phases over the band are looked at."""
        test, wanted = _test_image(context), context.options["centre"]
        if wanted == "phase_centre":
            return SourcePlace((0.0, 0.0), "")
        # fringes of a model that describes the data in part may turn like those of another place
        if wanted == "peak" or (model.partial and test.snr >= SURE_SNR):
            imsize, _ = _test_grid(context)
            return SourcePlace(at_the_peak(test, imsize, model.components), "")
        return place_before_calibration(context, data, test, model.components)

    def _centre(
        self, context: Context, model: ComponentModel, data: BaselineVisibilities
    ) -> tuple[tuple[float, float], str]:
        """(l, m) of the brightest component, rad, and a clause for the record when it moved."""
        if context.options["centre"] == "centroid":
            flux, l_rad, m_rad = (
                np.array([getattr(c, name) for c in model.components])
                for name in ("flux_jy", "l_rad", "m_rad")
            )
            return (-float(np.average(l_rad, weights=flux)),
                    -float(np.average(m_rad, weights=flux))), ""  # fmt: skip
        if not model.accepted:
            return (0.0, 0.0), ""
        place = self._start(context, model, data)
        start, said = place.offset_rad, f"; {place.said}" if place.said else ""
        if context.options["centre"] != "auto":
            return start, said
        found = place_by_band(
            closure_input(context, PLACING_BLOCKS, context.options["uvmin"]).averaged(),
            lambda uvw_m, frequency_hz: component_visibilities(
                model.components, uvw_m, frequency_hz
            ),
            start,
            context.options["interval"],
        )
        imsize, cell = _test_grid(context)
        half = 0.5 * cell * np.array(imsize)
        if found is None or not found.significant or np.any(np.abs(found.offset_rad) > half):
            return start, said
        test = _test_image(context)
        beam = math.sqrt(test.beam_major_arcsec * test.beam_minor_arcsec) * ARCSEC
        l0, m0 = on_pixel(context, model.components, found.offset_rad, cell, beam)
        moved = np.hypot(l0 - start[0], m0 - start[1]) / ARCSEC
        if moved == 0:
            return start, said
        return (l0, m0), f"{said}; placed {moved:.3g} arcsec from the start by phases over the band"


def _data_or_none(context: Context) -> BaselineVisibilities | None:
    """What closures are formed of; None without any, which a given model can do without."""
    try:
        return closure_input(context, uvmin_m=context.options["uvmin"]).averaged()
    except Skip:
        return None


def _seconds(lengths_s: Iterable[float]) -> str:
    return ", ".join(f"{length:.3g} s" for length in lengths_s)


def _test_image(context: Context) -> ImageStatistics:
    return ImageRecord.of(context.results["test_image"]).statistics


def _test_grid(context: Context) -> tuple[tuple[int, int], float]:
    """Size of the test image, pixels, and its pixels' width, rad."""
    grid = recorded(GridFacts, context.results["test_image"].metrics)
    assert grid.imsize and grid.cell_arcsec, "test_image chooses a grid"
    return grid.imsize, grid.cell_arcsec * ARCSEC


def _with_flux(model: ComponentModel, total_jy: float) -> ComponentModel:
    """Give a model whose flux the data do not tell that of the image."""
    if model.flux_origin is not FluxOrigin.UNKNOWN or model.total_flux_jy <= 0 or total_jy <= 0:
        return model
    factor = total_jy / model.total_flux_jy
    scaled = tuple(
        replace(c, flux_jy=c.flux_jy * factor, flux_err_jy=c.flux_err_jy * factor)
        for c in model.components
    )
    return replace(model, components=scaled, flux_origin=FluxOrigin.TEST_IMAGE)


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
