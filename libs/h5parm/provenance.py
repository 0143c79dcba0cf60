"""Origin of each station's solutions in each direction, stored inside the h5parm."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from libs.h5parm.reader import open_h5, solset_name
from libs.h5parm.solset import Solset

__all__ = [
    "DATASET",
    "LEAST_COHERENCE",
    "Entry",
    "as_rows",
    "digests",
    "entries_from",
    "entries_of",
    "read_entries",
    "rows_of",
    "stamped",
    "timestamp",
]

DATASET = "provenance"
LEAST_COHERENCE = 0.5


@dataclass(frozen=True)
class Entry:
    """The origin of one station's solutions in one direction.

    Attributes
    ----------
    direction, station : str
        Key of the entry.
    source : str
        Source on whose visibilities the solutions were solved.
    run : str
        Run that made them (its work directory or file).
    refined_from : str
        Earlier direction whose solutions were applied before, or empty.
    coherence : float
        Coherence of the solutions, 0 to 1; NaN when it was not measured.
    date : str
        Date of the solutions, UTC, ISO 8601.
    input : str
        File from which they were read, or that was refined.
    digest : str
        SHA-256 of the solutions as first written.
    content : str
        SHA-256 of the solutions as this file holds them (perhaps on another grid).
    """

    direction: str
    station: str
    source: str = ""
    run: str = ""
    refined_from: str = ""
    coherence: float = float("nan")
    date: str = ""
    input: str = ""
    digest: str = ""
    content: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Direction and station."""
        return self.direction, self.station

    @property
    def usable(self) -> bool:
        """False where the coherence was measured and is below ``LEAST_COHERENCE``."""
        return not self.coherence < LEAST_COHERENCE


def timestamp(seconds: float | None = None) -> str:
    """Return a time (Unix seconds; now when None) as UTC, to the millisecond."""
    zone = datetime.UTC
    when = (
        datetime.datetime.now(zone)
        if seconds is None
        else datetime.datetime.fromtimestamp(seconds, zone)
    )
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digests(solset: Solset) -> list[list[str]]:
    """Return the SHA-256 of each station's solutions in each direction.

    Weights enter as the file holds them (float32), so that writing and reading change nothing.

    Returns
    -------
    list of lists of str
        Digests by antenna and direction.
    """
    axes = [np.ascontiguousarray(a, dtype="<f8") for a in (solset.time_s, solset.frequency_hz)]
    result = []
    for i in range(len(solset.antenna)):
        # One antenna at a time with its directions first, so that each is one piece of memory.
        weight, phase, amplitude = (
            np.ascontiguousarray(np.moveaxis(array[:, :, i], 2, 0))
            for array in (solset.weight, solset.phase_rad, solset.amplitude)
        )
        row = []
        for j, place in enumerate(solset.direction_rad):
            good = weight[j] > 0
            hasher = hashlib.sha256()
            for array in (
                *axes,
                np.ascontiguousarray(place, dtype="<f8"),
                np.where(good, phase[j], 0.0),
                np.where(good, amplitude[j], 0.0),
                np.minimum(weight[j], 1e30).astype("<f4"),
            ):
                hasher.update(array.data)
            if solset.tec_tecu is not None:
                hasher.update(np.ascontiguousarray(solset.tec_tecu[:, i, j]).data)
            row.append(hasher.hexdigest())
        result.append(row)
    return result


def rows_of(solset: Solset, entries: Sequence[Entry], *, made_here: bool) -> NDArray[Any]:
    """Return the provenance table of a file that will hold ``solset``.

    Parameters
    ----------
    solset : Solset
        Solutions as they will be written (`libs.h5parm.writer.as_written`).
    entries : sequence of Entry
        Entries; those without solutions in ``solset`` are left out.
    made_here : bool
        True for new solutions, False for copies of those that the entries describe.

    Returns
    -------
    structured array
        Rows sorted by direction and station.
    """
    return as_rows(stamped(solset, entries, made_here=made_here))


def stamped(solset: Solset, entries: Sequence[Entry], *, made_here: bool) -> list[Entry]:
    """Return the entries that have solutions in ``solset``, sorted, with their digests.

    The parameters are those of `rows_of`.
    """
    good, hashes = solset.good_fraction, digests(solset)
    ordered = []
    for entry in sorted(entries, key=lambda entry: entry.key):
        if entry.direction not in solset.direction or entry.station not in solset.antenna:
            continue
        j, i = solset.direction.index(entry.direction), solset.antenna.index(entry.station)
        if good[i, j]:
            content = hashes[i][j]
            origin = content if made_here else entry.digest
            ordered.append(replace(entry, content=content, digest=origin))
    return ordered


def as_rows(ordered: Sequence[Entry]) -> NDArray[Any]:
    """Return entries as the structured array that a file holds."""
    columns: dict[str, NDArray[Any]] = {}
    for field in fields(Entry):
        values = [getattr(entry, field.name) for entry in ordered]
        if field.name == "coherence":
            columns[field.name] = np.array(values, dtype="<f8")
        else:
            texts = [str(value).encode() for value in values]
            width = max([16, *(len(text) + 1 for text in texts)])
            columns[field.name] = np.array(texts, dtype=f"S{width}")
    rows = np.zeros(len(ordered), dtype=[(name, col.dtype) for name, col in columns.items()])
    for name, column in columns.items():
        rows[name] = column
    return rows


def entries_from(rows: NDArray[Any]) -> list[Entry]:
    """Return the entries of a provenance table."""
    known = [field.name for field in fields(Entry)]
    return [
        Entry(**{name: _value(row[name]) for name in known if name in row.dtype.names})
        for row in rows
    ]


def read_entries(path: Path) -> list[Entry]:
    """Return the provenance in a file; an empty list when it has none."""
    with open_h5(path) as file:
        node = file[solset_name(file, path)].get(DATASET)
        return entries_from(node[()]) if isinstance(node, h5py.Dataset) else []


def entries_of(
    path: Path, solset: Solset, known: Mapping[tuple[str, str], Entry] | None = None
) -> dict[tuple[str, str], Entry]:
    """Return an entry for each station and direction that has solutions.

    The provenance in the file is used. A file without it (or whose solutions another program
    changed) is its own origin, dated by its modification time.

    Parameters
    ----------
    path : Path
        File from which ``solset`` was read.
    solset : Solset
        All of its directions, or some.
    known : mapping, optional
        Entries that `read_entries` returned for this file, by (direction, station), if known.
    """
    if known is None:
        known = {entry.key: entry for entry in read_entries(path)}
    changed_at = timestamp(path.stat().st_mtime)
    result = {}
    good, hashes = solset.good_fraction, digests(solset)
    for j, direction in enumerate(solset.direction):
        for i, station in enumerate(solset.antenna):
            if not good[i, j]:
                continue
            key = (direction, station)
            entry = known.get(key, Entry(direction, station, source=direction, run=path.name))
            content = hashes[i][j]
            if entry.content != content:
                entry = replace(entry, date=changed_at, digest=content, content=content)
            result[key] = entry if entry.input else replace(entry, input=str(path))
    return result


def _value(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else float(value)
