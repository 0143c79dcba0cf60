"""Station errors drawn from a seed: phase walks, TEC, a TEC screen, amplitudes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from libs.core.angles import TEC_PHASE_HZ
from libs.simulation.sky import ARCSEC_RAD, Source

__all__ = [
    "StationErrors",
    "TecScreen",
    "draw_gains",
    "random_walk",
    "screen_tec",
    "station_factors",
]


@dataclass(frozen=True)
class TecScreen:
    """A thin layer of free electrons that drifts over the array.

    Attributes
    ----------
    rms_tecu : float
        Standard deviation of the layer's TEC.
    height_km : float
        Distance of the layer along the line of sight.
    largest_km, smallest_km : float
        Range of the wavelengths present; power goes as wavelength to the power 5/3 (Kolmogorov's
        structure function).
    wind_m_s : float
        Speed of the frozen layer.
    modes : int
        Number of plane waves that form it.
    """

    rms_tecu: float
    height_km: float = 300.0
    largest_km: float = 400.0
    smallest_km: float = 8.0
    wind_m_s: float = 100.0
    modes: int = 60


@dataclass(frozen=True)
class StationErrors:
    """Errors of the stations that corrupt the visibilities; the default is none.

    Attributes
    ----------
    phase_walk_deg, phase_walk_s : float
        Random walk of each station's phase, the same for both polarizations and all frequencies:
        rms of the change within ``phase_walk_s`` seconds.
    walk_restarts : bool
        True restarts the phase walks from 0 at each scan, as after an observation of a phase
        calibrator; False continues them through the gaps.
    phase_offset_deg : float
        Rms of each station's constant phase, the same for both polarizations.
    pol_offset_deg : float
        Rms of a constant phase of each station and polarization.
    tec_walk_tecu, tec_walk_s, tec_offset_tecu : float
        Walk and offset of the TEC above each station; phase goes as 1 / frequency.
    amp_offset : float
        Rms of the constant log amplitude of each station and polarization.
    amp_slow, amp_slow_s : float
        rms and correlation time of slow log-amplitude changes.
    spw_offset_deg : float
        rms of a constant phase of each station, polarization and spectral window.
    delay_ns : float
        rms of each station's delay, about the middle of the band.
    spw_delay_ns : float
        rms of the delay of each station, polarization and spectral window, about the middle of the
        window.
    ripple : float
        Amplitude of one wave over each window, of each station and polarization: in log amplitude
        and, a quarter of a wave apart, in phase (rad).
    amp_jump : float
        rms of the log amplitude of each station and polarization that is drawn for each scan.
    screen : TecScreen, optional
        Screen of TEC that differs by direction.
    scale : tuple of (pattern, factor)
        Factors on all errors of stations whose name matches the shell pattern; the first match is
        used. E.g. ``(("CS*", 0.1), ("*", 1.0))``.
    """

    phase_walk_deg: float = 0.0
    phase_walk_s: float = 600.0
    walk_restarts: bool = False
    phase_offset_deg: float = 0.0
    pol_offset_deg: float = 0.0
    tec_walk_tecu: float = 0.0
    tec_walk_s: float = 600.0
    tec_offset_tecu: float = 0.0
    amp_offset: float = 0.0
    amp_slow: float = 0.0
    amp_slow_s: float = 3600.0
    spw_offset_deg: float = 0.0
    delay_ns: float = 0.0
    spw_delay_ns: float = 0.0
    ripple: float = 0.0
    amp_jump: float = 0.0
    screen: TecScreen | None = None
    scale: tuple[tuple[str, float], ...] = ()

    @property
    def dispersive(self) -> bool:
        """True when the direction-independent gains depend on frequency within a window."""
        return any(
            size > 0 for size in (
                self.tec_walk_tecu, self.tec_offset_tecu, self.delay_ns, self.spw_delay_ns,
                self.ripple,
            )
        )  # fmt: skip


def station_factors(
    names: Sequence[str], scale: tuple[tuple[str, float], ...]
) -> NDArray[np.float64]:
    """Return the factor of each station: that of the first pattern it matches, else 1."""
    return np.array(
        [
            next((factor for pattern, factor in scale if fnmatchcase(name, pattern)), 1.0)
            for name in names
        ]
    )


def random_walk(
    rng: np.random.Generator, time_s: NDArray[np.float64], rms: float, within_s: float, count: int
) -> NDArray[np.float64]:
    """Return ``count`` random walks from 0 at the first time, (ntime, count).

    The rms change between two times is ``rms * sqrt(elapsed / within_s)``, gaps included.
    """
    steps = rng.standard_normal((len(time_s), count))
    elapsed = np.diff(time_s, prepend=time_s[:1])
    return np.asarray(np.cumsum(steps * (rms * np.sqrt(elapsed / within_s))[:, None], axis=0))


def _slow_variation(
    rng: np.random.Generator, time_s: NDArray[np.float64], rms: float, scale_s: float, count: int
) -> NDArray[np.float64]:
    """Return ``count`` stationary Gaussian processes with an exponential autocorrelation."""
    steps = rng.standard_normal((len(time_s), count))
    keep = np.exp(-np.diff(time_s, prepend=time_s[:1]) / scale_s)
    value = np.empty_like(steps)
    value[0] = steps[0]
    for i in range(1, len(time_s)):
        value[i] = keep[i] * value[i - 1] + math.sqrt(1.0 - keep[i] ** 2) * steps[i]
    return rms * value


def draw_gains(
    errors: StationErrors,
    seed: int,
    names: Sequence[str],
    time_s: NDArray[np.float64],
    frequency_hz: NDArray[np.float64],
    scan: NDArray[np.int32],
    npol: int = 2,
    spw: NDArray[np.int64] | None = None,
) -> NDArray[np.complex128]:
    """Draw the direction-independent gains.

    Each kind of error has its own stream of random numbers, so that adding one does not change the
    others.

    Log amplitudes have a mean of 0 over the stations at every time, because self-calibration cannot
    determine a common factor, the flux scale.

    ``spw`` is the spectral window of each frequency, (nfreq,); None where all are of one.

    Returns
    -------
    (ntime, nfreq, nant, npol) complex128
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, 1]).spawn(11)]
    nant = len(names)
    factor = station_factors(names, errors.scale)
    phase = random_walk(
        streams[0], time_s, math.radians(errors.phase_walk_deg), errors.phase_walk_s, nant
    )
    if errors.walk_restarts:
        starts, which = np.unique(scan, return_index=True, return_inverse=True)[1:]
        phase = phase - phase[starts][which]
    phase = phase + math.radians(errors.phase_offset_deg) * streams[1].standard_normal(nant)
    tec = random_walk(streams[2], time_s, errors.tec_walk_tecu, errors.tec_walk_s, nant)
    tec = (tec + errors.tec_offset_tecu * streams[2].standard_normal(nant)) * factor
    pol = math.radians(errors.pol_offset_deg) * streams[3].standard_normal((nant, npol))
    log_amp = errors.amp_offset * streams[4].standard_normal((nant, npol)) * factor[:, None]
    slow = _slow_variation(streams[5], time_s, errors.amp_slow, errors.amp_slow_s, nant * npol)
    log_amp = log_amp + slow.reshape(-1, nant, npol) * factor[:, None]
    numbers, which_scan = np.unique(scan, return_inverse=True)
    jump = errors.amp_jump * streams[8].standard_normal((len(numbers), nant, npol))
    log_amp = log_amp + jump[which_scan] * factor[:, None]
    log_amp = log_amp - log_amp.mean(axis=1, keepdims=True)
    total = (phase * factor)[:, :, None] + pol * factor[:, None]
    exponent = (log_amp + 1j * total)[:, None] + 1j * TEC_PHASE_HZ * (
        tec[:, None, :, None] / frequency_hz[None, :, None, None]
    )
    which = np.unique(
        np.zeros(len(frequency_hz), np.int64) if spw is None else spw, return_inverse=True
    )[1]
    exponent = exponent + 1j * factor[:, None] * _band_phases(
        errors, streams[6:8], frequency_hz, nant, npol, which
    )
    exponent = exponent + _window_shapes(errors, streams[9:], frequency_hz, factor, npol, which)
    return np.asarray(np.exp(exponent))


def _band_phases(
    errors: StationErrors,
    streams: Sequence[np.random.Generator],
    frequency_hz: NDArray[np.float64],
    nant: int,
    npol: int,
    which: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the phases of windows and of delays, (nfreq, nant, npol) rad."""
    offset = math.radians(errors.spw_offset_deg) * streams[0].standard_normal(
        (which.max() + 1, nant, npol)
    )
    delay_s = 1e-9 * errors.delay_ns * streams[1].standard_normal((nant, npol))
    from_middle = frequency_hz - np.mean(frequency_hz)
    phase = offset[which] + 2.0 * math.pi * from_middle[:, None, None] * delay_s
    return np.asarray(phase)


def _window_shapes(
    errors: StationErrors,
    streams: Sequence[np.random.Generator],
    frequency_hz: NDArray[np.float64],
    factor: NDArray[np.float64],
    npol: int,
    which: NDArray[np.int64],
) -> NDArray[np.complex128]:
    """Return delays and waves within each window, (nfreq, nant, npol): log amplitude + i phase.

    In each channel the log amplitudes have a mean of 0 over the stations: a factor common to all
    is the spectrum of the source.
    """
    shape = (which.max() + 1, len(factor), npol)
    delay_s = 1e-9 * errors.spw_delay_ns * streams[0].standard_normal(shape)
    start = streams[1].uniform(0.0, 2.0 * math.pi, shape)
    made = np.zeros((len(frequency_hz), *shape[1:]), np.complex128)
    for window in range(shape[0]):
        mine = np.flatnonzero(which == window)
        hz = frequency_hz[mine]
        from_middle = (hz - hz.mean())[:, None, None]
        turn = 2.0 * math.pi * np.arange(len(mine))[:, None, None] / len(mine)
        wave = np.exp(1j * (turn + start[window]))
        made[mine] = 2j * math.pi * from_middle * delay_s[window] + errors.ripple * wave
    made *= factor[:, None]
    return made - made.real.mean(axis=1, keepdims=True)


def screen_tec(
    screen: TecScreen,
    seed: int,
    antenna_uv_m: NDArray[np.float64],
    time_s: NDArray[np.float64],
    sky: Sequence[Source],
) -> NDArray[np.float64]:
    """Return the screen's TEC on each line of sight.

    The screen is flat and perpendicular to the direction of the phase centre, so the line of sight
    from a station to a source crosses it at the station's (u, v) plus height x (l, m). It turns
    with the Earth apart from its wind, so (u, v) are those of one time.

    Parameters
    ----------
    screen : TecScreen
    seed : int
    antenna_uv_m : (nant, 2) float64
        Coordinates u and v of each station in the middle of the observation.
    time_s : (ntime,) float64
    sky : sequence of Source

    Returns
    -------
    (ntime, nsource, nant) float64
        TEC, TECU.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    # wavelengths evenly spread in their logarithm: power per mode is k^(-11/3) k dk ~ k^(-5/3)
    wavelength_m = 1e3 * np.exp(
        rng.uniform(math.log(screen.smallest_km), math.log(screen.largest_km), screen.modes)
    )
    power = wavelength_m ** (5.0 / 3.0)
    amplitude = screen.rms_tecu * np.sqrt(2.0 * power / power.sum())
    angle = rng.uniform(0.0, 2.0 * math.pi, screen.modes)
    phase = rng.uniform(0.0, 2.0 * math.pi, screen.modes)
    wave = 2.0 * math.pi / wavelength_m * np.stack([np.cos(angle), np.sin(angle)])
    drift = screen.wind_m_s * (time_s - time_s[0])
    offset = np.array([(s.l_arcsec, s.m_arcsec) for s in sky]) * ARCSEC_RAD
    offset = offset * screen.height_km * 1e3
    pierce = offset[:, None] + antenna_uv_m[None, :]
    tec = np.empty((len(time_s), *pierce.shape[:2]))
    for t in range(len(time_s)):
        tec[t] = np.sin((pierce + np.array([drift[t], 0.0])) @ wave + phase) @ amplitude
    return tec
