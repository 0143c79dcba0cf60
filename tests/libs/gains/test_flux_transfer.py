"""Fluxes carried over by gains of known size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.gains.caltable import read_caltable
from libs.gains.caltable_writer import write_caltable
from libs.gains.flux_transfer import mean_flux, transfer_flux
from libs.gains.gain_solutions import GainSolutions
from libs.ms.subtables import Subtables
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, SpectralWindow, simulate


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measurement set of two windows whose antennas and windows tables refer to."""
    observation = Observation(
        load_configuration("vla.d"), (85.0, 49.0), 5.0e9, 30.0, 30.0,
        (SpectralWindow(1.4e9, 64e6), SpectralWindow(1.6e9, 64e6)),
    )  # fmt: skip
    return simulate(tmp_path_factory.mktemp("flux") / "a.ms", observation, [], perfect=False).ms


def solutions(ms: Path, flux_jy: float, scatter: float, lost: slice, seed: int) -> GainSolutions:
    """Gains on a reference at two times and, root of the flux larger, on another field at two."""
    found = Subtables(ms)
    rng = np.random.default_rng(seed)
    nant = len(found.antennas)
    size = rng.uniform(0.5, 2.0, (1, 2, nant, 2)) * np.ones((4, 1, 1, 1))
    size[2:] *= np.sqrt(flux_jy) * (1 + scatter * rng.normal(size=(2, 2, nant, 2)))
    gain = size * np.exp(1j * rng.uniform(-3, 3, size.shape))
    flag = np.zeros(gain.shape, bool)
    flag[2:, :, lost] = True
    return GainSolutions(
        5e9 + 100.0 * np.arange(4), np.full(4, 30.0), np.array([1.4e9, 1.6e9]), np.arange(2),
        found.antenna_names, found.position_m, ("R", "L"), gain, flag,
        np.where(flag, 0, 100.0),
    )  # fmt: skip


def write(path: Path, ms: Path, made: GainSolutions) -> None:
    field = np.array([0, 0, 1, 1])
    zero = np.zeros(4, np.int64)
    write_caltable(path, made, ms, scan=np.arange(4), field=field, observation=zero)


@pytest.mark.parametrize("seed", range(3))
def test_the_flux_is_the_squared_ratio_of_gains(empty: Path, tmp_path: Path, seed: int) -> None:
    made = solutions(empty, 2.5, 0.01, slice(0, 3), seed)
    write(tmp_path / "G1", empty, made)
    fluxes = transfer_flux(tmp_path / "G1", tmp_path / "G1flux", [0], {"phase": [1]})
    assert [(one.spw, one.gains) for one in fluxes] == [(0, 48), (1, 48)]
    for one in fluxes:
        assert one.flux_jy == pytest.approx(2.5, rel=0.01)
        assert abs(one.flux_jy - 2.5) < 5 * one.error_jy
        # 2 % of scatter a gain squared, two times, 48 gains
        assert one.error_jy == pytest.approx(2.5 * 0.02 / np.sqrt(2 * 48) * 1.25, rel=0.5)
    both = mean_flux(fluxes)
    assert both.spw == -1 and both.error_jy < fluxes[0].error_jy
    scaled, before = read_caltable(tmp_path / "G1flux"), read_caltable(tmp_path / "G1")
    for spw, one in zip(scaled.spws, fluxes, strict=True):
        assert np.abs(scaled.spws[spw].gain[:2] - before.spws[spw].gain[:2]).max() == 0
        ratio = before.spws[spw].gain[2:] / scaled.spws[spw].gain[2:]
        good = ~before.spws[spw].flag[2:]
        assert np.abs(ratio[good] - np.sqrt(one.flux_jy)).max() < 1e-5


def test_without_a_common_antenna_there_is_no_flux(empty: Path, tmp_path: Path) -> None:
    write(tmp_path / "G1", empty, solutions(empty, 2.5, 0.0, slice(None), 0))
    with pytest.raises(InputError, match="no antenna has gains on phase and on the flux"):
        transfer_flux(tmp_path / "G1", tmp_path / "G1flux", [0], {"phase": [1]})
