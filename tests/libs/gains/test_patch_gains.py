"""Solutions of incoherent antennas replaced: by those of a longer interval, or by none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from libs.gains.gain_solutions import GainSolutions
from libs.gains.patch_gains import keep_coherent

NAMES = ("CS001", "CS002", "DE601", "SE607")


def solutions(gain: np.ndarray, interval_s: float, start_s: float = 0.0) -> GainSolutions:
    ntime, nfreq, nant, npol = gain.shape
    return GainSolutions(
        time_s=5e9 + start_s + interval_s * (np.arange(ntime) + 0.5),
        interval_s=np.full(ntime, interval_s), frequency_hz=1.4e8 + 1e6 * np.arange(nfreq),
        spw=np.arange(nfreq), antenna=NAMES[:nant], position_m=np.zeros((nant, 3)),
        polarization=("X", "Y")[:npol], gain=gain.astype(complex),
        flag=np.zeros(gain.shape, bool), snr=np.full(gain.shape, 7.0),
    )  # fmt: skip


@pytest.fixture
def noisy(rng: np.random.Generator) -> GainSolutions:
    return solutions(np.exp(1j * rng.uniform(-3, 3, (12, 2, 4, 2))), 10.0)


def test_without_lost_antennas_nothing_changes(noisy: GainSolutions) -> None:
    kept = keep_coherent(noisy, (), {})
    np.testing.assert_array_equal(kept.gain, noisy.gain)
    np.testing.assert_array_equal(kept.flag, noisy.flag)


def test_an_antenna_that_came_without_solutions_is_flagged(noisy: GainSolutions) -> None:
    kept = keep_coherent(noisy, ["SE607"], {}, ["DE601"])
    assert kept.flag[:, :, 3].all() and not kept.flag[:, :, :3].any()
    assert (kept.gain[:, :, 3] == 1).all() and (kept.snr[:, :, 3] == 0).all()


def test_an_antenna_that_came_corrected_gets_gains_of_1(noisy: GainSolutions) -> None:
    flagged = replace(noisy, flag=np.broadcast_to(np.arange(4)[:, None] == 3, noisy.shape).copy())
    kept = keep_coherent(flagged, ["SE607"], {}, ["SE607"])
    assert (kept.gain[:, :, 3] == 1).all()
    assert not kept.flag[:, :, 3].any(), "its data stay"
    assert (kept.snr[:, :, 3] == 0).all()
    np.testing.assert_array_equal(kept.gain[:, :, :3], noisy.gain[:, :, :3])
    assert (flagged.flag[:, :, 3]).all(), "what came in is left alone"


def test_longer_solutions_are_interpolated_in_phase_and_amplitude(noisy: GainSolutions) -> None:
    """A phase that turns evenly through +-pi, and an amplitude that grows evenly."""
    # solved every 40 s, asked for every 10 s; phase 0.05 rad/s, amplitude 1 + 0.001 /s
    middle_s = 40.0 * (np.arange(3) + 0.5)
    one = (1 + 1e-3 * middle_s) * np.exp(1j * (2.0 + 0.05 * middle_s))
    longer = solutions(np.broadcast_to(one[:, None, None, None], (3, 2, 4, 2)).copy(), 40.0)
    kept = keep_coherent(noisy, ["DE601"], {"DE601": longer})
    asked_s = 10.0 * (np.arange(12) + 0.5)
    held_s = np.clip(asked_s, middle_s[0], middle_s[-1])
    expected = (1 + 1e-3 * held_s) * np.exp(1j * (2.0 + 0.05 * held_s))
    for block in range(2):
        for pol in range(2):
            np.testing.assert_allclose(kept.gain[:, block, 2, pol], expected, atol=1e-12)
    assert (kept.snr[:, :, 2] == 7).all() and not kept.flag[:, :, 2].any()
    others = [0, 1, 3]
    np.testing.assert_array_equal(kept.gain[:, :, others], noisy.gain[:, :, others])


def test_flagged_solutions_of_the_longer_interval_are_left_out(noisy: GainSolutions) -> None:
    gain = np.ones((3, 2, 4, 2), complex)
    gain[1] = 100.0
    flag = np.zeros(gain.shape, bool)
    flag[1] = True
    longer = replace(solutions(gain, 40.0), flag=flag)
    kept = keep_coherent(noisy, ["DE601"], {"DE601": longer})
    np.testing.assert_allclose(kept.gain[:, :, 2], 1.0)
    nothing = replace(longer, flag=np.ones(gain.shape, bool))
    kept = keep_coherent(noisy, ["DE601"], {"DE601": nothing})
    np.testing.assert_array_equal(kept.gain[:, :, 2], 1.0)


def test_each_lost_antenna_has_its_own_source(noisy: GainSolutions) -> None:
    longer = {
        name: solutions(np.full((3, 2, 4, 2), value), 40.0)
        for name, value in (("CS002", 1j), ("SE607", -1j))
    }
    kept = keep_coherent(noisy, ["CS002", "DE601", "SE607"], longer)
    for place, value in ((1, 1j), (2, 1), (3, -1j)):
        np.testing.assert_allclose(kept.gain[:, :, place], value, atol=1e-12)


def test_antennas_are_matched_by_name(noisy: GainSolutions) -> None:
    longer = solutions(np.ones((3, 2, 2, 2)) * np.array([1j, -1])[:, None], 40.0)
    longer = replace(longer, antenna=("SE607", "CS001"))
    kept = keep_coherent(noisy, ["SE607"], {"SE607": longer})
    np.testing.assert_allclose(kept.gain[:, :, 3], 1j, atol=1e-12)


def test_solves_of_other_shape_are_refused(noisy: GainSolutions) -> None:
    for shape in ((3, 1, 4, 2), (3, 2, 4, 1)):
        with pytest.raises(ValueError, match="DE601 differ in blocks or polarizations"):
            keep_coherent(noisy, ["DE601"], {"DE601": solutions(np.ones(shape), 40.0)})
