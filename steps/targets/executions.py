"""What executions hold: fields with their directions and intents, windows and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from libs.core.coordinates import SKY_FRAMES, to_j2000
from libs.core.errors import ConfigError
from libs.inputs.input_data import InputData, reading
from libs.ms.rows import stretches
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from libs.ms.view import read_view
from libs.ms.virtual_windows import ExecutionWindows, WindowFacts

__all__ = ["INTENT", "Execution", "in_order_of_time", "survey"]

INTENT = "OBSERVE_TARGET"
_KEYS = ("FIELD_ID", "DATA_DESC_ID", "STATE_ID")


@dataclass(frozen=True)
class Execution:
    """What one measurement set holds.

    Attributes
    ----------
    vis : str
        As the user wrote it.
    name : str
        Its name in those of files.
    telescope : str
    start_s : float
        First time of the data, MJD s.
    fields : tuple of str
        Names by id.
    directions_rad : tuple of (float, float) or None
        Phase centres by id, J2000; None of a field that moves on the sky.
    windows : tuple of WindowFacts
        By id.
    used : dict of int to frozenset of int
        Of each field with cross-correlations: the windows they are in.
    intents : dict of int to frozenset of str
        And the observing modes of their states; empty where the data carry none.
    dish_diameter_m : float
        Median over the antennas; 0 where it is not known.
    """

    vis: str
    name: str
    telescope: str
    start_s: float
    fields: tuple[str, ...]
    directions_rad: tuple[tuple[float, float] | None, ...]
    windows: tuple[WindowFacts, ...]
    used: Mapping[int, frozenset[int]]
    intents: Mapping[int, frozenset[str]] = field(default_factory=dict)
    dish_diameter_m: float = 0.0

    def is_target(self, number: int) -> bool:
        """Whether a field was observed as a target, or nothing says what fields were for."""
        if not any(self.intents.values()):
            return True
        return any(INTENT in mode for mode in self.intents.get(number, ()))

    def moves(self, fields: Sequence[int]) -> bool:
        """Whether any of some fields moves on the sky."""
        return any(self.directions_rad[number] is None for number in fields)

    def windows_of(self, fields: Sequence[int]) -> ExecutionWindows:
        """Return the windows in which some of the fields have data."""
        there = frozenset().union(*(self.used.get(number, frozenset()) for number in fields))
        own = tuple(window for window in self.windows if window.number in there)
        return ExecutionWindows(self.vis, self.start_s, own)


def in_order_of_time(executions: Sequence[Execution]) -> list[Execution]:
    """Return executions by their start, so that the order in which they are named is no matter."""
    return sorted(executions, key=lambda each: (each.start_s, each.vis))


def survey(source: InputData) -> Execution:
    """Read which fields, windows and intents a measurement set holds.

    Raises
    ------
    ConfigError
        The input is no measurement set.
    InputError
        It cannot be read.
    """
    if source.kind != "ms":
        raise ConfigError(
            f"targets are looked for in measurement sets, {source.vis} is {source.kind}",
            "import it first, or leave targets out",
        )
    with reading(source.vis), read_view(source.path) as view:
        tables = Subtables(view.path)
        fields = tables.fields
        windows = tuple(
            WindowFacts(number, each.name, float(each.frequency_hz[0]), each.step_hz, each.channels)
            for number, each in enumerate(tables.windows)
        )
        descriptions, states, telescope = tables.descriptions, tables.states, tables.telescope
        diameters = [each.diameter_m for each in tables.antennas if each.diameter_m > 0]
        with open_table(view.path) as opened:
            found, start_s = _combinations(opened)
    used: dict[int, set[int]] = {}
    intents: dict[int, set[str]] = {}
    for number, description, state in sorted(found):
        # rows that name what is not there are counted and left out by the first look at the input
        if not (0 <= number < len(fields) and 0 <= description < len(descriptions)):
            continue
        if descriptions[description].spw in range(len(windows)):
            used.setdefault(number, set()).add(descriptions[description].spw)
        mode = states[state].intents if 0 <= state < len(states) else ""
        intents.setdefault(number, set()).update({mode} - {""})
    return Execution(
        source.vis, source.name, telescope, start_s, tuple(each.name.strip() for each in fields),
        tuple(
            to_j2000(each.direction_rad, each.frame)
            if each.frame in SKY_FRAMES and not each.moves
            else None
            for each in fields
        ),
        windows,
        {number: frozenset(values) for number, values in used.items()},
        {number: frozenset(values) for number, values in intents.items()},
        float(np.median(diameters)) if diameters else 0.0,
    )  # fmt: skip


def _combinations(opened: Any) -> tuple[set[tuple[int, int, int]], float]:
    """Field, data description and state of all cross-correlations, and the first time, MJD s."""
    found: set[tuple[int, int, int]] = set()
    start_s = np.inf
    for low, count in stretches(opened.nrows()):
        cross = opened.getcol("ANTENNA1", low, count) != opened.getcol("ANTENNA2", low, count)
        keys = np.stack([opened.getcol(name, low, count)[cross] for name in _KEYS], axis=1)
        found.update((int(f), int(d), int(s)) for f, d, s in np.unique(keys, axis=0))
        start_s = min(start_s, float(opened.getcol("TIME", low, count).min()))
    return found, start_s
