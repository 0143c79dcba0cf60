"""HISTORY of a measurement set: what types of data its columns hold, as pipelines register it.

A pipeline of ALMA or the VLA writes two messages with the origin ``Datatype Handler``, Python
literals each; the last of a kind counts::

    data_type_per_column = {'REGCAL_CONTLINE_SCIENCE': 'DATA', ...}
    data_types_per_source_and_spw = {('NAME', 16): ['REGCAL_CONTLINE_SCIENCE', ...], ...}
"""

from __future__ import annotations

import ast
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from libs.core.geometry import DAY_S, MJD_ZERO_JD
from libs.ms.tables import open_table

__all__ = ["ORIGIN_OF_TYPES", "DataTypes", "append_history", "read_data_types", "read_history"]

ORIGIN_OF_TYPES = "Datatype Handler"
_PER_COLUMN = "data_type_per_column"
_PER_SOURCE = "data_types_per_source_and_spw"
_UNIX_ZERO_JD = 2440587.5


@dataclass(frozen=True)
class DataTypes:
    """Types of data that are registered in a measurement set.

    Attributes
    ----------
    per_column : dict of str to str
        Column by type.
    per_source : dict of (str, int) to tuple of str
        Types by name of the source and id of the spectral window.
    """

    per_column: Mapping[str, str] = field(default_factory=dict)
    per_source: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)

    @property
    def messages(self) -> tuple[str, str]:
        """Messages for HISTORY."""
        sources = {key: list(types) for key, types in self.per_source.items()}
        return f"{_PER_COLUMN} = {dict(self.per_column)}", f"{_PER_SOURCE} = {sources}"


def read_history(ms: str | Path, origin: str) -> list[str]:
    """Return the messages of one origin, in the order they were written."""
    with open_table(f"{ms}::HISTORY") as opened:
        if not opened.nrows():
            return []
        origins, messages = opened.getcol("ORIGIN"), opened.getcol("MESSAGE")
    return [text for text, name in zip(messages, origins, strict=True) if name == origin]


def append_history(
    ms: str | Path,
    origin: str,
    messages: Sequence[str],
    *,
    application: str = "selfcal",
    command: str = "",
) -> None:
    """Append messages to HISTORY, in one write each.

    Parameters
    ----------
    ms : path
    origin : str
        What the messages come from.
    messages : sequence of str
    application : str
        Name and version of the program.
    command : str
        Command line.
    """
    now_s = time.time() + (_UNIX_ZERO_JD - MJD_ZERO_JD) * DAY_S
    with open_table(f"{ms}::HISTORY", write=True) as opened:
        columns = set(opened.colnames())
        for text in messages:
            row = opened.nrows()
            opened.addrows(1)
            values: dict[str, Any] = {
                "TIME": now_s, "OBSERVATION_ID": 0, "MESSAGE": text, "PRIORITY": "NORMAL",
                "ORIGIN": origin, "OBJECT_ID": 0, "APPLICATION": application,
            }  # fmt: skip
            for name, value in values.items():
                if name in columns:
                    opened.putcell(name, row, value)
            for name, value in (("CLI_COMMAND", command), ("APP_PARAMS", "")):
                if name in columns:
                    opened.putcell(name, row, np.array([value], dtype=str))


def read_data_types(ms: str | Path) -> DataTypes:
    """Return the types of data that are registered; nothing where none are, or they are unreadable.

    A message cut off or written by hand in another form says nothing that can be relied on.
    """
    found: dict[str, Any] = {}
    for text in reversed(read_history(ms, ORIGIN_OF_TYPES)):
        name, _, value = text.partition("=")
        name = name.strip()
        if name not in (_PER_COLUMN, _PER_SOURCE) or name in found:
            continue
        try:
            literal = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            continue
        if isinstance(literal, dict):
            found[name] = literal
    return DataTypes(
        {str(key): str(value) for key, value in found.get(_PER_COLUMN, {}).items()},
        {
            (str(key[0]), int(key[1])): tuple(map(str, types))
            for key, types in found.get(_PER_SOURCE, {}).items()
        },
    )
