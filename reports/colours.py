"""Colour maps as a few colours between which pages and their scripts interpolate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOUR_MAPS", "coloured"]

# from dark to bright (inferno), about zero (blue, white, red), round the circle (twilight), and
# from good to bad (flags); each evenly spaced
COLOUR_MAPS: dict[str, tuple[str, ...]] = {
    "brightness": ("#000004", "#160b39", "#420a68", "#6a176e", "#932667", "#bc3754", "#dd513a",
                   "#f37819", "#fca50a", "#f6d746", "#fcffa4"),
    "difference": ("#053061", "#2a71b2", "#6bacd1", "#c2ddec", "#f7f7f7", "#fbd0b9", "#e58368",
                   "#b82531", "#67001f"),
    "circle": ("#e2d9e2", "#9ebbc9", "#6785be", "#5e43a5", "#421257", "#471340", "#8e2c50",
               "#ba6657", "#ceac94", "#e2d9e2"),
    "flags": ("#eef2f5", "#f6c9a0", "#e8853f", "#b34700", "#5c1f00"),
}  # fmt: skip


def coloured(values: NDArray[np.floating], name: str) -> NDArray[np.uint8]:
    """Return the colours of values from 0 to 1, (..., 3); NaN is grey."""
    stops = np.array(
        [[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in COLOUR_MAPS[name]], float
    )
    place = np.clip(np.nan_to_num(values), 0, 1) * (len(stops) - 1)
    low = np.minimum(place.astype(int), len(stops) - 2)
    part = (place - low)[..., None]
    found = stops[low] * (1 - part) + stops[low + 1] * part
    found[~np.isfinite(values)] = 200
    return np.asarray(np.rint(found), np.uint8)
