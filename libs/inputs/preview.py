"""Contents of input data, read from subtables and headers before anything is copied."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from libs.core.errors import InputError
from libs.inputs.input_data import InputData, copy_size_bytes, reading, selected_rows
from libs.inputs.selected_copy import check_channels
from libs.inputs.uvfits_header import read_uvfits_header
from libs.inputs.uvh5_header import read_header
from libs.ms.rows import row_pieces
from libs.ms.scans import read_visits
from libs.ms.subset import NotUnderstoodError, choose_subset
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from libs.ms.view import read_view

__all__ = ["FieldPreview", "Preview", "WindowPreview", "check_names", "check_selection", "preview"]

_NUMBERS = re.compile(r"(\d+)(?:~(\d+))?")
_PLAIN = re.compile(r"[A-Za-z0-9_+.\-*? ]+")


@dataclass(frozen=True)
class FieldPreview:
    """A field of the data.

    Attributes
    ----------
    number : int
        FIELD_ID.
    name : str
    intents : tuple of str
        Observing modes of its rows; empty where the data carry none.
    scans : int
        Number of visits; 0 where only a header was read.
    seconds : float
        Time on the field, first to last time stamp of each visit plus an integration, s.
    """

    number: int
    name: str
    intents: tuple[str, ...] = ()
    scans: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class WindowPreview:
    """A spectral window: its number, channels, mean frequency (Hz) and width (Hz)."""

    number: int
    channels: int
    mean_hz: float
    width_hz: float


@dataclass(frozen=True)
class Preview:
    """Contents of one input.

    Attributes
    ----------
    vis : str
        As the user wrote it.
    kind : str
        ``ms``, ``uvfits`` or ``uvh5``.
    telescope : str
    antennas : tuple of str
        Names by id.
    fields : tuple of FieldPreview
        Fields with rows; all of a header.
    windows : tuple of WindowPreview
    correlations : tuple of str
    columns : tuple of str
        Data columns of a measurement set.
    integration_s : float
        Median spacing of time stamps within visits, s; 0 where only a header was read.
    visibilities : int
        Number of visibilities, all correlations counted.
    copy_bytes : int
        Estimated size of a working copy of everything.
    without_rows : tuple of str
        Antennas of a measurement set that no row names.
    """

    vis: str
    kind: str
    telescope: str
    antennas: tuple[str, ...]
    fields: tuple[FieldPreview, ...]
    windows: tuple[WindowPreview, ...]
    correlations: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    integration_s: float = 0.0
    visibilities: int = 0
    copy_bytes: int = 0
    without_rows: tuple[str, ...] = ()


def preview(source: InputData) -> Preview:
    """Return the contents of an input.

    Raises
    ------
    InputError
        It cannot be read.
    """
    size = copy_size_bytes(source)
    if source.kind == "uvfits":
        return _of_uvfits(source, size)
    if source.kind == "uvh5":
        return _of_uvh5(source, size)
    with reading(source.vis), read_view(source.path) as view:
        return _of_ms(source, view.path, size)


def _of_ms(source: InputData, path: Path, size: int) -> Preview:
    """Return the contents of a measurement set that may be opened in any way."""
    found = Subtables(path)
    visits = read_visits(path)
    steps = [
        (visit.end_s - visit.begin_s) / (visit.integrations - 1)
        for visit in visits
        if visit.integrations > 1
    ]
    integration = float(np.median(steps)) if steps else 0.0
    intents = _intents(path)
    fields = []
    for number in sorted({visit.field for visit in visits}):
        own = [visit for visit in visits if visit.field == number]
        seconds = sum(visit.end_s - visit.begin_s + integration for visit in own)
        name = found.fields[number].name.strip()
        fields.append(FieldPreview(number, name, intents.get(number, ()), len(own), seconds))
    with open_table(path) as opened:
        columns = tuple(name for name in opened.colnames() if name.endswith("DATA"))
    windows = tuple(
        WindowPreview(i, one.channels, one.mean_hz, float(np.abs(one.width_hz).sum()))
        for i, one in enumerate(found.windows)
    )
    return Preview(
        source.vis, source.kind, found.telescope, found.antenna_names, tuple(fields), windows,
        found.setup_of[0].correlations, columns, integration,
        count_visibilities(path), size, _without_rows(path, found.antenna_names),
    )  # fmt: skip


def _without_rows(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the antennas that no row names."""
    seen: set[int] = set()
    with open_table(path) as opened:
        for low in range(0, opened.nrows(), 1_000_000):
            count = min(1_000_000, opened.nrows() - low)
            for name in ("ANTENNA1", "ANTENNA2"):
                seen.update(np.unique(opened.getcol(name, low, count)).tolist())
    return tuple(name for number, name in enumerate(names) if number not in seen)


def _intents(path: Path) -> dict[int, tuple[str, ...]]:
    """Return the observing modes of each field."""
    states = Subtables(path).states
    found: dict[int, set[str]] = {}
    if not states:
        return {}
    with open_table(path) as opened:
        for low in range(0, opened.nrows(), 1_000_000):
            count = min(1_000_000, opened.nrows() - low)
            pairs = np.stack([opened.getcol(n, low, count) for n in ("FIELD_ID", "STATE_ID")])
            for number, state in np.unique(pairs, axis=1).T:
                if 0 <= state < len(states):
                    words = states[state].intents.split(",")
                    found.setdefault(int(number), set()).update(w.split("#")[0] for w in words)
    return {number: tuple(sorted(modes - {""})) for number, modes in found.items()}


def count_visibilities(path: Path, field: str = "", spw: str = "") -> int:
    """Return the number of visibilities of a selection, all correlations counted."""
    total = 0
    with open_table(path) as opened:
        column = "DATA" if "DATA" in opened.colnames() else "CORRECTED_DATA"
        for _, rows in row_pieces(opened, (column,), where=selected_rows(path, field, spw)):
            total += len(rows) * int(np.size(opened.getcell(column, int(rows[0]))))
    return total


def _of_uvfits(source: InputData, size: int) -> Preview:
    header = read_uvfits_header(source.path)
    named = zip(header.sources.name, header.sources.present, strict=True)
    fields = tuple(FieldPreview(i, name) for i, (name, here) in enumerate(named) if here)
    windows = tuple(
        WindowPreview(i, len(hz), float(hz.mean()), float(width.sum()))
        for i, (hz, width) in enumerate(
            zip(header.windows.frequency_hz, header.windows.width_hz, strict=True)
        )
    )
    return Preview(
        source.vis, source.kind, header.telescope, tuple(header.antennas.name), fields, windows,
        visibilities=header.groups * int(np.prod(header.shape[:3])), copy_bytes=size,
    )  # fmt: skip


def _of_uvh5(source: InputData, size: int) -> Preview:
    headers = [read_header(path) for path in source.parts]
    names = dict.fromkeys(name for header in headers for _, name, _ in header.antennas)
    windows = tuple(
        WindowPreview(i, len(one.frequency_hz), float(one.frequency_hz.mean()),
                      float(np.ptp(one.frequency_hz)))
        for i, one in enumerate(headers)
    )  # fmt: skip
    return Preview(
        source.vis, source.kind, headers[0].telescope, tuple(names), (), windows,
        visibilities=sum(header.visibilities for header in headers), copy_bytes=size,
    )  # fmt: skip


# -- selections -----------------------------------------------------------------------------------


def check_selection(source: InputData, field: str, spw: str) -> int | None:
    """Check that a selection holds data of a measurement set, as far as it is understood.

    Returns
    -------
    int or None
        Number of visibilities selected; None where the selection is left to CASA.

    Raises
    ------
    InputError
        It names a field, window or channel that is not there, or no rows belong to it.
    """
    with reading(source.vis), read_view(source.path) as view:
        check_channels(view.path, spw)
        tables = Subtables(view.path)
        names = [one.name.strip() for one in tables.fields]
        codes = [one.code for one in tables.fields if one.code]
        _check_fields(source.vis, names, codes, field)
        _check_windows(source.vis, len(tables.windows), spw)
        try:
            choose_subset(view.path, field=field, spw=spw)
        except NotUnderstoodError:
            return None
        count = count_visibilities(view.path, field, spw)
    if not count:
        raise InputError(
            f"{source.vis} has no rows of field {field!r}, spw {spw!r}", "correct field or spw"
        )
    return count


def check_names(content: Preview, field: str, spw: str) -> None:
    """Check that fields and windows that a selection names are in a header.

    Raises
    ------
    InputError
        One is not.
    """
    if content.fields:  # the fields of uvh5 files are known when they are read
        names = [""] * (1 + max(one.number for one in content.fields))
        for one in content.fields:
            names[one.number] = one.name
        _check_fields(content.vis, names, (), field)
    _check_windows(content.vis, len(content.windows), spw)


def _check_fields(vis: str, names: Sequence[str], codes: Sequence[str], field: str) -> None:
    """Refuse ids and names of fields that are certainly not there."""
    for word in filter(None, (part.strip() for part in field.split(","))):
        numbers = _NUMBERS.fullmatch(word)
        if numbers:
            here = int(numbers[2] or numbers[1]) < len(names) or word in names
        elif _PLAIN.fullmatch(word):
            text = re.escape(word).replace(r"\*", ".*").replace(r"\?", ".")
            pattern = re.compile(text, re.IGNORECASE)
            here = any(pattern.fullmatch(name) for name in (*names, *codes))
        else:
            continue  # an expression, which CASA reads
        if not here:
            known = ", ".join(f"{i} {name}" for i, name in enumerate(names[:20]) if name)
            raise InputError(f"{vis} has no field {word}", f"its fields are {known}")


def _check_windows(vis: str, count: int, spw: str) -> None:
    """Refuse numbers of windows that are not there."""
    for part in filter(None, (part.strip() for part in spw.split(","))):
        numbers = _NUMBERS.fullmatch(part.split(":")[0])
        if numbers and int(numbers[2] or numbers[1]) >= count:
            raise InputError(
                f"{vis} has no spectral window {part.split(':')[0]}",
                f"its windows are 0 to {count - 1}",
            )
