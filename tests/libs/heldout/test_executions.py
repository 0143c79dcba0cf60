"""Offsets between executions: known ones are found, errors of antennas do not pass for them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.heldout.executions import ExecutionSums, measure_offset

ANTENNAS, TIMES, BLOCKS = 12, 20, 4
BEAM_ARCSEC = 0.5


def execution(
    seed: int,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    noise: float = 0.02,
    phase_deg: float = 0.0,
    amplitude: float = 0.0,
) -> ExecutionSums:
    """Sums against a point of 1 Jy, with errors of antennas that last the whole execution."""
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(ANTENNAS, 1)
    place = rng.normal(0, 1, (ANTENNAS, 2))
    angle = np.linspace(0, 2, TIMES)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    base = np.einsum("xyt,by->tbx", turn, place[second] - place[first])
    per_rad = 2.355 / (2 * np.pi * BEAM_ARCSEC * np.pi / 648000) / np.sqrt(2)
    frequency = 1 + 0.05 * np.arange(BLOCKS)
    uv = per_rad * base[:, None] * frequency[None, :, None, None]
    gain = np.exp(rng.normal(0, amplitude, ANTENNAS) + 1j * np.deg2rad(phase_deg)
                  * rng.normal(0, 1, ANTENNAS))  # fmt: skip
    shape = (*uv.shape[:3], 2)
    phase = 2 * np.pi * (uv @ np.asarray(offset))
    signal = scale * np.exp(1j * phase) * (gain[first] * np.conj(gain[second]))
    hiss = noise * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
    return ExecutionSums(signal[..., None] + hiss, np.ones(shape), uv, first, second)


def arcsec(*values: float) -> tuple[float, ...]:
    return tuple(value * np.pi / 648000 for value in values)


def test_a_known_offset_and_scale_are_found() -> None:
    moved = execution(2, offset=arcsec(0.12, -0.09), scale=1.1)  # type: ignore[arg-type]
    found = measure_offset(execution(1), moved)
    np.testing.assert_allclose(found.offset_rad, arcsec(0.12, -0.09), atol=arcsec(0.002)[0])
    assert found.scale == pytest.approx(1.1, rel=0.01)
    assert found.moved and found.scaled


@pytest.mark.parametrize("seed", range(3, 9))
def test_executions_that_agree_are_left_alone(seed: int) -> None:
    found = measure_offset(execution(seed), execution(seed + 100))
    assert not found.moved and not found.scaled


@pytest.mark.parametrize("seed", range(20, 26))
def test_errors_of_antennas_do_not_pass_for_an_offset(seed: int) -> None:
    one = execution(seed, phase_deg=40, amplitude=0.1)
    two = execution(seed + 100, phase_deg=40, amplitude=0.1)
    found = measure_offset(one, two)
    assert not found.moved and not found.scaled


def test_the_scale_of_one_frequency_comes_from_neighbouring_times() -> None:
    def narrow(sums: ExecutionSums) -> ExecutionSums:
        cut: dict[str, NDArray[np.generic]] = {
            name: getattr(sums, name)[:, :1] for name in ("vis", "weight", "uv_wavelengths")
        }
        return dataclasses.replace(sums, **cut)

    found = measure_offset(narrow(execution(1)), narrow(execution(2, scale=0.9)))
    assert found.scale == pytest.approx(0.9, rel=0.02)
    assert found.scaled


def test_noise_alone_has_no_scale() -> None:
    found = measure_offset(execution(1, scale=0.0, noise=1.0), execution(2, scale=0.0, noise=1.0))
    assert not found.moved and not found.scaled
