"""The starting model from closure quantities: its place, its flux, and what it fills in."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from libs.closure.fringe_place import FringePlace
from libs.closure.model import ComponentModel, FluxOrigin
from libs.core.gaussian import GaussianComponent
from libs.core.geometry import SPEED_OF_LIGHT_M_S
from libs.imaging.statistics import ImageStatistics
from libs.ms.tables import open_table
from steps import source_place
from steps.closure_data import closure_input
from steps.closure_model import (
    ARCSEC,
    InitialModel,
    _with_flux,
)
from steps.model_components import fill_component_model
from tests.steps.fake_tools import Looks, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run up to the model of a simulated point source behind station phases."""
    workdir = tmp_path_factory.mktemp("closure")
    names = ("startup", "test_image", "closure_stats", "initial_model")
    most = {"initial_model.max_components": 2}
    pipeline, _ = make_run(workdir, {"": Looks(1.0, 0.02)}, names=names, assignments=most)
    return pipeline, pipeline.run(), workdir


def test_every_station_of_a_point_source_is_coherent(run: Any) -> None:
    _, results, workdir = run
    stats = results["closure_stats"]
    assert stats.metrics["station_coherent_fraction"] == 1
    with (workdir / "closure.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["station"] for row in rows] == [f"A{i}" for i in range(7)]
    assert {row["coherent"] for row in rows} == {"True"}
    assert stats.reason.startswith("7 of 7 stations coherent")


def test_a_point_source_behind_station_phases_is_modelled(run: Any) -> None:
    _, results, workdir = run
    model = results["initial_model"]
    assert model.status == "done"
    written = json.loads((workdir / "initial_model.json").read_text())
    assert written["accepted"] == model.metrics["accepted"]
    assert sum(c["flux_jy"] for c in written["components"]) == pytest.approx(1.0, rel=0.1)
    assert model.metrics["model_flux_jy"] == pytest.approx(1.0, rel=0.1)
    assert (workdir / "initial_model.txt").exists()


def test_a_fit_begun_ahead_is_the_same_and_goes_by_the_data(run: Any) -> None:
    pipeline, _, _ = run
    context, step = pipeline.context, InitialModel("initial_model")
    context.options = {**pipeline.state.get("initial_model").settings, "model": "auto"}
    data = closure_input(context).averaged()
    key, fit, *given = step._fit(context, data)
    context.ahead.begin(step.name, *step._fit(context, data))
    begun = context.ahead.take(step.name, key)
    here = fit(*given)
    assert replace(begun, seconds=0.0, ladder=()) == replace(here, seconds=0.0, ladder=())
    assert begun.components == here.components
    flagged = data.sigma.copy()
    flagged[0, 0, 0] = np.inf
    assert step._fit(context, replace(data, sigma=flagged))[0] != key
    context.options = {**context.options, "max_components": 1}
    assert step._fit(context, data)[0] != key


@pytest.mark.parametrize("centre", [(0.0, 0.0), (3 * ARCSEC, -2 * ARCSEC)])
def test_model_data_are_those_of_the_components_about_the_centre(
    run: Any, tmp_path: Path, centre: tuple[float, float]
) -> None:
    pipeline, _, workdir = run
    point = asdict(GaussianComponent(2.5, 0.0, 0.0, 0.0, 0.0, 0.0))
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"centre_rad": centre, "components": [point]}))
    fill_component_model(pipeline.context, path)
    with open_table(workdir / "data" / "point.ms") as opened:
        model, uvw = opened.getcol("MODEL_DATA"), opened.getcol("UVW")
    with open_table(workdir / "data" / "point.ms::SPECTRAL_WINDOW") as windows:
        hz = windows.getcell("CHAN_FREQ", 0)
    l0, m0 = centre
    path_m = uvw @ np.array([l0, m0, np.sqrt(1 - l0**2 - m0**2) - 1])
    expected = 2.5 * np.exp(2j * np.pi * path_m[:, None] * hz / SPEED_OF_LIGHT_M_S)
    np.testing.assert_allclose(model, expected[:, :, None].repeat(2, axis=2), atol=1e-4)


POINT = GaussianComponent(0.1, 0.0, 0.0, 0.0, 0.0, 0.0)


def centre_of(
    wanted: str,
    *,
    snr: float,
    components: Sequence[GaussianComponent] = (POINT,),
    partial: bool = False,
    found: FringePlace | None = None,
) -> tuple[float, float]:
    """Where the origin goes; the image's peak is 20 pixels east, 10 north, its beam 1 arcsec.

    Fringes tell nothing, or ``found``.
    """
    statistics = {field.name: 1.0 for field in fields(ImageStatistics)}
    test = {**statistics, "imsize": (256, 256), "cell_arcsec": 0.5, "peak_x_pixel": 108,
            "peak_y_pixel": 138, "snr": snr, "judged": "test_image", "judged_with": {}}  # fmt: skip
    context = SimpleNamespace(
        results={"test_image": SimpleNamespace(metrics=test, products={})},
        options={"centre": wanted},
        metric=test.get,
        clock=SimpleNamespace(time=lambda name: nullcontext()),
    )  # fmt: skip
    model = SimpleNamespace(components=tuple(components), partial=partial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_place, "place_by_fringes", lambda *given: found)
        place = InitialModel("initial_model")._start(context, model, None)  # type: ignore[arg-type]
    return place.offset_rad


def test_the_centroid_at_the_phase_centre() -> None:
    components = (
        GaussianComponent(0.6, 0.0, 0.0, 0.0, 0.0, 0.0),
        GaussianComponent(0.2, 4 * ARCSEC, -8 * ARCSEC, 0.0, 0.0, 0.0),
    )
    context, model = (
        SimpleNamespace(options={"centre": "centroid"}),
        SimpleNamespace(components=components),
    )
    centre, said = InitialModel("initial_model")._centre(context, model, None)  # type: ignore[arg-type]
    assert centre == pytest.approx((-1 * ARCSEC, 2 * ARCSEC)) and said == ""


def test_where_the_model_starts() -> None:
    peak = pytest.approx((20 * 0.5 * ARCSEC, 10 * 0.5 * ARCSEC))
    assert centre_of("peak", snr=1.0) == peak
    assert centre_of("phase_centre", snr=100.0) == (0.0, 0.0)
    assert centre_of("auto", snr=20.0) == peak, "the image shows the source"
    assert centre_of("auto", snr=19.9) == (0.0, 0.0), "nothing tells"


def test_fringes_move_a_model_away_from_artefacts() -> None:
    far = (-40 * ARCSEC, 30 * ARCSEC)
    sure, unsure = (FringePlace(far, sigma, 4.5, 60.0, False) for sigma in (6.0, 4.4))
    assert centre_of("auto", snr=5.0, found=sure) == far
    assert centre_of("auto", snr=50.0, found=sure) == far, "bright artefacts"
    assert centre_of("auto", snr=5.0, found=unsure) == (0.0, 0.0)
    near = replace(sure, offset_rad=(2 * ARCSEC, 0.0))
    assert centre_of("auto", snr=5.0, found=near) == (0.0, 0.0), "the image tells that better"
    peak = pytest.approx((10 * ARCSEC, 5 * ARCSEC))
    assert centre_of("auto", snr=50.0, found=sure, partial=True) == peak, "of half a model"


def test_a_wide_disc_of_more_flux_is_not_put_where_the_image_peaks() -> None:
    disc = GaussianComponent(0.17, 0.0, 0.0, 5 * ARCSEC, 4 * ARCSEC, 0.0)
    point = GaussianComponent(0.09, -20 * ARCSEC, -343 * ARCSEC, 0.0, 0.0, 0.0)
    found = centre_of("auto", snr=161.0, components=(disc, point))
    assert found == pytest.approx(((10 + 20) * ARCSEC, (5 + 343) * ARCSEC)), "the point is there"


def test_a_flux_that_closures_do_not_tell_is_that_of_the_image() -> None:
    one = GaussianComponent(0.25, 0.0, 0.0, 0.0, 0.0, 0.0, flux_err_jy=0.01)
    model = ComponentModel(
        components=(one, replace(one, flux_jy=0.75)), chi2_phase=1.0, chi2_amplitude=1.0,
        reduced_chi2=1.0, n_phase=10.0, n_amplitude=10, n_parameters=1, detection_sigma=50.0,
        detection_limit=3.0, ladder=(), accepted=True, partial=False, reason="",
        two_component=None, flux_origin=FluxOrigin.UNKNOWN, seconds=0.1,
    )  # fmt: skip
    scaled = _with_flux(model, 4.0)
    assert [c.flux_jy for c in scaled.components] == pytest.approx([1.0, 3.0])
    assert scaled.components[0].flux_err_jy == pytest.approx(0.04)
    assert scaled.flux_origin is FluxOrigin.TEST_IMAGE
    assert _with_flux(model, 0.0) is model
    assert _with_flux(scaled, 8.0) is scaled, "a flux that is known stays"
