"""The report of ``vlass_cube``: targets, planes as a strip, spectra, what was missing."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from libs.imaging.interface import open_image
from reports.drawings import Drawing
from reports.html_parts import Markup, badge, cell, figure, join, listing, table, tag
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

__all__ = ["planes_figure", "spectrum_figure", "write_vlass_page"]

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
_MOST_PLANES = 8
_PIXELS = 160


def write_vlass_page(workdir: Path) -> Path:
    """Draw the figures and write ``report.html``, for a run that failed as well.

    Raises
    ------
    InputError
        There is no such run, or the report cannot be written.
    """
    workdir = Path(workdir)
    summary = read_summary(workdir, "groups", "run of vlass_cube", "vlass_cube")
    groups = summary["groups"]
    run = read_run(workdir)
    path = workdir / "report.html"
    write_page(path, _render(run, summary, groups, _draw(workdir, summary)))
    logger.info("report of %d groups written to %s", len(groups), path)
    return path


def _draw(workdir: Path, summary: Row) -> dict[str, list[Drawing]]:
    folder = workdir / "plots"
    folder.mkdir(exist_ok=True)
    drawn: dict[str, list[Drawing]] = {"planes": [], "stokes": []}
    done = [row for row in summary["groups"] if row["planes"]]
    if done:
        made = planes_figure(done[:_MOST_PLANES], workdir)
        more = f", the first {_MOST_PLANES} of {len(done)}" if len(done) > _MOST_PLANES else ""
        drawn["planes"].append(
            Drawing(
                save_figure(made, folder / "planes.png"),
                f"Images of each group of windows, by Stokes parameter{more}",
                "Grey-scale images: a column for each group, a row for each parameter", "planes",
            )
        )  # fmt: skip
    for number, source in enumerate((summary["stokes"] or {}).get("sources", [])):
        if not source["planes"]:
            continue
        made = spectrum_figure(source)
        drawn["stokes"].append(
            Drawing(
                save_figure(made, folder / f"stokes_{number}.png"),
                f"{source['what'][0].upper()}{source['what'][1:]}: U/I against Q/I, and flux"
                " density against frequency with the power law and its band of 2 sigma",
                "Points with error bars", "stokes",
            )
        )  # fmt: skip
    return drawn


# -- figures --------------------------------------------------------------------------------------


def _small(plane: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return an image of few pixels in which no peak is lost: the largest |value| of blocks."""
    step = max(1, math.ceil(max(plane.shape) / _PIXELS))
    if step == 1:
        return plane
    ny, nx = (size // step * step for size in plane.shape)
    blocks = np.nan_to_num(plane[:ny, :nx]).reshape(ny // step, step, nx // step, step)
    flat = blocks.transpose(0, 2, 1, 3).reshape(ny // step, nx // step, step * step)
    largest = np.abs(flat).argmax(axis=2)
    found: NDArray[np.floating] = np.take_along_axis(flat, largest[..., None], axis=2)[..., 0]
    return found


def _seen(plane: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the part of an image that is not blank."""
    rows, columns = (np.flatnonzero(np.isfinite(plane).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return plane
    return plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@styled
def planes_figure(groups: Sequence[Row], workdir: Path) -> Figure:
    """Draw the images of each group, a column each, and Stokes parameter, a row each."""
    stokes = [plane["stokes"] for plane in groups[0]["planes"]]
    columns = max(len(groups), 4)
    size = 7.4 / columns
    made = new_figure(7.4, len(stokes) * size + 0.5)
    for column, row in enumerate(groups):
        for line, plane in enumerate(row["planes"]):
            values = _seen(open_image(workdir / plane["image"])[0])
            noise = 1.4826 * float(np.nanmedian(np.abs(values - np.nanmedian(values))))
            axes = made.add_subplot(len(stokes), columns, 1 + line * columns + column)
            axes.imshow(
                _small(values), origin="lower", cmap="Greys", vmin=-3 * noise, vmax=12 * noise,
                interpolation="nearest",
            )  # fmt: skip
            axes.set(xticks=[], yticks=[])
            if not line:
                axes.set_title(f"{row['label']}\n{row['frequency_hz'] / 1e9:.3f} GHz", fontsize=7.5)
            if not column:
                axes.set_ylabel(f"Stokes {plane['stokes']}")
    return made


@styled
def spectrum_figure(source: Row) -> Figure:
    """Draw U/I against Q/I, and the flux density of Stokes I against frequency with its fit."""
    planes = source["planes"]
    made = new_figure(7.4, 3.0)
    left, right = made.add_subplot(1, 2, 1), made.add_subplot(1, 2, 2)
    q, u = (np.array([plane[key] for plane in planes]) for key in ("q_over_i", "u_over_i"))
    left.errorbar(
        q[:, 0], u[:, 0], xerr=q[:, 1], yerr=u[:, 1], fmt="none", ecolor=GRID, elinewidth=0.8
    )
    ghz = np.array([plane["frequency_hz"] for plane in planes]) / 1e9
    points = left.scatter(q[:, 0], u[:, 0], c=ghz, s=18, cmap="viridis", zorder=3)
    left.axhline(0, color=MUTED, linewidth=0.6)
    left.axvline(0, color=MUTED, linewidth=0.6)
    left.set(xlabel="Q/I", ylabel="U/I")
    left.set_aspect("equal", adjustable="datalim")
    made.colorbar(points, ax=left, label="GHz", shrink=0.85)
    flux = [1e3 * plane["mean_jy_beam"]["I"] for plane in planes]
    error = [1e3 * plane["error_jy_beam"]["I"] for plane in planes]
    right.errorbar(ghz, flux, yerr=error, fmt="o", color=PALETTE[0], markersize=4, linewidth=0.9)
    law = source["power_law"]
    if law and law["frequency_hz"]:
        x = np.array(law["frequency_hz"]) / 1e9
        low, high = (1e3 * np.array(law[key]) for key in ("low_jy", "high_jy"))
        right.fill_between(x, low, high, color=PALETTE[1], alpha=0.3, linewidth=0)
        right.plot(x, np.sqrt(low * high), color=PALETTE[1], linewidth=1.0)
    right.set(xlabel="frequency (GHz)", ylabel="Stokes I (mJy/beam)")
    return made


# -- the page -------------------------------------------------------------------------------------


def _render(
    run: Run, summary: Row, groups: Sequence[Row], drawings: Mapping[str, Sequence[Drawing]]
) -> str:
    sections = [
        ("restore", "Data restored", _restored(summary)),
        ("targets", "Image targets", _targets(summary, groups)),
        ("planes", "Planes", join(map(figure, drawings["planes"])) + _planes(summary, groups)),
        ("stokes", "Spectra and polarization", join(map(figure, drawings["stokes"]))
         + _spectra(summary)),
        ("steps", "Step by step", _steps(run)),
    ]  # fmt: skip
    body = join(
        tag("section", tag("h2", title) + content, id=key) for key, title, content in sections
    )
    links = navigation([(key, title) for key, title, _ in sections])
    header = tag(
        "header", tag("h1", f"Images by groups of windows: {run.workdir.name}"),
        tag("p", _lead(summary, groups)), class_="top",
    )  # fmt: skip
    return document(
        f"Images of {run.workdir.name}",
        [header, links, tag("main", body, id="content")],
    )


def _lead(summary: Row, groups: Sequence[Row]) -> str:
    if summary["error"]:
        return f"The run failed: {summary['error']}"
    done = sum(1 for row in groups if not row["error"])
    marked = sum(1 for row in groups if row["mark"])
    text = f"{done} of {len(groups)} groups of windows were imaged"
    return text + (f"; {marked} are marked as poor." if marked else ".")


def _restored(summary: Row) -> Markup:
    record = summary["restore"]
    if record is None:
        return tag("p", "The data were not restored.")
    if record["missing"]:
        faults = record["missing"].partition(": ")[2].split("; ")
        return tag("p", "The resources of the continuum run cannot be used:") + listing(faults)
    return tag(
        "p", "The data were brought to the state in which the continuum run imaged them:"
    ) + (listing(record["steps"]))


def _targets(summary: Row, groups: Sequence[Row]) -> Markup:
    state = {row["label"]: row for row in groups}
    rows = []
    for target in summary["targets"]:
        found = state.get(target["label"])
        if target["dropped"]:
            status, why = "skipped", target["dropped"]
        elif found is None:
            status, why = "skipped", "not imaged yet"
        else:
            status = "failed" if found["error"] else "done"
            why = found["error"] or found["mark"]
        rows.append(
            (
                tag("th", target["name"], scope="row"), cell(target["mask"], "text"),
                cell(", ".join(map(str, target["spws"]))),
                cell(f"{target['frequency_hz'] / 1e9:.6f}"), cell(f"{target['flagged']:.1%}"),
                cell(badge(status)), cell(why or MISSING, "text wrap"),
            )
        )  # fmt: skip
    if not rows:
        return tag("p", "There are no image targets yet.")
    heading = ["Image", "Masks", "Windows", "GHz", "Flagged", "Status", "Note"]
    return table(heading, rows)


def _planes(summary: Row, groups: Sequence[Row]) -> Markup:
    noise = summary["rms"] or {}
    cut = {(row["label"], row["stokes"]): row for row in summary["cutouts"] or []}
    rows = []
    for row in groups:
        for plane in row["planes"]:
            key = row["label"], plane["stokes"]
            measured = cut.get(key)
            beam = f"{plane['beam_major_arcsec']:.3g} x {plane['beam_minor_arcsec']:.3g}"
            median = noise.get(row["label"], {}).get(plane["stokes"])
            rows.append(
                (
                    tag("th", row["label"], scope="row"), cell(plane["stokes"]), cell(beam),
                    cell(_jy(median)), cell(_jy(measured and measured["peak_jy_beam"])),
                    cell(_jy(measured and measured["flux_jy"])),
                    cell(_jy(measured and measured["rms_jy_beam"])), cell(f"{row['seconds']:.0f}"),
                )
            )  # fmt: skip
    if not rows:
        return tag("p", "There are no images yet.")
    heading = [
        "Group", "Stokes", "Beam\narcsec", "Median noise", "Peak", "Flux above 5 sigma",
        "Residual", "Time\ns",
    ]  # fmt: skip
    return table(heading, rows)


def _jy(value: float | None) -> str:
    return MISSING if value is None else format_quantity(float(value), "Jy")


def _spectra(summary: Row) -> Markup:
    found = summary["stokes"]
    if not found:
        return tag("p", "The planes were not analysed.")
    rows = []
    for source in found["sources"]:
        law, turn = source["power_law"], source["rotation"]
        index = MISSING
        if law and law["index"] is not None:
            index = f"{law['index']:.3f} ± {law['index_error']:.3f}"
        measure, unknown = MISSING, MISSING
        if turn:
            measure = f"{turn['rad_m2']:.4g} ± {turn['error_rad_m2']:.2g}"
            unknown = f"{turn['ambiguity_rad_m2']:.4g}"
        rows.append(
            (
                tag("th", source["what"], scope="row"),
                cell(f"{source['ra_deg']:.6f} {source['dec_deg']:+.6f}"),
                cell(_jy(law and law["flux_jy"])), cell(index), cell(measure), cell(unknown),
            )
        )  # fmt: skip
    heading = [
        "Place", "RA, Dec\ndeg", "Flux at 3 GHz", "Spectral index", "Rotation measure\nrad/m²",
        "Ambiguity\nrad/m²",
    ]  # fmt: skip
    made = table(heading, rows)
    if found["left_out"]:
        lines = [f"{label}: {why}" for label, why in found["left_out"].items()]
        made = tag("p", "Planes left out:") + listing(lines) + made
    return made


def _steps(run: Run) -> Markup:
    rows = [
        (
            tag("th", step.step, scope="row"), cell(badge(step.status)),
            cell(f"{step.seconds:.1f}"), cell(step.reason, "text wrap"),
        )
        for step in run.steps
    ]  # fmt: skip
    return table(["Step", "Status", "Time\ns", "Reason"], rows)
