"""Results of several targets: summary.json, targets.csv, a table, a page with links."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from libs.core.errors import InputError
from libs.core.files import replacing
from libs.core.numbers import MISSING, format_number, format_quantity
from libs.core.text_table import aligned
from libs.record.quality import QualityScore, lowest_score, score_target
from reports.drawings import Drawing
from reports.html_parts import (
    Markup,
    badge,
    cell,
    figure,
    listing,
    table,
    tag,
)
from reports.page import document, navigation, write_page
from reports.records import STATISTICS, as_number
from reports.tables import write_csv
from reports.target_details import TargetsRecord, settings_table, target_figures

__all__ = [
    "TARGET_COLUMNS",
    "build_targets_summary",
    "finish_targets",
    "render_targets",
    "targets_table",
    "write_targets_report",
]

TARGET_COLUMNS = (
    "target", "field", "band", "status", "accepted", "rejected",
    *(f"initial_{name}" for name in STATISTICS), *(f"final_{name}" for name in STATISTICS),
    "longest_baseline_km", "seconds_total", "workdir", "h5parm", "image", "reason",
)  # fmt: skip
_HEADINGS = {
    "improved": "Self-calibration improved {improved} of {all} targets",
    "unchanged": "Self-calibration improved none of {all} targets: the data stay as they were",
    "incomplete": "{incomplete} of {all} targets have steps left to run",
    "failed": "{failed} of {all} targets failed",
}
Entry = Mapping[str, Any]
_MOST_LINKS = 8
_STATES, _DECIDED = ("initial", "final"), ("accepted", "rejected")


def build_targets_summary(results: Sequence[Entry]) -> dict[str, Any]:
    """Return the summary of a run of several targets.

    Parameters
    ----------
    results : sequence of mapping
        Contents of each run's ``summary.json`` with ``label``, ``field``, ``band`` and
        ``workdir``; a failed run has at least these, ``status`` and ``reason``.

    Returns
    -------
    dict
        Summary; ``status`` is failed when any target failed, incomplete when any has steps left
        to run, else improved when any improved.
        ``targets`` holds each entry by its label; its paths are relative to its ``workdir``.
    """
    counts = {
        status: sum(result["status"] == status for result in results)
        for status in ("improved", "unchanged", "incomplete", "failed")
    }
    if not counts["incomplete"]:
        del counts["incomplete"]
    order = ("failed", "incomplete", "improved", "unchanged")
    versions: Mapping[str, str] = {}
    for result in results:
        versions = versions or result.get("versions", {})
    scores = [_quality(result) for result in results]
    return {
        "status": next((status for status in order if counts.get(status)), "unchanged"),
        "counts": counts,
        "qa": dict(zip(("score", "reason"), astuple(lowest_score(scores)), strict=True)),
        "warnings": [
            f"{result['label']}: {text}"
            for result in results
            for text in result.get("warnings", ())
        ],
        "versions": versions,
        "targets": {
            result["label"]: {
                **{key: value for key, value in result.items() if key != "label"},
                "qa": {"score": own.score, "reason": own.reason},
            }
            for result, own in zip(results, scores, strict=True)
        },
    }


def _quality(result: Entry) -> QualityScore:
    """Return the quality score of one target: its run's, or that of a failure."""
    if result["status"] == "failed":
        return score_target("failed", True, {}, {})
    found = result.get("qa") or {}
    return QualityScore(found.get("score"), found.get("reason", "the run has no score"))


def finish_targets(workdir: Path, results: Sequence[Entry]) -> str:
    """Write summary.json, targets.csv and report.html; return the table to print."""
    summary = build_targets_summary(results)
    with replacing(workdir / "summary.json") as beside:
        beside.write_text(json.dumps(summary, indent=2) + "\n")
    write_csv(workdir / "targets.csv", TARGET_COLUMNS, _rows(summary))
    write_targets_report(workdir)
    return targets_table(summary)


def _rows(summary: Entry) -> list[dict[str, Any]]:
    rows = []
    for label, entry in summary["targets"].items():
        row = {name: entry.get(name, "") for name in TARGET_COLUMNS if name in entry}
        row |= {"target": label, "image": (entry.get("final") or {}).get("image", "")}
        row |= {key: " ".join(entry.get(key) or ()) for key in _DECIDED}
        for state in _STATES:
            values = entry.get(state) or {}
            row |= {f"{state}_{name}": values.get(name, "") for name in STATISTICS}
        rows.append({name: "" if value is None else value for name, value in row.items()})
    return rows


# -- for a terminal -------------------------------------------------------------------------------


def targets_table(summary: Entry) -> str:
    """Return a line for each target and band, for a terminal."""
    rows = [("target", "band", "status", "SNR before", "after", "DR before", "after", "kept", "s")]
    for label, entry in summary["targets"].items():
        numbers = [
            _number(entry, state, name).replace(MISSING, "-")
            for name in ("snr", "dynamic_range")
            for state in _STATES
        ]
        seconds = as_number(entry.get("seconds_total"))
        rows.append(
            (
                label, entry["band"] or "-", entry["status"], *numbers,
                " ".join(entry.get("accepted") or ()) or "-",
                f"{seconds:.0f}" if math.isfinite(seconds) else "-",
            )
        )  # fmt: skip
    return "\n".join(aligned(rows, left=(0, 1, 2, 7), ruled=True))


def _number(entry: Entry, state: str, name: str) -> str:
    return format_number(as_number((entry.get(state) or {}).get(name)), 4).replace("\u202f", "")


# -- the page -------------------------------------------------------------------------------------


def write_targets_report(workdir: Path) -> Path:
    """Write ``report.html`` of a run of several targets from its summary.json.

    Raises
    ------
    InputError
        There is no such summary, or the report cannot be written.
    """
    try:
        summary = json.loads((workdir / "summary.json").read_text())
        page = render_targets(workdir, summary)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{workdir} holds no run of several targets ({error})", "run one with targets first"
        ) from error
    path = workdir / "report.html"
    write_page(path, page)
    return path


def render_targets(workdir: Path, summary: Entry) -> str:
    """Return the page: a table of the targets, then each with its images before and after."""
    targets: Mapping[str, Entry] = summary["targets"]
    counts = {**summary["counts"], "all": len(targets)}
    heading = _HEADINGS[summary["status"]].format(**counts)
    header = tag(
        "header",
        tag("p", f"Self-calibration report of {workdir.name}", class_="kicker"),
        tag("h1", heading),
        tag("p", _lead(counts), class_="lead"),
        class_="top",
    )
    record = TargetsRecord.read(workdir)
    sections = [_section(workdir, label, targets, record) for label in targets]
    overview = tag(
        "section",
        tag("h2", "Targets"),
        _table(workdir, targets),
        settings_table(record, targets),
        _quality_said(summary),
        id="targets",
    )
    # the table leads to every target; a list of many would cover the page that it heads
    named = targets if len(targets) <= _MOST_LINKS else ()
    links = navigation([("targets", "Targets"), *((label, label) for label in named)])
    return document(
        f"Self-calibration of {len(targets)} targets in {workdir.name}",
        [
            header,
            links,
            tag("main", _warnings(summary), overview, *sections, id="content"),
        ],
    )


def _quality_said(summary: Entry) -> Markup:
    """Return the quality score of the whole run; nothing for runs that have none."""
    quality = summary.get("qa") or {}
    if quality.get("score") is None:
        return Markup("")
    return tag("p", f"Quality score of the run: {quality['score']:g} ({quality['reason']}).")


def _lead(counts: Mapping[str, int]) -> str:
    known = ("improved", "unchanged", "incomplete", "failed")
    parts = [f"{counts[key]} {key}" for key in known if counts.get(key)]
    return ", ".join(parts) + "." if len(parts) > 1 else ""


def _warnings(summary: Entry) -> Markup:
    if not summary["warnings"]:
        return Markup("")
    return tag("div", tag("p", "Warnings:"), listing(summary["warnings"]), class_="note")


def _report_of(workdir: Path, entry: Entry) -> str:
    """Return a link to a target's own report; empty where there is none."""
    path = f"{entry['workdir']}/report.html"
    return path if (workdir / path).exists() else ""


def _name(label: str, targets: Mapping[str, Entry]) -> str:
    """Return a target's name beside its band: its field, where that is unique."""
    mine = [targets[label][key] for key in ("field", "band")]
    alike = [entry for entry in targets.values() if [entry["field"], entry["band"]] == mine]
    return mine[0] if len(alike) == 1 else label


def _table(workdir: Path, targets: Mapping[str, Entry]) -> Markup:
    rows = []
    for label, entry in targets.items():
        link, name = _report_of(workdir, entry), _name(label, targets)
        name = tag("a", name, href=link) if link else name
        rms = [as_number((entry.get(state) or {}).get("rms_jy_beam")) for state in _STATES]
        rows.append(
            (
                tag("th", name, scope="row"),
                cell(entry["band"] or MISSING, "text"),
                cell(badge(entry["status"]), "text"),
                *(cell(_number(entry, state, "snr")) for state in _STATES),
                *(cell(_number(entry, state, "dynamic_range")) for state in _STATES),
                *(cell(format_quantity(value, "Jy/beam", 3), value=value) for value in rms),
                *(cell(", ".join(entry.get(key) or ()) or MISSING) for key in _DECIDED),
            )
        )
    heading = [
        "Target", "Band", "Status", "SNR\nbefore", "SNR\nafter", "Dynamic range\nbefore",
        "Dynamic range\nafter", "Noise\nbefore", "Noise\nafter", "Rounds\nkept", "Rounds\nrejected",
    ]  # fmt: skip
    return table(heading, rows, class_="sortable")


def _section(
    workdir: Path, label: str, targets: Mapping[str, Entry], record: TargetsRecord
) -> Markup:
    """Return a target's section: its result, the reason, and its images."""
    entry, name = targets[label], _name(label, targets)
    parts = [tag("h2", f"{name} {entry['band']}".strip())]
    if entry.get("reason"):
        parts.append(tag("p", badge("failed"), " ", entry["reason"]))
    decisions = [
        f"{step}: {why}" for key in _DECIDED
        for step, why in (entry.get(key) or {}).items()
    ]  # fmt: skip
    if entry["status"] == "unchanged":
        parts.append(tag("p", "No round was accepted: its data are unchanged."))
    lines = [*entry.get("notes", ()), *decisions]
    parts += [listing(lines)] if lines else []
    link = _report_of(workdir, entry)
    if link:
        parts.append(tag("p", tag("a", "Its own report", href=link), f", in {entry['workdir']}"))
    picture = workdir / entry["workdir"] / "plots" / "comparison.png"
    if picture.exists():
        title = f"{label}: the image before and after, in one colour scale"
        parts.append(figure(Drawing(picture, title, title, "comparison")))
    found = record.target(label)
    if found is not None:
        parts += target_figures(workdir, workdir / entry["workdir"], found)
    return tag("section", *parts, id=label)
