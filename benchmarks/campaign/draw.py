"""A random observation of a random sky with random errors, all from one seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.campaign.arrays import KINDS, ArrayKind, array_of
from libs.core.geometry import SPEED_OF_LIGHT_M_S, resolution_arcsec
from libs.ms.antennas import AntennaArray
from libs.ms.create import SpectralWindow
from libs.ms.tables import open_table
from libs.simulation.gains import StationErrors
from libs.simulation.scenarios import Scenario, scenario
from libs.simulation.sky import Source

__all__ = ["Case", "draw", "flag_drawn"]

_VISIBILITIES = 6e5  # of each hand, so that a case takes a minute
_MOST_ROWS = 40_000
_ANTENNA_SNR = 5.0  # within the time in which phases walk one radian
_BRIGHT_SNR = 20.0
_ARCSEC = math.degrees(1.0) * 3600.0


@dataclass(frozen=True)
class Case:
    """One drawn observation.

    Attributes
    ----------
    seed : int
    kinds : dict of str to str
        What was drawn, by subject: array, sky, errors, noise, windows, flags.
    scenario : Scenario
    flagged_antennas, flagged_spws : tuple of int
        Flagged in the data and in the perfect data.
    aimed_snr : float
        Brightest beam over the thermal noise, as the noise was chosen; 0: no source.
    antenna_snr : float
        Of one antenna's phase within the time in which it walks one radian; infinite where
        phases do not walk.
    """

    seed: int
    kinds: dict[str, str]
    scenario: Scenario
    flagged_antennas: tuple[int, ...]
    flagged_spws: tuple[int, ...]
    aimed_snr: float
    antenna_snr: float


@dataclass(frozen=True)
class _Scale:
    """Angles of an array, arcsec: its beam, and the largest size that it sees well."""

    beam: float
    largest: float


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _scale(array: AntennaArray, frequency_hz: float) -> _Scale:
    separation = np.linalg.norm(array.position_m[:, None] - array.position_m[None], axis=-1)
    shortest = np.sort(separation[np.triu_indices(len(array), 1)])
    # the tenth part of the baselines, since a single short one sees little
    short_m = float(shortest[len(shortest) // 10])
    beam = resolution_arcsec(array.longest_baseline_m, frequency_hz)
    wavelength_m = SPEED_OF_LIGHT_M_S / frequency_hz
    return _Scale(beam, max(1.5 * beam, 0.4 * wavelength_m / short_m * _ARCSEC))


def _gaussian(rng: np.random.Generator, flux: float, scale: _Scale, place: tuple[float, float],
              shape: str = "gaussian") -> Source:  # fmt: skip
    major = min(_log_uniform(rng, 0.3, 12.0) * scale.beam, scale.largest)
    return Source(flux, *place, major, major * float(rng.uniform(0.4, 1.0)),
                  float(rng.uniform(0.0, 180.0)), shape=shape,  # type: ignore[arg-type]
                  spectral_index=float(rng.normal(-0.5, 0.4)))  # fmt: skip


def _points(rng: np.random.Generator, scale: _Scale) -> list[Source]:
    return [Source(1.0, spectral_index=float(rng.normal(-0.3, 0.4)))]


def _several(rng: np.random.Generator, scale: _Scale) -> list[Source]:
    share = np.sort(rng.dirichlet(np.ones(int(rng.integers(2, 31)))))[::-1]
    sky = []
    for number, flux in enumerate(share):
        place = rng.uniform(-12.0, 12.0, 2) * scale.beam if number else np.zeros(2)
        at = (float(place[0]), float(place[1]))
        if rng.integers(2):
            sky.append(_gaussian(rng, float(flux), scale, at))
        else:
            sky.append(Source(float(flux), *at))
    return sky


def _disc(rng: np.random.Generator, scale: _Scale) -> list[Source]:
    point = float(rng.choice([0.0, 0.2]))
    sky = [_gaussian(rng, 1.0 - point, scale, (0.0, 0.0), "disc")]
    return [*sky, Source(point, 0.3 * scale.beam, 0.0)] if point else sky


def _extended(rng: np.random.Generator, scale: _Scale) -> list[Source]:
    return [_gaussian(rng, 1.0, scale, (0.0, 0.0))]


def _ring(rng: np.random.Generator, scale: _Scale) -> list[Source]:
    radius = min(_log_uniform(rng, 1.0, 6.0) * scale.beam, 0.5 * scale.largest)
    count, bright = 16, float(rng.uniform(0.0, 0.6))
    angle = 2.0 * math.pi * np.arange(count) / count
    return [Source(float((1 + bright * math.cos(a)) / count), radius * math.sin(a),
                   radius * math.cos(a), 0.5 * radius, 0.5 * radius) for a in angle]  # fmt: skip


def _jet(rng: np.random.Generator, scale: _Scale) -> list[Source]:
    knots = int(rng.integers(1, 6))
    core = float(rng.uniform(0.3, 0.9))
    share = (1.0 - core) * rng.dirichlet(np.ones(knots))
    angle, step = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(1.5, 5.0) * scale.beam
    sky = [Source(core, spectral_index=-0.1)]
    for number, flux in enumerate(share, start=1):
        bend = angle + 0.1 * number * float(rng.normal())
        size = min(0.4 * number * scale.beam, scale.largest)
        sky.append(Source(float(flux), number * step * math.sin(bend),
                          number * step * math.cos(bend), size, 0.6 * size, math.degrees(angle),
                          spectral_index=-0.7))  # fmt: skip
    return sky


def _off_centre(rng: np.random.Generator, scale: _Scale) -> list[Source]:
    sky = (_points, _jet, _extended)[int(rng.integers(3))](rng, scale)
    angle = rng.uniform(0.0, 2.0 * math.pi)
    away = _log_uniform(rng, 8.0, 50.0) * scale.beam
    return [dataclasses.replace(each, l_arcsec=each.l_arcsec + away * math.sin(angle),
                                m_arcsec=each.m_arcsec + away * math.cos(angle))
            for each in sky]  # fmt: skip


_SKIES: dict[str, Callable[[np.random.Generator, _Scale], list[Source]]] = {
    "point": _points, "2 to 30 parts": _several, "disc": _disc, "Gaussian": _extended,
    "ring": _ring, "jet": _jet, "off centre": _off_centre,
}  # fmt: skip


def _brightest_beam(sky: list[Source], scale: _Scale) -> float:
    """Return about the peak of an image for a sky of 1 Jy, Jy/beam."""
    area = scale.beam**2
    near = np.array([[math.hypot(a.l_arcsec - b.l_arcsec, a.m_arcsec - b.m_arcsec) for b in sky]
                     for a in sky])  # fmt: skip
    peak = np.array([s.flux_jy * area / (area + s.major_arcsec * s.minor_arcsec) for s in sky])
    return float((np.exp(-((near / scale.beam) ** 2)) @ peak).max())


def _windows(
    rng: np.random.Generator, frequency_hz: float, channel_hz: float
) -> tuple[tuple[SpectralWindow, ...], str]:
    count = int(rng.choice([1, 2, 3, 4, 8, 16], p=[0.3, 0.25, 0.1, 0.2, 0.1, 0.05]))
    unlike = bool(count > 1 and rng.random() < 0.25)
    windows, edge = [], frequency_hz
    for number in range(count):
        wide = 0.5 if unlike and number % 2 else 1.0
        channels = (2 if unlike and number % 3 == 1 else 4) if count < 8 else 2
        width = channels * channel_hz * wide
        windows.append(SpectralWindow(edge + 0.5 * width, width, channels))
        edge += 1.1 * width
    return tuple(windows), f"{'1' if count == 1 else '2 to 16'}{' unlike' if unlike else ''}"


def _errors(rng: np.random.Generator) -> tuple[StationErrors, str]:
    """Draw what is wrong: nothing for one case in eight."""
    if rng.random() < 0.125:
        return StationErrors(), "none"
    short = bool(rng.integers(2))
    walk_s = _log_uniform(rng, 60.0, 600.0) if short else _log_uniform(rng, 600.0, 7200.0)
    amplitude = float(rng.choice([0.0, rng.uniform(0.0, 0.2)]))
    drift, jump = (amplitude, 0.0) if rng.integers(2) else (0.0, amplitude)
    by_hand = float(rng.choice([0.0, rng.uniform(0.0, 90.0)]))
    by_window = float(rng.choice([0.0, rng.uniform(0.0, 60.0)], p=[0.75, 0.25]))
    errors = StationErrors(
        phase_walk_deg=float(rng.uniform(0.0, 300.0 if short else 120.0)),
        phase_walk_s=walk_s,
        walk_restarts=bool(rng.integers(2)),
        phase_offset_deg=float(rng.choice([0.0, rng.uniform(0.0, 120.0)])),
        pol_offset_deg=by_hand,
        spw_offset_deg=by_window,
        amp_offset=0.5 * amplitude,
        amp_slow=drift,
        amp_slow_s=3600.0,
        amp_jump=jump,
    )
    kind = "phases" + (", amplitudes" if amplitude else "") + (", windows" if by_window else "")
    return errors, kind


def _time(
    rng: np.random.Generator, kind: ArrayKind, per_integration: int, rows: int
) -> tuple[int, int, float]:
    """Return integrations of a scan, scans, and the gap between them (s): snapshot to track."""
    total = int(min(_VISIBILITIES / per_integration, _MOST_ROWS / rows))
    total = max(12, min(total, 240))
    scans = int(rng.choice([1, 2, 3, 4, 6, 10]))
    scans = min(scans, total // 6)
    most = 5400.0 if kind.name != "LOFAR" else 0.0
    if kind.name == "LOFAR":
        scans = 1
    gap_s = float(rng.uniform(60.0, most)) if scans > 1 else 0.0
    return total // scans, scans, gap_s


def _calmed(errors: StationErrors, snr_of: Callable[[StationErrors], float]) -> StationErrors:
    """Return errors that walk no faster than an antenna's SNR can follow.

    Calmer phases hold for longer: within a scan, and once for longer than a scan and the gap after
    it, over several.
    """
    for _ in range(30):
        if snr_of(errors) >= _ANTENNA_SNR:
            break
        errors = dataclasses.replace(errors, phase_walk_deg=0.85 * errors.phase_walk_deg)
    return errors


def draw(seed: int) -> Case:
    """Return the case of a seed.

    The noise is such that the brightest beam of perfect data has an SNR of 2 to 10 000; one
    case in twenty holds no source. Where that SNR is 20 or more, an antenna's phase can be
    measured at an SNR of 5 before it has walked one radian, at most 0.4 rad in an integration:
    else not even known phases could be told from noise.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 77]))
    kind = KINDS[int(rng.integers(len(KINDS)))]
    frequency, channel = kind.bands[int(rng.integers(len(kind.bands)))]
    array = array_of(str(rng.choice(kind.configurations))).thinned(kind.most)
    scale = _scale(array, frequency)
    name = str(rng.choice(list(_SKIES)))
    sky = _SKIES[name](rng, scale)
    total_jy = _log_uniform(rng, 0.02, 3.0)
    windows, windows_kind = _windows(rng, frequency, channel)
    errors, errors_kind = _errors(rng)
    channels = sum(window.channels for window in windows)
    # many windows are many rows: then of fewer antennas, and at least 12 integrations
    array = array.thinned(int(math.sqrt(2 * _MOST_ROWS / 12 / len(windows))))
    baselines = len(array) * (len(array) - 1) // 2
    integrations, scans, gap_s = _time(rng, kind, baselines * channels, baselines * len(windows))
    snr = _log_uniform(rng, 2.0, 1e4)
    peak_jy = total_jy * _brightest_beam(sky, scale)
    samples = 2 * baselines * channels * integrations * scans
    noise_jy = peak_jy / snr * math.sqrt(samples)
    # one antenna's baselines within one integration, both hands
    within = peak_jy / noise_jy * math.sqrt(2 * channels * (len(array) - 1))
    scan_s = integrations * kind.integration_s

    def antenna_snr_of(errors: StationErrors) -> float:
        return within * math.sqrt(_observed_s(errors, scan_s, gap_s) / kind.integration_s)

    if snr >= _BRIGHT_SNR:
        errors = _calmed(errors, antenna_snr_of)
        slowest = math.sqrt(0.16 * errors.phase_walk_s / kind.integration_s)
        errors = dataclasses.replace(
            errors, phase_walk_deg=min(errors.phase_walk_deg, math.degrees(slowest))
        )
    antenna_snr = antenna_snr_of(errors)
    if rng.random() < 0.05:
        sky, snr, antenna_snr, name = [], 0.0, 0.0, "no source"
    flagged, spws, flags_kind = _flags(rng, len(array), len(windows))
    bad = array.name[int(rng.integers(len(array)))] if rng.random() < 0.1 else ""
    made = dataclasses.replace(
        scenario("vla_a_5ghz"),
        name=f"draw_{seed}",
        title=f"{kind.name}, {frequency / 1e9:g} GHz, {name}, SNR {snr:.0f}, {errors_kind}",
        array=lambda: array,
        direction_deg=(float(rng.uniform(0.0, 360.0)),
                       float(np.clip(kind.latitude_deg + rng.uniform(-35.0, 35.0), -85.0, 85.0))),
        spws=windows,
        correlations=kind.hands,
        integration_s=kind.integration_s,
        integrations=integrations,
        scans=scans,
        gap_s=gap_s,
        noise_jy=noise_jy,
        noise_scale=((bad, float(rng.uniform(4.0, 20.0))),) if bad else (),
        sky=tuple(dataclasses.replace(s, flux_jy=s.flux_jy * total_jy) for s in sky),
        errors=errors,
        seed=seed,
    )  # fmt: skip
    kinds = {
        "array": kind.name, "sky": name, "errors": errors_kind, "noise": _snr_kind(snr),
        "windows": windows_kind, "flags": flags_kind + (", one noisy antenna" if bad else ""),
    }  # fmt: skip
    return Case(seed, kinds, made, flagged, spws, snr, antenna_snr)


def _radian_s(errors: StationErrors) -> float:
    """Return the time in which phases walk one radian (rms), seconds."""
    if errors.phase_walk_deg <= 0:
        return math.inf
    return errors.phase_walk_s / math.radians(errors.phase_walk_deg) ** 2


def _observed_s(errors: StationErrors, scan_s: float, gap_s: float) -> float:
    """Return for how long data were taken within the time in which phases walk one radian, s."""
    radian_s = _radian_s(errors)
    # walks that restart at every scan, and are shorter than a radian there, hold for all scans
    if radian_s <= scan_s or gap_s <= 0 or errors.walk_restarts or math.isinf(radian_s):
        return radian_s
    if radian_s < scan_s + gap_s:
        return scan_s
    return radian_s * scan_s / (scan_s + gap_s)


def _snr_kind(snr: float) -> str:
    for bound in (_BRIGHT_SNR, 100.0, 1000.0):
        if snr < bound:
            return f"SNR below {bound:.0f}"
    return "SNR 1000 and more"


def _flags(
    rng: np.random.Generator, antennas: int, windows: int
) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """Return antennas and windows that are flagged, and what to call it."""
    flagged: tuple[int, ...] = ()
    spws: tuple[int, ...] = ()
    if rng.random() < 0.2 and antennas >= 9:
        count = int(rng.integers(1, max(2, antennas // 6)))
        flagged = tuple(int(a) for a in rng.choice(antennas, count, replace=False))
    if rng.random() < 0.15 and windows >= 3:
        spws = (int(rng.integers(windows)),)
    said = [word for word, any_ in (("antennas", flagged), ("a window", spws)) if any_]
    return flagged, spws, " and ".join(said) or "none"


def flag_drawn(case: Case, ms: Path) -> None:
    """Flag a case's flagged antennas and windows in a measurement set."""
    if not case.flagged_antennas and not case.flagged_spws:
        return
    with open_table(ms, write=True) as table:
        hit = np.isin(table.getcol("DATA_DESC_ID"), case.flagged_spws)
        for name in ("ANTENNA1", "ANTENNA2"):
            hit |= np.isin(table.getcol(name), case.flagged_antennas)
        for row in np.flatnonzero(hit):
            table.putcell("FLAG", int(row), np.ones_like(table.getcell("FLAG", int(row))))
        table.putcol("FLAG_ROW", hit)
