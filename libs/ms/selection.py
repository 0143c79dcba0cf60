"""Which rows of a measurement set a command writes: those of some fields and spectral windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError
from libs.ms.tables import open_table

__all__ = ["RowChoice", "choose_fields"]


@dataclass(frozen=True)
class RowChoice:
    """Rows of a measurement set by field and data description; a `libs.ms.tables.RowFilter`.

    Attributes
    ----------
    fields : frozenset of int or None
        FIELD_ID; None: all.
    data_descriptions : frozenset of int or None
        DATA_DESC_ID; None: all.
    """

    fields: frozenset[int] | None = None
    data_descriptions: frozenset[int] | None = None

    @property
    def everything(self) -> bool:
        """Whether no row is left out."""
        return self.fields is None and self.data_descriptions is None

    def __call__(self, opened: Any, low: int, count: int) -> NDArray[np.bool_]:
        """Return which of ``count`` rows from ``low`` on are chosen, (count,)."""
        chosen = np.ones(count, bool)
        for name, wanted in (
            ("FIELD_ID", self.fields),
            ("DATA_DESC_ID", self.data_descriptions),
        ):
            if wanted is not None:
                chosen &= np.isin(opened.getcol(name, low, count), list(wanted))
        return chosen


def choose_fields(ms: str | Path, names: str | Sequence[str]) -> frozenset[int] | None:
    """Return the ids of fields by name; every field of that name, since mosaics repeat names.

    Parameters
    ----------
    ms : path
    names : str or sequence of str
        Names, comma separated where it is one text; ``all``: every field.

    Returns
    -------
    frozenset of int or None
        None: all.

    Raises
    ------
    ConfigError
        No name is given, or the data have no rows of such a field.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in wanted if name.strip()]
    if wanted == ["all"]:
        return None
    with open_table(f"{ms}::FIELD") as fields:
        known = [name.strip() for name in fields.getcol("NAME")]
    found = {name: {i for i, other in enumerate(known) if other == name} for name in wanted}
    missing = [name for name, ids in found.items() if not ids]
    if missing or not wanted:
        raise ConfigError(
            f"{ms} has no field {', '.join(missing) or 'without a name'}",
            f"--field takes names or all; its fields are {_listed(known)}",
        )
    return frozenset().union(*found.values())


def _listed(names: Iterable[str], most: int = 20) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - most} more" if len(distinct) > most else ""
    return ", ".join(distinct[:most]) + more
