"""What every source of a layer needs to know of the field's data, found once and kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from libs.core.files import write_atomically
from libs.ms.summary import MsSummary, summarise
from libs.ms.time_survey import TimeSurvey, read_survey, survey_times, write_survey

__all__ = ["KnownData", "data_identity", "know_data"]

FOLDER = "surveys"


@dataclass(frozen=True)
class KnownData:
    """Properties of unaveraged data.

    Attributes
    ----------
    longest_baseline_m : float
        Longest unflagged baseline.
    max_frequency_hz : float
        Highest channel.
    survey : TimeSurvey
        Its time stamps and their rows.
    """

    longest_baseline_m: float
    max_frequency_hz: float
    survey: TimeSurvey


def know_data(ms: Path, folder: Path | None, summary: MsSummary | None = None) -> KnownData:
    """Return the properties of data, read from a folder where they were kept before.

    Parameters
    ----------
    ms : Path
    folder : Path or None
        Where they are kept for other sources and processes; None: nowhere.
    summary : MsSummary, optional
        That of ``ms``, where it is known.

    Raises
    ------
    InputError
        No measurement set.
    """
    kept = None
    if folder is not None:
        key = hashlib.sha256(data_identity([ms], None).encode()).hexdigest()[:16]
        kept = folder / f"{ms.name}.{key}.json"
        if kept.exists():
            return KnownData(**json.loads(kept.read_text()), survey=read_survey(_stamps(kept)))
    summary = summary or summarise(ms)
    found = KnownData(summary.longest_baseline_m, summary.max_frequency_hz, survey_times(ms))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_survey(_stamps(kept), found.survey)
        values = ("longest_baseline_m", "max_frequency_hz")
        # last: what is there is whole
        write_atomically(kept, json.dumps({name: getattr(found, name) for name in values}))
    return found


def _stamps(kept: Path) -> Path:
    return kept.with_suffix(".npz")


def data_identity(vis: list[Path], table: Path | None) -> str:
    """Return what tells data and a table from others: times and sizes, or contents."""
    digest = hashlib.sha256()
    for ms in vis:
        for entry in sorted(ms.iterdir()):
            if entry.name.startswith("table.") and entry.name != "table.lock":
                stat = entry.stat()
                digest.update(f"{ms} {entry.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    if table is not None:
        with table.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
