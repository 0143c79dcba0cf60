"""Bandpasses made relative and filled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.gains.bandpass import fill_gaps, finish_bandpass, relative_bandpass
from libs.gains.caltable import read_caltable
from libs.gains.native import NativeSolver
from libs.gains.solution_interval import PER_SCAN
from libs.gains.solver import SolveOptions
from libs.ms.columns import ensure_data_column
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, Source, SpectralWindow
from libs.simulation.session import SessionErrors, SessionField, simulate_session

HZ = 1.4e9 + 1e6 * np.arange(40)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1), factor=st.complex_numbers(min_magnitude=0.1, max_magnitude=9)
)
def test_a_common_factor_does_not_matter(seed: int, factor: complex) -> None:
    rng = np.random.default_rng(seed)
    gain = rng.normal(size=(3, 40, 2)) + 1j * rng.normal(size=(3, 40, 2))
    flag = rng.random((3, 40, 2)) < 0.3
    one, size = relative_bandpass(gain, flag)
    other, scaled = relative_bandpass(gain * factor, flag)
    assert np.abs(one - other)[~flag].max() < 1e-9
    assert scaled == pytest.approx(size * abs(factor))
    power = np.where(flag, 0, np.abs(one) ** 2).sum(axis=1) / (~flag).sum(axis=1)
    assert power == pytest.approx(np.ones((3, 2)))


def test_gaps_are_filled_and_edges_are_not() -> None:
    size = 1 + 0.01 * np.arange(40)
    gain = (size * np.exp(0.05j * np.arange(40)))[None, :, None].repeat(2, axis=2)
    flag = np.zeros(gain.shape, bool)
    flag[0, [10, 11, 12, 30], 0] = True
    flag[0, :3, :] = flag[0, 38:, :] = True
    flag[0, :, 1] = True
    spoilt = np.where(flag, 7.0, gain)
    filled, left = fill_gaps(spoilt, flag, HZ)
    assert not left[0, 3:38, 0].any() and left[0, :3, 0].all() and left[0, 38:, 0].all()
    assert left[0, :, 1].all()
    assert np.abs(filled - gain)[0, 3:38, 0].max() < 1e-9


def test_a_ripple_of_a_tenth_is_found_to_half_a_per_cent(tmp_path: Path) -> None:
    observation = Observation(
        load_configuration("vla.d"), (0, 0), 5.0e9, 10.0, 60.0,
        (SpectralWindow(1.4e9, 64e6, 32), SpectralWindow(1.6e9, 64e6, 16)), noise_jy=0.1,
    )  # fmt: skip
    field = SessionField("a", (85.0, 49.0), (Source(15.0),), (0.0,), 120.0)
    made = simulate_session(
        tmp_path / "a.ms", observation, [field],
        SessionErrors(ripple=0.1, amplitude=0.2, drift_deg_h=10.0), seed=5,
    )  # fmt: skip
    ensure_data_column(made.ms, "MODEL_DATA", copy="DATA")
    with open_table(made.ms, write=True) as opened:
        for row in range(opened.nrows()):
            shape = opened.getcell("DATA", row).shape
            opened.putcell("MODEL_DATA", row, np.full(shape, 15 + 0j))
            if opened.getcell("DATA_DESC_ID", row) == 0:  # interference in some channels
                flag = np.zeros(shape, bool)
                flag[[0, 9, 10]] = True
                opened.putcell("FLAG", row, flag)
    first = observation.array.name[0]
    options = SolveOptions(
        PER_SCAN, frozenset({"scan"}), calmode="ap", refant=(first,), channels_per_block=1
    )
    NativeSolver().solve(made.ms, tmp_path / "a.B0", options)
    done = finish_bandpass(tmp_path / "a.B0")
    cells = 48 * len(observation.array) * 2
    assert done.filled == pytest.approx(2 * len(observation.array) * 2 / cells)
    assert done.flagged == pytest.approx(len(observation.array) * 2 / cells)
    table = read_caltable(tmp_path / "a.B0")
    assert table.kind == "B Jones"
    for spw, part in table.spws.items():
        good = ~part.flag[0]
        true = made.bandpass[spw]
        # what was solved, not filled, is what it is relative to
        solved = np.ones(len(true), bool)
        if spw == 0:
            solved[[0, 9, 10]] = False
        true = true / np.sqrt((np.abs(true[solved]) ** 2).mean(axis=0))
        assert np.abs(np.abs(part.gain[0]) / np.abs(true) - 1)[good].max() < 0.005
        turn = part.gain[0] / true
        turn = turn * turn[:, :1].conj()
        turn = turn / np.exp(1j * np.angle(turn[solved].mean(axis=0)))
        assert np.abs(np.angle(turn))[good].max() < 0.01
