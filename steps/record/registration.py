"""Registration of self-calibrated data in HISTORY, as the observatories' pipelines read it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.ms.history import (
    ORIGIN_OF_TYPES,
    DataTypes,
    append_history,
    read_data_types,
    read_history,
)
from libs.ms.subtables import Subtables

__all__ = ["Registered", "Registration", "register", "registered", "source_keys", "withdraw"]

_ORIGIN = "selfcal"
_SOLUTIONS = "selfcal_solutions"
_REGULAR, _SELF = "REGCAL_", "SELFCAL_"
_DEFAULT = "CONTLINE_SCIENCE"

Key = tuple[str, int]


@dataclass(frozen=True)
class Registration:
    """What is to be registered of one measurement set: solutions by source and window."""

    ms: Path
    solutions: dict[Key, str]


@dataclass(frozen=True)
class Registered:
    """What a measurement set's HISTORY says.

    Attributes
    ----------
    types : DataTypes
    solutions : dict of (str, int) to str
        Identity of the solutions that were applied, by name of the source and id of the window.
    """

    types: DataTypes
    solutions: dict[Key, str]

    def conflicts(self, wanted: Registration) -> list[str]:
        """Return why nothing may be written over what is registered."""
        faults = []
        others = sorted(
            key
            for key, identity in wanted.solutions.items()
            if any(kind.startswith(_SELF) for kind in self.types.per_source.get(key, ()))
            and self.solutions.get(key) != identity
        )
        if others:
            names = ", ".join(dict.fromkeys(name for name, _ in others))
            faults.append(f"self-calibrated data of {names} are registered already")
        corrected = [k for k, column in self.types.per_column.items() if column == "CORRECTED_DATA"]
        regular = [kind for kind in corrected if not kind.startswith(_SELF)]
        if regular:
            faults.append(
                f"CORRECTED_DATA is registered as {', '.join(regular)}, on which the solutions"
                " would have to be applied: split it to DATA first"
            )
        return faults

    def holds(self, wanted: Registration) -> bool:
        """Whether just these solutions are registered."""
        return all(self.solutions.get(key) == value for key, value in wanted.solutions.items())


def registered(ms: Path) -> Registered:
    """Read what is registered."""
    found: dict[Key, str] = {}
    for text in read_history(ms, _ORIGIN):
        name, _, value = text.partition("=")
        if name.strip() != _SOLUTIONS:
            continue
        try:
            literal = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            continue  # cut short by a kill: the solutions count as not applied
        found = {(str(key[0]), int(key[1])): str(identity) for key, identity in literal.items()}
    return Registered(read_data_types(ms), found)


def register(wanted: Registration) -> None:
    """Write what was applied; nothing where it is registered already."""
    before = registered(wanted.ms)
    if before.holds(wanted):
        return
    kind = _kind(before.types)
    columns = {
        **{
            name: column
            for name, column in before.types.per_column.items()
            if column != "CORRECTED_DATA"
        },
        f"{_SELF}{kind}": "CORRECTED_DATA",
    }
    columns = {f"{_REGULAR}{kind}": "DATA", **columns}
    sources = dict(before.types.per_source)
    for key in sorted(wanted.solutions):
        kept = [name for name in sources.get(key, ()) if not name.startswith(_SELF)]
        sources[key] = (*(kept or [f"{_REGULAR}{kind}"]), f"{_SELF}{kind}")
    append_history(wanted.ms, ORIGIN_OF_TYPES, DataTypes(columns, sources).messages)
    # last: data count as calibrated only when all is written
    solutions = {**before.solutions, **wanted.solutions}
    append_history(wanted.ms, _ORIGIN, [f"{_SOLUTIONS} = {solutions}"])


def withdraw(ms: Path, keys: Iterable[Key]) -> None:
    """Write that sources are not self-calibrated in some windows any more."""
    before = registered(ms)
    gone = set(keys)
    sources = {
        key: tuple(n for n in kinds if key not in gone or not n.startswith(_SELF))
        for key, kinds in before.types.per_source.items()
    }
    # solutions last: after a kill in between, what is to be withdrawn is still found by them
    types = DataTypes(before.types.per_column, sources)
    append_history(ms, ORIGIN_OF_TYPES, types.messages)
    solutions = {key: value for key, value in before.solutions.items() if key not in gone}
    append_history(ms, _ORIGIN, [f"{_SOLUTIONS} = {solutions}"])


def _kind(types: DataTypes) -> str:
    """Return the kind of science data that DATA holds: continuum, line or both."""
    for name, column in types.per_column.items():
        if column == "DATA" and name.startswith(_REGULAR) and name.endswith("_SCIENCE"):
            return name.removeprefix(_REGULAR)
    return _DEFAULT


def source_keys(ms: Path, fields: Sequence[int], windows: Iterable[int]) -> list[Key]:
    """Return the sources and windows of some fields as HISTORY names them."""
    names = [Subtables(ms).fields[number].name.strip() for number in fields]
    return [(name, window) for name in dict.fromkeys(names) for window in windows]
