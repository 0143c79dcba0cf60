"""Sessions from end to end, against what is true of them."""

from __future__ import annotations

import csv
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

from auto_selfcal import main
from libs.casa.session import demo_data
from libs.catalogues.source_list import read_catalogue
from libs.gains.caltable import read_caltable
from libs.imaging.gaussian_fit import fit_gaussian
from libs.inputs.uvfits_to_ms import import_uvfits
from libs.ms.scans import read_visits
from libs.ms.subset import choose_subset
from libs.ms.subset_copy import copy_subset
from libs.ms.tables import open_table
from libs.simulation.session import SessionErrors, SimulatedSession
from selfcal.child_runs import running_step
from tests.conftest import ROOT
from tests.steps.calibrate.sessions import (
    PHASE_JY,
    TARGET_JY,
    WIDTH_HZ,
    calibrate,
    make_session,
    write_config,
)

FEW = "combine,identify,flag_calibrators,set_model,calibrate,apply_calibration,calibrator_images"


def fluxes(folder: Path) -> list[dict[str, Any]]:
    with (folder / "work" / "fluxes.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def check_tables(folder: Path, made: SimulatedSession) -> None:
    """Delays within 0.05 / bandwidth, bandpasses within 0.5 %."""
    records = json.loads((folder / "work" / "tables" / "calibration.json").read_text())
    checked = 0
    for number, record in enumerate(records):
        delays = read_caltable(folder / "work" / record["tables"]["K0"])
        bands = read_caltable(folder / "work" / record["tables"]["B0"])
        for spw, part in delays.spws.items():
            window = number if len(records) > 1 else spw
            place = delays.antenna.index(record["refant"][0])
            true = made.delay_ns[window] - made.delay_ns[window][place]
            assert part.delay_ns is not None and not part.flag.any()
            assert np.abs(part.delay_ns[0] - true).max() < 0.05e9 / WIDTH_HZ
            band = bands.spws[spw]
            good = ~band.flag[0]
            assert good.mean() > 0.8
            wave = np.abs(made.bandpass[window])
            wave = wave / np.sqrt((np.where(good, wave, 0) ** 2).sum(0) / good.sum(0))
            off = np.abs(np.abs(band.gain[0]) / wave - 1)[good]
            assert np.sqrt((off**2).mean()) < 0.002 and np.percentile(off, 99) < 0.005
            checked += 1
    assert checked == 2


@pytest.mark.parametrize("seed, second_hz", [(11, 2.2e9), (12, 1.5e9)])
def test_a_session_with_delays_and_ripples(tmp_path: Path, seed: int, second_hz: float) -> None:
    """Tunings far apart are calibrated apart, near ones together; scan numbers are 1 throughout."""
    made = make_session(tmp_path / "seen.ms", seed=seed, second_hz=second_hz)
    config = write_config(
        tmp_path, made.ms, steps=FEW.split(","), flag_methods=[], passes=1, imsize=256
    )
    before = (made.ms / "table.f1").stat().st_mtime_ns
    assert calibrate(config) == 0
    assert (made.ms / "table.f1").stat().st_mtime_ns == before
    work = tmp_path / "work"
    apart = second_hz > 2e9
    sets = sorted(path.name for path in work.glob("*_noauto_1GC*.ms"))
    assert len(sets) == (6 if apart else 3)
    assert ("flux_cal_noauto_1GC_1400MHz.ms" in sets) == apart
    check_tables(tmp_path, made)
    rows = [row for row in fluxes(tmp_path) if row["field"] == "J0555+39"]
    assert len(rows) == (2 if apart else 1)
    for row in rows:
        assert float(row["flux_jy"]) == pytest.approx(PHASE_JY, rel=0.01)
        assert float(row["fitted_jy"]) == pytest.approx(PHASE_JY, rel=0.01)
        assert float(row["total_error_jy"]) > float(row["flux_error_jy"])
    roles = json.loads((work / "roles.json").read_text())
    assert roles["targets"] == ["field 1"] and roles["standard"] == "3C147"
    data = work / "data" / ("session_1400MHz.ms" if apart else "session.ms")
    assert [visit.scan for visit in read_visits(data)] == [1, 2, 3, 4, 5, 6]
    # what is there is reused
    stamp = (work / "tables" / "calibration.json").stat().st_mtime_ns
    assert calibrate(config) == 0
    assert (work / "tables" / "calibration.json").stat().st_mtime_ns == stamp


def test_the_target_has_its_flux(tmp_path: Path) -> None:
    """Gains of the phase calibrator, linear in time, correct the target between its scans."""
    made = make_session(tmp_path / "seen.ms", seed=21, second_hz=1.5e9)
    config = write_config(
        tmp_path, made.ms, flag_methods=[], passes=1, imsize=256, steps=FEW.split(",")[:-1]
    )
    assert calibrate(config) == 0
    from libs.imaging.interface import ImagingOptions
    from libs.imaging.native.native import NativeImager

    ms = tmp_path / "work" / "field_1_noauto_1GC.ms"
    options = ImagingOptions(
        (ms,), tmp_path / "image", "target", (256, 256), 8.0, niter=500, autothreshold_nsigma=4.0
    )
    image = NativeImager().image(options)
    assert fit_gaussian(image.image).peak_jy_beam == pytest.approx(TARGET_JY, rel=0.01)


def test_the_shape_of_the_flux_calibrator_is_known(
    tmp_path: Path,
) -> None:
    """Beams below 10 arcsec see the shape of 3C286: its image is the model."""
    made = make_session(
        tmp_path / "seen.ms", seed=41, second_hz=1.5e9, standard="3C286", array="vla.a",
        resolved=True,
    )  # fmt: skip
    steps = FEW.split(",")[:-1]
    config = write_config(tmp_path, made.ms, steps=steps, flag_methods=[], passes=1)
    assert calibrate(config) == 0
    record = json.loads((tmp_path / "work" / "tables" / "calibration.json").read_text())[0]
    for row in record["fluxes"]:
        assert row["flux_jy"] == pytest.approx(PHASE_JY, rel=0.01)
    steps_csv = (tmp_path / "work" / "steps.csv").read_text()
    assert "with its image 3C286_L.im" in steps_csv


def test_targets_are_imaged_and_their_sources_listed(tmp_path: Path) -> None:
    """By a run of its own for each; the lists are read back as catalogues."""
    made = make_session(tmp_path / "seen.ms", seed=81, second_hz=1.5e9)
    known = tmp_path / "known.csv"
    place = (90.0 + 80 / 3600 / np.cos(np.radians(45.0)), 45.0 + 40 / 3600)
    known.write_text(f"name,ra,dec,flux_Jy\nthat_one,{place[0]:.6f},{place[1]:.6f},0.31\n")
    config = write_config(
        tmp_path, made.ms, flag_methods=[], passes=1, imsize=256, catalogue=str(known),
        target_settings={
            "steps": ["startup", "save_init_flags", "test_image"], "imsize": 256,
            "plots": False,
        },
    )  # fmt: skip
    assert calibrate(config) == 0
    work = tmp_path / "work"
    assert (work / "IMAGES" / "field_1" / "field_1_dirty-image.fits").exists()
    assert (work / "targets" / "field_1" / "report.html").exists()
    with (work / "catalogues" / "field_1.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["Total_flux"]) == pytest.approx(TARGET_JY, rel=0.01)
    assert row["Matched"] == "that_one" and float(row["Separation"]) < 2
    for ending in ("ecsv", "vot"):
        (source,) = read_catalogue(work / "catalogues" / f"field_1.{ending}")
        assert source.flux_jy == pytest.approx(TARGET_JY, rel=0.01)
        # the beam is 40 by 300 arcsec
        assert np.degrees(source.dec_rad) == pytest.approx(place[1], abs=5 / 3600)
    summary = json.loads((work / "summary.json").read_text())
    target = next(field for field in summary["fields"] if field["role"] == "target")
    assert target["runs"][0]["workdir"] == "targets/field_1"
    page = (work / "report.html").read_text()
    assert "targets/field_1/report.html" in page and page.count("<img") >= 3
    kept = (work / "report.html").stat().st_mtime_ns
    assert main(["report", str(work)]) == 0
    assert (work / "report.html").stat().st_mtime_ns > kept


def test_a_fully_flagged_calibrator_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_session(tmp_path / "seen.ms", seed=31, second_hz=1.5e9)
    with open_table(made.ms, write=True) as opened:
        flag, field = opened.getcol("FLAG"), opened.getcol("FIELD_ID")
        flag[field == 1] = True
        opened.putcol("FLAG", flag)
    config = write_config(
        tmp_path, made.ms, flag_methods=[], phase_calibrators=["J0555+39"], targets=["field 1"]
    )
    assert calibrate(config, "--until=flag_calibrators") == 1
    assert "the calibrator J0555+39 is fully flagged" in capsys.readouterr().err


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small session without errors of the antennas."""
    place = tmp_path_factory.mktemp("plain") / "seen.ms"
    return make_session(place, seed=91, channels=4, second_hz=1.5e9, errors=SessionErrors()).ms


@pytest.mark.parametrize("left_out, settings, said", [
    (0, {}, "no standard among the fields J0555+39, field 1"),
    (None, {"flux_calibrator": "field 1"}, "field 1 is none of the flux standards"),
    (None, {"phase_calibrators": ["field 1"], "targets": ["J0555+39"]},
     "nothing brackets the target J0555+39 in time (field 1)"),
    (None, {"targets": ["field 2"]}, "there is no field 'field 2'"),
    (None, {"flux_scans": ["7"]}, "flux_scans names 7, which is no scan of the flux calibrator"),
])  # fmt: skip
def test_fields_that_cannot_be_calibrated_are_told(
    tmp_path: Path, plain: Path, capsys: pytest.CaptureFixture[str], left_out: int | None,
    settings: dict[str, Any], said: str,
) -> None:  # fmt: skip
    ms = plain
    if left_out is not None:
        ms = tmp_path / "less.ms"
        copy_subset(plain, ms, choose_subset(plain, field="1,2"))
    assert calibrate(write_config(tmp_path, ms, **settings), "--until=identify") == 1
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told


def kill_in(config: Path, step: str, after_s: float) -> None:
    """Start the command and kill it with all its children some time after a step has begun."""
    work = config.parent / "work"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "auto_selfcal.py"), "calibrate", str(config), "--quiet"],
        start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    limit = time.monotonic() + 300
    while running_step(work) != step and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    assert process.poll() is None, f"it ended before {step}"
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_delays_of_a_single_channel_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_session(tmp_path / "seen.ms", seed=51, channels=1, errors=SessionErrors())
    config = write_config(
        tmp_path, made.ms, flag_methods=[], delays="yes", steps=FEW.split(",")[:5],
        phase_calibrators=["J0555+39"],
    )  # fmt: skip
    assert calibrate(config) == 1
    assert "delays are asked for, and a spectral window has a single" in capsys.readouterr().err
    assert calibrate(config, "--set", "delays=auto", "--set", "passes=1") == 0


def test_an_unknown_reference_antenna_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_session(tmp_path / "seen.ms", seed=61, second_hz=1.5e9)
    steps = FEW.split(",")[:5]
    config = write_config(tmp_path, made.ms, flag_methods=[], steps=steps, passes=1)
    with open_table(made.ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[(opened.getcol("ANTENNA1") == 0) | (opened.getcol("ANTENNA2") == 0)] = True
        opened.putcol("FLAG", flag)
    assert calibrate(config, "--set", "refant=W99") == 2
    assert "unknown antenna in refant 'W99'" in capsys.readouterr().err
    lost = made.gains.antenna[0]
    assert calibrate(config, "--set", f"refant={lost}") == 1
    assert f"the reference antenna {lost} has no data" in capsys.readouterr().err


@pytest.mark.tools
def test_sets_of_fields_and_windows_are_joined(tmp_path: Path) -> None:
    """In any order, with scan number 1 throughout: the same fluxes as in one set."""
    made = make_session(tmp_path / "seen.ms", seed=71, second_hz=1.5e9)
    sets = []
    for field in (2, 0, 1):
        for spw in (1, 0):
            part = tmp_path / f"field{field}_{spw}.ms"
            copy_subset(made.ms, part, choose_subset(made.ms, field=str(field), spw=str(spw)))
            sets.append(str(part))
    config = write_config(
        tmp_path, made.ms, steps=FEW.split(",")[:-1], flag_methods=[], passes=1,
    )  # fmt: skip
    assert calibrate(config, "--set", "vis=" + json.dumps(sets)) == 0
    record = json.loads((tmp_path / "work" / "tables" / "calibration.json").read_text())[0]
    assert len(record["fluxes"]) == 3
    for row in record["fluxes"]:
        assert row["flux_jy"] == pytest.approx(PHASE_JY, rel=0.01)
    data = tmp_path / "work" / "data" / "session.ms"
    with open_table(data) as opened:
        assert (np.diff(opened.getcol("TIME")) >= 0).all()
    assert [visit.scan for visit in read_visits(data)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.tools
def test_antenna_tables_that_contradict_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_session(tmp_path / "seen.ms", seed=71, second_hz=1.5e9)
    other = tmp_path / "other.ms"
    shutil.copytree(made.ms, other)
    with open_table(f"{other}::ANTENNA", write=True) as opened:
        opened.putcell("POSITION", 3, opened.getcell("POSITION", 3) + 50.0)
    config = write_config(tmp_path, made.ms, steps=["combine"])
    assert calibrate(config, "--set", "vis=" + json.dumps([str(made.ms), str(other)])) == 1
    assert "is 87 m from that of" in capsys.readouterr().err


@pytest.mark.tools
@pytest.mark.parametrize("solver", ["native", "casa"])
def test_ngc_5921_with_one_scan_number(tmp_path: Path, solver: str) -> None:
    imported = tmp_path / "n5921.ms"
    import_uvfits(demo_data("NGC5921.fits"), imported)
    with open_table(imported, write=True) as opened:
        opened.putcol("SCAN_NUMBER", np.ones(opened.nrows(), np.int32))
    config = write_config(tmp_path, imported, steps=FEW.split(",")[:-1], solver=solver, passes=1)
    assert calibrate(config) == 0
    record = json.loads((tmp_path / "work" / "tables" / "calibration.json").read_text())[0]
    assert record["fluxes"][-1]["flux_jy"] == pytest.approx(2.524, abs=0.02)
    assert record["fluxes"][-1]["error_jy"] < 0.01


@pytest.mark.tools
def test_ngc_5921_killed_on_the_way_has_the_flux_of_its_calibrator(tmp_path: Path) -> None:
    """1445+099 is 2.524 Jy by CASA at Perley-Butler 2017."""
    original = demo_data("NGC5921.fits").read_bytes()
    config = write_config(
        tmp_path, demo_data("NGC5921.fits"), imsize=256, steps=[*FEW.split(","), "session_report"]
    )
    for step, after_s in (
        # so soon that the steps after it are still to come, however fast it is
        ("combine", 0.3), ("flag_calibrators", 0.3), ("calibrate", 0.3), ("apply_calibration", 0.1),
        ("calibrator_images", 0.3),
    ):  # fmt: skip
        kill_in(config, step, after_s)
    assert calibrate(config) == 0
    known = {row["field"]: row for row in fluxes(tmp_path)}
    phase = next(row for name, row in known.items() if name.startswith("1445"))
    flux = next(row for name, row in known.items() if name.startswith("1331"))
    assert float(phase["flux_jy"]) == pytest.approx(2.524, abs=0.02)
    assert float(flux["flux_jy"]) == pytest.approx(15.01, abs=0.005)
    assert float(flux["fitted_jy"]) == pytest.approx(15.01, rel=0.01)
    assert demo_data("NGC5921.fits").read_bytes() == original
    summary = json.loads((tmp_path / "work" / "summary.json").read_text())
    left = [f["residual_phase_deg"][0] for f in summary["fields"] if f["role"] != "target"]
    assert len(left) == 2 and max(left) < 0.1
    page = (tmp_path / "work" / "report.html").read_text()
    assert "1445+099" in page and "phase calibrator" in page
