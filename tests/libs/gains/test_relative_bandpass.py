"""Bandpasses made relative: what is left out, and what is not touched."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from libs.gains.gain_solutions import GainSolutions
from libs.gains.relative_bandpass import block_groups, finish_relative_bandpass, made_relative

SPW = np.repeat([2, 5], [6, 4])


def drawn(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (1, len(SPW), 7, 2)
    return np.exp(0.2 * rng.standard_normal(shape) + 0.4j * rng.standard_normal(shape))


@given(st.integers(0, 2**31))
def test_neither_spectra_of_the_source_nor_gains_of_windows_are_taken(seed: int) -> None:
    gain, good = drawn(seed), np.ones((1, len(SPW), 7, 2), bool)
    found = made_relative(gain, good, SPW)
    rng = np.random.default_rng(seed + 1)
    line = np.exp(rng.standard_normal((1, len(SPW), 1, 2)))
    window = np.exp(rng.standard_normal((2, 7, 2)) + 1j * rng.standard_normal((2, 7, 2)))
    other = made_relative(gain * line * window[block_groups(SPW, 99)], good, SPW)
    np.testing.assert_allclose(other, found)
    np.testing.assert_allclose(made_relative(found, good, SPW), found, err_msg="done twice")
    np.testing.assert_allclose(np.log(np.abs(found)).mean(axis=2), 0, atol=1e-12)
    for one in (2, 5):
        mean = found[:, one == SPW] / np.abs(found[:, one == SPW])
        np.testing.assert_allclose(np.angle(mean.sum(axis=1)), 0, atol=1e-12)


def test_blocks_are_grouped_within_windows() -> None:
    assert block_groups(SPW, 4).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert block_groups(SPW, 1).tolist() == list(range(10))


def test_an_antenna_without_a_bandpass_is_left_as_it_came() -> None:
    gain = drawn(3)
    flag = np.zeros(gain.shape, bool)
    flag[:, SPW == 2, 4] = True
    flag[:, 1, 0] = True
    solutions = GainSolutions(
        np.zeros(1), np.ones(1), 1e9 + 1e6 * np.arange(len(SPW)), SPW,
        tuple("ABCDEFG"), np.zeros((7, 3)), ("X", "Y"), gain, flag, np.where(flag, 0.0, 9.0),
    )  # fmt: skip
    found = finish_relative_bandpass(solutions)
    assert found.flag.sum() == 2 and found.flag[:, 1, 0].all(), "interpolated when applied"
    np.testing.assert_array_equal(found.gain[:, SPW == 2, 4], 1)
    assert (found.snr[:, SPW == 2, 4] > 0).all()
