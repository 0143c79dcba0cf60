"""Solutions of a record applied to measurement sets of the same observation.

Nothing is written before everything has been checked, and everything that is wrong is told at
once. What was interrupted is completed by the same call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from libs.core.errors import ConfigError, SelfcalError
from libs.core.files import write_atomically
from libs.gains.solver import AppliedTable
from libs.ms import flag_versions
from libs.ms.selection import RowChoice
from libs.ms.subtables import Subtables
from libs.ms.tables import column_names
from libs.ms.tiled_headers import take_back
from libs.record.bundle import opened_bundle, record_faults
from libs.record.facts import set_facts
from libs.record.identity import solutions_id
from libs.record.localise import localise_table, spwmap_by_id
from libs.record.matching import SetFacts, SetMatch, TargetPlace, match_record
from libs.record.schema import AppliedEntry, RunRecord, TargetEntry, load_record
from libs.record.script import ApplyCall, apply_script
from selfcal.state import hold_workdir
from steps.applied_record import applications_noted
from steps.record.build import record_of_run
from steps.record.collect import FinishedRun
from steps.record.registration import (
    Registration,
    register,
    registered,
    source_keys,
    withdraw,
)
from steps.record.writing import (
    VERSION,
    Application,
    apply_planned,
    comment_of,
    data_descriptions,
)

__all__ = ["HowToApply", "apply_record", "restore"]

_NOTHING = "no target has solutions: there is nothing to apply"
APPLIED = "applied.json"
"""File in a work directory with what was applied to the original data."""


@dataclass(frozen=True)
class HowToApply:
    """What is done with solutions.

    Attributes
    ----------
    dry_run : bool
        Only check, and tell what would be done.
    script : Path or None
        Script of applycal calls to write in place of the data.
    overwrite : bool
        Write over self-calibrated data that are registered.
    """

    dry_run: bool = False
    script: Path | None = None
    overwrite: bool = False


def restore(bundle: Path, to: Sequence[Path], how: HowToApply) -> Iterator[str]:
    """Apply a bundle's solutions to measurement sets; yield what is done.

    Parameters
    ----------
    bundle : Path
        Archive, or the folder of one that was unpacked.
    to : sequence of Path
        Measurement sets of the observation, in any order.
    how : HowToApply

    Raises
    ------
    ConfigError
        The bundle is refused, does not fit the data, or they hold self-calibrated data already.
    """
    with opened_bundle(bundle) as opened:
        yield from _apply(opened.record, opened.folder, to, how)


def apply_record(workdir: Path, to: Sequence[Path], how: HowToApply) -> Iterator[str]:
    """Apply a run's solutions by its record, to its inputs or to other sets of the observation.

    Parameters
    ----------
    workdir : Path
        Work directory with a record.
    to : sequence of Path
        Measurement sets; empty: the run's inputs.
    how : HowToApply
    """
    path = record_of_run(workdir)
    assert path is not None, "the caller looks for the record"
    record = load_record(path)
    with hold_workdir(workdir):
        faults = record_faults(record, workdir)
        if faults:
            raise ConfigError(f"{workdir}: {'; '.join(faults)}", "run it again")
        sets = to or _inputs(workdir)
        if how.dry_run or how.script:
            yield from _apply(record, workdir, sets, how)
            return
        with ExitStack() as noted:
            for folder in _folders(workdir):
                noted.enter_context(applications_noted(folder, list(sets)))
            yield from _apply(record, workdir, sets, how)
        _note_applied(workdir, record, sets)


def _inputs(workdir: Path) -> list[Path]:
    """Return the measurement sets that a run, or a run of several targets, was of."""
    found: dict[Path, None] = {}
    for folder in _folders(workdir):
        for name, path in FinishedRun.read(folder).inputs:
            if not (path / "table.dat").is_file():
                raise ConfigError(f"{name}: {path} is no measurement set", "name one with --to")
            found[path] = None
    return list(found)


def _folders(workdir: Path) -> list[Path]:
    """Return the work directories of a run that began: its own, or those of its targets."""
    if (workdir / "resolved.yaml").exists():
        return [workdir]
    summary = workdir / "summary.json"
    if summary.exists():
        targets = json.loads(summary.read_text())["targets"].values()
        folders = [workdir / entry["workdir"] for entry in targets]
    else:  # the record of the targets is written before their table
        folders = sorted((workdir / "targets").glob("*"))
    return [folder for folder in folders if (folder / "resolved.yaml").exists()]


def _note_applied(workdir: Path, record: RunRecord, to: Sequence[Path]) -> None:
    """Note which targets were applied to which data, for the report.

    Data to which other solutions were applied, of an earlier start, are not counted.
    """
    path = workdir / APPLIED
    before = json.loads(path.read_text()) if path.exists() else {}
    found = {}
    for target in record.targets:
        if not target.applied:
            continue
        identity = solutions_id(target.applied)
        old = before.get(target.label, {})
        sets = old.get("sets", []) if old.get("solutions") == identity else []
        sets = list(dict.fromkeys([*sets, *map(str, to)]))
        found[target.label] = {"solutions": identity, "sets": sets}
    write_atomically(path, json.dumps(found, indent=1) + "\n")


# -- planning --------------------------------------------------------------------------------------


def _apply(record: RunRecord, folder: Path, to: Sequence[Path], how: HowToApply) -> Iterator[str]:
    """Check everything, then write."""
    placements = match_record(record, _facts(to))
    stale = {place.facts.path: _stale(record, place) for place in placements}
    if not record.applied:
        only_told = how.dry_run or how.script is not None or not how.overwrite
        changed = any(stale.values()) and not only_told
        yield _NOTHING + ("" if changed else ", and the data stay as they are")
        for place in placements:
            yield from _reset(place.facts.path, stale[place.facts.path], how)
        return
    _check_columns(placements)
    wanted = {place.facts.path: _registration(place) for place in placements}
    done = _check_registered(wanted, how)
    for target in record.targets:
        if not target.applied:
            yield f"{target.label}: {target.status}, it has no solutions to apply"
    named = {place.execution.name for place in placements}
    for name in dict.fromkeys(entry.execution for entry in record.applied):
        if name not in named:
            yield f"{name}: none of the measurement sets is this execution, it is left out"
    for place in placements:
        yield from (f"{place.facts.path}: {note}" for note in place.notes)
    if how.script is not None:
        yield _write_script(record, folder, placements, how.script)
        return
    for place in placements:
        if place.facts.path in done:
            yield f"{place.facts.path}: these solutions are applied already, nothing was written"
        else:
            yield from _apply_to_set(folder, place, wanted[place.facts.path], how)
        yield from _reset(place.facts.path, stale[place.facts.path], how)


def _facts(to: Sequence[Path]) -> list[SetFacts]:
    """Describe all measurement sets; everything that cannot be read is told at once."""
    found, faults = [], []
    for path in to:
        try:
            take_back(path.resolve())
            found.append(set_facts(path.resolve()))
        except SelfcalError as error:
            faults.append(error.cause)
    if faults or not found:
        raise ConfigError("; ".join(faults) or "no measurement set is named", "correct --to")
    return found


def _check_columns(placements: Sequence[SetMatch]) -> None:
    """Refuse sets whose DATA is not what was calibrated.

    Where the run took CORRECTED_DATA, that has to be DATA of the set that is written, as in one
    that was split off.
    """
    faults = []
    for place in placements:
        ms, columns = place.facts.path, column_names(place.facts.path)
        taken = [t.target for t in place.targets if t.target.datacolumn == "CORRECTED_DATA"]
        if place.targets and "DATA" not in columns:
            faults.append(f"{ms} has no column DATA")
        elif taken and "CORRECTED_DATA" in columns and not _is_begun(ms, taken):
            labels = ", ".join(target.label for target in taken)
            faults.append(
                f"{ms}: the run started from CORRECTED_DATA of {labels}, which the solutions"
                " applied to DATA would overwrite"
            )
    if faults:
        raise ConfigError(
            "; ".join(faults),
            "split CORRECTED_DATA off, so that it becomes DATA, and name that set",
        )


def _is_begun(ms: Path, targets: Sequence[TargetEntry]) -> bool:
    """Whether the CORRECTED_DATA of a set is of these solutions, be they all written or not."""
    comment = flag_versions.versions(ms).get(VERSION, "")
    return comment in {comment_of(target.label) for target in targets}


def _registration(place: SetMatch) -> Registration:
    found = {}
    for target in place.targets:
        windows = _windows(place, target.applied)
        for key in source_keys(
            place.facts.path, [i for ids in target.fields for i in ids], windows
        ):
            found[key] = solutions_id(target.applied)
    return Registration(place.facts.path, found)


def _check_registered(wanted: dict[Path, Registration], how: HowToApply) -> set[Path]:
    """Refuse what is registered already; return the sets that hold just these solutions."""
    done, faults = set(), []
    for path, each in wanted.items():
        present = registered(path)
        faults += [f"{path}: {text}" for text in present.conflicts(each)]
        complete = "CORRECTED_DATA" in column_names(path)
        if each.solutions and present.holds(each) and complete and not how.overwrite:
            done.add(path)
    if faults and not how.overwrite and how.script is None:
        raise ConfigError("; ".join(faults), "--overwrite writes over them")
    return done


def _windows(place: SetMatch, entries: Sequence[AppliedEntry]) -> list[int]:
    """Return the ids of the windows that tables calibrate, ascending."""
    labels = {label for entry in entries for label in entry.spwmap}
    return sorted(place.window[label] for label in labels)


@dataclass(frozen=True)
class _Part:
    """Fields of a target that take the same tables; without any they get DATA as they are."""

    target: TargetPlace
    fields: tuple[int, ...]
    entries: tuple[AppliedEntry, ...]


def _parts(target: TargetPlace) -> list[_Part]:
    """Group the fields of a target by the tables that calibrate them."""
    groups: dict[tuple[int, ...], list[int]] = {}
    fields = target.target.fields[target.applied[0].execution]
    for field, numbers in zip(fields, target.fields, strict=True):
        own = tuple(
            place
            for place, entry in enumerate(target.applied)
            if not entry.fields or field in entry.fields
        )
        groups.setdefault(own, []).extend(numbers)
    return [
        _Part(target, tuple(fields), tuple(target.applied[i] for i in own))
        for own, fields in groups.items()
    ]


# -- writing ---------------------------------------------------------------------------------------


def _local_tables(folder: Path, place: SetMatch, part: _Part, target: Path) -> list[AppliedTable]:
    """Write the tables of a part for the ids of the measurement set."""
    ms = place.facts.path
    count = len(place.facts.execution.windows)
    found = []
    for entry in part.entries:
        name = f"{len(list(target.iterdir())):03d}.{Path(entry.table).name}"
        local = localise_table(
            folder / entry.table, entry.antennas, target / name, ms, part.fields[0]
        )
        spwmap = spwmap_by_id(entry.spwmap, entry.table_windows, place.window, count)
        found.append(AppliedTable(local, spwmap, entry.interp))  # type: ignore[arg-type]
    return found


def _apply_to_set(
    folder: Path, place: SetMatch, wanted: Registration, how: HowToApply
) -> Iterator[str]:
    """Apply every target to one measurement set, and register it when all are done."""
    ms = place.facts.path
    if not place.targets:
        yield f"{ms}: no target has solutions for it, nothing is written"
        return
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="selfcal-tables-")))
        works = []
        for target in place.targets:
            for part in _parts(target):
                windows = _windows(place, part.entries or target.applied)
                chosen = data_descriptions(ms, windows, len(place.facts.execution.windows))
                rows = RowChoice(frozenset(part.fields), chosen)
                if how.dry_run:
                    names = ", ".join(Path(entry.table).name for entry in part.entries)
                    would = f"apply {names}" if names else "put DATA into CORRECTED_DATA"
                    yield (
                        f"{target.target.label}: {ms}, field {_ids(part.fields)}, spw"
                        f" {_ids(windows)}: would {would}"
                    )
                    continue
                tables = _local_tables(folder, place, part, scratch)
                works.append(Application(target.target.label, ms, rows, tables))
        for work in works:
            yield f"{work.title}: {apply_planned(work)}"
        if works:
            register(wanted)


@dataclass(frozen=True)
class _Stale:
    """A target without solutions of which a set holds those of an earlier run."""

    target: TargetEntry
    fields: tuple[int, ...]
    keys: tuple[tuple[str, int], ...]


def _stale(record: RunRecord, place: SetMatch) -> list[_Stale]:
    """Return the targets of a set that keep what another run wrote to CORRECTED_DATA."""
    ms = place.facts.path
    own = {solutions_id(target.applied) for target in record.targets if target.applied}
    earlier = {key for key, each in registered(ms).solutions.items() if each not in own}
    found = []
    for target in place.idle:
        fields = tuple(number for ids in target.fields for number in ids)
        windows = sorted({window for _, window in earlier})
        keys = tuple(key for key in source_keys(ms, fields, windows) if key in earlier)
        if keys:
            found.append(_Stale(target.target, fields, keys))
    return found


def _reset(ms: Path, stale: Sequence[_Stale], how: HowToApply) -> Iterator[str]:
    """Say which targets keep solutions of an earlier run; with ``overwrite`` give them DATA."""
    count = len(Subtables(ms).windows)
    for each in stale:
        label, windows = each.target.label, {window for _, window in each.keys}
        said = f"{label}: {ms}, field {_ids(each.fields)}, spw {_ids(sorted(windows))}:"
        if how.dry_run or how.script is not None or not how.overwrite:
            yield (
                f"{said} CORRECTED_DATA and FLAG still have the solutions of an earlier run, which"
                " this run did not improve on; --overwrite puts DATA and the saved flags back"
            )
            continue
        rows = RowChoice(frozenset(each.fields), data_descriptions(ms, windows, count))
        yield f"{label}: {apply_planned(Application(label, ms, rows, []))}"
        withdraw(ms, each.keys)


def _ids(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _write_script(
    record: RunRecord, folder: Path, placements: Sequence[SetMatch], path: Path
) -> str:
    """Write a script of applycal calls, with the tables beside it."""
    path = path.absolute()
    tables = path.with_name(f"{path.stem}_tables")
    if tables.exists() and any(tables.iterdir()) and not (tables / ".selfcal").exists():
        raise ConfigError(f"{tables} holds other files", "name another script")
    tables.mkdir(parents=True, exist_ok=True)
    (tables / ".selfcal").touch()
    _empty(tables)
    calls = []
    for place in placements:
        for target in place.targets:
            for part in _parts(target):
                local = _local_tables(folder, place, part, tables)
                windows = tuple(_windows(place, part.entries or target.applied))
                title = f"{target.target.label} of {place.execution.name}"
                ms = place.facts.path
                calls.append(ApplyCall(ms, title, part.fields, windows, tuple(local)))
    write_atomically(path, apply_script(record.prefix, path.name, VERSION, calls))
    count = sum(bool(call.tables) for call in calls)
    return f"{path}: {count} call(s) of applycal, with tables in {tables}"


def _empty(folder: Path) -> None:
    """Remove the tables of an earlier script."""
    import shutil

    for old in folder.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
