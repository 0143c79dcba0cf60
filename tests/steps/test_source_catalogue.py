"""A catalogue's say: the size of the map, and the first model of a source it resolves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from libs.catalogues.query import SERVICES
from libs.closure.read import read_visibilities
from libs.core.coordinates import lm_to_radec
from libs.core.errors import InputError
from libs.core.gaussian import GaussianComponent
from libs.ms.tables import open_table
from libs.simulation.array_configurations import lofar_hba
from libs.simulation.observation import Observation, Source, SpectralWindow, StationErrors, simulate
from selfcal.pipeline import StepFailed
from steps import source_catalogue
from steps.facts import as_metrics
from steps.model_components import fill_component_model
from steps.source_catalogue import closure_chi2, map_grid
from tests.steps.fake_tools import Looks, make_run
from tests.steps.test_facts import STARTUP

ARCSEC = math.pi / 180 / 3600
NAMES = ("startup", "closure_stats", "test_image", "initial_model")
HEAD = "Source_Name,RA,DEC,Total_flux_Jy,Peak_flux_Jy,Isl_rms_Jy,DC_Maj,DC_Min,DC_PA,S_Code\n"


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, float]:
    """Phase centre of the made-up data, rad."""
    pipeline, _ = make_run(
        tmp_path_factory.mktemp("centre"), {"": Looks(1.0, 0.02)}, names=("startup",)
    )
    metrics = pipeline.run()["startup"].metrics
    return metrics["right_ascension_rad"], metrics["declination_rad"]


def entry(centre: tuple[float, float], name: str, east: float, north: float, flux: float,
          peak: float, major: float, code: str = "S") -> str:  # fmt: skip
    """A line of the catalogue; offsets from the phase centre in arcsec."""
    ra, dec = (math.degrees(a) for a in lm_to_radec(east * ARCSEC, north * ARCSEC, *centre))
    return f"{name},{ra:.10f},{dec:.10f},{flux},{peak},0.001,{major},0,0,{code}\n"


def start(tmp_path: Path, *lines: str, config: Any = None, **options: Any) -> Any:
    """Run up to the first model with a catalogue; return pipeline, imager and results."""
    (tmp_path / "lotss.csv").write_text(HEAD + "".join(lines))
    assigned = {"closure_stats.catalogue": str(tmp_path / "lotss.csv"),
                "initial_model.max_components": 1} | options  # fmt: skip
    pipeline, imager = make_run(
        tmp_path / "work", {"": Looks(1.0, 0.02)}, names=NAMES, config=config, assignments=assigned
    )
    return pipeline, imager, pipeline.run()


def test_the_gaussians_are_put_where_the_catalogue_has_them(
    tmp_path: Path, centre: tuple[float, float]
) -> None:
    core = entry(centre, "core", 1, 2, 0.4, 0.39, 0)
    pipeline, _, results = start(
        tmp_path, core, entry(centre, "lobe", -8, 3, 0.6, 0.5, 4),
        **{"initial_model.model": "catalogue"},
    )  # fmt: skip
    model = results["initial_model"]
    assert model.status == "done"
    assert model.reason == "catalogue: core, 2 entries within its map: 2 component(s), 1 Jy"
    assert model.metrics["model_origin"] == "catalogue"
    assert not model.metrics["closure_model_complete"], "amplitudes do not start from a survey"
    assert "closure_reduced_chi2" not in model.metrics
    path = tmp_path / "work" / model.metrics["closure_model"]
    lobe, first = json.loads(path.read_text())["components"]
    offsets = [first["l_rad"], first["m_rad"], lobe["l_rad"], lobe["m_rad"]]
    assert np.allclose(offsets, np.array([1, 2, -8, 3]) * ARCSEC, atol=1e-3 * ARCSEC)
    listed = (tmp_path / "work" / "initial_model.txt").read_text().splitlines()
    assert listed[1].startswith("s0,GAUSSIAN") and listed[2].startswith("s1,POINT")
    fill_component_model(pipeline.context, path)
    with open_table(tmp_path / "work" / "data" / "point.ms") as opened:
        values, uvw = opened.getcol("MODEL_DATA"), opened.getcol("UVW")
    with open_table(tmp_path / "work" / "data" / "point.ms::SPECTRAL_WINDOW") as windows:
        u, v = (uvw[:, i] * windows.getcell("CHAN_FREQ", 0)[0] / 299792458.0 for i in (0, 1))
    size = 4 * ARCSEC  # the lobe's minor axis is 0, its major one along north
    envelope = np.exp(-((np.pi * v * size) ** 2) / (4 * np.log(2)))
    expected = 0.4 * np.exp(2j * np.pi * (u + 2 * v) * ARCSEC) + 0.6 * envelope * np.exp(
        2j * np.pi * (-8 * u + 3 * v) * ARCSEC
    )
    np.testing.assert_allclose(values[:, 0, 0], expected, atol=1e-3)


def test_a_resolved_source_starts_from_its_gaussians_unless_closures_say_no(
    tmp_path: Path, centre: tuple[float, float]
) -> None:
    # the data are a point: a shape that their baselines do not resolve agrees, a double does not
    _, _, results = start(tmp_path, entry(centre, "a", 1, 2, 1.0, 0.5, 0.01))
    model = results["initial_model"]
    assert model.metrics["model_origin"] == "catalogue"
    assert model.reason.startswith(
        "catalogue: a, S_int/S_peak 2 at SNR 500: 1 component(s), 1 Jy; reduced chi2 of closures"
    )
    double = (entry(centre, "a", 1, 0, 0.5, 0.5, 0), entry(centre, "b", -8, 0, 0.5, 0.5, 0))
    _, _, results = start(tmp_path, *double)
    model = results["initial_model"]
    assert model.metrics["model_origin"] == "closures"
    assert model.reason.endswith("it has compact structure that the survey does not see")


def gaussian(flux: float, east: float, north: float, major: float, minor: float, pa: float) -> Any:
    return GaussianComponent(
        flux, east * ARCSEC, north * ARCSEC, major * ARCSEC, minor * ARCSEC, math.radians(pa)
    )


def test_closures_tell_a_smooth_double_from_one_with_a_hot_spot(tmp_path: Path) -> None:
    lobes = (Source(1.0, -4, 0, 3, 2, 20), Source(0.7, 4, 1, 4, 2, 120))
    spot = (Source(0.5, -4, 0, 3, 2, 20), Source(0.5, -4, 0.3), lobes[1])
    seen = (gaussian(1.0, -4, 0, 3, 2, 20), gaussian(0.7, 4, 1, 4, 2, 120))
    rough = (gaussian(0.9, -4.1, 0.1, 3.4, 2.3, 25), gaussian(0.75, 4, 1.1, 3.7, 2, 110))
    observation = Observation(
        lofar_hba(), (212.8, 52.2), 58849.4 * 86400, 8.0, 600.0,
        (SpectralWindow(144e6, 0.2e6, 4),), noise_jy=0.05,
    )  # fmt: skip
    errors = StationErrors(phase_walk_deg=300.0, amp_offset=0.05)
    options = {"interval": 60.0, "phase_floor": 0.02, "amplitude_floor": 0.02}
    data = {}
    for name, sky in (("smooth", lobes), ("spot", spot)):
        made = simulate(tmp_path / f"{name}.ms", observation, sky, errors, perfect=False)
        data[name] = read_visibilities(made.ms)
    own, point = closure_chi2(data["smooth"], seen, options)
    assert 0.5 < own < 1.5 and point > 10
    own, point = closure_chi2(data["smooth"], rough, options)
    assert own < 0.6 * point
    own, point = closure_chi2(data["spot"], seen, options)
    assert own > 2 * point


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("a", 1, 0, 1.0, 0.98, 0, "S"), "a is not resolved in the catalogue"),
        (("a", 1, 0, 1.0, 0.5, 5, "M"), "a is resolved (S_Code M) but its Gaussians are not given"),
    ],
)
def test_otherwise_closures_give_the_model(
    tmp_path: Path, centre: tuple[float, float], line: Any, said: str
) -> None:
    *numbers, code = line
    _, _, results = start(tmp_path, entry(centre, *numbers, code=code))
    model = results["initial_model"]
    assert model.metrics["model_origin"] == "closures"
    assert model.reason.endswith(f"; {said}")


def test_the_model_wanted_is_taken(tmp_path: Path, centre: tuple[float, float]) -> None:
    point = entry(centre, "a", 1, 0, 1.0, 0.98, 0)
    asked = {"initial_model.model": "catalogue"}
    _, _, results = start(tmp_path, point, **asked)
    assert results["initial_model"].metrics["model_origin"] == "catalogue"
    double = entry(centre, "b", 3, 0, 1.0, 0.98, 0)
    _, _, results = start(tmp_path, point, double, **{"initial_model.model": "closures"})
    assert results["initial_model"].metrics["model_origin"] == "closures"
    assert "catalogue" not in results["initial_model"].reason
    far = entry(centre, "a", 50, 0, 1.0, 0.98, 0)
    with pytest.raises(StepFailed, match="no catalogue entry for the initial model"):
        start(tmp_path, far, **asked)


def test_a_changed_list_is_read_again(tmp_path: Path, centre: tuple[float, float]) -> None:
    _, _, first = start(tmp_path, entry(centre, "a", 1, 0, 1.0, 0.98, 0))
    _, _, then = start(tmp_path, entry(centre, "b", 1, 0, 1.0, 0.98, 0))
    assert "a in lotss.csv" in first["closure_stats"].reason
    assert "b in lotss.csv" in then["closure_stats"].reason


def test_the_entry_sets_the_size_of_the_map(tmp_path: Path, centre: tuple[float, float]) -> None:
    wide = entry(centre, "a", 0, 0, 1.0, 0.5, 30)
    _, imager, results = start(tmp_path, wide, config={"imsize": "auto"})
    stats = results["closure_stats"]
    assert stats.metrics["map_arcsec"] == 90.0
    assert stats.metrics["imsize"] == [180, 180], "pixels of 0.5 arcsec"
    assert stats.reason.endswith("a in lotss.csv: resolved (S_int/S_peak 2 at SNR 500),"
                                 " map of 90 arcsec")  # fmt: skip
    assert imager.asked[0].imsize == (180, 180)
    with (tmp_path / "work" / "closure_pairs.csv").open() as stream:
        assert len(stream.readlines()) > 10


def test_a_size_given_stays_and_one_without_entry_is_the_option(
    tmp_path: Path, centre: tuple[float, float]
) -> None:
    _, imager, results = start(tmp_path, entry(centre, "a", 0, 0, 1.0, 0.5, 30))
    assert results["closure_stats"].metrics["map_arcsec"] == 90.0
    assert imager.asked[0].imsize == (256, 256)
    _, imager, results = start(
        tmp_path, entry(centre, "a", 99, 0, 1.0, 0.5, 30), config={"imsize": "auto"},
        **{"closure_stats.map_size": "100arcsec"},
    )  # fmt: skip
    assert "no entry within 10 arcsec in lotss.csv" in results["closure_stats"].reason
    assert imager.asked[0].imsize == (200, 200)


def test_a_survey_is_asked_about_the_phase_centre(
    tmp_path: Path, centre: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def answer(name: str, ra: float, dec: float, radius: float, folder: Path) -> Path:
        asked.append((name, ra, dec))
        if name == "first":
            raise InputError("first did not answer", "check the network")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "answer.csv"
        text = HEAD.replace("_Jy", "") + entry(centre, "a", 0, 0, 1000.0, 500.0, 30)
        path.write_text(text)
        return path

    monkeypatch.setattr(source_catalogue, "query_catalogue", answer)
    assert {"lotss", "first"} <= set(SERVICES)
    options = {"closure_stats.catalogue": "lotss", "initial_model.model": "catalogue"}
    _, _, results = start(tmp_path, **options)
    assert asked == [("lotss", *centre)]
    assert results["initial_model"].metrics["model_flux_jy"] == pytest.approx(1.0), "mJy"
    with pytest.raises(StepFailed, match="first did not answer"):
        start(tmp_path, **{"closure_stats.catalogue": "first"})


@pytest.mark.parametrize(("coherent_m", "pixels"), [(2e6, 128), (200e3, 864), (0.0, 2160)])
def test_the_map_has_many_beams_of_the_coherent_baselines(coherent_m: float, pixels: int) -> None:
    """At 120 MHz a beam of 200 km is 2.58 arcsec; less than 80 km are not imaged."""
    startup = replace(STARTUP, min_frequency_hz=119.9169832e6)
    metrics = {**as_metrics(startup), "cell_arcsec": 0.05}
    context: Any = SimpleNamespace(
        options={"map_size": 5.0}, settings={"imsize": "auto", "cell": "auto"}, metric=metrics.get
    )
    found = map_grid(context, None, coherent_m)
    assert found == {"map_arcsec": 5.0, "cell_arcsec": 0.05, "imsize": [pixels, pixels]}
