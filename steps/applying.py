"""Applying solutions to the original data: only on request, the flags saved first.

Those of a run go to its field; of a run of several targets each to its own rows; those of an
h5parm to any data.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from libs.core.angles import separation_rad
from libs.core.coordinates import to_j2000
from libs.core.errors import ConfigError, InputError
from libs.gains.apply import apply_tables
from libs.gains.caltable import full_spwmap
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.gains.solver import AppliedTable
from libs.inputs.input_data import InputData, resolve_inputs
from libs.ms.field_directions import SAME_PLACE_RAD, j2000_directions
from libs.ms.selection import RowChoice, choose_fields, match_windows, parse_windows
from libs.ms.subtables import Subtables
from libs.ms.summary import MsDescription, describe_ms
from libs.ms.tiled_headers import guarded, take_back
from selfcal.state import State, hold_workdir
from selfcal.step import TableRef
from steps import STANDARD
from steps.applied_record import applications_noted
from steps.facts import AlignFacts, CopyFacts, InputFacts, StartFacts, recorded, start_facts
from steps.record.writing import (
    VERSION,
    Application,
    apply_planned,
    data_descriptions,
    note_written,
    prepare_columns,
)

__all__ = ["apply_run", "apply_solutions", "apply_targets", "apply_to_original", "has_targets"]


def apply_run(workdir: Path, to: str | None, field: str = "") -> Iterator[str]:
    """Apply what a run found, of one target or of several; yield what was done."""
    apply = apply_targets if has_targets(workdir) else apply_to_original
    return apply(workdir, to, field)


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
        planned = _plan_application(workdir, to, field)
        with applications_noted(workdir, [work.ms for work in planned]):
            for work in planned:
                yield apply_planned(work)


def _plan_application(workdir: Path, to: str | None, field: str = "") -> list[Application]:
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
    start = start_facts(startup.result) if startup else StartFacts()
    if start.start_corrected:
        raise ConfigError(
            f"the run started from the solutions of {start.started_from},"
            " which its tables do not hold",
            f"use solutions apply {workdir / 'solutions.h5'} MS, which holds both",
        )


def _refuse_aligned(
    workdir: Path, sources: Sequence[InputData], taken: Mapping[str, tuple[str, Any]]
) -> None:
    """The tables of an execution that was moved or scaled are of data as they became."""
    record = State(workdir).get("align")
    moved = recorded(AlignFacts, record.result.metrics).aligned if record else ()
    copies = {str(source.path): f"{source.name}.ms" for source in sources}
    copies |= {path: name for path, (name, _) in taken.items()}
    wrong = [source.vis for source in sources if copies[str(source.path)] in moved]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)} was brought to the position and fluxes of another execution,"
            " which its tables do not hold",
            "take the calibrated data from the run, or run with align = never",
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
    copied = recorded(InputFacts, startup.result.metrics) if startup else InputFacts()
    taken = _taken(startup.result.metrics if startup else {})
    _refuse_aligned(workdir, wanted, taken)
    if copied.datacolumn == "CORRECTED_DATA":
        raise ConfigError(
            "the run started from CORRECTED_DATA, which applying to DATA would overwrite",
            "take the calibrated data from the run, or split CORRECTED_DATA to DATA first",
        )
    # runs of versions that did not record what they took of each input
    older = {name: resolved[name]["value"] for name in ("field", "spw")}
    for source in wanted:
        path = Path(to).resolve() if to else source.path
        if source.kind != "ms" and to is None:
            raise ConfigError(f"{source.vis} is no measurement set", "name one with --to")
        name, own = taken.get(str(source.path), (f"{source.name}.ms", older))
        copy = workdir / "data" / name
        take_back(path)
        ours, theirs = describe_ms(copy), describe_ms(path)
        selected = own if path == source.path else {}
        windows = _windows(ours, theirs, selected)
        fields = (
            choose_fields(path, field)
            if field
            else _own_fields(ours, theirs, selected.get("field", ""))
        )
        refs = [ref for ref in last if ref.ms == copy.name]
        chosen = data_descriptions(path, windows, len(theirs.frequency_hz))
        for own_fields, own_refs in _by_pointing(copy, path, refs, fields, asked=bool(field)):
            tables = [
                AppliedTable(workdir / ref.path, _spwmap(ref.spwmap, windows, theirs), ref.interp)  # type: ignore[arg-type]
                for ref in own_refs
            ]
            yield Application(workdir.name, path, RowChoice(own_fields, chosen), tables)


def _by_pointing(
    copy: Path,
    path: Path,
    refs: Sequence[TableRef],
    fields: frozenset[int] | None,
    *,
    asked: bool,
) -> Iterator[tuple[frozenset[int] | None, Sequence[TableRef]]]:
    """Yield fields of the data with the tables that are for them, which may be none.

    Pointings of a mosaic may have tables of their own; a pointing of the working copy is the
    field of the data at its place.

    Raises
    ------
    ConfigError
        Tables of pointings are asked for on fields of another name.
    """
    if not any(ref.fields for ref in refs):
        yield fields, refs
        return
    if asked or fields is None:
        raise ConfigError(
            "the pointings of the run's mosaic have tables of their own, and no other field is"
            " one of these pointings",
            "leave the field out: each pointing gets its tables",
        )
    copied, known = j2000_directions(copy), Subtables(path).fields
    groups: dict[tuple[TableRef, ...], set[int]] = {}
    for number in describe_ms(copy).fields_used:
        own = tuple(ref for ref in refs if not ref.fields or number in ref.fields)
        here = np.array(copied[number])
        there = {i: np.array(to_j2000(known[i].direction_rad, known[i].frame)) for i in fields}
        at = {i for i, place in there.items() if separation_rad(here, place) <= SAME_PLACE_RAD}
        if at:
            groups.setdefault(own, set()).update(at)
    for own, ids in groups.items():
        yield frozenset(ids), own


def _taken(metrics: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, str]]]:
    """Name of the working copy of each input, by its path, and what was taken of it."""
    if "selections" not in metrics:
        return {}
    facts = recorded(CopyFacts, metrics)
    pairs = zip(facts.working_copies, facts.selections, strict=True)
    return {own["vis"]: (name, own) for name, own in pairs}


def _windows(
    ours: MsDescription, theirs: MsDescription, selected: Mapping[str, str]
) -> tuple[int, ...]:
    """For each window of the working copy its number in the target, on record or by frequency."""
    noted = selected.get("windows", "")
    if noted:
        return tuple(int(number) for number in noted.split(","))
    return _match(ours, theirs, selected.get("spw", ""))


def _own_fields(ours: MsDescription, theirs: MsDescription, selected: str) -> frozenset[int] | None:
    """Ids of the run's field: those it was selected by, else every field of its name."""
    names = [ours.field[number].strip() for number in ours.fields_used]
    if re.fullmatch(r"[\d, ]+", selected):
        ids = {int(word) for word in selected.split(",") if word.strip()}
        if all(i < len(theirs.field) and theirs.field[i].strip() in names for i in ids):
            return frozenset(ids)
    return choose_fields(theirs.path, names)


def _match(ours: MsDescription, theirs: MsDescription, selected: str) -> tuple[int, ...]:
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


def _spwmap(own: Sequence[int], windows: Sequence[int], theirs: MsDescription) -> tuple[int, ...]:
    """The map of a table for the working copy, by the numbers of the target's windows."""
    found = [0] * len(theirs.frequency_hz)
    for window, number in zip(windows, full_spwmap(own, len(windows), len(windows)), strict=True):
        found[window] = number
    return tuple(found)


# -- a run of several targets ----------------------------------------------------------------------


def has_targets(workdir: Path) -> bool:
    """Whether a work directory holds a run of several targets."""
    path = workdir / "summary.json"
    return path.exists() and "targets" in json.loads(path.read_text())


def apply_targets(workdir: Path, to: str | None, field: str = "") -> Iterator[str]:
    """Apply the tables of every target to the rows of its field and windows; yield what was done.

    Targets that failed or were not improved are left out, and told. Every data set is looked
    at before the first is written.

    Parameters
    ----------
    workdir : Path
        Of the whole run.
    to : str or None
        The only measurement set to write; None: all inputs.
    field : str
        Must be empty: each target has its own.

    Raises
    ------
    ConfigError
        A field is given, no target has solutions, or as `apply_to_original`.
    """
    if field:
        raise ConfigError(
            "each target is applied to its own field",
            f"for another give the work directory of one: {workdir / 'targets'}/NAME",
        )
    with ExitStack() as held:
        held.enter_context(hold_workdir(workdir))
        targets = json.loads((workdir / "summary.json").read_text())["targets"]
        planned: list[Application] = []
        written: dict[Path, list[Path]] = {}
        for label, entry in targets.items():
            folder = workdir / entry["workdir"]
            why = _why_not(entry, folder) or _not_of(folder, to, targets, workdir)
            if why:
                yield f"{label}: {why}"
                continue
            held.enter_context(hold_workdir(folder))
            own = _plan_application(folder, to)
            planned += own
            written[folder] = [work.ms for work in own]
        if not planned:
            raise ConfigError("no target has solutions to apply", "there is nothing to apply")
        # they write the same data sets: each is noted when all have done so
        for folder, data_sets in written.items():
            held.enter_context(applications_noted(folder, data_sets))
        for work in planned:
            yield f"{work.title}: {apply_planned(work)}"


def _why_not(entry: Mapping[str, Any], folder: Path) -> str:
    """Why a target has nothing to apply; empty when it has."""
    path = folder / "summary.json"
    if entry["status"] == "failed" or not path.exists():
        return "failed, nothing is applied"
    # its own, which is newer where the target was run by itself since
    found = json.loads(path.read_text())
    return "" if found["tables"] else f"{found['status']}, there is nothing to apply"


def _not_of(folder: Path, to: str | None, targets: Mapping[str, Any], workdir: Path) -> str:
    """Why a target has nothing for the measurement set asked for, one of the others' inputs."""
    if to is None:
        return ""
    wanted = Path(to).resolve()
    if wanted in _inputs(folder):
        return ""
    others = [workdir / entry["workdir"] for entry in targets.values()]
    if any(wanted in _inputs(other) for other in others):
        return f"has no data in {to}"
    return ""


def _inputs(folder: Path) -> set[Path]:
    """Paths of the data a run was of; none where it never began."""
    path = folder / "resolved.yaml"
    if not path.exists():
        return set()
    resolved = yaml.safe_load(path.read_text())
    return {source.path for source in resolve_inputs(resolved["vis"]["value"])}


# -- an h5parm -------------------------------------------------------------------------------------


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
    prepare_columns(ms, rows, "before solutions of an h5parm")
    with tempfile.TemporaryDirectory(dir=ms.parent) as folder:
        table = Path(folder) / "h5parm.gcal"
        write_caltable(table, gains, ms)
        result = apply_tables(ms, [AppliedTable(table)], rows=rows)
    note_written(ms, "gains of an h5parm applied")
    return f"{ms}: applied, {result.flagged_after:.1%} flagged (before: {VERSION})"
