"""The reader and writer of measurement sets: (row, chan, corr) order, chunks bounded by memory.

python-casacore is used for everything here; casatools, whose arrays are (corr, chan, row), never.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError

__all__ = [
    "Chunk",
    "MsSummary",
    "antenna_labels",
    "chunks",
    "column_names",
    "distinct",
    "flagged_fraction",
    "fsync_tree",
    "open_table",
    "put_rows",
    "read_rows",
    "row_pieces",
    "sample_baselines",
    "stamp_spacing_s",
    "stretches",
    "summarise",
    "write_rows",
]

CHUNK_BYTES = 32 * 1024**2  # what is made of a chunk takes several times as much
_ENDS = ("ANTENNA1", "ANTENNA2")
_SHORT_RUN = 32  # rows; runs shorter than this are faster read through a selection
SLAB_ROWS = 2**20  # rows whose numbers and ids are held at once
RowFilter = Callable[[Any, int, int], NDArray[np.bool_]]

# FITS / AIPS++ Stokes codes of the POLARIZATION subtable
CORR_NAMES = {
    1: "I", 2: "Q", 3: "U", 4: "V",
    5: "RR", 6: "RL", 7: "LR", 8: "LL",
    9: "XX", 10: "XY", 11: "YX", 12: "YY",
}  # fmt: skip
PARALLEL_HANDS = ("RR", "LL", "XX", "YY", "I")


@contextmanager
def open_table(path: str | Path, *, write: bool = False) -> Iterator[Any]:
    """Open a casacore table (``"data.ms"`` or ``"data.ms::SPECTRAL_WINDOW"``).

    Raises
    ------
    InputError
        It does not exist or is no table.
    """
    from casacore.tables import table

    try:
        opened = table(str(path), readonly=not write, ack=False, lockoptions="autonoread")
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be opened as a table ({str(error).strip().splitlines()[0]})",
            "name a measurement set",
        ) from error
    try:
        yield opened
    finally:
        opened.close()


def column_names(path: str | Path) -> list[str]:
    """Return the names of a table's columns."""
    with open_table(path) as opened:
        return list(opened.colnames())


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a measurement set that share one data description.

    Attributes
    ----------
    rows : (nrow,) int64
        Row numbers.
    data_desc_id, spw : int
        Their data description and spectral window.
    columns : dict of str to array
        The columns asked for, first axis the row.
    """

    rows: NDArray[np.int64]
    data_desc_id: int
    spw: int
    columns: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]


def _row_bytes(opened: Any, names: Sequence[str], first_row: int) -> int:
    total = 0
    for name in names:
        cell = opened.getcell(name, first_row) if opened.iscelldefined(name, first_row) else 0.0
        total += np.asarray(cell).nbytes
    return max(total, 1)


def chunks(
    path: str | Path,
    names: Sequence[str],
    *,
    max_bytes: int = CHUNK_BYTES,
    where: str | RowFilter = "",
) -> Iterator[Chunk]:
    """Read columns of a measurement set in chunks of one spectral window each.

    Parameters
    ----------
    path : path
        The measurement set.
    names : sequence of str
        Columns to read.
    max_bytes : int
        Upper bound of the bytes read for one chunk.
    where : str or callable
        TaQL condition on the rows, empty for all; or (table, first row, number of rows) -> (n,)
        bool.

    Yields
    ------
    Chunk
        Within each `SLAB_ROWS` rows of the table by data description, then in row order.
    """
    with open_table(f"{path}::DATA_DESCRIPTION") as descriptions:
        spw_of = descriptions.getcol("SPECTRAL_WINDOW_ID")
    with open_table(path) as opened:
        for ddid, rows in row_pieces(opened, names, max_bytes=max_bytes, where=where):
            yield Chunk(rows, ddid, int(spw_of[ddid]), read_rows(opened, names, rows))


def row_pieces(
    opened: Any,
    names: Sequence[str],
    *,
    max_bytes: int = CHUNK_BYTES,
    where: str | RowFilter = "",
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield data description and row numbers of pieces whose columns fit into ``max_bytes``.

    Parameters
    ----------
    opened : casacore table
        The main table of a measurement set.
    names, max_bytes, where
        As for `chunks`; nothing but DATA_DESC_ID and what the condition needs is read.
    """
    for low, count in stretches(opened.nrows()):
        ids = opened.getcol("DATA_DESC_ID", low, count)
        wanted = _condition(opened, where, low, count)
        for ddid in np.unique(ids[wanted]).tolist():
            rows = low + np.flatnonzero((ids == ddid) & wanted)
            step = max(1, max_bytes // _row_bytes(opened, names, int(rows[0])))
            for start in range(0, len(rows), step):
                yield ddid, rows[start : start + step]


def _condition(opened: Any, where: str | RowFilter, low: int, count: int) -> NDArray[np.bool_]:
    """Which rows of a slab are wanted."""
    if callable(where):
        return where(opened, low, count)
    if not where:
        return np.ones(count, bool)
    slab = opened.selectrows(np.arange(low, low + count))
    wanted = np.asarray(slab.calc(where), bool)
    slab.close()
    return wanted


def read_rows(
    opened: Any, names: Sequence[str], rows: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return columns of some rows, (nrow,) increasing; consecutive ones without a selection."""
    runs = _runs(rows)
    if not runs:
        part = opened.selectrows(rows)
        columns = {name: part.getcol(name) for name in names}
        part.close()
        return columns
    columns = {}
    for name in names:
        parts = [opened.getcol(name, first, count) for first, count in runs]
        columns[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return columns


def _runs(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First row and length of runs of consecutive rows; none when a selection is the better way."""
    starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
    if len(starts) * _SHORT_RUN > len(rows):
        return [(int(rows[0]), len(rows))] if len(starts) == 1 else []
    lengths = np.diff(starts, append=len(rows))
    return list(zip(rows[starts].tolist(), lengths.tolist(), strict=True))


def stretches(rows: int) -> Iterator[tuple[int, int]]:
    """Yield first row and number of rows of pieces of a table, so that columns fit in memory."""
    most = SLAB_ROWS
    for low in range(0, rows, most):
        yield low, min(most, rows - low)


def distinct(opened: Any, name: str) -> NDArray[Any]:
    """Return the sorted distinct values of a column of single values."""
    values: NDArray[Any] = np.empty(0)
    for number, (low, count) in enumerate(stretches(opened.nrows())):
        part = np.unique(opened.getcol(name, low, count))
        values = np.union1d(values, part) if number else part
    return values


@dataclass(frozen=True)
class MsSummary:
    """What a measurement set holds, from its subtables and unflagged rows.

    Attributes
    ----------
    path : Path
    rows, channels : int
        Rows; channels summed over the spectral windows present.
    antenna : tuple of str
        Names by id; blank names become ``ANT<id>``.
    position_m : (nant, 3) float64
        ITRF, m.
    dish_diameter_m : float
        Median over the antennas used; 0 when unknown.
    field : tuple of str
        Names by id.
    fields_used, spws_used : tuple of int
        Ids that occur in the rows.
    direction_rad : (2,) float64
        Phase centre of the first field used, RA and Dec.
    frequency_hz : tuple of (nchan,) arrays
        Channel centres of each spw.
    correlation : tuple of str
        Of the first polarization setup used, e.g. ``("RR", "LL")``.
    telescope : str
    time_range_s : tuple of float
        First and last TIME, MJD seconds.
    integration_s : float
        Median spacing of TIME within scans (INTERVAL may lie).
    scans : int
        Number of scans.
    longest_baseline_m, shortest_baseline_m : float
        Over unflagged rows.
    antennas_used : tuple of int
        Antennas on unflagged cross-correlations.
    flagged_fraction : float
        Of all visibilities.
    weights_positive : bool
        Whether any unflagged visibility has a finite positive weight.
    columns : tuple of str
    size_bytes : int
        On disk.
    """

    path: Path
    rows: int
    channels: int
    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
    dish_diameter_m: float
    field: tuple[str, ...]
    fields_used: tuple[int, ...]
    spws_used: tuple[int, ...]
    direction_rad: NDArray[np.float64]
    frequency_hz: tuple[NDArray[np.float64], ...]
    correlation: tuple[str, ...]
    telescope: str
    time_range_s: tuple[float, float]
    integration_s: float
    scans: int
    longest_baseline_m: float
    shortest_baseline_m: float
    antennas_used: tuple[int, ...]
    flagged_fraction: float
    weights_positive: bool
    columns: tuple[str, ...]
    size_bytes: int

    @property
    def max_frequency_hz(self) -> float:
        """Highest channel centre of the spws used."""
        return max(float(self.frequency_hz[spw].max()) for spw in self.spws_used)

    @property
    def min_frequency_hz(self) -> float:
        """Lowest channel centre of the spws used."""
        return min(float(self.frequency_hz[spw].min()) for spw in self.spws_used)

    @property
    def mean_frequency_hz(self) -> float:
        """Mean channel centre of the spws used."""
        return float(np.mean(np.concatenate([self.frequency_hz[spw] for spw in self.spws_used])))


def antenna_labels(names: Iterable[str], stations: Iterable[str]) -> tuple[str, ...]:
    """Return what antennas are called: NAME, else STATION, else ``ANT`` and the row's number."""
    return tuple(
        name.strip() or station.strip() or f"ANT{i}"
        for i, (name, station) in enumerate(zip(names, stations, strict=True))
    )


def _subtable_facts(path: Path) -> dict[str, Any]:
    with open_table(f"{path}::ANTENNA") as antennas:
        names = antenna_labels(antennas.getcol("NAME"), antennas.getcol("STATION"))
        positions = antennas.getcol("POSITION")
        diameters = antennas.getcol("DISH_DIAMETER")
    with open_table(f"{path}::FIELD") as fields:
        field_names = tuple(fields.getcol("NAME"))
        directions = np.array(
            [np.asarray(fields.getcell("PHASE_DIR", i))[0] for i in range(fields.nrows())]
        ).reshape(-1, 2)
    with open_table(f"{path}::SPECTRAL_WINDOW") as windows:
        frequencies = tuple(
            np.asarray(windows.getcell("CHAN_FREQ", i)) for i in range(windows.nrows())
        )
    with open_table(f"{path}::DATA_DESCRIPTION") as descriptions:
        spw_of = descriptions.getcol("SPECTRAL_WINDOW_ID")
        pol_of = descriptions.getcol("POLARIZATION_ID")
    with open_table(f"{path}::POLARIZATION") as pols:
        corr = [
            tuple(CORR_NAMES.get(int(c), str(c)) for c in pols.getcell("CORR_TYPE", i))
            for i in range(pols.nrows())
        ]
    with open_table(f"{path}::OBSERVATION") as observation:
        telescopes = observation.getcol("TELESCOPE_NAME") if observation.nrows() else [""]
    return {
        "names": tuple(names), "positions": positions, "diameters": diameters,
        "field_names": field_names, "directions": directions, "frequencies": frequencies,
        "spw_of": spw_of, "pol_of": pol_of, "corr": corr, "telescope": telescopes[0],
    }  # fmt: skip


def sample_baselines(opened: Any, names: Sequence[str], most: int = 32) -> dict[str, NDArray[Any]]:
    """Return columns of all rows, or of those of some baselines where there are millions of rows.

    What is returned grows with the length of the observation only, not with the antennas.

    Parameters
    ----------
    opened : casacore table
        The main table of a measurement set.
    names : sequence of str
        Columns of single values.
    most : int
        Most baselines of a large table, spread over those at its start.

    Returns
    -------
    dict of str to (n,) arrays
    """
    chosen: NDArray[np.int64] | None = None
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for low, count in stretches(opened.nrows()):
        ends = [opened.getcol(name, low, count).astype(np.int64) for name in _ENDS]
        pair = ends[0] * 2**32 + ends[1]
        if chosen is None and opened.nrows() > SLAB_ROWS:
            pairs = np.unique(pair)
            # no more than SLAB_ROWS rows in all, where one baseline has fewer
            most = max(1, min(most, SLAB_ROWS * len(pairs) // opened.nrows()))
            chosen = pairs[np.unique(np.linspace(0, len(pairs) - 1, most).astype(int))]
        for name in names:
            values = opened.getcol(name, low, count)
            parts[name].append(values if chosen is None else values[np.isin(pair, chosen)])
    return {name: np.concatenate(values) for name, values in parts.items()}


def stamp_spacing_s(opened: Any, keys: Sequence[str], most_rows: int = 2**21) -> float:
    """Return the median spacing of the time stamps of a baseline within a scan, seconds.

    Stamps of different baselines may differ by a fraction of an integration and say nothing of
    its length. Of a large table some stretches of consecutive rows are looked at.

    Parameters
    ----------
    opened : casacore table
    keys : sequence of str
        Columns that tell one such run of rows from another.
    most_rows : int
    """
    total = opened.nrows()
    pieces = 1 if total <= most_rows else 8
    length = min(total, most_rows) // pieces
    found = []
    for low in np.linspace(0, total - length, pieces).astype(int).tolist():
        time = opened.getcol("TIME", low, length)
        values = [opened.getcol(name, low, length) for name in keys]
        order = np.lexsort((time, *values))
        same = np.all([np.diff(key[order]) == 0 for key in values], axis=0)
        steps = np.diff(time[order])[same]
        found.append(steps[steps > 0])
    spacing = np.concatenate(found)
    if not spacing.size and pieces > 1:  # an integration has more rows than a stretch
        spacing = np.diff(distinct(opened, "TIME"))
    return float(np.median(spacing)) if spacing.size else 0.0


def summarise(path: str | Path) -> MsSummary:
    """Read what a measurement set holds.

    Raises
    ------
    InputError
        It does not exist, is no measurement set or has no rows.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist", "correct vis")
    if not (path / "table.dat").exists() or not (path / "ANTENNA").exists():
        raise InputError(f"{path} is not a measurement set", "name a .ms folder or a UVFITS file")
    facts = _subtable_facts(path)
    with open_table(path) as opened:
        if opened.nrows() == 0:
            raise InputError(f"{path} has no rows", "check the selection that made it")
        times, scans = distinct(opened, "TIME"), distinct(opened, "SCAN_NUMBER")
        ddids, fields = distinct(opened, "DATA_DESC_ID"), distinct(opened, "FIELD_ID")
        integration_s = stamp_spacing_s(opened, ("SCAN_NUMBER", "ANTENNA1", "ANTENNA2"))
        columns = tuple(opened.colnames())
        rows = opened.nrows()
    survey = _survey_visibilities(path)
    used = sorted(survey["antennas"])
    spws = tuple(sorted({int(facts["spw_of"][ddid]) for ddid in ddids}))
    diameters = facts["diameters"][used] if used else facts["diameters"]
    diameters = diameters[diameters > 0]
    return MsSummary(
        path=path,
        rows=rows,
        channels=int(sum(len(facts["frequencies"][spw]) for spw in spws)),
        antenna=facts["names"],
        position_m=facts["positions"],
        dish_diameter_m=float(np.median(diameters)) if diameters.size else 0.0,
        field=facts["field_names"],
        fields_used=tuple(int(field) for field in fields),
        spws_used=spws,
        direction_rad=facts["directions"][fields[0]],
        frequency_hz=facts["frequencies"],
        correlation=facts["corr"][int(facts["pol_of"][ddids[0]])],
        telescope=facts["telescope"],
        time_range_s=(float(times[0]), float(times[-1])),
        integration_s=integration_s,
        scans=len(scans),
        longest_baseline_m=survey["longest"],
        shortest_baseline_m=survey["shortest"],
        antennas_used=tuple(used),
        flagged_fraction=survey["flagged"],
        weights_positive=survey["weights"],
        columns=columns,
        size_bytes=tree_bytes(path),
    )


def _survey_visibilities(path: Path) -> dict[str, Any]:
    """One pass over flags, weights and UVW of all rows."""
    flagged = total = 0
    longest, shortest = 0.0, np.inf
    antennas: set[int] = set()
    weights = False
    names = ("FLAG", "FLAG_ROW", "WEIGHT", "UVW", "ANTENNA1", "ANTENNA2")
    for chunk in chunks(path, names):
        flag = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]
        flagged += int(flag.sum())
        total += flag.size
        good_corr = ~flag.all(axis=1) & np.isfinite(chunk["WEIGHT"]) & (chunk["WEIGHT"] > 0)
        weights |= bool(good_corr.any())
        good = ~flag.all(axis=(1, 2)) & (chunk["ANTENNA1"] != chunk["ANTENNA2"])
        if good.any():
            length = np.hypot(chunk["UVW"][good, 0], chunk["UVW"][good, 1])
            longest = max(longest, float(length.max()))
            shortest = min(shortest, float(length[length > 0].min(initial=np.inf)))
            antennas.update(map(int, np.unique(chunk["ANTENNA1"][good])))
            antennas.update(map(int, np.unique(chunk["ANTENNA2"][good])))
    return {
        "flagged": flagged / total if total else 1.0,
        "longest": longest,
        "shortest": shortest if np.isfinite(shortest) else 0.0,
        "antennas": antennas,
        "weights": weights,
    }


def flagged_fraction(path: str | Path, *, without: Collection[int] = ()) -> float:
    """Return the fraction of the visibilities that is flagged, 0 to 1.

    Baselines with an antenna of ``without`` are not counted.
    """
    flagged = total = 0
    names = ("FLAG", "FLAG_ROW", *(("ANTENNA1", "ANTENNA2") if without else ()))
    for chunk in chunks(path, names):
        flag = chunk["FLAG"] | chunk["FLAG_ROW"][:, None, None]
        if without:
            left_out = np.isin(chunk["ANTENNA1"], list(without))
            left_out |= np.isin(chunk["ANTENNA2"], list(without))
            flag = flag[~left_out]
        flagged += int(flag.sum())
        total += flag.size
    return flagged / total if total else 1.0


def put_rows(path: str | Path, rows: NDArray[np.int64], columns: dict[str, NDArray[Any]]) -> None:
    """Write columns of some rows of a measurement set.

    Parameters
    ----------
    path : path
        The measurement set, a working copy.
    rows : (nrow,) int64
        Row numbers.
    columns : dict of str to array
        Values, first axis the row.
    """
    with open_table(path, write=True) as opened:
        write_rows(opened, rows, columns)


def write_rows(opened: Any, rows: NDArray[np.int64], columns: dict[str, NDArray[Any]]) -> None:
    """Write columns of some rows, (nrow,) increasing, of a table that is open for writing."""
    runs = _runs(rows)
    if not runs:
        part = opened.selectrows(rows)
        for name, values in columns.items():
            part.putcol(name, values)
        part.close()
    for name, values in columns.items():
        place = 0
        for first, count in runs:
            opened.putcol(name, values[place : place + count], first, count)
            place += count


def tree_bytes(path: Path) -> int:
    """Return the size of a file or folder on disk, bytes."""
    if path.is_file():
        return path.stat().st_size
    return sum(
        os.lstat(Path(folder) / name).st_size
        for folder, _, files in os.walk(path)
        for name in files
    )


def fsync_tree(path: Path) -> None:
    """Make sure that a file or folder is on the disk before its row in a record says so."""
    targets = [path]
    for folder, _, files in os.walk(path):
        targets += [Path(folder), *(Path(folder) / name for name in files)]
    for target in targets:
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
