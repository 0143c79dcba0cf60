"""Subtraction of sources from unaveraged data: their models, corrupted by their own solutions."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from libs.core.coordinates import rotation
from libs.core.errors import InputError
from libs.core.files import fsync_tree
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.gains.interpolation import GainInterpolator, gains_for_rows
from libs.gains.solver import AppliedTable
from libs.h5parm.direction_gains import DirectionGains, RowGains, correlation_feeds
from libs.imaging.predict import ModelImage, model_visibilities, read_model
from libs.ms.create import Layout, create_like, read_layout
from libs.ms.rows import read_column, stretches, write_rows
from libs.ms.subtables import CORR_NAMES, PARALLEL_HANDS, Subtables
from libs.ms.tables import open_table

__all__ = [
    "RowGainSource",
    "SkyModel",
    "TableGains",
    "add_source",
    "image_model",
    "subtract_in_place",
    "subtract_sources",
]

log = logging.getLogger(__name__)
CHUNK_BYTES = 64 * 1024**2
_MAX_DEGREE = 2  # of the polynomial that imagers fit to frequency slices

Predict = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.complex128]]


class RowGainSource(Protocol):
    """Gains that corrupt a source, wherever they are kept."""

    def at(
        self, time_s: NDArray[np.float64], channel_hz: NDArray[np.float64], spw: int
    ) -> RowGains:
        """Return the gains at the times of rows and at the channels of a spectral window."""


@dataclass(frozen=True)
class TableGains:
    """Gains of CASA tables of the data's own antennas and spectral windows.

    Attributes
    ----------
    tables : tuple of GainInterpolator
        Their product corrupts.
    antennas : int
    """

    tables: tuple[GainInterpolator, ...]
    antennas: int

    @classmethod
    def open(cls, ms: Path, tables: Sequence[AppliedTable]) -> TableGains:
        """Read tables for a measurement set."""
        found = Subtables(ms)
        opened = tuple(GainInterpolator.open(table, found.channel_hz) for table in tables)
        return cls(opened, len(found.antenna_names))

    def at(
        self, time_s: NDArray[np.float64], channel_hz: NDArray[np.float64], spw: int
    ) -> RowGains:
        """Return the gains at the times of rows and at the channels of a spectral window."""
        found = gains_for_rows(self.tables, spw, channel_hz, time_s, self.antennas, 2)
        if found is None:
            none = np.zeros((1, 1, self.antennas, 2), bool)
            return RowGains(np.ones(none.shape, complex), none, np.zeros(len(time_s), np.int64))
        return RowGains(*found)


@dataclass(frozen=True)
class SkyModel:
    """A source to be subtracted.

    Attributes
    ----------
    name : str
    direction_rad : (float, float)
        Phase centre of its model, J2000 RA and Dec.
    predict : callable
        Function (uvw_m (nrow, 3), frequency_hz (nchan,)) about that centre -> (nrow, nchan) Jy.
    gains : RowGainSource or None
        Gains that corrupt it; None: none.
    """

    name: str
    direction_rad: tuple[float, float]
    predict: Predict
    gains: RowGainSource | None = None


def image_model(models: Sequence[Path], *, threads: int = 1) -> Predict:
    """Return a prediction function from model images whose centre is the direction.

    Parameters
    ----------
    models : sequence of Path
        One image, Taylor terms of one frequency, or one image for each of several frequencies, to
        which a polynomial of at most second degree is fitted.
    threads : int

    Raises
    ------
    InputError
        The images cannot be read.
    """
    model = _across_frequency(models)

    def predict(
        uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        return model_visibilities(model, uvw_m, frequency_hz, threads=threads)

    return predict


def _across_frequency(models: Sequence[Path]) -> ModelImage:
    """Return Taylor terms about the mean frequency from images at several frequencies."""
    planes = [read_model([path]) for path in models]
    frequency = np.array([plane.frequency_hz for plane in planes])
    if len(np.unique(frequency)) < 2:
        return read_model(models)
    middle = float(frequency.mean())
    cube = np.stack([plane.terms[0] for plane in planes])
    degree = min(_MAX_DEGREE, len(planes) - 1)
    terms = np.polynomial.polynomial.polyfit(
        frequency / middle - 1.0, cube.reshape(len(planes), -1), degree
    )
    return replace(planes[0], terms=terms.reshape(-1, *cube.shape[1:]), frequency_hz=middle)


def subtract_sources(
    ms: Path,
    target: Path,
    sources: Sequence[SkyModel],
    *,
    column: str = "DATA",
    chunk_bytes: int = CHUNK_BYTES,
    on_chunk: Callable[[float], None] | None = None,
) -> int:
    """Write a copy of data with some sources subtracted.

    The result is V - sum g_p conj(g_q) M over the sources at the full resolution of the data. A
    model is predicted about its own direction and shifted to the data's phase centre. Where a
    station has no solution for a source, that source stays in, which is better than subtracting a
    model with wrong phases. Cross hands are unchanged.

    Parameters
    ----------
    ms : Path
        Measurement set, never written.
    target : Path
        New set; an existing one is replaced. It appears complete or not at all. Its DATA is the
        residual.
    sources : sequence of SkyModel
        Sources, with gains for the antennas of ``ms``.
    column : str
        Column of the visibilities.
    chunk_bytes : int
        Memory limit for the visibilities of a chunk.
    on_chunk : callable, optional
        Function called with the fraction done.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    InputError
        The path is not a measurement set, or it lacks the column.
    """
    ms, target = Path(ms), Path(target)
    layout = read_layout(ms)
    part = target.with_name(f".{target.name}.part")
    create_like(ms, part)
    rows = 0
    with open_table(ms) as source, open_table(part, write=True) as made:
        if column not in source.colnames():
            raise InputError(f"{ms} has no column {column}", "name another")
        total = source.nrows()
        made.addrows(total)
        for ddid, number in _row_chunks(source, layout, chunk_bytes):
            data = read_column(source, column, number).astype(np.complex64)
            left = _left(source, number, ddid, layout, sources, data)
            _write(source, made, number, left)
            rows += len(number)
            if on_chunk:
                on_chunk(rows / total)
    fsync_tree(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    log.info("%s: %d sources subtracted from %d rows", target.name, len(sources), rows)
    return rows


def add_source(
    ms: Path,
    source: SkyModel,
    beneath: DirectionGains | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> None:
    """Add a source back into DATA from which it was subtracted, in place.

    The data may have been corrected since: V + g_p conj(g_q) M / (b_p conj(b_q)) is formed. Where
    the source has no solution nothing is added, because nothing was subtracted.

    Parameters
    ----------
    ms : Path
        Copy with any phase centre; its DATA is written.
    source : SkyModel
        Source as it was subtracted, with gains for the antennas of ``ms``.
    beneath : DirectionGains, optional
        Gains b by which the data were divided; None: none.
    chunk_bytes : int
        Memory limit for the visibilities of a chunk.

    Raises
    ------
    InputError
        The path is not a measurement set.
    """
    layout = read_layout(Path(ms))
    with open_table(ms, write=True) as opened:
        for ddid, number in _row_chunks(opened, layout, chunk_bytes):
            data = read_column(opened, "DATA", number).astype(np.complex64)
            taken = _left(opened, number, ddid, layout, [source], np.zeros_like(data))
            if beneath is not None:
                taken /= _factors(opened, number, layout, ddid, beneath)
            rows = opened.selectrows(number)
            rows.putcol("DATA", data - taken)
            rows.close()


def subtract_in_place(
    ms: Path,
    sources: Sequence[SkyModel],
    column: str,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> None:
    """Write a column less some sources as DATA, in place.

    Parameters
    ----------
    ms : Path
    sources : sequence of SkyModel
    column : str
        Column with the visibilities as they were; where it is not DATA it can be repeated.
    chunk_bytes : int
        Memory limit for the visibilities of a chunk.

    Raises
    ------
    InputError
        The path is not a measurement set.
    """
    layout = read_layout(ms)
    with open_table(ms, write=True) as opened:
        for ddid, number in _row_chunks(opened, layout, chunk_bytes):
            data = read_column(opened, column, number).astype(np.complex64)
            left = _left(opened, number, ddid, layout, sources, data)
            write_rows(opened, number, {"DATA": left})


def _factors(
    source: Any, number: NDArray[np.int64], layout: Layout, ddid: int, gains: DirectionGains
) -> NDArray[np.complex64]:
    """Return g_p conj(g_q) of rows, (nrow, nchan, ncorr); 1 where there is no solution."""
    there = gains.at(read_column(source, "TIME", number), layout.frequency_hz[layout.spw_of[ddid]])
    feeds = correlation_feeds(layout.corr_types[ddid])
    gain = np.where(there.valid, there.gain, 1.0)
    first = read_column(source, "ANTENNA1", number)
    second = read_column(source, "ANTENNA2", number)
    one = gain[there.row, :, first][:, :, feeds[:, 0]]
    two = gain[there.row, :, second][:, :, feeds[:, 1]]
    return np.asarray(one * np.conj(two), np.complex64)


def _row_chunks(
    source: Any, layout: Layout, chunk_bytes: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield data description and row numbers of pieces, one stretch of the table at a time."""
    for start, count in stretches(source.nrows()):
        ddids = np.asarray(source.getcol("DATA_DESC_ID", start, count))
        for ddid in np.unique(ddids).tolist():
            number = start + np.flatnonzero(ddids == ddid)
            channels = len(layout.frequency_hz[layout.spw_of[ddid]])
            step = max(1, chunk_bytes // (channels * len(layout.corr_types[ddid]) * 32))
            for low in range(0, len(number), step):
                yield ddid, number[low : low + step]


def _left(
    source: Any,
    number: NDArray[np.int64],
    ddid: int,
    layout: Layout,
    sources: Sequence[SkyModel],
    data: NDArray[np.complex64],
) -> NDArray[np.complex64]:
    """Subtract the sources from the visibilities of some rows, in place."""
    frequency = layout.frequency_hz[layout.spw_of[ddid]]
    codes = layout.corr_types[ddid]
    parallel = np.array([CORR_NAMES.get(int(code), "") in PARALLEL_HANDS for code in codes])
    uvw, time = read_column(source, "UVW", number), read_column(source, "TIME", number)
    first = read_column(source, "ANTENNA1", number).astype(np.int64)
    second = read_column(source, "ANTENNA2", number).astype(np.int64)
    for one in sources:
        turned = uvw @ rotation(layout.direction_rad, one.direction_rad).T
        model = one.predict(np.ascontiguousarray(turned), frequency)
        found = (
            _no_gains(len(number))
            if one.gains is None
            else one.gains.at(time, frequency, int(layout.spw_of[ddid]))
        )
        _subtract(
            data, model, turned[:, 2] - uvw[:, 2], frequency / SPEED_OF_LIGHT_M_S, found.gain,
            found.valid, found.row, first, second, correlation_feeds(codes), parallel,
            one.gains is not None,
        )  # fmt: skip
    return data


def _no_gains(count: int) -> RowGains:
    gain = np.ones((1, 1, 1, 2), np.complex128)
    return RowGains(gain, np.ones(gain.shape, bool), np.zeros(count, np.int64))


def _write(source: Any, made: Any, number: NDArray[np.int64], data: NDArray[np.complex64]) -> None:
    """Write rows in their places, with all other columns of the source."""
    columns: dict[str, NDArray[Any]] = {"DATA": data}
    weight = read_column(source, "WEIGHT", number)
    for name in (
        "TIME", "TIME_CENTROID", "INTERVAL", "EXPOSURE", "UVW", "ANTENNA1", "ANTENNA2",
        "DATA_DESC_ID", "SCAN_NUMBER", "FIELD_ID", "ARRAY_ID", "FEED1", "FEED2",
        "OBSERVATION_ID", "PROCESSOR_ID", "STATE_ID", "FLAG", "FLAG_ROW", "WEIGHT", "SIGMA",
    ):  # fmt: skip
        columns[name] = read_column(source, name, number)
    name = "WEIGHT_SPECTRUM"
    if name in source.colnames() and source.iscelldefined(name, int(number[0])):
        columns[name] = read_column(source, name, number)
    else:
        columns[name] = np.broadcast_to(weight[:, None, :], data.shape)
    consecutive = int(number[-1]) - int(number[0]) + 1 == len(number)
    place = made if consecutive else made.selectrows(number)
    start = int(number[0]) if consecutive else 0
    for name, values in columns.items():
        place.putcol(name, np.ascontiguousarray(values), start, len(number))
    if not consecutive:
        place.close()


@njit(parallel=True, cache=True)
def _subtract(
    data: NDArray[np.complex64],
    model: NDArray[np.complex128],
    path_m: NDArray[np.float64],
    per_m: NDArray[np.float64],
    gain: NDArray[np.complex128],
    valid: NDArray[np.bool_],
    moment: NDArray[np.int64],
    antenna1: NDArray[np.int64],
    antenna2: NDArray[np.int64],
    feeds: NDArray[np.int64],
    parallel: NDArray[np.bool_],
    corrupt: bool,
) -> None:
    """Subtract the corrupted model, shifted to the data's phase centre, from the data."""
    for r in prange(data.shape[0]):
        p, q, t = antenna1[r], antenna2[r], moment[r]
        for c in range(data.shape[1]):
            angle = 2.0 * np.pi * path_m[r] * per_m[c]
            seen = model[r, c] * complex(np.cos(angle), np.sin(angle))
            cg = c if gain.shape[1] > 1 else 0
            for k in range(data.shape[2]):
                if not parallel[k]:
                    continue
                if not corrupt:
                    data[r, c, k] -= seen
                    continue
                one, two = feeds[k, 0], feeds[k, 1]
                if valid[t, cg, p, one] and valid[t, cg, q, two]:
                    factor = gain[t, cg, p, one] * np.conj(gain[t, cg, q, two])
                    data[r, c, k] -= factor * seen
