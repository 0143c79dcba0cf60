"""Options that name files: a config made to mean the same files from every folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfcal.options import Option

__all__ = ["absolute", "with_absolute_paths"]

_STEP_TABLES = ("init_parameters", "overrides")
_GLOBAL_TABLE = "global_parameters"
# what stands before a colon is no folder: demo:3c273
_SCHEME = re.compile(r"\w+:")


def absolute(name: str) -> str:
    """Return the name of a file or folder as it is from the current folder, absolute.

    A name such as ``demo:3c273``, and an empty one, stay as they are.
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
    """Return a config in which every option that names files names them absolutely.

    Parameters
    ----------
    config : mapping
        Values as a user wrote them; names with a dot are parameters of steps, as ``--set``
        assigns them.
    options : sequence of Option
        The config's own keys.
    steps : mapping of str to sequence of Option
        Options of every step there is.

    Returns
    -------
    dict
        The config is left as it was.
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
    """The parameters of a step; what is no mapping is told where the config is checked."""
    if not isinstance(values, Mapping):
        return values
    return {name: _value(options.get(name), value) for name, value in values.items()}


def _value(option: Option | None, value: Any) -> Any:
    """The value of an option, absolute where it names files."""
    if option is None or not option.names_files:
        return value
    names = option.parse(value)
    if isinstance(names, str):
        return _absolute(option, names)
    return [_absolute(option, name) for name in names]


def _absolute(option: Option, name: str) -> str:
    """The name made absolute, unless it is one of the option's words and no file."""
    return name if name in option.words and not Path(name).exists() else absolute(name)
