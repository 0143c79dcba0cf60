"""Simulated executions as an observatory's pipeline gets them: small, and the truth is known.

Each execution has a phase calibrator, two targets, a mosaic whose pointings share one name, and
windows of which one is narrow and has another number of channels. The second execution numbers its
fields otherwise and has a window more, the first.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

from libs.core.coordinates import antenna_uvw, lm_to_radec, radec_to_lm, transit_s
from libs.core.doppler import topocentric_factor
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.gains.gain_solutions import GainSolutions
from libs.ms.antennas import AntennaArray
from libs.ms.create import SpectralWindow, create_ms
from libs.ms.subtables import add_fields
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.corrupt import multiply_ms
from libs.simulation.observation import Source
from libs.simulation.sky import sky_visibilities, source_table

ARCSEC = math.radians(1 / 3600)
HANDS = ("XX", "YY")
CALIBRATOR, TARGET = "CALIBRATE_PHASE#ON_SOURCE", "OBSERVE_TARGET#ON_SOURCE"
BLOCKAGE_M = 0.75
EFFECTIVE_DISH_M = {12.0: 10.7, 7.0: 6.25}  # of ALMA's and the ACA's primary beams


@dataclass(frozen=True)
class WindowMade:
    """A window: the ending of its name, which executions share, and its channels."""

    ending: str
    channels: SpectralWindow


WINDOWS = (
    WindowMade("ALMA_RB_06#BB_1#SW-01#FULL_RES", SpectralWindow(217.0e9, 1.875e9, 8)),
    WindowMade("ALMA_RB_06#BB_2#SW-01#FULL_RES", SpectralWindow(219.0e9, 1.875e9, 8)),
    WindowMade("ALMA_RB_06#BB_3#SW-01#FULL_RES", SpectralWindow(230.538e9, 58.6e6, 16)),
    WindowMade("ALMA_RB_06#BB_4#SW-01#FULL_RES", SpectralWindow(232.5e9, 1.875e9, 8)),
)
EXTRA = WindowMade("ALMA_RB_06#BB_1#SW-02#FULL_RES", SpectralWindow(215.0e9, 0.5e9, 4))


@dataclass(frozen=True)
class FieldMade:
    """A field: its name, direction (J2000, degrees) and intent, and its sky about ``sky_deg``.

    A field without ``sky_deg`` has its sky about its own direction and no primary beam; pointings
    of a mosaic share ``sky_deg`` and their sources are seen through the primary beam.
    """

    name: str
    direction_deg: tuple[float, float]
    sky: tuple[Source, ...]
    intent: str = TARGET
    sky_deg: tuple[float, float] | None = None


MOSAIC_DEG = (66.2, 17.1)
MOSAIC_SKY = (
    Source(0.060, -13.0, 1.0),
    Source(0.045, 1.0, -1.0),
    Source(0.030, 14.0, 2.0),
    Source(0.015, 6.0, 3.0),
)


def _pointing(east_arcsec: float) -> FieldMade:
    ra, dec = MOSAIC_DEG
    moved = ra + east_arcsec / 3600 / math.cos(math.radians(dec))
    return FieldMade("L1551 map", (moved, dec), MOSAIC_SKY, sky_deg=MOSAIC_DEG)


FIELDS = (
    FieldMade("J0440+1437", (70.1, 14.6), (Source(1.0),), CALIBRATOR),
    FieldMade("04287+1801", (67.8, 18.13), (Source(0.20), Source(0.06, 0.9, 0.6))),
    FieldMade("G34.3 core#1", (68.9, 16.4), (Source(0.12), Source(0.04, -0.7, 0.4))),
    _pointing(-12.5),
    _pointing(0.0),
    _pointing(12.5),
)
NOISE_FIELD = FieldMade("blank", (67.0, 16.0), ())
FAINT_SKY = (Source(0.020), Source(0.006, 0.9, 0.6))


@dataclass(frozen=True)
class LineMade:
    """A spectral line of a point source: field, LSRK centre, FWHM (Hz), peak (Jy), place."""

    field: str
    centre_hz: float
    width_hz: float
    peak_jy: float
    l_arcsec: float = 0.0
    m_arcsec: float = 0.0


@dataclass(frozen=True)
class ExecutionMade:
    """One execution.

    Attributes
    ----------
    name : str
        Of its measurement set, without ``.ms``; also in front of its windows' names.
    day_mjd : float
    array : str
        ``"12m"`` or ``"7m"``.
    field_order, window_order : tuple of int or None
        Places among the fields and windows of the case in order of id; -1 is the extra window,
        in which the calibrator alone is observed. None: as they come.
    offset_hz : float
        Shift of all channels against the nominal ones, as Doppler setting makes it.
    window_names : bool
        False leaves the windows without names.
    """

    name: str
    day_mjd: float = 58849.0
    array: str = "12m"
    field_order: tuple[int, ...] | None = None
    window_order: tuple[int, ...] | None = None
    offset_hz: float = 0.0
    window_names: bool = True


FIRST = ExecutionMade("uid___A002_X1a_X1")
SECOND = ExecutionMade(
    "uid___A002_X2b_X7", 59030.0, field_order=(2, 5, 0, 4, 1, 3), window_order=(-1, 0, 1, 2, 3),
    offset_hz=0.4e6,
)  # fmt: skip


@dataclass(frozen=True)
class GainErrors:
    """Phases of the antennas: a constant per window and hand, and a walk common to all of them.

    ``walk_deg`` is the rms change in ``walk_s`` seconds; the walk goes on through other fields'
    scans. With ``restarts`` it begins anew in each scan, as after a calibrator.
    """

    constant_deg: float = 0.0
    walk_deg: float = 60.0
    walk_s: float = 300.0
    restarts: bool = True


@dataclass(frozen=True)
class PipelineCase:
    """What was made: sets by execution, those without gain errors, and the true gains.

    ``perfect`` is empty unless asked for. Field and window ids are ``fields_of[execution]`` and
    ``windows_of[execution]``: places among ``fields`` and ``windows`` by id, -1 the extra window.
    """

    executions: tuple[ExecutionMade, ...]
    fields: tuple[FieldMade, ...]
    windows: tuple[WindowMade, ...]
    vis: tuple[Path, ...]
    perfect: tuple[Path, ...]
    gains: tuple[GainSolutions, ...]
    fields_of: tuple[tuple[int, ...], ...]
    windows_of: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Plan:
    execution: ExecutionMade
    array: AntennaArray
    fields: tuple[FieldMade, ...]
    field_order: tuple[int, ...]
    windows: tuple[WindowMade, ...]
    window_order: tuple[int, ...]
    line: LineMade | None
    noise_jy: float
    scan_s: float
    scans: int
    integration_s: float
    start_s: float
    rng: np.random.Generator


def make_pipeline_case(
    folder: Path,
    executions: Sequence[ExecutionMade] = (FIRST, SECOND),
    *,
    fields: Sequence[FieldMade] = FIELDS,
    windows: Sequence[WindowMade] = WINDOWS,
    line: LineMade | None = None,
    errors: GainErrors | None = None,
    antennas: int = 12,
    noise_jy: float = 0.02,
    scan_s: float = 72.0,
    scans: int = 2,
    integration_s: float = 12.0,
    pointing_rows: int = 300,
    perfect: bool = False,
    seed: int = 1,
) -> PipelineCase:
    """Make the executions: each field in turn, ``scans`` times.

    ``noise_jy`` is the noise of a visibility 234 MHz wide; that of others follows from their width.
    ``errors`` None stands for the default `GainErrors`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plans = []
    for number, execution in enumerate(executions):
        configuration = {"12m": "alma.cycle8.5", "7m": "aca.cycle8"}[execution.array]
        array = load_configuration(configuration).thinned(antennas)
        span_s = (scan_s + integration_s) * scans * len(fields)
        transit = transit_s(
            array.position_m, math.radians(fields[0].direction_deg[0]), execution.day_mjd
        )
        every = (tuple(range(len(fields))), tuple(range(len(windows))))
        plans.append(_Plan(
            execution, array, tuple(fields), execution.field_order or every[0], tuple(windows),
            execution.window_order or every[1], line, noise_jy, scan_s, scans, integration_s,
            transit - 0.5 * span_s, np.random.default_rng([seed, number]),
        ))  # fmt: skip
    vis, flawless, gains = [], [], []
    for plan in plans:
        path = folder / f"{plan.execution.name}.ms"
        _make(path, plan, pointing_rows)
        if perfect:
            flawless.append(path.with_name(f"{plan.execution.name}.perfect.ms"))
            shutil.rmtree(flawless[-1], ignore_errors=True)
            shutil.copytree(path, flawless[-1])
        gains.append(_draw(path, plan, errors or GainErrors()))
        multiply_ms(path, gains[-1])
        vis.append(path)
    return PipelineCase(
        tuple(executions), tuple(fields), tuple(windows), tuple(vis), tuple(flawless),
        tuple(gains), tuple(p.field_order for p in plans), tuple(p.window_order for p in plans),
    )  # fmt: skip


def with_noise_field(fields: Sequence[FieldMade] = FIELDS) -> tuple[FieldMade, ...]:
    """The fields and one more, which has noise only."""
    return (*fields, NOISE_FIELD)


def faint_target(sky: tuple[Source, ...] = FAINT_SKY) -> tuple[FieldMade, ...]:
    """The phase calibrator and one target of 20 + 6 mJy."""
    return FIELDS[0], replace(FIELDS[1], sky=sky)


# -- one execution -------------------------------------------------------------------------------


def _channels(plan: _Plan) -> tuple[SpectralWindow, ...]:
    """Channels of each window, by id."""
    made = [EXTRA if i < 0 else plan.windows[i] for i in plan.window_order]
    return tuple(
        replace(each.channels, centre_hz=each.channels.centre_hz + plan.execution.offset_hz)
        for each in made
    )


def _radians(direction_deg: tuple[float, float]) -> tuple[float, float]:
    return math.radians(direction_deg[0]), math.radians(direction_deg[1])


def _make(path: Path, plan: _Plan, pointing_rows: int) -> None:
    ordered = [plan.fields[i] for i in plan.field_order]
    span_s = len(ordered) * plan.scans * (plan.scan_s + plan.integration_s)
    create_ms(
        path, plan.array, _channels(plan), HANDS, ordered[0].name,
        _radians(ordered[0].direction_deg), (plan.start_s, plan.start_s + span_s),
    )  # fmt: skip
    add_fields(path, [(each.name, _radians(each.direction_deg)) for each in ordered[1:]])
    with open_table(f"{path}::STATE", write=True) as states:
        states.addrows(1)
        states.putcol("OBS_MODE", [CALIBRATOR, TARGET])
        states.putcol("SIG", np.array([True, True]))
    if plan.execution.window_names:
        with open_table(f"{path}::SPECTRAL_WINDOW", write=True) as opened:
            for row, place in enumerate(plan.window_order):
                made = EXTRA if place < 0 else plan.windows[place]
                opened.putcell("NAME", row, f"{plan.execution.name}#{made.ending}")
    _fill_pointing(path, plan, pointing_rows)
    # the order of time is that of the case, whatever the ids are
    for scan, place in enumerate(list(range(len(plan.fields))) * plan.scans):
        start_s = plan.start_s + scan * (plan.scan_s + plan.integration_s)
        _add_scan(path, plan, place, start_s, scan + 1)


def _fill_pointing(path: Path, plan: _Plan, rows: int) -> None:
    with open_table(f"{path}::POINTING", write=True) as opened:
        opened.addrows(rows)
        count = len(plan.array)
        opened.putcol("ANTENNA_ID", (np.arange(rows) % count).astype(np.int32))
        opened.putcol("TIME", plan.start_s + np.arange(rows) // count * 1.0)
        opened.putcol("INTERVAL", np.ones(rows))
        for name in ("DIRECTION", "TARGET"):
            for row in range(rows):
                opened.putcell(name, row, np.array([_radians(plan.fields[0].direction_deg)]))


def _add_scan(path: Path, plan: _Plan, place: int, start_s: float, scan: int) -> None:
    made, windows = plan.fields[place], _channels(plan)
    used = [
        ddid for ddid, window in enumerate(plan.window_order)
        if window >= 0 or made.intent == CALIBRATOR
    ]  # fmt: skip
    count = max(1, round(plan.scan_s / plan.integration_s))
    time_s = np.asarray(start_s + (np.arange(count) + 0.5) * plan.integration_s, np.float64)
    first, second = np.triu_indices(len(plan.array), k=1)
    uvw = -antenna_uvw(plan.array.position_m, _radians(made.direction_deg), time_s)
    data = [_visibilities(plan, made, windows[ddid], uvw, time_s) for ddid in used]
    # without noise every visibility has the same weight
    noise_jy = plan.noise_jy or 1e-9
    sigma = [noise_jy * math.sqrt(234.375e6 / _step(windows[ddid])) for ddid in used]
    shape = (count, len(used), len(first))
    with open_table(path, write=True) as opened:
        row = opened.nrows()
        opened.addrows(math.prod(shape))
        baselines = uvw[:, second] - uvw[:, first]
        spread = np.broadcast_to(np.array(sigma)[None, :, None, None], (*shape, len(HANDS)))
        values: dict[str, Any] = {
            "TIME": time_s[:, None, None], "TIME_CENTROID": time_s[:, None, None],
            "INTERVAL": plan.integration_s, "EXPOSURE": plan.integration_s,
            "ANTENNA1": first.astype(np.int32), "ANTENNA2": second.astype(np.int32),
            "DATA_DESC_ID": np.array(used, np.int32)[None, :, None], "SCAN_NUMBER": np.int32(scan),
            "FIELD_ID": np.int32(plan.field_order.index(place)),
            "STATE_ID": np.int32(made.intent == TARGET), "FLAG_ROW": False,
            **dict.fromkeys(("ARRAY_ID", "FEED1", "FEED2", "OBSERVATION_ID", "PROCESSOR_ID"),
                            np.int32(0)),
        }  # fmt: skip
        for name, value in values.items():
            full = np.ascontiguousarray(np.broadcast_to(value, shape)).ravel()
            opened.putcol(name, full, row, full.size)
        flat = np.broadcast_to(baselines[:, None], (*shape, 3)).reshape(-1, 3)
        opened.putcol("UVW", np.ascontiguousarray(flat), row, len(flat))
        pairs = np.ascontiguousarray(spread.reshape(-1, len(HANDS)), dtype=np.float32)
        opened.putcol("SIGMA", pairs, row, len(pairs))
        opened.putcol("WEIGHT", pairs**-2, row, len(pairs))
        for t in range(count):
            for seen, noise in zip(data, sigma, strict=True):
                cells = np.repeat(seen[t][:, :, None], len(HANDS), axis=2)
                hiss = plan.rng.standard_normal((2, *cells.shape))
                cells = (cells + noise * (hiss[0] + 1j * hiss[1])).astype(np.complex64)
                opened.putcol("DATA", cells, row, len(cells))
                opened.putcol("FLAG", np.zeros(cells.shape, bool), row, len(cells))
                row += len(cells)


def _step(window: SpectralWindow) -> float:
    return window.width_hz / window.channels


def _visibilities(
    plan: _Plan, made: FieldMade, window: SpectralWindow, uvw: NDArray[np.float64],
    time_s: NDArray[np.float64],
) -> NDArray[np.complex128]:  # fmt: skip
    """Sky of a field in a window, without noise, (ntime, nbl, nchan) Jy."""
    first, second = np.triu_indices(len(plan.array), k=1)
    hz = window.frequency_hz
    table = source_table(_seen_sky(plan, made, window.centre_hz), hz, hz.mean())
    seen = sky_visibilities(uvw, first, second, hz, table)
    line = plan.line
    if line is None or line.field != made.name:
        return seen
    factor = topocentric_factor(
        plan.array.position_m.mean(axis=0), _radians(made.direction_deg), time_s
    )
    centre = line.centre_hz * factor[:, None]
    profile = np.exp(-4 * math.log(2) * ((hz - centre) / line.width_hz) ** 2)
    place = Source(1.0, line.l_arcsec, line.m_arcsec)
    point = sky_visibilities(uvw, first, second, hz, source_table([place], hz, hz.mean()))
    return seen + line.peak_jy * profile[:, None, :] * point


def _seen_sky(plan: _Plan, made: FieldMade, frequency_hz: float) -> list[Source]:
    """The sources about the field's own direction, through the primary beam in a mosaic."""
    if made.sky_deg is None:
        return list(made.sky)
    here, common = _radians(made.direction_deg), _radians(made.sky_deg)
    found = []
    for source in made.sky:
        place = lm_to_radec(source.l_arcsec * ARCSEC, source.m_arcsec * ARCSEC, *common)
        east, north = radec_to_lm(*place, *here)
        flux = source.flux_jy * primary_beam(
            math.hypot(east, north), frequency_hz, float(plan.array.diameter_m[0])
        )
        found.append(replace(source, flux_jy=flux, l_arcsec=east / ARCSEC, m_arcsec=north / ARCSEC))
    return found


def primary_beam(angle_rad: float, frequency_hz: float, dish_m: float) -> float:
    """Power of the Airy pattern of a blocked aperture at an angle, 1 at the centre, as in CASA."""
    across = EFFECTIVE_DISH_M[round(dish_m)] * frequency_hz / SPEED_OF_LIGHT_M_S
    x = math.pi * across * angle_rad
    if x < 1e-9:
        return 1.0
    blocked = BLOCKAGE_M / EFFECTIVE_DISH_M[round(dish_m)]

    def voltage(y: float) -> float:
        return float(2 * j1(y) / y)

    return ((voltage(x) - blocked**2 * voltage(blocked * x)) / (1 - blocked**2)) ** 2


def _draw(path: Path, plan: _Plan, errors: GainErrors) -> GainSolutions:
    """The phases of one execution at all its times."""
    windows = _channels(plan)
    with open_table(path) as opened:
        time_s, at = np.unique(opened.getcol("TIME"), return_index=True)
        scan = opened.getcol("SCAN_NUMBER")[at]
    count = len(plan.array)
    constant = np.radians(errors.constant_deg) * plan.rng.standard_normal((len(windows), count, 2))
    gaps = np.diff(time_s, prepend=time_s[0] - plan.integration_s)
    steps = plan.rng.standard_normal((len(time_s), count)) * np.sqrt(gaps / errors.walk_s)[:, None]
    walk = np.zeros_like(steps)
    for number in np.unique(scan):
        rows = scan == number if errors.restarts else np.ones(len(scan), bool)
        walk[rows] = np.cumsum(steps[rows], axis=0)
    phase = np.radians(errors.walk_deg) * walk[:, None, :, None] + constant[None]
    gain = np.exp(1j * phase)
    return GainSolutions(
        time_s=time_s, interval_s=np.full(len(time_s), plan.integration_s),
        frequency_hz=np.array([window.centre_hz for window in windows]),
        spw=np.arange(len(windows)), antenna=plan.array.name, position_m=plan.array.position_m,
        polarization=("X", "Y"), gain=gain, flag=np.zeros(gain.shape, bool),
        snr=np.full(gain.shape, np.inf),
    )  # fmt: skip
