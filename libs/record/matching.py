"""A record matched with measurement sets: by antennas, windows and fields, never by their ids."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from libs.core.angles import separation_rad
from libs.core.errors import ConfigError
from libs.ms.virtual_windows import ExecutionWindows, WindowFacts, find_virtual_windows
from libs.record.schema import (
    AppliedEntry,
    ExecutionEntry,
    FieldEntry,
    RunRecord,
    TargetEntry,
    WindowEntry,
)

__all__ = ["SetFacts", "SetMatch", "TargetPlace", "match_record"]

_SAME_PLACE_RAD = math.radians(1 / 3600)
_SAME_POSITION_M = 1.0
_LISTED = 12  # names in one message


@dataclass(frozen=True)
class SetFacts:
    """What a measurement set holds.

    Attributes
    ----------
    path : Path
    execution : ExecutionEntry
        The same as a record says it; entries are in the order of their ids.
    fields_used : frozenset of int
        Ids of the fields with data.
    """

    path: Path
    execution: ExecutionEntry
    fields_used: frozenset[int]


@dataclass(frozen=True)
class TargetPlace:
    """Where a target is in a measurement set.

    Attributes
    ----------
    target : TargetEntry
    applied : tuple of AppliedEntry
        The target's tables for this execution, in order of application.
    fields : tuple of tuple of int
        Ids of each of its fields, in the order of the record. Some writers repeat a field.
    """

    target: TargetEntry
    applied: tuple[AppliedEntry, ...]
    fields: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SetMatch:
    """An execution of a record found in a measurement set.

    Attributes
    ----------
    facts : SetFacts
    execution : ExecutionEntry
    antenna : dict of str to int
        Ids in the measurement set by name.
    window : dict of str to int
        Ids by label, of the windows that the record calibrates.
    targets : tuple of TargetPlace
        Targets with solutions for this execution.
    idle : tuple of TargetPlace
        Targets of this execution without solutions, as far as their fields are found.
    notes : tuple of str
        What the user should know.
    """

    facts: SetFacts
    execution: ExecutionEntry
    antenna: Mapping[str, int]
    window: Mapping[str, int]
    targets: tuple[TargetPlace, ...]
    idle: tuple[TargetPlace, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def match_record(record: RunRecord, sets: Sequence[SetFacts]) -> tuple[SetMatch, ...]:
    """Find each execution of a record that has solutions in one of several measurement sets.

    Parameters
    ----------
    record : RunRecord
    sets : sequence of SetFacts

    Returns
    -------
    tuple of SetMatch
        In the order of the measurement sets.

    Raises
    ------
    ConfigError
        A measurement set holds no or several executions of the record, or lacks antennas, windows
        or fields that it needs; everything that is wrong is listed.
    """
    faults: list[str] = []
    doubled = [path for path, n in Counter(each.path for each in sets).items() if n > 1]
    faults += [f"{path} is named twice" for path in doubled]
    found: list[tuple[SetFacts, ExecutionEntry]] = []
    for each in sets:
        there = [own for own in record.executions if _same_time(own, each.execution)]
        if len(there) > 1:
            there = [own for own in there if not _antenna_faults(own, each.execution)] or there
        if len(there) == 1:
            found.append((each, there[0]))
        else:
            faults.append(f"{each.path} {_unfound(there, record)}")
    for name, n in Counter(own.name for _, own in found).items():
        if n > 1:
            paths = ", ".join(str(each.path) for each, own in found if own.name == name)
            faults.append(f"{paths} hold the same execution, {name}")
    placements = []
    for each, own in found:
        wrong: list[str] = []
        placements.append(_place(record, each, own, wrong))
        faults += [f"{each.path}: {text}" for text in wrong]
    if faults:
        raise ConfigError(
            "the solutions do not fit the data, nothing was written: " + "; ".join(faults),
            "name the measurement sets of the observation that was calibrated",
        )
    return tuple(placements)


def _same_time(one: ExecutionEntry, two: ExecutionEntry) -> bool:
    return one.begin_mjd_s <= two.end_mjd_s and two.begin_mjd_s <= one.end_mjd_s


def _unfound(there: Sequence[ExecutionEntry], record: RunRecord) -> str:
    """Say why a measurement set is not one execution of the record."""
    if there:
        names = ", ".join(each.name for each in there)
        return f"holds several executions of the record, {names}: split them apart"
    names = ", ".join(each.name for each in record.executions)
    return f"was observed at another time than the executions of the record, {names}"


def _place(record: RunRecord, facts: SetFacts, own: ExecutionEntry, faults: list[str]) -> SetMatch:
    """Find antennas, windows and fields of one execution."""
    theirs = facts.execution
    targets, idle = [], []
    for target in record.targets:
        applied = tuple(entry for entry in target.applied if entry.execution == own.name)
        if applied:
            fields = _find_fields(target.fields[own.name], facts, target.label, faults)
            targets.append(TargetPlace(target, applied, fields))
        elif own.name in target.fields:
            # nothing is applied to it, so that a field that is missing is no fault
            idle.append(TargetPlace(target, (), _find_fields(
                target.fields[own.name], facts, target.label, []
            )))  # fmt: skip
    wanted = {label for place in targets for entry in place.applied for label in entry.spwmap}
    faults += _antenna_faults(own, theirs) if targets else []
    names = [antenna.name for antenna in theirs.antennas]
    known = {antenna.name for antenna in own.antennas}
    extra = [name for name in names if name not in known]
    notes = (f"no solutions for {_listed(extra)}: their data are flagged",) if extra else ()
    window = _find_windows(own, theirs, wanted, faults)
    return SetMatch(
        facts, own, {name: i for i, name in enumerate(names)}, window, tuple(targets),
        tuple(idle), notes,
    )  # fmt: skip


def _antenna_faults(own: ExecutionEntry, theirs: ExecutionEntry) -> list[str]:
    """Return antennas that are missing, have moved, or share a name."""
    counted = Counter(antenna.name for antenna in theirs.antennas)
    twice = [name for name, n in counted.items() if n > 1]
    if twice:
        return [f"several antennas are named {_listed(twice)}"]
    place = {antenna.name: np.array(antenna.position_m) for antenna in theirs.antennas}
    missing = [each.name for each in own.antennas if each.name not in place]
    moved = [
        each.name
        for each in own.antennas
        if each.name in place
        and np.linalg.norm(place[each.name] - np.array(each.position_m)) > _SAME_POSITION_M
    ]
    faults = [f"the antennas {_listed(missing)} are missing"] if missing else []
    return faults + ([f"the antennas {_listed(moved)} are at other places"] if moved else [])


def _find_fields(
    wanted: Sequence[FieldEntry], facts: SetFacts, label: str, faults: list[str]
) -> tuple[tuple[int, ...], ...]:
    """Find fields by name and direction; the ids of each."""
    found = []
    for each in wanted:
        direction = np.radians([each.ra_deg, each.dec_deg])
        named = [
            (number, other)
            for number, other in enumerate(facts.execution.fields)
            if other.name.strip() == each.name.strip() and number in facts.fields_used
        ]
        near = [
            number
            for number, other in named
            if other.frame == each.frame
            and separation_rad(direction, np.radians([other.ra_deg, other.dec_deg]))
            <= _SAME_PLACE_RAD
        ]
        if near:
            found.append(tuple(near))
            continue
        why = "has another direction" if named else "has no data"
        faults.append(f"the field {each.name!r} of {label} {why}")
    return tuple(found)


def _find_windows(
    own: ExecutionEntry, theirs: ExecutionEntry, wanted: set[str], faults: list[str]
) -> dict[str, int]:
    """Find the windows that are calibrated, by name, else by frequency; ids by label."""
    chosen = [each for each in own.windows if each.label in wanted]
    if not chosen:
        return {}
    mine = ExecutionWindows("record", 0.0, tuple(_facts(i, w) for i, w in enumerate(chosen)))
    other = ExecutionWindows("data", 1.0, tuple(_facts(i, w) for i, w in enumerate(theirs.windows)))
    try:
        windows = find_virtual_windows([mine, other])
    except ConfigError as error:
        faults.append(error.cause)
        return {}
    found = {
        chosen[each.members["record"].number].label: each.members["data"].number
        for each in windows
        if {"record", "data"} <= set(each.members)
    }
    missing = [each for each in chosen if each.label not in found]
    if missing:
        words = [f"{each.label} ({each.centre_hz / 1e9:.6f} GHz)" for each in missing]
        faults.append(f"the spectral windows {_listed(words)} are missing")
    return found


def _facts(number: int, window: WindowEntry) -> WindowFacts:
    step_hz = window.bandwidth_hz / window.channels
    first_hz = window.centre_hz - 0.5 * (window.channels - 1) * step_hz
    return WindowFacts(number, window.name, first_hz, step_hz, window.channels)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
