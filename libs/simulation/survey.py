"""Simulated sets like those of the VLA Sky Survey: pointings, S band, dummy windows, four hands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from libs.imaging.primary_beam import find_beam
from libs.ms.create import SpectralWindow
from libs.simulation.array_configurations import load_configuration
from libs.simulation.gains import StationErrors
from libs.simulation.mosaic import MosaicSimulation, PolarizedSource, simulate_mosaic
from libs.simulation.observation import Observation
from libs.simulation.sky import Source

__all__ = [
    "CENTRE_DEG",
    "POINTINGS_ARCSEC",
    "REFERENCE_HZ",
    "SURVEY_SKY",
    "simulate_survey",
    "survey_observation",
    "survey_window_hz",
]

CENTRE_DEG = (213.0, 20.0)
REFERENCE_HZ = 3.0e9
POINTINGS_ARCSEC = ((0.0, 0.0), (432.0, 0.0), (0.0, 432.0))

SURVEY_SKY = (
    PolarizedSource(Source(0.5, 60.0, 40.0, spectral_index=-0.7), q=0.05, u=-0.03),
    PolarizedSource(Source(0.3, 500.0, -30.0, spectral_index=0.2), q=-0.04, u=0.02),
    PolarizedSource(Source(0.2, 210.0, 230.0, spectral_index=-0.4), q=0.0, u=0.06),
    PolarizedSource(Source(0.2, -330.0, -150.0, spectral_index=-1.0)),
)
"""Sources near the middle of two pointings, between pointings, and far out."""

_FIRST_HZ, _WINDOW_HZ, _FIRST_SCIENCE = 1.988e9, 0.128e9, 2
_DUMMY_HZ = 8.0e9
_START_S = 5.1e9 + 7 * 3600.0
_INTEGRATION_S, _BETWEEN_SCANS_S = 60.0, 1200.0


def survey_window_hz(number: int) -> float:
    """Return the centre of science window 2 to 17 of the survey, Hz."""
    return _FIRST_HZ + _WINDOW_HZ * (number - _FIRST_SCIENCE + 0.5)


def survey_observation(
    windows: Sequence[int] = tuple(range(2, 18)),
    *,
    configuration: str = "vla.d",
    integrations: int = 10,
    channels: int = 4,
    noise_jy: float = 0.01,
    scans: int = 3,
) -> Observation:
    """Return an observation in which windows 0 and 1 are dummies without rows.

    Parameters
    ----------
    windows : sequence of int
        Science windows by their numbers in the survey; they get the ids 2, 3 and so on.
    configuration : str
        Antennas.
    integrations : int
        Integrations of a minute in each scan.
    channels : int
        Channels of each window.
    noise_jy : float
        Noise of the real and the imaginary part of a visibility.
    scans : int
        Number of scans, each on the next pointing.
    """
    dummies = tuple(SpectralWindow(_DUMMY_HZ + _WINDOW_HZ * k, _WINDOW_HZ, channels)
                    for k in range(_FIRST_SCIENCE))  # fmt: skip
    science = tuple(SpectralWindow(survey_window_hz(n), _WINDOW_HZ, channels) for n in windows)
    return Observation(
        load_configuration(configuration), CENTRE_DEG, _START_S, _INTEGRATION_S,
        _INTEGRATION_S * integrations, dummies + science, scans=scans, gap_s=_BETWEEN_SCANS_S,
        correlations=("RR", "RL", "LR", "LL"), noise_jy=noise_jy, field="J1412+2000_",
    )  # fmt: skip


def simulate_survey(
    path: Path,
    observation: Observation,
    sky: Sequence[PolarizedSource] = SURVEY_SKY,
    errors: StationErrors | None = None,
    *,
    seed: int = 0,
) -> MosaicSimulation:
    """Simulate three pointings 7.2 arcmin apart.

    Parameters
    ----------
    path : Path
        An existing set is replaced.
    observation : Observation
        From `survey_observation`.
    sky : sequence of PolarizedSource
        About the first pointing.
    errors : StationErrors, optional
    seed : int
    """
    return simulate_mosaic(
        path, observation, POINTINGS_ARCSEC, sky, find_beam("vla", REFERENCE_HZ, 25.0),
        reference_hz=REFERENCE_HZ, empty_spws=_FIRST_SCIENCE, errors=errors, seed=seed,
    )  # fmt: skip
