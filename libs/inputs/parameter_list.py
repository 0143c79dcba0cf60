"""Parameter lists of the VLA Sky Survey's imaging: ``key=value`` lines and groups of windows.

Values are Python literals, which are read and never evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from libs.core.errors import ConfigError

__all__ = ["ParameterList", "group_label", "read_parameter_list", "window_groups"]


@dataclass(frozen=True)
class ParameterList:
    """A parameter list.

    Attributes
    ----------
    path : Path
    values : mapping of str to object
        Values by key.
    line : mapping of str to int
        Line of each key, from 1.
    """

    path: Path
    values: Mapping[str, Any]
    line: Mapping[str, int]

    def place(self, key: str) -> str:
        """Return where a key stands, for an error message: ``file:line``."""
        return f"{self.path.name}:{self.line[key]}" if key in self.line else self.path.name


def read_parameter_list(
    path: Path, known: Collection[str], required: Sequence[str] = ()
) -> ParameterList:
    """Read a parameter list.

    Parameters
    ----------
    path : Path
    known : collection of str
        Keys that have a meaning.
    required : sequence of str
        Keys that must be there.

    Raises
    ------
    ConfigError
        The file cannot be read, a line is not ``key=value``, a value is no literal, a key is
        unknown, given twice or missing.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error})", "correct its name") from error
    values: dict[str, Any] = {}
    place: dict[str, int] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        where = f"{path.name}:{number}"
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", key):
            raise ConfigError(f"{where}: {text.strip()!r} is not key=value", "correct the line")
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: unknown parameter {key!r}", hint)
        if key in values:
            raise ConfigError(f"{where}: {key} was given in line {place[key]}", "give it once")
        try:
            values[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ConfigError(
                f"{where}: the value of {key}, {value!r}, is no literal",
                "write text in quotes, numbers, lists or tables",
            ) from error
        place[key] = number
    missing = [key for key in required if values.get(key) in (None, "", [])]
    if missing:
        raise ConfigError(f"{path} has no {', '.join(missing)}", "add what is missing")
    return ParameterList(path, values, place)


def window_groups(
    given: Any, centre_mhz: Mapping[int, float], where: str
) -> tuple[tuple[int, ...], ...]:
    """Return groups of spectral windows.

    Parameters
    ----------
    given : object
        List of groups, each a text of ids with commas between: ``['2', '3']``,
        ``['2,3,4', '5,6,7']``; or one such text, a group of its own. ``2988MHz`` names the
        window with that centre.
    centre_mhz : mapping of int to float
        Centres of the windows of the data by id.
    where : str
        File and line, for errors.

    Raises
    ------
    ConfigError
        A group has channels or a range, names a window that does not exist, or one twice.
    """
    items = [given] if isinstance(given, (str, int)) else list(given)
    groups = []
    for item in items:
        text = str(item)
        for sign, what in ((":", "channels"), ("~", "a range of windows")):
            if sign in text:
                raise ConfigError(
                    f"{where}: spw {text!r} selects {what}",
                    "name whole windows with commas between, such as '2,3,4'",
                )
        group = tuple(_window(part.strip(), centre_mhz, where) for part in text.split(","))
        if len(set(group)) < len(group):
            raise ConfigError(f"{where}: spw {text!r} names a window twice", "name each once")
        groups.append(group)
    if not groups:
        raise ConfigError(f"{where}: spw is empty", "name at least one window")
    if len(set(groups)) < len(groups):
        raise ConfigError(f"{where}: spw names a group twice", "name each group once")
    return tuple(groups)


def _window(text: str, centre_mhz: Mapping[int, float], where: str) -> int:
    """Return the id of one window."""
    if text.isdigit() and int(text) in centre_mhz:
        return int(text)
    frequency = re.fullmatch(r"(\d+(?:\.\d+)?)MHz", text)
    if frequency:
        wanted = float(frequency[1])
        # the survey's names are whole MHz, cut off
        found = [spw for spw, mhz in centre_mhz.items() if -0.5 <= mhz - wanted < 1.0]
        if len(found) == 1:
            return found[0]
        named = "no window has" if not found else f"windows {found} all have"
        raise ConfigError(f"{where}: {named} a centre of {text}", _listed(centre_mhz))
    raise ConfigError(f"{where}: there is no window {text!r}", _listed(centre_mhz))


def _listed(centre_mhz: Mapping[int, float]) -> str:
    return "windows: " + ", ".join(f"{spw} ({mhz:.0f} MHz)" for spw, mhz in centre_mhz.items())


def group_label(spws: Sequence[int]) -> str:
    """Return the name of a group in names of images, such as ``spw2_3_4``."""
    return "spw" + "_".join(map(str, spws))
