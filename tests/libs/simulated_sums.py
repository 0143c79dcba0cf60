"""Normal equations of simulated data, made in memory from known gains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from libs.gains.normal_equations import NormalEquations

INTEGRATION_S = 10.0


def sums_of(
    gain: NDArray[np.complex128],
    noise_jy: float,
    rng: np.random.Generator,
    *,
    source_jy: float = 1.0,
    frequency_hz: NDArray[np.float64] | None = None,
    spw: NDArray[np.int64] | None = None,
    scans: int = 1,
) -> NormalEquations:
    """Return the sums of a point source seen through gains (ntime, nblock, nant, npol).

    The model is 1 Jy, the source ``source_jy`` (0: the data are noise). Noise is per real and
    imaginary part of the average of one baseline, integration, block and polarization.
    """
    ntime, nblock, nant, npol = gain.shape
    one, two = np.triu_indices(nant, 1)
    vis = source_jy * gain[:, :, one] * gain[:, :, two].conj()
    vis = vis + noise_jy * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))
    weight = np.full(vis.shape, noise_jy**-2.0)
    scan = 1 + np.arange(ntime) * scans // ntime
    angle = 2 * np.pi * np.arange(nant) / nant
    return NormalEquations(
        time_s=5e9 + INTEGRATION_S * np.arange(ntime) + 600.0 * (scan - 1),
        interval_s=np.full(ntime, INTEGRATION_S), scan=scan, field=np.zeros(ntime, np.int64),
        observation=np.zeros(ntime, np.int64),
        frequency_hz=5e9 + 1e8 * np.arange(nblock) if frequency_hz is None else frequency_hz,
        spw=np.arange(nblock) if spw is None else spw,
        antenna=tuple(f"A{i}" for i in range(nant)),
        position_m=1e3 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1),
        antenna1=one, antenna2=two, polarization=("R", "L")[:npol], vis=vis * weight,
        weight=weight, time_weight=weight.sum(axis=(1, 2, 3)),
    )  # fmt: skip


def walk(
    rng: np.random.Generator, ntime: int, nant: int, step_rad: float
) -> NDArray[np.complex128]:
    """Phases that walk, the same in all blocks and polarizations: (ntime, 1, nant, 1)."""
    start = rng.uniform(-np.pi, np.pi, nant)
    return np.exp(1j * (start + np.cumsum(rng.normal(0, step_rad, (ntime, nant)), axis=0)))[
        :, None, :, None
    ]


def repeated(gain: NDArray[np.complex128], nblock: int, npol: int) -> NDArray[np.complex128]:
    """Return gains for so many blocks and polarizations."""
    ntime, _, nant, _ = gain.shape
    return np.broadcast_to(gain, (ntime, nblock, nant, npol)).copy()
