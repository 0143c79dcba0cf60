"""Amplitude and phase against baseline length, before and after, as densities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from reports.style import MUTED, PALETTE, new_figure, prefixed, styled
from reports.visibility_data import VisibilityDensity

__all__ = ["visibility_figure"]

# not from white, so that single points remain visible
DENSITY_MAP = LinearSegmentedColormap.from_list(
    "density", ["#cfe1f2", "#93c4de", "#4a98c9", "#1764ab", "#08306b"]
)


@styled
def visibility_figure(densities: Sequence[VisibilityDensity], title: str = "") -> Figure | None:
    """Draw amplitude (top) and phase (bottom) against uv distance, one column for each source.

    Phases are those of data over model where there is one: those of a source away from the phase
    centre turn with the baseline and say nothing.

    Parameters
    ----------
    densities : sequence of VisibilityDensity
        Densities from `visibility_data.visibility_density`; all share axes and colour scale.
    title : str
        Heading of the figure.

    Returns
    -------
    Figure or None
        Figure; None when there is nothing to draw.
    """
    if not densities:
        return None
    # placed by hand, because fitting the axes takes longer than drawing them
    width, height = 5.1 * len(densities) + 0.8, 5.6
    figure = new_figure(width, height, placed=True)
    axes = figure.subplots(
        2, len(densities), sharex=True, sharey="row", squeeze=False,
        gridspec_kw={
            "left": 0.68 / width, "right": 1 - 1.05 / width, "top": 1 - 0.55 / height,
            "bottom": 0.45 / height, "hspace": 0.06, "wspace": 0.05,
        },
    )  # fmt: skip
    uv_factor, uv_unit = prefixed(float(densities[0].uv_edges[-1]), "λ")
    factor, unit = prefixed(float(densities[0].amplitude_edges[-1]), "Jy")
    most = max(max(d.amplitude.max(), d.phase.max()) for d in densities)
    norm = LogNorm(1, max(float(most), 2.0))
    for column, density in enumerate(densities):
        top, bottom = axes[:, column]
        uv = density.uv_edges * uv_factor
        for panel, counts, edges in (
            (top, density.amplitude, density.amplitude_edges * factor),
            (bottom, density.phase, density.phase_edges_deg),
        ):
            shown = np.ma.masked_equal(counts.T, 0)
            mesh = panel.pcolormesh(uv, edges, shown, norm=norm, cmap=DENSITY_MAP, rasterized=True)
        centres = density.model_uv * uv_factor
        _draw_model(top, centres, density.model_amplitude * factor)
        top.set_title(density.label)
        bottom.set_xlabel(f"uv distance ({uv_unit})")
        bottom.axhline(0, color=MUTED, lw=0.5)
    axes[0, 0].set_ylabel(f"Amplitude ({unit})")
    relative = all(density.relative for density in densities)
    axes[1, 0].set_ylabel("Phase less the model's (deg)" if relative else "Phase (deg)")
    axes[1, 0].set(ylim=(-180, 180), yticks=np.arange(-180, 181, 90))
    axes[0, 0].set(xlim=(0, densities[0].uv_edges[-1] * uv_factor), ylim=(0, None))
    bar = figure.add_axes((1 - 0.93 / width, 0.45 / height, 0.13 / width, 1 - 1.0 / height))
    figure.colorbar(mesh, cax=bar, label="Visibilities per cell")
    if any(np.isfinite(density.model_amplitude).any() for density in densities):
        figure.legend(handles=[_model_handle()], loc="upper right", bbox_to_anchor=(1.0, 1.0))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=MUTED)
    return figure


def _draw_model(axes: Axes, centres: NDArray[np.float64], percentiles: NDArray[np.float64]) -> None:
    if not np.isfinite(percentiles).any():
        return
    colour = PALETTE[1]
    axes.fill_between(centres, percentiles[0], percentiles[2], color=colour, alpha=0.22, lw=0)
    axes.plot(centres, percentiles[1], color=colour, lw=1.4)


def _model_handle() -> Line2D:
    return Line2D([], [], color=PALETTE[1], lw=1.6, label="model: median, 16 to 84 %")
