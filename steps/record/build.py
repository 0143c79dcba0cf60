"""The record of a run, made from its work directory when it has ended."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.angles import separation_rad
from libs.core.coordinates import to_j2000
from libs.core.errors import ConfigError
from libs.gains.caltable import full_spwmap, read_caltable
from libs.ms import flag_versions
from libs.ms.field_directions import SAME_PLACE_RAD, j2000_directions
from libs.ms.flag_shares import count_flag_shares
from libs.ms.subtables import Subtables
from libs.ms.summary import describe_ms
from libs.record.bundle import record_faults, table_sha256
from libs.record.quality import QualityScore, score_target
from libs.record.schema import (
    SCHEMA,
    AppliedEntry,
    ExecutionEntry,
    FieldEntry,
    FlagChange,
    FlaggedEntry,
    FlagShare,
    IntervalEntry,
    LengthBin,
    RunRecord,
    TargetEntry,
    finite_or_none,
    load_record,
    record_name,
    store_record,
)
from selfcal.state import Record
from selfcal.step import TableRef
from steps.facts import GridFacts, recorded
from steps.record.collect import (
    FinishedRun,
    interval_name,
    state_hash,
    statistics_of,
)
from steps.record.products import (
    FOLDER,
    ProductNames,
    constants_beneath,
    link_products,
    table_kind,
)
from steps.record.start_tables import START, start_table
from steps.standard import WHOLE_EXECUTION

CONTFILE = f"{FOLDER}/cont.dat"
"""Copy of the file of line-free ranges, in the work directory and in a bundle."""

__all__ = ["build_record", "file_record", "quality_of", "record_of_run", "write_run_record"]


def write_run_record(
    workdir: Path,
    versions: Mapping[str, str],
    contfile: Path | None = None,
    names: Mapping[str, str] | None = None,
) -> Path:
    """Link the products of a finished run of one target and write its record.

    Nothing is done where both are there already.

    Parameters
    ----------
    workdir : Path
    versions : mapping
        Versions of the program and of the tools used.
    contfile : Path, optional
        File of line-free ranges that the run used; a copy is kept with the products.
    names : mapping, optional
        Settings ``oussid`` and ``stage``; default: as the run recorded them.

    Returns
    -------
    Path
        The record, ``PREFIX.selfcal.json``.
    """
    run = FinishedRun.read(workdir, names)
    current = record_of_run(workdir)
    if current is not None and _is_current(run, load_record(current), contfile):
        return current
    tables = link_products(run, ProductNames.of(run))
    record = build_record(run, tables, versions)
    if contfile is not None:
        shutil.copyfile(contfile, workdir / CONTFILE)
        record = replace(record, contfile=CONTFILE)
    return file_record(workdir, record)


def _is_current(run: FinishedRun, record: RunRecord, contfile: Path | None) -> bool:
    """Whether a record of the present state has the names and files that are asked for."""
    kept = run.workdir / CONTFILE
    ranges = contfile.read_bytes() if contfile else None
    return (
        (record.oussid, record.stage) == (run.oussid, run.stage)
        and ranges == (kept.read_bytes() if kept.exists() else None)
        and not record_faults(record, run.workdir)
    )


def record_of_run(workdir: Path) -> Path | None:
    """Return the record in a work directory; None where it has none, or one that is out of date.

    A run that went on, and did not come to its end, leaves the record of an earlier start.
    """
    found = sorted(workdir.glob("*.selfcal.json"))
    if not found:
        return None
    try:
        record = load_record(found[0])
    except ConfigError:
        return None  # of another version of the program
    return found[0] if record.of_state == state_hash(workdir) else None


def file_record(workdir: Path, record: RunRecord) -> Path:
    """Write a record in its work directory, which holds one only."""
    path = workdir / record_name(record.prefix)
    for old in workdir.glob("*.selfcal.json"):
        if old != path:
            old.unlink()
    store_record(path, replace(record, of_state=state_hash(workdir)))
    return path


def build_record(
    run: FinishedRun, tables: Mapping[str, str], versions: Mapping[str, str]
) -> RunRecord:
    """Return the record of a finished run.

    Parameters
    ----------
    run : FinishedRun
    tables : mapping of str to str
        Path of each gain table that holds, in the record's folder, by its path on the run's
        record.
    versions : mapping
        As in `write_run_record`.
    """
    return RunRecord(
        schema=SCHEMA,
        prefix=run.prefix,
        oussid=run.oussid,
        stage=run.stage,
        versions=dict(versions),
        executions=run.originals,
        targets=(_target(run, tables),),
    )


def quality_of(run: FinishedRun) -> QualityScore:
    """Return the quality score of a run of one target."""
    tried = any(interval_name(record.result.metrics) for record in run.rounds)
    return score_target(
        _status(run), tried, statistics_of(run.first_image), statistics_of(run.last_image)
    )


def _status(run: FinishedRun) -> str:
    if any(record.result.status == "failed" for record in run.records):
        return "failed"
    accepted = any(record.result.status == "done" for record in run.rounds)
    return "improved" if accepted else "unchanged"


def _target(run: FinishedRun, tables: Mapping[str, str]) -> TargetEntry:
    facts = run.startup
    grid = recorded(GridFacts, run.first_image.result.metrics if run.first_image else {})
    intervals = tuple(_intervals(run))
    accepted = [each.interval for each in intervals if each.passed]
    return TargetEntry(
        label=facts.field,
        fields={
            execution.name: run.fields_of(number) for number, execution in enumerate(run.originals)
        },
        band=facts.band,
        status=_status(run),
        reason="",
        windows={
            execution.name: tuple(labels)
            for execution, labels in zip(run.originals, run.copied, strict=True)
        },
        cell_arcsec=grid.cell_arcsec,
        imsize=tuple(grid.imsize or ()),
        intervals=intervals,
        final_interval=accepted[-1] if accepted else "",
        initial=statistics_of(run.first_image),
        final=statistics_of(run.last_image),
        applied=tuple(_applied(run, tables)),
        field_results=_field_results(run),
        window_results=_window_results(run),
        flags=_flags(run),
        qa_score=quality_of(run).score,
        datacolumn=facts.datacolumn,
    )


def _field_results(run: FinishedRun) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the statistics of images of single pointings of a mosaic, by number and name."""
    rounds = [record.result for record in run.rounds if record.result.status == "done"]
    states = {
        name: found
        for name, found in (
            ("initial", rounds[0].metrics.get("pointings_before") if rounds else None),
            ("final", rounds[-1].metrics.get("pointings_measured") if rounds else None),
        )
        if found
    }
    return {
        f"{number} {pointing['name']}": {
            name: {
                key: finite_or_none(value)
                for key, value in (found[number] or {}).items()
                if key != "image"  # which a record goes without
            }
            for name, found in states.items()
        }
        for number, pointing in enumerate(run.startup.pointings)
        if states
    }


def _window_results(run: FinishedRun) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the statistics of images of single windows, by the window's number."""
    for record in reversed(run.records):
        if "windows" in record.result.metrics:
            found = record.result.metrics["windows"]
            return {
                number: {
                    state: {name: finite_or_none(value) for name, value in values.items()}
                    for state, values in states.items()
                }
                for number, states in found.items()
            }
    return {}


def _flags(run: FinishedRun) -> dict[str, FlagChange]:
    """Return what was flagged before and after, by execution."""
    found = {}
    for copy, execution in zip(run.copies, run.originals, strict=True):
        if not flag_versions.has_version(copy, run.base_flags):
            continue  # no step has restored flags, so that none were changed
        shares = count_flag_shares(copy, run.base_flags)
        pairs = [_share_of(*pair) for pair in shares.by_antenna.T]
        edges = zip(shares.edges_m[:-1], shares.edges_m[1:], shares.by_length.T, strict=True)
        found[execution.name] = FlagChange(
            dict(zip(shares.antenna, pairs, strict=True)),
            tuple(
                LengthBin(float(a), float(b), _share_of(*pair))
                for a, b, pair in edges
                if np.isfinite(pair).all()  # no baseline is of such a length
            ),
        )
    return found


def _share_of(before: float, after: float) -> FlagShare:
    return FlagShare(round(float(before), 6), round(float(after), 6))


# -- intervals -------------------------------------------------------------------------------------


def _intervals(run: FinishedRun) -> list[IntervalEntry]:
    """Return every interval that was tried, in order."""
    rows = run.gain_rows()
    copies = {copy.name: own for copy, own in zip(run.copies, run.originals, strict=True)}
    best = run.first_image
    found = []
    for record in run.rounds:
        metrics = record.result.metrics
        recorded_s = metrics.get("solint_s")
        before, after = statistics_of(best), statistics_of(record)
        own = [row for row in rows if row["step"] == record.step]
        found.append(
            IntervalEntry(
                step=record.step,
                interval=interval_name(metrics),
                interval_s=recorded_s if isinstance(recorded_s, int | float) else None,
                calmode=str(metrics.get("calmode", "")),
                gaintype=str(metrics.get("gaintype", "")),
                combine=tuple(metrics.get("combine", ())),
                passed=record.result.status == "done",
                reason=record.result.reason,
                before=before,
                after=after,
                beam_ratio=_beam_ratio(before, after),
                flagged=_flagged(own, copies),
            )
        )
        if record.result.status == "done":
            best = record
    return found


def _beam_ratio(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    """Return the area of the beam after a round over that before; None where it is unknown."""
    areas = []
    for each in (before, after):
        major, minor = each.get("beam_major_arcsec"), each.get("beam_minor_arcsec")
        if not major or not minor:
            return None
        areas.append(major * minor)
    return areas[1] / areas[0]


def _flagged(
    rows: Sequence[Mapping[str, str]], copies: Mapping[str, ExecutionEntry]
) -> dict[str, FlaggedEntry]:
    """Return the solutions flagged, by execution and antenna, from rows of gains.csv."""
    counts: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["ms"] not in copies:
            continue
        number = float(row["solutions"] or 0)
        pair = counts.setdefault(copies[row["ms"]].name, {}).setdefault(row["antenna"], [0.0, 0.0])
        pair[0] += number * float(row["flagged_fraction"] or 0)
        pair[1] += number
    return {
        name: FlaggedEntry(
            _share([sum(pair[i] for pair in antennas.values()) for i in (0, 1)]),
            {antenna: _share(pair) for antenna, pair in antennas.items()},
        )
        for name, antennas in counts.items()
    }


def _share(pair: Sequence[float]) -> float:
    return round(pair[0] / pair[1], 6) if pair[1] else 1.0


# -- tables ----------------------------------------------------------------------------------------


def _applied(run: FinishedRun, tables: Mapping[str, str]) -> list[AppliedEntry]:
    """Return what applies to what: what the run started from, then the tables that hold."""
    place = {copy.name: number for number, copy in enumerate(run.copies)}
    solved = {record.step: record.result for record in run.rounds}
    last: Record | None = run.records[-1] if run.records else None
    found = []
    for number, copy in enumerate(run.copies):
        path = tables.get(start_table(copy))
        if path is not None:
            ref = TableRef(copy.name, start_table(copy))
            found.append(_entry(run, number, ref, path, (START, "ap")))
    for ref in last.result.tables if last else ():
        kind = table_kind(ref, solved.get(ref.round))
        constants = tables.get(constants_beneath(ref))
        if constants is not None:
            below = replace(ref, spwmap=(), interp="nearest")
            entry = _entry(run, place[ref.ms], below, constants, (WHOLE_EXECUTION, kind[1]))
            found.append(entry)
            ref = _of_one_window(run, place[ref.ms], ref, tables[ref.path])
        found.append(_entry(run, place[ref.ms], ref, tables[ref.path], kind))
    return found


def _of_one_window(run: FinishedRun, number: int, ref: TableRef, path: str) -> TableRef:
    """Return the reference of a table of phases common to all windows, which is of one of them."""
    (spw,) = read_caltable(run.workdir / path).spws
    return replace(ref, spwmap=(spw,) * len(Subtables(run.copies[number]).windows))


def _entry(
    run: FinishedRun, number: int, ref: TableRef, path: str, kind: tuple[str, str]
) -> AppliedEntry:
    """Return the entry of a table of one working copy."""
    interval, calmode = kind
    return AppliedEntry(
        execution=run.originals[number].name,
        table=path,
        sha256=table_sha256(run.workdir / path),
        interval=interval,
        calmode=calmode,
        interp=ref.interp,
        spwmap=_spwmap(ref, run.copies[number], run.copied[number]),
        table_windows=run.copied[number],
        antennas=Subtables(run.copies[number]).antenna_names,
        fields=_fields_of(run, number, ref),
    )


def _fields_of(run: FinishedRun, number: int, ref: TableRef) -> tuple[FieldEntry, ...]:
    """Return the pointings that a table calibrates, as the original data describe them."""
    if not ref.fields:
        return ()
    copied = j2000_directions(run.copies[number])
    wanted = [np.array(copied[field]) for field in ref.fields]
    found = []
    for entry in run.fields_of(number):
        place = (math.radians(entry.ra_deg), math.radians(entry.dec_deg))
        there = np.array(to_j2000(place, entry.frame))
        if any(float(separation_rad(there, one)) <= SAME_PLACE_RAD for one in wanted):
            found.append(entry)
    return tuple(found)


def _spwmap(ref: TableRef, copy: Path, labels: Sequence[str]) -> dict[str, str]:
    """Return the map of a table by the labels of the windows that hold data."""
    mapped = full_spwmap(ref.spwmap, len(labels), len(labels))
    used = describe_ms(copy).spws_used
    return {labels[spw]: labels[mapped[spw]] for spw in used}
