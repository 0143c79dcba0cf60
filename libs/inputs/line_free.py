"""Flagging of channels that are not continuum: by a file of ranges, or as they stand out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.doppler import topocentric_factor
from libs.core.errors import InputError
from libs.inputs.cont_dat import ContFile, FrequencyRange, WindowRanges, merged
from libs.inputs.line_finding import find_lines
from libs.ms.field_directions import j2000_directions
from libs.ms.rows import chunks, distinct, put_rows
from libs.ms.subtables import Subtables, Window
from libs.ms.tables import open_table
from libs.ms.virtual_windows import window_text

__all__ = ["LineFlags", "channels_within", "flag_by_file", "flag_found"]

Mask = NDArray[np.bool_]


@dataclass
class LineFlags:
    """What was flagged as no continuum.

    Attributes
    ----------
    lines : list of str
        What was done, one line for each window.
    warnings : list of str
        Windows that are taken whole though the file should say more, or are flagged whole.
    """

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def flag_by_file(ms: Path, ranges: ContFile, numbers: Sequence[int]) -> LineFlags:
    """Flag the channels of a copy that are not wholly within the continuum ranges, in place.

    LSRK ranges are converted to the frame of the data at the middle of the field's time.

    Parameters
    ----------
    ms : Path
        Working copy of one field.
    ranges : ContFile
    numbers : sequence of int
        Virtual number of each window of the copy.

    Raises
    ------
    InputError
        The frequencies of a window are in a frame other than TOPO and LSRK.
    """
    found, done = Subtables(ms), LineFlags()
    with open_table(ms) as opened:
        number = int(distinct(opened, "FIELD_ID")[0])
        times = distinct(opened, "TIME")
    name = found.fields[number].name.strip()
    factor = float(
        topocentric_factor(
            found.position_m.mean(axis=0), j2000_directions(ms)[number],
            np.array([0.5 * (times[0] + times[-1])]),
        )[0]
    )  # fmt: skip
    if name not in ranges.fields:
        done.warnings.append(f"{ranges.path.name} has no field {name}: all channels are continuum")
        return done
    keep: dict[int, Mask] = {}
    for place, (window, virtual) in enumerate(zip(found.windows, numbers, strict=True)):
        own = ranges.window(name, virtual, window.name)
        why = _nothing_said(own)
        if own is None or why:
            done.warnings.append(
                f"{ranges.path.name} {why} for window {virtual} of {name}: it is taken whole"
            )
        elif not own.whole:
            keep[place] = channels_within(window, own.ranges, factor)
            done.lines.append(_said(virtual, keep[place], own))
            if not keep[place].any():
                done.warnings.append(
                    f"no channel of window {virtual} of {name} is within the ranges at {own.place}:"
                    " it is flagged"
                )
    _flag(ms, {place: ~mask for place, mask in keep.items()})
    return done


def _nothing_said(own: WindowRanges | None) -> str:
    if own is None:
        return "says nothing"
    if own.nothing and not own.ranges and not own.whole:
        return "says NONE"
    return "" if own.ranges or own.whole else "has no range"


def _said(virtual: int, kept: Mask, own: WindowRanges) -> str:
    flags = f" ({', '.join(own.flags)})" if own.flags else ""
    return (
        f"window {virtual}: {int(kept.sum())} of {len(kept)} channels are continuum"
        f" ({window_text(np.flatnonzero(kept)) or 'none'}){flags}"
    )


def channels_within(window: Window, ranges: Sequence[FrequencyRange], factor: float) -> Mask:
    """Return which channels lie wholly within ranges, (nchan,).

    Parameters
    ----------
    window : Window
    ranges : sequence of FrequencyRange
    factor : float
        TOPO over LSRK frequency, as `libs.core.doppler.topocentric_factor` gives it.

    Raises
    ------
    InputError
        The window is in a frame other than TOPO and LSRK.
    """
    if window.frame not in ("TOPO", "LSRK"):
        raise InputError(
            f"the channels of window {window.name} are in the frame {window.frame}",
            "use data in TOPO or LSRK, or leave contfile out",
        )
    scale = {
        "TOPO": 1.0 if window.frame == "TOPO" else 1.0 / factor,
        "LSRK": 1.0 if window.frame == "LSRK" else factor,
    }
    spans = merged([(r.low_hz * scale[r.frame], r.high_hz * scale[r.frame]) for r in ranges])
    half = 0.5 * np.abs(window.width_hz)
    # a range that ends at a channel's edge holds it, whatever the last digit
    slack = 1e-3 * half
    low, high = window.frequency_hz - half + slack, window.frequency_hz + half - slack
    inside = np.zeros(window.channels, bool)
    for first, last in spans:
        inside |= (low >= first) & (high <= last)
    return inside


def flag_found(ms: Path, numbers: Sequence[int]) -> LineFlags:
    """Flag the channels of a working copy that stand out of the continuum, in place.

    Parameters
    ----------
    ms : Path
        Working copy of one field.
    numbers : sequence of int
        Virtual number of each window of the copy.
    """
    done = LineFlags()
    lines = find_lines(ms)
    for place, virtual in enumerate(numbers):
        mask = lines.get(place)
        if mask is None:
            done.lines.append(f"window {virtual}: too few channels to look for lines")
        elif mask.any():
            text = window_text(np.flatnonzero(mask))
            done.lines.append(f"window {virtual}: lines in channels {text} are flagged")
            if mask.mean() > 0.5:
                done.warnings.append(f"more than half of window {virtual} is flagged as lines")
    _flag(ms, lines)
    return done


def _flag(ms: Path, masks: Mapping[int, Mask]) -> None:
    """Flag channels of windows, in place."""
    wanted = {place for place, mask in masks.items() if mask.any()}
    if not wanted:
        return
    for chunk in chunks(ms, ("FLAG",)):
        if chunk.spw in wanted:
            flag = chunk["FLAG"] | masks[chunk.spw][None, :, None]
            put_rows(ms, chunk.rows, {"FLAG": flag})
