"""The gain solver on sums made from known gains: no tools, no measurement sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from libs.gains.native_solve import GainFit, solve_gains
from libs.gains.normal_equations import NormalEquations
from libs.gains.referencing import refant_choices, reference_phases
from libs.gains.solution_interval import PER_SCAN, SolutionInterval


def known_gains(
    rng: np.random.Generator, shape: tuple[int, ...], amplitude: float = 0.3
) -> NDArray[np.complex128]:
    size = 1 + amplitude * rng.uniform(-1, 1, shape)
    return size * np.exp(1j * rng.uniform(-np.pi, np.pi, shape))


def sums_of(
    gain: NDArray[np.complex128], noise: float = 0.0, rng: np.random.Generator | None = None
) -> NormalEquations:
    """Normal equations of a 1 Jy point source seen with gains (ntime, nblock, nant, npol)."""
    ntime, nblock, nant, npol = gain.shape
    p, q = np.triu_indices(nant, 1)
    vis = gain[:, :, p] * gain[:, :, q].conj()
    if noise:
        assert rng is not None
        vis = vis + noise * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))
    weight = np.full(vis.shape, noise**-2 if noise else 1.0)
    return NormalEquations(
        time_s=1e9 + 10.0 * np.arange(ntime), interval_s=np.full(ntime, 10.0),
        scan=np.ones(ntime, np.int64), field=np.zeros(ntime, np.int64),
        observation=np.zeros(ntime, np.int64), frequency_hz=1e9 + 1e8 * np.arange(nblock),
        spw=np.arange(nblock), antenna=tuple(f"A{i}" for i in range(nant)),
        position_m=np.arange(3.0 * nant).reshape(nant, 3), antenna1=p, antenna2=q,
        polarization=("R", "L")[:npol], vis=vis * weight, weight=weight,
        time_weight=weight.sum(axis=(1, 2, 3)),
    )  # fmt: skip


def solve(sums: NormalEquations, **how: object) -> GainFit:
    return solve_gains(
        sums.vis, sums.weight, sums.antenna1, sums.antenna2, len(sums.antenna), **how
    )  # type: ignore[arg-type]


def phase_error(found: NDArray[np.complex128], true: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Phases of found / true relative to the first antenna, rad."""
    ratio = found / true
    return np.abs(np.angle(ratio / ratio[:, :, :1]))


@pytest.mark.parametrize("calmode", ["p", "ap"])
def test_gains_are_found_up_to_a_common_phase(rng: np.random.Generator, calmode: str) -> None:
    true = known_gains(rng, (3, 2, 7, 2))
    fit = solve(sums_of(true), calmode=calmode)
    assert not fit.flag.any()
    assert phase_error(fit.gain, true).max() < 1e-6
    if calmode == "ap":
        np.testing.assert_allclose(np.abs(fit.gain), np.abs(true), rtol=1e-6)


def test_amplitude_only_finds_amplitudes(rng: np.random.Generator) -> None:
    true = known_gains(rng, (2, 1, 7, 2))
    fit = solve(sums_of(true), calmode="a")
    np.testing.assert_allclose(fit.gain.real, np.abs(true), rtol=1e-6)
    assert np.abs(fit.gain.imag).max() < 1e-9


def test_common_gain_for_both_polarizations_and_all_blocks(rng: np.random.Generator) -> None:
    one = known_gains(rng, (3, 1, 7, 1))
    fit = solve(
        sums_of(np.broadcast_to(one, (3, 4, 7, 2)).copy()),
        calmode="ap", gaintype="T", combine_blocks=True,
    )  # fmt: skip
    assert fit.gain.shape == (3, 1, 7, 1)
    assert phase_error(fit.gain, one).max() < 1e-6


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1), nant=st.integers(4, 12),
    scale=st.floats(0.01, 100), turn=st.floats(-3, 3),
)  # fmt: skip
def test_multiplying_data_by_gains_multiplies_the_solution(
    seed: int, nant: int, scale: float, turn: float
) -> None:
    rng = np.random.default_rng(seed)
    true = known_gains(rng, (1, 1, nant, 1))
    factor = known_gains(rng, (1, 1, nant, 1)) * scale * np.exp(1j * turn)
    before = solve(sums_of(true), calmode="ap", minblperant=2, minsnr=0).gain
    after = solve(sums_of(true * factor), calmode="ap", minblperant=2, minsnr=0).gain
    assert phase_error(after, before * factor).max() < 1e-5
    np.testing.assert_allclose(np.abs(after), np.abs(before * factor), rtol=1e-5)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 9))
def test_sums_of_short_intervals_are_those_of_long_ones(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    sums = sums_of(known_gains(rng, (12, 2, 5, 2)), 0.5, rng)
    longer = sums.binned(SolutionInterval(10.0 * count))
    assert len(longer.time_s) == -(-12 // count)
    np.testing.assert_allclose(longer.vis[0], sums.vis[:count].sum(axis=0))
    np.testing.assert_allclose(longer.vis.sum(), sums.vis.sum())
    np.testing.assert_allclose(longer.interval_s[0], 10.0 * count)
    np.testing.assert_allclose(longer.time_s[0], sums.time_s[:count].mean())


def test_binning_keeps_scans_apart_unless_combined(rng: np.random.Generator) -> None:
    sums = sums_of(known_gains(rng, (6, 1, 5, 1)))
    scans = NormalEquations(**{**vars(sums), "scan": np.array([1, 1, 1, 4, 4, 4])})
    assert scans.binned(PER_SCAN).scan.tolist() == [1, 4]
    assert len(scans.binned(PER_SCAN, combine_scan=True).time_s) == 1


def test_snr_is_that_of_the_noise(rng: np.random.Generator) -> None:
    """For unit gains and N - 1 baselines of noise sigma, phase error is sigma / sqrt(N - 1)."""
    nant, noise = 20, 0.2
    sums = sums_of(np.ones((200, 1, nant, 1), complex), noise, rng)
    fit = solve(sums, calmode="p")
    assert np.median(fit.snr) == pytest.approx(np.sqrt(nant - 1) / noise, rel=0.1)
    scatter = np.angle(fit.gain / fit.gain[:, :, :1])[:, 0, 1:, 0].std()
    assert scatter == pytest.approx(np.sqrt(2) / np.median(fit.snr), rel=0.15)


def test_snr_does_not_depend_on_the_scale_of_the_weights(rng: np.random.Generator) -> None:
    sums = sums_of(known_gains(rng, (4, 1, 8, 2)), 0.3, rng)
    scaled = NormalEquations(**{**vars(sums), "vis": sums.vis * 7, "weight": sums.weight * 7})
    np.testing.assert_allclose(solve(scaled).snr, solve(sums).snr, rtol=1e-6)


def test_noise_alone_is_flagged(rng: np.random.Generator) -> None:
    sums = sums_of(np.full((50, 1, 12, 1), 1e-6 + 0j), 1.0, rng)
    assert solve(sums, minsnr=5).flag.mean() > 0.97


def test_a_followed_antenna_is_flagged_only_where_it_falls_short_of_the_model(
    rng: np.random.Generator,
) -> None:
    """Antenna 0 resolves the source, so its model has little weight; antenna 1 sees nothing."""
    nant, noise = 12, 0.3
    gain = np.ones((100, 1, nant, 1), complex)
    gain[:, :, 1] = 1e-6
    sums = sums_of(gain, noise, rng)
    true = gain[:, :, sums.antenna1] * gain[:, :, sums.antenna2]
    model = np.where(sums.antenna1 == 0, 0.05, 1.0)[:, None]
    # the same noise on less signal; sums of w V conj(M) and of w |M|^2
    data = model * true + (sums.vis / sums.weight - true)
    faint = NormalEquations(
        **{**vars(sums), "vis": sums.weight * model * data, "weight": sums.weight * model**2}
    )
    plain = solve(faint, calmode="p", minsnr=3).flag[:, 0, :, 0].mean(axis=0)
    spared = solve(faint, calmode="p", minsnr=3, spare=[0, 1]).flag[:, 0, :, 0].mean(axis=0)
    assert plain[0] > 0.6 and plain[1] > 0.6 and plain[2:].max() == 0
    assert spared[0] == 0, "the model promises no more"
    assert spared[1] > 0.6, "the model promises signal that is not there"
    amplitude = solve(faint, calmode="ap", minsnr=3, spare=[0, 1]).flag[:, 0, 0, 0].mean()
    assert amplitude > 0.3, "noise would make its amplitude large or small"


def test_antennas_with_few_baselines_are_dropped_in_turn(rng: np.random.Generator) -> None:
    """Antenna 6 has three baselines; without it antenna 5 has only three left."""
    sums = sums_of(known_gains(rng, (1, 1, 7, 1)))
    p, q = sums.antenna1, sums.antenna2
    gone = ((q == 6) & (p < 3)) | ((q == 5) & (p < 2))
    sums.weight[:, :, gone] = 0
    sums.vis[:, :, gone] = 0
    assert not solve(sums, minblperant=3).flag.any()
    fit = solve(sums, minblperant=4)
    assert fit.flag[0, 0, :, 0].tolist() == [False] * 5 + [True] * 2
    assert fit.snr[0, 0, 5, 0] == 0
    np.testing.assert_array_equal(fit.gain[fit.flag], 1)


def test_an_interval_without_data_is_not_attempted(rng: np.random.Generator) -> None:
    sums = sums_of(known_gains(rng, (3, 1, 6, 1)))
    sums.weight[1], sums.vis[1] = 0, 0
    fit = solve(sums)
    assert fit.attempted[:, 0].tolist() == [True, False, True]
    assert fit.flag[1].all()


def test_held_out_baselines_take_no_part(rng: np.random.Generator) -> None:
    true = known_gains(rng, (1, 1, 8, 1))
    sums = sums_of(true)
    held = np.arange(len(sums.antenna1)) % 5 == 0
    sums.vis[:, :, held] = 1e6
    fit = solve(sums, calmode="ap", baseline_mask=~held)
    assert phase_error(fit.gain, true).max() < 1e-6


def test_a_gap_in_the_first_guess_does_not_matter(rng: np.random.Generator) -> None:
    """Antennas without a baseline to the first one are solved through the others."""
    true = known_gains(rng, (1, 1, 9, 1))
    sums = sums_of(true)
    gone = (sums.antenna1 == 0) & (sums.antenna2 > 5)
    sums.weight[:, :, gone], sums.vis[:, :, gone] = 0, 0
    assert phase_error(solve(sums, calmode="ap").gain, true).max() < 1e-6


def test_robust_weights_bear_outliers(rng: np.random.Generator) -> None:
    true = known_gains(rng, (20, 1, 12, 1), 0.0)
    sums = sums_of(true, 0.05, rng)
    bad = rng.random(sums.vis.shape) < 0.05
    sums.vis[bad] *= np.exp(2.5j) * 3
    plain = phase_error(solve(sums, calmode="ap", minsnr=0).gain, true)
    robust = phase_error(solve(sums, calmode="ap", minsnr=0, outlier_weights=True).gain, true)
    assert (plain > 0.2).mean() > 0.05
    assert (robust > 0.2).mean() < 0.01


def test_reference_antenna_has_phase_zero(rng: np.random.Generator) -> None:
    gain = known_gains(rng, (4, 2, 5, 2))
    flag = np.zeros(gain.shape, bool)
    turned, _, used = reference_phases(gain, flag, np.array([2, 0, 1, 3, 4]), "ap")
    assert (used == 2).all()
    assert np.abs(np.angle(turned[:, :, 2])).max() < 1e-12
    np.testing.assert_allclose(np.abs(turned), np.abs(gain))
    unit, _, _ = reference_phases(gain, flag, np.array([2, 0, 1, 3, 4]), "p")
    np.testing.assert_allclose(np.abs(unit), 1)


def test_phases_stay_continuous_when_the_reference_changes_hands() -> None:
    """Constant gains must come out constant whoever the reference is."""
    true = np.exp(1j * np.array([0.3, 1.1, -2.0, 0.7]))
    common = np.exp(1j * np.arange(6.0))  # the arbitrary phase of each solve
    gain = (common[:, None] * true)[:, None, :, None]
    flag = np.zeros(gain.shape, bool)
    flag[2:4, :, 1] = True
    turned, out, used = reference_phases(gain, flag, np.array([1, 3, 0, 2]), "ap")
    assert used[:, 0].tolist() == [1, 1, 3, 3, 3, 1]
    constant = turned[0, 0, 0, 0]
    np.testing.assert_allclose(turned[:, 0, 0, 0], constant, atol=1e-12)
    assert out[2:4, 0, 1, 0].all()


def test_an_interval_without_a_reference_is_flagged(rng: np.random.Generator) -> None:
    gain = known_gains(rng, (3, 1, 3, 1))
    flag = np.zeros(gain.shape, bool)
    flag[1] = True
    _, out, used = reference_phases(gain, flag, np.arange(3), "p")
    assert used[:, 0].tolist() == [0, -1, 0]
    assert out[1].all()


def test_references_are_the_named_then_the_nearest() -> None:
    position = np.array([[0.0, 0, 0], [100, 0, 0], [40, 0, 0], [45, 0, 0]])
    flag = np.zeros((2, 1, 4, 1), bool)
    assert refant_choices([1, 2], position, flag).tolist() == [1, 2, 3, 0]
    flag[0, 0, :3] = True
    assert refant_choices([], position, flag)[0] == 3


def test_a_hand_without_data_has_no_say_in_the_reference(rng: np.random.Generator) -> None:
    """The first, the last, or one of them for a time; the other's solutions stay."""
    gain = known_gains(rng, (6, 1, 5, 2))
    for hand, dead in ((0, slice(None)), (1, slice(None)), (0, slice(2, 4)), (1, slice(0, 2))):
        flag = np.zeros(gain.shape, bool)
        flag[dead, ..., hand] = True
        turned, out, used = reference_phases(gain, flag, np.arange(5), "ap")
        assert (used == 0).all()
        np.testing.assert_array_equal(out, flag)
        assert np.abs(np.angle(turned[:, :, 0])[~flag[:, :, 0]]).max() < 1e-12


def test_a_second_subarray_gets_a_reference_of_its_own(rng: np.random.Generator) -> None:
    """No antenna is in both halves: nothing links their phases, and nothing need be flagged."""
    gain = known_gains(rng, (8, 1, 6, 2))
    flag = np.ones(gain.shape, bool)
    flag[:4, :, :3] = flag[4:, :, 3:] = False
    turned, out, used = reference_phases(gain, flag, np.arange(6), "ap")
    assert used[:, 0].tolist() == [0] * 4 + [3] * 4
    np.testing.assert_array_equal(out, flag)
    relative = turned * turned[:, :, used[-1, :]].conj()
    expected = gain * gain[:, :, used[-1, :]].conj()
    np.testing.assert_allclose(relative[4:, :, 3:], expected[4:, :, 3:])


def test_an_antenna_that_was_away_links_what_nothing_else_does() -> None:
    """The last interval has none of the next one's antennas; an earlier one has."""
    true = np.exp(1j * np.array([0.3, 1.1, -2.0, 0.7]))
    common = np.exp(1j * np.arange(3.0))
    gain = (common[:, None] * true)[:, None, :, None]
    flag = np.zeros(gain.shape, bool)
    flag[1, :, 2:] = True  # 0 and 1 alone
    flag[2, :, :2] = True  # 2 and 3 alone, which interval 0 had
    turned, out, used = reference_phases(gain, flag, np.arange(4), "ap")
    assert used[:, 0].tolist() == [0, 0, 2]
    np.testing.assert_array_equal(out, flag)
    np.testing.assert_allclose(turned[2, 0, 2:, 0], turned[0, 0, 2:, 0], atol=1e-12)
