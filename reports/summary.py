"""The file summary.json: the outcome of a run in a form that other programs read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from libs.core.files import replacing
from libs.record.quality import score_target
from reports.records import Run, StepRow, read_run

__all__ = ["STATE_MEANINGS", "SUMMARY_MEANINGS", "build_summary", "write_summary"]

CLOSURE_KEYS = ("closure_phases", "closure_amplitudes", "phase_floor_rad", "amplitude_floor")
_MAIN = "main_source_"
# Quantities of the main source, their errors, and how many units of the errors (arcsec on the sky
# for positions) are one of the quantity's own at a declination.
_MEASURED: tuple[tuple[str, str, Callable[[float], float]], ...] = (
    ("peak_jy_beam", "peak_error_jy_beam", lambda _: 1.0),
    ("total_flux_jy", "total_flux_error_jy", lambda _: 1.0),
    ("ra_deg", "ra_error_arcsec", lambda dec: 3600.0 * math.cos(math.radians(dec))),
    ("dec_deg", "dec_error_arcsec", lambda _: 3600.0),
    ("major_arcsec", "major_error_arcsec", lambda _: 1.0),
    ("minor_arcsec", "minor_error_arcsec", lambda _: 1.0),
)
STATE_KEYS = ("peak_jy_beam", "rms_jy_beam", "snr", "dynamic_range", "total_flux_jy")

# What the documentation says of each key; a test holds that there are no others.
STATE_MEANINGS = {
    "image": "FITS image that was measured",
    "peak_jy_beam": "Peak, Jy/beam",
    "rms_jy_beam": "Root mean square of the residual, Jy/beam",
    "snr": "Peak over the noise (1.4826 times the MAD of the residual)",
    "dynamic_range": "Peak over the root mean square of the residual",
    "total_flux_jy": "Flux density of all CLEAN found, Jy",
}
SUMMARY_MEANINGS = {
    "status": "`improved`, `unchanged`, `failed`, or `incomplete` when steps are left to run",
    "calibrated_ms": "Data set to image next; a list for several executions",
    "column": "Column of it to image",
    "initial": "State before self-calibration, an image's figures as below",
    "final": "State after the last accepted round",
    "untouched": "State of the untouched data of a demonstration with known errors",
    "accepted": "Accepted rounds with the reasons",
    "rejected": "Rejected rounds with the reasons",
    "closure": "Where `closure_check` ran: reduced chi2 of closure phases and log closure"
    " amplitudes of the first model and of the final image, their numbers, and the"
    " non-closing errors allowed for",
    "tables": "Gain tables in order of application",
    "h5parm": "The h5parm with all solutions; empty when no round was accepted and nothing was"
    " started from",
    "main_source": "Main source of the final image: peak, total flux, position and widths, each"
    " with its error (positions: arcsec on the sky) and 68 % interval; null where it is not known",
    "longest_baseline_km": "Longest baseline between stations with coherent phase solutions, km",
    "seconds": "Time of each step, s",
    "seconds_imaging": "Time within imagers, s",
    "seconds_solving": "Time within solvers, s",
    "qa": "Quality `score` as observatories' pipelines give it, and its `reason`: 1.0 not"
    " attempted, 0.99 tried and not kept, 0.98 kept, 0.85 kept with a noise more than 2 % higher,"
    " 0.8 failed",
    "warnings": "Warnings of the steps",
    "versions": "Versions of the tools",
}


def _state(row: StepRow | None, prefix: str = "") -> dict[str, Any]:
    """Return the statistics of a step's judged image; empty when there is none."""
    if row is None or f"{prefix}peak_jy_beam" not in row.metrics:
        return {}
    values: dict[str, Any] = {"image": row.products.get("image", "")}
    for key in STATE_KEYS:
        number = row.metric(prefix + key)
        values[key] = None if math.isnan(number) else number
    return values


def _closure(row: StepRow | None) -> dict[str, Any]:
    """Return the agreement of models with closure quantities; empty where it was not checked."""
    if row is None or row.status != "done":
        return {}
    found: dict[str, Any] = {key: row.metrics[key] for key in CLOSURE_KEYS if key in row.metrics}
    for state in ("initial_model", "final_image"):
        values = {part: row.metric(f"{state}_{part}") for part in ("phase_chi2", "amplitude_chi2")}
        known = {part: value for part, value in values.items() if not math.isnan(value)}
        if known:
            found[state] = known
    return found


def _main_source(final: StepRow | None, row: StepRow | None) -> dict[str, Any]:
    """Return the main source of the final image with its intervals; empty where not measured."""
    if final is None or row is None or row.status != "done":
        return {}
    found: dict[str, Any] = {"image": final.products.get("image", ""), "confidence": 0.68}
    for name, error, unit in _MEASURED:
        value, spread = row.metric(_MAIN + name), row.metric(_MAIN + error)
        half = spread / unit(row.metric(f"{_MAIN}dec_deg"))
        numbers = {"value": value, "error": spread, "low": value - half, "high": value + half}
        found[name] = {key: None if math.isnan(n) else n for key, n in numbers.items()}
    return found


def build_summary(run: Run, versions: Mapping[str, str], status: str = "") -> dict[str, Any]:
    """Return the summary of a run from its records.

    Parameters
    ----------
    run : Run
    versions : mapping
        Versions of the tools used.
    status : str
        Status ``failed`` when the run ended with an error, ``incomplete`` when steps are left to
        run; otherwise it is derived: ``improved`` when a round was accepted, ``unchanged`` if not.

    Returns
    -------
    dict
        Summary; ``calibrated_ms`` and ``column`` name the data to image.
    """
    rounds = run.rounds
    accepted = [row for row in rounds if row.status == "done"]
    initial = _first(run, lambda row: "peak_jy_beam" in row.metrics and row not in rounds)
    final = accepted[-1] if accepted else initial
    split = _first(run, lambda row: bool(row.named("calibrated_ms")))
    copied = _first(run, lambda row: bool(row.named("working_copy")))
    calibrated, column = _what_to_image(copied, accepted, split)
    report = _first(run, lambda row: "untouched_peak_jy_beam" in row.metrics)
    h5parm = run.workdir / "solutions.h5"
    started = copied is not None and "start_solutions" in copied.products
    longest_km = _longest_calibrated_km(copied, accepted)
    summary = {
        "status": status or _status(run, accepted),
        "calibrated_ms": calibrated,
        "column": column,
        "initial": _state(initial),
        "final": _state(final),
        "accepted": {row.step: row.reason for row in accepted},
        "rejected": {row.step: row.reason for row in rounds if row.status == "rejected"},
        "tables": [table.path for table in final.tables] if final else [],
        "h5parm": "solutions.h5" if (accepted or started) and h5parm.exists() else "",
        "longest_baseline_km": None if math.isnan(longest_km) else longest_km,
        "seconds": {row.step: row.seconds for row in run.steps},
        "seconds_imaging": round(sum(row.seconds_imaging for row in run.steps), 3),
        "seconds_solving": round(sum(row.seconds_solving for row in run.steps), 3),
        "warnings": list(dict.fromkeys(text for row in run.steps for text in row.warnings)),
        "versions": dict(versions),
    }
    summary["qa"] = _quality(summary, rounds)
    closure = _closure(_first(run, lambda row: CLOSURE_KEYS[0] in row.metrics))
    if closure:
        summary["closure"] = closure
    source = _main_source(final, _first(run, lambda row: f"{_MAIN}peak_jy_beam" in row.metrics))
    if source:
        summary["main_source"] = source
    untouched = _state(report, "untouched_")
    if untouched:
        summary["untouched"] = untouched
    return summary


def _quality(summary: Mapping[str, Any], rounds: Sequence[StepRow]) -> dict[str, Any]:
    """Return the quality score of a run of one target and its reason."""
    attempted = any(row.interval is not None for row in rounds)
    quality = score_target(summary["status"], attempted, summary["initial"], summary["final"])
    return {"score": quality.score, "reason": quality.reason}


def _status(run: Run, accepted: list[StepRow]) -> str:
    """Return the status of a run that ended without an error."""
    if run.outdated:
        return "incomplete"
    return "improved" if accepted else "unchanged"


def _first(run: Run, wanted: Callable[[StepRow], bool]) -> StepRow | None:
    """Return the first step whose record is of some kind, whatever the step is called."""
    return next((row for row in run.steps if wanted(row)), None)


def _longest_calibrated_km(copied: StepRow | None, accepted: list[StepRow]) -> float:
    """Return the longest baseline whose phases were calibrated: that of the last phase round.

    Rounds that did not test their solutions count as reaching the longest baseline of the data;
    0 where no round was accepted.
    """
    if not accepted:
        return 0.0
    for row in reversed(accepted):
        if row.metrics.get("calmode") == "p" and "longest_baseline_km" in row.metrics:
            return row.metric("longest_baseline_km")
    return copied.metric("longest_baseline_m") / 1000 if copied else math.nan


def _what_to_image(
    copied: StepRow | None, accepted: list[StepRow], split: StepRow | None
) -> tuple[list[str] | str, str]:
    """Return the data set(s) that hold the result, and their column."""
    if split is not None and split.status == "done":
        paths = split.named("calibrated_ms")
        return (paths[0] if len(paths) == 1 else paths), "DATA"
    copies = copied.named("working_copy") if copied else []
    return (copies[0] if len(copies) == 1 else copies), "CORRECTED_DATA" if accepted else "DATA"


def write_summary(workdir: Path, versions: Mapping[str, str], status: str = "") -> dict[str, Any]:
    """Write ``summary.json`` and return its contents."""
    summary = build_summary(read_run(workdir), versions, status)
    with replacing(workdir / "summary.json") as beside:
        beside.write_text(json.dumps(summary, indent=2) + "\n")
    return summary
