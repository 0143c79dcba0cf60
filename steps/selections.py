"""What a run takes of each of its inputs: fields by id, windows and channels by number.

Names of fields are looked up here and handed on as ids, because CASA's syntax of selections reads
some of them otherwise. The numbers of fields and windows that a user gives are those of the first
execution; they are translated for the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError, InputError
from libs.inputs.input_data import InputData, reading, resolve_inputs
from libs.ms.selection import parse_windows
from libs.ms.subtables import Subtables
from libs.ms.view import read_view
from libs.ms.virtual_windows import find_virtual_windows, select_windows
from selfcal.options import nearest
from selfcal.settings import Settings
from steps.cont_file import cont_file
from steps.copy_names import copy_name, field_word
from steps.targets.executions import Execution, in_order_of_time, survey
from steps.targets.plan import MOVES, Sighting, find_pointings

__all__ = ["EXECUTIONS_SETTING", "SelectedInput", "selected_inputs"]

EXECUTIONS_SETTING = "executions"
_KEYS = ("field", "spw", "copy", "windows")


@dataclass(frozen=True)
class SelectedInput:
    """An input and what is taken of it.

    Attributes
    ----------
    source : InputData
    field, spw : str
        Selections in CASA's syntax; empty means all.
    copy : str
        Name of the working copy without ``.ms``.
    virtual : dict of int to int
        Virtual number of each window, where it is not the input's own.
    """

    source: InputData
    field: str
    spw: str
    copy: str
    virtual: Mapping[int, int] = dataclass_field(default_factory=dict)


def selected_inputs(settings: Settings) -> list[SelectedInput]:
    """Return the inputs of a run, several measurement sets in order of time.

    Raises
    ------
    ConfigError
        ``executions`` does not fit to ``vis``, or field and spw do not say what is meant in each
        execution.
    InputError
        An input cannot be read, or has no data of the field.
    """
    sources = resolve_inputs(settings["vis"])
    field, spw = settings["field"], settings["spw"]
    given = settings[EXECUTIONS_SETTING]
    if given:
        if field or spw:
            raise ConfigError("executions is set beside field or spw", "leave these empty")
        return [_given(source, _entry(given, source)) for source in _checked(given, sources)]
    if any(source.kind != "ms" for source in sources):
        return [SelectedInput(s, field, spw, f"{s.name}.selfcal") for s in sources]
    if len(sources) == 1:
        (source,) = sources
        ids = _ids_of_name(source, field)
        return [_named(source, ids if ids else field, spw)]
    surveyed = [(survey(source), source) for source in sources]
    by_vis = {execution.vis: source for execution, source in surveyed}
    ordered = in_order_of_time([execution for execution, _ in surveyed])
    needed = bool(spw) or cont_file(settings) is not None
    return [
        replace(_named(by_vis[vis], words, own), virtual=virtual)
        for vis, (words, own, virtual) in _translated(ordered, field, spw, needed).items()
    ]


# -- what the config says of each ------------------------------------------------------------------


def _checked(given: Mapping[str, Any], sources: Sequence[InputData]) -> Sequence[InputData]:
    """Return the sources, each of which the table must name, and none other."""
    paths = {source.path: source.vis for source in sources}
    for name, entry in given.items():
        if Path(name).expanduser().resolve() not in paths:
            known = list(paths.values())
            raise ConfigError(
                f"executions names {name}, which is not in vis{nearest(name, known)}",
                f"vis has {', '.join(known)}",
            )
        if not isinstance(entry, Mapping) or not set(entry) <= set(_KEYS):
            raise ConfigError(
                f"executions['{name}'] = {entry!r}", "write {'field': '1', 'spw': '0~3:5~60'}"
            )
    for source in sources:
        _entry(given, source)
    return sources


def _entry(given: Mapping[str, Any], source: InputData) -> Mapping[str, Any]:
    for name, entry in given.items():
        if Path(name).expanduser().resolve() == source.path:
            return dict(entry)
    raise ConfigError(f"executions does not name {source.vis}", "add it, or leave it out of vis")


def _given(source: InputData, entry: Mapping[str, Any]) -> SelectedInput:
    field, spw = str(entry.get("field", "")), str(entry.get("spw", ""))
    found = _named(source, _ids_of_name(source, field) or field, spw)
    if entry.get("copy"):
        found = replace(found, copy=str(entry["copy"]))
    if not entry.get("windows"):
        return found
    own, virtual = _leading_numbers(spw), _leading_numbers(str(entry["windows"]))
    if len(own) != len(virtual):
        raise ConfigError(
            f"executions['{source.vis}'] has {len(virtual)} windows for spw = {spw!r}",
            "give one for each word of spw, or leave windows out",
        )
    return replace(found, virtual=dict(zip(own, virtual, strict=True)))


def _leading_numbers(text: str) -> list[int]:
    """Numbers of the windows in ``"3:5~60,4"``."""
    return [int(number) for number in re.findall(r"(?:^|,)\s*(\d+)", text)]


# -- what one field and spw mean in each -----------------------------------------------------------


def _translated(
    ordered: Sequence[Execution], field: str, spw: str, needed: bool
) -> dict[str, tuple[str, str, dict[int, int]]]:
    """Field, spw and virtual numbers of the windows of each execution, by its name, in order."""
    seen = _seen(ordered, field)
    fields = {
        execution.vis: seen[execution.vis] if seen else tuple(sorted(execution.used))
        for execution in ordered
    }
    moving = [e for e in ordered if seen and e.moves(seen[e.vis])]
    if moving:
        names = dict.fromkeys(e.fields[number] for e in moving for number in seen[e.vis])
        raise ConfigError(
            MOVES.format(name=", ".join(names)), "calibrate each execution by itself, with one vis"
        )
    words = {vis: ",".join(map(str, ids)) if seen else field for vis, ids in fields.items()}
    own_windows = [each.windows_of(fields[each.vis]) for each in ordered]
    if not needed:
        with suppress(ConfigError):  # which windows are the same is nobody's question here
            find_virtual_windows(own_windows)
            needed = True
    if not needed:
        return {vis: (word, spw, {}) for vis, word in words.items()}
    windows = find_virtual_windows(own_windows)
    virtual = {
        each.vis: {
            window.members[each.vis].number: window.number
            for window in windows if each.vis in window.members
        }
        for each in ordered
    }  # fmt: skip
    if not spw:
        return {vis: (word, "", virtual[vis]) for vis, word in words.items()}
    chosen = select_windows(spw, windows)
    found = {}
    for execution in ordered:
        own = [chosen[number].get(execution.vis) for number in sorted(chosen)]
        text = ",".join(word for word in own if word)
        if not text:
            raise InputError(f"{execution.vis} has no data in spw = {spw!r}", "leave it out of vis")
        found[execution.vis] = (words[execution.vis], text, virtual[execution.vis])
    return found


def _seen(ordered: Sequence[Execution], field: str) -> dict[str, tuple[int, ...]]:
    """Ids of a field given by its name, or by its id in the first execution; empty: otherwise."""
    name = field.strip()
    first = ordered[0]
    if name.isdigit() and not any(name in execution.fields for execution in ordered):
        number = int(name)
        if number not in first.used:
            raise ConfigError(f"{first.vis} has no data of field {number}", "name the field")
        pointings = [
            seen for seen in find_pointings(ordered, first.fields[number])
            if seen[0].execution is first and number in seen[0].fields
        ]  # fmt: skip
    elif any(name in execution.fields for execution in ordered):
        pointings = find_pointings(ordered, name)
    else:
        return {}
    sightings: list[Sighting] = [one for seen in pointings for one in seen]
    found: dict[str, tuple[int, ...]] = {}
    for execution in ordered:
        own = [s.fields for s in sightings if s.execution is execution]
        if not own:
            raise InputError(
                f"{execution.vis} has no data of field {field!r}", "leave it out of vis"
            )
        found[execution.vis] = tuple(sorted(number for ids in own for number in ids))
    return found


def _ids_of_name(source: InputData, field: str) -> str:
    """Ids of the fields of a name, as a selection; empty where the text is no name of a field."""
    name = field.strip()
    if not name or source.kind != "ms":
        return ""
    with reading(source.vis), read_view(source.path) as view:
        names = [each.name.strip() for each in Subtables(view.path).fields]
    return ",".join(str(number) for number, other in enumerate(names) if other == name)


# -- names of working copies ----------------------------------------------------------------------


def _named(source: InputData, field: str, spw: str) -> SelectedInput:
    """Name the working copy by what the rows of a selection are of."""
    execution = survey(source)
    ids = _selected_fields(execution, field)
    used = frozenset().union(*(execution.used[number] for number in ids)) if ids else frozenset()
    windows = sorted(used)
    with suppress(ConfigError):  # windows named by frequency: the name has all of the field
        windows = sorted(used & parse_windows(spw, len(execution.windows)).keys())
    names = list(dict.fromkeys(execution.fields[number] for number in ids))
    word = "_".join(field_word(name) for name in names[:3]) or "field"
    return SelectedInput(source, field, spw, copy_name(source.name, word, windows))


def _selected_fields(execution: Execution, field: str) -> list[int]:
    """Fields with data that a selection by ids takes; all of them where it is of another form."""
    if re.fullmatch(r"[\d, ]+", field):
        wanted = {int(word) for word in field.split(",") if word.strip()}
        return [number for number in sorted(execution.used) if number in wanted]
    return sorted(execution.used)
