"""Visibilities to be imaged: held in memory where they fit, read anew for each pass otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from libs.core.coordinates import rotation
from libs.core.errors import ConfigError, ImageError, InputError
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.native.samples import (
    Block,
    Selection,
    SetLayout,
    read_blocks,
    read_set_layout,
)
from libs.imaging.native.weighting import Weighting
from libs.imaging.phase_centre import PhaseCentre, field_centre
from libs.ms.rows import CHUNK_BYTES
from libs.ms.tables import open_table

__all__ = ["StoreFacts", "VisibilityStore", "field_centre", "open_store", "turn_to"]

# Bytes in memory of a visibility: Stokes I 8, weight 4, and what a pass makes of them: the
# weighted visibility 8, the model 16, masks of the gridder 1.
_BYTES_HELD = 12
_BYTES_AT_WORK = 25
_ROW_BYTES = 40  # u, v, w, time and antennas

# Phase centres closer than this are the same, rad (0.1 milliarcsecond times 1e-3: fields of
# microarcseconds have theirs in common to the last digit).
_SAME_CENTRE_RAD = 1e-13


@dataclass(frozen=True)
class StoreFacts:
    """What one pass over the visibilities found.

    Attributes
    ----------
    visibilities : int
        With a weight.
    lowest_hz, highest_hz : float
        Edges of the band of unflagged channels.
    longest_uv, longest_w : float
        Largest |(u, v)| and |w|, wavelengths.
    first_time_s : float
        Earliest TIME, MJD seconds.
    """

    visibilities: int
    lowest_hz: float
    highest_hz: float
    longest_uv: float
    longest_w: float
    first_time_s: float

    @property
    def centre_hz(self) -> float:
        """Centre of the band."""
        return 0.5 * (self.lowest_hz + self.highest_hz)


@dataclass
class VisibilityStore:
    """One Stokes parameter of one field of one or more measurement sets.

    Attributes
    ----------
    layouts : tuple of SetLayout
        Of the measurement sets.
    selection : Selection
    centre : PhaseCentre
        To which the phases of all sets are referred.
    block_bytes : int
        Most bytes read at once.
    facts : StoreFacts
    held : tuple of Block or None
        The data, where they are in memory.
    weighting : Weighting or None
        Applied to the weights of the blocks that `weighted` yields.
    """

    layouts: tuple[SetLayout, ...]
    selection: Selection
    centre: PhaseCentre
    block_bytes: int
    facts: StoreFacts
    held: tuple[Block, ...] | None = None
    weighting: Weighting | None = None
    _imaging: tuple[Block, ...] | None = field(default=None, repr=False)

    @property
    def in_memory(self) -> bool:
        """Whether the data are held in memory."""
        return self.held is not None

    @property
    def bytes_held(self) -> float:
        """Memory that the visibilities take, bytes; 0 where they are not held."""
        if self.held is None:
            return 0.0
        return sum(_bytes_needed(layout, self.selection) for layout in self.layouts)

    def blocks(self) -> Iterator[Block]:
        """Yield all visibilities with their own weights."""
        if self.held is not None:
            yield from self.held
            return
        for number, layout in enumerate(self.layouts):
            yield from read_blocks(layout, self.selection, number, max_bytes=self.block_bytes)

    def weigh(self, weighting: Weighting) -> None:
        """Use a weighting from now on."""
        self.weighting = weighting
        self._imaging = None
        if self.held is not None:
            self._imaging = tuple(
                replace(b, weight=weighting.of(b), natural=b.weight) for b in self.held
            )

    def weighted(self) -> Iterator[Block]:
        """Yield all visibilities with their weights in the image."""
        if self._imaging is not None:
            yield from self._imaging
            return
        for block in self.blocks():
            weight = block.weight if self.weighting is None else self.weighting.of(block)
            yield replace(block, weight=weight, natural=block.weight)


def open_store(
    vis: Sequence[Path],
    selection: Selection,
    *,
    memory_bytes: float,
    centre: PhaseCentre | None = None,
    facet: tuple[float, float] | None = None,
    may_be_empty: bool = False,
) -> VisibilityStore:
    """Read measurement sets into a store.

    Parameters
    ----------
    vis : sequence of Path
        Measurement sets.
    selection : Selection
    memory_bytes : float
        What the visibilities may take; more than that are read anew for each pass.
    centre : PhaseCentre, optional
        Phase centre of the store; default: the field's in the first set.
    facet : (float, float), optional
        As in `SetLayout`.
    may_be_empty : bool
        True: a store without visibilities is returned.

    Raises
    ------
    InputError
        A column is missing, or the correlations that the Stokes parameter needs.
    ImageError
        No visibility can be used.
    """
    centre = centre or field_centre(vis[0], selection.field_id)
    layouts = tuple(
        read_set_layout(
            ms, turn_to(ms, selection.field_id, centre), stokes=selection.stokes,
            together=selection.together, facet=facet,
        )
        for ms in vis
    )  # fmt: skip
    _check_correlations(layouts, selection)
    fits = sum(_bytes_needed(layout, selection) for layout in layouts) <= memory_bytes
    store = _read(layouts, selection, centre, fits, memory_bytes)
    if not store.facts.visibilities and not may_be_empty:
        names = ", ".join(ms.name for ms in vis)
        raise ImageError(
            f"no visibility of {names} can be imaged",
            "all are flagged, without weight or outside the limits of uv: look at the data",
        )
    return store


def _check_correlations(layouts: Sequence[SetLayout], selection: Selection) -> None:
    """Raise InputError where no window has what the Stokes parameters need."""
    able = [
        layout.can_make(ddid) for layout in layouts for ddid in layout.descriptions(selection.spws)
    ]
    if selection.together != "I" and able and not any(able):
        names = ", ".join(layout.path.name for layout in layouts)
        raise InputError(
            f"{names} has not the correlations that Stokes {selection.together} needs",
            "image Stokes I, or data with cross hands",
        )


def _read(
    layouts: tuple[SetLayout, ...],
    selection: Selection,
    centre: PhaseCentre,
    hold: bool,
    memory_bytes: float,
) -> VisibilityStore:
    """Read all visibilities once."""
    held: list[Block] = []
    survey = _Survey()
    block_bytes = CHUNK_BYTES if hold else _streamed_bytes(memory_bytes)
    known: list[SetLayout] = []
    for number, layout in enumerate(layouts):

        def take(blocks: Iterator[Block], layout: SetLayout = layout) -> None:
            for block in blocks:
                survey.add(block, layout)
                if hold:
                    held.append(block)

        take(read_blocks(layout, selection, number, max_bytes=block_bytes))
        # where one hand is flagged throughout the other is all there is
        lone = frozenset(
            ddid
            for ddid, (first, second) in enumerate(layout.hands)
            if not layout.combinations
            and first != second
            and (number, int(layout.spw_of[ddid])) not in survey.windows
        )
        known.append(replace(layout, lone=lone))
        if lone:
            take(
                read_blocks(known[-1], selection, number, max_bytes=block_bytes, descriptions=lone)
            )
    kept = tuple(_joined(held)) if hold else None
    return VisibilityStore(tuple(known), selection, centre, block_bytes, survey.facts(), kept)


def _streamed_bytes(memory_bytes: float) -> int:
    """Bytes to read at once of data that do not fit."""
    # what is made of the columns read is about as much again
    return int(max(CHUNK_BYTES, min(memory_bytes / 3, 2**31)))


def turn_to(ms: Path, field_id: int, centre: PhaseCentre) -> np.ndarray | None:
    """Return what turns a set's u, v, w to another phase centre; None: it has this one."""
    own = field_centre(ms, field_id)
    if own.frame != centre.frame:
        raise ConfigError(
            f"the phase centre of {ms.name} is in {own.frame}, that of the first set in"
            f" {centre.frame}",
            "image sets of one frame together",
        )
    old, new = (
        (math.radians(place.ra_deg), math.radians(place.dec_deg)) for place in (own, centre)
    )
    if max(abs(old[0] - new[0]), abs(old[1] - new[1])) <= _SAME_CENTRE_RAD:
        return None
    return rotation(old, new)


def _bytes_needed(layout: SetLayout, selection: Selection) -> float:
    """Return what a set's visibilities take in memory, at most."""
    with open_table(layout.path) as opened:
        ids = opened.getcol("DATA_DESC_ID")
        own = opened.getcol("FIELD_ID") == selection.field_id
    own &= np.isin(ids, sorted(layout.descriptions(selection.spws)))
    total = 0.0
    for ddid, rows in zip(*np.unique(ids[own], return_counts=True), strict=True):
        channels = len(layout.frequency_hz[int(layout.spw_of[ddid])])
        # the weights in the image are held beside the data's own
        each = channels * (_BYTES_HELD + 4 + _BYTES_AT_WORK) + _ROW_BYTES
        total += float(rows) * each
    return total


def _joined(blocks: Sequence[Block]) -> Iterator[Block]:
    """Join the blocks of one set and window, so that each is gridded in one go."""
    groups: dict[tuple[int, bytes], list[Block]] = {}
    for block in blocks:
        groups.setdefault((block.ms, block.frequency_hz.tobytes()), []).append(block)
    for parts in groups.values():
        if len(parts) == 1:
            yield parts[0]
            continue
        names = ("uvw_m", "visibility", "weight", "time_s", "antenna1", "antenna2")
        yield replace(
            parts[0],
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        )


class _Survey:
    """Collects `StoreFacts` block by block."""

    def __init__(self) -> None:
        self.visibilities = 0
        self.lowest, self.highest = math.inf, 0.0
        self.uv = self.w = 0.0
        self.first_time = math.inf
        self.windows: set[tuple[int, int]] = set()  # of each set, with anything to image

    def add(self, block: Block, layout: SetLayout) -> None:
        """Take a block into account."""
        used = block.weight > 0
        self.visibilities += int(np.count_nonzero(used))
        channels = block.frequency_hz[used.any(axis=0)]
        spw = next(s for s, f in enumerate(layout.frequency_hz) if f is block.frequency_hz)
        self.windows.add((block.ms, spw))
        half = 0.5 * layout.width_hz[spw]
        self.lowest = min(self.lowest, float(channels.min()) - half)
        self.highest = max(self.highest, float(channels.max()) + half)
        per_m = float(channels.max()) / SPEED_OF_LIGHT_M_S
        uv = float(np.hypot(block.uvw_m[:, 0], block.uvw_m[:, 1]).max())
        self.uv = max(self.uv, uv * per_m)
        self.w = max(self.w, float(np.abs(block.uvw_m[:, 2]).max()) * per_m)
        self.first_time = min(self.first_time, float(block.time_s.min()))

    def facts(self) -> StoreFacts:
        """Return what was found."""
        return StoreFacts(
            self.visibilities, self.lowest, self.highest, self.uv, self.w, self.first_time
        )
