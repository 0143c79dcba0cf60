"""Small tables of solutions for the tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from libs.h5parm.solset import FULL_JONES, Solset, neutral_amplitude

STATIONS = ("CS001HBA0", "DE601HBA", "DE602HBA", "UK608HBA")


def solset(
    *,
    time_s=(5.0e9, 5.0e9 + 60, 5.0e9 + 120),
    frequency_hz=(120e6, 140e6),
    antenna=STATIONS,
    directions={"A": (217.0, 35.0)},  # noqa: B006 (never changed)
    polarization=("XX", "YY"),
    phase_rad=0.0,
    amplitude=1.0,
    weight=1.0,
    seed=None,
) -> Solset:
    """Make a table of constant, or (with a seed) random, gains."""
    shape = (len(time_s), len(frequency_hz), len(antenna), len(directions), len(polarization))
    neutral = neutral_amplitude(shape)
    phases, amplitudes = np.broadcast_to(phase_rad, shape), neutral * amplitude
    if seed is not None:
        rng = np.random.default_rng(seed)
        phases, amplitudes = rng.uniform(-3, 3, shape), rng.uniform(0.5, 2, shape)
    weights = np.array(np.broadcast_to(weight, shape), dtype=float)
    return Solset(
        time_s=np.array(time_s, dtype=float),
        frequency_hz=np.array(frequency_hz, dtype=float),
        antenna=tuple(antenna),
        position_m=np.arange(3.0 * len(antenna)).reshape(-1, 3) + 3.8e6,
        direction=tuple(directions),
        direction_rad=np.deg2rad(np.array(list(directions.values()), dtype=float)),
        polarization=tuple(polarization),
        phase_rad=np.where(weights > 0, phases, 0.0),
        amplitude=np.where(weights > 0, amplitudes, neutral),
        weight=weights,
    )


def flagged(table: Solset, *, station: str, times=slice(None)) -> Solset:
    """Take the solutions of a station away."""
    i = table.antenna.index(station)
    arrays = {n: getattr(table, n).copy() for n in ("phase_rad", "amplitude", "weight")}
    arrays["weight"][times, :, i] = 0.0
    arrays["phase_rad"][times, :, i] = 0.0
    arrays["amplitude"][times, :, i] = neutral_amplitude(table.shape)[times, :, i]
    return replace(table, **arrays)


def jones(seed: int) -> Solset:
    """Make a table of random Jones matrices, well conditioned."""
    rng = np.random.default_rng(seed)
    table = solset(polarization=FULL_JONES, seed=seed)
    leak = np.where([False, True, True, False], rng.uniform(0, 0.2, table.shape), table.amplitude)
    return replace(table, amplitude=leak)


def with_tec(seed: int = 3, **options):
    """Make a table of TECs, of what is left of the phases, and of amplitudes."""
    table = flagged(solset(seed=seed, **options), station=STATIONS[2], times=1)
    tec = np.random.default_rng(seed).uniform(-0.5, 0.5, (*table.shape[::2][:2], table.shape[3]))
    tec[1, 2] = 0.0  # not known
    return replace(table, tec_tecu=tec)
