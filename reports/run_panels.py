"""Images of a run as panels of its figures: one of each step, and those compared."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.errors import SelfcalError
from reports.image_figures import (
    Panel,
)
from reports.image_view import View, read_frame
from reports.records import Run, StepRow, as_number
from reports.style import format_number, format_quantity

__all__ = ["UNTOUCHED", "comparable_steps", "compared_panels", "step_panel"]

UNTOUCHED = "Untouched data"

logger = logging.getLogger(__name__)


def _caption(values: Mapping[str, float]) -> str:
    parts = []
    if math.isfinite(peak := values.get("peak_jy_beam", math.nan)):
        parts.append(f"peak {format_quantity(peak, 'Jy/beam')}")
    if math.isfinite(rms := values.get("rms_jy_beam", math.nan)):
        parts.append(f"rms {format_quantity(rms, 'Jy/beam')}")
    if math.isfinite(ratio := values.get("dynamic_range", math.nan)):
        parts.append(f"DR {format_number(ratio)}")
    return ", ".join(parts)


def step_panel(run: Run, row: StepRow) -> Panel | None:
    """Return the panel of the image a step recorded; None when there is none."""
    image = run.file(row.products.get("image"))
    if image is None:
        return None
    ratio = run.statistic(row, "dynamic_range")
    caption = f"DR {format_number(ratio)}" if math.isfinite(ratio) else ""
    return Panel(
        row.step, image, run.file(row.products.get("residual")),
        run.file(row.products.get("mask")), caption, row.status,
    )  # fmt: skip


def comparable_steps(run: Run) -> list[StepRow]:
    """Return the steps with statistics whose images share the grid of the last one.

    A wide view of the field with its own pixel size is not part of the history of a source.
    """
    steps = [row for row in run.imaged() if row.status in ("done", "rejected")]
    views: dict[str, View] = {}
    for row in steps:
        image = run.file(row.products.get("image"))
        if image is not None:
            try:
                views[row.step] = read_frame(image)
            except SelfcalError:
                logger.warning("image of %s not read", row.step, exc_info=True)
    if not views:
        return steps
    last = next(reversed(views.values()))
    return [row for row in steps if row.step not in views or _on_grid(views[row.step], last)]


def _on_grid(view: View, other: View) -> bool:
    """Whether two images have the same pixels; a wide view may be as wide with fewer of them."""
    same = view.pixels == other.pixels
    return same and bool(np.allclose(view.extent_arcsec, other.extent_arcsec, rtol=0.02))


def compared_panels(run: Run, panels: Sequence[Panel]) -> list[Panel]:
    """Return the first, last and any untouched image: as in the summary, else as found."""
    by_path = {panel.image.resolve(): panel for panel in panels}
    chosen: list[Panel] = []
    for key, label in (("initial", "Initial"), ("final", "Final"), ("untouched", UNTOUCHED)):
        state: Mapping[str, Any] = run.summary.get(key) or {}
        image = run.file(str(state.get("image") or ""))
        if image is None:
            continue
        known = by_path.get(image.resolve())
        caption = _caption({name: as_number(value) for name, value in state.items()})
        residual = known.residual if known else _sibling(image, "residual")
        mask = known.mask if known else _sibling(image, "mask")
        chosen.append(Panel(label, image, residual, mask, caption))
    if chosen or not panels:
        return chosen
    kept = [panel for panel in panels if panel.status == "done"] or list(panels)
    ends = [kept[0], kept[-1]] if len(kept) > 1 else kept
    return [Panel(p.label, p.image, p.residual, p.mask, p.caption, p.status) for p in ends]


def _sibling(image: Path, word: str) -> Path | None:
    """Return the residual or mask beside an image that no step recorded."""
    if "image" not in image.name:
        return None
    head, _, tail = image.name.rpartition("image")
    path = image.with_name(f"{head}{word}{tail}")
    return path if path.is_file() else None
