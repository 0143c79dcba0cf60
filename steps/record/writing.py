"""Writing solutions to data that are the user's: flags saved first, and a kill can be undone."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from libs.core.files import fsync_tree
from libs.gains.apply import apply_tables
from libs.gains.solver import AppliedTable
from libs.ms import flag_versions
from libs.ms.columns import ensure_data_column
from libs.ms.history import append_history
from libs.ms.selection import RowChoice
from libs.ms.subtables import Subtables
from libs.ms.tables import column_names
from libs.ms.tiled_headers import guarded
from selfcal import __version__

__all__ = [
    "VERSION",
    "Application",
    "apply_planned",
    "comment_of",
    "data_descriptions",
    "note_written",
    "prepare_columns",
]

VERSION = "before_selfcal_apply"
"""Flag version with the flags from before the first application."""


@dataclass(frozen=True)
class Application:
    """A data set to write, the rows, the tables in order of application and whose they are.

    Attributes
    ----------
    title : str
        Run or target whose solutions they are.
    ms : Path
    rows : RowChoice
    tables : list of AppliedTable
        None: CORRECTED_DATA of the rows becomes DATA, so that nothing of an earlier run is left.
    """

    title: str
    ms: Path
    rows: RowChoice
    tables: list[AppliedTable]


def comment_of(title: str) -> str:
    """Return the comment of the flag version that is saved before some solutions."""
    return f"before the solutions of {title}"


def data_descriptions(ms: Path, windows: Collection[int], count: int) -> frozenset[int] | None:
    """Return the data descriptions of windows; None where these are all there are."""
    if len(set(windows)) == count:
        return None
    found = enumerate(Subtables(ms).descriptions)
    return frozenset(i for i, each in found if each.spw in windows)


def apply_planned(work: Application) -> str:
    """Apply, safe against being killed; return a line that says what was done."""
    with guarded(work.ms):
        return _apply_within(work)


def _apply_within(work: Application) -> str:
    prepare_columns(work.ms, work.rows, comment_of(work.title))
    result = apply_tables(work.ms, work.tables, rows=work.rows)
    names = ", ".join(table.path.name for table in work.tables)
    if not names:
        said = f"no solutions of {work.title} for {_fields_said(work)}, DATA taken as they are"
        note_written(work.ms, said)
        return f"{work.ms}: {said}: CORRECTED_DATA is DATA, with the flags of {VERSION}"
    note_written(work.ms, f"gains of {work.title} ({names}) applied to {_fields_said(work)}")
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        f"{work.ms}: {len(work.tables)} table(s) applied to CORRECTED_DATA of"
        f" {_fields_said(work)}, flags {result.flagged_before:.1%} ->"
        f" {result.flagged_after:.1%} (saved: {VERSION}), {stamp}"
    )


def note_written(ms: Path, text: str) -> None:
    """Record in the data's HISTORY what was done to them, and by which command."""
    message = f"{text}: CORRECTED_DATA and FLAG written, flags saved as {VERSION}"
    words = " ".join(map(shlex.quote, sys.argv))
    append_history(ms, "selfcal", [message], application=f"selfcal {__version__}", command=words)


def _fields_said(work: Application) -> str:
    if work.rows.fields is None:
        return "all fields"
    fields, ids = Subtables(work.ms).fields, sorted(work.rows.fields)
    names = list(dict.fromkeys(fields[i].name for i in ids))
    # the pointings of a mosaic share a name: their ids tell them apart
    if len(names) < len(ids):
        names = [f"{fields[i].name} ({i})" for i in ids]
    return "field " + ", ".join(names)


def prepare_columns(ms: Path, rows: RowChoice, comment: str) -> None:
    """Save the flags, or put those of the rows back; make CORRECTED_DATA where it is missing."""
    if flag_versions.has_version(ms, VERSION):
        flag_versions.restore_version(ms, VERSION, where=rows)
    else:
        flag_versions.save_version(ms, VERSION, comment)
    # rows that are not written keep what they have: a column that a kill left half filled must
    # not pass for one that was there before
    mark = ms.with_name(ms.name + ".filling")
    if mark.exists() or "CORRECTED_DATA" not in column_names(ms):
        mark.touch()
        fsync_tree(mark)
        ensure_data_column(ms, "CORRECTED_DATA", copy="DATA", refill=True)
        mark.unlink()
