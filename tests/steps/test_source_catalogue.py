"""A catalogue's say: the size of the map, and the first model of a source it resolves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.catalogue_query import SERVICES
from libs.errors import InputError
from libs.tables import open_table
from libs.uvw import lm_to_radec
from selfcal.pipeline import StepFailed
from steps import source_catalogue
from steps.closure_model import fill_component_model
from tests.steps.fake_tools import Looks, make_run

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


def test_a_resolved_source_starts_from_its_gaussians(
    tmp_path: Path, centre: tuple[float, float]
) -> None:
    core = entry(centre, "core", 1, 2, 0.4, 0.39, 0)
    pipeline, _, results = start(tmp_path, core, entry(centre, "lobe", -8, 3, 0.6, 0.5, 4))
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
    _, _, results = start(tmp_path, **{"closure_stats.catalogue": "lotss"})
    assert asked == [("lotss", *centre)]
    assert results["initial_model"].metrics["model_flux_jy"] == pytest.approx(1.0), "mJy"
    with pytest.raises(StepFailed, match="first did not answer"):
        start(tmp_path, **{"closure_stats.catalogue": "first"})
