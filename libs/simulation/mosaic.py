"""Simulated mosaics: several pointings with primary beams, and all four hands of a polarized sky.

The feeds are fixed to the sky, as data are after calibration for the parallactic angle, so that
RL = Q + iU with Q and U of the sky.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.core.coordinates import antenna_uvw, radec_to_lm
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.gains.gain_solutions import GainSolutions
from libs.imaging.primary_beam import PrimaryBeam
from libs.ms.create import create_ms
from libs.ms.subtables import add_fields
from libs.ms.tables import open_table
from libs.simulation.gains import StationErrors, draw_gains
from libs.simulation.observation import Observation
from libs.simulation.sky import ARCSEC_RAD, Source, SourceTable, sky_visibilities

__all__ = ["MosaicSimulation", "PolarizedSource", "simulate_mosaic"]


@dataclass(frozen=True)
class PolarizedSource:
    """A source of a simulated mosaic.

    Attributes
    ----------
    source : Source
        Its place is about the direction of the observation.
    q, u, v : float
        Fractions Q/I, U/I and V/I at the reference frequency.
    rotation_measure_rad_m2 : float
        Q + iU turns by twice this times the change of the wavelength squared.
    """

    source: Source
    q: float = 0.0
    u: float = 0.0
    v: float = 0.0
    rotation_measure_rad_m2: float = 0.0

    def stokes_jy(self, frequency_hz: NDArray[np.float64], reference_hz: float) -> dict[str, Any]:
        """Return the flux density of each Stokes parameter at some frequencies, (nchan,) Jy."""
        ratio = np.asarray(frequency_hz) / reference_hz
        total = self.source.flux_jy * ratio**self.source.spectral_index
        square = SPEED_OF_LIGHT_M_S**2 * (1.0 / np.asarray(frequency_hz) ** 2 - reference_hz**-2)
        linear = complex(self.q, self.u) * np.exp(2j * self.rotation_measure_rad_m2 * square)
        return {
            "I": total, "Q": total * linear.real, "U": total * linear.imag, "V": total * self.v
        }  # fmt: skip


@dataclass(frozen=True)
class MosaicSimulation:
    """A simulated mosaic.

    Attributes
    ----------
    ms : Path
    sky : tuple of PolarizedSource
    reference_hz : float
        Frequency of the sources' flux densities and polarizations.
    gains : GainSolutions
        True gains at each integration, one for each window with rows.
    """

    ms: Path
    sky: tuple[PolarizedSource, ...]
    reference_hz: float
    gains: GainSolutions


def simulate_mosaic(
    path: Path,
    observation: Observation,
    pointings_arcsec: Sequence[tuple[float, float]],
    sky: Sequence[PolarizedSource],
    beam: PrimaryBeam | None,
    *,
    reference_hz: float,
    empty_spws: int = 0,
    errors: StationErrors | None = None,
    seed: int = 0,
) -> MosaicSimulation:
    """Make a measurement set of a mosaic; scan after scan the array goes to the next pointing.

    Parameters
    ----------
    path : Path
        An existing set is replaced.
    observation : Observation
        Its direction is that of the middle of the mosaic and of the sources' offsets; all four
        hands are needed for polarization. Pointing k is field k, named by the observation's field
        and k.
    pointings_arcsec : sequence of (float, float)
        Offsets of the pointings, direction cosines as angles, east and north.
    sky : sequence of PolarizedSource
        Points and Gaussians.
    beam : PrimaryBeam or None
        Power pattern of every antenna; None: 1 everywhere.
    reference_hz : float
        Frequency of the sources' flux densities.
    empty_spws : int
        Number of windows, the first ones, that have no rows.
    errors : StationErrors, optional
        Errors of the stations, which act on all hands.
    seed : int
    """
    places = [Source(0.0, *offset).radec_rad(*observation.direction_rad)
              for offset in pointings_arcsec]  # fmt: skip
    time_s, half = observation.time_s, 0.5 * observation.integration_s
    create_ms(
        path, observation.array, observation.spws, observation.correlations,
        f"{observation.field}0", places[0], (float(time_s[0] - half), float(time_s[-1] + half)),
    )  # fmt: skip
    add_fields(
        path, [(f"{observation.field}{k}", place) for k, place in enumerate(places) if k > 0]
    )
    spws = range(empty_spws, len(observation.spws))
    gain = _true_gains(observation, spws, errors or StationErrors(), seed)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 11]))
    for scan in range(observation.scans):
        times = np.flatnonzero(observation.scan == scan + 1)
        field = scan % len(places)
        uvw = observation.uvw_sign * antenna_uvw(
            observation.array.position_m, places[field], time_s[times]
        )
        table = _apparent(observation, sky, places[field])
        for number, spw in enumerate(spws):
            data = _visibilities(
                observation, sky, beam, table, uvw, spw, reference_hz, gain.gain[times, number]
            )
            shape = (*data.shape, 2)
            hiss = observation.noise_jy * rng.standard_normal(shape, dtype=np.float32)
            _write(
                path, observation, times, field, spw, uvw, data + hiss[..., 0] + 1j * hiss[..., 1]
            )
    return MosaicSimulation(path, tuple(sky), reference_hz, gain)


def _true_gains(
    observation: Observation, spws: range, errors: StationErrors, seed: int
) -> GainSolutions:
    """Draw the gains of each integration and window."""
    time_s = observation.time_s
    frequency = np.array([observation.spws[spw].centre_hz for spw in spws])
    gain = draw_gains(
        errors, seed, observation.array.name, time_s, frequency, observation.scan,
        spw=np.array(spws, np.int64),
    )  # fmt: skip
    return GainSolutions(
        time_s=time_s, interval_s=np.full(len(time_s), observation.integration_s),
        frequency_hz=frequency, spw=np.array(spws, np.int64), antenna=observation.array.name,
        position_m=observation.array.position_m, polarization=observation.feeds, gain=gain,
        flag=np.zeros(gain.shape, bool), snr=np.full(gain.shape, np.inf),
    )  # fmt: skip


def _apparent(
    observation: Observation, sky: Sequence[PolarizedSource], place: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the direction cosines of the sources about a pointing, (nsource, 2)."""
    found = [radec_to_lm(*one.source.radec_rad(*observation.direction_rad), *place) for one in sky]
    return np.array(found).reshape(-1, 2)


def _visibilities(
    observation: Observation,
    sky: Sequence[PolarizedSource],
    beam: PrimaryBeam | None,
    offset: NDArray[np.float64],
    uvw: NDArray[np.float64],
    spw: int,
    reference_hz: float,
    gain: NDArray[np.complex128],
) -> NDArray[np.complex128]:
    """Return the visibilities of one pointing and window, (ntime, nbaseline, nchan, ncorr) Jy."""
    first, second = observation.baselines
    frequency = observation.spws[spw].frequency_hz
    square = (offset**2).sum(axis=1)
    power = np.ones((len(sky), len(frequency)))
    if beam is not None:
        angle = np.arcsin(np.sqrt(square))
        power = np.stack([np.nan_to_num(beam.power(angle, float(hz))) for hz in frequency], axis=1)
    flux = [one.stokes_jy(frequency, reference_hz) for one in sky]
    seen = {}
    for stokes in "IQUV":
        amount = np.array([one[stokes] for one in flux]).reshape(power.shape) * power
        table = SourceTable(
            lmn=np.column_stack([offset, -square / (1.0 + np.sqrt(1.0 - square))]),
            flux_jy=amount,
            axes_rad=np.array([(s.source.major_arcsec, s.source.minor_arcsec) for s in sky])
            .reshape(-1, 2) * ARCSEC_RAD,
            pa_rad=np.radians([s.source.pa_deg for s in sky]),
            kind=np.full(len(sky), 1, np.int64),
        )  # fmt: skip
        seen[stokes] = sky_visibilities(uvw, first, second, frequency, table)
    i, q, u, v = (seen[stokes] for stokes in "IQUV")
    hands = {
        "RR": i + v, "RL": q + 1j * u, "LR": q - 1j * u, "LL": i - v,
        "XX": i + q, "XY": u + 1j * v, "YX": u - 1j * v, "YY": i - q,
    }  # fmt: skip
    data = np.stack([hands[corr] for corr in observation.correlations], axis=-1)
    for k, (one, two) in enumerate(observation.hands):
        factor = gain[:, first, one] * gain[:, second, two].conj()
        data[..., k] *= factor[:, :, None]
    return data


def _write(
    path: Path,
    observation: Observation,
    times: NDArray[np.int64],
    field: int,
    spw: int,
    uvw: NDArray[np.float64],
    data: NDArray[np.complexfloating],
) -> None:
    """Append the rows of one scan and window."""
    first, second = observation.baselines
    shape = (len(times), len(first))
    rows = shape[0] * shape[1]
    stamps = np.repeat(observation.time_s[times], len(first))
    ncorr = len(observation.correlations)
    sigma = observation.noise_jy or 1.0
    columns: dict[str, Any] = {
        "TIME": stamps, "TIME_CENTROID": stamps,
        "INTERVAL": np.full(rows, observation.integration_s),
        "EXPOSURE": np.full(rows, observation.integration_s),
        "ANTENNA1": np.tile(first, shape[0]).astype(np.int32),
        "ANTENNA2": np.tile(second, shape[0]).astype(np.int32),
        "DATA_DESC_ID": np.full(rows, spw, np.int32), "FIELD_ID": np.full(rows, field, np.int32),
        "SCAN_NUMBER": observation.scan[times].repeat(len(first)).astype(np.int32),
        "FLAG_ROW": np.zeros(rows, bool),
        "UVW": (uvw[:, second] - uvw[:, first]).reshape(rows, 3),
        "SIGMA": np.full((rows, ncorr), sigma, np.float32),
        "WEIGHT": np.full((rows, ncorr), sigma**-2.0, np.float32),
        "DATA": data.reshape(rows, *data.shape[2:]).astype(np.complex64),
        "FLAG": np.zeros((rows, *data.shape[2:]), bool),
    }  # fmt: skip
    ids = ("ARRAY_ID", "FEED1", "FEED2", "OBSERVATION_ID", "PROCESSOR_ID", "STATE_ID")
    columns |= {name: np.zeros(rows, np.int32) for name in ids}
    with open_table(path, write=True) as opened:
        start = opened.nrows()
        opened.addrows(rows)
        for name, values in columns.items():
            opened.putcol(name, values, start, rows)
