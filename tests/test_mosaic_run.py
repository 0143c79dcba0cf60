"""Mosaics with the real command: one model and common gains, each pointing judged by itself."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.wcs import WCS

from libs.core.coordinates import lm_to_radec
from libs.imaging.gaussian_fit import fit_gaussian
from libs.imaging.interface import open_image
from libs.ms.tables import open_table
from libs.simulation.observation import Source
from selfcal.state import State
from tests.conftest import ROOT
from tests.pipeline_case import (
    ARCSEC,
    FIELDS,
    FIRST,
    MOSAIC_DEG,
    WINDOWS,
    FieldMade,
    PipelineCase,
    make_pipeline_case,
)

pytestmark = pytest.mark.tools

SKY = (Source(0.060, -42.0, 2.0), Source(0.045, -4.0, -2.0), Source(0.030, 14.0, 3.0))
# the last one is 56 arcsec from the nearest source, in the first null of its beam
EAST_ARCSEC = (-35.0, 0.0, 35.0, 70.0)
COMPACT = replace(FIRST, array="7m")  # whose images have few pixels
EMPTY = 4  # FIELD_ID of the last, after the calibrator
STEPS = ["startup", "save_init_flags", "test_image", "select_refant", "p0", "p1", "report_results"]


def pointing(east_arcsec: float) -> FieldMade:
    ra, dec = MOSAIC_DEG
    moved = ra + east_arcsec / 3600 / math.cos(math.radians(dec))
    return FieldMade("L1551 map", (moved, dec), SKY, sky_deg=MOSAIC_DEG)


def config(case: PipelineCase, **changes: Any) -> dict[str, Any]:
    return {
        "vis": [str(path) for path in case.vis], "workdir": "work", "cell": "1arcsec",
        "plots": False,
        "steps": STEPS, "overrides": {"test_image": {"niter": 1000}, "p1": {"max_cycles": 3}},
        **changes,
    }  # fmt: skip


def run(folder: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "auto_selfcal.py", *words], cwd=folder, capture_output=True,
        text=True, check=False, env={**os.environ, "MPLBACKEND": "Agg"}, timeout=600,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> PipelineCase:
    return make_pipeline_case(
        tmp_path_factory.mktemp("project"), [COMPACT], antennas=10, windows=WINDOWS[:2],
        fields=(FIELDS[0], *(pointing(east) for east in EAST_ARCSEC)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def joint(case: PipelineCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint")
    settings = config(case, targets=["L1551 map"])
    (folder / "map.yaml").write_text(yaml.safe_dump(settings))
    run(folder, "map.yaml", "--quiet")
    return folder


def final_of(folder: Path) -> tuple[dict[str, Any], Path]:
    summary = json.loads((folder / "work/summary.json").read_text())
    (target,) = summary["targets"].values()
    return target, folder / "work" / target["workdir"]


def fitted_jy(workdir: Path, image: str, source: Source) -> float:
    """Flux of a source in the image over the response there, by a Gaussian fitted to it."""
    _, header = open_image(workdir / image)
    response = open_image(workdir / image.replace("-image", "-pb"))[0]
    ra, dec = lm_to_radec(
        source.l_arcsec * ARCSEC, source.m_arcsec * ARCSEC, *map(math.radians, MOSAIC_DEG)
    )
    x, y = WCS(header, fix=False).celestial.all_world2pix(math.degrees(ra), math.degrees(dec), 0)
    place = round(float(x)), round(float(y))
    found = fit_gaussian(workdir / image, place)
    assert found is not None
    return float(found.flux_jy / response[place[1], place[0]])


def test_the_mosaic_has_the_true_fluxes_and_a_better_snr_than_its_pointings(
    case: PipelineCase, joint: Path, tmp_path: Path
) -> None:
    target, workdir = final_of(joint)
    assert target["status"] == "improved"
    for source in SKY:
        found = fitted_jy(workdir, target["final"]["image"], source)
        assert found == pytest.approx(source.flux_jy, rel=0.03)
    # the worst of the pointings with sources in them, by itself
    settings = config(case, field="3", mosaic="never")
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(settings))
    run(tmp_path, "one.yaml", "--quiet")
    alone = json.loads((tmp_path / "work/summary.json").read_text())
    worst = (alone["final"] or alone["initial"])["snr"]
    assert target["final"]["snr"] >= 2 * worst


def test_a_pointing_of_noise_stays_as_it_was(case: PipelineCase, joint: Path) -> None:
    """It takes no part, and `apply` writes the others only."""
    _, workdir = final_of(joint)
    record = State(workdir).get("report_results")
    assert record is not None
    assert {number for ref in record.result.tables for number in ref.fields} == {0, 1, 2}
    run(joint, "apply", "work")
    with open_table(case.vis[0]) as opened:
        field = opened.getcol("FIELD_ID")
        data, corrected = opened.getcol("DATA"), opened.getcol("CORRECTED_DATA")
    changed = np.abs(corrected - data).max(axis=(1, 2)) > 1e-3
    assert not changed[field == EMPTY].any()
    for number in (1, 2, 3):
        assert changed[field == number].mean() > 0.9


def test_pointings_are_targets_of_their_own_where_that_is_asked_for(
    case: PipelineCase, tmp_path: Path
) -> None:
    (tmp_path / "apart.yaml").write_text(
        yaml.safe_dump(config(case, targets=["L1551 map"], mosaic="never"))
    )
    said = run(tmp_path, "apart.yaml", "--list")
    assert [f"== targets/L1551_map_{number}:" in said for number in (1, 2, 3, 4)] == [True] * 4


def test_wsclean_is_refused_with_what_to_do(case: PipelineCase, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        yaml.safe_dump(config(case, field="L1551 map", imager="wsclean"))
    )
    said = run(tmp_path, "w.yaml", code=2)
    assert "which WSClean does not image jointly" in said and "mosaic = 'never'" in said
