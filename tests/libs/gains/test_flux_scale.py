"""The flux scale of amplitude solutions: an image of the corrected data keeps its flux."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from libs.gains.caltable import read_solutions
from libs.gains.caltable_writer import write_caltable
from libs.gains.flux_scale import (
    GainTable,
    common_scale_weights,
    flux_factor,
    hold_common_flux_scale,
    hold_flux_scale,
    mean_pair_product,
    sharing_a_site,
)
from libs.gains.gain_solutions import GainSolutions
from libs.ms.tables import open_table
from tests.libs.small_ms import TIME0_S, make_ms


def solutions(gain: NDArray[np.complex128], flag: NDArray[np.bool_] | None = None) -> GainSolutions:
    ntime, nspw, nant, npol = gain.shape
    flag = np.zeros(gain.shape, bool) if flag is None else flag
    return GainSolutions(
        time_s=TIME0_S + 10.0 * np.arange(ntime), interval_s=np.full(ntime, 10.0),
        frequency_hz=np.full(nspw, 5.007e9), spw=np.arange(nspw),
        antenna=tuple(f"A{i}" for i in range(nant)), position_m=np.zeros((nant, 3)),
        polarization=("R", "L")[:npol], gain=np.where(flag, 1.0, gain), flag=flag,
        snr=np.where(flag, 0.0, 10.0),
    )  # fmt: skip


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    return make_ms(tmp_path / "small.ms", antennas=6, times=4)


def random_gains(rng: np.random.Generator, *shape: int) -> NDArray[np.complex128]:
    return rng.uniform(0.6, 1.8, shape) * np.exp(1j * rng.uniform(-3, 3, shape))


def pair_mean(amplitude: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    """The mean product, by the definition."""
    products = [
        row[p] * row[q]
        for row, here in zip(amplitude, good, strict=True)
        for p in range(len(row))
        for q in range(p)
        if here[p] and here[q]
    ]
    return float(np.mean(products)) if products else 1.0


@given(
    hnp.arrays(float, (3, 5), elements=st.floats(0.1, 10)), hnp.arrays(bool, (3, 5)),
)  # fmt: skip
def test_the_mean_is_that_over_all_pairs(
    amplitude: NDArray[np.float64], good: NDArray[np.bool_]
) -> None:
    assert mean_pair_product(amplitude, good) == pytest.approx(pair_mean(amplitude, good))


def test_two_antennas() -> None:
    assert mean_pair_product(np.array([[2.0, 3.0]]), np.ones((1, 2), bool)) == pytest.approx(6)
    assert mean_pair_product(np.array([[2.0, 3.0]]), np.array([[True, False]])) == 1.0


@given(st.floats(0.2, 5))
def test_a_common_factor_comes_out_squared(factor: float) -> None:
    amplitude = np.array([[1.0, 2.0, 0.5, 1.1]])
    good = np.ones((1, 4), bool)
    ratio = mean_pair_product(factor * amplitude, good) / mean_pair_product(amplitude, good)
    assert ratio == pytest.approx(factor**2)


def test_the_mean_over_pairs_is_1_afterwards(
    tmp_path: Path, ms: Path, rng: np.random.Generator
) -> None:
    table = tmp_path / "ap.gcal"
    gain = random_gains(rng, 4, 1, 6, 2)
    flag = rng.random(gain.shape) < 0.2
    write_caltable(table, solutions(gain, flag), ms)
    factors = hold_flux_scale(table)
    after = read_solutions(table, ms)
    np.testing.assert_array_equal(after.flag, flag)
    rows = np.moveaxis(np.abs(after.gain), 2, -1).reshape(-1, 6)
    good = np.moveaxis(~after.flag, 2, -1).reshape(-1, 6)
    weight = common_scale_weights(rows, good, 0.1 * rows)
    assert mean_pair_product(np.sqrt(rows), good, weight) == pytest.approx(1, abs=1e-6)
    # phases stay, amplitudes are divided by the one factor told
    ratio = after.gain[~flag] / gain[~flag]
    np.testing.assert_allclose(ratio, 1 / factors[0], rtol=1e-6)
    assert hold_flux_scale(table)[0] == pytest.approx(1, abs=1e-6), "once is enough"


def test_flagged_solutions_do_not_count(tmp_path: Path, ms: Path, rng: np.random.Generator) -> None:
    gain = random_gains(rng, 4, 1, 6, 2)
    flag = np.zeros(gain.shape, bool)
    flag[:, :, 5] = True
    wild = gain.copy()
    wild[:, :, 5] *= 1e3
    found = []
    for name, values in (("a", gain), ("b", wild)):
        table = tmp_path / f"{name}.gcal"
        write_caltable(table, solutions(values), ms)
        with open_table(table, write=True) as opened:
            antenna = opened.getcol("ANTENNA1")
            flags = opened.getcol("FLAG")
            flags[antenna == 5] = True
            opened.putcol("FLAG", flags)
        found.append(hold_flux_scale(table)[0])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 40), st.floats(0.3, 0.7))
def test_an_antenna_that_loses_amplitude_hardly_moves_the_scale(
    seed: int, antennas: int, lost: float
) -> None:
    """Its phases do not hold for the solution interval; the others scatter by 5 %."""
    rng = np.random.default_rng(seed)
    amplitude = np.exp(0.05 * rng.normal(size=(4, antennas)))
    good, error = np.ones(amplitude.shape, bool), np.full(amplitude.shape, 0.01)

    def scale(values: NDArray[np.float64]) -> float:
        return np.sqrt(mean_pair_product(values, good, common_scale_weights(values, good, error)))

    whole = scale(amplitude)
    amplitude[:, 0] *= lost
    assert scale(amplitude) == pytest.approx(whole, rel=0.25 / antennas)


@pytest.mark.parametrize("kind", ["even", "by factors"])
def test_the_flux_is_right_within_half_the_variance_however_amplitudes_err(
    tmp_path: Path, kind: str
) -> None:
    """By 20 %; the true amplitudes are 1 on average, or their logarithms 0."""
    many = make_ms(tmp_path / "many.ms", antennas=40, times=4)
    drawn = np.random.default_rng(5).normal(size=(4, 1, 40, 2))
    drawn = 0.2 * (drawn - drawn.mean()) / drawn.std()
    true = np.exp(drawn) if kind == "by factors" else 1.0 + drawn
    table = tmp_path / "ap.gcal"
    write_caltable(table, solutions(true.astype(complex)), many)
    flux = hold_flux_scale(table)[0] ** 2
    assert abs(flux - 1.0) < 0.6 * 0.2**2


def test_antennas_that_scatter_alike_count_alike(rng: np.random.Generator) -> None:
    amplitude = np.exp(0.1 * rng.normal(size=(50, 20)))
    weight = common_scale_weights(amplitude, np.ones((50, 20), bool), np.zeros((50, 20)))
    plain = mean_pair_product(amplitude, np.ones((50, 20), bool))
    assert mean_pair_product(amplitude, weight > 0, weight) == pytest.approx(plain, rel=0.01)


def test_the_flux_of_an_image_is_unchanged(
    tmp_path: Path, ms: Path, rng: np.random.Generator
) -> None:
    """A point source whose true amplitudes average to 1: gains too high by a tenth cost nothing."""
    true = rng.uniform(0.8, 1.2, (4, 1, 6, 2))
    rows = np.moveaxis(true, 2, -1).reshape(-1, 6)
    true /= np.sqrt(pair_mean(rows, np.ones(rows.shape, bool)))
    p, q = np.triu_indices(6, 1)
    observed = 2.5 * true[:, :, p] * true[:, :, q]
    assert observed.mean() == pytest.approx(2.5), "the dirty image shows the flux"
    table = tmp_path / "ap.gcal"
    # self-calibration against a model of another flux finds all gains too high
    write_caltable(table, solutions(1.1 * true.astype(complex)), ms)
    factor = hold_flux_scale(table)[0]
    assert factor == pytest.approx(1.1, rel=5e-3)
    gain = np.abs(read_solutions(table, ms).gain)
    corrected = observed / (gain[:, :, p] * gain[:, :, q])
    assert corrected.mean() == pytest.approx(2.5, rel=0.01)
    assert np.ptp(corrected) < 1e-5


def test_each_spectral_window_keeps_its_own_flux(
    tmp_path: Path, ms: Path, rng: np.random.Generator
) -> None:
    table = tmp_path / "ap.gcal"
    write_caltable(table, solutions(random_gains(rng, 4, 1, 6, 2)), ms)
    first = dict(hold_flux_scale(table))
    assert list(first) == [0]
    # rows of a second window, three times as high, and of a third without solutions
    with open_table(table, write=True) as opened:
        count = opened.nrows()
        for window in (1, 2):
            opened.copyrows(opened, 0, window * count, count)
        columns = {name: opened.getcol(name) for name in ("CPARAM", "FLAG", "SPECTRAL_WINDOW_ID")}
        columns["SPECTRAL_WINDOW_ID"] = np.repeat(np.arange(3, dtype=np.int32), count)
        columns["CPARAM"][count : 2 * count] *= 3
        columns["FLAG"][2 * count :] = True
        for name, values in columns.items():
            opened.putcol(name, values)
    assert hold_flux_scale(table) == pytest.approx({0: 1.0, 1: 3.0}, rel=1e-6)


def test_errors_are_scaled_with_the_gains(
    tmp_path: Path, ms: Path, rng: np.random.Generator
) -> None:
    table = tmp_path / "ap.gcal"
    write_caltable(table, solutions(2 * random_gains(rng, 4, 1, 6, 2)), ms)
    with open_table(table, write=True) as opened:
        before = np.abs(opened.getcol("CPARAM"))
        opened.putcol("PARAMERR", (0.1 * before).astype(np.float32))
    hold_flux_scale(table)
    with open_table(table) as opened:
        error, gain = opened.getcol("PARAMERR"), np.abs(opened.getcol("CPARAM"))
    np.testing.assert_allclose(error, 0.1 * gain, rtol=1e-5)


def test_a_heavy_antenna_explains_a_change_of_flux(tmp_path: Path, ms: Path) -> None:
    """Antenna 0 has most of the weight and an amplitude 10 per cent too high."""
    true = np.ones((4, 1, 6, 2))
    true[:, :, 0] = 1.1
    table = tmp_path / "ap.gcal"
    write_caltable(table, solutions(true.astype(complex)), ms)
    hold_flux_scale(table)
    error = np.full(6, 0.1)
    error[0] = 0.01
    with open_table(table, write=True) as opened:
        antenna = opened.getcol("ANTENNA1")
        values = opened.getcol("PARAMERR")
        values[:] = error[antenna][:, None, None]
        opened.putcol("PARAMERR", values)
    p, q = np.triu_indices(6, 1)
    weight = 1 / (error[p] * error[q]) ** 2
    held = np.abs(read_solutions(table, ms).gain)[0, 0, :, 0]
    corrected = 1 / (held[p] * held[q]) * (true[0, 0, p, 0] * true[0, 0, q, 0])
    before = np.average(true[0, 0, p, 0] * true[0, 0, q, 0], weights=weight)
    change = np.average(corrected, weights=weight) / before
    assert change == pytest.approx(0.94, abs=0.01)
    assert flux_factor(table) == pytest.approx(change, rel=0.005)


def test_without_solutions_no_flux_changes(tmp_path: Path, ms: Path) -> None:
    table = tmp_path / "flagged.gcal"
    gain = np.full((4, 1, 6, 2), 1.5 + 0j)
    write_caltable(table, solutions(gain, np.ones(gain.shape, bool)), ms)
    assert flux_factor(table) == 1.0


def test_stations_of_known_amplitudes_alone_fix_the_scale(
    tmp_path: Path, ms: Path, rng: np.random.Generator
) -> None:
    table = tmp_path / "ap.gcal"
    gain = random_gains(rng, 4, 1, 6, 2)
    known = np.array([False, True, False, False, True, True])
    gain[:, :, known] *= 1.5 / np.abs(gain[:, :, known])
    write_caltable(table, solutions(gain), ms)
    assert hold_flux_scale(table, known)[0] == pytest.approx(1.5, rel=1e-6)
    after = np.abs(read_solutions(table, ms).gain)
    np.testing.assert_allclose(after[:, :, known], 1, rtol=1e-6)
    np.testing.assert_allclose(after, np.abs(gain) / 1.5, rtol=1e-6)


def test_stations_that_share_a_site() -> None:
    position_m = np.array([[0, 0, 0], [0, 9e3, 0], [0, 0, 5e6], [5e6, 0, 0], [5e6, 0, 11e3]])
    assert sharing_a_site(position_m).tolist() == [True, True, False, False, False]
    assert not sharing_a_site(position_m[:1]).any()


# -- several executions ----------------------------------------------------------------------------


def of_executions(
    folder: Path, ms: Path, factors: tuple[float, ...], window_hz: tuple[float, ...]
) -> list[GainTable]:
    """Tables with gains of one amplitude each."""
    tables = []
    for number, (factor, hz) in enumerate(zip(factors, window_hz, strict=True)):
        path = folder / f"{number}.gcal"
        write_caltable(path, solutions(np.full((4, 1, 6, 2), factor + 0j)), ms)
        tables.append(GainTable(path, {0: (hz, 64e6)}))
    return tables


def test_executions_keep_the_ratio_of_their_scales(tmp_path: Path, ms: Path) -> None:
    """One factor for each table would undo what the solve found between the executions."""
    tables = of_executions(tmp_path, ms, (1.0, 1.2), (5.007e9, 5.007e9 + 1e4))
    one, two = hold_common_flux_scale(tables)
    assert one == two == {0: pytest.approx((1 + 1.2) / 2, rel=1e-6)}
    gains = [np.abs(read_solutions(table.path, ms).gain) for table in tables]
    np.testing.assert_allclose(gains[1] / gains[0], 1.2, rtol=1e-6)
    assert np.mean(gains) == pytest.approx(1, rel=1e-6)


def test_windows_that_not_all_executions_have_share_a_factor(tmp_path: Path, ms: Path) -> None:
    tables = of_executions(tmp_path, ms, (1.0, 1.2, 1.5), (5.007e9, 5.007e9, 6e9))
    factors = [factor[0] for factor in hold_common_flux_scale(tables)]
    assert factors == pytest.approx([(1 + 1.2 + 1.5) / 3] * 3, rel=1e-6)
