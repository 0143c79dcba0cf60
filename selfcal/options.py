"""One parameter: its type, unit, default and meaning; errors in its value name a remedy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from libs.core.errors import ConfigError

__all__ = ["UNITS", "Option", "nearest", "unknown_name"]

# kind of quantity -> (unit of the parsed value, an example a user would write)
UNITS = {
    "time": ("s", "30s"),
    "angle": ("arcsec", "0.06arcsec"),
    "length": ("m", "80km"),
    "flux": ("Jy", "5mJy"),
    "frequency": ("Hz", "1.4GHz"),
    "memory": ("byte", "8GB"),
}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known name, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def unknown_name(what: str, name: str, known: Sequence[str]) -> ConfigError:
    """Return the error for an unknown name."""
    listed = ", ".join(sorted(known))
    return ConfigError(f"unknown {what} '{name}'{nearest(name, known)}", f"known: {listed}")


@dataclass(frozen=True)
class Option:
    """A parameter that a user may set.

    Attributes
    ----------
    name : str
    kind : str
        ``int``, ``float``, ``bool``, ``str``, ``choice``, ``names`` (list of str), ``path`` (a
        file or folder), ``paths`` (list of them), ``files`` (name of a file, a list of them, or a
        mapping of names to these), ``rounds`` (list of lists of str), ``size``
        (pixels, one or two), ``spwmap`` or a quantity with a unit: ``time``, ``angle``,
        ``length``, ``flux``, ``frequency``, ``memory``.
    default : object
        Default as a user would write it.
    meaning : str
        Meaning in one line, for ``-h`` and the documentation.
    choices : tuple of str
        Allowed values of a ``choice`` or members of ``names``.
    words : tuple of str
        Words allowed instead of a value, such as ``auto`` or ``inf``; for ``paths``, instead of any
        of them.
    minimum : float, optional
        Least allowed number.
    also : tuple of str
        Other names that a config may use for it.
    """

    name: str
    kind: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    minimum: float | None = None
    also: tuple[str, ...] = ()

    @property
    def names_files(self) -> bool:
        """True when the value names files or folders, which depend on the current folder."""
        return self.kind in ("path", "paths", "files")

    def parse(self, value: Any, where: str = "") -> Any:
        """Return the value, checked and in the unit of its kind.

        Raises
        ------
        ConfigError
            It has the wrong type or unit or is out of range; the error names the expected form.
        """
        place = f"{where}.{self.name}" if where else self.name
        if isinstance(value, str) and value in self.words and self.kind != "paths":
            return value
        try:
            parsed = self._convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"{place} = {value!r} is not {self.expected()} ({error})", "correct it"
            ) from error
        if self.minimum is not None and isinstance(parsed, (int, float)) and parsed < self.minimum:
            raise ConfigError(f"{place} = {value!r} is below {self.minimum:g}", "raise it")
        return parsed

    def expected(self) -> str:
        """Return the expected form of a value, for an error message."""
        if self.kind in UNITS:
            article = "an " if self.kind == "angle" else "" if self.kind == "memory" else "a "
            text = f"{article}{self.kind} with its unit such as '{UNITS[self.kind][1]}'"
        elif self.kind == "choice":
            text = "one of " + ", ".join(map(repr, self.choices))
        else:
            text = {
                "int": "a whole number", "float": "a number", "bool": "True or False",
                "str": "text", "names": "a list of names", "path": "the name of a file",
                "paths": "a list of names of files",
                "files": "the name of a file, a list of them, or a mapping of names to files",
                "rounds": "a list of lists of steps",
                "size": "a number of pixels or a pair", "spwmap": "a list of spw ids",
                "table": "a mapping",
            }[self.kind]  # fmt: skip
        return text + "".join(f" or '{word}'" for word in self.words)

    def _convert(self, value: Any) -> Any:
        if self.kind in UNITS:
            return _quantity(value, UNITS[self.kind][0])
        return _CONVERTERS[self.kind](self, value)


def _quantity(value: Any, unit: str) -> float:
    from astropy import units

    if not isinstance(value, str):
        raise TypeError("the unit is missing")
    quantity = units.Quantity(value)
    if quantity.unit == units.dimensionless_unscaled:
        raise ValueError("the unit is missing")
    number = float(quantity.to_value(unit))
    if not math.isfinite(number):
        raise ValueError("it is not finite")
    return number


def _int(option: Option, value: Any) -> int:
    if isinstance(value, str) and value.strip().lower().lstrip("+-").startswith(("0x", "0o", "0b")):
        return int(value, 0)
    if isinstance(value, bool) or float(value) != int(float(value)):
        raise ValueError("it is not whole")
    return int(float(value))


def _float(option: Option, value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError("it is not a finite number")
    return float(value)


def _bool(option: Option, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    raise TypeError("it is neither")


def _str(option: Option, value: Any) -> str:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"it is a {type(value).__name__}")


def _choice(option: Option, value: Any) -> str:
    if value not in option.choices:
        raise ValueError("it is not one of them" + nearest(str(value), option.choices))
    return str(value)


def _names(option: Option, value: Any) -> tuple[str, ...]:
    items = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    names = tuple(name for name in (_str(option, item) for item in items) if name)
    for name in names:
        if option.choices and name not in option.choices:
            raise ValueError(f"'{name}' is not one of {', '.join(option.choices)}")
    return names


def _rounds(option: Option, value: Any) -> tuple[tuple[str, ...], ...]:
    if isinstance(value, str):
        raise TypeError("it is text")
    for group in value:
        if isinstance(group, str):
            raise TypeError(f"'{group}' is not a list")
    return tuple(tuple(_str(option, name) for name in group) for group in value)


def _size(option: Option, value: Any) -> tuple[int, int]:
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2:
        raise ValueError("it does not have one or two numbers")
    sides = tuple(_int(option, side) for side in pair)
    if min(sides) < 16:
        raise ValueError("an image has at least 16 pixels a side")
    return sides[0], sides[1]


def _files(option: Option, value: Any) -> str | tuple[str, ...] | dict[str, Any]:
    if isinstance(value, dict):
        found = {_str(option, name): _files(option, item) for name, item in value.items()}
        if any(isinstance(item, dict) for item in found.values()):
            raise TypeError("it is a mapping of mappings")
        return found
    if isinstance(value, (list, tuple)):
        return tuple(_str(option, item) for item in value)
    return _str(option, value)


def _spwmap(option: Option, value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        raise TypeError("it is text")
    return tuple(_int(option, item) for item in value)


def _table(option: Option, value: Any) -> dict[str, Any]:
    if value == "":  # a key of YAML without a value
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"it is a {type(value).__name__}")
    return dict(value)


_CONVERTERS = {
    "int": _int, "float": _float, "bool": _bool, "str": _str, "choice": _choice, "names": _names,
    "path": _str, "paths": _names, "files": _files, "rounds": _rounds, "size": _size,
    "spwmap": _spwmap, "table": _table,
}  # fmt: skip
