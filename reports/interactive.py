"""The image viewer and the gains of a report, and what stands for them without scripts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from reports.colours import COLOUR_MAPS
from reports.gain_data import RoundGains
from reports.html_parts import Markup, details, join, tag
from reports.records import Run
from reports.style import format_quantity
from reports.svg import Place, Series, chart, scatter_map
from reports.viewer_data import Viewer

__all__ = ["gain_section", "page_scripts", "viewer_section"]

_SCALE = (
    '<div class="scale"><span class="low"></span><canvas class="colourbar" aria-hidden="true">'
    '</canvas><span class="high"></span></div>'
)
STATIC = Path(__file__).resolve().parent / "static"


@cache
def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _json(key: str, content: Any) -> Markup:
    """Return data for the scripts; no text in it can end the element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="{key}">{text}</script>')


def page_scripts(viewer: Viewer | None, gains: Sequence[RoundGains]) -> Markup:
    """Return the scripts of a page with their data; all is in the page itself."""
    parts: list[Markup] = [_json("data-colours", COLOUR_MAPS)]
    names: list[str] = []
    if viewer is not None:
        parts.append(_json("data-images", viewer.payload()))
        names.append("viewer.js")
    if gains:
        parts.append(_json("data-gains", [table.payload() for table in gains]))
        parts.append(tag("style", Markup(_static("uplot.min.css"))))
        names += ["uplot.min.js", "gains.js"]
    parts += [Markup(f"<script>{_static(name)}</script>") for name in names]
    return join(parts)


def _control(label: str, inner: str) -> Markup:
    return Markup(f"<label>{label} {inner}</label>")


def _select(name: str, options: Mapping[str, str] | None = None) -> str:
    inner = "".join(
        f'<option value="{key}">{text}</option>' for key, text in (options or {}).items()
    )
    return f'<select name="{name}">{inner}</select>'


def _check(name: str, *, on: bool = True) -> str:
    return f'<input type="checkbox" name="{name}"{" checked" if on else ""}>'


def viewer_section(viewer: Viewer | None) -> Markup:
    """Return the image viewer, and small pictures for readers without scripts."""
    if viewer is None:
        return Markup("")
    controls = join(
        [
            _control("Left", _select("left")),
            _control("Right", _select("right")),
            _control("Show", _select("what", {
                "image": "image", "residual": "residual", "sigma": "residual in sigma",
                "model": "model (image less residual)"})),
            _control("Area", _select("area", {
                "cut": "around the source", "whole": "whole image"})),
            _control("Scale", _select("stretch", {"asinh": "asinh", "linear": "linear"})),
            _control(_check("common"), "one scale for both"),
            _control(_check("mask"), "mask"),
            _control(_check("beam"), "beam"),
        ]
    )  # fmt: skip
    buttons = "".join(
        f'<button type="button" name="{name}"{more}>{text}</button>'
        for name, text, more in (
            ("zoomin", "+", ' aria-label="zoom in"'),
            ("zoomout", "\u2212", ' aria-label="zoom out"'),
            ("reset", "whole", ""), ("blink", "blink", ' aria-pressed="false"'),
        )
    )  # fmt: skip
    said = "" if viewer.whole or not viewer.cut else "A part of the image around the source. "
    if viewer.left_out:
        said += f"{viewer.left_out} more images are in the work directory. "
    if len(viewer.frames) > 1:
        said += "The slider moves the border between the two steps. "
    said += (
        "On the image arrow keys move a cursor, + and \u2212 zoom, 0 shows all; dragging moves a"
        " zoomed image."
    )
    live = Markup(
        f'<div id="viewer" class="viewer" hidden><div class="controls">{controls}</div>'
        '<p class="names" aria-hidden="true"></p>'
        '<canvas class="picture" tabindex="0" role="img" aria-label="image viewer"></canvas>'
        '<label class="slide">Border'
        ' <input type="range" name="slider" min="0" max="100" value="50">'
        f'</label><div class="controls">{buttons}</div>{_SCALE}'
        f'<output aria-live="polite">Point at the image for position and brightness.</output>'
        f'<p class="kicker">{said}</p></div>'
    )
    still = [
        tag("figure", Markup(f'<img src="{uri}" alt="Image of {label.lower()}" decoding="sync" '
                             f'width="256" height="256">'), tag("figcaption", label))
        for label, uri in viewer.thumbnails()
    ]  # fmt: skip
    return live + tag("div", *still, class_="still") + _residual_histogram(viewer)


def _residual_histogram(viewer: Viewer) -> Markup:
    """Return the residual of the final image in its own sigma, beside a Gaussian."""
    last = viewer.result
    if last is None or last.residual is None or not last.sigma > 0:
        return Markup("")
    edges = np.linspace(-6, 6, 49)
    middle = 0.5 * (edges[1:] + edges[:-1])
    counts, _ = np.histogram(np.clip(last.residual / last.sigma, -5.99, 5.99), edges)
    normal = (
        counts.sum() * (edges[1] - edges[0]) * np.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)
    )
    drawn = chart(
        [
            Series(middle.tolist(), np.maximum(counts, 0.5).tolist(), (), "residual", "s0", "line"),
            Series(middle.tolist(), np.maximum(normal, 0.5).tolist(), (), "Gaussian", "s2", "line"),
        ],
        x_label="residual / sigma", y_label="pixels", log_y=True,
        alt="Histogram of the residual in units of its noise, with a Gaussian of the same noise.",
    )  # fmt: skip
    title = f"Residual of {last.label} in its own sigma ({format_quantity(last.sigma, 'Jy/beam')})"
    return details(title, drawn)


def gain_section(run: Run, gains: Sequence[RoundGains]) -> Markup:
    """Return the gains by antenna and time, a picture for readers without scripts, a map."""
    if not gains:
        return Markup("")
    controls = join(
        [
            _control("Table", _select("table")),
            _control("Show", _select("quantity", {
                "phase": "phase", "amplitude": "amplitude", "snr": "SNR", "flags": "flags"})),
            _control("Order", _select("order", {
                "name": "as in the data", "flagged": "most flagged first",
                "scatter": "least steady first"})),
            _control("Antenna", '<input type="search" name="search" size="8">'),
        ]
    )  # fmt: skip
    thinned = max(table.stride for table in gains)
    said = (
        f"To keep the page small every {thinned}th solution in time is shown; the tables have all."
        if thinned > 1
        else "Every solution is shown."
    )
    live = Markup(
        f'<div id="gains-view" class="gains" hidden><div class="controls">{controls}</div>{_SCALE}'
        '<div class="heat"><div class="antennas"></div><div class="field">'
        '<canvas aria-hidden="true"></canvas></div></div>'
        '<p class="none" hidden>No antenna has such a name.</p>'
        '<output aria-live="polite">Time runs to the right. Choose an antenna for traces.</output>'
        f'<div class="trace"></div><p class="kicker">{said} Grey is flagged.</p></div>'
    )
    accepted = [table for table in gains if table.status == "done"] or list(gains)
    last = accepted[-1]
    still = tag(
        "figure",
        Markup(
            f'<img src="{last.picture()}" alt="Gain phases of {last.step} by antenna (down) and '
            'time (right)">'
        ),
        tag("figcaption", f"Gain phases of {last.step}: antennas from the top, "
            f"{', '.join(last.solutions.antenna)}; time to the right; grey is flagged."),
    )  # fmt: skip
    return live + tag("div", still, class_="still") + _map(last)


def _map(table: RoundGains) -> Markup:
    """Return where the antennas stand, coloured by how much of their gains is flagged."""
    found = table.solutions
    position = np.asarray(found.position_m, float)
    if position.ndim != 2 or not np.ptp(position, axis=0).any():
        return Markup("")
    centre = position.mean(axis=0)
    lon = math.atan2(centre[1], centre[0])
    lat = math.atan2(centre[2], math.hypot(centre[0], centre[1]))
    east = (-math.sin(lon), math.cos(lon), 0.0)
    north = (-math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat))
    offset = position - centre
    flagged = found.flag.mean(axis=(0, 1, 3))
    places = [
        Place(float(offset[i] @ east), float(offset[i] @ north),
              f"f{min(4, int(5 * flagged[i]))}", f"{name}: {100 * flagged[i]:.0f} % flagged",
              label=name)
        for i, name in enumerate(found.antenna)
    ]  # fmt: skip
    extent = max(np.ptp([p.x for p in places]), np.ptp([p.y for p in places]))
    unit, scale = ("km", 1e3) if extent >= 2000 else ("m", 1.0)
    drawn = scatter_map(
        places, label=f"north up; {extent / scale:.3g} {unit} across",
        alt="Map of the antennas; the darker, the more of their solutions are flagged.",
    )  # fmt: skip
    return details(f"Map of the antennas, by flagged solutions of {table.step}", drawn)
