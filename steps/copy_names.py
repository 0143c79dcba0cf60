"""Names of working copies: execution, field and windows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from libs.ms.virtual_windows import window_text

__all__ = ["copy_name", "field_word", "windows_word"]

_LONGEST = 60  # characters of a field or a list of windows in the name of a file


def field_word(name: str) -> str:
    """Return a field's name as it is in names of files."""
    return re.sub(r"[^A-Za-z0-9_.+\-]", "_", name.strip()).strip(".")[:_LONGEST] or "field"


def windows_word(windows: Sequence[int]) -> str:
    """Return numbers of windows as they are in names of files, ascending.

    A list that is too long for the name of a file is shortened to ranges.
    """
    numbers = "_".join(map(str, sorted(windows)))
    if len(numbers) > _LONGEST:
        numbers = window_text(windows).replace("~", "-").replace(";", "_")
    return numbers[:_LONGEST]


def copy_name(execution: str, field: str, windows: Sequence[int]) -> str:
    """Return the name of a working copy: execution, field, and windows in order of number."""
    return f"{execution}.{field}.spw{windows_word(windows)}.selfcal"
