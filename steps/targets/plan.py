"""Which targets and bands the data of a run with several targets hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from libs.core.errors import ConfigError
from libs.inputs.input_data import InputData
from libs.ms.rows import stretches
from libs.ms.selection import parse_windows
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from libs.ms.view import read_view
from selfcal.options import nearest
from steps.instruments import identify

__all__ = ["ALL", "Execution", "Target", "find_targets", "survey"]

ALL = ("all",)
_INTENT = "OBSERVE_TARGET"
_KEYS = ("FIELD_ID", "DATA_DESC_ID", "STATE_ID")
# names that CASA selects by as they are; digits alone would be an id
_PLAIN = re.compile(r"[\w+\-. ]*[A-Za-z][\w+\-. ]*", re.ASCII)


@dataclass(frozen=True)
class Execution:
    """What one measurement set holds.

    Attributes
    ----------
    vis : str
        As the user wrote it.
    telescope : str
    fields : tuple of str
        Names by id.
    window_hz : tuple of float
        Mean frequency of each spectral window.
    windows : dict of int to frozenset of int
        Of each field with cross-correlations: the windows they are in.
    intents : dict of int to frozenset of str
        And the observing modes of their states; empty where the data carry none.
    """

    vis: str
    telescope: str
    fields: tuple[str, ...]
    window_hz: tuple[float, ...]
    windows: Mapping[int, frozenset[int]]
    intents: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def is_target(self, number: int) -> bool:
        """Whether a field was observed as a target, or nothing says what fields were for."""
        if not any(self.intents.values()):
            return True
        return any(_INTENT in mode for mode in self.intents.get(number, ()))


@dataclass(frozen=True)
class Target:
    """A field in a band: what is a run of its own.

    Attributes
    ----------
    label : str
        Name of its folder; no two share it.
    name, band : str
        Field, and band as in ``templates/instruments.yaml``; the band may be empty.
    field, spw : str
        What its run selects; spw is empty where it has all windows of the field.
    vis : tuple of str
        Its executions.
    notes : tuple of str
        What is left out.
    problem : str
        Why it cannot be run; empty when it can.
    """

    label: str
    name: str
    band: str
    field: str
    spw: str
    vis: tuple[str, ...]
    notes: tuple[str, ...] = ()
    problem: str = ""


def survey(source: InputData) -> Execution:
    """Read which fields, windows and intents a measurement set holds.

    Raises
    ------
    ConfigError
        The input is no measurement set.
    InputError
        It cannot be read.
    """
    if source.kind != "ms":
        raise ConfigError(
            f"targets are looked for in measurement sets, {source.vis} is {source.kind}",
            "import it first, or leave targets out",
        )
    with read_view(source.path) as view:
        tables = Subtables(view.path)
        names = tuple(field.name.strip() for field in tables.fields)
        centre = tuple(window.mean_hz for window in tables.windows)
        descriptions, states, telescope = tables.descriptions, tables.states, tables.telescope
        with open_table(view.path) as opened:
            found = _combinations(opened)
    used: dict[int, set[int]] = {}
    intents: dict[int, set[str]] = {}
    for number, description, state in sorted(found):
        used.setdefault(number, set()).add(descriptions[description].spw)
        mode = states[state].intents if 0 <= state < len(states) else ""
        intents.setdefault(number, set()).update({mode} - {""})
    return Execution(
        source.vis, telescope, names, centre,
        {number: frozenset(values) for number, values in used.items()},
        {number: frozenset(values) for number, values in intents.items()},
    )  # fmt: skip


def _combinations(opened: Any) -> set[tuple[int, int, int]]:
    """Field, data description and state of all cross-correlations."""
    found: set[tuple[int, int, int]] = set()
    for low, count in stretches(opened.nrows()):
        cross = opened.getcol("ANTENNA1", low, count) != opened.getcol("ANTENNA2", low, count)
        keys = np.stack([opened.getcol(name, low, count)[cross] for name in _KEYS], axis=1)
        found.update((int(f), int(d), int(s)) for f, d, s in np.unique(keys, axis=0))
    return found


# -- from what the data hold to what is run ------------------------------------------------------


@dataclass(frozen=True)
class _Sighting:
    """A field in an execution: its id, and what selects its windows, by band."""

    execution: Execution
    number: int
    bands: Mapping[str, str]


def find_targets(
    executions: Sequence[Execution],
    wanted: Sequence[str],
    *,
    spw: str = "",
    instrument: str = "auto",
    band: str = "auto",
) -> list[Target]:
    """Return every target in every band, in the order of the fields.

    Parameters
    ----------
    executions : sequence of Execution
    wanted : sequence of str
        Names of fields, or `ALL`.
    spw : str
        Windows and channels to keep, by number; empty: all.
    instrument, band : str
        As in the config; a band that is named is that of all windows.

    Raises
    ------
    ConfigError
        A field is in none of the executions, ``all`` finds none, or windows are not named by
        number.
    """
    names = _names(executions, wanted)
    selections = [parse_windows(spw, len(execution.window_hz)) for execution in executions]
    found: list[Target] = []
    taken: set[str] = set()
    for name, number in _fields(executions, names):
        sightings = [
            _Sighting(execution, here, _bands(execution, here, selection, instrument, band))
            for execution, selection in zip(executions, selections, strict=True)
            for here in _ids(execution, name, number)
        ]
        targets = _targets_of(name, number, sightings, executions, spw, taken)
        if not targets and tuple(wanted) != ALL:
            raise ConfigError(f"{name} has no data in spw = {spw!r}", "leave it out of targets")
        found += targets
    if not found:
        raise ConfigError(f"no target has data in spw = {spw!r}", "correct spw")
    return found


def _names(executions: Sequence[Execution], wanted: Sequence[str]) -> list[str]:
    """Names of the fields to calibrate, in the order asked for or that of the data."""
    there = dict.fromkeys(
        execution.fields[number] for execution in executions for number in execution.windows
    )
    if tuple(wanted) != ALL:
        for name in wanted:
            if name.strip() not in there:
                raise ConfigError(
                    f"targets names '{name}', which has no data{nearest(name, there)}",
                    f"there are {', '.join(there)}",
                )
        return list(dict.fromkeys(name.strip() for name in wanted))
    names = dict.fromkeys(
        execution.fields[number]
        for execution in executions
        for number in sorted(execution.windows)
        if execution.is_target(number)
    )
    if not names:
        raise ConfigError(
            f"no field has the intent {_INTENT}",
            f"name the targets; there are {', '.join(there)}",
        )
    return list(names)


def _fields(executions: Sequence[Execution], names: Sequence[str]) -> list[tuple[str, int | None]]:
    """Name and, where an execution has several fields of that name, the id of each field."""
    found: list[tuple[str, int | None]] = []
    for name in names:
        ids = [_ids(execution, name, None) for execution in executions]
        several = max(map(len, ids)) > 1
        numbers = sorted(set().union(*ids)) if several else []
        found += [(name, number) for number in numbers] if several else [(name, None)]
    return found


def _ids(execution: Execution, name: str, number: int | None) -> list[int]:
    """Ids of the fields of a name that have data; of one id where it is given."""
    ids = [i for i in sorted(execution.windows) if execution.fields[i] == name]
    return ids if number is None else [i for i in ids if i == number]


def _bands(
    execution: Execution, number: int, selection: Mapping[int, str], instrument: str, band: str
) -> dict[str, str]:
    """What selects a field's windows, those of the selection only, by band."""
    found: dict[str, list[str]] = {}
    for window in sorted(execution.windows[number] & selection.keys()):
        name = identify(execution.telescope, execution.window_hz[window], instrument, band)[1]
        found.setdefault(name, []).append(selection[window])
    return {name: ",".join(parts) for name, parts in found.items()}


def _targets_of(
    name: str,
    number: int | None,
    sightings: Sequence[_Sighting],
    executions: Sequence[Execution],
    spw: str,
    taken: set[str],
) -> list[Target]:
    """The targets that one field makes, a band each."""
    bands = list(dict.fromkeys(band for sighting in sightings for band in sighting.bands))
    stem = re.sub(r"[^A-Za-z0-9_.+\-]", "_", name).strip(".") or "field"
    if number is not None:
        stem += f"_{number}"
    found = []
    for band in bands:
        label = _distinct(f"{stem}_{band or 'other'}" if len(bands) > 1 else stem, taken)
        here = [sighting for sighting in sightings if band in sighting.bands]
        vis = tuple(sighting.execution.vis for sighting in here)
        said = f"has no {band} data of {name}" if len(bands) > 1 else f"has no data of {name}"
        notes = tuple(f"{e.vis} {said}" for e in executions if e.vis not in vis)
        chosen, no_field = _field_selection(name, here)
        windows, no_spw = _window_selection(band, here, spw)
        problem = no_field or no_spw
        found.append(Target(label, name, band, chosen, windows, vis, notes, problem))
    return found


def _distinct(label: str, taken: set[str]) -> str:
    """A label that is not taken yet, also where letters of both cases are one."""
    name, number = label, 2
    while name.lower() in taken:
        name, number = f"{label}_{number}", number + 1
    taken.add(name.lower())
    return name


def _field_selection(name: str, sightings: Sequence[_Sighting]) -> tuple[str, str]:
    """What selects the field in every execution, and why nothing does.

    By id where it is the same everywhere, since names may hold what means something to CASA.
    """
    numbers = {sighting.number for sighting in sightings}
    if len(numbers) == 1:
        return str(numbers.pop()), ""
    if _PLAIN.fullmatch(name):
        return name, ""
    return "", f"its name cannot be selected by, and its ids differ: {sorted(numbers)}"


def _window_selection(band: str, sightings: Sequence[_Sighting], spw: str) -> tuple[str, str]:
    """What selects the band's windows in every execution, and why nothing does."""
    if all(len(sighting.bands) == 1 for sighting in sightings):
        return spw, ""
    selections = {sighting.bands[band] for sighting in sightings}
    if len(selections) == 1:
        return selections.pop(), ""
    listed = "; ".join(f"{s.execution.vis} {s.bands[band]}" for s in sightings)
    return "", f"its executions number the windows of band {band} differently ({listed})"
