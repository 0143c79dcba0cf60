"""Component models from closure quantities: constants, derivatives, recovery, false alarms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from benchmarks.closure_cases import (
    ARCSEC,
    JET_SOURCE,
    LOFAR_SOURCE,
    LOFAR_STATIONS,
    Gaussian,
    jet_case,
    lofar_case,
    noise_case,
    read_uvfits,
    simulate,
)
from libs.closure.fit import gradient_map, minimise, objective
from libs.closure.model import ComponentModel, FitOptions, FluxOrigin, fit_components
from libs.closure.problem import Components, FitProblem
from libs.closure.statistics import closure_quantities
from libs.core.gaussian import GaussianComponent
from libs.core.geometry import SPEED_OF_LIGHT_M_S

EXACT = FitOptions(phase_floor_rad=0.0, amplitude_floor=0.0)
FEW = dict(list(LOFAR_STATIONS.items())[:7])


def observe(source, sigma_jy=0.02, stations=FEW, **keywords):
    options = {
        "frequency_hz": [150e6], "dec_deg": 55, "hours": 1, "integration_s": 20,
        "walk_deg_per_10min": 300, "amplitude_error": 0.1,
    }  # fmt: skip
    return simulate(stations, source, sigma_jy=sigma_jy, **{**options, **keywords})


@pytest.fixture(scope="module")
def lofar() -> ComponentModel:
    return fit_components(closure_quantities(lofar_case(), 60), EXACT, total_flux_jy=0.6)


@pytest.fixture(scope="module")
def problem() -> FitProblem:
    return FitProblem.from_closures(closure_quantities(observe(LOFAR_SOURCE), 120))


def test_gaussian_visibility_against_an_image() -> None:
    """The analytic visibility is the Fourier transform of the brightness it stands for."""
    component = GaussianComponent(
        2.0, 3 * ARCSEC, -2 * ARCSEC, 4 * ARCSEC, 2 * ARCSEC, np.deg2rad(30)
    )
    step = 0.1 * ARCSEC
    east, north = np.meshgrid(*2 * [np.arange(-150, 151) * step], indexing="ij")
    x, y = east - component.l_rad, north - component.m_rad
    along = x * np.sin(component.pa_rad) + y * np.cos(component.pa_rad)
    across = x * np.cos(component.pa_rad) - y * np.sin(component.pa_rad)
    four_ln2 = 4 * np.log(2)
    image = np.exp(
        -four_ln2 * ((along / component.major_rad) ** 2 + (across / component.minor_rad) ** 2)
    )
    image *= 2.0 / image.sum()
    assert image[0].max() < 1e-12
    for u, v in ((0.0, 0.0), (2e4, 1e4), (-1e4, 3e4)):
        # The phase of the UVW column: plus, as CASA and WSClean predict.
        sky = (image * np.exp(2j * np.pi * (u * east + v * north))).sum()
        assert component.visibility(np.array(u), np.array(v)) == pytest.approx(sky, abs=1e-6)
    half = GaussianComponent(1, 0, 0, 2 * ARCSEC, 2 * ARCSEC, 0)
    at_half = 2 * np.log(2) / np.pi / (2 * ARCSEC)  # V = 1/2
    assert abs(half.visibility(np.array(at_half), np.array(0.0))) == pytest.approx(0.5)


def random_components(seed: int) -> Components:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5))
    position = rng.normal(0, 2, (count, 2))
    position[0] = 0
    log_flux = rng.normal(-1, 0.7, count)
    log_flux[0] = 0
    shape = rng.uniform(-0.3, 0.3, (count, 3))
    extended = rng.random(count) < 0.6
    return Components(log_flux, position, np.where(extended[:, None], shape, 0.0), extended)


@settings(max_examples=30, deadline=None)
@example(461, "amplitudes")  # a wrap within the step
@given(st.integers(0, 2**32 - 1), st.sampled_from(["phases", "amplitudes", "known stations"]))
def test_gradient_is_the_finite_difference(problem, seed, kind) -> None:
    if kind == "phases":
        problem = replace(problem, log_weight=np.zeros_like(problem.log_weight), n_amplitude=0)
    if kind == "known stations":
        problem = replace(problem, gain_weight=np.linspace(1.0, 20.0, problem.nant))
    model = random_components(seed)
    vector = model.vector()
    if not len(vector):
        return
    from libs.closure.fit import _run

    slope = -2 * model.chain().T @ _run(problem, model, model.free(), False)[2]
    numeric = np.empty_like(vector)
    here = sum(objective(problem, model))
    for n in range(len(vector)):
        step = np.zeros_like(vector)
        step[n] = 1e-6
        high = sum(objective(problem, model.with_vector(vector + step)))
        low = sum(objective(problem, model.with_vector(vector - step)))
        # chi2 jumps where a closure phase wraps between the two: there is no slope to compare
        assume(abs(high + low - 2 * here) < 1)
        numeric[n] = (high - low) / 2e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-4 * np.abs(slope).max() + 1e-2)


@pytest.mark.parametrize("known", [False, True])
def test_covariances_against_dense_matrices(known: bool) -> None:
    """chi2 of one block, shared baselines and marginalised gains, from explicit inverses."""
    closures = closure_quantities(observe(LOFAR_SOURCE, 0.05, hours=0.05), 300)
    errors = np.linspace(0.05, 0.3, len(FEW))
    problem = FitProblem.from_closures(closures, gain_error=tuple(errors) if known else ())
    assert len(problem.nshared) == 1
    model = Components.single().with_new(np.log(0.4), np.array([2.0, 1.0]), 0.1)
    phases, cells = closures.phases, len(problem.u)
    vis = np.ones(cells, complex)
    a, b, c = model.covariance[1]
    u, v = problem.u, problem.v
    vis += 0.4 * np.exp(
        2j * np.pi * (2 * u + v) - 2 * np.pi**2 * (a * u * u + 2 * b * u * v + c * v * v)
    )
    sign = np.array([1, 1, -1])
    load = np.zeros((len(phases), cells))
    np.put_along_axis(
        load,
        problem.triangle,
        np.sqrt(phases.fraction / phases.concentration[:, None]) * sign,
        axis=1,
    )
    shared = load @ load.T
    total = np.diag(1 / phases.concentration + 0.02**2)
    covariance = total + shared - np.diag(np.diag(shared))
    angle = np.angle(vis)[problem.triangle] @ sign
    residual = 2 * np.sin(np.angle(np.exp(1j * (problem.phase - angle))) / 2)
    chi2_phase = residual @ np.linalg.solve(covariance, residual)
    incidence = np.zeros((cells, problem.nant))
    incidence[np.arange(cells), problem.ant1] = incidence[np.arange(cells), problem.ant2] = 1
    gains = np.diag(errors**2) if known else 1e6 * np.eye(problem.nant)
    noise = np.diag(1 / problem.log_weight) + incidence @ gains @ incidence.T
    # a factor of all amplitudes, the flux of the model, is never known
    noise += 1e6 * np.ones((cells, cells))
    left = problem.log_amplitude - np.log(np.abs(vis))
    chi2_amplitude = left @ np.linalg.solve(noise, left)
    assert objective(problem, model) == pytest.approx((chi2_phase, chi2_amplitude), rel=1e-3)
    assert problem.n_amplitude == cells - len(FEW)


def test_fit_to_pure_noise_has_the_right_chi2() -> None:
    ratio = []
    for seed in range(6):
        closures = closure_quantities(observe((Gaussian(0.5),), 0.01, seed=seed), 120)
        problem = FitProblem.from_closures(closures, phase_floor_rad=0, amplitude_floor=0)
        phase, amplitude = objective(problem, Components.single())
        ratio.append((phase / problem.n_phase, amplitude / problem.n_amplitude))
    spread = np.sqrt(2 / (6 * problem.n_amplitude))
    assert np.mean(ratio, axis=0) == pytest.approx([1.0, 1.0], abs=4 * spread)


def test_gradient_map_points_to_the_missing_component(problem) -> None:
    axis = np.linspace(-12, 12, 97)
    gain = gradient_map(problem, Components.single(), axis)
    i, j = np.unravel_index(int(gain.argmax()), gain.shape)
    assert (
        np.hypot(
            axis[i] * problem.unit_rad / ARCSEC - 1.6, axis[j] * problem.unit_rad / ARCSEC - 0.7
        )
        < 0.15
    )


def test_recovers_the_lofar_source_behind_phase_walk(lofar) -> None:
    assert lofar.accepted and not lofar.partial, lofar.reason
    assert len(lofar.components) == 2
    core, blob = lofar.components
    assert blob.flux_jy / core.flux_jy == pytest.approx(0.5, abs=0.01)
    assert lofar.total_flux_jy == pytest.approx(0.6)
    assert (core.l_rad, core.m_rad) == (0, 0)
    truth = LOFAR_SOURCE[1]
    for value, error, true in (
        (blob.l_rad, blob.l_err_rad, truth.l_arcsec),
        (blob.m_rad, blob.m_err_rad, truth.m_arcsec),
        (blob.major_rad, blob.major_err_rad, truth.major_arcsec),
        (blob.minor_rad, blob.minor_err_rad, truth.minor_arcsec),
    ):
        assert value / ARCSEC == pytest.approx(true, abs=0.02)
        assert abs(value / ARCSEC - true) < 4.5 * error / ARCSEC
    assert np.rad2deg(blob.pa_rad) == pytest.approx(30, abs=2)
    assert abs(np.rad2deg(blob.pa_rad) - 30) < 4.5 * np.rad2deg(blob.pa_err_rad)
    assert core.major_rad < 0.06 * ARCSEC
    assert lofar.reduced_chi2 == pytest.approx(1.0, abs=0.05)
    assert lofar.seconds < 60  # a few on an idle machine, kernels compiled


def test_two_component_answer_and_ladder(lofar) -> None:
    two = lofar.two_component
    assert two is not None and two.accepted and two.bic_gain > 1e4
    assert len(two.components) == 2
    names = [tried.name for tried in lofar.ladder]
    assert names[:2] == ["point", "1 Gaussian"]
    assert sum(tried.taken for tried in lofar.ladder) == 1
    assert max(tried.n_components for tried in lofar.ladder) == 3  # tried, not taken


def test_jet_improves_at_every_step() -> None:
    options = FitOptions(max_phases=2500)
    model = fit_components(closure_quantities(jet_case(), 120), options, total_flux_jy=0.98)
    assert model.accepted and len(model.components) == 4, model.reason
    best = [min(t.bic for t in model.ladder if t.n_components == n) for n in range(1, 6)]
    assert np.all(np.diff(best[:4]) < -10)
    assert best[4] > best[3] - 10
    for found, true in zip(model.components, JET_SOURCE, strict=True):
        assert found.flux_jy == pytest.approx(true.flux_jy, rel=0.02)
        assert found.l_rad / ARCSEC == pytest.approx(true.l_arcsec, abs=3e-5)
        assert found.m_rad / ARCSEC == pytest.approx(true.m_arcsec, abs=3e-5)
        assert found.major_rad / ARCSEC == pytest.approx(true.major_arcsec, abs=5e-5)
    two = model.two_component
    assert two is not None and not two.accepted and "chi2" in two.reason


def test_too_few_components_allowed_is_still_the_better_start() -> None:
    closures = closure_quantities(jet_case(), 300)
    model = fit_components(closures, FitOptions(max_components=2))
    assert model.accepted and model.partial and model.reduced_chi2 > 10
    assert "not a full description" in model.reason


def test_errors_cover_the_truth() -> None:
    """Over noise realisations the pulls have unit width."""
    pulls = []
    for seed in range(6):
        data = observe(LOFAR_SOURCE, 0.02, seed=seed)
        options = replace(EXACT, max_components=2, seeds=4)
        model = fit_components(closure_quantities(data, 60), options, total_flux_jy=0.6)
        blob = model.components[1]
        pulls.append(
            [
                (blob.flux_jy - 0.2) / blob.flux_err_jy,
                (blob.l_rad / ARCSEC - 1.6) / blob.l_err_rad * ARCSEC,
                (blob.m_rad / ARCSEC - 0.7) / blob.m_err_rad * ARCSEC,
                (blob.major_rad / ARCSEC - 0.4) / blob.major_err_rad * ARCSEC,
                (blob.minor_rad / ARCSEC - 0.2) / blob.minor_err_rad * ARCSEC,
            ]
        )
    assert 0.7 < np.sqrt(np.mean(np.square(pulls))) < 1.4


def test_a_point_stays_a_point() -> None:
    for seed in range(4):
        model = fit_components(closure_quantities(observe((Gaussian(0.3),), 0.1, seed=seed), 120))
        assert model.accepted and len(model.components) == 1
        assert model.components[0].major_rad < 0.1 * ARCSEC
        assert model.two_component is not None and not model.two_component.accepted


def test_noise_is_not_accepted() -> None:
    """60 skies without a source and a stated rate of 5 %: 8 is 99 % of the binomial."""
    options = FitOptions(false_alarm=0.05, max_components=2, seeds=3)
    accepted = 0
    for seed in range(60):
        data = observe((), 0.1, hours=0.4, seed=seed)
        model = fit_components(closure_quantities(data, 120), options)
        accepted += model.accepted
        assert model.accepted or ("noise" in model.reason and len(model.components) == 1)
        assert model.two_component is None or model.accepted or not model.two_component.accepted
    assert accepted <= 8


def test_nothing_is_invented_in_a_long_noise_track() -> None:
    model = fit_components(closure_quantities(noise_case(), 60))
    assert not model.accepted and "noise" in model.reason
    assert model.flux_origin is FluxOrigin.UNKNOWN


def test_flux_scale_and_centre() -> None:
    source = (Gaussian(1.2), Gaussian(0.6, 1.6, 0.7))
    data = observe(source, 0.02, amplitude_error=0.0)
    centre = (3 * ARCSEC, -2 * ARCSEC)
    model = fit_components(closure_quantities(data, 60), centre_rad=centre)
    assert model.total_flux_jy == pytest.approx(1.8, rel=0.02)
    assert model.flux_origin is FluxOrigin.SHORTEST_BASELINES
    first, second = model.components
    assert (first.l_rad, first.m_rad) == centre
    assert (second.l_rad - first.l_rad) / ARCSEC == pytest.approx(1.6, abs=0.02)


def test_predict_is_the_simulated_sky(lofar) -> None:
    data = lofar_case()
    frequency = data.frequency_hz
    predicted = lofar.predict(data.uvw_m[:, ::50], frequency)
    assert predicted.shape == (*data.uvw_m[:, ::50].shape[:2], 2)
    u = data.uvw_m[:, ::50, 0, None] * frequency / SPEED_OF_LIGHT_M_S
    v = data.uvw_m[:, ::50, 1, None] * frequency / SPEED_OF_LIGHT_M_S
    truth = sum(g.visibility(u, v) for g in LOFAR_SOURCE)
    assert np.abs(predicted - truth).max() < 0.02
    np.testing.assert_allclose(
        lofar.predict(data.uvw_m[0, 0], float(frequency[0])), predicted[0, 0, 0]
    )


def test_reference_component_can_be_changed() -> None:
    model = random_components(12)
    assert len(model) > 1
    other = model.referred_to(1)
    problem_ = FitProblem.from_closures(closure_quantities(observe(LOFAR_SOURCE), 600))
    assert objective(problem_, other) == pytest.approx(objective(problem_, model), rel=1e-6)
    assert other.log_flux[0] == 0 and (other.position[0] == 0).all()


def test_phases_alone() -> None:
    data = observe(LOFAR_SOURCE, 0.02)
    options = replace(EXACT, use_amplitudes=False)
    model = fit_components(closure_quantities(data, 60), options, total_flux_jy=0.6)
    assert model.n_amplitude == 0 and model.accepted
    blob = model.components[1]
    assert blob.flux_jy == pytest.approx(0.2, abs=0.03)
    assert (blob.l_rad / ARCSEC, blob.m_rad / ARCSEC) == pytest.approx((1.6, 0.7), abs=0.03)


def test_minimum_is_found_from_afar(problem) -> None:
    start = Components.single().with_new(np.log(0.2), np.array([4.3, 1.2]), 0.3)
    fit = minimise(problem, minimise(problem, start, robust=True).model)
    assert fit.chi2 < 1.2 * problem.n_data
    assert np.exp(fit.model.log_flux[1]) == pytest.approx(0.5, abs=0.02)


def test_source_list(lofar, tmp_path: Path) -> None:
    model = replace(
        lofar,
        components=(
            GaussianComponent(1.25, 0, 0, 0, 0, 0, point=True),
            GaussianComponent(0.5, -ARCSEC, 2 * ARCSEC, 3 * ARCSEC, 1.5 * ARCSEC, np.pi / 4),
        ),
    )
    path = model.to_source_list(tmp_path / "m.txt", np.deg2rad(15.0), np.deg2rad(-0.5), 1.5e8)
    header, first, second = path.read_text().splitlines()
    assert header == (
        "Format = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, "
        "ReferenceFrequency='150000000.000000', MajorAxis, MinorAxis, Orientation"
    )
    assert first == (
        "s0,POINT,01:00:00.0000000,-00.30.00.0000000,1.25,[0],false,150000000.000000,,,"
    )
    fields = second.split(",")
    assert fields[1] == "GAUSSIAN" and fields[2].startswith("00:59:59.9333")
    assert fields[3].startswith("-00.29.58.0")
    assert [float(x) for x in fields[-3:]] == pytest.approx([3, 1.5, 45])


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="max_components"):
        FitOptions(max_components=7)
    with pytest.raises(ValueError, match="false_alarm"):
        FitOptions(false_alarm=0.0)


@pytest.mark.parametrize("name", ["095_lo", "096_hi"])
def test_ring_of_m87(shared_data: Path, name) -> None:
    """Bright in the south, some 40 microarcseconds across, as published (EHT Paper IV)."""
    data = read_uvfits(shared_data / f"eht/SR1_M87_2017_{name}_hops_netcal_StokesI.uvfits")
    options = FitOptions(field_rad=60e-6 * ARCSEC, phase_floor_rad=0.035, amplitude_floor=0.1)
    model = fit_components(closure_quantities(data, 120), options)
    assert model.accepted and model.reduced_chi2 < 1.5, model.reason
    chi2 = [min(t.chi2 for t in model.ladder if t.n_components == n) for n in (1, 2, 3)]
    assert chi2[0] > 3 * chi2[1] > 3 * chi2[2]
    m = [one.m_rad for one in model.components]
    assert sum(one.flux_jy for one in model.components) > 0
    size = max(np.ptp(m), max(c.major_rad for c in model.components))
    assert 20e-6 < size / ARCSEC < 120e-6
