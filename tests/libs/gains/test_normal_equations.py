"""From measurement sets to normal equations, solutions and corrected data, without tools."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table
from numpy.typing import NDArray

from benchmarks.synthetic_ms import SyntheticMs, make_ms
from libs.core.errors import InputError, SolveError
from libs.gains.apply import apply_tables
from libs.gains.caltable import SpwGains, read_caltable, read_solutions
from libs.gains.interpolation import interpolate_frequency, interpolate_time
from libs.gains.intervals import find_intervals
from libs.gains.native import NativeSolver
from libs.gains.normal_equations import accumulate, accumulate_batches
from libs.gains.solution_interval import PER_INTEGRATION, PER_SCAN, SolutionInterval
from libs.gains.solver import AppliedTable, SolveOptions

PHASES = SolveOptions(solint=PER_INTEGRATION, calmode="p", refant=("ea01",))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticMs:
    """Two scans of two spws, gains that walk, hardly any noise."""
    path = tmp_path_factory.mktemp("ms") / "small.ms"
    return make_ms(path, integrations=6, scans=2, spws=2, noise_jy=0.01)


@pytest.fixture
def copy(made: SyntheticMs, tmp_path: Path) -> Path:
    """Copy of the data that a test may change."""
    return Path(shutil.copytree(made.path, tmp_path / "copy.ms"))


def column(ms: Path, name: str) -> NDArray[np.generic]:
    with table(str(ms), ack=False) as opened:
        return np.asarray(opened.getcol(name))


def change(ms: Path, name: str, values: NDArray[np.generic]) -> None:
    with table(str(ms), ack=False, readonly=False) as opened:
        opened.putcol(name, values)


def test_sums_are_those_of_numpy(made: SyntheticMs) -> None:
    sums = accumulate(made.path, SolveOptions(solint=PER_SCAN))
    data, model = column(made.path, "DATA"), column(made.path, "MODEL_DATA")
    one = (column(made.path, "SCAN_NUMBER") == 2) & (column(made.path, "DATA_DESC_ID") == 1)
    one &= (column(made.path, "ANTENNA1") == 2) & (column(made.path, "ANTENNA2") == 5)
    baseline = np.flatnonzero((sums.antenna1 == 2) & (sums.antenna2 == 5))[0]
    expected = (data[one] * model[one].conj()).sum(axis=(0, 1)) / 0.01**2
    np.testing.assert_allclose(sums.vis[1, 1, baseline], expected, rtol=1e-5)
    np.testing.assert_allclose(sums.weight[1, 1, baseline], 6 * 4 / 0.01**2, rtol=1e-5)
    assert sums.polarization == ("R", "L")


def test_small_batches_and_chunks_and_row_order_change_nothing(
    made: SyntheticMs, copy: Path, rng: np.random.Generator
) -> None:
    order = rng.permutation(len(column(copy, "TIME")))
    for name in (
        "TIME", "SCAN_NUMBER", "DATA_DESC_ID", "ANTENNA1", "ANTENNA2", "DATA", "MODEL_DATA", "UVW",
    ):  # fmt: skip
        change(copy, name, column(copy, name)[order])
    options = SolveOptions(solint=SolutionInterval(25.0))
    whole = accumulate(made.path, options)
    pieces = accumulate(copy, options, sum_bytes=6000, chunk_bytes=5000)
    assert len(list(accumulate_batches(copy, options, sum_bytes=6000))) > 2
    np.testing.assert_allclose(pieces.vis, whole.vis, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(pieces.weight, whole.weight, rtol=1e-12)
    np.testing.assert_allclose(pieces.time_s, whole.time_s, rtol=0, atol=1e-5)


def test_what_cannot_be_used_takes_no_part(copy: Path) -> None:
    whole = accumulate(copy, PHASES)
    data, flag, sigma = column(copy, "DATA"), column(copy, "FLAG"), column(copy, "SIGMA")
    data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
    flag[2, 0, 1] = True  # one correlation flagged: both are left out, as in gaincal
    sigma[3], sigma[4] = 0, np.nan
    for name, values in (("DATA", data), ("FLAG", flag), ("SIGMA", sigma)):
        change(copy, name, values)
    rows = column(copy, "FLAG_ROW")
    rows[5] = True
    change(copy, "FLAG_ROW", rows)
    part = accumulate(copy, PHASES)
    assert np.isfinite(part.vis).all()
    share = (part.weight / whole.weight)[0, 0, :6]
    expected = np.ones((6, 2))
    expected[0, 0] = expected[1, 1] = 0.75
    expected[2] = 0.75
    expected[3:6] = 0
    np.testing.assert_allclose(share, expected, rtol=1e-6)
    own_flags = accumulate(copy, PHASES, corr_dep_flags=True)
    np.testing.assert_allclose((own_flags.weight / whole.weight)[0, 0, 2], [1, 0.75], rtol=1e-6)


def test_weights_stand_in_for_a_useless_sigma(copy: Path) -> None:
    whole = accumulate(copy, PHASES)
    change(copy, "SIGMA", np.full_like(column(copy, "SIGMA"), np.nan))
    np.testing.assert_allclose(accumulate(copy, PHASES).weight, whole.weight, rtol=1e-6)


def test_uv_limits(made: SyntheticMs) -> None:
    limits = SolveOptions(solint=PER_SCAN, uvmin_m=500, uvmax_m=1500)
    sums = accumulate(made.path, limits)
    uvw = column(made.path, "UVW")[: len(sums.antenna1)]
    distance = np.hypot(uvw[:, 0], uvw[:, 1])
    inside = (distance >= 500) & (distance <= 1500)
    np.testing.assert_array_equal(sums.weight[0, 0, :, 0] > 0, inside)


def test_intervals_start_with_the_scan(made: SyntheticMs) -> None:
    with table(str(made.path), ack=False) as opened:
        whole = find_intervals(opened, SolutionInterval(20.0), False)
        every = find_intervals(opened, PER_INTEGRATION, False)
        one = find_intervals(opened, PER_SCAN, True)
    assert whole.scan.tolist() == [1, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(whole.time_s[:3] - whole.time_s[0], [0, 20, 40])
    np.testing.assert_allclose(whole.interval_s, 20)
    assert len(every) == 12
    assert len(one) == 1
    assert one.interval_s[0] == pytest.approx(12 * 10 + 300)


def test_fields_share_intervals_where_that_is_asked_for(copy: Path) -> None:
    """Two pointings in turn: one solution a scan for both, and one field's data alone in it."""
    with table(f"{copy}/FIELD", readonly=False, ack=False) as fields:
        fields.copyrows(fields)
    time = column(copy, "TIME")
    field = (np.unique(time, return_inverse=True)[1] % 2).astype(np.int32)
    change(copy, "FIELD_ID", field)
    with table(str(copy), ack=False) as opened:
        assert len(find_intervals(opened, PER_SCAN, False)) == 4
        assert len(find_intervals(opened, PER_SCAN, False, True)) == 2
    both = SolveOptions(solint=PER_SCAN, combine=frozenset({"field"}))
    whole = accumulate(copy, both)
    parts = [accumulate(copy, replace(both, fields=(n,))) for n in (0, 1)]
    assert len(whole.time_s) == len(parts[0].time_s) == 2
    np.testing.assert_allclose(parts[0].vis + parts[1].vis, whole.vis)
    np.testing.assert_allclose(parts[0].weight + parts[1].weight, whole.weight)


def test_interval_column_is_not_believed(copy: Path) -> None:
    change(copy, "INTERVAL", np.full(len(column(copy, "TIME")), 999.0))
    with table(str(copy), ack=False) as opened:
        np.testing.assert_allclose(find_intervals(opened, PER_INTEGRATION, False).interval_s, 10)


def test_solve_and_apply_take_the_gains_out(copy: Path, tmp_path: Path) -> None:
    solver = NativeSolver()
    options = SolveOptions(solint=PER_INTEGRATION, calmode="ap", refant=("ea01",))
    result = solver.solve(copy, tmp_path / "a.G", options)
    assert result.flagged_fraction == 0
    applied = solver.apply(copy, [result.applied])
    assert applied.flagged_after == applied.flagged_before == 0
    ratio = column(copy, "CORRECTED_DATA") / column(copy, "MODEL_DATA")
    assert np.abs(ratio - 1).max() < 0.1
    assert abs(np.mean(ratio) - 1) < 1e-3


def test_a_prior_table_is_taken_out_first(made: SyntheticMs, copy: Path, tmp_path: Path) -> None:
    solver = NativeSolver()
    first = solver.solve(copy, tmp_path / "a.G", SolveOptions(solint=PER_SCAN, refant=("ea01",)))
    prior = AppliedTable(first.table, interp="nearest")
    second = solver.solve(copy, tmp_path / "b.G", PHASES, [prior])
    direct = solver.solve(copy, tmp_path / "c.G", PHASES)
    tables = [read_solutions(item.table) for item in (first, second, direct)]
    scan = np.repeat([0, 1], 6)
    product = tables[0].gain[scan] * tables[1].gain
    assert np.abs(np.angle(product / tables[2].gain)).max() < 0.01


def test_combined_spws_are_mapped_from_the_first_with_data(copy: Path, tmp_path: Path) -> None:
    flag = column(copy, "FLAG")
    flag[column(copy, "DATA_DESC_ID") == 0] = True
    change(copy, "FLAG", flag)
    options = SolveOptions(solint=PER_INTEGRATION, combine=frozenset({"spw"}), refant=("ea01",))
    result = NativeSolver().solve(copy, tmp_path / "a.G", options)
    assert result.applied.spwmap == (1, 1)
    assert list(read_caltable(result.table).spws) == [1]
    assert read_solutions(result.table).frequency_hz[0] == pytest.approx(5.103e9)


def test_unsolved_visibilities_are_flagged_or_left(copy: Path, tmp_path: Path) -> None:
    flag = column(copy, "FLAG")
    with_third = (column(copy, "ANTENNA1") == 3) | (column(copy, "ANTENNA2") == 3)
    flag[with_third] = True
    change(copy, "FLAG", flag)
    result = NativeSolver().solve(copy, tmp_path / "a.G", PHASES)
    change(copy, "FLAG", np.zeros_like(flag))
    left = apply_tables(copy, [result.applied], flag_unsolved=False)
    assert left.flagged_after == 0
    done = apply_tables(copy, [result.applied], chunk_bytes=4000)
    np.testing.assert_array_equal(column(copy, "FLAG").any(axis=(1, 2)), with_third)
    assert done.flagged_after == pytest.approx(with_third.mean())


def test_weights_follow_the_gains(copy: Path, tmp_path: Path) -> None:
    options = SolveOptions(solint=PER_SCAN, calmode="ap", refant=("ea01",))
    result = NativeSolver().solve(copy, tmp_path / "a.G", options)
    apply_tables(copy, [result.applied], calwt=True)
    size = np.abs(column(copy, "DATA") / column(copy, "CORRECTED_DATA"))[:, 0]
    np.testing.assert_allclose(column(copy, "WEIGHT"), size**2 / 0.01**2, rtol=1e-4)


def test_nothing_to_solve_is_an_error(copy: Path, tmp_path: Path) -> None:
    change(copy, "FLAG", np.ones_like(column(copy, "FLAG")))
    with pytest.raises(SolveError, match="no solution interval"):
        NativeSolver().solve(copy, tmp_path / "a.G", PHASES)
    assert not (tmp_path / "a.G").exists()
    with table(str(copy), ack=False, readonly=False) as opened:
        opened.removecols("MODEL_DATA")
    with pytest.raises(InputError, match="no column MODEL_DATA"):
        NativeSolver().solve(copy, tmp_path / "a.G", PHASES)


def test_blocks_of_channels(made: SyntheticMs, tmp_path: Path) -> None:
    solver = NativeSolver(channels_per_block=2)
    result = solver.solve(made.path, tmp_path / "a.B", PHASES)
    found = read_solutions(result.table)
    assert found.spw.tolist() == [0, 0, 1, 1]
    assert np.abs(np.angle(found.gain[:, 0] / found.gain[:, 1])).max() < 0.1


def spw_gains(phase_rad: list[float], flag: list[bool]) -> SpwGains:
    shape = (len(phase_rad), 1, 1, 1)
    gain = np.exp(1j * np.array(phase_rad)).astype(np.complex64).reshape(shape)
    zero = np.zeros(len(phase_rad))
    return SpwGains(
        1e9 + 10.0 * np.arange(len(phase_rad)), zero, *[zero.astype(int)] * 4, np.array([1e9]),
        gain, np.ones(shape, np.float32), np.ones(shape, np.float32),
        np.array(flag).reshape(shape),
    )  # fmt: skip


def test_phases_turn_the_short_way_in_time() -> None:
    part = spw_gains([3.0, -3.0], [False, False])
    gain, solved = interpolate_time(part, 1e9 + np.array([-5.0, 0, 5, 10, 15]), "linear")
    expected = [3.0, 3.0, np.pi, -3.0, -3.0]
    np.testing.assert_allclose(gain[:, 0, 0, 0], np.exp(1j * np.array(expected)), atol=1e-5)
    assert solved.all()


def test_between_a_good_and_a_flagged_solution_there_is_none() -> None:
    part = spw_gains([0.1, 0.2, 0.3], [False, True, False])
    time = 1e9 + np.array([-1.0, 0, 4, 10, 16, 20, 30])
    _, solved = interpolate_time(part, time, "linear")
    assert solved[:, 0, 0, 0].tolist() == [True, True, False, False, False, True, True]
    _, nearest = interpolate_time(part, time, "nearest")
    assert nearest[:, 0, 0, 0].tolist() == [True, True, True, False, True, True, True]


def test_frequency_is_interpolated_between_good_blocks() -> None:
    own = np.array([1.0, 2.0, 3.0])
    gain = np.exp(1j * np.array([3.0, 0.0, -3.0])).reshape(1, 3, 1, 1)
    solved = np.array([True, False, True]).reshape(1, 3, 1, 1)
    out, good = interpolate_frequency(gain, solved, own, np.array([0.5, 1.0, 2.0, 3.0, 9.0]))
    expected = np.exp(1j * np.array([3.0, 3.0, np.pi, -3.0, -3.0]))
    np.testing.assert_allclose(out[0, :, 0, 0], expected, atol=1e-12)
    assert good.all()
    nothing = np.zeros_like(solved)
    assert not interpolate_frequency(gain, nothing, own, own)[1].any()


def test_tables_of_another_array_are_refused(
    copy: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    other = make_ms(tmp_path / "other.ms", position_m=rng.normal(0, 100, (5, 3)), integrations=2)
    result = NativeSolver().solve(
        other.path, tmp_path / "o.G", SolveOptions(solint=PER_SCAN, minblperant=3)
    )
    with pytest.raises(InputError, match="5 antennas"):
        apply_tables(copy, [AppliedTable(result.table)])
