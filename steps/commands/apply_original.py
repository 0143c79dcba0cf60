"""Applying a run's solutions to the original data: only on request, the flags saved first."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import ConfigError, InputError
from libs.core.files import fsync_tree
from libs.gains.apply import apply_tables
from libs.gains.caltable import full_spwmap
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.gains.solver import AppliedTable
from libs.inputs.working_copy import resolve_inputs
from libs.ms import flag_versions
from libs.ms.columns import ensure_data_column
from libs.ms.selection import RowChoice, choose_fields, match_windows, parse_windows
from libs.ms.subtables import Subtables
from libs.ms.summary import MsSummary, summarise
from libs.ms.tables import column_names
from libs.ms.tiled_headers import guarded, take_back
from selfcal.state import State, hold_workdir
from steps import STANDARD

__all__ = [
    "Application",
    "apply_planned",
    "apply_solutions",
    "apply_to_original",
    "plan_application",
]

VERSION = "before_selfcal_apply"


def apply_to_original(workdir: Path, to: str | None, field: str = "") -> Iterator[str]:
    """Apply the tables a run ended with to its input (or ``to``); yield what was done.

    CORRECTED_DATA and FLAG are written, of the rows of the run's field only; the flags are saved
    beforehand, in the version ``before_selfcal_apply``, as flagmanager shows it.

    Parameters
    ----------
    workdir : Path
    to : str or None
        The measurement set to write; None: the run's inputs.
    field : str
        Names of the fields whose rows are written, comma separated, or ``all``; empty: the run's.

    Raises
    ------
    ConfigError
        The run has no accepted solutions, the target is none of its inputs and its spectral
        windows differ from theirs, or it has no such field.
    InputError
        The target is no measurement set.
    """
    if not (workdir / "summary.json").exists():
        raise ConfigError(f"{workdir} holds no finished run", "run the pipeline first")
    with hold_workdir(workdir):
        for work in plan_application(workdir, to, field):
            yield apply_planned(work)


@dataclass(frozen=True)
class Application:
    """A data set to write, the rows, the tables in order of application and whose they are."""

    workdir: Path
    ms: Path
    rows: RowChoice
    tables: list[AppliedTable]


def plan_application(workdir: Path, to: str | None, field: str = "") -> list[Application]:
    """Return what `apply_to_original` would do, all data sets looked at and none written."""
    summary = json.loads((workdir / "summary.json").read_text())
    _refuse_started(workdir)
    if not summary["tables"]:
        raise ConfigError("the run accepted no solutions", "there is nothing to apply")
    resolved = yaml.safe_load((workdir / "resolved.yaml").read_text())
    return list(_targets(workdir, resolved, to, field))


def _refuse_started(workdir: Path) -> None:
    """What a run started from is in its h5parm, not in its gain tables."""
    startup = State(workdir).get("startup")
    if startup and startup.result.metrics.get("start_corrected"):
        given = startup.result.metrics["started_from"]
        raise ConfigError(
            f"the run started from the solutions of {given}, which its tables do not hold",
            f"use solutions apply {workdir / 'solutions.h5'} MS, which holds both",
        )


def _targets(
    workdir: Path, resolved: dict[str, Any], to: str | None, field: str
) -> Iterator[Application]:
    """The data sets to write and what to apply."""
    state = State(workdir)
    names = resolved["steps"]["value"] or STANDARD
    records = [record for record in map(state.get, names) if record]
    last = records[-1].result.tables
    sources = resolve_inputs(resolved["vis"]["value"])
    wanted = [s for s in sources if to is None or s.path == Path(to).resolve()]
    if not wanted and len(sources) > 1:
        raise ConfigError(f"{to} is none of the run's inputs", "name one of them")
    wanted = wanted or sources
    startup = state.get("startup")
    if startup and startup.result.metrics.get("datacolumn") == "CORRECTED_DATA":
        raise ConfigError(
            "the run started from CORRECTED_DATA, which applying to DATA would overwrite",
            "take the calibrated data from the run, or split CORRECTED_DATA to DATA first",
        )
    for source in wanted:
        path = Path(to).resolve() if to else source.path
        if source.kind != "ms" and to is None:
            raise ConfigError(f"{source.vis} is no measurement set", "name one with --to")
        copy = workdir / "data" / f"{source.name}.ms"
        take_back(path)
        ours, theirs = summarise(copy), summarise(path)
        of_input = path == source.path
        windows = _match(ours, theirs, resolved["spw"]["value"] if of_input else "")
        fields = (
            choose_fields(path, field)
            if field
            else _own_fields(ours, theirs, resolved["field"]["value"] if of_input else "")
        )
        yield Application(
            workdir,
            path,
            RowChoice(fields, _data_descriptions(path, windows, len(theirs.frequency_hz))),
            [
                AppliedTable(workdir / ref.path, _spwmap(ref.spwmap, windows, theirs), ref.interp)  # type: ignore[arg-type]
                for ref in last
                if ref.ms == copy.name
            ],
        )


def _own_fields(ours: MsSummary, theirs: MsSummary, selected: str) -> frozenset[int] | None:
    """Ids of the run's field: those it was selected by, else every field of its name."""
    names = [ours.field[number].strip() for number in ours.fields_used]
    if re.fullmatch(r"[\d, ]+", selected):
        ids = {int(word) for word in selected.split(",") if word.strip()}
        if all(i < len(theirs.field) and theirs.field[i].strip() in names for i in ids):
            return frozenset(ids)
    return choose_fields(theirs.path, names)


def _match(ours: MsSummary, theirs: MsSummary, selected: str) -> tuple[int, ...]:
    """For each window of the working copy, which the tables number, its place in the target."""
    if ours.antenna != theirs.antenna and len(ours.antenna) != len(theirs.antenna):
        raise InputError(f"{theirs.path} has other antennas than the run", "name the run's input")
    chosen: Collection[int] | None = None
    with suppress(ConfigError):  # after a selection by name or frequency the channels must tell
        chosen = parse_windows(selected, len(theirs.frequency_hz))
    try:
        return match_windows(ours.frequency_hz, theirs.frequency_hz, chosen)
    except InputError as error:
        raise InputError(
            f"{theirs.path} has other spectral windows than the run's working copy: {error.cause}",
            "apply solutions.h5 instead: solutions apply goes by frequency",
        ) from error


def _data_descriptions(ms: Path, windows: Sequence[int], count: int) -> frozenset[int] | None:
    """Data descriptions of windows; None where these are all there are."""
    if len(set(windows)) == count:
        return None
    found = enumerate(Subtables(ms).descriptions)
    return frozenset(i for i, each in found if each.spw in windows)


def _spwmap(own: Sequence[int], windows: Sequence[int], theirs: MsSummary) -> tuple[int, ...]:
    """The map of a table for the working copy, by the numbers of the target's windows."""
    found = [0] * len(theirs.frequency_hz)
    for window, number in zip(windows, full_spwmap(own, len(windows), len(windows)), strict=True):
        found[window] = number
    return tuple(found)


def apply_planned(work: Application) -> str:
    """Apply, safe against being killed; return a line that says what was done."""
    with guarded(work.ms):
        return _apply_within(work)


def _apply_within(work: Application) -> str:
    _prepare(work.ms, work.rows, f"before the solutions of {work.workdir.name}")
    result = apply_tables(work.ms, work.tables, rows=work.rows)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        f"{work.ms}: {len(work.tables)} table(s) applied to CORRECTED_DATA of"
        f" {_fields_said(work)}, flags {result.flagged_before:.1%} ->"
        f" {result.flagged_after:.1%} (saved: {VERSION}), {stamp}"
    )


def _fields_said(work: Application) -> str:
    if work.rows.fields is None:
        return "all fields"
    fields = Subtables(work.ms).fields
    return "field " + ", ".join(dict.fromkeys(fields[i].name for i in sorted(work.rows.fields)))


def _prepare(ms: Path, rows: RowChoice, comment: str) -> None:
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


def apply_solutions(ms: Path, gains: GainSolutions, field: str = "all") -> str:
    """Apply gains of an h5parm to CORRECTED_DATA of a measurement set, by frequency and time.

    Parameters
    ----------
    ms : Path
    gains : GainSolutions
    field : str
        Names of the fields whose rows are written, comma separated, or ``all``.
    """
    rows = RowChoice(choose_fields(ms, field))
    with guarded(ms):
        return _apply_solutions_within(ms, gains, rows)


def _apply_solutions_within(ms: Path, gains: GainSolutions, rows: RowChoice) -> str:
    _prepare(ms, rows, "before solutions of an h5parm")
    with tempfile.TemporaryDirectory(dir=ms.parent) as folder:
        table = Path(folder) / "h5parm.gcal"
        write_caltable(table, gains, ms)
        result = apply_tables(ms, [AppliedTable(table)], rows=rows)
    return f"{ms}: applied, {result.flagged_after:.1%} flagged (before: {VERSION})"
