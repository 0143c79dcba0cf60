"""The part of a measurement set that selections in CASA's syntax choose, as ids.

Only selections without ambiguity are understood; :class:`NotUnderstoodError` names the others, so
that the caller can leave the selection to CASA.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.ms.subtables import CORR_NAMES, Subtables
from libs.ms.tables import open_table

__all__ = ["NotUnderstoodError", "Subset", "choose_subset"]

_NUMBERS = re.compile(r"(\d+)(?:~(\d+))?")
_WINDOW = re.compile(r"(\*|\d+(?:~\d+)?)(?::(.+))?")
_SAFE_NAME = re.compile(r"[A-Za-z0-9_+.\-*? ]+")


class NotUnderstoodError(Exception):
    """A form of data or selection that this program leaves to CASA; the message names it."""


@dataclass(frozen=True)
class Subset:
    """Part of a measurement set.

    Attributes
    ----------
    fields : tuple of int
        FIELD rows kept, increasing.
    windows : tuple of int
        SPECTRAL_WINDOW rows kept, in their new order.
    channels : tuple of (n,) int64
        Channels kept of each window, increasing.
    data_descriptions : tuple of int
        DATA_DESCRIPTION row of each window.
    correlations : tuple of int or None
        Indices of the correlations kept; None: all.
    column : str
        Column that becomes DATA.
    autocorrelations : bool
        True keeps rows of an antenna with itself.
    all_fields, all_windows : bool
        True when nothing is left out.
    left_out : (n,) int64
        Rows that are not copied whatever they hold.
    bin_starts : tuple of (nbin,) int64
        Of each window the first of the channels that are averaged into one, among those kept;
        empty: nothing is averaged.
    """

    fields: tuple[int, ...]
    windows: tuple[int, ...]
    channels: tuple[NDArray[np.int64], ...]
    data_descriptions: tuple[int, ...]
    correlations: tuple[int, ...] | None
    column: str
    autocorrelations: bool
    all_fields: bool
    all_windows: bool
    left_out: NDArray[np.int64] = dataclass_field(default_factory=lambda: np.zeros(0, np.int64))
    bin_starts: tuple[NDArray[np.int64], ...] = ()


def choose_subset(
    ms: str | Path,
    *,
    field: str = "",
    spw: str = "",
    correlation: str = "",
    column: str = "DATA",
    autocorrelations: bool = False,
) -> Subset:
    """Return the ids that selections in CASA's syntax choose.

    Parameters
    ----------
    ms : path
    field : str
        Ids, ranges of ids, names, or names with ``*`` and ``?``; empty: all.
    spw : str
        Windows by number with channels, ``"0:4~6;50~59,2"``; empty: all.
    correlation : str
        Names such as ``"RR,LL"``; empty: all.
    column : str
        Column that becomes DATA.
    autocorrelations : bool
        True keeps rows of an antenna with itself.

    Raises
    ------
    NotUnderstoodError
        A selection has another form or selects nothing, or windows have several setups.
    """
    # NUM_CHAN may say something else than there are
    counts = np.array([window.channels for window in Subtables(ms).windows], np.int64)
    windows, channels = _choose_windows(spw, counts)
    fields = _choose_fields(ms, field)
    with open_table(f"{ms}::FIELD") as opened:
        all_fields = len(fields) == opened.nrows()
    return Subset(
        fields=fields,
        windows=windows,
        channels=channels,
        data_descriptions=_descriptions(ms, windows, whole=not spw),
        correlations=_choose_correlations(ms, correlation) if correlation else None,
        column=column,
        autocorrelations=autocorrelations,
        all_fields=all_fields,
        all_windows=windows == tuple(range(len(counts))),
    )


def _choose_windows(
    spw: str, counts: NDArray[np.int64]
) -> tuple[tuple[int, ...], tuple[NDArray[np.int64], ...]]:
    found: dict[int, NDArray[np.int64]] = {}
    for part in (spw.strip() or "*").split(","):
        read = _WINDOW.fullmatch(part.strip())
        if not read:
            raise NotUnderstoodError(f"spw = {spw!r}")
        first, _, last = read[1].partition("~")
        low, high = (0, len(counts) - 1) if first == "*" else (int(first), int(last or first))
        if low > high or high >= len(counts):
            raise NotUnderstoodError(f"spw = {spw!r}")
        for window in range(low, high + 1):
            if window in found:
                raise NotUnderstoodError(f"spw = {spw!r} names window {window} twice")
            found[window] = _choose_channels(read[2], int(counts[window]), spw)
    return tuple(found), tuple(found.values())


def _choose_channels(text: str | None, count: int, spw: str) -> NDArray[np.int64]:
    if text is None:
        return np.arange(count)
    parts: list[NDArray[np.int64]] = []
    for part in text.split(";"):
        read = _NUMBERS.fullmatch(part.strip())
        if not read:
            raise NotUnderstoodError(f"spw = {spw!r}")
        low, high = int(read[1]), int(read[2] or read[1])
        if low > high or high >= count or (parts and low <= parts[-1][-1]):
            raise NotUnderstoodError(f"spw = {spw!r}")
        parts.append(np.arange(low, high + 1))
    return np.concatenate(parts)


def _choose_fields(ms: str | Path, field: str) -> tuple[int, ...]:
    with open_table(f"{ms}::FIELD") as opened:
        names = [name.strip() for name in opened.getcol("NAME")]
        codes = [code.strip() for code in opened.getcol("CODE")]
    if not field.strip():
        return tuple(range(len(names)))
    chosen: set[int] = set()
    for word in field.split(","):
        chosen |= _fields_of(word.strip(), names, codes, field)
    return tuple(sorted(chosen))


def _fields_of(word: str, names: list[str], codes: list[str], field: str) -> set[int]:
    """Return the ids that one word of a field selection chooses."""
    numbers = _NUMBERS.fullmatch(word)
    if numbers:
        low, high = int(numbers[1]), int(numbers[2] or numbers[1])
        if low > high or high >= len(names):
            raise NotUnderstoodError(f"field = {field!r}")
        return set(range(low, high + 1))
    if not _SAFE_NAME.fullmatch(word):
        raise NotUnderstoodError(f"field = {field!r}")
    pattern = re.compile(re.escape(word).replace(r"\*", ".*").replace(r"\?", "."))
    found = {i for i, name in enumerate(names) if pattern.fullmatch(name)}
    # CASA also accepts codes of calibrators as names, and ignores the case of names
    doubtful = {i for i, code in enumerate(codes) if code and pattern.fullmatch(code)}
    loose = re.compile(pattern.pattern, re.IGNORECASE)
    doubtful |= {i for i, name in enumerate(names) if loose.fullmatch(name)}
    if not found or doubtful - found:
        raise NotUnderstoodError(f"field = {field!r}")
    return found


def _choose_correlations(ms: str | Path, correlation: str) -> tuple[int, ...]:
    with open_table(f"{ms}::POLARIZATION") as opened:
        if opened.nrows() != 1:
            raise NotUnderstoodError(f"correlation = {correlation!r} of several setups")
        types = [CORR_NAMES.get(int(code), "") for code in opened.getcell("CORR_TYPE", 0)]
    wanted = [name.strip() for name in correlation.split(",")]
    if not set(wanted) <= set(types):
        raise NotUnderstoodError(f"correlation = {correlation!r}")
    return tuple(place for place, name in enumerate(types) if name in wanted)


def _descriptions(ms: str | Path, windows: tuple[int, ...], *, whole: bool) -> tuple[int, ...]:
    """Return the data description of each window."""
    with open_table(f"{ms}::DATA_DESCRIPTION") as opened:
        spws = opened.getcol("SPECTRAL_WINDOW_ID").tolist()
    made = []
    for window in windows:
        rows = [row for row, spw in enumerate(spws) if spw == window]
        if len(rows) != 1:
            raise NotUnderstoodError(f"window {window} has {len(rows)} data descriptions")
        made.append(rows[0])
    if whole and len(spws) != len(windows):
        raise NotUnderstoodError("its data descriptions name windows that are not there")
    return tuple(made)
