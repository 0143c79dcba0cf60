"""Copying part of a measurement set into a new one, row by row, without a CASA task.

The result is that of ``mstransform(reindex=True)`` with the same selection, except that rows
keep their order: fields and windows get new numbers, as do the rows of FEED, SOURCE and other
subtables that refer to them; antennas, observations, states and pointings are copied whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.ms.missing_columns import StandIns
from libs.ms.rows import RowBlock, read_block, stretches, write_block
from libs.ms.sanitise import sigma_of, spread_weight
from libs.ms.subset import NotUnderstoodError, Subset
from libs.ms.tables import open_table

__all__ = ["copy_subset"]

BLOCK_BYTES = 32 * 1024**2  # of visibilities read at once
_COPIED = (
    "ANTENNA1", "ANTENNA2", "ARRAY_ID", "EXPOSURE", "FEED1", "FEED2", "FLAG_ROW", "INTERVAL",
    "OBSERVATION_ID", "PROCESSOR_ID", "SCAN_NUMBER", "STATE_ID", "TIME", "TIME_CENTROID", "UVW",
)  # fmt: skip
_INCREMENTAL = (
    "ARRAY_ID", "EXPOSURE", "FEED1", "FEED2", "FIELD_ID", "INTERVAL", "OBSERVATION_ID",
    "PROCESSOR_ID", "SCAN_NUMBER", "STATE_ID", "TIME", "TIME_CENTROID",
)  # fmt: skip
_CATEGORIES = ("FLAG_CMD", "ORIGINAL", "USER")


def copy_subset(
    ms: Path,
    target: Path,
    subset: Subset,
    *,
    progress: Callable[[str], None] | None = None,
) -> int:
    """Copy part of a measurement set.

    Parameters
    ----------
    ms : Path
        Measurement set, only read; a view (`libs.ms.view.read_view`) where it must not be touched.
    target : Path
        New set; an existing one is replaced.
    subset : Subset
        Part to copy, from `libs.ms.subset.choose_subset`.
    progress : callable, optional
        Function that receives the progress in a few words.

    Returns
    -------
    int
        Number of rows written; if it is 0, ``target`` is not made.

    Raises
    ------
    InputError
        Rows have no value in a column, or values of another shape than their window.
    NotUnderstoodError
        The column's type is not a complex number.
    """
    shutil.rmtree(target, ignore_errors=True)
    with open_table(ms) as source:
        job = _job(source, subset)
        total = sum(int(job.wanted(low, count).sum()) for low, count in stretches(source.nrows()))
        if not total:
            return 0
        _create(source, target, job)
        with open_table(target, write=True) as made:
            made.addrows(total)
            start = 0
            for low, count in stretches(source.nrows()):
                rows = low + np.flatnonzero(job.wanted(low, count))
                if len(rows):
                    _copy_scalars(source, made, rows, start, job)
                    _copy_cells(source, made, rows, start, job)
                    start += len(rows)
                    if progress and start < total:
                        progress(f"{100 * start // total} % copied")
    _copy_subtables(ms, target, subset)
    return total


@dataclass(frozen=True)
class _Job:
    """A copy in progress: the open source, the part to copy, and the columns it has or makes."""

    source: Any
    stand_ins: StandIns
    subset: Subset
    spectrum: bool
    makes_spectrum: bool
    sigma_spectrum: bool
    correlations: int
    widest: int

    def wanted(self, low: int, count: int) -> NDArray[np.bool_]:
        """Return which of some rows are copied, (count,)."""
        chosen = np.ones(count, bool)
        if not self.subset.autocorrelations:
            one, two = (self.source.getcol(f"ANTENNA{n}", low, count) for n in (1, 2))
            chosen &= one != two
        for name, ids in (
            ("FIELD_ID", self.subset.fields),
            ("DATA_DESC_ID", self.subset.data_descriptions),
        ):
            chosen &= np.isin(self.source.getcol(name, low, count), ids)
        first, end = np.searchsorted(self.subset.left_out, (low, low + count))
        chosen[self.subset.left_out[first:end] - low] = False
        return chosen


def _job(source: Any, subset: Subset) -> _Job:
    columns = source.colnames()
    if subset.column not in columns:
        raise NotUnderstoodError(f"there is no column {subset.column}")
    if source.coldatatype(subset.column) not in ("complex", "dcomplex"):
        raise NotUnderstoodError(f"{subset.column} holds {source.coldatatype(subset.column)}")
    spectrum = "WEIGHT_SPECTRUM" in columns and _is_filled(source, "WEIGHT_SPECTRUM")
    place = source.getkeyword("DATA_DESCRIPTION").removeprefix("Table: ")
    with open_table(place) as table:
        setups = table.getcol("POLARIZATION_ID")
    with open_table(source.getkeyword("POLARIZATION").removeprefix("Table: ")) as table:
        counts = [int(table.getcell("NUM_CORR", int(row))) for row in setups]
    most = max(counts[row] for row in subset.data_descriptions)
    return _Job(
        source=source,
        stand_ins=StandIns(source),
        subset=subset,
        spectrum=spectrum,
        makes_spectrum=spectrum or bool(subset.bin_starts),
        sigma_spectrum="SIGMA_SPECTRUM" in columns and _is_filled(source, "SIGMA_SPECTRUM"),
        correlations=most if subset.correlations is None else len(subset.correlations),
        widest=max(len(channels) for channels in subset.bin_starts or subset.channels),
    )


def _is_filled(source: Any, name: str) -> bool:
    rows = source.nrows()
    if not rows or not all(source.iscelldefined(name, row) for row in {0, rows // 2, rows - 1}):
        return False
    return bool(source.query(f"!isdefined({name})").nrows() == 0)


def _create(source: Any, target: Path, job: _Job) -> None:
    """Make the main table, empty, with the measures of the source's columns."""
    from casacore.tables import makearrcoldesc, maketabdesc, required_ms_desc, table

    description = required_ms_desc()
    extra = [makearrcoldesc("DATA", 0j, ndim=2, valuetype="complex", comment="visibilities")]
    if job.makes_spectrum:
        extra += [
            makearrcoldesc(name, 0.0, ndim=2, valuetype="float", comment=name.lower())
            for name in ("WEIGHT_SPECTRUM", "SIGMA_SPECTRUM")
        ]
    description.update(maketabdesc(extra))
    made = table(str(target), description, nrow=0, dminfo=_storage(job), ack=False)
    try:
        made.putinfo({**made.info(), "type": "Measurement Set", "subType": ""})
        made.putkeyword("MS_VERSION", 2.0)
        for name in made.colnames():
            if name in source.colnames():
                made.putcolkeywords(name, source.getcolkeywords(name))
        if "CATEGORY" in made.colkeywordnames("FLAG_CATEGORY"):
            made.removecolkeyword("FLAG_CATEGORY", "CATEGORY")
        # without the keyword, tools ask for the set to be opened for writing
        made.putcolkeyword("FLAG_CATEGORY", "CATEGORY", np.array(_CATEGORIES))
    finally:
        made.close()


def _storage(job: _Job) -> dict[str, Any]:
    """Return tiled storage for visibilities, incremental storage for columns that rarely change."""
    ncorr, nchan = job.correlations, job.widest
    rows = max(64, 131072 // (ncorr * nchan))
    tiles = {name: [ncorr, nchan, rows] for name in ("DATA", "FLAG")}
    tiles |= {"WEIGHT": [ncorr, 32768 // ncorr], "SIGMA": [ncorr, 32768 // ncorr]}
    tiles |= {"FLAG_CATEGORY": [ncorr, nchan, 1, rows]}
    if job.makes_spectrum:
        tiles |= {f"{name}_SPECTRUM": [ncorr, nchan, rows] for name in ("WEIGHT", "SIGMA")}
    info: dict[str, Any] = {}
    for name, tile in tiles.items():
        info[name] = {
            "TYPE": "TiledShapeStMan", "NAME": f"Tiled{name}", "SEQNR": len(info),
            "COLUMNS": np.array([name]),
            "SPEC": {"DEFAULTTILESHAPE": np.array(tile, dtype=np.int32)},
        }  # fmt: skip
    info["UVW"] = {
        "TYPE": "TiledColumnStMan", "NAME": "TiledUVW", "SEQNR": len(info),
        "COLUMNS": np.array(["UVW"]),
        "SPEC": {"DEFAULTTILESHAPE": np.array([3, 43690], dtype=np.int32)},
    }  # fmt: skip
    info["Incremental"] = {
        "TYPE": "IncrementalStMan", "NAME": "Incremental", "SEQNR": len(info),
        "COLUMNS": np.array(_INCREMENTAL), "SPEC": {},
    }  # fmt: skip
    return info


def _runs(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    edges = np.concatenate([[0], np.flatnonzero(np.diff(rows) != 1) + 1, [len(rows)]])
    return [(int(rows[a]), int(b - a)) for a, b in pairwise(edges)]


def _block(data_desc_id: int, rows: NDArray[np.int64]) -> RowBlock:
    starts, counts = (np.array(part) for part in zip(*_runs(rows), strict=True))
    return RowBlock(data_desc_id, rows, starts, counts)


def _copy_scalars(source: Any, made: Any, rows: NDArray[np.int64], start: int, job: _Job) -> None:
    """Copy the columns that do not depend on the shape of a window, in row order."""
    low, count = int(rows[0]), int(rows[-1] - rows[0] + 1)
    inside = rows - low
    for name in _COPIED:
        made.putcol(name, job.stand_ins.scalars(name, low, count)[inside], start, len(rows))
    for name, ids in (
        ("FIELD_ID", job.subset.fields),
        ("DATA_DESC_ID", job.subset.data_descriptions),
    ):
        held = source.getcol(name, low, count)[inside]
        new = np.zeros(max(ids) + 1, np.int32)
        new[list(ids)] = np.arange(len(ids))
        made.putcol(name, new[held], start, len(rows))


def _copy_cells(source: Any, made: Any, rows: NDArray[np.int64], start: int, job: _Job) -> None:
    """Copy visibilities, flags and weights, window by window."""
    low, count = int(rows[0]), int(rows[-1] - rows[0] + 1)
    held = source.getcol("DATA_DESC_ID", low, count)[rows - low]
    buffer: dict[str, Any] = {}
    for number, ddid in enumerate(job.subset.data_descriptions):
        mine = np.flatnonzero(held == ddid)
        channels = job.subset.channels[number]
        row_bytes = 13 * len(channels) * job.correlations
        step = max(1, BLOCK_BYTES // row_bytes)
        for first in range(0, len(mine), step):
            part = mine[first : first + step]
            values = _cells(source, _block(ddid, rows[part]), channels, job, buffer)
            block = _block(ddid, start + part)
            if job.subset.bin_starts:
                values = _averaged(values, job.subset.bin_starts[number])
            for name, value in values.items():
                write_block(made, name, block, value)


def _cells(
    source: Any,
    block: RowBlock,
    channels: NDArray[np.int64],
    job: _Job,
    buffer: dict[str, Any],
) -> dict[str, NDArray[Any]]:
    """Return the new values of the cells of a block."""
    subset = job.subset

    def read(name: str) -> NDArray[Any]:
        try:
            value = read_block(source, name, block, buffer)
        except (RuntimeError, IndexError) as error:
            raise InputError(
                f"column {name} has rows without values, or of another shape than their "
                f"window (among rows {block.rows[0]} to {block.rows[-1]})",
                "use another datacolumn, or select the windows that have it",
            ) from error
        if value.ndim == 3:
            if channels[-1] >= value.shape[1]:
                raise InputError(
                    f"column {name} has {value.shape[1]} channels in rows of a window with more",
                    "copy the measurement set again from where it came",
                )
            if len(channels) != value.shape[1]:
                value = value[:, channels]
        if subset.correlations is not None:
            value = value[..., list(subset.correlations)]
        return np.ascontiguousarray(value)

    values = {
        "DATA": read(subset.column).astype(np.complex64, copy=False),
        "FLAG": read("FLAG"),
    }
    missing = job.stand_ins.missing
    for name in ("WEIGHT", "SIGMA"):
        if name not in missing:
            values[name] = read(name)
    if "WEIGHT" in missing and "SIGMA" in missing:
        shape = (len(values["DATA"]), values["DATA"].shape[2])
        values |= {name: np.ones(shape, np.float32) for name in ("WEIGHT", "SIGMA")}
    elif "WEIGHT" in missing:
        values["WEIGHT"] = _weight_of(values["SIGMA"])
    elif "SIGMA" in missing:
        values["SIGMA"] = sigma_of(values["WEIGHT"])
    # SIGMA belongs to DATA. Calibration changes WEIGHT, which belongs to CORRECTED_DATA.
    calibrated = subset.column != "DATA"
    if calibrated:
        values["SIGMA"] = sigma_of(values["WEIGHT"])
    else:
        values["WEIGHT"] = _weight_of(values["SIGMA"])
    if job.spectrum:
        spectrum = read("WEIGHT_SPECTRUM")
        values["WEIGHT_SPECTRUM"] = spectrum
        if calibrated:
            values["SIGMA_SPECTRUM"] = sigma_of(spectrum)
        elif job.sigma_spectrum:
            values["SIGMA_SPECTRUM"] = read("SIGMA_SPECTRUM")
        else:
            spread = np.broadcast_to(values["SIGMA"][:, None], spectrum.shape)
            values["SIGMA_SPECTRUM"] = np.ascontiguousarray(spread)
    return values


def _averaged(
    values: dict[str, NDArray[Any]], starts: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return weighted means of channels with the sums of their weights."""
    data, flag = values["DATA"], values["FLAG"]
    weight = values.get("WEIGHT_SPECTRUM", values["WEIGHT"][:, None]) * ~flag
    total = np.add.reduceat(weight.astype(np.float64), starts, axis=1)
    summed = np.add.reduceat(np.where(flag, 0, data) * weight, starts, axis=1)
    mean = np.where(total > 0, summed / np.where(total > 0, total, 1), 0)
    spectrum = total.astype(np.float32)
    return {
        "DATA": mean.astype(np.complex64), "FLAG": total <= 0, "WEIGHT_SPECTRUM": spectrum,
        "SIGMA_SPECTRUM": sigma_of(spectrum), "WEIGHT": spread_weight(spectrum),
        "SIGMA": sigma_of(spread_weight(spectrum)),
    }  # fmt: skip


def _weight_of(sigma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return WEIGHT = SIGMA^(-2), and 0 where there is no SIGMA, as CASA does."""
    known = sigma > np.finfo(np.float32).tiny
    return np.where(known, np.where(known, sigma, 1).astype(np.float64) ** -2, 0).astype(np.float32)


def _copy_subtables(ms: Path, target: Path, subset: Subset) -> None:
    """Copy the subtables; of those that refer to fields or windows, the rows that are kept."""
    with open_table(ms) as source:
        places = {
            name: value.removeprefix("Table: ").strip()
            for name, value in source.getkeywords().items()
            if isinstance(value, str) and value.startswith("Table: ")
        }
    for name, place in places.items():
        with open_table(place) as opened:
            rows = _kept_rows(name, opened, ms, subset)
            chosen = opened if rows is None else opened.selectrows(rows)
            chosen.copy(str(target / name), deep=True, valuecopy=True).close()
            if rows is not None:
                chosen.close()
        with open_table(target, write=True) as made:
            made.putkeyword(name, f"Table: {target / name}")
    _number_anew(target, ms, subset)


def _kept_rows(name: str, opened: Any, ms: Path, subset: Subset) -> NDArray[np.int64] | None:
    """Return the rows of a subtable that belong to a subset; None: all of them, unchanged."""
    if name == "FIELD":
        return None if subset.all_fields else np.array(subset.fields)
    if name == "SPECTRAL_WINDOW":
        return None if subset.all_windows else np.array(subset.windows)
    if name == "DATA_DESCRIPTION":
        return np.array(subset.data_descriptions)
    if not opened.nrows():
        return None
    keep = np.ones(opened.nrows(), bool)
    if _numbers_windows(opened):
        window = np.asarray(opened.getcol("SPECTRAL_WINDOW_ID"))
        keep &= np.isin(window, subset.windows) | (window < 0)
    if name == "SOURCE":
        keep &= np.isin(opened.getcol("SOURCE_ID"), list(_sources(ms, subset)))
    return None if keep.all() else np.flatnonzero(keep)


def _numbers_windows(opened: Any) -> bool:
    return bool(
        "SPECTRAL_WINDOW_ID" in opened.colnames() and opened.isscalarcol("SPECTRAL_WINDOW_ID")
    )


def _sources(ms: Path, subset: Subset) -> dict[int, int]:
    """Return the new number of every source to which a kept field belongs."""
    with open_table(f"{ms}::FIELD") as fields:
        named = [int(fields.getcell("SOURCE_ID", row)) for row in subset.fields]
    return {old: new for new, old in enumerate(dict.fromkeys(n for n in named if n >= 0))}


def _number_anew(target: Path, ms: Path, subset: Subset) -> None:
    """Write the new numbers of windows and sources, and the channels that are kept."""
    windows = {old: new for new, old in enumerate(subset.windows)}
    with open_table(target) as made:
        names = [
            name
            for name, value in made.getkeywords().items()
            if isinstance(value, str) and value.startswith("Table: ")
        ]
    for name in names:
        with open_table(target / name, write=True) as table:
            if table.nrows() and _numbers_windows(table):
                _replace(table, "SPECTRAL_WINDOW_ID", windows)
    sources = _sources(ms, subset)
    for name in ("FIELD", "SOURCE"):
        if (target / name).exists():
            with open_table(target / name, write=True) as table:
                if table.nrows():
                    _replace(table, "SOURCE_ID", sources)
    _cut_windows(target, subset)
    if subset.correlations is not None:
        with open_table(f"{target}::POLARIZATION", write=True) as table:
            kept = list(subset.correlations)
            for column in ("CORR_TYPE", "CORR_PRODUCT"):
                table.putcell(column, 0, np.ascontiguousarray(table.getcell(column, 0)[kept]))
            table.putcell("NUM_CORR", 0, len(kept))


def _replace(table: Any, column: str, numbers: dict[int, int]) -> None:
    held = np.asarray(table.getcol(column))
    new = np.array([numbers.get(int(one), int(one)) for one in held], held.dtype)
    if not np.array_equal(held, new):
        table.putcol(column, new)


def _cut_windows(target: Path, subset: Subset) -> None:
    """Keep only the chosen channels in the SPECTRAL_WINDOW subtable."""
    with open_table(f"{target}::SPECTRAL_WINDOW", write=True) as table:
        # NUM_CHAN may say something else than there are
        counts = [np.size(table.getcell("CHAN_FREQ", row)) for row in range(table.nrows())]
        if not subset.all_windows:
            # these number the windows of the set from which this one is copied
            stale = [n for n in ("ASSOC_SPW_ID", "ASSOC_NATURE") if n in table.colnames()]
            if stale:
                table.removecols(stale)
        for row, channels in enumerate(subset.channels):
            if subset.bin_starts:
                _average_cells(table, row, channels, subset.bin_starts[row])
                continue
            if len(channels) == counts[row]:
                table.putcell("NUM_CHAN", row, len(channels))
                continue
            for column in ("CHAN_FREQ", "CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
                table.putcell(column, row, table.getcell(column, row)[channels])
            table.putcell("NUM_CHAN", row, len(channels))
            table.putcell("REF_FREQUENCY", row, float(table.getcell("CHAN_FREQ", row).min()))
            width = np.abs(table.getcell("CHAN_WIDTH", row)).sum()
            table.putcell("TOTAL_BANDWIDTH", row, float(width))


def _average_cells(
    table: Any, row: int, channels: NDArray[np.int64], starts: NDArray[np.int64]
) -> None:
    """Write the channels that averages of a window's channels have."""
    sizes = np.diff([*starts, len(channels)])
    for column in ("CHAN_FREQ", "CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
        sums = np.add.reduceat(np.atleast_1d(table.getcell(column, row))[channels], starts)
        table.putcell(column, row, sums / sizes if column == "CHAN_FREQ" else sums)
    table.putcell("NUM_CHAN", row, len(starts))
