"""A user's own model and mask in a mosaic: each pointing is solved against what it sees of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.core.coordinates import lm_to_radec
from libs.imaging.interface import open_image
from libs.ms.tables import open_table
from libs.record.schema import load_record
from reports.pointings import pointings_figure
from reports.style import save_figure
from tests.pipeline_case import (
    ARCSEC,
    FIELDS,
    FIRST,
    MOSAIC_DEG,
    WINDOWS,
    FieldMade,
    GainErrors,
    PipelineCase,
    make_pipeline_case,
)
from tests.quiet_run import quiet_run
from tests.test_mosaic_run import SKY

STEPS = ("startup", "save_init_flags", "test_image", "initial_model", "p0")
RADIUS_ARCSEC = 8.0


def pointing(east_arcsec: float) -> FieldMade:
    ra, dec = MOSAIC_DEG
    moved = ra + east_arcsec / 3600 / math.cos(math.radians(dec))
    return FieldMade("L1551 map", (moved, dec), SKY, sky_deg=MOSAIC_DEG)


def place_deg(east_arcsec: float, north_arcsec: float) -> tuple[float, float]:
    centre = (math.radians(MOSAIC_DEG[0]), math.radians(MOSAIC_DEG[1]))
    ra, dec = lm_to_radec(east_arcsec * ARCSEC, north_arcsec * ARCSEC, *centre)
    return math.degrees(ra), math.degrees(dec)


def write_model(path: Path) -> Path:
    """The sky itself, and a source that no pointing sees."""
    lines = ["Format = Name, Type, Ra, Dec, I"]
    for number, source in enumerate(SKY):
        ra, dec = place_deg(source.l_arcsec, source.m_arcsec)
        lines.append(f"s{number},POINT,{ra:.9f}deg,{dec:.9f}deg,{source.flux_jy}")
    ra, dec = place_deg(900.0, 0.0)
    lines.append(f"far,POINT,{ra:.9f}deg,{dec:.9f}deg,100.0")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_mask(path: Path) -> Path:
    lines = ["#CRTFv0"]
    for source in SKY:
        ra, dec = place_deg(source.l_arcsec, source.m_arcsec)
        lines.append(f"circle[[{ra:.8f}deg, {dec:.8f}deg], {RADIUS_ARCSEC}arcsec] coord=J2000")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> PipelineCase:
    """Phases so wild that the first image shows nothing of the sources where they are."""
    return make_pipeline_case(
        tmp_path_factory.mktemp("map"), [replace(FIRST, array="7m")], antennas=8, scan_s=48.0,
        fields=(FIELDS[0], *(pointing(east) for east in (-35.0, 0.0))), windows=WINDOWS[:1],
        errors=GainErrors(0.0, 60.0, 100.0),
    )  # fmt: skip


def test_a_mosaic_starts_from_the_users_model_within_the_users_mask(
    case: PipelineCase, tmp_path: Path
) -> None:
    model, mask = write_model(tmp_path / "sky.txt"), write_mask(tmp_path / "sky.crtf")
    run = quiet_run(
        tmp_path, [case.vis[0]], steps=STEPS, field="L1551 map", start_model=str(model),
        mask=str(mask),
    )  # fmt: skip
    first = run.result("initial_model")
    assert "3 components, 1 more are outside the primary beam, 135.0 mJy" in first.reason
    assert "CASA regions" in run.result("test_image").reason
    found = run.result("p0")
    assert found.status == "done", found.reason
    assert found.metrics["model_from"] == "initial_model"
    assert run.summary["final"]["snr"] > 1.5 * run.summary["initial"]["snr"]
    plane, header = open_image(run.workdir / found.products["model"])
    x, y = np.meshgrid(np.arange(plane.shape[1]), np.arange(plane.shape[0]))
    near = np.zeros(plane.shape, bool)
    for source in SKY:
        east = -(x - header["CRPIX1"] + 1) * abs(header["CDELT1"]) * 3600
        north = (y - header["CRPIX2"] + 1) * header["CDELT2"] * 3600
        near |= np.hypot(east - source.l_arcsec - 17.5, north - source.m_arcsec) < 12.0
    assert plane[near].sum() > 0 and not plane[~near].any(), "CLEAN stays within the mask"
    snr = [each["snr"] for each in found.metrics["pointings_measured"]]
    assert all(one < 2 * run.summary["final"]["snr"] for one in snr), "CLEAN is not all over them"
    drawn = pointings_figure(run.workdir)
    assert drawn is not None
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert [title.split(",")[0] for title in titles if title] == [
        f"pointing {number} {word}" for number in (0, 1) for word in ("before", "after")
    ]
    save_figure(drawn, tmp_path / "pointings.png")
    (written,) = run.workdir.glob("*.selfcal.json")
    results = load_record(written).targets[0].field_results
    assert list(results) == ["0 L1551 map", "1 L1551 map"]
    assert all("image" not in state for one in results.values() for state in one.values())
    (copy,) = (run.workdir / "data").glob("*.selfcal.ms")
    with open_table(copy) as opened:
        field, filled = opened.getcol("FIELD_ID"), np.abs(opened.getcol("MODEL_DATA"))
    assert all(filled[field == number].mean() > 0.01 for number in (0, 1))
