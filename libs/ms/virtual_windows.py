"""Virtual windows: what is one spectral window in several executions, whatever its number there.

Executions of one project number their windows differently. Two windows are the same when their
names are, or else when their frequencies are. All functions work on facts of windows, without
reading data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError
from libs.ms.selection import parse_windows

__all__ = [
    "ExecutionWindows",
    "VirtualWindow",
    "WindowFacts",
    "channel_numbers",
    "find_virtual_windows",
    "name_ending",
    "select_windows",
    "window_text",
]

# Doppler setting moves a window by up to twice the Earth's 30.3 km/s about the Sun and the 0.5 km/s
# of its rotation. Windows of one name that are farther apart are different ones.
_LARGEST_SHIFT = 2 * 30.8 / 299792.458
_WIDTH_TOLERANCE = 0.01


@dataclass(frozen=True)
class WindowFacts:
    """A spectral window of an execution.

    Attributes
    ----------
    number : int
        Id in the execution.
    name : str
        NAME of the window; may be empty.
    first_hz, step_hz : float
        Centre of the first channel, and distance to the next one, which may be negative.
    channels : int
        Number of channels.
    """

    number: int
    name: str
    first_hz: float
    step_hz: float
    channels: int

    @property
    def centre_hz(self) -> float:
        """Middle of the window, Hz."""
        return self.first_hz + 0.5 * (self.channels - 1) * self.step_hz

    @property
    def width_hz(self) -> float:
        """Bandwidth, Hz."""
        return abs(self.step_hz) * self.channels

    @property
    def words(self) -> str:
        """Number, name and frequency for messages."""
        name = f" {self.name}" if self.name else ""
        return (
            f"{self.number}{name} ({self.centre_hz / 1e9:.6f} GHz, {self.width_hz / 1e6:.6g} MHz in"
            f" {self.channels} channels)"
        )


@dataclass(frozen=True)
class ExecutionWindows:
    """The windows of an execution.

    Attributes
    ----------
    execution : str
        Name of the execution; no two share one.
    start_s : float
        Start, MJD s. Executions are taken in order of time, whatever order they are given in.
    windows : tuple of WindowFacts
    """

    execution: str
    start_s: float
    windows: tuple[WindowFacts, ...]


@dataclass(frozen=True)
class VirtualWindow:
    """A window that one or more executions have.

    Attributes
    ----------
    number : int
        Number that selections use: the id in the first execution that has the window, or the next
        free one where another window has that number.
    members : dict of str to WindowFacts
        The window by execution, in order of time.
    """

    number: int
    members: Mapping[str, WindowFacts] = field(default_factory=dict)

    @property
    def reference(self) -> WindowFacts:
        """The window of the first execution that has it; channels in selections are its own."""
        return next(iter(self.members.values()))


def name_ending(name: str) -> str:
    """Return the part of a window's name that executions share; empty where there is none.

    The first of the parts, which ``#`` separates, may be the execution's own. A name of fewer than
    three parts has no such ending.
    """
    parts = name.strip().split("#")
    return "#".join(parts[1:]) if len(parts) > 2 else ""


def find_virtual_windows(executions: Sequence[ExecutionWindows]) -> tuple[VirtualWindow, ...]:
    """Match windows across executions: by name, else by frequency.

    Names are compared whole first, and then by their endings; windows whose names agree must have
    the same bandwidth and lie within the largest Doppler shift of each other. Windows that no name
    matches are the same when their centres lie within half of the narrower channel and their
    bandwidths within 1 per cent.

    Parameters
    ----------
    executions : sequence of ExecutionWindows
        Executions in any order.

    Returns
    -------
    tuple of VirtualWindow
        In order of number.

    Raises
    ------
    ConfigError
        Several windows of an execution could be the same one; the message lists them.
    """
    ordered = sorted(executions, key=lambda each: (each.start_s, each.execution))
    groups = [{place: window} for place, each in enumerate(ordered) for window in each.windows]
    for same in (_same_name, _same_ending):
        groups = [whole for joined in _joined(groups, same) for whole in _if_distinct(joined)]
    matched = []
    for joined in _joined(groups, _same_frequency):
        whole = _if_distinct(joined)
        if len(whole) > 1:
            raise _ambiguous(joined, ordered)
        matched += whole
    return _numbered(matched, ordered)


_Group = dict[int, WindowFacts]  # windows taken for one, by place of the execution


def _joined(
    groups: Sequence[_Group], same: Callable[[WindowFacts, WindowFacts], bool]
) -> list[list[_Group]]:
    """Connected sets of groups that share no execution and of which two windows are the same."""
    parent = list(range(len(groups)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in combinations(range(len(groups)), 2):
        apart = not groups[i].keys() & groups[j].keys()
        if apart and any(same(a, b) for a in groups[i].values() for b in groups[j].values()):
            parent[root(j)] = root(i)
    found: dict[int, list[_Group]] = {}
    for i, group in enumerate(groups):
        found.setdefault(root(i), []).append(group)
    return list(found.values())


def _if_distinct(joined: Sequence[_Group]) -> list[_Group]:
    """One group of them all, where no execution is in two of them; else the groups as they are."""
    places = [place for group in joined for place in group]
    if len(places) > len(set(places)):
        return list(joined)
    return [{place: group[place] for group in joined for place in group}]


def _same_width(one: WindowFacts, two: WindowFacts) -> bool:
    return abs(one.width_hz - two.width_hz) <= _WIDTH_TOLERANCE * max(one.width_hz, two.width_hz)


def _near(one: WindowFacts, two: WindowFacts) -> bool:
    largest_hz = _LARGEST_SHIFT * max(one.centre_hz, two.centre_hz)
    step_hz = max(abs(one.step_hz), abs(two.step_hz))
    return _same_width(one, two) and abs(one.centre_hz - two.centre_hz) <= largest_hz + step_hz


def _same_name(one: WindowFacts, two: WindowFacts) -> bool:
    return bool(one.name.strip()) and one.name.strip() == two.name.strip() and _near(one, two)


def _same_ending(one: WindowFacts, two: WindowFacts) -> bool:
    ending = name_ending(one.name)
    return bool(ending) and ending == name_ending(two.name) and _near(one, two)


def _same_frequency(one: WindowFacts, two: WindowFacts) -> bool:
    half_hz = 0.5 * min(abs(one.step_hz), abs(two.step_hz))
    return _same_width(one, two) and abs(one.centre_hz - two.centre_hz) <= half_hz


def _ambiguous(joined: Sequence[_Group], ordered: Sequence[ExecutionWindows]) -> ConfigError:
    listed = "; ".join(
        f"{ordered[place].execution}: {', '.join(window.words for window in windows)}"
        for place in range(len(ordered))
        if (windows := [group[place] for group in joined if place in group])
    )
    return ConfigError(
        f"these spectral windows could be the same one, and neither names nor frequencies tell"
        f" which belong together: {listed}",
        "leave out all but one of each execution with spw, or calibrate the executions apart",
    )


def _numbered(
    groups: Sequence[_Group], ordered: Sequence[ExecutionWindows]
) -> tuple[VirtualWindow, ...]:
    numbered: dict[int, VirtualWindow] = {}
    for group in sorted(groups, key=lambda each: (min(each), each[min(each)].number)):
        number = group[min(group)].number
        while number in numbered:
            number += 1
        members = {ordered[place].execution: group[place] for place in sorted(group)}
        numbered[number] = VirtualWindow(number, members)
    return tuple(numbered[number] for number in sorted(numbered))


# -- selections ----------------------------------------------------------------------------------


def select_windows(spw: str, windows: Sequence[VirtualWindow]) -> dict[int, dict[str, str]]:
    """Return what selects each chosen virtual window in each execution that has it.

    Parameters
    ----------
    spw : str
        Windows and channels by virtual number, ``"0~3:10~50,7"``; empty: all.
    windows : sequence of VirtualWindow

    Returns
    -------
    dict of int to dict of str to str
        By number of the window and by execution: the execution's own number and channels,
        ``"5:9~49"``.

    Raises
    ------
    ConfigError
        Windows are not named by number, there is no such window, or channels have another form.
    """
    known = {window.number: window for window in windows}
    parsed = parse_windows(spw, max(known, default=-1) + 1)
    for word in spw.split(","):
        named = word.partition(":")[0].strip()
        if named.isdigit() and int(named) not in known:
            listed = ", ".join(map(str, known))
            raise ConfigError(f"spw = {spw!r} names window {named}", f"there are {listed}")
    found: dict[int, dict[str, str]] = {}
    for number, text in parsed.items():
        if number not in known:
            continue
        _, _, channels = text.partition(":")
        found[number] = {
            execution: _selection(known[number].reference, own, channels, spw)
            for execution, own in known[number].members.items()
        }
    if not found:
        raise ConfigError(
            f"spw = {spw!r} names no window", f"there are {', '.join(map(str, known))}"
        )
    return found


def _selection(reference: WindowFacts, own: WindowFacts, channels: str, spw: str) -> str:
    if not channels:
        return str(own.number)
    chosen = channel_numbers(channels, reference.channels, spw)
    same = reference.channels == own.channels and reference.step_hz * own.step_hz > 0
    if not same:
        chosen = _translated(chosen, reference, own)
    return f"{own.number}:{window_text(chosen)}"


def _translated(
    chosen: NDArray[np.int64], reference: WindowFacts, own: WindowFacts
) -> NDArray[np.int64]:
    """Channels of another grid whose centres lie in the chosen channels, by place in the window.

    Places are measured from the windows' middles, since Doppler setting moves the windows.
    """
    place = (np.arange(own.channels) - 0.5 * (own.channels - 1)) * own.step_hz
    index = place / reference.step_hz + 0.5 * (reference.channels - 1)
    nearest = np.clip(np.rint(index).astype(int), 0, reference.channels - 1)
    return np.flatnonzero(np.isin(nearest, chosen))


def channel_numbers(text: str, count: int, spw: str) -> NDArray[np.int64]:
    """Return the channels that a selection such as ``"10~50;60~80^2"`` names, increasing.

    Parameters
    ----------
    text : str
        Channels of one window.
    count : int
        Channels of the window.
    spw : str
        The whole selection, for messages.

    Raises
    ------
    ConfigError
        The selection has another form, or names a channel that the window does not have.
    """
    chosen = np.zeros(count, bool)
    for part in text.split(";"):
        span, _, step = part.strip().partition("^")
        first, _, last = span.partition("~")
        words = [word.strip() for word in (first, last or first, step or "1")]
        if not all(word.isdigit() for word in words) or not int(words[2]):
            raise ConfigError(
                f"spw = {spw!r} does not name channels by number", "write it as 0:10~50;60~80"
            )
        low, high, each = map(int, words)
        if not low <= high < count:
            raise ConfigError(
                f"spw = {spw!r} names channels {part.strip()} of a window of {count}",
                f"use channels 0 to {count - 1}, the lower first",
            )
        chosen[low : high + 1 : each] = True
    return np.flatnonzero(chosen)


def window_text(channels: Iterable[int]) -> str:
    """Return channels in CASA's syntax: ``"2~5;8"``."""
    ordered = np.unique(np.fromiter(channels, np.int64))
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    return ";".join(
        str(run[0]) if len(run) == 1 else f"{run[0]}~{run[-1]}" for run in runs if len(run)
    )
