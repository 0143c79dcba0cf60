"""The report of a session's calibration as one HTML page with its figures."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from libs.core.numbers import counted
from reports.drawings import Drawing
from reports.html_parts import Markup, badge, cell, facts, figure, join, listing, table, tag
from reports.page import document, navigation, write_page
from reports.records import Run, read_run, read_summary
from reports.style import (
    GRID,
    MISSING,
    MUTED,
    PALETTE,
    format_quantity,
    new_figure,
    save_figure,
    styled,
)

__all__ = ["bandpass_figure", "coverage_figure", "sky_figure", "write_session_page"]

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
_MOST_LISTED = 12
_FLUX_DIGITS = 4  # the scale carries over to some parts in a thousand


def write_session_page(workdir: Path) -> Path:
    """Draw the figures and write ``report.html`` in a session's work directory.

    Raises
    ------
    InputError
        No session was calibrated there, or the report cannot be written.
    """
    workdir = Path(workdir)
    summary = read_summary(workdir, "fields", "calibrated session", "calibrate")
    fields = summary["fields"]
    run = read_run(workdir)
    measured = workdir / "session_report.json"
    parts = json.loads(measured.read_text())["parts"] if measured.exists() else []
    drawings = _draw(workdir, parts)
    path = workdir / "report.html"
    write_page(path, _render(run, summary, fields, parts, drawings))
    logger.info("report of %d fields written to %s", len(fields), path)
    return path


def _draw(workdir: Path, parts: Sequence[Row]) -> dict[str, list[Drawing]]:
    folder = workdir / "plots"
    folder.mkdir(exist_ok=True)
    drawn: dict[str, list[Drawing]] = {"bandpass": [], "sky": [], "coverage": []}
    for part in parts:
        end = f"_{part['tuning']}" if part["tuning"] else ""
        at = f" at {part['tuning']}" if part["tuning"] else ""
        for key, made, caption, says in (
            ("bandpass", bandpass_figure(part["bandpass"]["curves"]),
             f"Bandpass{at}: amplitude, and amplitude over its running median, by antenna",
             "Curves against frequency"),
            ("sky", sky_figure(part["sky"]),
             f"Elevation and parallactic angle{at}", "Curves against time, by field"),
            ("coverage", coverage_figure(part["uv"]),
             f"Baselines of each field{at}", "Points in the uv plane"),
        ):  # fmt: skip
            saved = save_figure(made, folder / f"session_{key}{end}.png")
            drawn[key].append(Drawing(saved, caption, says, key))
    return drawn


# -- figures --------------------------------------------------------------------------------------


def _values(row: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in row])


@styled
def bandpass_figure(curves: Sequence[Row]) -> Figure:
    """Draw each antenna's amplitude, and its ratio to the running median, of every window."""
    made = new_figure(7.4, 4.6)
    count = max(len(curves), 1)
    for number, curve in enumerate(curves):
        upper, lower = (made.add_subplot(2, count, 1 + number + row * count) for row in (0, 1))
        ghz = np.array(curve["ghz"])
        for antenna, (size, ratio) in enumerate(
            zip(curve["amplitude"], curve["ratio"], strict=True)
        ):
            colour = PALETTE[antenna % len(PALETTE)]
            upper.plot(ghz, _values(size), color=colour, linewidth=0.7)
            lower.plot(ghz, _values(ratio), color=colour, linewidth=0.7)
        for level in (0.9, 1.1):
            lower.axhline(level, color=MUTED, linewidth=0.8, linestyle="--")
        lower.set_xlabel("frequency (GHz)")
        if not number:
            upper.set_ylabel("amplitude")
            lower.set_ylabel("over running median")
    return made


@styled
def sky_figure(visits: Sequence[Row]) -> Figure:
    """Draw elevation and parallactic angle against time."""
    made = new_figure(7.4, 4.4)
    axes = [made.add_subplot(2, 1, number) for number in (1, 2)]
    start = min((visit["time_s"][0] for visit in visits), default=0.0)
    names = list(dict.fromkeys(visit["field"] for visit in visits))
    for visit in visits:
        colour = PALETTE[names.index(visit["field"]) % len(PALETTE)]
        hours = (np.array(visit["time_s"]) - start) / 3600
        for axis, key in zip(axes, ("elevation_deg", "parallactic_deg"), strict=True):
            axis.plot(hours, visit[key], color=colour, linewidth=2.2, solid_capstyle="butt")
    for number, name in enumerate(names):
        axes[0].plot([], [], color=PALETTE[number % len(PALETTE)], label=name)
    axes[0].set_ylabel("elevation (deg)")
    axes[1].set(ylabel="parallactic angle (deg)", xlabel="time from the first scan (h)")
    if names:
        axes[0].legend(fontsize=7.5)
    return made


@styled
def coverage_figure(uv: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draw the baselines of each field with their conjugates."""
    count = max(len(uv), 1)
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    made = new_figure(7.4, 2.7 * rows)
    lengths = [np.abs(np.array(points)).max(initial=0.0) for points in uv.values()]
    reach = 1.05 * max([float(length) for length in lengths], default=0.0) or 1.0
    for number, (name, points) in enumerate(uv.items(), 1):
        axes = made.add_subplot(rows, columns, number)
        values = np.array(points).reshape(-1, 2)
        both = np.concatenate([values, -values])
        axes.plot(both[:, 0], both[:, 1], ",", color=PALETTE[0])
        axes.set(xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal", title=name,
                 xlabel="u (km)")  # fmt: skip
        axes.axhline(0, color=GRID, linewidth=0.6, zorder=0)
        axes.axvline(0, color=GRID, linewidth=0.6, zorder=0)
        if (number - 1) % columns == 0:
            axes.set_ylabel("v (km)")
    return made


# -- the page -------------------------------------------------------------------------------------


def _render(
    run: Run,
    summary: Row,
    fields: Sequence[Row],
    parts: Sequence[Row],
    drawings: Mapping[str, Sequence[Drawing]],
) -> str:
    sections = [
        ("fields", "Fields", _warnings(summary) + _field_table(fields)),
        ("fluxes", "Fluxes", _flux_table(summary, fields)),
        ("bandpass", "Bandpass", join(map(figure, drawings["bandpass"])) + _structure(parts)),
        ("sky", "Elevation and coverage",
         join(map(figure, [*drawings["sky"], *drawings["coverage"]]))),
        ("steps", "Step by step", _steps(run)),
    ]  # fmt: skip
    body = join(
        tag("section", tag("h2", title) + content, id=key) for key, title, content in sections
    )
    links = navigation([(key, title) for key, title, _ in sections])
    header = tag(
        "header", tag("h1", f"Calibration of the session {run.workdir.name}"),
        tag("p", _lead(summary, fields)), class_="top",
    )  # fmt: skip
    return document(
        f"Session {run.workdir.name}",
        [header, links, tag("main", body, id="content")],
    )


def _lead(summary: Row, fields: Sequence[Row]) -> str:
    targets = [field for field in fields if field["role"] == "target"]
    runs = [one for field in targets for one in field["runs"]]
    improved = sum(1 for one in runs if one["status"] == "improved")
    text = f"{counted(len(fields), 'field')} on the flux scale of {summary['standard']},"
    text += f" {counted(len(targets), 'of them a target', 'of them targets')}"
    if len(runs) == 1:
        text += "; self-calibration " + ("improved it" if improved else "did not improve it")
    elif runs:
        text += f"; self-calibration improved {improved} of {len(runs)}"
    return text + "."


def _warnings(summary: Row) -> Markup:
    return listing(summary["warnings"]) if summary["warnings"] else join([])


def _field_table(fields: Sequence[Row]) -> Markup:
    rows = []
    for field in fields:
        runs = join(
            tag("a", one["label"], href=f"{one['workdir']}/report.html")
            + f" {one['status']} " for one in field["runs"]
        )  # fmt: skip
        left = [value for value in field["residual_phase_deg"] if value is not None]
        rows.append(
            (
                tag("th", field["field"], scope="row"),
                cell(field["role"], "text"),
                cell(field["why"], "text wrap"),
                cell(field["calibrator"] or MISSING, "text"),
                cell(f"{max(left):.2g}" if left else MISSING),
                cell(runs if field["runs"] else MISSING, "text"),
            )
        )
    heading = ["Field", "Role", "Why", "Calibrated by", "Residual\ndeg", "Self-calibration"]
    return table(heading, rows)


def _jy(value: float | None, digits: int = 2) -> str:
    """Write a flux, or an error, which is 0 where it does not apply (the standard's own)."""
    return MISSING if not value else format_quantity(float(value), "Jy", digits)


def _flux_table(summary: Row, fields: Sequence[Row]) -> Markup:
    rows = []
    for field in fields:
        for flux in field["fluxes"]:
            rows.append(
                [tag("th", field["field"], scope="row"), cell(f"{flux['frequency_hz'] / 1e9:.4f}")]
                + [cell(_jy(flux[key], _FLUX_DIGITS)) for key in ("flux_jy", "fitted_jy")]
                + [
                    cell(_jy(flux[key]))
                    for key in (
                        "antennas_jy", "scans_jy", "standard_jy", "elevation_jy",
                        "resolution_jy", "total_error_jy",
                    )
                ]
            )  # fmt: skip
    if not rows:
        return tag("p", "There are no fluxes yet.")
    heading = [
        "Field", "GHz", "By gains", "In the image", "Antennas", "Scans", "Standard", "Elevation",
        "Resolution", "Error",
    ]  # fmt: skip
    lead = f"On the scale of Perley and Butler (2017) by {summary['standard']}. The error adds its"
    return tag("p", f"{lead} causes in quadrature.") + table(heading, rows)


def _structure(parts: Sequence[Row]) -> Markup:
    found = [item for part in parts for item in part["bandpass"]["structure"]]
    if not found:
        return tag("p", "No channel is off its running median by more than 10 %.")
    by_antenna: dict[str, int] = {}
    for item in found:
        by_antenna[item["antenna"]] = by_antenna.get(item["antenna"], 0) + 1
    worst = sorted(found, key=lambda item: -abs(item["ratio"] - 1))[:_MOST_LISTED]
    rows = [
        (
            tag("th", item["antenna"], scope="row"), cell(item["feed"]), cell(item["spw"]),
            cell(item["channel"]), cell(f"{item['ratio']:.3f}"),
        )
        for item in worst
    ]  # fmt: skip
    counts = {name: counted(count, "channel") for name, count in sorted(by_antenna.items())}
    said = tag("p", "Off their running median by more than 10 %: "
                    f"{counted(len(found), 'channel')}; the {len(worst)} worst:")  # fmt: skip
    return said + table(["Antenna", "Feed", "Window", "Channel", "Ratio"], rows) + facts(counts)


def _steps(run: Run) -> Markup:
    rows = [
        (
            tag("th", step.step, scope="row"), cell(badge(step.status)),
            cell(f"{step.seconds:.1f}"), cell(step.reason, "text wrap"),
        )
        for step in run.steps
    ]  # fmt: skip
    return table(["Step", "Status", "Time\ns", "Reason"], rows)
