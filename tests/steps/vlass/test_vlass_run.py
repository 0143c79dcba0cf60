"""``vlass_cube`` from the set to the products: against the truth, killed, failing, incomplete."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import auto_selfcal
from libs.core.errors import ToolError
from libs.imaging.interface import open_image
from libs.ms.tables import open_table
from libs.simulation.gains import StationErrors
from libs.simulation.mosaic import PolarizedSource
from libs.simulation.sky import Source
from steps.commands.vlass_cube import GroupsFailed, command
from steps.vlass import make_images
from tests.conftest import ROOT, tree_hash
from tests.vlass_bundle import CELL, IMSIZE, Bundle, make_bundle
from tests.vlass_case import REFERENCE_HZ, make_case

pytestmark = pytest.mark.tools  # CASA's statwt and delmod

SKY = (
    PolarizedSource(Source(0.5, 63.0, 42.0, spectral_index=-0.7), q=0.05, u=-0.03),
    PolarizedSource(Source(0.3, 497.0, -28.0, spectral_index=0.2), q=-0.04, u=0.06),
    PolarizedSource(Source(0.2, -329.0, -154.0, spectral_index=-1.0)),
)
ERRORS = StationErrors(phase_walk_deg=15, phase_walk_s=600, phase_offset_deg=8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Windows 2 and 3 at 2.05 and 2.95 GHz, a group each."""
    folder = tmp_path_factory.mktemp("vlass")
    made = make_case(folder / "VLASS_split.ms", spws=(2, 9), sky=SKY, errors=ERRORS, noise_jy=0.01)
    return make_bundle(folder, made, groups="['2', '3']")


@pytest.fixture(scope="module")
def done(bundle: Bundle) -> Path:
    """Work directory of a whole run."""
    before = tree_hash(bundle.simulation.ms)
    config = bundle.write(bundle.folder.with_name("my.py"))
    assert command([str(config)], auto_selfcal.REPORTS) == 0
    assert tree_hash(bundle.simulation.ms) == before, "the set is never written"
    return Path(bundle.config["workdir"])


def record(workdir: Path, name: str) -> Any:
    return json.loads((workdir / f"{name}.json").read_text())


def test_fluxes_of_all_planes_off_the_axis_are_true(done: Path) -> None:
    for row in record(done, "groups"):
        for plane in row["planes"]:
            values = open_image(done / plane["image"].replace("-image", "-pbcor"))[0]
            for source in SKY:
                x = IMSIZE // 2 - round(source.source.l_arcsec / CELL)
                y = IMSIZE // 2 + round(source.source.m_arcsec / CELL)
                hz = np.array([row["frequency_hz"]])
                truth = float(source.stokes_jy(hz, REFERENCE_HZ)[plane["stokes"]][0])
                assert values[y, x] == pytest.approx(truth, rel=0.01, abs=0.0015)


def test_spectrum_and_polarization_of_the_peak(done: Path) -> None:
    found = record(done, "stokes")["sources"][0]
    assert found["what"] == "peak of Stokes I"
    assert found["power_law"]["index"] == pytest.approx(-0.7, abs=0.05)
    assert found["power_law"]["flux_jy"] == pytest.approx(0.5, rel=0.02)
    assert abs(found["rotation"]["rad_m2"]) < 3 * found["rotation"]["error_rad_m2"]
    for plane in found["planes"]:
        assert plane["q_over_i"][0] == pytest.approx(0.05, abs=0.005)
        assert plane["u_over_i"][0] == pytest.approx(-0.03, abs=0.005)
        assert abs(plane["mean_jy_beam"]["V"]) < 5 * plane["error_jy_beam"]["V"]


def test_flags_and_weights_are_those_of_the_continuum_run(done: Path) -> None:
    ms = done / "data" / "VLASS_split.ms"
    with open_table(ms) as opened:
        flag, sigma = opened.getcol("FLAG"), opened.getcol("SIGMA")
        first, second = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        weight = opened.getcol("WEIGHT")
    bad = (first == 3) | (second == 3)
    assert flag[bad].all()
    assert not flag[~bad].any()
    good = sigma > 0
    np.testing.assert_allclose(weight[good], sigma[good] ** -2.0, rtol=1e-4)
    assert good[~bad].all()


def test_every_product_is_in_the_manifest_with_its_hash(done: Path) -> None:
    folder = done / "products"
    listed = record(folder, "manifest")["files"]
    names = {entry["file"] for entry in listed}
    assert names == {path.name for path in folder.iterdir()} - {"manifest.json", "manifest.xml"}
    for entry in listed:
        content = (folder / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert f'file="{entry["file"]}"' in (folder / "manifest.xml").read_text()
    beams = set()
    for name in names:
        if not name.endswith(".fits"):
            continue
        with fits.open(folder / name) as hdus:
            header, data = hdus[0].header, hdus[0].data
        assert data.shape[1] == (3 if ".IQU." in name else 1)
        assert header["OBJECT"].startswith("VLASS1.1") and header["POSSHIFT"] > 0
        assert header["DATE-OBS"] < header["DATE-END"]
        if ".com." in name:
            beams.add((header["BMAJ"], header["BMIN"], header["BPA"]))
    assert len(beams) == 1, "one beam for all"


def test_the_report_shows_targets_and_planes(done: Path) -> None:
    page = (done / "report.html").read_text()
    for text in (
        "v1.spw2<",
        "v1.spw3<",
        "QLcatmask-tier1",
        "Rotation measure",
        "Images of each group",
    ):
        assert text in page, text
    assert record(done, "summary")["status"] == "done"


def test_a_second_start_does_nothing_anew(bundle: Bundle, done: Path) -> None:
    path = done / "images" / "spw2" / "done.json"
    before = path.stat().st_mtime_ns
    command([str(bundle.folder.with_name("my.py"))], auto_selfcal.REPORTS)
    assert path.stat().st_mtime_ns == before


def test_a_restore_done_again_gives_the_same_data(bundle: Bundle, done: Path) -> None:
    ms = done / "data" / "VLASS_split.ms"

    def content() -> list[np.ndarray]:
        with open_table(ms) as opened:
            return [opened.getcol(name) for name in ("FLAG", "WEIGHT", "SIGMA", "CORRECTED_DATA")]

    before = content()
    config = str(bundle.folder.with_name("my.py"))
    command([config, "--only", "restore_pims"], auto_selfcal.REPORTS)
    for old, new in zip(before, content(), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6)


def test_weights_as_published_are_those_before(bundle: Bundle, tmp_path: Path) -> None:
    config = bundle.write(tmp_path / "p.py", weights="as_published", workdir=str(tmp_path / "w"))
    command([str(config), "--until", "restore_pims"], auto_selfcal.REPORTS)
    with open_table(tmp_path / "w/data/VLASS_split.ms") as opened:
        now = opened.getcol("WEIGHT")
    with open_table(bundle.simulation.ms) as opened:
        np.testing.assert_allclose(now, opened.getcol("WEIGHT"))


def test_a_group_that_fails_does_not_lose_the_others(
    bundle: Bundle, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "w"
    shutil.copytree(done, work)
    shutil.rmtree(work / "images" / "spw3")
    config = str(bundle.write(tmp_path / "my.py", workdir=str(work)))

    def fails(*_: object, **__: object) -> None:
        raise ToolError("the imager crashed", "look at its log")

    with monkeypatch.context() as patch:
        patch.setattr(make_images, "make_tools", fails)
        with pytest.raises(GroupsFailed, match="1 of 2 groups were not imaged: spw3"):
            command([config], auto_selfcal.REPORTS)
    assert "the imager crashed" in (work / "report.html").read_text()
    stokes = record(work, "stokes")["sources"][0]
    assert [plane["label"] for plane in stokes["planes"]] == ["spw2"], "the other goes on"
    kept = (work / "images/spw2/done.json").stat().st_mtime_ns
    assert command([config], auto_selfcal.REPORTS) == 0, "the same command tries again"
    assert (work / "images/spw2/done.json").stat().st_mtime_ns == kept
    assert record(work, "summary")["status"] == "done"


def test_killed_between_groups_it_goes_on_with_the_next(
    bundle: Bundle, done: Path, tmp_path: Path
) -> None:
    work = tmp_path / "w"
    shutil.copytree(done, work)
    shutil.rmtree(work / "images")
    config = str(bundle.write(tmp_path / "my.py", workdir=str(work), cluster="local:1"))
    words = [sys.executable, "auto_selfcal.py", "vlass_cube", config]
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True)
    first = work / "images/spw2/done.json"
    give_up = time.monotonic() + 300
    while not first.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert first.exists() and not (work / "images/spw3/done.json").exists()
    kept = first.stat().st_mtime_ns
    assert command([config], auto_selfcal.REPORTS) == 0
    assert first.stat().st_mtime_ns == kept
    for row in record(done, "groups"):
        for plane in row["planes"]:
            old, new = (open_image(place / plane["image"])[0] for place in (done, work))
            np.testing.assert_allclose(new, old, atol=1e-6)


def test_pointings_whose_beams_the_image_does_not_hold_are_left_out(
    bundle: Bundle, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "w"
    shutil.copytree(done, work)
    cube = tmp_path / "CCIP_parameter.list"
    text = Path(bundle.config["ccip_list"]).read_text()
    cube.write_text(text.replace(f"[{IMSIZE}, {IMSIZE}]", "[380, 380]"))
    config = bundle.write(tmp_path / "my.py", workdir=str(work), ccip_list=str(cube), quiet=False)
    command([str(config), "--only", "edit_image_list_ccip"], auto_selfcal.REPORTS)
    targets = record(work, "edit_image_list_ccip")
    assert [target["fields"] for target in targets] == [[0], [0, 1, 2]], "2.05 GHz, then 2.95"
    assert (
        "2 pointings are left out: the image does not hold their beams" in capsys.readouterr().out
    )
    (continuum,) = record(work, "edit_image_list_seip")
    assert continuum["fields"] == [0, 1, 2]


def test_missing_resources_are_listed_at_once_and_reported(bundle: Bundle, tmp_path: Path) -> None:
    def spoil(folder: Path) -> None:
        (path,) = folder.glob("*.combined-tier2.mask")
        path.unlink()
        (path,) = folder.glob("*.phase-self-cal.tbl")
        shutil.rmtree(path)

    other = Bundle(
        bundle.simulation, bundle.folder,
        {**bundle.config, "resources": str(tmp_path / "r.tgz"), "workdir": str(tmp_path / "w")},
    )  # fmt: skip
    other.pack(spoil)
    words = [str(other.write(tmp_path / "my.py")), "--log-json", str(tmp_path / "log.json")]
    assert auto_selfcal.main(["vlass_cube", *words]) == 1
    logged = [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]
    assert any("is missing" in str(line) for line in logged)
    page = (tmp_path / "w" / "report.html").read_text()
    for text in ("the self-cal table", "the tier-2 mask"):
        assert text in page
    summary = record(tmp_path / "w", "summary")
    assert summary["status"] == "failed"
    assert "is missing" in summary["restore"]["missing"]


def test_tclean_images_the_same_group(bundle: Bundle, done: Path, tmp_path: Path) -> None:
    """As in production: masks, stages and parameters reach tclean, and its images the products."""
    work = tmp_path / "w"
    shutil.copytree(done, work)
    shutil.rmtree(work / "images")
    cube = tmp_path / "CCIP_parameter.list"
    text = Path(bundle.config["ccip_list"]).read_text().replace("['2', '3']", "['3']")
    cube.write_text(text + "stokes='IV'\n")
    config = bundle.write(
        tmp_path / "my.py", workdir=str(work), ccip_list=str(cube), imager="tclean", niter=200,
    )  # fmt: skip
    words = [str(config), "--from", "edit_image_list_ccip", "--until", "cutouts"]
    assert command(words, auto_selfcal.REPORTS) == 0
    log = (work / "images/spw3" / f"{record(work, 'groups')[0]['name']}.log").read_text()
    log = log.replace('"', "'")
    for asked in ("cyclefactor=3.0", "smallscalebias=0.4", "cycleniter=500", "cycleniter=100",
                  "nsigma=4.5", "psfcutoff=0.5", "stokes='IV'", "reffreq="):  # fmt: skip
        assert asked in log, asked
    (own,) = [row for row in record(done, "groups") if row["label"] == "spw3"]
    (other,) = record(work, "groups")
    for stokes in "IV":
        planes = [
            next(plane for plane in row["planes"] if plane["stokes"] == stokes)
            for row in (own, other)
        ]
        values = [
            open_image(place / plane["image"].replace("-image", "-pbcor"))[0]
            for place, plane in zip((done, work), planes, strict=True)
        ]
        for source in SKY:
            x = IMSIZE // 2 - round(source.source.l_arcsec / CELL)
            y = IMSIZE // 2 + round(source.source.m_arcsec / CELL)
            # tclean's own fluxes off the axis are some per cent off the truth
            assert values[1][y, x] == pytest.approx(values[0][y, x], rel=0.06, abs=0.002)
    assert (work / "cutouts.json").exists()
