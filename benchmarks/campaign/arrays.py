"""The arrays of the campaign: what CASA's package knows, and others from their positions."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from libs.ms.antennas import AntennaArray
from libs.simulation.array_configurations import (
    load_configuration,
    local_to_itrf,
    lofar_hba,
)

__all__ = ["KINDS", "ArrayKind", "array_of"]

# ITRF to some 100 m, which is enough for an array of that shape: m, and the diameter, m
_STATIONS: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "EHT": {
        "AA": (2225061.2, -5440057.4, -2481681.2, 73.0),
        "AX": (2225039.5, -5441197.6, -2479303.4, 12.0),
        "AZ": (-1828796.2, -5054406.8, 3427865.2, 10.0),
        "JC": (-5464584.7, -2493001.2, 2150654.0, 15.0),
        "LM": (-768714.0, -5988541.8, 2063275.9, 32.0),
        "PV": (5088967.9, -301681.6, 3825015.8, 30.0),
        "SM": (-5464523.4, -2493147.1, 2150611.8, 16.0),
    },
    "EVN": {
        "EF": (4033947.3, 486990.8, 4900431.0, 100.0),
        "HH": (5085442.8, 2668263.8, -2768696.8, 26.0),
        "JB": (3822252.6, -153995.7, 5086051.4, 76.0),
        "MC": (4461369.7, 919597.1, 4449559.4, 32.0),
        "NT": (4934562.8, 1321201.6, 3806484.8, 32.0),
        "ON": (3370605.7, 711917.7, 5349830.8, 25.0),
        "TR": (3638558.5, 1221969.7, 5077036.8, 32.0),
        "WB": (3828767.1, 442446.2, 5064921.6, 25.0),
        "YS": (4848761.8, -261484.1, 4123085.1, 40.0),
    },
    "e-MERLIN": {
        "CM": (3920356.2, 2542.0, 5014284.5, 32.0),
        "DA": (3828714.5, -169459.0, 5080647.8, 25.0),
        "DE": (3923442.6, -146914.4, 5009755.1, 25.0),
        "KN": (3860084.9, -202105.0, 5056568.9, 25.0),
        "MK": (3822846.8, -153802.3, 5086285.9, 25.0),
        "PI": (3829087.9, -169569.0, 5081082.4, 25.0),
    },
}
_SITES = {  # longitude, latitude (deg), height (m)
    "GMRT": (74.05, 19.09, 588.0),
    "ASKAP": (116.63, -26.70, 377.0),
    "ATA": (-121.47, 40.82, 1008.0),
}


@dataclass(frozen=True)
class ArrayKind:
    """An array with the bands it observes in.

    Attributes
    ----------
    name : str
    configurations : tuple of str
        Names of `array_of`, one of which is drawn.
    bands : tuple of (float, float)
        Frequency and channel width, Hz.
    hands : tuple of str
    integration_s : float
        Typical integration time after averaging, seconds.
    latitude_deg : float
        A source passes within 35 deg of the zenith of that latitude.
    most : int
        Antennas, at most: more are thinned so that a case stays small.
    """

    name: str
    configurations: tuple[str, ...]
    bands: tuple[tuple[float, float], ...]
    hands: tuple[str, ...]
    integration_s: float
    latitude_deg: float
    most: int = 27


_CIRCULAR, _LINEAR = ("RR", "LL"), ("XX", "YY")
_VLA_BANDS = ((1.5e9, 4e6), (3e9, 8e6), (5e9, 16e6), (8.4e9, 16e6), (22e9, 32e6))
KINDS = (
    ArrayKind("VLA A", ("vla.a",), _VLA_BANDS, _CIRCULAR, 10.0, 34.0),
    ArrayKind("VLA B", ("vla.b",), _VLA_BANDS, _CIRCULAR, 10.0, 34.0),
    ArrayKind("VLA C, D", ("vla.c", "vla.d"), _VLA_BANDS, _CIRCULAR, 10.0, 34.0),
    ArrayKind("ALMA compact", ("alma.cycle8.1", "alma.cycle8.2", "alma.cycle8.3"),
              ((100e9, 0.2e9), (230e9, 0.4e9), (345e9, 0.4e9)), _LINEAR, 6.0, -23.0, 30),
    ArrayKind("ALMA long", ("alma.cycle8.6", "alma.cycle8.8"),
              ((100e9, 0.2e9), (230e9, 0.4e9)), _LINEAR, 6.0, -23.0, 30),
    ArrayKind("ACA", ("aca.cycle8",), ((230e9, 0.4e9),), _LINEAR, 6.0, -23.0),
    ArrayKind("e-MERLIN", ("e-MERLIN",), ((1.5e9, 4e6), (5e9, 16e6)), _CIRCULAR, 8.0, 53.0),
    ArrayKind("VLBA", ("vlba",), ((5e9, 8e6), (8.4e9, 8e6), (43e9, 16e6)), _CIRCULAR, 6.0, 35.0),
    ArrayKind("EVN", ("EVN",), ((1.66e9, 4e6), (5e9, 8e6)), _CIRCULAR, 8.0, 45.0),
    ArrayKind("EHT", ("EHT",), ((227e9, 0.5e9),), _CIRCULAR, 10.0, 12.0),
    ArrayKind("MeerKAT", ("meerkat",), ((1.3e9, 4e6),), _LINEAR, 16.0, -31.0, 30),
    ArrayKind("like GMRT", ("GMRT",), ((0.65e9, 4e6), (1.3e9, 4e6)), _CIRCULAR, 16.0, 19.0, 30),
    ArrayKind("like ASKAP", ("ASKAP",), ((0.9e9, 4e6),), _LINEAR, 10.0, -27.0, 30),
    ArrayKind("like ATA", ("ATA",), ((1.4e9, 4e6), (6e9, 16e6)), _LINEAR, 10.0, 41.0),
    ArrayKind("LOFAR", ("LOFAR",), ((144e6, 2e6),), ("XX", "YY"), 16.0, 53.0, 24),
)  # fmt: skip


@functools.cache
def array_of(name: str) -> AntennaArray:
    """Return the antennas of a configuration of `KINDS`.

    Raises
    ------
    ToolError
        A package that knows the positions is not installed.
    InputError
        There is no such configuration.
    """
    if name in _STATIONS:
        rows = _STATIONS[name]
        numbers = np.array(list(rows.values()))
        return AntennaArray(name, tuple(rows), tuple(rows), numbers[:, :3], numbers[:, 3])
    if name == "LOFAR":
        return lofar_hba()
    if name in _SITES:
        return _scattered(name)
    return load_configuration(name)


def _scattered(name: str) -> AntennaArray:
    """Return antennas placed like those of an observatory: same shape, not its own pads."""
    rng = np.random.default_rng(sum(map(ord, name)))
    if name == "GMRT":  # a core of 14 within a kilometre, three arms of 14 km
        core = rng.uniform(-500.0, 500.0, (14, 2))
        reach = np.repeat(np.geomspace(1500.0, 14000.0, 6)[:, None], 3, axis=1)
        angle = np.deg2rad([90.0, 210.0, 330.0]) + rng.normal(0.0, 0.05, (6, 3))
        arms = np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=-1)
        flat, diameter = np.concatenate([core, arms.reshape(-1, 2)])[:30], 45.0
    elif name == "ASKAP":
        flat, diameter = rng.normal(0.0, 1200.0, (36, 2)), 12.0
    else:
        flat, diameter = rng.uniform(-150.0, 150.0, (20, 2)), 6.1
    longitude, latitude, height = _SITES[name]
    enu = np.column_stack([flat, np.zeros(len(flat))])
    place = (math.radians(longitude), math.radians(latitude), height)
    names = tuple(f"{name[0]}{number:02d}" for number in range(len(flat)))
    return AntennaArray(
        name, names, names, local_to_itrf(enu, *place), np.full(len(flat), diameter)
    )
