"""Stokes parameters of measurement sets: visibilities with their weights, read in pieces."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.native.stokes import Combination, combination, stokes_visibilities
from libs.ms.rows import read_rows, row_pieces
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = [
    "Block",
    "Selection",
    "SetLayout",
    "make_block",
    "read_blocks",
    "read_set_layout",
    "referred_uvw",
    "turn_phases",
]

# The pairs of correlations whose mean is Stokes I, in the order in which they are looked for.
_HANDS = (("RR", "LL"), ("XX", "YY"))


@dataclass(frozen=True)
class Block:
    """Visibilities of one spectral window of one measurement set.

    Attributes
    ----------
    uvw_m : (nrow, 3) float64
        About the phase centre that the whole store has, m.
    frequency_hz : (nchan,) float64
        Channel centres in the order of the data, rising or falling.
    visibility : (nrow, nchan) complex64
        The Stokes parameter imaged, Jy; 0 where the weight is 0.
    weight : (nrow, nchan) float32
        Its weight; 0 where it is flagged or cannot be used.
    time_s : (nrow,) float64
        TIME, MJD seconds.
    antenna1, antenna2 : (nrow,) int32
        Antennas by their id in their measurement set.
    ms : int
        Number of the measurement set among those imaged.
    natural : (nrow, nchan) float32, optional
        Natural weight where `weight` is that in the image; None: `weight` is natural.
    """

    uvw_m: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    visibility: NDArray[np.complex64]
    weight: NDArray[np.float32]
    time_s: NDArray[np.float64]
    antenna1: NDArray[np.int32]
    antenna2: NDArray[np.int32]
    ms: int = 0
    natural: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class SetLayout:
    """What a measurement set's subtables say of its rows.

    Attributes
    ----------
    path : Path
    frequency_hz : tuple of (nchan,) float64
        By spectral window.
    width_hz : tuple of float
        Mean channel width by spectral window.
    spw_of : (nddid,) int
        Spectral window by data description.
    hands : tuple of (int, int)
        Indices of the two correlations whose mean is Stokes I, by data description; the same
        index twice where there is one hand only, -1 where there is none.
    turn : (3, 3) float64 or None
        Turns u, v, w about the set's phase centre to those about the store's; None: the same.
    lone : frozenset of int
        Data descriptions in which no sample has both hands, because one is flagged throughout:
        one unflagged hand is Stokes I there.
    combinations : tuple of (Combination or None)
        How the Stokes parameter imaged is made, by data description; empty: the mean of
        ``hands``, which is Stokes I imaged by itself.
    facet : (float, float) or None
        Direction cosines (l, m), about the store's phase centre, that phases are referred to
        after ``turn``; u and v then are those of the plane that touches the sky at the phase
        centre. None: the phase centre itself.
    """

    path: Path
    frequency_hz: tuple[NDArray[np.float64], ...]
    width_hz: tuple[float, ...]
    spw_of: NDArray[np.int64]
    hands: tuple[tuple[int, int], ...]
    turn: NDArray[np.float64] | None = None
    lone: frozenset[int] = frozenset()
    combinations: tuple[Combination | None, ...] = ()
    facet: tuple[float, float] | None = None

    def descriptions(self, spws: Collection[int]) -> frozenset[int]:
        """Return the data descriptions of some windows; of all where none is given."""
        every = range(len(self.spw_of))
        return frozenset(d for d in every if not spws or int(self.spw_of[d]) in spws)

    def can_make(self, ddid: int) -> bool:
        """Return whether a data description has what the Stokes parameter needs."""
        if self.combinations:
            return self.combinations[ddid] is not None
        return self.hands[ddid][0] >= 0


@dataclass(frozen=True)
class Selection:
    """Which visibilities are imaged.

    Attributes
    ----------
    column : str
        Column of visibilities.
    field_id : int
        FIELD_ID of the rows.
    uvmin_m, uvmax_m : float
        Limits of the length of (u, v, w), m; 0: none.
    spws : tuple of int
        Spectral windows; empty: all.
    stokes : str
        Stokes parameter.
    together : str
        Parameters of the whole run: a sample counts where all of them can be made.
    """

    column: str
    field_id: int = 0
    uvmin_m: float = 0.0
    uvmax_m: float = 0.0
    spws: tuple[int, ...] = ()
    stokes: str = "I"
    together: str = "I"


def read_set_layout(
    ms: Path,
    turn: NDArray[np.float64] | None = None,
    *,
    stokes: str = "I",
    together: str = "I",
    facet: tuple[float, float] | None = None,
) -> SetLayout:
    """Read the windows and correlations of a measurement set.

    Parameters
    ----------
    ms : Path
    turn, facet
        As in `SetLayout`.
    stokes, together : str
        As in `Selection`.
    """
    subtables = Subtables(ms)
    width = tuple(float(np.mean(np.abs(window.width_hz))) for window in subtables.windows)
    hands = tuple(_hands(setup.correlations) for setup in subtables.setup_of)
    made: tuple[Combination | None, ...] = ()
    if together != "I":
        made = tuple(
            combination(setup.correlations, stokes, together) for setup in subtables.setup_of
        )
    return SetLayout(
        Path(ms), subtables.channel_hz, width, subtables.spw_of, hands, turn,
        combinations=made, facet=facet,
    )  # fmt: skip


def _hands(names: Sequence[str]) -> tuple[int, int]:
    """Indices of the correlations that make Stokes I."""
    if "I" in names:
        return names.index("I"), names.index("I")
    for pair in _HANDS:
        found = [names.index(name) for name in pair if name in names]
        if found:
            return found[0], found[-1]
    return -1, -1


def read_blocks(
    layout: SetLayout,
    selection: Selection,
    number: int,
    *,
    max_bytes: int,
    descriptions: Collection[int] | None = None,
) -> Iterator[Block]:
    """Read the visibilities of a measurement set piece by piece.

    Parameters
    ----------
    layout : SetLayout
    selection : Selection
    number : int
        What the blocks' ``ms`` is set to.
    max_bytes : int
        Most bytes of the columns read for one block.
    descriptions : collection of int, optional
        Data descriptions to read; default all.

    Yields
    ------
    Block
        Of one spectral window each; blocks without a usable visibility are left out.

    Raises
    ------
    InputError
        There is no such column.
    """
    names = [selection.column, "FLAG", "FLAG_ROW", "WEIGHT", "UVW", "TIME", "ANTENNA1", "ANTENNA2"]
    with open_table(layout.path) as opened:
        if selection.column not in opened.colnames():
            raise InputError(
                f"{layout.path} has no column {selection.column}", "image another column"
            )
        spectrum = "WEIGHT_SPECTRUM" in opened.colnames()
        where = f"FIELD_ID == {selection.field_id}"
        wanted = layout.descriptions(selection.spws)
        if descriptions is not None:
            wanted &= frozenset(descriptions)
        if not wanted:
            return
        if len(wanted) < len(layout.spw_of):
            where += f" && DATA_DESC_ID IN [{', '.join(map(str, sorted(wanted)))}]"
        for ddid, rows in row_pieces(opened, names, max_bytes=max_bytes, where=where):
            if not layout.can_make(ddid):
                continue
            with_spectrum = spectrum and opened.iscelldefined("WEIGHT_SPECTRUM", int(rows[0]))
            columns = read_rows(
                opened, [*names, "WEIGHT_SPECTRUM"] if with_spectrum else names, rows
            )
            weight = columns["WEIGHT_SPECTRUM"] if with_spectrum else columns["WEIGHT"][:, None]
            if weight.shape[-1] != columns["FLAG"].shape[-1] or not weight.shape[1]:
                weight = columns["WEIGHT"][:, None]
            frequency = layout.frequency_hz[int(layout.spw_of[ddid])]
            block = make_block(
                columns, weight, frequency, layout.hands[ddid], selection, layout, number,
                either_hand=ddid in layout.lone,
                how=layout.combinations[ddid] if layout.combinations else None,
            )  # fmt: skip
            if block is not None:
                yield block


def make_block(
    columns: dict[str, NDArray[Any]],
    weight: NDArray[np.floating],
    frequency_hz: NDArray[np.float64],
    hands: tuple[int, int],
    selection: Selection,
    layout: SetLayout,
    number: int,
    *,
    either_hand: bool = False,
    how: Combination | None = None,
) -> Block | None:
    """Make the block of some rows of one window.

    Parameters
    ----------
    columns : dict of str to array
        Those read, first axis the row.
    weight : (nrow, nchan or 1, ncorr) array
    frequency_hz : (nchan,) float64
    hands : (int, int)
        As in `SetLayout`.
    selection : Selection
    layout : SetLayout
    number : int
        Of the measurement set.
    either_hand : bool
        Whether one unflagged hand of two is enough.
    how : Combination, optional
        How the Stokes parameter is made; None: the mean of ``hands``.

    Returns
    -------
    Block or None
        None when no visibility can be used.
    """
    uvw = np.ascontiguousarray(columns["UVW"], dtype=np.float64)
    length = np.sqrt(np.einsum("ij,ij->i", uvw, uvw))
    one, two = columns["ANTENNA1"], columns["ANTENNA2"]
    wanted = (one != two) & ~columns["FLAG_ROW"] & (length >= selection.uvmin_m)
    if selection.uvmax_m:
        wanted &= length <= selection.uvmax_m
    data = columns[selection.column].astype(np.complex64, copy=False)
    weight = weight.astype(np.float32, copy=False)
    if how is None:
        visibility = np.zeros(data.shape[:2], dtype=np.complex64)
        stokes_weight = np.zeros(data.shape[:2], dtype=np.float32)
        _stokes_i(
            data, columns["FLAG"], weight, wanted, hands[0], hands[1], either_hand,
            visibility, stokes_weight,
        )  # fmt: skip
    else:
        visibility, stokes_weight = stokes_visibilities(data, columns["FLAG"], weight, wanted, how)
    used = stokes_weight.any(axis=1)
    if not used.any():
        return None
    block = Block(
        uvw[used], frequency_hz, visibility[used], stokes_weight[used], columns["TIME"][used],
        one[used].astype(np.int32), two[used].astype(np.int32), number,
    )  # fmt: skip
    if layout.turn is None and layout.facet is None:
        return block
    uvw, path = referred_uvw(block.uvw_m, layout.turn, layout.facet)
    turned = block.visibility * turn_phases(path, block.frequency_hz)
    return replace(block, uvw_m=uvw, visibility=turned.astype(np.complex64))


def referred_uvw(
    uvw_m: NDArray[np.float64],
    turn: NDArray[np.float64] | None,
    facet: tuple[float, float] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return u, v, w about another place, and the paths that visibilities are turned by.

    To first order in the distance from a facet's middle, n is a linear function of l and m, so
    that this part of the w term is a change of u and v.

    Parameters
    ----------
    uvw_m : (nrow, 3) float64
        About the set's phase centre, m.
    turn, facet
        As in `SetLayout`.

    Returns
    -------
    uvw_m : (nrow, 3) float64
    path_m : (nrow,) float64
        For `turn_phases`.
    """
    path = np.zeros(len(uvw_m))
    if turn is not None:
        turned = uvw_m @ turn.T
        path, uvw_m = uvw_m[:, 2] - turned[:, 2], turned
    if facet is not None:
        east, north = facet
        along = math.sqrt(1.0 - east**2 - north**2)
        u, v, w = uvw_m.T
        path = path - (u * east + v * north + w * (along - 1.0))
        uvw_m = np.column_stack([u - w * (east / along), v - w * (north / along), w])
    return uvw_m, path


def turn_phases(
    path_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Return exp(2 pi i path / lambda), (nrow, nchan); path is old w minus new w, m."""
    return np.asarray(np.exp((2j * math.pi / SPEED_OF_LIGHT_M_S) * np.outer(path_m, frequency_hz)))


@njit(cache=True, nogil=True)
def _stokes_i(
    data: NDArray[np.complex64],
    flag: NDArray[np.bool_],
    weight: NDArray[np.float32],
    wanted: NDArray[np.bool_],
    first: int,
    second: int,
    either_hand: bool,
    visibility: NDArray[np.complex64],
    stokes_weight: NDArray[np.float32],
) -> None:
    """Mean of two hands; its weight is the smaller one of the two, as in WSClean.

    A sample counts when both hands are unflagged, finite and of positive weight; with
    ``either_hand`` one such hand is enough.
    """
    per_channel = weight.shape[1] > 1
    for row in range(data.shape[0]):
        if not wanted[row]:
            continue
        for chan in range(data.shape[1]):
            k = chan if per_channel else 0
            total, good, least = np.complex64(0), 0, np.float32(np.inf)
            for hand in range(2):
                corr = first if hand == 0 else second
                value, w = data[row, chan, corr], weight[row, k, corr]
                finite = np.isfinite(value.real) and np.isfinite(value.imag)
                if flag[row, chan, corr] or not finite or not (w > 0.0 and w < np.inf):
                    continue
                total += value
                good += 1
                least = min(least, w)
            if good == 2 or (good == 1 and either_hand):
                visibility[row, chan] = total / np.float32(good)
                stokes_weight[row, chan] = least
