"""The first step: working copies, so that the input is never written; what they start from."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.angles import parse_direction
from libs.core.errors import ConfigError, InputError
from libs.core.geometry import frequency_slices
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.nearest import NearestSolutions
from libs.h5parm.run_rounds import start_from
from libs.h5parm.start import StartLimits, correct_data, find_start, not_covered
from libs.inputs import working_copy
from libs.inputs.input_data import InputData
from libs.ms.scans import read_visits
from libs.ms.summary import MsSummary, summarise
from selfcal.options import Option, unknown_name
from selfcal.step import Step, StepResult
from steps.applied_record import identity_before, was_applied
from steps.cont_file import CONTFILE_SETTING, cont_file
from steps.context import Context
from steps.copy_treatment import LINES_SETTING, CopyTreatment
from steps.facts import StartFacts, StartupFacts, as_metrics
from steps.instruments import identify
from steps.mosaics import MOSAIC_SETTING, MosaicFound, join_pointings, unlike_dishes
from steps.selections import EXECUTIONS_SETTING, SelectedInput, selected_inputs

__all__ = ["Startup"]

GIB = 1024**3


class Startup(Step):
    """Make the folders and a working copy of each input; say what the data hold."""

    uses = (
        "vis", "field", "spw", EXECUTIONS_SETTING, "datacolumn", "instrument", "band", "start_from",
        "start_direction", CONTFILE_SETTING, LINES_SETTING, "imsize", "cell", MOSAIC_SETTING,
    )  # fmt: skip
    options = (
        Option("disk_factor", "float", 4.0,
               "free disk needed, in sizes of the input: columns, images, splits", minimum=1),
        Option("channel_width", "frequency", "0Hz", "channels of the working copies are averaged"
               " up to this width; 0: not at all; auto: as wide as the band and the map allow",
               words=("auto",), minimum=0),
        Option("smearing", "float", 0.02, "amplitude that channel_width = auto may cost at the"
               " map's edge", minimum=0.0001),
        Option("phase_centre", "str", "",
               "RA and Dec to which uvh5 data without a phase centre are phased"),
        Option("start_applied", "bool", False,
               "the input is corrected with start_from already: only multiply onto it"),
        Option("min_good_fraction", "float", 0.5, "start_from: least part not flagged", minimum=0),
        Option("min_coherence", "float", 0.5, "start_from: least coherence", minimum=0),
        Option("max_separation", "angle", "inf", "start_from: farthest direction used",
               words=("inf",)),
    )  # fmt: skip

    def identity(self, context: Context) -> Mapping[str, Any]:
        """Return what tells one input, and what it starts from, from another."""
        inputs = selected_inputs(context.settings)
        found: dict[str, Any] = {
            "input": [identity_before(context.workdir, one.source) for one in inputs]
        }
        path = _start_path(context)
        ranges = cont_file(context.settings)
        if ranges is not None:
            found["contfile"] = hashlib.sha256(ranges.read_bytes()).hexdigest()
        if path is not None:
            found["start_from"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def changes_data(self, context: Context) -> bool:
        """It makes them."""
        return True

    def run(self, context: Context) -> StepResult:
        """Copy the selected data, column by column, beside the input."""
        inputs = selected_inputs(context.settings)
        folders = ("data", "images", "tables", "plots", "logs")
        for name in folders:
            (context.workdir / name).mkdir(exist_ok=True)
        (context.workdir / "solutions.h5").unlink(missing_ok=True)
        size = sum(working_copy.copy_size_bytes(one.source, one.field, one.spw) for one in inputs)
        context.progress.activity(f"working copy of {size / GIB:.2f} GiB")
        working_copy.check_disk(context.workdir, int(size * context.options["disk_factor"]))
        for old in (context.workdir / "data").iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        copies, used = [], []
        treatments = CopyTreatment.each(context, inputs)
        for one, treat in zip(inputs, treatments, strict=True):
            copy = working_copy.make_working_copy(
                one.source,
                context.workdir / "data" / f"{one.copy}.ms",
                field=one.field,
                spw=one.spw,
                datacolumn=_column(context, one.source),
                phase_centre_rad=_phase_centre(context),
                treat=treat,
                session=context.tools.session,
                log=context.workdir / "logs" / "startup.log",
                progress=context.progress.activity,
            )
            summary = summarise(copy.ms)
            working_copy.check_usable(summary, copy, one.source.path.name)
            copies.append(copy)
            used.append(summary)
        mosaic = None
        if any(len(summary.fields_used) > 1 for summary in used):
            mosaic = join_pointings(context, [copy.ms for copy in copies])
            used = [summarise(copy.ms) for copy in copies]
        _check_refant(context, used)
        start = begin(context, copies, used)
        if start is not None and start.corrected:
            used = [summarise(copy.ms) for copy in copies]
        taken = [_taken(one, copy) for one, copy in zip(inputs, copies, strict=True)]
        result = _describe(context, copies, used, start, taken, mosaic)
        return _warned(result, [text for treat in treatments for text in treat.warnings])


def _warned(result: StepResult, warnings: Sequence[str]) -> StepResult:
    """Add warnings to a result, alike ones once."""
    own = [result.metrics["warning"]] if "warning" in result.metrics else []
    said = "; ".join(dict.fromkeys([*own, *warnings]))
    return replace(result, metrics={**result.metrics, "warning": said}) if said else result


def _check_refant(context: Context, used: list[MsSummary]) -> None:
    """Refuse reference antennas that are not in the data, before minutes of work."""
    wanted = context.settings["refant"]
    known = sorted({name for summary in used for name in summary.antenna})
    for name in wanted if wanted != "auto" else ():
        if name not in known:
            raise unknown_name("antenna in refant", name, known)


def _column(context: Context, source: InputData) -> str:
    """Return the column to take: never the result of this very run, which was applied to it."""
    chosen = str(context.settings["datacolumn"])
    return "data" if chosen == "auto" and was_applied(context.workdir, source) else chosen


def _phase_centre(context: Context) -> tuple[float, float] | None:
    """Where data without a phase centre are phased to, rad; None where nothing is said."""
    words = context.options["phase_centre"].replace(",", " ").split()
    if not words:
        return None
    if len(words) != 2:
        raise ConfigError(
            f"phase_centre = {' '.join(words)!r}", 'write RA and Dec: "13h31m08.29s +30d30m33.0s"'
        )
    return parse_direction(*words)


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes
    ----------
    path : Path
        h5parm of the target's direction, in the work directory.
    said : str
        Where it comes from and what it lacks.
    warning : str
    corrected : bool
        Whether the working copies were corrected with it here.
    stations : tuple of str
        Those it has solutions of.
    """

    path: Path
    said: str
    warning: str
    corrected: bool
    stations: tuple[str, ...]


def _start_path(context: Context) -> Path | None:
    """The h5parm a run is to start from, None for none."""
    if not context.settings["start_from"]:
        if context.settings["start_direction"]:
            raise ConfigError("start_direction without start_from", "name its h5parm")
        return None
    path = Path(context.settings["start_from"]).expanduser().absolute()
    if not path.is_file():
        raise InputError(f"start_from = {path} is no file", "name an h5parm")
    return path


def begin(
    context: Context, copies: list[working_copy.WorkingCopy], used: list[MsSummary]
) -> Start | None:
    """Find the solutions to start from and correct the working copies with them.

    They are written to ``tables/start.h5``, and are the first factor of ``solutions.h5``.

    Raises
    ------
    InputError
        There is nothing good for the target, or the data have none of the antennas.
    """
    target = context.workdir / "tables" / "start.h5"
    target.unlink(missing_ok=True)
    store = _start_path(context)
    if store is None:
        return None
    options = context.options
    farthest = options["max_separation"]
    ra, dec = (float(angle) for angle in used[0].direction_rad)
    found = find_start(
        store,
        (ra, dec),
        name=used[0].field[used[0].fields_used[0]],
        direction=context.settings["start_direction"],
        limits=StartLimits(
            options["min_good_fraction"],
            options["min_coherence"],
            math.inf if farthest == "inf" else farthest / 3600,
        ),
    )
    found.write(target)
    corrected = not options["start_applied"]
    warnings = []
    for copy, summary in zip(copies, used, strict=True):
        beyond = not_covered(found.solset, summary)
        if beyond:
            warnings.append(f"{copy.ms.name}: {beyond}; their nearest hold")
        if corrected:
            context.progress.activity(f"correcting {copy.ms.name} with {store.name}")
            correct_data(copy.ms, DirectionGains.read(target, copy.ms, missing="unit"))
    start_from(context.workdir / "solutions.h5", target, run=context.workdir.name)
    (context.workdir / "solutions.h5.lock").unlink(missing_ok=True)
    stations = tuple(c.station for c in found.choices if c.direction is not None)
    return Start(target, _said(found, corrected), "; ".join(warnings), corrected, stations)


def _said(found: NearestSolutions, corrected: bool) -> str:
    """Where the solutions come from, and which stations have none."""
    text = "corrected" if corrected else "corrected beforehand"
    text += f" with the solutions of {', '.join(found.directions)}"
    return text + (f", none for {', '.join(found.missing)}" if found.missing else "")


def _taken(one: SelectedInput, copy: working_copy.WorkingCopy) -> dict[str, str]:
    """What a working copy holds of its input."""
    windows = ",".join(map(str, copy.windows))
    return {"vis": str(one.source.path), "field": one.field, "spw": one.spw, "windows": windows}


def _on_source_s(summary: MsSummary) -> float:
    """Return the time on the target, s: of each visit first to last stamp and an integration."""
    visits = read_visits(summary.path)
    return sum(visit.end_s - visit.begin_s + summary.integration_s for visit in visits)


def _describe(
    context: Context,
    copies: list[working_copy.WorkingCopy],
    used: list[MsSummary],
    start: Start | None = None,
    taken: Sequence[Mapping[str, str]] = (),
    mosaic: MosaicFound | None = None,
) -> StepResult:
    repairs = [note for copy in copies for note in copy.notes] + list(
        mosaic.notes if mosaic else ()
    )
    first, settings = used[0], context.settings
    centre = mosaic.centre_rad if mosaic else first.direction_rad
    instrument, band = identify(
        first.telescope, first.mean_frequency_hz, settings["instrument"], settings["band"]
    )
    slices, terms = frequency_slices(np.concatenate([summary.channels_hz for summary in used]))
    facts = StartupFacts(
        working_copies=tuple(copy.ms.name for copy in copies),
        selections=tuple(taken),
        instrument=instrument,
        band=band,
        telescope=first.telescope,
        field=first.field[first.fields_used[0]],
        frequency_hz=first.mean_frequency_hz,
        min_frequency_hz=min(summary.min_frequency_hz for summary in used),
        max_frequency_hz=max(summary.max_frequency_hz for summary in used),
        antennas=max(len(summary.antennas_used) for summary in used),
        dish_diameter_m=first.dish_diameter_m,
        longest_baseline_m=max(summary.longest_baseline_m for summary in used),
        shortest_baseline_m=min(summary.shortest_baseline_m for summary in used),
        integration_s=first.integration_s,
        scans=sum(summary.scans for summary in used),
        rows=sum(summary.rows for summary in used),
        channels=first.channels,
        spws=len(first.spws_used),
        band_slices=slices,
        spectral_terms=terms,
        right_ascension_rad=float(centre[0]),
        declination_rad=float(centre[1]),
        flagged_fraction=sum(s.flagged_fraction * s.rows for s in used) / sum(s.rows for s in used),
        repairs=tuple(repairs),
        datacolumn=copies[0].datacolumn,
        begin_mjd_s=min(summary.time_range_s[0] for summary in used),
        on_source_s=sum(_on_source_s(summary) for summary in used),
        pointings=mosaic.as_facts() if mosaic else (),
        unlike_dishes=unlike_dishes(used),
    )
    metrics = as_metrics(facts)
    reason = (
        f"{facts.field}, {instrument} {band or ''} {first.mean_frequency_hz / 1e9:.3f} GHz,"
        f" {facts.antennas} antennas, {facts.rows} rows,"
        f" {facts.flagged_fraction:.1%} flagged" + "".join(f"; {text}" for text in repairs)
    )
    if start is not None:
        reason += f"; {start.said}"
        begun = StartFacts(context.settings["start_from"], start.corrected, start.stations)
        metrics |= as_metrics(begun)
        if start.warning:
            metrics["warning"] = start.warning
    products = _products(context, copies, start)
    return StepResult("done", reason, products=products, metrics=metrics)


def _products(
    context: Context, copies: list[working_copy.WorkingCopy], start: Start | None
) -> dict[str, str]:
    """Return the files made, for the record."""
    products = {f"working_copy_{i}": context.relative(copy.ms) for i, copy in enumerate(copies)}
    for i, copy in enumerate(copies):
        if copy.untouched is not None:
            products[f"untouched_{i}"] = context.relative(copy.untouched)
        if copy.truth is not None:
            products[f"truth_{i}"] = context.relative(copy.truth)
    if start is not None:
        products["start_solutions"] = context.relative(start.path)
    return products
