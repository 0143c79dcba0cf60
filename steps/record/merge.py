"""The record of a run of several targets, from those of its targets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from libs.record.schema import (
    SCHEMA,
    AppliedEntry,
    ExecutionEntry,
    RunRecord,
    TargetEntry,
    load_record,
)
from steps.record.build import CONTFILE, file_record, record_of_run
from steps.record.collect import safe_name
from steps.record.products import FOLDER, link_file

__all__ = ["write_targets_record"]

Result = Mapping[str, Any]


def write_targets_record(workdir: Path, results: Sequence[Result], oussid: str = "") -> Path | None:
    """Write the record of a run of several targets, and link their products together.

    Parameters
    ----------
    workdir : Path
        Of the whole run.
    results : sequence of mapping
        What came of each target, as `steps.targets.run.run_targets` returns it.
    oussid : str
        Beginning of names; empty: the name of the execution observed first.

    Returns
    -------
    Path or None
        None where no target came so far as to have data.
    """
    executions: list[ExecutionEntry] = []
    targets, versions = [], dict[str, str]()
    contfile = ""
    for result in results:
        found = _record_of(workdir / result["workdir"], result)
        if found is None:
            targets.append(_failed(result))
            continue
        names = {each.name: _add(executions, each) for each in found.executions}
        target = _of_whole_run(found.targets[0], names, result)
        targets.append(target)
        versions = versions or dict(found.versions)
        contfile = contfile or found.contfile
    if not executions:
        return None
    first = min(executions, key=lambda each: (each.begin_mjd_s, each.name))
    prefix = safe_name(oussid or first.name)
    record = RunRecord(
        SCHEMA, prefix, versions, tuple(executions), tuple(targets), contfile, oussid=oussid
    )
    return file_record(workdir, _link_products(workdir, record, results))


def _record_of(folder: Path, result: Result) -> RunRecord | None:
    """Return the record of a target's run; None where it failed, or never had one."""
    path = record_of_run(folder)
    if path is None or result["status"] == "failed":
        return None
    return load_record(path)


def _failed(result: Result) -> TargetEntry:
    """Return the entry of a target that failed; its reason is all there is."""
    return TargetEntry(
        label=result["label"],
        fields={},
        band=result.get("band", ""),
        status="failed",
        reason=str(result.get("reason", "")),
        windows={},
        cell_arcsec=None,
        imsize=(),
        intervals=(),
        final_interval="",
        initial={},
        final={},
        applied=(),
        qa_score=0.8,
    )


def _add(executions: list[ExecutionEntry], wanted: ExecutionEntry) -> str:
    """Add an execution unless it is there; return its name, which no other has."""
    for each in executions:
        if replace(each, name=wanted.name) == wanted:
            return each.name
    name, number = wanted.name, 2
    while name in {each.name for each in executions}:
        name, number = f"{wanted.name}_{number}", number + 1
    executions.append(replace(wanted, name=name))
    return name


def _of_whole_run(target: TargetEntry, names: Mapping[str, str], result: Result) -> TargetEntry:
    """Return a target's entry with the names of the whole run."""

    def renamed(entry: AppliedEntry) -> AppliedEntry:
        table = f"{result['workdir']}/{entry.table}"
        return replace(entry, execution=names[entry.execution], table=table)

    return replace(
        target,
        label=result["label"],
        status=result["status"],
        fields={names[name]: fields for name, fields in target.fields.items()},
        windows={names[name]: labels for name, labels in target.windows.items()},
        applied=tuple(map(renamed, target.applied)),
        qa_score=(result.get("qa") or {}).get("score", target.qa_score),
    )


def _link_products(workdir: Path, record: RunRecord, results: Sequence[Result]) -> RunRecord:
    """Link the products of all targets in one folder; return the record with their places there.

    The tables are those of the targets' own records, whose hashes hold.
    """
    part = workdir / f".{FOLDER}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    names: dict[str, str] = {}
    for result in results:
        folder = workdir / result["workdir"] / FOLDER
        if result["status"] == "failed" or not folder.is_dir():
            continue
        for source in sorted(folder.iterdir()):
            if source.name == Path(CONTFILE).name and (part / source.name).exists():
                continue  # all targets have the same
            name = _free_name(source.name, part)
            _link_all(source, part / name)
            names[f"{result['workdir']}/{FOLDER}/{source.name}"] = f"{FOLDER}/{name}"
    final = workdir / FOLDER
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)

    def moved(target: TargetEntry) -> TargetEntry:
        entries = (replace(entry, table=names[entry.table]) for entry in target.applied)
        return replace(target, applied=tuple(entries))

    return replace(record, targets=tuple(map(moved, record.targets)))


def _free_name(name: str, folder: Path) -> str:
    """Return a name that is free in a folder: two targets may have one field and windows."""
    stem, number, found = Path(name), 2, name
    while (folder / found).exists():
        found, number = f"{stem.stem}_{number}{stem.suffix}", number + 1
    return found


def _link_all(source: Path, target: Path) -> None:
    """Link a file or a table's files, of which none is ever written again."""
    if source.is_file():
        link_file(source, target)
        return
    for folder, _, files in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in files:
            if name != "table.lock":
                link_file(Path(folder) / name, there / name)
