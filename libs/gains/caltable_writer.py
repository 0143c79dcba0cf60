"""CASA gain tables written from gains in memory, as gaincal lays them out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.gains.delay import DelaySolutions
from libs.gains.gain_solutions import GainSolutions
from libs.ms.collapsed_windows import collapse_windows
from libs.ms.kept_subtables import kept_subtables
from libs.ms.subtable_files import add_subtables
from libs.ms.tables import open_table
from libs.ms.time_survey import first_of_stamps

__all__ = ["FEEDS_KEYWORD", "write_caltable", "write_delay_table"]

# Feeds of the gains; CASA's own tables do not say, and then the data set is asked.
FEEDS_KEYWORD = "FeedNames"
_PARTNER = {"R": "L", "L": "R", "X": "Y", "Y": "X"}


def write_caltable(
    path: str | Path,
    solutions: GainSolutions,
    ms: str | Path,
    *,
    kept: NDArray[np.bool_] | None = None,
    scan: NDArray[np.int64] | None = None,
    field: NDArray[np.int64] | None = None,
    observation: NDArray[np.int64] | None = None,
    refant: NDArray[np.int64] | None = None,
) -> None:
    """Write a gain table that CASA applies; it replaces an older one only when complete.

    More than one frequency block in any spw makes a B Jones table, in which a gain common to
    both feeds stands for each, else G, or T for one common gain.

    Parameters
    ----------
    path : path
    solutions : GainSolutions
        Flagged gains are stored flagged.
    ms : path
        The data set the solutions belong to; antennas, fields and spectral windows are its own.
    kept : (ntime, nfreq) bool, optional
        Solutions to write; default all. gaincal writes no rows for an interval without any
        solution, and CASA then interpolates across it.
    scan, field, observation : (ntime,) int64, optional
        Of each interval; default those of the nearest rows of the data.
    refant : (ntime, nfreq) int64, optional
        Id of the reference antenna, -1 for none.

    Raises
    ------
    InputError
        The antennas are not those of the data set.
    """
    path, ms = Path(path), Path(ms)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    if scan is None or field is None or observation is None:
        found = _nearest_rows(ms, solutions.time_s)
        scan = found["SCAN_NUMBER"] if scan is None else scan
        field = found["FIELD_ID"] if field is None else field
        observation = found["OBSERVATION_ID"] if observation is None else observation
    solutions = _two_feeds(solutions, ms)
    _write_main(part, solutions, ms, kept, scan, field, observation, refant)
    _write_subtables(part, solutions, ms)
    _replace(part, path)


def _two_feeds(solutions: GainSolutions, ms: Path) -> GainSolutions:
    """CASA wants two gains in G and B tables.

    A gain common to both feeds in several blocks of a spectral window, which T tables cannot
    hold, is written for each; for data of a single correlation the second gain is flagged.
    """
    if _kind(solutions).startswith("T") or len(solutions.polarization) == 2:
        return solutions
    if solutions.polarization == ("I",):
        return replace(
            solutions, polarization=_feed_names(ms), gain=solutions.gain.repeat(2, axis=3),
            flag=solutions.flag.repeat(2, axis=3), snr=solutions.snr.repeat(2, axis=3),
        )  # fmt: skip
    partner = _PARTNER.get(solutions.polarization[0], "Y")

    def padded(values: NDArray[Any], empty: Any) -> NDArray[Any]:
        return np.concatenate([values, np.full_like(values, empty)], axis=3)

    return replace(
        solutions, polarization=(solutions.polarization[0], partner),
        gain=padded(solutions.gain, 1), flag=padded(solutions.flag, True),
        snr=padded(solutions.snr, 0),
    )  # fmt: skip


def _feed_names(ms: Path) -> tuple[str, str]:
    """Names of the two feeds, by the first correlation: RR to LL are 5 to 8."""
    return ("R", "L") if kept_subtables(ms).setups[0].circular else ("X", "Y")


def _replace(part: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    part.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _nearest_rows(ms: Path, time_s: NDArray[np.float64]) -> dict[str, NDArray[np.int64]]:
    """Scan, field and observation of the row of the data nearest to each time."""
    names = ("SCAN_NUMBER", "FIELD_ID", "OBSERVATION_ID")
    with open_table(ms) as opened:
        stamps = first_of_stamps(opened, names)
    times = stamps["TIME"]
    after = np.clip(np.searchsorted(times, time_s), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(time_s - times[before] < times[after] - time_s, before, after)
    return {name: stamps[name][nearest].astype(np.int64) for name in names}


def _kind(solutions: GainSolutions) -> str:
    if len(np.unique(solutions.spw)) < len(solutions.spw):
        return "B Jones"
    return "T Jones" if solutions.polarization == ("I",) else "G Jones"


_TABLE_COLUMNS = (
    ("TIME", 0.0, "double"), ("FIELD_ID", 0, "int"), ("SPECTRAL_WINDOW_ID", 0, "int"),
    ("ANTENNA1", 0, "int"), ("ANTENNA2", 0, "int"), ("INTERVAL", 0.0, "double"),
    ("SCAN_NUMBER", 0, "int"), ("OBSERVATION_ID", 0, "int"), ("CPARAM", 0j, "complex"),
    ("PARAMERR", 0.0, "float"), ("FLAG", False, "boolean"), ("SNR", 0.0, "float"),
    ("WEIGHT", 0.0, "float"),
)  # fmt: skip


def _create_main(part: Path, *, real: bool = False) -> Any:
    """Make the main table, of complex parameters or of real ones."""
    from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc, table

    columns = []
    for name, value, kind in _TABLE_COLUMNS:
        if name == "CPARAM" and real:
            columns.append(makearrcoldesc("FPARAM", 0.0, ndim=-1, valuetype="float"))
        elif name in ("CPARAM", "PARAMERR", "FLAG", "SNR", "WEIGHT"):
            columns.append(makearrcoldesc(name, value, ndim=-1, valuetype=kind))
        else:
            columns.append(makescacoldesc(name, value, valuetype=kind))
    return table(str(part), maketabdesc(columns), nrow=0, readonly=False, ack=False)


def _write_main(
    part: Path,
    solutions: GainSolutions,
    ms: Path,
    kept: NDArray[np.bool_] | None,
    scan: NDArray[np.int64],
    field: NDArray[np.int64],
    observation: NDArray[np.int64],
    refant: NDArray[np.int64] | None,
) -> None:
    ntime, _, nant, _ = solutions.shape
    opened = _create_main(part)
    _describe(opened, _kind(solutions), ms, solutions.polarization)
    pick = np.ones(solutions.shape[:2], bool) if kept is None else kept
    for spw in np.unique(solutions.spw):
        blocks = np.flatnonzero(solutions.spw == spw)
        times = np.flatnonzero(pick[:, blocks].any(axis=1))
        if not len(times):
            continue
        start, count = opened.nrows(), len(times) * nant
        opened.addrows(count)
        reference = np.full(ntime, -1) if refant is None else refant[:, blocks[0]]
        by_time = {
            "TIME": solutions.time_s, "INTERVAL": solutions.interval_s, "SCAN_NUMBER": scan,
            "FIELD_ID": field, "OBSERVATION_ID": observation, "ANTENNA2": reference,
        }  # fmt: skip
        for name, values in by_time.items():
            column = np.repeat(values[times], nant)
            real = name in ("TIME", "INTERVAL")
            opened.putcol(name, column if real else column.astype(np.int32), start, count)
        opened.putcol(
            "ANTENNA1", np.tile(np.arange(nant, dtype=np.int32), len(times)), start, count
        )
        opened.putcol("SPECTRAL_WINDOW_ID", np.full(count, spw, np.int32), start, count)
        _put_cells(opened, solutions, np.ix_(times, blocks), start)
    add_subtables(ms, part, opened)
    opened.close()


def _describe(opened: Any, kind: str, ms: Path, feeds: tuple[str, ...]) -> None:
    """Write the keywords by which CASA knows a calibration table."""
    opened.putinfo({"type": "Calibration", "subType": kind, "readme": ""})
    opened.putkeywords(
        {
            "ParType": "Float" if kind == "K Jones" else "Complex", "MSName": ms.name,
            "VisCal": kind, "PolBasis": "unknown", "CASA_Version": "6.7.0-31",
        }
    )  # fmt: skip
    opened.putkeyword(FEEDS_KEYWORD, list(feeds))
    opened.putcolkeywords(
        "TIME", {"QuantumUnits": ["s"], "MEASINFO": {"type": "epoch", "Ref": "UTC"}}
    )
    opened.putcolkeywords("INTERVAL", {"QuantumUnits": ["s"]})


def _put_cells(opened: Any, solutions: GainSolutions, where: Any, start: int) -> None:
    """Write the array columns of one spw, one row for each time and antenna."""

    def rows(values: NDArray[Any]) -> NDArray[Any]:
        moved = np.moveaxis(values[where], 2, 1)  # time, antenna, channel, pol
        return np.ascontiguousarray(moved.reshape(-1, *moved.shape[2:]))

    snr = rows(solutions.snr).astype(np.float32)
    gain = rows(solutions.gain).astype(np.complex64)
    error = np.divide(np.abs(gain), snr, out=np.zeros_like(snr), where=snr > 0)
    opened.putcol("CPARAM", gain, start, len(gain))
    opened.putcol("PARAMERR", error, start, len(gain))
    opened.putcol("FLAG", rows(solutions.flag), start, len(gain))
    opened.putcol("SNR", snr, start, len(gain))


def _write_subtables(part: Path, solutions: GainSolutions, ms: Path) -> None:
    blocks = {int(spw): solutions.frequency_hz[solutions.spw == spw] for spw in solutions.spw}
    _add_subtables(part, ms, len(solutions.antenna), blocks)


def _add_subtables(
    part: Path, ms: Path, antennas: int, blocks: Mapping[int, NDArray[np.float64]]
) -> None:
    """Copy antennas and fields of the data; ``blocks`` are frequencies by spectral window, Hz."""
    count = len(kept_subtables(ms).antennas)
    if count != antennas:
        raise InputError(
            f"the solutions have {antennas} antennas, {ms} {count}",
            "name the data set they were solved on",
        )
    collapse_windows(ms, part, blocks)


# -- delays --------------------------------------------------------------------------------------


def write_delay_table(path: str | Path, solutions: DelaySolutions, ms: str | Path) -> None:
    """Write a K Jones table that CASA applies; it replaces an older one only when complete.

    Parameters
    ----------
    path : path
    solutions : DelaySolutions
    ms : path
        The data set the solutions belong to.

    Raises
    ------
    InputError
        The antennas are not those of the data set.
    """
    path, ms = Path(path), Path(ms)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    opened = _create_main(part, real=True)
    _describe(opened, "K Jones", ms, _pair_of_feeds(solutions.polarization))
    nant = len(solutions.antenna)
    for number, spw in enumerate(solutions.spw):
        start, count = opened.nrows(), len(solutions.time_s) * nant
        opened.addrows(count)
        by_time = {
            "TIME": solutions.time_s, "INTERVAL": solutions.interval_s,
            "SCAN_NUMBER": solutions.scan, "FIELD_ID": solutions.field,
            "OBSERVATION_ID": solutions.observation, "ANTENNA2": solutions.refant[:, number],
        }  # fmt: skip
        for name, values in by_time.items():
            column = np.repeat(values, nant)
            real = name in ("TIME", "INTERVAL")
            opened.putcol(name, column if real else column.astype(np.int32), start, count)
        antenna = np.tile(np.arange(nant, dtype=np.int32), len(solutions.time_s))
        opened.putcol("ANTENNA1", antenna, start, count)
        opened.putcol("SPECTRAL_WINDOW_ID", np.full(count, spw, np.int32), start, count)
        error = np.where(np.isfinite(solutions.error_ns), solutions.error_ns, 0)
        for name, cells, empty in (
            ("FPARAM", solutions.delay_ns.astype(np.float32), 0),
            ("PARAMERR", error.astype(np.float32), 0),
            ("SNR", solutions.snr.astype(np.float32), 0),
            ("FLAG", solutions.flag, True),
        ):
            rows = cells[:, number].reshape(count, 1, -1)
            if rows.shape[2] == 1:
                rows = np.concatenate([rows, np.full_like(rows, empty)], axis=2)
            opened.putcol(name, np.ascontiguousarray(rows), start, count)
    add_subtables(ms, part, opened)
    opened.close()
    reference = zip(solutions.spw, solutions.reference_hz, strict=True)
    _add_subtables(part, ms, nant, {int(spw): np.array([hz]) for spw, hz in reference})
    _replace(part, path)


def _pair_of_feeds(feeds: tuple[str, ...]) -> tuple[str, ...]:
    """Names for the two parameters that CASA's tables hold."""
    return feeds if len(feeds) == 2 else (feeds[0], _PARTNER.get(feeds[0], "Y"))
