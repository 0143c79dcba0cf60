"""The user's own mask (config key ``mask``) on the grids of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from libs.imaging.interface import write_image
from libs.imaging.masks import mask_header
from libs.imaging.user_mask import DrawnMask, draw_mask
from steps.context import Context

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["MASK_SETTING", "describe_mask", "user_mask", "write_user_mask"]

MASK_SETTING = "mask"
_LEAST_OUTSIDE = 0.001


def user_mask(context: Context, header: fits.Header) -> DrawnMask | None:
    """Return the user's mask on the grid of an image; None where the config names none."""
    name = context.settings[MASK_SETTING]
    return draw_mask(Path(name).expanduser(), header) if name else None


def write_user_mask(context: Context, header: fits.Header, path: Path) -> tuple[Path, str] | None:
    """Write the user's mask on the grid of an image; return the file and what it is."""
    drawn = user_mask(context, header)
    if drawn is None:
        return None
    return write_image(drawn.inside, mask_header(header), path), _said(context, drawn)


def _said(context: Context, drawn: DrawnMask) -> str:
    name = Path(context.settings[MASK_SETTING]).name
    pixels = int(np.count_nonzero(drawn.inside))
    return f"mask {name} ({drawn.kind}, {pixels} pixels)"


def describe_mask(context: Context, header: fits.Header) -> tuple[str, dict[str, Any]]:
    """Return a clause for a step's reason, and metrics with a warning where it is cut off."""
    drawn = user_mask(context, header)
    if drawn is None:
        return "", {}
    text = f"; CLEAN and models are within the {_said(context, drawn)}"
    metrics: dict[str, Any] = {"mask": str(context.settings[MASK_SETTING])}
    if drawn.outside_fraction > _LEAST_OUTSIDE:
        cut = f"{drawn.outside_fraction:.1%} of the mask lies outside the image: enlarge imsize"
        metrics["warning"] = cut
        text += f"; WARNING: {cut}"
    return text, metrics
