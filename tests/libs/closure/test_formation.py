"""Closure quantities and their coherence: known answers and laws."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.closure_cases import (
    ARCSEC,
    LOFAR_STATIONS,
    Gaussian,
    noise_case,
    read_uvfits,
    simulate,
)
from libs.closure.coherence import (
    _limit,
    _tail,
    baseline_coherence,
    select_triangles,
    station_coherence,
)
from libs.closure.formation import (
    BaselineVisibilities,
    independent_quadrangles,
    independent_triangles,
    station_quality,
    time_blocks,
)
from libs.closure.statistics import average_bispectra, chord_variance, closure_quantities
from libs.core.errors import InputError

FEW = dict(list(LOFAR_STATIONS.items())[:6])
TWO_POINTS = (Gaussian(1.0), Gaussian(0.4, 0.9, -0.5))


def observe(
    source=TWO_POINTS, sigma_jy: float = 1e-6, stations=FEW, **keywords
) -> BaselineVisibilities:
    options = {"frequency_hz": [150e6], "dec_deg": 55, "hours": 0.5, "integration_s": 10}
    return simulate(stations, source, sigma_jy=sigma_jy, **{**options, **keywords})


def with_gains(data: BaselineVisibilities, gain: np.ndarray) -> BaselineVisibilities:
    """Corrupt by (nant, nfreq, ntime) gains; the noise is corrupted with the data."""
    factor = gain[data.ant1] * np.conj(gain[data.ant2])
    return replace(data, vis=data.vis * factor, sigma=data.sigma * np.abs(factor))


def flag(data: BaselineVisibilities, cells) -> BaselineVisibilities:
    sigma = data.sigma.copy()
    sigma[cells] = np.inf
    return replace(data, sigma=sigma)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 180.0))
def test_closure_phases_do_not_see_station_phases(seed, width_deg) -> None:
    data = observe(hours=0.05)
    phase = np.deg2rad(width_deg) * np.random.default_rng(seed).standard_normal(
        (len(FEW), 1, len(data.time_s))
    )
    corrupted = closure_quantities(with_gains(data, np.exp(1j * phase)), 60)
    clean = closure_quantities(data, 60)
    difference = corrupted.phases.phase_rad - clean.phases.phase_rad
    assert np.abs(np.exp(1j * difference) - 1).max() < 1e-4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0))
def test_gain_amplitudes_drop_out_of_closure_amplitudes(seed, scatter) -> None:
    data = observe(hours=0.05)
    log_gain = scatter * np.random.default_rng(seed).standard_normal(
        (len(FEW), 1, len(data.time_s))
    )
    corrupted = closure_quantities(with_gains(data, np.exp(log_gain + 0j)), 60)
    clean = closure_quantities(data, 60)
    np.testing.assert_array_equal(corrupted.amplitudes.quadrangle, clean.amplitudes.quadrangle)
    np.testing.assert_allclose(
        corrupted.amplitudes.log_amplitude, clean.amplitudes.log_amplitude, atol=1e-4
    )


def test_point_source_closes_to_zero_wherever_it_is() -> None:
    closures = closure_quantities(observe((Gaussian(2.0, 3.0, -1.5),), integration_s=60), 60)
    assert np.abs(closures.phases.phase_rad).max() < 1e-4
    assert np.abs(closures.amplitudes.log_amplitude).max() < 1e-4


def test_two_points_have_the_analytic_closures() -> None:
    closures = closure_quantities(observe(integration_s=60), 60)
    phases, amplitudes = closures.phases, closures.amplitudes
    angle = 2 * np.pi * ARCSEC * (closures.uv @ [0.9, -0.5])
    truth = 1.0 + 0.4 * np.exp(1j * angle)
    value = truth[phases.block[:, None], phases.baseline]
    expected = np.angle(value[:, 0] * value[:, 1] * np.conj(value[:, 2]))
    assert np.abs(np.exp(1j * (phases.phase_rad - expected)) - 1).max() < 1e-4
    logs = np.log(np.abs(truth))[amplitudes.block[:, None], amplitudes.baseline]
    np.testing.assert_allclose(
        amplitudes.log_amplitude, logs @ np.array([1.0, 1.0, -1.0, -1.0]), atol=1e-4
    )


@pytest.mark.parametrize("count", [3, 4, 5, 7, 14, 27])
def test_sets_are_complete_and_independent(count) -> None:
    present = ~np.eye(count, dtype=bool)
    triangles = independent_triangles(present, range(count))
    quads = independent_quadrangles(present, range(count))
    assert len(triangles) == (count - 1) * (count - 2) // 2
    assert len(quads) == max(count * (count - 3) // 2, 0)
    number = {pair: n for n, pair in enumerate(combinations(range(count), 2))}
    rows = np.zeros((len(triangles), comb(count, 2)))
    for row, (i, j, k) in zip(rows, triangles.tolist(), strict=True):
        row[number[i, j]], row[number[j, k]], row[number[i, k]] = 1, 1, -1
    assert np.linalg.matrix_rank(rows) == len(triangles)
    rows = np.zeros((len(quads), comb(count, 2)))
    for row, (i, j, k, m) in zip(rows, quads.tolist(), strict=True):
        for a, b, sign in ((i, j, 1), (k, m, 1), (i, k, -1), (j, m, -1)):
            row[number[min(a, b), max(a, b)]] += sign
    if len(quads):
        assert np.linalg.matrix_rank(rows) == len(quads)
        incidence = np.array([[a in pair for a in range(count)] for pair in number], float)
        assert np.abs(rows @ incidence).max() == 0  # no station's gain is left


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 9), st.floats(0.0, 0.6))
def test_triangles_stay_independent_with_baselines_missing(seed, count, missing) -> None:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((count, count)) >= missing, 1)
    present = upper | upper.T
    order = rng.permutation(count)
    triangles = independent_triangles(present, order)
    rows = np.zeros((len(triangles), count, count))
    for row, (i, j, k) in zip(rows, triangles.tolist(), strict=True):
        assert present[i, j] and present[j, k] and present[i, k]
        row[i, j], row[j, k], row[i, k] = 1, 1, -1
    if len(triangles):
        assert np.linalg.matrix_rank(rows.reshape(len(rows), -1)) == len(triangles)


@pytest.mark.parametrize("sigma_jy", [0.02, 0.1, 0.25])
def test_errors_describe_the_scatter(sigma_jy) -> None:
    """chi2 of closure quantities of a point about zero, from high to low signal-to-noise."""
    source = (Gaussian(0.3),)
    chi2, amplitude = [], []
    for seed in range(4):
        data = observe(source, sigma_jy, walk_deg_per_10min=300, hours=1, seed=seed)
        closures = closure_quantities(data, 60)
        phases = closures.phases
        chord = 4 * np.sin(phases.phase_rad / 2) ** 2
        chi2.append(np.mean(chord / phases.sigma_rad**2))
        amplitude.append((closures.amplitudes.log_amplitude / closures.amplitudes.sigma) ** 2)
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.2 if sigma_jy > 0.05 else 0.06)
    if sigma_jy < 0.05:
        assert np.mean(np.concatenate(amplitude)) == pytest.approx(1.0, abs=0.06)


def test_noise_weighs_nothing() -> None:
    closures = closure_quantities(noise_case(), 60)
    phases = closures.phases
    chord = 4 * np.sin(phases.phase_rad / 2) ** 2
    assert np.mean(chord / phases.sigma_rad**2) == pytest.approx(1.0, abs=0.06)
    assert np.mean(phases.concentration) < 0.1
    assert len(closures.amplitudes) == 0


def test_noise_bias_of_amplitudes_is_taken_off() -> None:
    data = observe((Gaussian(1.0),), 0.33, hours=3, seed=3)
    closures = closure_quantities(data, 60)
    good = np.isfinite(closures.log_sigma)
    assert good.mean() > 0.9
    assert np.abs(data.vis).mean() > 1.05
    assert abs(closures.log_amplitude[good].mean()) < 0.02


def test_chord_variance_limits() -> None:
    kappa = np.array([0.0, 999.0, 1001.0, 1e8])
    assert chord_variance(kappa)[0] == pytest.approx(2.0)
    np.testing.assert_allclose(chord_variance(kappa)[1:] * kappa[1:], 1.0, rtol=1e-3)


def test_flagged_and_missing_stations() -> None:
    data = observe()
    lost = (data.ant1 == 2) | (data.ant2 == 2)
    closures = closure_quantities(flag(data, lost), 60)
    assert not (closures.phases.triangle == 2).any()
    per_block = np.bincount(closures.phases.block)
    assert set(per_block) == {6}  # five stations
    assert station_quality(flag(data, lost))[2] == 0
    # One baseline of the reference is missing half of the time: nothing independent is lost.
    best = int(np.argmax(station_quality(data)))
    own = np.flatnonzero((data.ant1 == best) | (data.ant2 == best))[:1]
    half = flag(data, (own[:, None], 0, np.arange(90)[None, :]))
    counts = np.bincount(closure_quantities(half, 60).phases.block)
    assert counts[0] == 9 and counts[-1] == 10
    with pytest.raises(InputError, match="three stations"):
        closure_quantities(flag(data, data.ant1 != 0), 60)


def test_time_blocks_do_not_cross_gaps() -> None:
    time_s = np.array([0.0, 10, 20, 30, 500, 510, 520])
    np.testing.assert_array_equal(time_blocks(time_s, 30), [0, 3, 4, 7])
    np.testing.assert_array_equal(time_blocks(time_s, 0), np.arange(8))


def test_rows_are_gridded_with_weights() -> None:
    data = BaselineVisibilities.from_rows(
        np.array([5.0, 5.0, 5.0, 5.0, 15.0]),
        np.array([0, 1, 1, 0, 0]),
        np.array([1, 0, 2, 0, 2]),
        np.array([[1.0, 2, 3], [-1.0, -2, -3], [4.0, 5, 6], [0, 0, 0], [7, 8, 9]]),
        np.array([1e9]),
        np.array([[2j], [-4j], [1], [9], [3]], complex),
        np.array([[1.0], [1.0], [0.5], [1.0], [0.0]]),
        ["a", "b", "c"],
    )
    assert data.vis.shape == (3, 1, 2)
    assert data.vis[0, 0, 0] == pytest.approx(3j)
    assert data.sigma[0, 0, 0] == pytest.approx(0.5**0.5)
    assert np.isinf(data.sigma[1]).all()  # sigma 0 is no data


def test_large_arrays_do_not_use_every_triangle() -> None:
    rng = np.random.default_rng(2)
    many = {f"S{n}": tuple(rng.uniform([0, 45], [15, 55])) for n in range(40)}
    data = observe(sigma_jy=0.1, stations=many, hours=0.02)
    triangles = select_triangles(data)
    assert len(triangles) <= 10 * comb(40, 2) < comb(40, 3)
    assert len(closure_quantities(data, 100).phases) == comb(39, 2)


@pytest.mark.parametrize("count, averaged, trials", [(20, 1, 200), (20, 6, 120), (300, 1, 60)])
def test_false_alarms_of_stations(count, averaged, trials) -> None:
    p_value, any_bin = [], []
    for seed in range(trials):
        data = observe((), 0.1, hours=count * averaged * 10 / 3600, seed=seed)
        p_value.append(station_coherence(data, averaged * 10).p_value)
        any_bin.append(baseline_coherence(data, averaged * 10, false_alarm=0.05).coherent.any())
    for rate in (0.05, 0.01):
        # The six stations of one sky share baselines: count as if three were independent.
        error = np.sqrt(rate * (1 - rate) / (3 * trials))
        assert abs(np.mean(np.array(p_value) <= rate) - rate) < 3.5 * error + 0.1 * rate
    assert np.mean(any_bin) < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / trials)


def test_threshold_falls_with_the_number_of_samples() -> None:
    short = station_coherence(observe((), 0.1, hours=0.1), 10)
    long = station_coherence(observe((), 0.1, hours=1.0), 10)
    np.testing.assert_allclose(short.threshold / long.threshold, 10**0.5, rtol=0.15)


def test_one_dead_station_and_the_longest_coherent_baseline() -> None:
    data = observe((Gaussian(1.0),), 0.2, hours=1, walk_deg_per_10min=300)
    noise = observe((), 0.2, hours=1, seed=9)
    dead = (data.ant1 == 2) | (data.ant2 == 2)
    vis = np.where(dead[:, None, None], noise.vis, data.vis)
    stations = station_coherence(replace(data, vis=vis), 60)
    np.testing.assert_array_equal(stations.coherent, np.arange(len(FEW)) != 2)
    assert stations.coherence[0] > 0.8
    # A Gaussian of 0.6" is lost beyond some hundred km at 2 m.
    resolved = (Gaussian(1.0, 0, 0, 0.6, 0.6),)
    found = baseline_coherence(observe(resolved, 0.05, LOFAR_STATIONS, hours=1), 60)
    assert 2.5e5 < found.max_coherent_m < 9e5
    assert found.coherent[0] and not found.coherent[-1]
    assert baseline_coherence(data, 60).max_coherent_m == pytest.approx(data.length_m.max())


def test_nothing_to_say_about_a_single_sample() -> None:
    data = observe(hours=10 / 3600)
    stations = station_coherence(data, 10)
    assert not stations.coherent.any() and np.isinf(stations.threshold).all()
    assert baseline_coherence(data, 10).max_coherent_m == 0


@pytest.mark.parametrize("name", ["095_lo", "096_hi"])
def test_trivial_triangles_of_the_event_horizon_telescope(shared_data: Path, name) -> None:
    """Stations at one site close to zero, but for the 2 deg of non-closing error EHT states."""
    data = read_uvfits(shared_data / f"eht/SR1_M87_2017_{name}_hops_netcal_StokesI.uvfits")
    index = {name: n for n, name in enumerate(data.antenna)}
    trivial = [("AA", "AP", x) for x in ("AZ", "LM", "PV", "SM", "JC")]
    trivial += [("JC", "SM", x) for x in ("AA", "AZ", "LM", "AP")]
    for names in trivial:
        spectra = average_bispectra(data, np.array([sorted(index[n] for n in names)]), 9)
        kappa, phase = spectra.concentration, np.angle(spectra.value)
        mean = np.angle((kappa * np.exp(1j * phase)).sum())
        assert abs(mean) < 3 * np.hypot(kappa.sum() ** -0.5, np.deg2rad(2)), names
        good = spectra.count > 0
        chi2 = np.mean(4 * np.sin(phase[good] / 2) ** 2 / chord_variance(kappa[good]))
        assert 0.5 < chi2 < 1.7, names
    bent = average_bispectra(data, np.array([sorted(index[n] for n in ("AA", "AZ", "LM"))]), 9)
    error = np.rad2deg(np.sqrt(chord_variance(bent.concentration[bent.count > 0])))
    assert 5 < np.median(error) < 13
    assert np.rad2deg(np.abs(np.angle(bent.value.sum()))) > 40
    assert station_coherence(data, 60).coherent[[index["AA"], index["LM"], index["AZ"]]].all()
    assert not station_coherence(data, 60).coherent[index["SR"]]  # the station has no data


@pytest.mark.parametrize("skew", [-1.5, -0.2, 0.0, 1e-6, 0.01, 0.7, 2.0])
def test_the_null_distribution_is_pearsons_type_three(skew: float) -> None:
    from scipy.stats import pearson3

    for value in (-2.0, 0.0, 1.5, 4.0):
        assert _tail(3 * value, 9.0, 27 * skew) == pytest.approx(
            pearson3.sf(value, skew), rel=1e-6, abs=1e-12
        )
    for alarm in (0.3, 0.01, 1e-4):
        assert _limit(alarm, 9.0, 27 * skew) == pytest.approx(3 * pearson3.isf(alarm, skew))
