"""What a measurement set is for a record: antennas, windows and fields by name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from libs.core.errors import InputError
from libs.ms.rows import distinct, stretches
from libs.ms.subtables import Field, Subtables, Window
from libs.ms.tables import open_table
from libs.record.matching import SetFacts
from libs.record.schema import AntennaEntry, ExecutionEntry, FieldEntry, WindowEntry

__all__ = ["copied_windows", "describe_execution", "field_entry", "set_facts"]


def describe_execution(ms: str | Path, name: str) -> ExecutionEntry:
    """Describe a measurement set, or a view of one, as a record does.

    Parameters
    ----------
    ms : path
    name : str
        Name of the execution.

    Raises
    ------
    InputError
        It is no measurement set, or has no rows.
    """
    tables = Subtables(ms)
    with open_table(ms) as opened:
        if not opened.nrows():
            raise InputError(f"{ms} has no rows", "name a measurement set with data")
        spans = []
        for low, count in stretches(opened.nrows()):
            times = opened.getcol("TIME", low, count)
            spans.append((float(times.min()), float(times.max())))
    return ExecutionEntry(
        name=name,
        telescope=tables.telescope,
        begin_mjd_s=min(low for low, _ in spans),
        end_mjd_s=max(high for _, high in spans),
        antennas=tuple(
            AntennaEntry(each.name, each.station, tuple(float(x) for x in each.position_m))
            for each in tables.antennas
        ),
        windows=_window_entries(tables.windows),
        fields=tuple(field_entry(each) for each in tables.fields),
    )


def set_facts(ms: Path) -> SetFacts:
    """Return what a measurement set holds, to be matched with a record.

    Raises
    ------
    InputError
        It is no measurement set, or has no rows.
    """
    execution = describe_execution(ms, ms.name)
    with open_table(ms) as opened:
        used = frozenset(int(number) for number in distinct(opened, "FIELD_ID"))
    return SetFacts(ms, execution, used)


def field_entry(field: Field) -> FieldEntry:
    """Return a field as a record says it."""
    ra, dec = (math.degrees(angle) for angle in field.direction_rad)
    return FieldEntry(field.name, ra % 360.0, dec, field.frame)


def _window_entries(windows: Sequence[Window]) -> tuple[WindowEntry, ...]:
    """Return windows with labels of which no two are alike: the name, else the frequency."""
    names = Counter(window.name for window in windows)
    taken: set[str] = set()
    found = []
    for window in windows:
        label = window.name
        if not label or names[label] > 1:
            label = f"{label} {window.mean_hz / 1e9:.6f} GHz".strip()
        plain, number = label, 2
        while label in taken:
            label, number = f"{plain} #{number}", number + 1
        taken.add(label)
        width_hz = float(np.abs(window.width_hz).sum())
        found.append(WindowEntry(label, window.name, window.mean_hz, width_hz, window.channels))
    return tuple(found)


def copied_windows(copy: Sequence[Window], original: Sequence[WindowEntry]) -> tuple[str, ...]:
    """Return for each window of a working copy the label of the original's that it came from.

    A copy has some of the windows and of their channels, which may be averaged. Windows are told
    by their names where these are unique, else by their frequencies; windows of the same
    frequencies keep their order.

    Raises
    ------
    InputError
        A window of the copy is in none of the original's, or could be in several.
    """
    labels = {each.name: each.label for each in original}
    counted = Counter(each.name for each in original)
    holding = [tuple(each.label for each in original if _holds(each, window)) for window in copy]
    found = []
    for place, window in enumerate(copy):
        if window.name and counted[window.name] == 1:
            found.append(labels[window.name])
            continue
        candidates = holding[place]
        alike = [other for other, each in enumerate(holding) if each == candidates]
        if len(candidates) != len(alike):
            what = "is in none of" if not candidates else "could be one of several of"
            raise InputError(
                f"the spectral window {place} of the working copy, at {window.mean_hz / 1e9:.6f}"
                f" GHz, {what} the original's",
                "run it again from the original data",
            )
        found.append(candidates[alike.index(place)])
    return tuple(found)


def _holds(entry: WindowEntry, window: Window) -> bool:
    """Tell whether a window lies within the band of another, but for half a channel."""
    half_hz = 0.5 * float(np.abs(window.width_hz).sum())
    slack_hz = 0.5 * entry.bandwidth_hz / entry.channels
    offset_hz = abs(window.mean_hz - entry.centre_hz)
    return offset_hz + half_hz <= 0.5 * entry.bandwidth_hz + slack_hz
