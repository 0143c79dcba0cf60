"""Frozen dataclasses to plain JSON values and back, with every fault named by its place."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

__all__ = ["decode", "encode"]

_PLAIN = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def encode(value: Any) -> Any:
    """Return a value as JSON holds it: dataclasses as objects, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {each.name: encode(getattr(value, each.name)) for each in fields}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: Any, value: Any, place: str, faults: list[str]) -> Any:
    """Return a value of a type from its JSON form.

    Keys that the type does not know are ignored, so that a later version may add some.

    Parameters
    ----------
    kind : type
        A frozen dataclass, a plain type, ``tuple[X, ...]``, ``Mapping[str, X]`` or a union.
    value : object
        As `json.loads` returns it.
    place : str
        Place of the value, for faults.
    faults : list of str
        Receives what is wrong; the value returned is of no use then.
    """
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, place, faults)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, place, faults)
    if origin is tuple:
        if not isinstance(value, list):
            return _wrong(place, "a list", faults)
        return tuple(
            decode(arguments[0], item, f"{place}[{number}]", faults)
            for number, item in enumerate(value)
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            return _wrong(place, "an object", faults)
        items = value.items()
        return {key: decode(arguments[1], item, f"{place}[{key}]", faults) for key, item in items}
    return _plain(kind, value, place, faults)


def _record(kind: Any, value: Any, place: str, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        return _wrong(place or "the content", "an object", faults)
    hints = typing.get_type_hints(kind)
    found, count = {}, len(faults)
    for each in dataclasses.fields(kind):
        where = f"{place}.{each.name}" if place else each.name
        if each.name in value:
            found[each.name] = decode(hints[each.name], value[each.name], where, faults)
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            faults.append(f"{where} is missing")
    return kind(**found) if len(faults) == count else None


def _union(kinds: tuple[Any, ...], value: Any, place: str, faults: list[str]) -> Any:
    for kind in kinds:
        tried: list[str] = []
        found = decode(kind, value, place, tried)
        if not tried:
            return found
    return _wrong(place, " or ".join(_PLAIN.get(kind, "an object") for kind in kinds), faults)


def _plain(kind: Any, value: Any, place: str, faults: list[str]) -> Any:
    truth = isinstance(value, bool)
    if kind is float and isinstance(value, int | float) and not truth and math.isfinite(value):
        return float(value)
    if kind is not float and isinstance(value, kind) and (truth == (kind is bool)):
        return value
    return _wrong(place, _PLAIN[kind], faults)


def _wrong(place: str, wanted: str, faults: list[str]) -> None:
    faults.append(f"{place} is not {wanted}")
