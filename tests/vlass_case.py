"""A small set like those of the VLA Sky Survey: pointings, beams, four hands, dummy windows."""

from __future__ import annotations

from pathlib import Path

from libs.imaging.primary_beam import find_beam
from libs.ms.create import SpectralWindow
from libs.simulation.array_configurations import load_configuration
from libs.simulation.gains import StationErrors
from libs.simulation.mosaic import MosaicSimulation, PolarizedSource, simulate_mosaic
from libs.simulation.observation import Observation
from libs.simulation.sky import Source

CENTRE_DEG = (213.0, 20.0)
REFERENCE_HZ = 3.0e9
POINTINGS_ARCSEC = ((0.0, 0.0), (432.0, 0.0), (0.0, 432.0))

# One in the middle of each pointing's reach, one where beams overlap, one far out.
SKY = (
    PolarizedSource(Source(0.5, 60.0, 40.0, spectral_index=-0.7), q=0.05, u=-0.03),
    PolarizedSource(Source(0.3, 500.0, -30.0, spectral_index=0.2), q=-0.04, u=0.02),
    PolarizedSource(Source(0.2, 210.0, 230.0, spectral_index=-0.4), q=0.0, u=0.06),
    PolarizedSource(Source(0.2, -330.0, -150.0, spectral_index=-1.0)),
)


def window_hz(number: int) -> float:
    """Return the centre of science window 2 ... 17, Hz."""
    return 1.988e9 + 0.064e9 + 0.128e9 * (number - 2)


def observation(
    spws: tuple[int, ...], *, configuration: str = "vla.d", integrations: int = 2,
    channels: int = 2, noise_jy: float = 0.01, scans: int = 3,
) -> Observation:  # fmt: skip
    """Return an observation whose windows 0 and 1 are dummies."""
    dummies = tuple(SpectralWindow(8.0e9 + 0.128e9 * k, 0.128e9, channels) for k in range(2))
    science = tuple(SpectralWindow(window_hz(spw), 0.128e9, channels) for spw in spws)
    return Observation(
        load_configuration(configuration), CENTRE_DEG, 5.1e9 + 7 * 3600.0, 60.0,
        60.0 * integrations, dummies + science, scans=scans, gap_s=1200.0,
        correlations=("RR", "RL", "LR", "LL"), noise_jy=noise_jy, field="J1412+2000_",
    )  # fmt: skip


def make_case(
    path: Path,
    spws: tuple[int, ...] = (2, 3),
    sky: tuple[PolarizedSource, ...] = SKY,
    errors: StationErrors | None = None,
    *,
    seed: int = 0,
    **changes: object,
) -> MosaicSimulation:
    """Simulate the set."""
    return simulate_mosaic(
        path, observation(spws, **changes), POINTINGS_ARCSEC, sky,
        find_beam("vla", 3e9, 25.0), reference_hz=REFERENCE_HZ, empty_spws=2, errors=errors,
        seed=seed,
    )  # fmt: skip
