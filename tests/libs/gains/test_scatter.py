"""Scatter of gains tells how far they may have moved the sky and scaled its fluxes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from libs.core.coordinates import antenna_uvw
from libs.core.geometry import ARCSEC_PER_RAD, SPEED_OF_LIGHT_M_S
from libs.gains.gain_solutions import GainSolutions
from libs.gains.scatter import gain_freedom

HZ = 5e9
DIRECTION = (1.0, 0.6)
TIMES = 5.1e9 + 600.0 * np.arange(12)


def _table(gain_of_antenna: np.ndarray, rng: np.random.Generator) -> GainSolutions:
    """Constant gains of 20 antennas within 10 km."""
    nant = len(gain_of_antenna)
    place = np.array([-1.6e6, -5.04e6, 3.55e6]) + rng.uniform(-5e3, 5e3, (nant, 3))
    shape = (len(TIMES), 1, nant, 1)
    return GainSolutions(
        TIMES, np.full(len(TIMES), 600.0), np.array([HZ]), np.array([0]),
        tuple(f"A{n:02d}" for n in range(nant)), place, ("I",),
        np.broadcast_to(gain_of_antenna[None, None, :, None], shape).astype(complex),
        np.zeros(shape, bool), np.full(shape, 10.0),
    )  # fmt: skip


def _shift_arcsec(table: GainSolutions) -> float:
    """East shift of the sky by the table's gains, by least squares over its antennas."""
    uvw = antenna_uvw(table.position_m, DIRECTION, TIMES) * HZ / SPEED_OF_LIGHT_M_S
    x = 2 * math.pi * (uvw - uvw.mean(axis=1, keepdims=True))[..., :2].reshape(-1, 2)
    phase = np.angle(table.gain[:, 0, :, 0])
    phase = (phase - phase.mean(axis=1, keepdims=True)).ravel()
    return float(np.linalg.lstsq(x, phase, rcond=None)[0][0]) * ARCSEC_PER_RAD


def test_position_moves_by_as_much_as_is_said() -> None:
    rng = np.random.default_rng(3)
    pulls = []
    for _ in range(200):
        table = _table(np.exp(1j * rng.normal(0.0, 0.3, 20)), rng)
        pulls.append(_shift_arcsec(table) / gain_freedom([table], DIRECTION).east_arcsec)
    assert 0.85 < float(np.std(pulls)) < 1.25


def test_flux_scale_moves_by_as_much_as_is_said() -> None:
    rng = np.random.default_rng(4)
    pulls = []
    for _ in range(300):
        amplitude = np.exp(rng.normal(0.0, 0.05, 20))
        freedom = gain_freedom([_table(amplitude, rng)], DIRECTION)
        pulls.append(2 * np.log(amplitude).mean() / freedom.flux_scale)
        assert freedom.east_arcsec == 0.0
    assert 0.85 < float(np.std(pulls)) < 1.2


def test_nothing_solved_leaves_nothing_open() -> None:
    freedom = gain_freedom([], DIRECTION)
    assert (freedom.east_arcsec, freedom.north_arcsec, freedom.flux_scale) == (0.0, 0.0, 0.0)


def test_two_tables_of_the_same_antennas_add_up() -> None:
    rng = np.random.default_rng(7)
    phases = rng.normal(0.0, 0.1, 20)
    seed = np.random.default_rng(8)
    half = _table(np.exp(0.5j * phases), np.random.default_rng(8))
    whole = _table(np.exp(1j * phases), seed)
    assert gain_freedom([half, half], DIRECTION).east_arcsec == pytest.approx(
        gain_freedom([whole], DIRECTION).east_arcsec, rel=1e-6
    )
