"""The report of a field as one HTML page: a map of its sources and the result of each."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from libs.core.coordinates import radec_to_lm
from libs.h5parm.provenance import read_entries
from reports.drawings import Drawing
from reports.html_parts import Markup, badge, cell, details, facts, figure, join, table, tag
from reports.page import document, navigation, write_page
from reports.records import Run, read_run, read_summary
from reports.style import (
    GRID,
    INK,
    MISSING,
    MUTED,
    REJECTED,
    format_number,
    format_quantity,
    new_figure,
    save_figure,
    styled,
)
from reports.svg import Place, scatter_map

__all__ = ["field_map", "render_field", "write_field_report"]

logger = logging.getLogger(__name__)

_BADGES = {"calibrated": "done", "unchanged": "skipped", "failed": "failed", "waiting": "skipped"}
_MARKERS = ("o", "s", "^", "D", "v", "P")  # one for each layer
_MOST_NAMES = 40
Row = Mapping[str, Any]


def write_field_report(workdir: Path) -> Path:
    """Draw the map and write ``report.html`` in a field's work directory.

    Raises
    ------
    InputError
        No field was calibrated there, or the report cannot be written.
    """
    workdir = Path(workdir)
    summary = read_summary(workdir, "sources", "calibrated field", "field")
    sources = summary["sources"]
    run = read_run(workdir)
    centre = next((s.metrics["centre_deg"] for s in run.steps if "centre_deg" in s.metrics), None)
    (workdir / "plots").mkdir(exist_ok=True)
    drawing = Drawing(
        save_figure(field_map(sources, centre), workdir / "plots" / "field.png"),
        "Sources of the field, coloured by the longest baseline whose phases were calibrated",
        f"Map of {len(sources)} sources about the field's centre",
        "field",
    )
    path = workdir / "report.html"
    write_page(path, render_field(run, summary, drawing))
    logger.info("report of %d sources written to %s", len(sources), path)
    return path


# -- the map --------------------------------------------------------------------------------------


@styled
def field_map(sources: Sequence[Row], centre_deg: Sequence[float] | None = None) -> Figure:
    """Draw the sources about the centre, east to the left.

    The size of a marker shows the flux, its shape the layer, its colour the longest calibrated
    baseline; sources without calibration are open, failed ones crossed out.
    """
    places = np.array([(s["ra_rad"], s["dec_rad"]) for s in sources]).reshape(-1, 2)
    centre = np.deg2rad(centre_deg) if centre_deg else places.mean(axis=0)
    offset = np.rad2deg([radec_to_lm(ra, dec, *centre) for ra, dec in places]).reshape(-1, 2)
    made = new_figure(7.4, 6.0)
    axes = made.add_subplot()
    longest = np.array([float(s.get("longest_baseline_km") or 0.0) for s in sources])
    flux = np.array([float(s.get("flux_jy") or 0.0) for s in sources])
    size = 30 + 170 * np.sqrt(flux / max(flux.max(initial=0.0), 1e-9))
    top = max(float(longest.max(initial=0.0)), 1.0)
    coloured = None
    for number, source in enumerate(sources):
        x, y = offset[number]
        marker = _MARKERS[(int(source["layer"]) - 1) % len(_MARKERS)]
        if source["status"] == "calibrated":
            coloured = axes.scatter(
                x, y, size[number], longest[number], marker=marker, vmin=0.0, vmax=top,
                cmap="viridis", edgecolors=INK, linewidths=0.6, zorder=3,
            )  # fmt: skip
        else:
            edge = REJECTED if source["status"] == "failed" else MUTED
            axes.scatter(x, y, size[number], marker=marker, facecolors="none", edgecolors=edge)
            if source["status"] == "failed":
                axes.scatter(x, y, 0.4 * size[number], color=edge, marker="x")
        if len(sources) <= _MOST_NAMES:
            axes.annotate(
                str(source["name"]), (x, y), (6, 5), textcoords="offset points", fontsize=7.5
            )
    if coloured is not None:
        made.colorbar(coloured, ax=axes, label="longest calibrated baseline (km)", shrink=0.8)
    _finish(axes, offset, sorted({int(s["layer"]) for s in sources}))
    return made


def _finish(axes: Any, offset: np.ndarray, layers: Sequence[int]) -> None:
    reach = 1.15 * max(float(np.abs(offset).max(initial=0.0)), 0.05)
    axes.set(
        xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal",
        xlabel="offset east (deg)", ylabel="offset north (deg)",
    )  # fmt: skip
    axes.axhline(0, color=GRID, linewidth=0.7, zorder=0)
    axes.axvline(0, color=GRID, linewidth=0.7, zorder=0)
    for layer in layers:
        marker = _MARKERS[(layer - 1) % len(_MARKERS)]
        axes.scatter([], [], 40, marker=marker, facecolors="none", edgecolors=INK,
                     label=f"layer {layer}")  # fmt: skip
    if len(layers) > 1:
        axes.legend(loc="lower left", fontsize=7.5)


# -- the page -------------------------------------------------------------------------------------


def render_field(run: Run, summary: Mapping[str, Any], drawing: Drawing) -> str:
    """Return the report as one HTML page that contains its map."""
    sources = summary["sources"]
    sections = [
        (
            "field",
            "Field",
            join(
                [
                    _map(run, sources),
                    facts(_counts(summary)),
                    details("The same map for papers", figure(drawing)),
                ]
            ),
        ),
        ("sources", "Sources", _source_table(run.workdir, sources)),
        ("steps", "Step by step", _step_table(run)),
        ("origins", "Where solutions come from", _origins(run.workdir, summary)),
    ]
    body = join(
        tag("section", tag("h2", title) + content, id=key) for key, title, content in sections
    )
    links = navigation([(key, title) for key, title, _ in sections])
    header = tag("header", tag("h1", f"Calibration of the field {run.workdir.name}"),
                 tag("p", _lead(summary)), class_="top")  # fmt: skip
    return document(
        f"Field {run.workdir.name}",
        [header, links, tag("main", body, id="content")],
    )


def _lead(summary: Mapping[str, Any]) -> str:
    counts = summary["counts"]
    text = f"{counts['calibrated']} of {len(summary['sources'])} sources calibrated"
    if counts["unchanged"]:
        text += f", {counts['unchanged']} left with the solutions of others"
    if counts["failed"]:
        text += f", {counts['failed']} failed"
    if counts["waiting"]:
        text += f", {counts['waiting']} not tried yet"
    return text + "."


def _map(run: Run, sources: Sequence[Row]) -> Markup:
    """Return a map of the sources, each a link to its row, and what the colours mean."""
    if not sources:
        return Markup("")
    centre = next((s.metrics["centre_deg"] for s in run.steps if "centre_deg" in s.metrics), None)
    first = np.deg2rad(centre) if centre else (sources[0]["ra_rad"], sources[0]["dec_rad"])
    top = max([float(s.get("longest_baseline_km") or 0.0) for s in sources] + [1.0])
    places = []
    for source in sources:
        east, north = np.rad2deg(radec_to_lm(source["ra_rad"], source["dec_rad"], *first))
        km = float(source.get("longest_baseline_km") or 0.0)
        colour = {"failed": "failed", "calibrated": f"m{min(4, int(5 * km / top))}"}.get(
            source["status"], "open"
        )
        said = f"{source['name']}: {source['status']}" + (f", {km:.0f} km" if km else "")
        places.append(
            Place(-float(east), float(north), colour, said, f"#{_anchor(source)}", source["name"])
        )
    drawn = scatter_map(
        places, label="north up, east to the left", alt=f"Map of {len(sources)} sources", unit="deg"
    )
    steps = [f"up to {top * (i + 1) / 5:.0f} km" for i in range(5)]
    names = [(f"m{i}", f"calibrated, {text}") for i, text in enumerate(steps)]
    names += [("open", "left with the solutions of others, or not tried yet"), ("failed", "failed")]
    used = {place.colour for place in places}
    legend = [tag("span", text, class_=colour) for colour, text in names if colour in used]
    said = "Baselines are the longest ones whose phases were calibrated. A source leads to its row."
    return join([drawn, tag("div", *legend, class_="legend"), tag("p", said, class_="kicker")])


def _anchor(source: Row) -> str:
    return "source-" + "".join(c if c.isalnum() else "-" for c in str(source["name"]))


def _counts(summary: Mapping[str, Any]) -> dict[str, object]:
    return {
        "directions in the table": len(summary["directions"]),
        "stations": len(summary["stations"]),
        "entries (direction, station)": summary["entries"],
        "table": summary["h5parm"],
    }


def _number(value: Any, unit: str = "") -> str:
    if value is None or not math.isfinite(float(value)):
        return MISSING
    return format_quantity(float(value), unit) if unit else format_number(float(value))


def _source_table(workdir: Path, sources: Sequence[Row]) -> Markup:
    rows = []
    for source in sources:
        again = str(source.get("image") or "").startswith("again/")
        folder = f"sources/{source['name']}{'/again' if again else ''}"
        there = (workdir / folder / "run" / "report.html").exists()
        name = (
            tag("a", source["name"], href=f"{folder}/run/report.html") if there else source["name"]
        )
        rows.append(
            (
                tag("th", name, scope="row", id=_anchor(source)),
                cell(source["layer"]),
                cell(badge(_BADGES.get(source["status"], "skipped"), source["status"])),
                cell(_number(source.get("flux_jy"), "Jy"), value=_value(source, "flux_jy")),
                cell(_number(source.get("longest_baseline_km") or None)),
                cell(_number(source.get("snr"))),
                cell(
                    _number(source.get("rms_jy_beam"), "Jy/beam"),
                    value=_value(source, "rms_jy_beam"),
                ),
                cell(source.get("reason", ""), "text wrap"),
            )
        )
    heading = ["Source", "Layer", "Status", "Flux", "Longest\nkm", "SNR", "rms", "Reason"]
    return table(heading, rows, class_="sortable")


def _value(source: Row, name: str) -> float | None:
    value = source.get(name)
    return None if value is None else float(value)


def _step_table(run: Run) -> Markup:
    rows = [
        (
            tag("th", step.step, scope="row"),
            cell(badge(step.status)),
            cell(f"{step.seconds:.1f}"),
            cell(step.reason, "text wrap"),
        )
        for step in run.steps
    ]
    return table(["Step", "Status", "Time\ns", "Reason"], rows)


def _origins(workdir: Path, summary: Mapping[str, Any]) -> Markup:
    """Return for each direction and station the source on which its solutions were solved."""
    if not summary["h5parm"]:
        return tag("p", "There are no solutions yet.")
    entries = {entry.key: entry for entry in read_entries(workdir / summary["h5parm"])}
    rows = []
    for direction in summary["directions"]:
        cells = [tag("th", direction, scope="row")]
        for station in summary["stations"]:
            entry = entries.get((direction, station))
            if entry is None:
                cells.append(cell(MISSING))
            else:
                before = f" on {entry.refined_from}" if entry.refined_from else ""
                cells.append(cell(f"{entry.source}{before}", "text"))
        rows.append(cells)
    return table(["Direction", *summary["stations"]], rows, text=True)
