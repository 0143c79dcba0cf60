"""Simulated data against closed forms, and what the imagers make of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import j1

import libs.simulation.observation as simulate_module
from libs.casa.session import CasaSession
from libs.core.angles import TEC_PHASE_HZ
from libs.core.coordinates import antenna_uvw, lm_to_radec, radec_to_lm, transit_s
from libs.core.errors import InputError
from libs.gains.gain_solutions import GainSolutions
from libs.ms.antennas import AntennaArray
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.corrupt import multiply_ms
from libs.simulation.gains import draw_gains, random_walk
from libs.simulation.observation import (
    Observation,
    Source,
    SpectralWindow,
    StationErrors,
    TecScreen,
    corrupt_ms,
    simulate,
)
from libs.simulation.sky import sky_visibilities, source_table

ARCSEC = math.pi / 180 / 3600
FREQUENCY = np.array([4.9e9, 5.1e9])
SPWS = (SpectralWindow(4.9e9, 64e6, 3), SpectralWindow(5.1e9, 64e6, 3))


def small_array(count: int = 6) -> AntennaArray:
    return load_configuration("vla.a").thinned(count)


def observe(**changes: Any) -> Observation:
    array = changes.pop("array", small_array())
    start = transit_s(array.position_m, math.radians(40.0), 58849.0)
    base = Observation(
        array=array,
        direction_deg=(40.0, 30.0),
        start_s=start,
        integration_s=10.0,
        scan_s=60.0,
        spws=SPWS,
        scans=2,
        gap_s=120.0,
    )
    return dataclasses.replace(base, **changes)


def column(path: Path | None, name: str) -> NDArray[Any]:
    assert path is not None
    with open_table(path) as opened:
        return np.asarray(opened.getcol(name))


def one_baseline(u_m: float, v_m: float, w_m: float = 0.0) -> NDArray[np.float64]:
    return np.array([[[0.0, 0.0, 0.0], [u_m, v_m, w_m]]])


def model_of(source: Source, u_m: float, v_m: float, w_m: float = 0.0) -> NDArray[np.complex128]:
    first, second = np.array([0]), np.array([1])
    table = source_table([source], FREQUENCY, 5e9)
    return sky_visibilities(one_baseline(u_m, v_m, w_m), first, second, FREQUENCY, table)[0, 0]


# ---- the sky ---------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    l_arcsec=st.floats(-3000, 3000),
    m_arcsec=st.floats(-3000, 3000),
    u_m=st.floats(-4e4, 4e4),
    w_m=st.floats(-4e4, 4e4),
)
def test_point_visibility(l_arcsec: float, m_arcsec: float, u_m: float, w_m: float) -> None:
    v_m = 7000.0
    l_cos, m_cos = l_arcsec * ARCSEC, m_arcsec * ARCSEC
    n1 = math.sqrt(1 - l_cos**2 - m_cos**2) - 1
    turns = (u_m * l_cos + v_m * m_cos + w_m * n1) * FREQUENCY / 299792458.0
    expected = 2.0 * (FREQUENCY / 5e9) ** -0.7 * np.exp(2j * np.pi * turns)
    source = Source(2.0, l_arcsec, m_arcsec, spectral_index=-0.7)
    np.testing.assert_allclose(model_of(source, u_m, v_m, w_m), expected, atol=1e-7)


def test_gaussian_visibility_and_its_position_angle() -> None:
    source = Source(1.0, 0, 0, 2.0, 0.5, 30.0)
    pa = math.radians(30.0)
    u, v = 3000.0, 5000.0
    q_major = (u * math.sin(pa) + v * math.cos(pa)) * FREQUENCY / 299792458.0
    q_minor = (u * math.cos(pa) - v * math.sin(pa)) * FREQUENCY / 299792458.0
    sigma = ARCSEC / math.sqrt(8 * math.log(2))
    expected = np.exp(-2 * (np.pi * sigma) ** 2 * ((2.0 * q_major) ** 2 + (0.5 * q_minor) ** 2))
    np.testing.assert_allclose(model_of(source, u, v).real, expected, rtol=1e-12)
    # resolved most along its major axis, at position angle 30 degrees from north to east
    along = abs(model_of(source, 6000 * math.sin(pa), 6000 * math.cos(pa))[0])
    across = abs(model_of(source, 6000 * math.cos(pa), -6000 * math.sin(pa))[0])
    assert along < across


@pytest.mark.parametrize("u_m", [1.0, 3000.0, 11000.0, 19000.0, 36000.0])
def test_disc_visibility(u_m: float) -> None:
    source = Source(1.0, 0, 0, 1.5, 1.5, shape="disc")
    x = np.pi * 1.5 * ARCSEC * u_m * FREQUENCY / 299792458.0
    np.testing.assert_allclose(model_of(source, u_m, 0.0).real, 2 * j1(x) / x, atol=1e-7)


def test_offsets_and_positions_are_each_others_inverse() -> None:
    ra, dec = lm_to_radec(0.01, -0.02, 1.0, 0.9)
    np.testing.assert_allclose(radec_to_lm(ra, dec, 1.0, 0.9), (0.01, -0.02), atol=1e-15)
    assert ra > 1.0  # l grows to the east
    assert dec < 0.9


# ---- geometry --------------------------------------------------------------------------------


def test_uvw_keeps_lengths_and_transits_on_the_meridian() -> None:
    array = small_array()
    direction = (math.radians(40.0), math.radians(30.0))
    transit = transit_s(array.position_m, direction[0], 58849.0)
    uvw = antenna_uvw(array.position_m, direction, np.array([transit]))[0]
    offset = array.position_m - array.position_m.mean(axis=0)
    np.testing.assert_allclose(
        np.linalg.norm(uvw, axis=1), np.linalg.norm(offset, axis=1), rtol=1e-10
    )
    longitude = math.atan2(array.position_m[:, 1].mean(), array.position_m[:, 0].mean())
    east = -offset[:, 0] * math.sin(longitude) + offset[:, 1] * math.cos(longitude)
    # of the date against J2000: precession over 20 years
    assert np.abs(uvw[:, 0] - east).max() < 0.006 * np.abs(east).max() + 100


def test_dates_without_earth_orientation_are_refused() -> None:
    with pytest.raises(InputError, match="earth orientation"):
        antenna_uvw(np.eye(3) * 6e6, (0.0, 0.0), np.array([99999.0 * 86400]))


@pytest.mark.tools
def test_uvw_agrees_with_measures(tmp_path: Path) -> None:
    """Against the UVW that CASA computes anew from positions, direction and time."""
    array = small_array()
    direction = (math.radians(40.0), math.radians(30.0))
    time_s = transit_s(array.position_m, direction[0], 58849.0) + 5000.0
    ours = antenna_uvw(array.position_m, direction, np.array([time_s]))[0]
    simulate(
        tmp_path / "a.ms",
        observe(array=array, start_s=time_s - 5.0, scan_s=10.0, scans=1),
        [],
        perfect=False,
    )
    with CasaSession(tmp_path / "log") as casa:
        casa.run("fixvis", vis=tmp_path / "a.ms", outputvis=tmp_path / "b.ms", reuse=False)
    theirs = column(tmp_path / "b.ms", "UVW")[: len(array) * (len(array) - 1) // 2]
    first, second = np.triu_indices(len(array), k=1)
    np.testing.assert_allclose(ours[first] - ours[second], column(tmp_path / "a.ms", "UVW")[:15])
    difference = np.abs((ours[first] - ours[second]) - theirs).max()
    assert difference < 1e-5 * array.longest_baseline_m


# ---- gains -----------------------------------------------------------------------------------


def test_random_walk_has_the_rms_asked_for() -> None:
    time_s = np.linspace(0.0, 1995.0, 400)
    walk = random_walk(np.random.default_rng(1), time_s, 60.0, 600.0, 400)
    change = walk[120:] - walk[:-120]  # within 600 s
    assert change.std() == pytest.approx(60.0, rel=0.05)
    assert (walk[12:] - walk[:-12]).std() == pytest.approx(60.0 * math.sqrt(0.1), rel=0.05)


def test_walk_goes_on_through_gaps_unless_it_restarts() -> None:
    time_s = np.array([0.0, 10.0, 10_000.0, 10_010.0])
    scan = np.array([1, 1, 2, 2], dtype=np.int32)
    names = [f"A{i}" for i in range(500)]
    errors = StationErrors(phase_walk_deg=3.0, phase_walk_s=600.0)
    phase = np.angle(draw_gains(errors, 1, names, time_s, FREQUENCY, scan))[:, 0, :, 0]
    assert np.degrees((phase[2] - phase[1]).std()) == pytest.approx(
        3.0 * math.sqrt(9990 / 600), rel=0.1
    )
    again = dataclasses.replace(errors, walk_restarts=True)
    phase = np.angle(draw_gains(again, 1, names, time_s, FREQUENCY, scan))[:, 0, :, 0]
    np.testing.assert_array_equal(phase[2], 0.0)


def test_tec_goes_as_the_inverse_of_frequency_and_amplitudes_keep_the_flux_scale() -> None:
    time_s, scan = np.linspace(0.0, 40.0, 5), np.ones(5, dtype=np.int32)
    errors = StationErrors(tec_walk_tecu=0.01, amp_offset=0.1, amp_slow=0.05)
    frequency = np.array([120e6, 150e6])
    gain = draw_gains(errors, 3, ["A", "B", "C"], time_s, frequency, scan)
    phase = np.unwrap(np.angle(gain), axis=0)
    np.testing.assert_allclose(phase[:, 0] * 120e6, phase[:, 1] * 150e6, atol=1e-3)
    np.testing.assert_allclose(np.log(np.abs(gain)).mean(axis=2), 0.0, atol=1e-12)
    assert np.log(np.abs(gain)).std() == pytest.approx(0.1, rel=0.8)


def test_scale_factors_go_by_the_first_pattern() -> None:
    time_s, scan = np.linspace(0.0, 80.0, 9), np.ones(9, dtype=np.int32)
    errors = StationErrors(phase_walk_deg=90.0, scale=(("CS*", 0.0), ("*", 1.0)))
    gain = draw_gains(errors, 3, ["CS001", "DE601"], time_s, FREQUENCY, scan)
    np.testing.assert_array_equal(gain[:, :, 0], 1.0)
    assert np.abs(np.angle(gain[:, :, 1])).max() > 0


# ---- measurement sets ------------------------------------------------------------------------

ERRORS = StationErrors(
    phase_walk_deg=60.0, phase_offset_deg=30.0, pol_offset_deg=20.0, amp_offset=0.1, amp_slow=0.05
)
SKY = (Source(1.0, 3.0, -2.0), Source(0.5, 0, 0, 1.0, 0.4, 20.0))


def test_rows_are_what_the_observation_says(tmp_path: Path) -> None:
    made = simulate(tmp_path / "a.ms", observe(noise_jy=0.1), SKY, ERRORS, seed=1)
    summary = summarise(made.ms)
    assert summary.rows == made.observation.rows == 12 * 2 * 15
    assert summary.correlation == ("RR", "LL")
    assert summary.scans == 2
    assert summary.integration_s == pytest.approx(10.0)
    assert summary.telescope == "VLA"
    assert summary.antenna == made.gains.antenna
    assert np.all(np.diff(column(made.ms, "TIME")) >= 0)
    np.testing.assert_allclose(summary.frequency_hz[0], SPWS[0].frequency_hz)
    np.testing.assert_array_equal(np.unique(column(made.ms, "TIME")), made.gains.time_s)


def test_data_are_gains_times_sky(tmp_path: Path) -> None:
    made = simulate(tmp_path / "a.ms", observe(), SKY, ERRORS, seed=1)
    data, perfect = column(made.ms, "DATA"), column(made.perfect_ms, "DATA")
    first, second = made.observation.baselines
    g = made.gains.gain
    factor = g[:, :, first] * np.conj(g[:, :, second])  # time, spw, baseline, pol
    factor = factor.reshape(-1, 1, 2)
    np.testing.assert_allclose(data, perfect * factor, atol=2e-6)
    uvw = column(made.ms, "UVW")[: len(first)]
    expected = np.exp(
        2j * np.pi * (uvw @ np.array([3.0, -2.0, 0.0]) * ARCSEC) * 4.9e9 / 299792458.0
    )
    point = simulate(tmp_path / "b.ms", observe(), SKY[:1], perfect=False)
    np.testing.assert_allclose(column(point.ms, "DATA")[: len(first), 1, 0], expected, atol=1e-4)


def test_noise_agrees_with_sigma_and_weight(tmp_path: Path) -> None:
    names = small_array().name
    observation = observe(
        noise_jy=0.2, scan_s=600.0, noise_scale=((names[0], 4.0),), correlations=("XX", "YY")
    )
    made = simulate(tmp_path / "a.ms", observation, [], seed=4)
    data, sigma = column(made.ms, "DATA"), column(made.ms, "SIGMA")
    noisy = (column(made.ms, "ANTENNA1") == 0) | (column(made.ms, "ANTENNA2") == 0)
    for rows, expected in ((noisy, 0.4), (~noisy, 0.2)):
        np.testing.assert_allclose(sigma[rows], expected, rtol=1e-6)
        assert data[rows].real.std() == pytest.approx(expected, rel=0.02)
        assert data[rows].imag.std() == pytest.approx(expected, rel=0.02)
    np.testing.assert_allclose(column(made.ms, "WEIGHT"), sigma**-2.0, rtol=1e-5)
    weight = np.repeat(column(made.ms, "WEIGHT")[:, None], 3, axis=1)
    assert made.natural_rms_jy_beam == pytest.approx(weight.sum(dtype=float) ** -0.5, rel=1e-5)


def test_lofar_baselines_run_the_other_way(tmp_path: Path) -> None:
    array = small_array()
    vla = simulate(tmp_path / "a.ms", observe(), SKY, perfect=False)
    array = dataclasses.replace(array, telescope="LOFAR")
    lofar = simulate(tmp_path / "b.ms", observe(array=array), SKY, perfect=False)
    np.testing.assert_allclose(column(vla.ms, "UVW"), -column(lofar.ms, "UVW"))
    np.testing.assert_allclose(column(vla.ms, "DATA"), column(lofar.ms, "DATA").conj(), atol=1e-6)


def inverse(gains: GainSolutions) -> GainSolutions:
    return dataclasses.replace(gains, gain=1 / gains.gain)


def test_dividing_by_the_truth_gives_the_perfect_data(tmp_path: Path) -> None:
    made = simulate(tmp_path / "a.ms", observe(noise_jy=0.1), SKY, ERRORS, seed=1)
    multiply_ms(made.ms, inverse(made.gains))
    np.testing.assert_allclose(column(made.ms, "DATA"), column(made.perfect_ms, "DATA"), atol=2e-6)


def test_the_seed_decides_and_the_chunks_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def data(seed: int, name: str) -> NDArray[Any]:
        made = simulate(tmp_path / name, observe(noise_jy=0.1), SKY, ERRORS, seed=seed)
        return column(made.ms, "DATA")

    one = data(1, "a.ms")
    monkeypatch.setattr(simulate_module, "_CHUNK_BYTES", 5000)
    np.testing.assert_array_equal(one, data(1, "b.ms"))
    assert np.abs(one - data(2, "c.ms")).max() > 0.1


def test_spectral_windows_may_differ_in_length(tmp_path: Path) -> None:
    spws = (SpectralWindow(4.9e9, 64e6, 3), SpectralWindow(5.1e9, 64e6, 5))
    made = simulate(tmp_path / "a.ms", observe(spws=spws), [Source(1.0)], ERRORS, seed=1)
    assert summarise(made.ms).channels == 8
    multiply_ms(made.ms, inverse(made.gains))
    with open_table(made.ms) as opened:
        for row in (0, 20, 100):
            cell = opened.getcell("DATA", row)
            assert cell.shape == (5 if opened.getcell("DATA_DESC_ID", row) else 3, 2)
            np.testing.assert_allclose(cell, 1.0, atol=1e-6)


def test_cross_hands_hold_noise_only(tmp_path: Path) -> None:
    observation = observe(correlations=("XX", "XY", "YX", "YY"), noise_jy=1e-3)
    made = simulate(tmp_path / "a.ms", observation, [Source(1.0)], ERRORS, seed=1)
    perfect = column(made.perfect_ms, "DATA")
    np.testing.assert_allclose(perfect[:, :, [0, 3]], 1.0, atol=0.02)
    assert np.abs(perfect[:, :, 1:3]).max() < 0.02
    multiply_ms(made.ms, inverse(made.gains))
    np.testing.assert_allclose(column(made.ms, "DATA"), perfect, atol=1e-6)


def test_screen_gains_are_those_in_the_data(tmp_path: Path) -> None:
    errors = StationErrors(screen=TecScreen(0.05), phase_offset_deg=20.0)
    spws = (SpectralWindow(150e6, 8e6, 4),)
    observation = observe(spws=spws)
    near, far = Source(1.0, 10, 20, name="near"), Source(1.0, 900, -1500, name="far")
    both = simulate(tmp_path / "a.ms", observation, [near, far], errors, seed=5)
    assert set(both.direction_gains) == {"near", "far"}
    assert both.gains.shape[1] == 1
    first, second = observation.baselines
    total: NDArray[Any] = np.zeros((12, 4, 15, 2), dtype=complex)
    uvw = observation.uvw_sign * antenna_uvw(
        observation.array.position_m, observation.direction_rad, observation.time_s
    )
    for source in (near, far):
        g = both.direction_gains[source.name].gain
        table = source_table([source], spws[0].frequency_hz, 150e6)
        sky = sky_visibilities(uvw, first, second, spws[0].frequency_hz, table)
        sky = np.moveaxis(sky, 1, 2)[..., None]
        total += g[:, :, first] * np.conj(g[:, :, second]) * sky
    data = column(both.ms, "DATA").reshape(12, 15, 4, 2)
    np.testing.assert_allclose(data, np.moveaxis(total, 2, 1), atol=1e-5)
    apart = both.direction_gains["near"].gain / both.direction_gains["far"].gain
    relative = np.angle(apart / apart[:, :, :1])
    assert relative.std() > 0.02
    tec = relative / TEC_PHASE_HZ * spws[0].frequency_hz[None, :, None, None]
    np.testing.assert_allclose(tec[:, 0], tec[:, 3], atol=1e-6)


def test_corrupting_and_dividing_gives_back_the_original(tmp_path: Path) -> None:
    made = simulate(tmp_path / "a.ms", observe(noise_jy=0.1), SKY, seed=1, perfect=False)
    before = column(made.ms, "DATA")
    truth = corrupt_ms(made.ms, seed=7, phase_rms_deg=40.0, phase_drift_deg_s=0.3, amp_rms=0.1)
    changed = column(made.ms, "DATA")
    assert np.abs(changed - before).max() > 0.3
    assert truth.polarization == ("R", "L")
    assert truth.shape == (12, 2, 6, 2)
    multiply_ms(made.ms, inverse(truth))
    np.testing.assert_allclose(column(made.ms, "DATA"), before, rtol=1e-6, atol=1e-6)
    other = corrupt_ms(made.ms, seed=7)
    np.testing.assert_array_equal(truth.gain, other.gain)
    np.testing.assert_allclose(column(made.ms, "DATA"), changed, rtol=1e-6, atol=1e-6)


def test_corruption_has_the_size_asked_for(tmp_path: Path) -> None:
    array = load_configuration("vla.a")
    observation = observe(array=array, spws=SPWS[:1], scans=8, scan_s=50.0)
    made = simulate(tmp_path / "a.ms", observation, [], perfect=False)
    truth = corrupt_ms(made.ms, seed=3, phase_rms_deg=20.0, phase_drift_deg_s=0.3, amp_rms=0.1)
    phase = np.degrees(np.unwrap(np.angle(truth.gain), axis=0))
    middle = phase[2::5]  # of each scan of five integrations
    wrapped = (middle + 180) % 360 - 180
    assert wrapped.std() == pytest.approx(20.0, rel=0.1)
    rate = (phase[4::5] - phase[0::5]) / 40.0
    assert rate.std() == pytest.approx(0.3, rel=0.15)
    np.testing.assert_allclose(rate[..., 0], rate[..., 1], atol=1e-9)
    assert np.log(np.abs(truth.gain[0])).std() == pytest.approx(0.1, rel=0.25)


def test_gains_of_other_times_are_refused(tmp_path: Path) -> None:
    made = simulate(tmp_path / "a.ms", observe(), [], perfect=False)
    later = dataclasses.replace(made.gains, time_s=made.gains.time_s + 1e4)
    with pytest.raises(InputError, match="time stamps"):
        multiply_ms(made.ms, inverse(later))
    with pytest.raises(InputError, match="MODEL_DATA"):
        corrupt_ms(made.ms, seed=1, column="MODEL_DATA")


def test_shapes_within_windows_are_as_stated() -> None:
    """Delays turn about the middle of each window; waves leave the mean of the stations at 1."""
    names = [f"A{number}" for number in range(200)]
    hz = np.concatenate([1.4e9 + 1e6 * np.arange(32), 1.7e9 + 2e6 * np.arange(32)])
    spw = np.repeat([0, 1], 32)
    scan = np.ones(2, np.int32)

    def gains(**errors: float) -> NDArray[np.complex128]:
        made = StationErrors(phase_offset_deg=30.0, **errors)
        return draw_gains(made, 7, names, np.array([0.0, 10.0]), hz, scan, spw=spw)

    plain, delayed, rippled = gains(), gains(spw_delay_ns=5.0), gains(ripple=0.1)
    for window, width in ((0, 1e6), (1, 2e6)):
        turn = (delayed / plain)[0, spw == window]
        assert np.allclose(np.abs(turn), 1.0)
        step = np.angle(turn[1:] / turn[:-1])
        assert np.allclose(step, step[:1]), "one delay in each window"
        assert np.std(step[0]) / (2e-9 * np.pi * width) == pytest.approx(5.0, rel=0.1)
        assert np.allclose(np.angle(turn.prod(axis=0)), 0.0, atol=1e-9), "about its middle"
        wave = np.log((rippled / plain)[0, spw == window])
        assert np.allclose(wave.real.mean(axis=1), 0.0, atol=1e-12)
        assert np.std(wave.imag) == pytest.approx(0.1 / np.sqrt(2), rel=0.02)
        assert np.std(wave.real) == pytest.approx(0.1 / np.sqrt(2), rel=0.02)
