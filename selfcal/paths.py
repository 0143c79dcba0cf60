"""Options that name files, made absolute so that a config means the same in every folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfcal.options import Option

__all__ = ["absolute", "with_absolute_paths"]

_STEP_TABLES = ("init_parameters", "overrides")
_GLOBAL_TABLE = "global_parameters"
# text before a colon is not a folder: demo:3c273
_SCHEME = re.compile(r"\w+:")


def absolute(name: str) -> str:
    """Return the absolute name of a file or folder given relative to the current folder.

    A name such as ``demo:3c273`` and an empty name are unchanged.
    """
    path = Path(name).expanduser()
    if not name or (_SCHEME.match(name) and not path.exists()):
        return name
    return str(path.absolute())


def with_absolute_paths(
    config: Mapping[str, Any],
    options: Sequence[Option],
    steps: Mapping[str, Sequence[Option]],
) -> dict[str, Any]:
    """Return a config in which all options that name files hold absolute names.

    Parameters
    ----------
    config : mapping
        Values as a user wrote them; names with a dot are parameters of steps, as with ``--set``.
    options : sequence of Option
        Keys of the config itself.
    steps : mapping of str to sequence of Option
        Options of every existing step.

    Returns
    -------
    dict
        New config; the given one is unchanged.
    """
    own = {option.name: option for option in options}
    anywhere = {option.name: option for known in steps.values() for option in known}
    by_step = {step: {option.name: option for option in known} for step, known in steps.items()}
    by_step[_GLOBAL_TABLE] = anywhere
    found: dict[str, Any] = {}
    for key, value in config.items():
        step, dot, name = key.partition(".")
        if dot:
            found[key] = _value(by_step.get(step, {}).get(name), value)
        elif key == _GLOBAL_TABLE:
            found[key] = _table(anywhere, value)
        elif key in _STEP_TABLES and isinstance(value, Mapping):
            found[key] = {step: _table(by_step.get(step, {}), v) for step, v in value.items()}
        else:
            found[key] = _value(own.get(key), value)
    return found


def _table(options: Mapping[str, Option], values: Any) -> Any:
    """Return the parameters of a step; values that are no mapping are reported by later checks."""
    if not isinstance(values, Mapping):
        return values
    return {name: _value(options.get(name), value) for name, value in values.items()}


def _value(option: Option | None, value: Any) -> Any:
    """Return the value of an option, absolute where it names files."""
    if option is None or not option.names_files:
        return value
    return _named(option, option.parse(value))


def _named(option: Option, names: Any) -> Any:
    """Return parsed names made absolute: one, a list of them, or a mapping to these."""
    if isinstance(names, str):
        return _absolute(option, names)
    if isinstance(names, Mapping):
        return {key: _named(option, item) for key, item in names.items()}
    return [_absolute(option, name) for name in names]


def _absolute(option: Option, name: str) -> str:
    """Return a name made absolute, unless it is one of the option's words and not a file."""
    return name if name in option.words and not Path(name).exists() else absolute(name)
