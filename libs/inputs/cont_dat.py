"""Files of line-free frequency ranges by field and window (``cont.dat``), read strictly.

The form is that of the observatories' pipelines::

    Field: G34.3 core
    SpectralWindow: 25 X1#ALMA_RB_06#BB_1#SW-01#FULL_RES
    Flags: ALLCONT
    216.5~217.3GHz LSRK
    217.6~217.9GHz LSRK

    SpectralWindow: 27
    NONE

An older form has the field's name on a line of its own, ``SPW25`` and ranges without a frame, which
are topocentric.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from libs.core.errors import ConfigError
from libs.ms.virtual_windows import name_ending

__all__ = ["ContFile", "FrequencyRange", "WindowRanges", "merged", "read_cont_dat"]

FLAGS = ("ALLCONT", "LOWBANDWIDTH", "LOWSPREAD")
_FRAMES = ("LSRK", "TOPO")
_UNIT_HZ = {"GHZ": 1e9, "MHZ": 1e6, "KHZ": 1e3, "HZ": 1.0}
_FIELD = re.compile(r"Field\s*:(.*)", re.IGNORECASE)
_WINDOW = re.compile(r"SpectralWindow\s*:\s*(\d+)(?:\s+(\S.*))?", re.IGNORECASE)
_OLD_WINDOW = re.compile(r"SPW\s*:?\s*(\d+)\s*:?", re.IGNORECASE)
_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}\s*([A-Za-z]*)\s*~\s*{_NUMBER}\s*([A-Za-z]+)(?:\s+([A-Za-z0-9]+))?")


@dataclass(frozen=True)
class FrequencyRange:
    """A range of continuum, Hz, and its frame, ``LSRK`` or ``TOPO``."""

    low_hz: float
    high_hz: float
    frame: str


@dataclass
class WindowRanges:
    """The ranges of a window.

    Attributes
    ----------
    number : int
        Virtual number of the window.
    name : str
        Its name; may be empty.
    place : str
        File and line, for messages.
    ranges : list of FrequencyRange
        None of them together with neither ``whole`` nor ``nothing``: nothing was written.
    whole, nothing : bool
        ``ALL`` and ``NONE``.
    flags : tuple of str
    """

    number: int
    name: str
    place: str
    ranges: list[FrequencyRange] = field(default_factory=list)
    whole: bool = False
    nothing: bool = False
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContFile:
    """What a file says, by name of the field.

    Attributes
    ----------
    path : Path
    fields : dict of str to list of WindowRanges
    """

    path: Path
    fields: dict[str, list[WindowRanges]]

    def window(self, field_name: str, number: int, name: str) -> WindowRanges | None:
        """Return the ranges of a window: by its name, or the shared ending, else by its number.

        A window that the file gives another name is not found by its number.
        """
        windows = self.fields.get(field_name.strip(), [])
        named = [each for each in windows if each.name and name]
        for each in named:
            if each.name == name:
                return each
        ending = name_ending(name)
        for each in named:
            if ending and name_ending(each.name) == ending:
                return each
        return next((w for w in windows if w not in named and w.number == number), None)


def read_cont_dat(path: Path) -> ContFile:
    """Read a file of line-free ranges.

    Raises
    ------
    ConfigError
        It cannot be read, or a line is wrong; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"contfile {path} cannot be read ({error})", "name a text file"
        ) from error
    reader = _Reader(path)
    for number, line in enumerate(text.splitlines(), 1):
        reader.read(number, line.strip())
    reader.finish()
    return ContFile(path, reader.fields)


class _Reader:
    """What was read so far: the field and window that the next line belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, list[WindowRanges]] = {}
        self.field: list[WindowRanges] | None = None
        self.window: WindowRanges | None = None
        self.old = False
        self.bare: tuple[str, str] | None = None  # a line taken for a field's name: where, what

    def read(self, number: int, line: str) -> None:
        """Take in one line."""
        place = f"{self.path}:{number}"
        if not line or line.startswith("#"):
            return
        if found := _FIELD.fullmatch(line):
            self._begin_field(found[1], place)
        elif found := _WINDOW.fullmatch(line):
            self._begin_window(int(found[1]), (found[2] or "").strip(), place, old=False)
        elif found := _OLD_WINDOW.fullmatch(line):
            self._begin_window(int(found[1]), "", place, old=True)
        elif line.upper().startswith("FLAGS:"):
            self._flags(line[6:], place)
        elif line.upper() in ("ALL", "NONE", *FLAGS):
            self._word(line.upper(), place)
        elif "~" in line:
            for part in filter(None, (part.strip() for part in line.split(";"))):
                self._range(part, place)
        elif ":" in line or (self.field is not None and not self.old):
            raise _wrong(place, line)
        else:
            self._begin_field(line, place)
            self.bare = (place, line)

    def finish(self) -> None:
        """Refuse a lone line that no window follows, which therefore is no field's name."""
        if self.bare and not self.window:
            raise _wrong(*self.bare)

    def _begin_field(self, name: str, place: str) -> None:
        name = name.strip()
        if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
            name = name[1:-1].strip()
        if not name:
            raise ConfigError(f"{place}: a field without a name", "write Field: NAME")
        self.field = self.fields.setdefault(name, [])
        self.window, self.old = None, False

    def _begin_window(self, number: int, name: str, place: str, *, old: bool) -> None:
        if self.field is None:
            raise ConfigError(f"{place}: a window before any field", "write Field: NAME before it")
        if any(each.number == number for each in self.field):
            raise ConfigError(f"{place}: window {number} is there twice", "remove one of the two")
        self.window = WindowRanges(number, name, place)
        self.field.append(self.window)
        self.old = old

    def _own_window(self, place: str) -> WindowRanges:
        if self.window is None:
            raise ConfigError(
                f"{place}: ranges before any window", "write SpectralWindow: ID before them"
            )
        return self.window

    def _flags(self, text: str, place: str) -> None:
        words = tuple(text.replace(",", " ").upper().split())
        unknown = [word for word in words if word not in FLAGS]
        if unknown:
            raise ConfigError(
                f"{place}: unknown flag {unknown[0]}", f"there are {', '.join(FLAGS)}"
            )
        window = self._own_window(place)
        window.flags += words

    def _word(self, word: str, place: str) -> None:
        window = self._own_window(place)
        window.whole |= word == "ALL"
        window.nothing |= word == "NONE"
        window.flags += (word,) if word in FLAGS else ()

    def _range(self, text: str, place: str) -> None:
        window = self._own_window(place)
        found = _RANGE.fullmatch(text)
        if not found:
            raise _wrong(place, text)
        low, low_unit, high, unit, frame = found.groups()
        units = [(low_unit or unit).upper(), unit.upper()]
        if not set(units) <= set(_UNIT_HZ):
            raise ConfigError(f"{place}: {text!r} has an unknown unit", "write GHz or MHz")
        if frame is None and not self.old:
            raise ConfigError(f"{place}: {text!r} has no frame", "write LSRK or TOPO after it")
        frame = (frame or "TOPO").upper()
        if frame not in _FRAMES:
            raise ConfigError(
                f"{place}: the frame {frame} is not known here"
                + (", it follows an ephemeris" if frame in ("SOURCE", "REST") else ""),
                "give the range in LSRK or TOPO",
            )
        low_hz, high_hz = (
            float(value) * _UNIT_HZ[unit] for value, unit in zip((low, high), units, strict=True)
        )
        if not 0 < low_hz < high_hz:
            raise ConfigError(
                f"{place}: {text!r} does not go from a lower to a higher frequency", "correct it"
            )
        window.ranges.append(FrequencyRange(low_hz, high_hz, frame))


def _wrong(place: str, line: str) -> ConfigError:
    return ConfigError(
        f"{place}: {line!r} is not understood",
        "write Field: NAME, SpectralWindow: ID, Flags: WORDS, LOW~HIGHGHz LSRK, ALL or NONE",
    )


def merged(ranges: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return ranges in order, those that touch or overlap as one."""
    found: list[tuple[float, float]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found
