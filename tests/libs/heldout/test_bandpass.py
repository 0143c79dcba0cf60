"""Bandpasses chosen by held-out data where there are some, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.gains.normal_equations import NormalEquations
from libs.heldout.bandpass import choose_bandpass

NANT, NCHAN = 12, 16
SPW = np.repeat([0, 1], NCHAN)
HZ = np.concatenate([1.4e9 + 1e6 * np.arange(NCHAN), 1.6e9 + 1e6 * np.arange(NCHAN)])


def sums_of(
    gain: NDArray[np.complex128], noise: float, seed: int, line: NDArray[np.float64] | None = None
) -> NormalEquations:
    """Sums of a point of 1 Jy in scans, (nscan, nchan, nant, npol) gains; ``line`` (nchan,)."""
    rng = np.random.default_rng(seed)
    p, q = np.triu_indices(NANT, 1)
    vis = gain[:, :, p] * gain[:, :, q].conj()
    if line is not None:
        vis = vis * line[None, :, None, None]
    vis = vis + noise * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))
    weight = np.full(vis.shape, noise**-2)
    scans = np.arange(len(gain))
    none = 0 * scans
    return NormalEquations(
        time_s=600.0 * scans, interval_s=np.full(len(scans), 300.0), scan=scans, field=none,
        observation=none, frequency_hz=HZ, spw=SPW, antenna=tuple(f"A{i}" for i in range(NANT)),
        position_m=np.random.default_rng(0).normal(0, 1e3, (NANT, 3)), antenna1=p, antenna2=q,
        polarization=("X", "Y"), vis=vis * weight, weight=weight,
        time_weight=weight.sum(axis=(1, 2, 3)),
    )  # fmt: skip


def ripple(
    seed: int, size: float, scans: int = 3, *, steady: bool = True
) -> NDArray[np.complex128]:
    """Waves over each window, in amplitude and phase, of each antenna and polarization."""
    rng = np.random.default_rng(seed)
    wave = np.linspace(-np.pi, np.pi, NCHAN)[None, :, None, None]
    shape = (1 if steady else scans, 1, NANT, 2)
    parts = [
        1 + size * np.exp(1j * (wave + rng.uniform(0, 2 * np.pi, shape))) for _ in range(2)
    ]  # fmt: skip
    return np.asarray(np.broadcast_to(np.concatenate(parts, axis=1), (scans, 32, NANT, 2)))


@pytest.mark.parametrize("seed", range(3))
def test_a_ripple_is_found(seed: int) -> None:
    choice = choose_bandpass(sums_of(ripple(seed, 0.1), 0.3, 50 + seed))
    assert choice.best is not None, choice.reason
    assert choice.best.solution == "bandpass" and choice.best.combine_scan
    assert (choice.best.calmode, choice.best.gaintype) == ("ap", "G")
    assert 1 <= choice.best.channels_per_block <= 4, "waves as long as a window"


def test_phases_alone_are_chosen_where_amplitudes_are_flat() -> None:
    gain = np.exp(1j * np.angle(ripple(5, 0.3)))
    choice = choose_bandpass(sums_of(gain, 0.5, 6))
    assert choice.best is not None and choice.best.calmode == "p"


def test_one_for_each_scan_where_it_changes() -> None:
    choice = choose_bandpass(sums_of(ripple(7, 0.2, steady=False), 0.2, 8))
    assert choice.best is not None and not choice.best.combine_scan


@pytest.mark.parametrize("seed", range(25))
def test_none_is_found_where_there_is_none(seed: int) -> None:
    flat = np.ones((3, 32, NANT, 2), np.complex128)
    choice = choose_bandpass(sums_of(flat, float(10 ** (-1 + seed / 10)), 200 + seed))
    assert choice.best is None and choice.sigma < 3, choice.reason


def test_a_line_of_the_source_is_no_bandpass() -> None:
    line = 1 + 3.0 * (np.arange(32) == 9)
    flat = np.ones((3, 32, NANT, 2), np.complex128)
    choice = choose_bandpass(sums_of(flat, 0.3, 9, line))
    assert choice.best is None, choice.reason
