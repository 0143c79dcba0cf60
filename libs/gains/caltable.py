"""CASA tables of gains (G, T, B Jones) and delays (K Jones), read; operations on the gains.

Writing them, `write_caltable`, is in libs.gains.caltable_writer and may be imported from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import ConfigError, InputError
from libs.gains.caltable_writer import FEEDS_KEYWORD, write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table

__all__ = [
    "CalTable",
    "SpwGains",
    "apply_spwmap",
    "full_spwmap",
    "normalise_amplitude",
    "read_caltable",
    "read_solutions",
    "write_caltable",
]


@dataclass(frozen=True)
class SpwGains:
    """Solutions of one spectral window as stored.

    Attributes
    ----------
    time_s, interval_s : (ntime,) float64
        TIME and INTERVAL (0 in tables made by gaincal), MJD seconds and s.
    scan, field, observation : (ntime,) int64
    refant : (ntime,) int64
        ANTENNA2: the reference antenna, -1 when there was none.
    frequency_hz : (nchan,) float64
        One for G, T and K; of K the frequency at which the delays turn no phase.
    gain : (ntime, nchan, nant, npol) complex64
    error, snr : (ntime, nchan, nant, npol) float32
        Error of the gain (PARAMERR), SNR.
    flag : (ntime, nchan, nant, npol) bool
        True also where the table has no row.
    delay_ns : (ntime, nant, npol) float64 or None
        Delays of a K table, whose ``gain`` is 1.
    """

    time_s: NDArray[np.float64]
    interval_s: NDArray[np.float64]
    scan: NDArray[np.int64]
    field: NDArray[np.int64]
    observation: NDArray[np.int64]
    refant: NDArray[np.int64]
    frequency_hz: NDArray[np.float64]
    gain: NDArray[np.complex64]
    error: NDArray[np.float32]
    snr: NDArray[np.float32]
    flag: NDArray[np.bool_]
    delay_ns: NDArray[np.float64] | None = None

    def of_fields(self, fields: Sequence[int]) -> SpwGains | None:
        """Return the solutions made on some fields; None when there are none."""
        mine = np.isin(self.field, list(fields))
        if not mine.any():
            return None
        delay = None if self.delay_ns is None else self.delay_ns[mine]
        return replace(
            self, time_s=self.time_s[mine], interval_s=self.interval_s[mine],
            scan=self.scan[mine], field=self.field[mine], observation=self.observation[mine],
            refant=self.refant[mine], gain=self.gain[mine], error=self.error[mine],
            snr=self.snr[mine], flag=self.flag[mine], delay_ns=delay,
        )  # fmt: skip


@dataclass(frozen=True)
class CalTable:
    """A gain table.

    Attributes
    ----------
    kind : str
        ``"G Jones"``, ``"T Jones"``, ``"B Jones"`` or ``"K Jones"``.
    ms_name : str
        Name of the measurement set it was made from.
    antenna : tuple of str
    position_m : (nant, 3) float64
    feeds : tuple of str
        Feeds of the gains, empty when the table does not say.
    spw_count : int
        Rows of its SPECTRAL_WINDOW subtable.
    spws : dict
        Solutions by spw id.
    """

    kind: str
    ms_name: str
    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
    feeds: tuple[str, ...]
    spw_count: int
    spws: dict[int, SpwGains]


def _spw_gains(part: Any, nant: int, frequency_hz: NDArray[np.float64]) -> SpwGains:
    times, first, place = np.unique(part.getcol("TIME"), return_index=True, return_inverse=True)
    antenna = part.getcol("ANTENNA1")
    delays = "FPARAM" in part.colnames()
    values = part.getcol("FPARAM" if delays else "CPARAM")
    shape = (len(times), values.shape[1], nant, values.shape[2])

    def grid(cells: NDArray[Any], empty: Any) -> NDArray[Any]:
        out = np.full(shape, empty, cells.dtype)
        out[place, :, antenna, :] = cells
        return out

    def each(name: str) -> NDArray[Any]:
        return np.asarray(part.getcol(name)[first])

    gain = np.ones(shape, np.complex64) if delays else grid(values, 1)
    return SpwGains(
        times, each("INTERVAL"), each("SCAN_NUMBER").astype(np.int64),
        each("FIELD_ID").astype(np.int64), each("OBSERVATION_ID").astype(np.int64),
        each("ANTENNA2").astype(np.int64), frequency_hz, gain,
        grid(part.getcol("PARAMERR"), 0), grid(part.getcol("SNR"), 0),
        grid(part.getcol("FLAG"), True),
        grid(values.astype(np.float64), 0)[:, 0] if delays else None,
    )  # fmt: skip


def read_caltable(path: str | Path) -> CalTable:
    """Read a gain table.

    Raises
    ------
    InputError
        It does not exist or is not a table of antenna-based complex gains or delays.
    """
    with open_table(path) as opened:
        info, keywords = opened.info(), opened.getkeywords()
        delays = info["subType"] == "K Jones"
        if info["type"] != "Calibration" or (keywords.get("ParType") != "Complex" and not delays):
            raise InputError(
                f"{path} is not a table of complex gains or delays", "name a G, T, B or K table"
            )
        found = Subtables(path)
        names, frequency = found.antenna_names, found.channel_hz
        spws = {}
        of_row = opened.getcol("SPECTRAL_WINDOW_ID") if opened.nrows() else np.zeros(0, np.int32)
        for spw in np.unique(of_row).tolist():
            rows = np.flatnonzero(of_row == spw)
            part = opened if len(rows) == len(of_row) else opened.selectrows(rows)
            spws[spw] = _spw_gains(part, len(names), frequency[spw])
        return CalTable(
            info["subType"], str(keywords.get("MSName", "")), names, found.position_m,
            tuple(keywords.get(FEEDS_KEYWORD, ())), len(frequency), spws,
        )  # fmt: skip


def _same_interval(tables: Sequence[SpwGains]) -> tuple[list[NDArray[np.int64]], int]:
    """Index of the common interval of each time of each spw, and how many there are.

    gaincal writes the weighted mean time of the data, which differs a little from spw to spw.
    """
    spacing = [np.diff(table.time_s).min() for table in tables if len(table.time_s) > 1]
    tolerance = min(spacing) / 2 if spacing else np.inf
    times = np.concatenate([table.time_s for table in tables])
    source = np.repeat(np.arange(len(tables)), [len(table.time_s) for table in tables])
    order = np.argsort(times, kind="stable")
    group = np.empty(len(times), np.int64)
    number, start, seen = -1, -np.inf, set[int]()
    for item in order:
        if number < 0 or times[item] - start > tolerance or int(source[item]) in seen:
            number, start, seen = number + 1, times[item], set()
        seen.add(int(source[item]))
        group[item] = number
    return [group[source == index] for index in range(len(tables))], number + 1


def _feeds(table: CalTable, npol: int, ms: Path | None) -> tuple[str, ...]:
    if table.kind.startswith("T") or npol == 1:
        return ("I",)
    if table.feeds:
        return table.feeds
    if ms is not None and Subtables(ms).setups[0].circular:
        return ("R", "L")
    return ("X", "Y")


def read_solutions(path: str | Path, ms: Path | None = None) -> GainSolutions:
    """Read a gain table into the form all solutions share.

    Parameters
    ----------
    path : path
    ms : Path, optional
        Data set that says whether the feeds are circular, for tables that do not (those made by
        CASA). Without it linear feeds are assumed, the convention of h5parm files.

    Raises
    ------
    InputError
        It is not a table of complex gains, or holds none.
    """
    table = read_caltable(path)
    if table.kind == "K Jones":
        raise InputError(f"{path} holds delays, not gains", "name a G, T or B table")
    if not table.spws:
        raise InputError(f"{path} holds no solutions", "solve again")
    spws = sorted(table.spws)
    parts = [table.spws[spw] for spw in spws]
    groups, count = _same_interval(parts)
    nfreq = sum(part.gain.shape[1] for part in parts)
    npol = parts[0].gain.shape[3]
    shape = (count, nfreq, len(table.antenna), npol)
    gain, flag, snr = np.ones(shape, np.complex128), np.ones(shape, bool), np.zeros(shape)
    time, number, length = np.zeros(count), np.zeros(count), np.zeros(count)
    column = 0
    for part, group in zip(parts, groups, strict=True):
        chans = slice(column, column + part.gain.shape[1])
        column = chans.stop
        gain[group, chans] = np.where(part.flag, 1, part.gain)
        flag[group, chans] = part.flag
        snr[group, chans] = np.where(part.flag, 0, part.snr)
        np.add.at(time, group, part.time_s - parts[0].time_s[0])
        np.add.at(number, group, 1)
        np.maximum.at(length, group, part.interval_s)
    time = time / number + parts[0].time_s[0]
    return GainSolutions(
        time_s=time,
        interval_s=np.where(length > 0, length, _spacing(time)),
        frequency_hz=np.concatenate([part.frequency_hz for part in parts]),
        spw=np.repeat(spws, [part.gain.shape[1] for part in parts]).astype(np.int64),
        antenna=table.antenna,
        position_m=table.position_m,
        polarization=_feeds(table, npol, ms)[:npol],
        gain=gain, flag=flag, snr=snr,
    )  # fmt: skip


def _spacing(time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each time to its nearest neighbour, for tables without INTERVAL."""
    if len(time_s) < 2:
        return np.zeros(len(time_s))
    step = np.diff(time_s)
    return np.minimum(np.append(step, np.inf), np.insert(step, 0, np.inf))


def full_spwmap(spwmap: Sequence[int], data_spws: int, table_spws: int) -> tuple[int, ...]:
    """Return the table's spw for every spw of the data, as CASA completes an spwmap.

    None: each its own; one: that for all; fewer than the data have: the rest their own.

    Raises
    ------
    ConfigError
        The map is longer than the data have spws, or names an spw the table has not.
    """
    if len(spwmap) > data_spws:
        raise ConfigError(
            f"spwmap has {len(spwmap)} entries for {data_spws} spectral windows", "shorten it"
        )
    if any(not 0 <= spw < table_spws for spw in spwmap):
        raise ConfigError(
            f"spwmap {list(spwmap)} names a spectral window the table lacks",
            f"use ids from 0 to {table_spws - 1}",
        )
    if len(spwmap) == 1:
        return (int(spwmap[0]),) * data_spws
    return tuple(int(spw) for spw in spwmap) + tuple(range(len(spwmap), data_spws))


def apply_spwmap(
    solutions: GainSolutions, spwmap: Sequence[int], frequency_hz: Sequence[float]
) -> GainSolutions:
    """Return the solutions each spw of the data is calibrated with.

    Parameters
    ----------
    solutions : GainSolutions
        One frequency block a spw.
    spwmap : sequence of int
        As in `libs.gains.solver.AppliedTable`.
    frequency_hz : sequence of float
        Centre of each spw of the data; spws whose mapped spw has no solutions are left out.

    Raises
    ------
    ConfigError
        The map does not fit.
    """
    mapped = full_spwmap(spwmap, len(frequency_hz), max(len(frequency_hz), *solutions.spw + 1))
    place = {int(spw): index for index, spw in enumerate(solutions.spw)}
    data_spws = [spw for spw in range(len(frequency_hz)) if mapped[spw] in place]
    take = [place[mapped[spw]] for spw in data_spws]
    return replace(
        solutions,
        spw=np.array(data_spws, np.int64),
        frequency_hz=np.array([frequency_hz[spw] for spw in data_spws], np.float64),
        gain=solutions.gain[:, take],
        flag=solutions.flag[:, take],
        snr=solutions.snr[:, take],
    )


def normalise_amplitude(
    solutions: GainSolutions,
) -> tuple[GainSolutions, NDArray[np.float64]]:
    """Divide the gains of each spw by the root of their mean square, as gaincal's solnorm does.

    The mean power, over all unflagged times, antennas and polarizations of the spw, becomes 1
    (normtype ``mean``), so that the flux scale holds.

    Returns
    -------
    solutions : GainSolutions
    factor : (nfreq,) float64
        What the gains were divided by; 1 where fewer than two were good.
    """
    good = ~solutions.flag
    power = np.abs(solutions.gain) ** 2
    factor = np.ones(len(solutions.spw))
    for spw in np.unique(solutions.spw):
        mine = solutions.spw == spw
        if good[:, mine].sum() > 1:
            factor[mine] = np.sqrt(power[:, mine][good[:, mine]].mean())
    gain = np.where(good, solutions.gain / factor[None, :, None, None], solutions.gain)
    return replace(solutions, gain=gain), factor
