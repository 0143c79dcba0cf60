"""Tables of constants and of a common phase: their product is the table they are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.gains.caltable_writer import write_caltable
from libs.gains.factor_tables import split_factors, write_factor_tables
from libs.gains.gain_solutions import GainSolutions
from libs.gains.native import NativeSolver
from libs.gains.solver import AppliedTable
from libs.ms.columns import ensure_data_column
from libs.ms.summary import describe_ms
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms


def phases(seed: int, times: int, windows: int, antennas: int, flagged: float = 0.0,
           parts: int = 1) -> tuple[GainSolutions, np.ndarray]:  # fmt: skip
    """Products of constants of each part, window and hand with a common phase, some flagged."""
    rng = np.random.default_rng(seed)
    span = np.arange(times) * parts // times
    constant = rng.uniform(-np.pi, np.pi, (parts, windows, antennas, 2))
    common = rng.uniform(-np.pi, np.pi, (times, 1, antennas, 1))
    gain = np.exp(1j * (constant[span] + common))
    flag = rng.random(gain.shape) < flagged
    solutions = GainSolutions(
        time_s=100.0 * np.arange(times), interval_s=np.full(times, 100.0),
        frequency_hz=1e9 * (1 + np.arange(windows)), spw=np.arange(windows),
        antenna=tuple(f"A{n}" for n in range(antennas)), position_m=np.zeros((antennas, 3)),
        polarization=("R", "L"), gain=np.where(flag, 1, gain), flag=flag,
        snr=np.where(flag, 0, rng.uniform(3, 9, gain.shape)),
    )  # fmt: skip
    return solutions, span


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(4, 9), st.integers(1, 3), st.integers(1, 2))
def test_the_product_of_the_factors_is_the_gain(
    seed: int, times: int, windows: int, parts: int
) -> None:
    solutions, span = phases(seed, times, windows, 4, flagged=0.1, parts=parts)
    found = split_factors(solutions, span)
    apart = np.abs(found.constants.time_s[:, None] - solutions.time_s)
    nearest = apart.argmin(axis=0)
    product = found.constants.gain[nearest] * found.common.gain
    lost = found.constants.flag[nearest] | found.common.flag
    # a window that never meets the reference while both are good stays unknown
    good = ~solutions.flag & ~lost
    overlap = _overlaps(solutions, span)[span]
    good &= overlap
    np.testing.assert_allclose(product[good], solutions.gain[good], atol=1e-9)
    assert good.any()


def _overlaps(solutions: GainSolutions, span: np.ndarray) -> np.ndarray:
    """Where all windows and hands of an antenna and part share an unflagged time."""
    found = np.zeros((int(span.max()) + 1, *solutions.shape[1:]), bool)
    for number in range(len(found)):
        whole = (~solutions.flag[span == number]).all(axis=(1, 3))
        found[number] = whole.any(axis=0)[None, :, None]
    return found


def test_applied_in_turn_they_correct_as_the_table_does(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", times=6, noise_jy=0.1)
    ensure_data_column(ms, "CORRECTED_DATA", copy="DATA")
    summary = describe_ms(ms)
    solutions, _ = phases(1, 6, 1, len(summary.antenna))
    with open_table(ms) as opened:
        times = np.unique(opened.getcol("TIME"))
    solutions = GainSolutions(
        times, np.full(6, 10.0), np.array([summary.frequency_hz[0].mean()]), np.zeros(1, np.int64),
        summary.antenna, summary.position_m, ("R", "L"), solutions.gain, solutions.flag,
        solutions.snr,
    )  # fmt: skip
    write_caltable(tmp_path / "both", solutions, ms)
    assert write_factor_tables(tmp_path / "both", ms, tmp_path / "one", tmp_path / "two") == 0
    results = []
    for tables in (["both"], ["one", "two"]):
        interp = {"one": "nearest"}
        applied = [AppliedTable(tmp_path / t, (), interp.get(t, "linear")) for t in tables]
        NativeSolver().apply(ms, applied)
        with open_table(ms) as opened:
            results.append(opened.getcol("CORRECTED_DATA"))
    assert np.abs(results[0] - results[1]).max() < 1e-6 * np.abs(results[0]).max()
    with open_table(ms) as opened:
        assert np.abs(results[0] - opened.getcol("DATA")).max() > 0.1


@pytest.mark.parametrize("parts", [1, 2])
def test_constants_are_at_both_ends_of_each_part(parts: int) -> None:
    solutions, span = phases(2, 8, 2, 3, parts=parts)
    found = split_factors(solutions, span)
    ends = [0, 7] if parts == 1 else [0, 3, 4, 7]
    assert found.constants.time_s.tolist() == solutions.time_s[ends].tolist()
    assert found.common.shape == (8, 1, 3, 1)
