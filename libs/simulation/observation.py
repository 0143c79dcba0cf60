"""Simulated measurement sets with known gains and sky."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.core.coordinates import antenna_uvw
from libs.gains.gain_solutions import GainSolutions
from libs.ms.antennas import AntennaArray
from libs.ms.create import SpectralWindow, create_ms
from libs.ms.tables import open_table
from libs.simulation.corrupt import corrupt_ms
from libs.simulation.gains import (
    StationErrors,
    TecScreen,
    draw_gains,
    screen_tec,
    station_factors,
)
from libs.simulation.sky import Source, sky_visibilities, source_table

__all__ = [
    "Observation",
    "Simulation",
    "Source",
    "SpectralWindow",
    "StationErrors",
    "TecScreen",
    "corrupt_ms",
    "simulate",
]

log = logging.getLogger(__name__)
# bytes of the largest array of a chunk; about five arrays of that size exist at once
_CHUNK_BYTES = 48 * 1024**2


@dataclass(frozen=True)
class Observation:
    """Array, direction, times and frequencies of a simulated observation.

    Attributes
    ----------
    array : AntennaArray
    direction_deg : (float, float)
        Phase centre, J2000.
    start_s : float
        Start of the first scan, UTC MJD seconds.
    integration_s, scan_s, gap_s : float
        Integration time, length of a scan and time between scans, seconds.
    scans : int
        Number of scans.
    spws : tuple of SpectralWindow
    correlations : tuple of str
        Parallel hands, ``("RR", "LL")`` or ``("XX", "YY")``, or all four; unpolarised sky.
    noise_jy : float
        Standard deviation of the real and of the imaginary part of one visibility.
    noise_scale : tuple of (pattern, factor)
        Relative system temperatures of stations: the noise of a baseline is ``noise_jy`` times
        the root of the product of its stations' factors.
    field : str
        Name of the field.
    """

    array: AntennaArray
    direction_deg: tuple[float, float]
    start_s: float
    integration_s: float
    scan_s: float
    spws: tuple[SpectralWindow, ...]
    scans: int = 1
    gap_s: float = 0.0
    correlations: tuple[str, ...] = ("RR", "LL")
    noise_jy: float = 0.0
    noise_scale: tuple[tuple[str, float], ...] = ()
    field: str = "target"

    @property
    def direction_rad(self) -> tuple[float, float]:
        """Phase centre, RA and Dec, rad."""
        return math.radians(self.direction_deg[0]), math.radians(self.direction_deg[1])

    @property
    def time_s(self) -> NDArray[np.float64]:
        """Centres of all integrations, (ntime,) UTC MJD seconds."""
        per_scan = max(1, round(self.scan_s / self.integration_s))
        within = (np.arange(per_scan) + 0.5) * self.integration_s
        starts = self.start_s + np.arange(self.scans) * (self.scan_s + self.gap_s)
        return np.asarray((starts[:, None] + within[None, :]).ravel())

    @property
    def scan(self) -> NDArray[np.int32]:
        """Scan number of each integration, from 1, (ntime,)."""
        per_scan = max(1, round(self.scan_s / self.integration_s))
        return np.repeat(np.arange(1, self.scans + 1, dtype=np.int32), per_scan)

    @property
    def baselines(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """ANTENNA1 and ANTENNA2 of each baseline; no autocorrelations."""
        first, second = np.triu_indices(len(self.array), k=1)
        return first.astype(np.int64), second.astype(np.int64)

    @property
    def feeds(self) -> tuple[str, ...]:
        """The two feeds, e.g. ``("R", "L")``."""
        return tuple(corr[0] for corr in self.correlations if corr[0] == corr[1])

    @property
    def hands(self) -> NDArray[np.int64]:
        """Indices of the two feeds of each correlation, (ncorr, 2)."""
        feeds = self.feeds
        return np.array([[feeds.index(feed) for feed in corr] for corr in self.correlations])

    @property
    def uvw_sign(self) -> int:
        """Sign 1 where UVW is ANTENNA2 minus ANTENNA1 (LOFAR's software), -1 for the reverse.

        CASA writes ANTENNA1 minus ANTENNA2; imagers treat both alike, as conjugates.
        """
        return 1 if self.array.telescope == "LOFAR" else -1

    @property
    def rows(self) -> int:
        """Number of rows of the measurement set."""
        return len(self.time_s) * len(self.spws) * len(self.baselines[0])


@dataclass(frozen=True)
class Simulation:
    """A simulated measurement set with its true sky and gains.

    Attributes
    ----------
    ms : Path
        Observed data: sky, corrupted, plus noise.
    perfect_ms : Path or None
        The same data with the true gains divided out of signal and noise. Errors that differ by
        direction cannot be divided out; then the sky is uncorrupted and the noise the same.
    observation : Observation
    sky : tuple of Source
    gains : GainSolutions
        True direction-independent gains at each integration, with one frequency block for each
        spw, or for each channel where they depend on frequency.
    direction_gains : dict of str to GainSolutions
        True gains toward each source by name, for a TEC screen. They include the
        direction-independent ones and have one frequency block for each channel.
    natural_rms_jy_beam : float
        Thermal noise of a naturally weighted Stokes I image of all the data.
    """

    ms: Path
    perfect_ms: Path | None
    observation: Observation
    sky: tuple[Source, ...]
    gains: GainSolutions
    direction_gains: dict[str, GainSolutions] = field(default_factory=dict)
    natural_rms_jy_beam: float = 0.0


@dataclass(frozen=True)
class _Plan:
    """Everything that is drawn once, before rows are made.

    ``uvw_m`` has the sign with which a baseline is ANTENNA2 minus ANTENNA1.
    """

    observation: Observation
    sky: tuple[Source, ...]
    uvw_m: NDArray[np.float64]
    gain: NDArray[np.complex128]
    frequency_hz: NDArray[np.float64]
    frequency_spw: NDArray[np.int64]
    tec: NDArray[np.float64] | None
    sigma_jy: NDArray[np.float64]
    rng: np.random.Generator = field(repr=False)

    @property
    def reference_hz(self) -> float:
        return float(np.mean([spw.centre_hz for spw in self.observation.spws]))


@njit(parallel=True, cache=True)
def _corrupt(
    seen: NDArray[np.complex128],
    ideal: NDArray[np.complex128],
    ant1: NDArray[np.int64],
    ant2: NDArray[np.int64],
    gain: NDArray[np.complex128],
    block: NDArray[np.int64],
    hands: NDArray[np.int64],
    noise: NDArray[np.float32],
    sigma: NDArray[np.float64],
    data: NDArray[np.complex64],
    perfect: NDArray[np.complex64],
) -> None:
    """Fill data = g_p conj(g_q) seen + noise and perfect = ideal + noise / (g_p conj(g_q)).

    Cross hands of an unpolarised sky contain only noise.
    """
    ntime, nbl, nchan = seen.shape
    for cell in prange(ntime * nbl):
        t, b = cell // nbl, cell % nbl
        for c in range(nchan):
            for k in range(hands.shape[0]):
                one, two = hands[k, 0], hands[k, 1]
                factor = gain[t, block[c], ant1[b], one] * np.conj(gain[t, block[c], ant2[b], two])
                hiss = sigma[b] * complex(noise[t, b, c, k, 0], noise[t, b, c, k, 1])
                sky = 1.0 if one == two else 0.0
                data[t, b, c, k] = sky * factor * seen[t, b, c] + hiss
                perfect[t, b, c, k] = sky * ideal[t, b, c] + hiss / factor


def simulate(
    path: str | Path,
    observation: Observation,
    sky: Sequence[Source],
    errors: StationErrors | None = None,
    *,
    seed: int = 0,
    perfect: bool = True,
) -> Simulation:
    """Make a measurement set of a known sky with known gains.

    The same arguments give the same data. Gains are constant within an integration, and each
    visibility is the value at the centre of its integration and channel, without smearing.

    Parameters
    ----------
    path : path
        Measurement set to make; an existing one is replaced.
    observation : Observation
    sky : sequence of Source
        Sources; may be empty.
    errors : StationErrors, optional
        Errors of the stations; None: perfect stations.
    seed : int
    perfect : bool
        True also makes ``<stem>.perfect.ms`` beside it.

    Returns
    -------
    Simulation

    Raises
    ------
    InputError
        The date is outside the table of earth orientation.
    """
    path = Path(path)
    errors = errors or StationErrors()
    plan = _make_plan(observation, tuple(sky), errors, seed)
    targets = {"data": path}
    if perfect:
        targets["perfect"] = path.with_name(f"{path.stem}.perfect.ms")
    time_s = observation.time_s
    half_s = 0.5 * observation.integration_s
    for target in targets.values():
        create_ms(
            target,
            observation.array,
            observation.spws,
            observation.correlations,
            observation.field,
            observation.direction_rad,
            (float(time_s[0] - half_s), float(time_s[-1] + half_s)),
        )
    _fill(plan, targets)
    log.info("%s: %d rows simulated (seed %d)", path.name, observation.rows, seed)
    return Simulation(
        ms=path,
        perfect_ms=targets.get("perfect"),
        observation=observation,
        sky=tuple(sky),
        gains=_solutions(plan, plan.gain, plan.frequency_hz, plan.frequency_spw),
        direction_gains=_direction_gains(plan),
        natural_rms_jy_beam=_natural_rms(plan),
    )


def _make_plan(
    observation: Observation, sky: tuple[Source, ...], errors: StationErrors, seed: int
) -> _Plan:
    time_s = observation.time_s
    uvw_m = antenna_uvw(observation.array.position_m, observation.direction_rad, time_s)
    frequency, spw = _frequency_blocks(observation, per_channel=errors.dispersive)
    tec = None
    if errors.screen is not None and sky:
        tec = screen_tec(errors.screen, seed, uvw_m[len(time_s) // 2, :, :2], time_s, sky)
        tec = tec * station_factors(observation.array.name, errors.scale)
    first, second = observation.baselines
    factor = station_factors(observation.array.name, observation.noise_scale)
    return _Plan(
        observation=observation,
        sky=sky,
        uvw_m=observation.uvw_sign * uvw_m,
        gain=draw_gains(
            errors, seed, observation.array.name, time_s, frequency, observation.scan, spw=spw
        ),
        frequency_hz=frequency,
        frequency_spw=spw,
        tec=tec,
        sigma_jy=observation.noise_jy * np.sqrt(factor[first] * factor[second]),
        rng=np.random.default_rng(np.random.SeedSequence([seed, 3])),
    )


def _frequency_blocks(
    observation: Observation, *, per_channel: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if not per_channel:
        centres = np.array([spw.centre_hz for spw in observation.spws])
        return centres, np.arange(len(centres), dtype=np.int64)
    channels = [spw.frequency_hz for spw in observation.spws]
    spw = np.repeat(np.arange(len(channels), dtype=np.int64), [len(c) for c in channels])
    return np.concatenate(channels), spw


def _solutions(
    plan: _Plan,
    gain: NDArray[np.complex128],
    frequency_hz: NDArray[np.float64],
    spw: NDArray[np.int64],
) -> GainSolutions:
    observation = plan.observation
    time_s = observation.time_s
    return GainSolutions(
        time_s=time_s,
        interval_s=np.full(len(time_s), observation.integration_s),
        frequency_hz=frequency_hz,
        spw=spw,
        antenna=observation.array.name,
        position_m=observation.array.position_m,
        polarization=observation.feeds,
        gain=gain,
        flag=np.zeros(gain.shape, dtype=bool),
        snr=np.full(gain.shape, np.inf),
    )


def _direction_gains(plan: _Plan) -> dict[str, GainSolutions]:
    """Return the gains toward each source: direction-independent gain times screen."""
    if plan.tec is None:
        return {}
    frequency, spw = _frequency_blocks(plan.observation, per_channel=True)
    block = np.array(
        [
            np.flatnonzero(plan.frequency_spw == window)[
                np.argmin(np.abs(plan.frequency_hz[plan.frequency_spw == window] - nu))
            ]
            for nu, window in zip(frequency, spw, strict=True)
        ]
    )
    gains = {}
    for number, source in enumerate(plan.sky):
        tec = plan.tec[:, number]
        phase = TEC_PHASE_HZ * tec[:, None, :, None] / frequency[None, :, None, None]
        total = plan.gain[:, block] * np.exp(1j * phase)
        gains[source.name or f"source{number}"] = _solutions(plan, total, frequency, spw)
    return gains


def _natural_rms(plan: _Plan) -> float:
    """Return 1 / sqrt(sum of weights) over baselines, times, channels and both hands."""
    if not np.all(plan.sigma_jy > 0):
        return 0.0
    observation = plan.observation
    channels = sum(spw.channels for spw in observation.spws)
    weight = (plan.sigma_jy**-2.0).sum() * len(observation.time_s) * channels * 2
    return float(weight**-0.5)


def _time_chunks(observation: Observation) -> Iterator[slice]:
    baselines = len(observation.baselines[0])
    channels = sum(spw.channels for spw in observation.spws)
    step = max(1, _CHUNK_BYTES // max(1, baselines * channels * len(observation.correlations) * 8))
    total = len(observation.time_s)
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def _fill(plan: _Plan, targets: dict[str, Path]) -> None:
    """Make and write the rows, in order of time, then spw, then baseline."""
    observation = plan.observation
    start_row = 0
    for times in _time_chunks(observation):
        made = _make_chunk(plan, times)
        for name, target in targets.items():
            with open_table(target, write=True) as opened:
                _write_chunk(opened, plan, times, start_row, made[name])
        count = times.stop - times.start
        start_row += count * len(observation.spws) * len(observation.baselines[0])


def _make_chunk(plan: _Plan, times: slice) -> dict[str, list[NDArray[np.complex64]]]:
    """Return the visibilities by kind of data and spw, (ntime, nbaseline, nchan, ncorr)."""
    observation = plan.observation
    first, second = observation.baselines
    uvw, gain = plan.uvw_m[times], plan.gain[times]
    count, channels = len(uvw), [spw.channels for spw in observation.spws]
    made: dict[str, list[NDArray[np.complex64]]] = {"data": [], "perfect": []}
    # drawn for the whole time step at once, so that the noise does not depend on the chunks
    shape = (count, sum(channels), len(first), len(observation.correlations), 2)
    noise = plan.rng.standard_normal(shape, dtype=np.float32)
    offsets = np.cumsum([0, *channels])
    for number, spw in enumerate(observation.spws):
        frequency = spw.frequency_hz
        table = source_table(plan.sky, frequency, plan.reference_hz)
        ideal = sky_visibilities(uvw, first, second, frequency, table)
        seen = ideal
        if plan.tec is not None:
            seen = sky_visibilities(uvw, first, second, frequency, table, plan.tec[times])
        blocks = np.flatnonzero(plan.frequency_spw == number)
        per_channel = len(blocks) == len(frequency) and len(blocks) > 1
        block = blocks if per_channel else np.repeat(blocks[:1], len(frequency))
        hiss = np.moveaxis(noise[:, offsets[number] : offsets[number + 1]], 1, 2)
        cells = (*seen.shape, len(observation.correlations))
        out = [np.empty(cells, dtype=np.complex64) for _ in range(2)]
        _corrupt(
            seen, ideal, first, second, gain, block, observation.hands, hiss, plan.sigma_jy, *out
        )
        made["data"].append(out[0])
        made["perfect"].append(out[1])
    return made


def _write_chunk(
    opened: Any,
    plan: _Plan,
    times: slice,
    start: int,
    data: list[NDArray[np.complex64]],
) -> None:
    observation = plan.observation
    first, second = observation.baselines
    nspw, nbl = len(observation.spws), len(first)
    stamps = observation.time_s[times]
    shape = (len(stamps), nspw, nbl)
    rows = len(stamps) * nspw * nbl
    opened.addrows(rows)

    def put(name: str, value: Any) -> None:
        opened.putcol(
            name, np.ascontiguousarray(np.broadcast_to(value, shape)).ravel(), start, rows
        )

    put("TIME", stamps[:, None, None])
    put("TIME_CENTROID", stamps[:, None, None])
    put("INTERVAL", observation.integration_s)
    put("EXPOSURE", observation.integration_s)
    put("ANTENNA1", first.astype(np.int32))
    put("ANTENNA2", second.astype(np.int32))
    put("DATA_DESC_ID", np.arange(nspw, dtype=np.int32)[None, :, None])
    put("SCAN_NUMBER", observation.scan[times][:, None, None])
    for name in (
        "FIELD_ID",
        "ARRAY_ID",
        "FEED1",
        "FEED2",
        "OBSERVATION_ID",
        "PROCESSOR_ID",
        "STATE_ID",
    ):
        put(name, np.int32(0))
    put("FLAG_ROW", False)
    uvw = plan.uvw_m[times][:, second] - plan.uvw_m[times][:, first]
    uvw = np.broadcast_to(uvw[:, None], (*shape, 3))
    opened.putcol("UVW", uvw.reshape(rows, 3), start, rows)
    # without noise every visibility has the same weight
    sigma = np.where(plan.sigma_jy > 0, plan.sigma_jy, 1.0)
    ncorr = len(observation.correlations)
    sigma = np.broadcast_to(sigma[None, None, :, None], (*shape, ncorr)).reshape(rows, ncorr)
    opened.putcol("SIGMA", sigma.astype(np.float32), start, rows)
    opened.putcol("WEIGHT", (sigma**-2.0).astype(np.float32), start, rows)
    _write_visibilities(opened, data, start)


def _write_visibilities(opened: Any, data: list[NDArray[np.complex64]], start: int) -> None:
    """Write DATA and FLAG; spws of unequal length are written cell block by cell block."""
    if len({part.shape for part in data}) == 1:
        together = np.stack(data, axis=1)
        together = together.reshape(-1, *together.shape[3:])
        opened.putcol("DATA", together, start, len(together))
        opened.putcol("FLAG", np.zeros(together.shape, dtype=bool), start, len(together))
        return
    row = start
    for t in range(len(data[0])):
        for part in data:
            opened.putcol("DATA", part[t], row, len(part[t]))
            opened.putcol("FLAG", np.zeros(part[t].shape, dtype=bool), row, len(part[t]))
            row += len(part[t])
