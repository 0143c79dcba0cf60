"""Named simulations that benchmarks and tests share: small data, realistic arrays and errors.

Noise per visibility follows from system equivalent flux densities of about 310 Jy (VLA at
5 GHz), 2800 Jy (ALMA, 230 GHz) and 1500 Jy (a remote LOFAR HBA station; an international one
half of that), with channels and integrations as averaged for self-calibration.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from libs.core.coordinates import transit_s
from libs.core.errors import ConfigError
from libs.ms.antennas import AntennaArray
from libs.simulation.array_configurations import load_configuration, lofar_hba
from libs.simulation.observation import (
    Observation,
    Simulation,
    Source,
    SpectralWindow,
    StationErrors,
    TecScreen,
    simulate,
)

__all__ = ["SCENARIOS", "Scenario", "make_scenario", "scenario"]

_DAY_MJD = 58849.0  # 2020-01-01, which every table of earth orientation covers
_DISTANT_LOFAR = (("ST001", 0.25), ("RS*", 1.0), ("*", 0.5))


@dataclass(frozen=True)
class Scenario:
    """Parameters of one simulation.

    Attributes
    ----------
    name, title : str
        Name, and a description in a few words.
    array : callable
        Function that returns the antennas; it is called late, because it reads files.
    direction_deg : (float, float)
        Phase centre, J2000; it is observed symmetrically about its transit.
    spws : tuple of SpectralWindow
    correlations : tuple of str
    integration_s, gap_s : float
        Integration time, and time between scans.
    integrations, scans : int
        Number of integrations in a scan, and of scans.
    noise_jy : float
        Standard deviation of the real part of one visibility.
    sky : tuple of Source
    errors : StationErrors
    noise_scale : tuple of (pattern, factor)
        Relative noise of stations, as in `Observation`.
    cell_arcsec : float
        Pixel that samples the beam 4 to 5 times.
    imsize : int
        Pixels of an image of the sky, or of one source when the sky is a field.
    seed : int
    """

    name: str
    title: str
    array: Callable[[], AntennaArray]
    direction_deg: tuple[float, float]
    spws: tuple[SpectralWindow, ...]
    correlations: tuple[str, ...]
    integration_s: float
    integrations: int
    scans: int
    gap_s: float
    noise_jy: float
    sky: tuple[Source, ...]
    errors: StationErrors
    cell_arcsec: float
    imsize: int
    noise_scale: tuple[tuple[str, float], ...] = ()
    seed: int = 20

    def observation(self, scale: float = 1.0, antennas: int | None = None) -> Observation:
        """Return the observation, with ``scale`` times the integrations in each scan.

        Parameters
        ----------
        scale : float
            Factor on the number of rows.
        antennas : int, optional
            Largest number of antennas, spread over the whole array.
        """
        array = self.array()
        if antennas is not None:
            array = array.thinned(antennas)
        scan_s = max(2, round(self.integrations * scale)) * self.integration_s
        total_s = self.scans * scan_s + (self.scans - 1) * self.gap_s
        transit = transit_s(array.position_m, math.radians(self.direction_deg[0]), _DAY_MJD)
        return Observation(
            array=array,
            direction_deg=self.direction_deg,
            start_s=transit - 0.5 * total_s,
            integration_s=self.integration_s,
            scan_s=scan_s,
            scans=self.scans,
            gap_s=self.gap_s,
            spws=self.spws,
            correlations=self.correlations,
            noise_jy=self.noise_jy,
            noise_scale=self.noise_scale,
            field=self.name,
        )


def _vla_a() -> AntennaArray:
    return load_configuration("vla.a")


def _alma() -> AntennaArray:
    return load_configuration("alma.cycle8.6")


_VLA_5GHZ = Scenario(
    name="vla_a_5ghz",
    title="VLA-A 5 GHz, 100 mJy in three components, 60 deg per 10 min",
    array=_vla_a,
    direction_deg=(123.4, 32.5),
    spws=(SpectralWindow(4.9e9, 128e6, 8), SpectralWindow(5.1e9, 128e6, 8)),
    correlations=("RR", "LL"),
    integration_s=12.0,
    integrations=32,
    scans=4,
    gap_s=5400.0,
    noise_jy=0.017,
    sky=(
        Source(0.060, 0.0, 0.0, spectral_index=-0.2),
        Source(0.025, 3.0, 2.0, 0.6, 0.3, 40.0, spectral_index=-0.7),
        Source(0.015, -4.0, -1.5, 1.2, 0.8, 110.0, spectral_index=-0.7),
    ),
    errors=StationErrors(
        phase_walk_deg=60.0, phase_walk_s=600.0, walk_restarts=True, phase_offset_deg=15.0
    ),
    cell_arcsec=0.08,
    imsize=256,
)

_VLA_8GHZ = dataclasses.replace(
    _VLA_5GHZ,
    name="vla_a_8ghz",
    title="VLA-A 8.4 GHz, 0.63 Jy core and jet, 120 deg per 10 min, 2 per cent in amplitude",
    direction_deg=(201.7, 21.3),
    spws=(SpectralWindow(8.3e9, 128e6, 8), SpectralWindow(8.5e9, 128e6, 8)),
    sky=(
        Source(0.45, 0.0, 0.0, 0.03, 0.02, 60.0),
        Source(0.10, 0.8, 0.5, 0.30, 0.12, 58.0, spectral_index=-0.7),
        Source(0.05, 1.6, 1.1, 0.40, 0.25, 50.0, spectral_index=-0.7),
        Source(0.03, 2.8, 1.7, 0.80, 0.50, 70.0, spectral_index=-0.7),
    ),
    errors=StationErrors(phase_walk_deg=120.0, phase_walk_s=600.0, amp_offset=0.02),
    cell_arcsec=0.05,
    seed=21,
)

_ALMA = Scenario(
    name="alma_230ghz",
    title="ALMA 230 GHz, 0.8 arcsec disc with a point, 60 deg per 5 min, 5 per cent in amplitude",
    array=_alma,
    direction_deg=(165.5, -34.7),
    spws=(SpectralWindow(229e9, 1.875e9, 4), SpectralWindow(231e9, 1.875e9, 4)),
    correlations=("XX", "YY"),
    integration_s=6.0,
    integrations=18,
    scans=3,
    gap_s=2400.0,
    noise_jy=0.036,
    sky=(
        Source(0.20, 0.0, 0.0, 0.8, 0.6, 30.0, shape="disc", spectral_index=2.2),
        Source(0.05, 0.15, -0.05, spectral_index=2.0),
    ),
    errors=StationErrors(
        phase_walk_deg=60.0, phase_walk_s=300.0, amp_offset=0.05, amp_slow=0.02, amp_slow_s=3600.0
    ),
    cell_arcsec=0.02,
    imsize=256,
    seed=22,
)

# Errors within the windows: channels as many as show them, half the integrations
_VLA_DELAYS = dataclasses.replace(
    _VLA_5GHZ,
    name="vla_a_delays",
    title="VLA-A 5 GHz, 100 mJy, delays of 5 ns in each antenna and window, 60 deg per 10 min",
    spws=(SpectralWindow(4.9e9, 128e6, 32), SpectralWindow(5.1e9, 128e6, 32)),
    integrations=16,
    noise_jy=0.034,
    errors=dataclasses.replace(_VLA_5GHZ.errors, spw_delay_ns=5.0),
    seed=34,
)

_VLA_BANDPASS = dataclasses.replace(
    _VLA_DELAYS,
    name="vla_a_bandpass",
    title="VLA-A 5 GHz, 1 Jy, bandpasses of 10 per cent and 6 deg, 60 deg per 10 min",
    # ten times the source: thermal noise must not hide what the bandpasses cost
    sky=tuple(dataclasses.replace(source, flux_jy=10 * source.flux_jy) for source in _VLA_5GHZ.sky),
    errors=dataclasses.replace(_VLA_5GHZ.errors, ripple=0.1),
    seed=35,
)

_VLA_3MJY = dataclasses.replace(
    _VLA_5GHZ,
    name="vla_a_3mjy",
    title="VLA-A 5 GHz, 3 mJy, 60 deg per 10 min",
    noise_jy=0.020,
    sky=(Source(0.003, 0.4, -0.3),),
    seed=23,
)

_NOISE_ONLY = dataclasses.replace(
    _VLA_3MJY, name="noise_only", title="VLA-A 5 GHz, noise without a source", sky=(), seed=24
)

_LOFAR = Scenario(
    name="lofar_hba",
    title="LOFAR HBA with international stations, core plus component, 300 deg per 10 min",
    array=lofar_hba,
    direction_deg=(212.8, 52.2),
    spws=(SpectralWindow(144e6, 48e6, 16),),
    correlations=("XX", "XY", "YX", "YY"),
    # one scan: DP3 fills gaps between scans with flagged rows
    integration_s=16.0,
    integrations=216,
    scans=1,
    gap_s=0.0,
    noise_jy=0.15,
    noise_scale=(("ST001", 0.1), ("RS*", 1.0), ("*", 0.5)),
    sky=(
        Source(0.6, 0.0, 0.0, 0.1, 0.05, 20.0, spectral_index=-0.3, name="core"),
        Source(0.3, 1.6, 0.7, 0.40, 0.20, 65.0, spectral_index=-0.8, name="component"),
    ),
    errors=StationErrors(phase_walk_deg=300.0, phase_walk_s=600.0, amp_offset=0.05),
    cell_arcsec=0.04,
    imsize=256,
    seed=25,
)

_LOFAR_TEC = dataclasses.replace(
    _LOFAR,
    name="lofar_tec",
    title="LOFAR HBA, core plus component, 0.09 TECU (300 deg at 144 MHz) per 10 min",
    errors=StationErrors(tec_walk_tecu=0.0893, tec_walk_s=600.0, amp_offset=0.05),
    seed=26,
)

_LOFAR_TWO = dataclasses.replace(
    _LOFAR,
    name="lofar_two_5arcsec",
    title="LOFAR HBA, two components 5 arcsec apart, 300 deg per 10 min",
    sky=(
        Source(0.40, 0.0, 0.0, 0.2, 0.15, 30.0, spectral_index=-0.7, name="east"),
        Source(0.30, -4.0, 3.0, 0.25, 0.2, 120.0, spectral_index=-0.7, name="west"),
    ),
    seed=27,
)

_LOFAR_RESOLVED = dataclasses.replace(
    _LOFAR,
    name="lofar_intl_noise",
    title="LOFAR HBA, 2 Jy that the international baselines resolve out, 300 deg per 10 min",
    sky=(Source(2.0, 0.0, 0.0, 4.0, 3.2, 45.0, spectral_index=-0.8, name="blob"),),
    # about 16 beams of the 120 km baselines that show the source
    cell_arcsec=0.16,
    imsize=512,
    seed=28,
)

# l, m in degrees: three calibrators, each with two fainter neighbours within 0.3 deg
_FIELD_SKY = tuple(
    Source(flux, 3600.0 * l_deg, 3600.0 * m_deg, size, 0.7 * size, pa, name=name)
    for name, flux, l_deg, m_deg, size, pa in (
        ("cal1", 0.50, 0.05, 0.42, 0.15, 20.0),
        ("cal2", 0.40, 0.38, -0.24, 0.20, 75.0),
        ("cal3", 0.32, -0.40, -0.18, 0.10, 130.0),
        ("faint1", 0.10, -0.15, 0.50, 0.20, 10.0),
        ("faint2", 0.09, 0.26, 0.30, 0.15, 50.0),
        ("faint3", 0.08, 0.50, -0.05, 0.20, 95.0),
        ("faint4", 0.075, 0.18, -0.40, 0.10, 140.0),
        ("faint5", 0.07, -0.52, 0.04, 0.25, 160.0),
        ("faint6", 0.06, -0.24, -0.38, 0.15, 35.0),
    )
)

_LOFAR_FIELD = dataclasses.replace(
    _LOFAR,
    name="lofar_field",
    title="LOFAR HBA, field of 3 calibrators and 6 fainter sources behind a TEC screen",
    # a narrow band, over which one phase represents a station's TEC
    spws=(SpectralWindow(144e6, 4e6, 16),),
    noise_jy=0.6,
    noise_scale=_DISTANT_LOFAR,
    sky=_FIELD_SKY,
    errors=StationErrors(
        screen=TecScreen(rms_tecu=0.1, height_km=250.0, wind_m_s=20.0), phase_offset_deg=40.0
    ),
    seed=29,
)


def _vla_b() -> AntennaArray:
    return load_configuration("vla.b")


def _alma_compact() -> AntennaArray:
    return load_configuration("alma.cycle8.3")


def _vlba() -> AntennaArray:
    return load_configuration("vlba")


# Bright sources whose first image contains about as much flux in artefacts as in the source.
_VLA_OFF_AXIS = dataclasses.replace(
    _VLA_5GHZ,
    name="vla_a_offaxis",
    title="VLA-A 5 GHz, 100 mJy, one part 9 arcsec off axis, 60 deg per 10 min, 5 per cent",
    direction_deg=(187.3, 12.4),
    spws=(SpectralWindow(4.9e9, 128e6, 8), SpectralWindow(5.1e9, 128e6, 8)),
    integration_s=10.0,
    integrations=48,
    scans=2,
    gap_s=1200.0,
    sky=(
        Source(0.050, 0.0, 0.0),
        Source(0.035, 1.6, -0.8, 1.2, 0.6, 35.0, spectral_index=-0.7),
        Source(0.015, -6.0, 6.7, spectral_index=-0.5),
    ),
    # phases go on through the gap: CLEANed to 0.3 sigma, the first image can show 0.19 Jy
    errors=StationErrors(phase_walk_deg=60.0, phase_walk_s=600.0, amp_offset=0.05),
    cell_arcsec=0.08,
    imsize=512,
    seed=30,
)  # fmt: skip

_VLA_LOBES = dataclasses.replace(
    _VLA_5GHZ,
    name="vla_b_lobes",
    title="VLA-B 1.5 GHz, 250 mJy in two lobes, 60 deg per 10 min, 5 per cent",
    array=_vla_b,
    direction_deg=(45.2, 27.9),
    spws=(SpectralWindow(1.44e9, 64e6, 8), SpectralWindow(1.56e9, 64e6, 8)),
    integration_s=10.0,
    integrations=24,
    scans=4,
    gap_s=1200.0,
    sky=(
        Source(0.14, 14.0, 6.0, 3.0, 2.0, 60.0, spectral_index=-0.8),
        Source(0.10, -16.0, -8.0, 4.0, 2.0, 75.0, spectral_index=-0.8),
        Source(0.01, 0.0, 0.0, spectral_index=-0.1),
    ),
    errors=StationErrors(phase_walk_deg=60.0, phase_walk_s=600.0, amp_offset=0.05),
    cell_arcsec=0.9,
    imsize=1024,
    seed=31,
)  # fmt: skip

_RING_ARCSEC = 2.4

_ALMA_RING = dataclasses.replace(
    _ALMA,
    name="alma_345ghz_ring",
    title="ALMA 345 GHz to 500 m, 250 mJy in a ring of 2.4 arcsec, 70 deg per 5 min, 4 per cent",
    array=_alma_compact,
    direction_deg=(69.7, -22.9),
    spws=(SpectralWindow(344e9, 1.875e9, 4), SpectralWindow(346e9, 1.875e9, 4)),
    integrations=20,
    scans=3,
    gap_s=1500.0,
    noise_jy=0.07,
    # overlapping Gaussians around the circle, brighter on one side
    sky=tuple(
        Source(
            0.25 / 24 * (1 + 0.3 * math.cos(angle)),
            0.5 * _RING_ARCSEC * math.sin(angle),
            0.5 * _RING_ARCSEC * math.cos(angle),
            0.4,
            0.4,
            spectral_index=3.0,
        )
        for angle in (2 * math.pi * number / 24 for number in range(24))
    ),
    errors=StationErrors(phase_walk_deg=70.0, phase_walk_s=300.0, phase_offset_deg=70.0,
                         amp_offset=0.04),
    cell_arcsec=0.07,
    imsize=256,
    seed=32,
)  # fmt: skip

_VLBA = dataclasses.replace(
    _VLA_5GHZ,
    name="vlba_8ghz",
    title="VLBA 8.4 GHz, 0.5 Jy core and jet in 15 scans and 4 windows, 90 deg per 10 min",
    array=_vlba,
    direction_deg=(160.4, 41.2),
    spws=tuple(SpectralWindow(8.384e9 + 32e6 * number, 32e6, 4) for number in range(4)),
    integration_s=4.0,
    integrations=60,
    scans=15,
    gap_s=130.0,
    noise_jy=0.06,
    sky=(
        Source(0.35, 0.0, 0.0, 0.0004, 0.0002, 40.0),
        Source(0.10, 0.0018, 0.0012, 0.0008, 0.0005, 50.0),
        Source(0.05, 0.0042, 0.0025, 0.0012, 0.0009, 30.0),
    ),
    errors=StationErrors(phase_walk_deg=90.0, phase_walk_s=600.0, phase_offset_deg=100.0,
                         amp_offset=0.05),
    cell_arcsec=0.0002,
    imsize=256,
    seed=33,
)  # fmt: skip

SCENARIOS: dict[str, Scenario] = {
    each.name: each
    for each in (
        _VLA_5GHZ,
        _VLA_8GHZ,
        _ALMA,
        _VLA_3MJY,
        _NOISE_ONLY,
        _LOFAR,
        _LOFAR_TEC,
        _LOFAR_TWO,
        _LOFAR_RESOLVED,
        _LOFAR_FIELD,
        _VLA_OFF_AXIS,
        _VLA_LOBES,
        _ALMA_RING,
        _VLBA,
        _VLA_DELAYS,
        _VLA_BANDPASS,
    )
}


def scenario(name: str) -> Scenario:
    """Return a scenario by name.

    Raises
    ------
    ConfigError
        There is no scenario of that name.
    """
    if name not in SCENARIOS:
        raise ConfigError(f"no scenario {name}", f"choose one of {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


def make_scenario(
    name: str | Scenario,
    path: str | Path,
    scale: float = 1.0,
    *,
    antennas: int | None = None,
    seed: int | None = None,
    perfect: bool = True,
) -> Simulation:
    """Make the measurement set of a scenario.

    Parameters
    ----------
    name : str or Scenario
        Name in ``SCENARIOS``, or a scenario changed with ``dataclasses.replace``.
    path : path
        Measurement set to make; an existing one is replaced.
    scale : float
        Factor on the number of integrations, and thus of rows.
    antennas : int, optional
        Largest number of antennas.
    seed : int, optional
        Seed to use instead of the scenario's own.
    perfect : bool
        True also makes the data with the true gains divided out.

    Raises
    ------
    ConfigError
        There is no scenario of that name.
    """
    chosen = scenario(name) if isinstance(name, str) else name
    return simulate(
        path,
        chosen.observation(scale, antennas),
        chosen.sky,
        chosen.errors,
        seed=chosen.seed if seed is None else seed,
        perfect=perfect,
    )
