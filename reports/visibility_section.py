"""The visibilities of a run on its page: pictures of densities, and a table of the windows."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import SelfcalError
from reports.html_parts import Markup, cell, join, table, tag
from reports.records import Run
from reports.style import MISSING, format_number, prefixed
from reports.svg import Cells, Series, density_chart
from reports.visibility_data import (
    VisibilityDensity,
    WindowRow,
    natural_noise_jy_beam,
    run_points,
    visibility_density,
    window_rows,
)
from reports.words import word

__all__ = ["NO_VISIBILITIES", "Visibilities", "shown_visibilities", "visibility_section"]

logger = logging.getLogger(__name__)
_FEW_WINDOWS = 12
_MOST_SHOWN = 0.8  # part of the amplitude ratios within the limits of the picture


@dataclass(frozen=True)
class Visibilities:
    """What a page shows of the visibilities.

    Attributes
    ----------
    densities : tuple of VisibilityDensity
        Before and after.
    windows : tuple of (str, tuple of WindowRow)
        Label, and a row for each spectral window, before and after.
    natural_rms_jy_beam : float
        Thermal noise of a naturally weighted image of the last of them; NaN where unknown.
    part : float
        Part of the rows that was read, 0 to 1.
    """

    densities: tuple[VisibilityDensity, ...] = ()
    windows: tuple[tuple[str, tuple[WindowRow, ...]], ...] = ()
    natural_rms_jy_beam: float = math.nan
    part: float = 1.0


NO_VISIBILITIES = Visibilities()


def shown_visibilities(run: Run) -> Visibilities:
    """Read the visibilities of a run that has ended; none where they cannot be read."""
    try:
        shown = run_points(run)
    except (SelfcalError, OSError, RuntimeError, ValueError):
        logger.warning("visibilities are not shown", exc_info=True)
        return NO_VISIBILITIES
    if not shown:
        return NO_VISIBILITIES
    return Visibilities(
        tuple(visibility_density(shown)),
        tuple((each.source.label, tuple(window_rows(each))) for each in shown),
        natural_noise_jy_beam(shown[-1]),
        min(each.part for each in shown),
    )


def visibility_section(found: Visibilities) -> Markup:
    """Return pictures and table; empty where there are no visibilities."""
    if not found.densities:
        return Markup("")
    said = (
        "Channels are averaged, flagged data and autocorrelations are left out. Shades count the "
        "visibilities; the line is the median of the model. "
    )
    if any(density.relative for density in found.densities):
        said += (
            "Phases are those of the data less the model's, so that a source away from the phase "
            "centre does not wrap them; calibrated data lie about zero, and about 1 in amplitude."
        )
    if found.part < 0.999:
        said += f" Whole integrations, evenly spread, were read: {100 * found.part:.2g} % of all."
    return join(
        [
            tag("p", said),
            *(_row(found.densities, kind) for kind in _KINDS),
            _window_table(found.windows),
        ]
    )


@dataclass(frozen=True)
class _Kind:
    """A row of pictures: arrays of a density, its axes and what it shows."""

    counts: str
    across: str
    up: str
    what: str


_KINDS = (
    _Kind("amplitude", "uv_edges", "amplitude_edges", "Amplitude against uv distance"),
    _Kind("phase", "uv_edges", "phase_edges_deg", "Phase against uv distance"),
    _Kind("ratio_by_time", "time_edges_s", "ratio_edges", "Amplitude over the model's by time"),
    _Kind("phase_by_time", "time_edges_s", "phase_edges_deg", "Phase by time"),
)


def _row(densities: Sequence[VisibilityDensity], kind: _Kind) -> Markup:
    """Return the pictures of a kind, one for each source, on the same axes."""
    shown = [d for d in densities if getattr(d, kind.counts).any()]
    # where single visibilities are noise they are many times the model, which says nothing
    noise = kind.up == "ratio_edges" and any(
        getattr(d, kind.counts).sum() < _MOST_SHOWN * d.count for d in shown
    )
    if not shown or noise:
        return Markup("")
    most = max(float(getattr(density, kind.counts).max()) for density in shown)
    return tag("div", *(tag("div", _picture(d, kind, most)) for d in shown), class_="charts")


def _picture(density: VisibilityDensity, kind: _Kind, most: float) -> Markup:
    across: NDArray[np.float64] = getattr(density, kind.across)
    up: NDArray[np.float64] = getattr(density, kind.up)
    if kind.across == "uv_edges":
        factor, unit = prefixed(float(across[-1]), "\u03bb")
        x_label = f"uv distance, {unit}"
    else:
        factor, x_label = 1.0, density.time_axis.label.replace(" at the dotted lines", "")
    scale, lines = 1.0, []
    if kind.up == "amplitude_edges":
        scale, jansky = prefixed(float(up[-1]), "Jy")
        y_label = f"amplitude, {jansky}"
        known = np.isfinite(density.model_amplitude[1])
        middle = density.model_amplitude[1][known] * scale
        lines = [Series((density.model_uv[known] * factor).tolist(), middle.tolist(), (),
                        "", "s1", "line")] if known.any() else []  # fmt: skip
    elif kind.up == "ratio_edges":
        y_label = "amplitude, data / model"
    else:
        y_label = "phase less model's, deg" if density.relative else "phase, deg"
    x = (float(across[0] * factor), float(across[-1] * factor))
    y = (float(up[0] * scale), float(up[-1] * scale))
    cells = Cells(getattr(density, kind.counts), x, y, most)
    return density_chart(
        cells, lines, title=density.label, x_label=x_label, y_label=y_label,
        alt=f"{kind.what}. {density.label}: {density.count} visibilities.",
        ticks=density.time_axis.ticks() if kind.across == "time_edges_s" else None,
        cuts=density.time_axis.cuts if kind.across == "time_edges_s" else (),
    )  # fmt: skip


def _window_table(windows: Sequence[tuple[str, tuple[WindowRow, ...]]]) -> Markup:
    """Return what the windows say, before and after, a line each; many are folded away."""
    if not windows or not windows[0][1]:
        return Markup("")
    states = [{row.window: row for row in rows} for _, rows in windows]
    words = [", before", ", after"] if len(states) > 1 else [""]
    rows = [
        (
            tag("th", str(first.window), scope="row"),
            cell(f"{first.frequency_hz / 1e9:.5g}"),
            cell(str(first.channels)),
            *(
                _number_of(state.get(first.window), name, scale)
                for name, scale in (
                    ("flagged", 100.0), ("amplitude_ratio", 1.0), ("phase_scatter_deg", 1.0),
                )
                for state in states
            ),
        )
        for first in windows[0][1]
    ]  # fmt: skip
    caption = join([
        "Amplitude: sum of data times conjugated model over the sum of the squared model. "
        "Scatter: 1.4826 times the ", word("MAD"), " of the phase less the model's.",
    ])  # fmt: skip
    measured = [
        f"{name}\n{unit}{when}".replace("\n, ", "\n")
        for name, unit in (("Flagged", "%"), ("Data / model", ""), ("Phase scatter", "deg"))
        for when in words
    ]
    made = table(["Window", "Frequency\nGHz", "Channels", *measured], rows)
    parts = [tag("h3", "Spectral windows"), tag("p", caption, class_="kicker"), made]
    if len(rows) > _FEW_WINDOWS:
        worst = _worst(windows[-1][1])
        return tag("details", tag("summary", f"{len(rows)} spectral windows{worst}"), *parts[1:])
    return join(parts)


def _number_of(row: WindowRow | None, name: str, scale: float) -> Markup:
    value = math.nan if row is None else getattr(row, name) * scale
    return cell(format_number(value, 3) if math.isfinite(value) else MISSING)


def _worst(rows: Sequence[WindowRow]) -> str:
    """Return which window has the largest scatter."""
    known = [row for row in rows if math.isfinite(row.phase_scatter_deg)]
    if not known:
        return ""
    worst = max(known, key=lambda row: row.phase_scatter_deg)
    return (
        f"; the phases of window {worst.window} scatter most, "
        f"{format_number(worst.phase_scatter_deg, 3)} deg"
    )
