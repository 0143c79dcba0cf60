"""Small uvh5 files of a simulated ATA, for tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from libs.ms.antennas import AntennaArray
from libs.ms.create import SpectralWindow
from libs.simulation.array_configurations import local_to_itrf
from libs.simulation.gains import StationErrors
from libs.simulation.observation import Observation, simulate
from libs.simulation.sky import Source

CENTRE_DEG = (202.7845, 30.5092)
START_S = 60647 * 86400.0 + 62950.0


def ata(antennas: int, seed: int = 5) -> AntennaArray:
    """Antennas scattered over 300 m at Hat Creek."""
    rng = np.random.default_rng(seed)
    local = np.column_stack([rng.normal(0, 80, (antennas, 2)), rng.normal(0, 1, antennas)])
    names = tuple(f"{1 + i // 10}{'abcdefghjk'[i % 10]}" for i in range(antennas))
    place = local_to_itrf(local, np.deg2rad(-121.4707), np.deg2rad(40.8174), 1019.0)
    return AntennaArray("ATA", names, names, place, np.full(antennas, 6.1))


def observe(antennas: int = 5, spws: int = 1, **changes: Any) -> Observation:
    """Six integrations of 10 s at 1.25 GHz, windows of eight 0.5 MHz channels side by side."""
    windows = tuple(SpectralWindow(1.252e9 + 4e6 * i, 4e6, 8) for i in range(spws))
    options: dict[str, Any] = {
        "array": ata(antennas), "direction_deg": CENTRE_DEG, "start_s": START_S,
        "integration_s": 10.0, "scan_s": 60.0, "spws": windows, "field": "3c286",
        "correlations": ("XX", "XY", "YX", "YY"),
    }  # fmt: skip
    return Observation(**(options | changes))


def sky() -> list[Source]:
    """A source at the centre, and one beside it."""
    return [Source(10.0, 0.0, 0.0), Source(4.0, 300.0, -120.0)]


def write_uvh5(ms: Path, target: Path, change: Callable[[Any], Any] | None = None) -> Path:
    """Write a measurement set as uvh5, after a change of pyuvdata's object where one is given."""
    from astropy.coordinates import EarthLocation
    from astropy.coordinates.sites import SiteRegistry
    from pyuvdata import UVData

    # or the library asks a server where the telescope is
    offline = mock.patch.object(EarthLocation, "_get_site_registry", lambda *_: SiteRegistry())
    with offline, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        uv = UVData()
        uv.read_ms(str(ms))
        uv = (change(uv) if change else None) or uv
        uv.write_uvh5(str(target), clobber=True)
    return target


def simulated_ms(target: Path, errors: StationErrors | None = None, **changes: Any) -> Path:
    return simulate(target, observe(**changes), sky(), errors, perfect=False).ms
