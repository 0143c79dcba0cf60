"""Known, seeded gain errors applied to an existing measurement set, and removed again exactly."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.core.errors import InputError
from libs.gains.gain_solutions import GainSolutions
from libs.ms.rows import CHUNK_BYTES, read_rows, row_pieces, write_rows
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from libs.ms.time_survey import first_of_stamps

__all__ = ["corrupt_ms", "multiply_ms"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Grid:
    """Time, frequency and antenna axes of a measurement set, for gains defined on it."""

    time_s: NDArray[np.float64]
    scan: NDArray[np.int64]
    interval_s: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    spw: NDArray[np.int64]
    antenna: tuple[str, ...]
    position_m: NDArray[np.float64]
    polarization: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (
            len(self.time_s),
            len(self.frequency_hz),
            len(self.antenna),
            len(self.polarization),
        )


def _feeds_of(names: Sequence[str], path: Path) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the feeds of a polarization setup and, per correlation, the two feeds' indices."""
    if any(len(name) != 2 or not set(name) <= set("RLXY") for name in names):
        raise InputError(
            f"{path} has correlations {list(names)}, which are not products of two feeds",
            "use data with linear (XX, YY) or circular (RR, LL) correlations",
        )
    feeds = sorted({feed for name in names for feed in name}, key="RLXY".index)
    return feeds, [(feeds.index(name[0]), feeds.index(name[1])) for name in names]


def _read_grid(path: Path) -> _Grid:
    with open_table(path) as opened:
        stamps = first_of_stamps(opened, ("SCAN_NUMBER", "INTERVAL"))
    if not stamps["TIME"].size:
        raise InputError(f"{path} has no rows", "check the selection that made it")
    found = Subtables(path)
    centre = [window.mean_hz for window in found.windows]
    feeds, _ = _feeds_of(found.setups[0].correlations, path)
    return _Grid(
        time_s=stamps["TIME"],
        scan=np.asarray(stamps["SCAN_NUMBER"], dtype=np.int64),
        interval_s=np.asarray(stamps["INTERVAL"], dtype=np.float64),
        frequency_hz=np.array(centre),
        spw=np.arange(len(centre), dtype=np.int64),
        antenna=found.antenna_names,
        position_m=found.position_m,
        polarization=tuple(feeds),
    )


def _exact(grid: _Grid, gain: NDArray[np.complex128]) -> GainSolutions:
    """Wrap exactly known gains, with nothing flagged and infinite signal-to-noise ratio."""
    return GainSolutions(
        time_s=grid.time_s,
        interval_s=grid.interval_s,
        frequency_hz=grid.frequency_hz,
        spw=grid.spw,
        antenna=grid.antenna,
        position_m=grid.position_m,
        polarization=grid.polarization,
        gain=gain,
        flag=np.zeros(gain.shape, dtype=bool),
        snr=np.full(gain.shape, np.inf),
    )


def _draw_gains(
    grid: _Grid, seed: int, phase_rms_deg: float, phase_drift_deg_s: float, amp_rms: float
) -> NDArray[np.complex128]:
    """Draw phases (offset and drift, new in each scan) and constant log amplitudes."""
    rng = np.random.default_rng(seed)
    ntime, nfreq, nant, npol = grid.shape
    phase_deg = np.empty((ntime, nant, npol))
    for number in np.unique(grid.scan):
        times = np.flatnonzero(grid.scan == number)
        stamps = grid.time_s[times]
        since_middle_s = stamps - 0.5 * (stamps[0] + stamps[-1])
        offset = rng.normal(0.0, phase_rms_deg, (nant, npol))
        # one atmosphere for both polarizations, which drift together
        rate = rng.normal(0.0, phase_drift_deg_s, (nant, 1))
        phase_deg[times] = offset + rate * since_middle_s[:, None, None]
    # A factor common to all antennas is a flux scale, which self-calibration cannot determine. The
    # mean product of two antennas' amplitudes, which scales an image, is therefore set to 1.
    amplitude = np.exp(rng.normal(0.0, amp_rms, (nant, npol)))
    pairs = amplitude.sum(axis=0) ** 2 - (amplitude**2).sum(axis=0)
    amplitude /= np.sqrt(pairs / (nant * (nant - 1)))
    gain = amplitude * np.exp(1j * np.deg2rad(phase_deg))
    return np.repeat(gain[:, None], nfreq, axis=1)


def corrupt_ms(
    ms: str | Path,
    *,
    seed: int,
    phase_rms_deg: float = 40.0,
    phase_drift_deg_s: float = 0.3,
    amp_rms: float = 0.1,
    column: str = "DATA",
) -> GainSolutions:
    """Multiply the visibilities of an existing measurement set by known gain errors, in place.

    In each scan every antenna and polarization gets a phase offset at the scan's middle and
    every antenna a drift rate; amplitude errors are log-normal, constant in time, and their mean
    product over pairs of antennas is 1. Weights and flags are left as they are.

    Parameters
    ----------
    ms : path
        Measurement set, changed in place.
    seed : int
        Seed of the random numbers; it determines the gains on a given measurement set.
    phase_rms_deg : float
        Standard deviation of the phase offsets, degrees.
    phase_drift_deg_s : float
        Standard deviation of the drift rates, degrees per second.
    amp_rms : float
        Standard deviation of the log amplitudes; 0.1 is about 10 per cent.
    column : str
        Column of visibilities to change.

    Returns
    -------
    GainSolutions
        True gains on the grid of the data's TIME values and spectral windows; frequencies are the
        middles of the windows.

    Raises
    ------
    InputError
        The path is not a measurement set, or it lacks rows, the column, or correlations of two
        feeds.
    """
    path = Path(ms)
    grid = _read_grid(path)
    gain = _draw_gains(grid, seed, phase_rms_deg, phase_drift_deg_s, amp_rms)
    truth = _exact(grid, gain)
    multiply_ms(path, truth, column)
    log.info("%s: gain errors applied to %s (seed %d)", path.name, column, seed)
    return truth


def _setups(path: Path) -> tuple[NDArray[np.int64], list[list[tuple[int, int]]], list[list[str]]]:
    """Return each data description's spw, and the feed pairs and feeds of its correlations."""
    tables = Subtables(path)
    found = [_feeds_of(setup.correlations, path) for setup in tables.setup_of]
    return tables.spw_of, [pairs for _, pairs in found], [feeds for feeds, _ in found]


def _frequency_index(
    gains: GainSolutions, spw: int, channel_hz: NDArray[np.float64], path: Path
) -> NDArray[np.int64]:
    """Return for each channel the frequency block of ``gains`` that holds it."""
    blocks = np.flatnonzero(gains.spw == spw)
    if not blocks.size:
        raise InputError(f"the gains have no spectral window {spw} of {path}", "check the data")
    distance = np.abs(channel_hz[:, None] - gains.frequency_hz[blocks][None, :])
    return np.asarray(blocks[np.argmin(distance, axis=1)])


def _time_index(gains: GainSolutions, time: NDArray[np.float64], path: Path) -> NDArray[np.int64]:
    index = np.clip(np.searchsorted(gains.time_s, time), 0, len(gains.time_s) - 1)
    before = np.maximum(index - 1, 0)
    closer = np.abs(gains.time_s[before] - time) < np.abs(gains.time_s[index] - time)
    index = np.where(closer, before, index)
    tolerance_s = np.maximum(0.5 * gains.interval_s[index], 1e-3)  # INTERVAL may be 0
    if np.any(np.abs(gains.time_s[index] - time) > tolerance_s):
        raise InputError(f"{path} has time stamps the gains do not cover", "use its own gains")
    return index


def multiply_ms(path: Path, gains: GainSolutions, column: str = "DATA") -> None:
    """Multiply one column by g_p conj(g_q) in chunks of bounded memory; nothing else changes.

    Raises
    ------
    InputError
        A time stamp or spectral window of the data is missing in ``gains``.
    """
    spw_of, pairs_of, feeds_of = _setups(path)
    channels_hz = Subtables(path).channel_hz
    with open_table(path, write=True) as opened:
        if column not in opened.colnames():
            raise InputError(f"{path} has no column {column}", "name a column of visibilities")
        # complex128 factors of a chunk are twice the size of its data
        for ddid, number in row_pieces(opened, [column], max_bytes=CHUNK_BYTES // 4):
            feeds = [gains.polarization.index(feed) for feed in feeds_of[ddid]]
            first = [feeds[pair[0]] for pair in pairs_of[ddid]]
            second = [feeds[pair[1]] for pair in pairs_of[ddid]]
            spw = int(spw_of[ddid])
            block = _frequency_index(gains, spw, channels_hz[spw], path)
            rows = read_rows(opened, ("TIME", "ANTENNA1", "ANTENNA2", column), number)
            when = _time_index(gains, rows["TIME"], path)[:, None, None]
            one, two = (rows[name][:, None, None] for name in ("ANTENNA1", "ANTENNA2"))
            chan = block[None, :, None]
            factor = gains.gain[when, chan, one, first] * np.conj(
                gains.gain[when, chan, two, second]
            )
            data = rows[column] * factor
            write_rows(opened, number, {column: data.astype(np.complex64)})
