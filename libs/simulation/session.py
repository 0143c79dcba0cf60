"""Simulated sessions: calibrators and targets with known delays, bandpasses and gains."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.gains.gain_solutions import GainSolutions
from libs.ms.create import create_ms
from libs.ms.rows import read_rows, row_pieces, write_rows
from libs.ms.subtables import Subtables, add_fields
from libs.ms.tables import open_table
from libs.simulation.corrupt import multiply_ms
from libs.simulation.observation import Observation, simulate
from libs.simulation.sky import Source

__all__ = ["SessionErrors", "SessionField", "SimulatedSession", "simulate_session"]

Visibilities = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.complex128]]

_COPIED = (
    "ANTENNA1", "ANTENNA2", "ARRAY_ID", "DATA", "DATA_DESC_ID", "EXPOSURE", "FEED1", "FEED2",
    "FLAG", "FLAG_ROW", "INTERVAL", "OBSERVATION_ID", "PROCESSOR_ID", "SIGMA", "STATE_ID",
    "TIME", "TIME_CENTROID", "UVW", "WEIGHT",
)  # fmt: skip


@dataclass(frozen=True)
class SessionField:
    """A field of a session.

    Attributes
    ----------
    name : str
    direction_deg : (float, float)
        Phase centre, J2000.
    sky : tuple of Source
    start_s : tuple of float
        Start of each scan, s from the start of the session.
    scan_s : float
    """

    name: str
    direction_deg: tuple[float, float]
    sky: tuple[Source, ...]
    start_s: tuple[float, ...]
    scan_s: float


@dataclass(frozen=True)
class SessionErrors:
    """Errors of the antennas, the same for all fields.

    Attributes
    ----------
    delay_ns : (float, float)
        Least and largest size of the delay of each antenna, polarization and window.
    ripple : float
        Amplitude of a wave over each window, relative and in rad of phase.
    amplitude : float
        Rms of the constant log amplitude of each antenna and polarization.
    drift_deg_h : float
        Rms of the rate of each antenna's phase, beside a constant phase that is drawn.
    """

    delay_ns: tuple[float, float] = (0.0, 0.0)
    ripple: float = 0.0
    amplitude: float = 0.0
    drift_deg_h: float = 0.0


@dataclass(frozen=True)
class SimulatedSession:
    """A session on disk and what is true of it.

    Attributes
    ----------
    ms : Path
    fields : tuple of SessionField
    gains : GainSolutions
        Of each integration, channel, antenna and polarization.
    delay_ns : (nspw, nant, npol) float64
    bandpass : tuple of (nchan, nant, npol) complex128
        Of each window, without the delay.
    """

    ms: Path
    fields: tuple[SessionField, ...]
    gains: GainSolutions
    delay_ns: NDArray[np.float64]
    bandpass: tuple[NDArray[np.complex128], ...]


def simulate_session(
    path: Path,
    template: Observation,
    fields: Sequence[SessionField],
    errors: SessionErrors,
    *,
    seed: int = 0,
    scan_numbers: bool = True,
    models: Mapping[str, Visibilities] | None = None,
) -> SimulatedSession:
    """Make a measurement set of several fields in order of time.

    Parameters
    ----------
    path : Path
        An existing set is replaced.
    template : Observation
        Array, windows, integration, noise and start; field and scans are those of ``fields``.
    fields : sequence of SessionField
    errors : SessionErrors
    seed : int
    scan_numbers : bool
        False: SCAN_NUMBER is 1 everywhere, as after joining converted files.
    models : mapping of str to callable, optional
        By name of a field: function (uvw_m (nrow, 3), frequency_hz (nchan,)) -> (nrow, nchan), Jy,
        whose visibilities are added to those of its sky.
    """
    scratch = path.with_name(f".{path.name}.fields")
    scratch.mkdir(parents=True, exist_ok=True)
    pieces: list[tuple[float, int, Path]] = []
    for number, field in enumerate(fields):
        for turn, start in enumerate(field.start_s):
            one = replace(
                template, direction_deg=field.direction_deg, start_s=template.start_s + start,
                scan_s=field.scan_s, scans=1, gap_s=0.0, field=field.name,
            )  # fmt: skip
            made = scratch / f"{number}_{turn}.ms"
            # another seed makes another noise
            simulate(made, one, field.sky, seed=seed + 1000 * number + turn, perfect=False)
            pieces.append((start, number, made))
    pieces.sort()
    end = template.start_s + max(s + f.scan_s for f in fields for s in f.start_s)
    first = fields[0]
    radians = [tuple(math.radians(x) for x in field.direction_deg) for field in fields]
    create_ms(
        path, template.array, template.spws, template.correlations, first.name,
        (radians[0][0], radians[0][1]), (template.start_s, end),
    )  # fmt: skip
    add_fields(path, [(f.name, (d[0], d[1])) for f, d in zip(fields[1:], radians[1:], strict=True)])
    for scan, (_, number, made) in enumerate(pieces, 1):
        _append(path, made, number, scan if scan_numbers else 1)
    shutil.rmtree(scratch)
    for number, field in enumerate(fields):
        if models and field.name in models:
            _add_model(path, number, models[field.name])
    gains, delay, bandpass = _draw(path, template, errors, seed)
    multiply_ms(path, gains)
    return SimulatedSession(path, tuple(fields), gains, delay, bandpass)


def _append(path: Path, made: Path, field: int, scan: int) -> None:
    with open_table(made) as source, open_table(path, write=True) as target:
        start = target.nrows()
        target.addrows(source.nrows())
        ids = source.getcol("DATA_DESC_ID")
        # windows of unequal length cannot be read together
        edges = np.flatnonzero(np.diff(ids, prepend=-1, append=-1))
        for low, high in pairwise(edges):
            rows = np.arange(low, high)
            columns = read_rows(source, _COPIED, rows)
            columns["FIELD_ID"] = np.full(len(rows), field, np.int32)
            columns["SCAN_NUMBER"] = np.full(len(rows), scan, np.int32)
            for name, values in columns.items():
                target.putcol(name, values, start + int(low), len(rows))


def _add_model(path: Path, field: int, visibilities: Visibilities) -> None:
    found = Subtables(path)
    with open_table(path, write=True) as opened:
        for ddid, rows in row_pieces(opened, ("DATA",), where=f"FIELD_ID == {field}"):
            read = read_rows(opened, ("DATA", "UVW"), rows)
            seen = visibilities(read["UVW"], found.channel_hz[int(found.spw_of[ddid])])
            parallel = list(found.setup_of[ddid].parallel)
            read["DATA"][:, :, parallel] += seen[:, :, None].astype(np.complex64)
            write_rows(opened, rows, {"DATA": read["DATA"]})


def _draw(
    path: Path, template: Observation, errors: SessionErrors, seed: int
) -> tuple[GainSolutions, NDArray[np.float64], tuple[NDArray[np.complex128], ...]]:
    """Draw the gains on all times and channels of a measurement set."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 7]))
    with open_table(path) as opened:
        time_s = np.unique(opened.getcol("TIME"))
    nant, npol, nspw = len(template.array), len(template.feeds), len(template.spws)
    least, most = errors.delay_ns
    shape = (nspw, nant, npol)
    delay = rng.uniform(least, most, shape) * rng.choice([-1.0, 1.0], shape)
    hz = [window.frequency_hz for window in template.spws]
    bandpass = []
    for window in hz:
        wave = np.linspace(-np.pi, np.pi, len(window))[:, None, None]
        start = rng.uniform(0, 2 * np.pi, (nant, npol))
        amplitude = 1 + errors.ripple * np.sin(wave + start)
        # even about the centre: a slope would be part of the delay
        turn = errors.ripple * rng.uniform(-1, 1, (nant, npol)) * np.cos(wave)
        bandpass.append(amplitude * np.exp(1j * turn))
    level = np.exp(errors.amplitude * rng.standard_normal((nant, npol)))
    phase = rng.uniform(0, 2 * np.pi, (nant, npol))
    rate = np.radians(errors.drift_deg_h) / 3600 * rng.standard_normal((nant, 1))
    slow = level * np.exp(1j * (phase + rate * (time_s - time_s[0])[:, None, None]))
    parts = [
        band * np.exp(2e-9j * np.pi * (window - window.mean())[:, None, None] * own)
        for band, window, own in zip(bandpass, hz, delay, strict=True)
    ]
    gain = slow[:, None] * np.concatenate(parts)[None]
    gains = GainSolutions(
        time_s=time_s, interval_s=np.full(len(time_s), template.integration_s),
        frequency_hz=np.concatenate(hz),
        spw=np.repeat(np.arange(nspw), [len(window) for window in hz]),
        antenna=template.array.name, position_m=template.array.position_m,
        polarization=template.feeds, gain=gain, flag=np.zeros(gain.shape, bool),
        snr=np.full(gain.shape, np.inf),
    )  # fmt: skip
    return gains, delay, tuple(bandpass)
