"""DP3's small data sets: the parset without it, and with it the same as our own."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import ConfigError, InputError, ToolError
from libs.directions import dp3
from libs.directions.dp3 import PhaseUp, find_dp3, phase_up, prepare, shift_parset, unfit
from libs.directions.phase_shift import ShiftOptions, shift_data
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.global_table import write_with_entries
from libs.h5parm.provenance import Entry
from libs.h5parm.regrid import regrid
from libs.h5parm.solset import from_gain_solutions
from libs.ms.tables import open_table
from libs.simulation.observation import Simulation, StationErrors, simulate
from tests.archives import unpacked
from tests.conftest import tree_hash
from tests.libs.directions.test_phase_shift import SKY, observe, place

COLUMNS = ("TIME", "ANTENNA1", "ANTENNA2", "DATA", "FLAG", "UVW", "WEIGHT_SPECTRUM")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    errors = StationErrors(phase_walk_deg=40.0, amp_offset=0.1)
    folder = tmp_path_factory.mktemp("sky")
    return simulate(folder / "a.ms", observe(), SKY, errors, perfect=False)


@pytest.fixture
def installed() -> None:
    if find_dp3() is None:
        pytest.skip("DP3 is not installed")


@pytest.fixture(scope="module")
def lofar_ms(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real LOFAR measurement set, unpacked."""
    archive = shared_data / "lofar" / "lofar_hba_intl.ms.tar.gz"
    yield unpacked(archive, tmp_path_factory.mktemp("lofar"))


def columns(ms: Path) -> dict[str, np.ndarray]:
    """Columns in order of time and baseline."""
    with open_table(ms) as opened:
        found = {name: np.asarray(opened.getcol(name)) for name in COLUMNS}
    order = np.lexsort((found["ANTENNA2"], found["ANTENNA1"], np.round(found["TIME"], 1)))
    return {name: values[order] for name, values in found.items()}


def assert_same(own: Path, other: Path, data: float, weight: float = 1e-4) -> None:
    """Assert equal data sets where they are not flagged, and equal flags."""
    a, b = columns(own), columns(other)
    for name in ("ANTENNA1", "ANTENNA2", "FLAG"):
        assert np.array_equal(a[name], b[name]), name
    assert np.allclose(a["TIME"], b["TIME"], rtol=0, atol=1e-3)
    good = ~a["FLAG"]
    assert good.any()
    assert np.allclose(a["UVW"], b["UVW"], rtol=0, atol=5e-3)
    size = np.abs(a["DATA"][good]).max()
    assert np.abs(a["DATA"] - b["DATA"])[good].max() < data * size
    assert np.allclose(a["WEIGHT_SPECTRUM"][good], b["WEIGHT_SPECTRUM"][good], rtol=weight)


def test_the_parset() -> None:
    options = ShiftOptions((-0.1, 0.9), "src", 8.0, 1e5, "CORRECTED_DATA", 20e3)
    added = PhaseUp("ST001", "CS*", ("CS001", "CS002"))
    found = shift_parset(
        Path("/a.ms"), Path("/b.ms"), options, steps=(4, 2), gains=Path("/g.h5"), added=added,
        threads=3,
    )  # fmt: skip
    assert found["steps"] == "[phases,amplitudes,shift,average,add,drop,short]"
    assert (found["msin"], found["msin.datacolumn"]) == ("/a.ms", "CORRECTED_DATA")
    assert found["shift.phasecenter"] == "[354.2704220487deg,51.5662015618deg]"
    assert (found["average.timestep"], found["average.freqstep"]) == ("4", "2")
    assert found["phases.correction"] == "phase000"
    assert found["amplitudes.correction"] == "amplitude000"
    assert found["phases.missingantennabehavior"] == "flag"
    assert found["add.stations"] == "{ST001:[CS001,CS002]}"
    assert found["drop.baseline"] == "!CS*&&*" and found["drop.remove"] == "true"
    assert found["short.uvmmin"] == "20000"
    assert found["numthreads"] == "3"
    # of storage managers that DP3 brings along nothing else can read
    assert {found[f"msout.{n}"] for n in ("scalarflags", "antennacompression",
                                           "uvwcompression")} == {"false"}  # fmt: skip
    plain = shift_parset(Path("/a.ms"), Path("/b.ms"), ShiftOptions((0.0, 0.0)))
    assert plain["steps"] == "[shift,average]"


def test_which_stations_are_added_up(made: Simulation) -> None:
    assert phase_up(made.ms, "S00[0-2]").members == ("S000", "S001", "S002")
    for pattern in ("CS*", "S000", "*"):
        with pytest.raises(InputError, match="of 6 stations"):
            phase_up(made.ms, pattern)
    with pytest.raises(InputError, match="has a station S000 already"):
        phase_up(made.ms, "S00[1-2]", "S000")


def test_what_dp3_does_not_take(made: Simulation, tmp_path: Path) -> None:
    assert unfit(made.ms) == ""
    two = simulate(tmp_path / "two.ms", observe(2, 2, correlations=("RR", "LL")), SKY)
    assert unfit(two.ms) == "2 correlation(s) instead of 4"
    copy = tmp_path / "copy.ms"
    shutil.copytree(made.ms, copy)
    with open_table(copy, write=True) as opened:
        times = opened.getcol("TIME")
        opened.putcol("TIME", np.where(times > np.median(times), times + 100.0, times))
    assert unfit(copy) == "gaps between scans"
    with open_table(copy, write=True) as opened:
        opened.putcol("TIME", times[::-1].copy())
    assert unfit(copy) == "rows that are not in order of time"
    with open_table(copy, write=True) as opened:
        opened.putcol("TIME", times)
        opened.putcol("INTERVAL", np.full(len(times), 7.0))
    assert unfit(copy) == "an INTERVAL of 7 s for a spacing of 2 s"
    with open_table(copy, write=True) as opened:
        opened.putcol("FIELD_ID", np.arange(len(times), dtype=np.int32) % 2)
    assert unfit(copy) == "several fields"
    with pytest.raises((InputError, ConfigError)):
        prepare(copy, tmp_path / "b.ms", ShiftOptions((0.0, 0.0)))
    assert not (tmp_path / "b.ms").exists()


def test_without_dp3_it_says_how_to_get_it(
    made: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dp3, "find_dp3", lambda: None)
    with pytest.raises(ConfigError, match="DP3 is not installed") as caught:
        prepare(made.ms, tmp_path / "b.ms", ShiftOptions((0.0, 0.0)))
    assert "[lofar]" in str(caught.value.remedy)


def test_a_failure_shows_what_dp3_said(
    made: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "DP3"
    program.write_text("#!/bin/sh\necho the disk is full\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(dp3, "find_dp3", lambda: program)
    with pytest.raises(ToolError, match="the disk is full"):
        prepare(made.ms, tmp_path / "b.ms", ShiftOptions((0.0, 0.0)))
    assert not (tmp_path / "b.ms").exists()


def test_dp3_makes_what_our_own_makes(made: Simulation, tmp_path: Path, installed: None) -> None:
    options = ShiftOptions(place(made), "target", 4.0, 0.1e6, "DATA", 60e3)
    before = tree_hash(made.ms)
    own = shift_data(made.ms, tmp_path / "own.ms", options)
    other = prepare(made.ms, tmp_path / "dp3.ms", options)
    assert tree_hash(made.ms) == before
    assert (own.rows, own.widths, own.integration_s) == (
        other.rows, other.widths, other.integration_s,
    )  # fmt: skip
    assert_same(tmp_path / "own.ms", tmp_path / "dp3.ms", 1e-5)
    assert columns(tmp_path / "dp3.ms")["FLAG"].any(), "short baselines are flagged"
    with open_table(tmp_path / "dp3.ms::FIELD") as fields:
        assert fields.getcell("NAME", 0) == "target"
        assert np.allclose(fields.getcell("PHASE_DIR", 0)[0] % (2 * np.pi), place(made), atol=1e-9)


def test_a_last_average_cut_short_has_its_own_time(
    made: Simulation, tmp_path: Path, installed: None
) -> None:
    with open_table(made.ms) as opened:
        times = np.unique(opened.getcol("TIME"))
    count = next(n for n in (3, 5, 7) if len(times) % n)
    options = ShiftOptions(place(made), "", count * float(times[1] - times[0]), 0.0)
    shift_data(made.ms, tmp_path / "own.ms", options)
    prepare(made.ms, tmp_path / "dp3.ms", options)
    assert_same(tmp_path / "own.ms", tmp_path / "dp3.ms", 1e-5)
    for name in ("TIME_CENTROID", "INTERVAL", "EXPOSURE"):
        with open_table(tmp_path / "own.ms") as own, open_table(tmp_path / "dp3.ms") as other:
            pair = [np.sort(opened.getcol(name)) for opened in (own, other)]
        assert np.allclose(*pair, rtol=0, atol=1e-3), name


def test_dp3_corrects_as_our_own_does(made: Simulation, tmp_path: Path, installed: None) -> None:
    solset = from_gain_solutions(made.gains, "target", place(made))
    # between solutions phases turn the short way round
    solset = regrid(solset, solset.time_s[::3], solset.frequency_hz)
    solset.weight[:, :, 4] = 0.0  # no solutions of one station
    entries = [Entry("target", station) for station in solset.antenna]
    write_with_entries(tmp_path / "s.h5", solset, entries)
    options = ShiftOptions(place(made), "target", 4.0, 0.1e6)
    read = DirectionGains.read(tmp_path / "s.h5", made.ms)
    shift_data(made.ms, tmp_path / "own.ms", options, read)
    prepare(made.ms, tmp_path / "dp3.ms", options, read)
    assert_same(tmp_path / "own.ms", tmp_path / "dp3.ms", 1e-5)
    flags = columns(tmp_path / "dp3.ms")
    one = (flags["ANTENNA1"] == 4) | (flags["ANTENNA2"] == 4)
    assert flags["FLAG"][one].all() and not flags["FLAG"][~one].all()
    assert not (tmp_path / "dp3.gains.h5").exists()


def test_real_lofar_data(lofar_ms: Path, tmp_path: Path, installed: None) -> None:
    with open_table(f"{lofar_ms}::FIELD") as fields:
        ra, dec = fields.getcell("PHASE_DIR", 0)[0]
    target = (ra + math.radians(0.2), dec - math.radians(0.1))
    options = ShiftOptions(target, "near", 4000.0, 1e6, "DATA", 20e3)
    shift_data(lofar_ms, tmp_path / "own.ms", options)
    prepare(lofar_ms, tmp_path / "dp3.ms", options)
    assert_same(tmp_path / "own.ms", tmp_path / "dp3.ms", 2e-6)


def test_the_core_becomes_one_station(lofar_ms: Path, tmp_path: Path, installed: None) -> None:
    with open_table(f"{lofar_ms}::FIELD") as fields:
        ra, dec = fields.getcell("PHASE_DIR", 0)[0]
    added = phase_up(lofar_ms, "CS*")
    assert len(added.members) == 48
    options = ShiftOptions((float(ra), float(dec)), "src")
    prepare(lofar_ms, tmp_path / "up.ms", options, added=added)
    with open_table(f"{tmp_path / 'up.ms'}::ANTENNA") as antennas:
        names = list(antennas.getcol("NAME"))
        position = antennas.getcol("POSITION")[names.index("ST001")]
    with open_table(f"{lofar_ms}::ANTENNA") as antennas:
        core = antennas.getcol("POSITION")[:48].mean(axis=0)
    assert names[-1] == "ST001" and len(names) == 75 - 48 + 1
    assert not [name for name in names if name.startswith("CS")]
    assert np.linalg.norm(position - core) < 100
    up = columns(tmp_path / "up.ms")
    shift_data(lofar_ms, tmp_path / "own.ms", options)
    own = columns(tmp_path / "own.ms")
    with open_table(f"{lofar_ms}::ANTENNA") as antennas:
        all_names = list(antennas.getcol("NAME"))
    station = "RS508HBA"
    here = (up["ANTENNA1"] == names.index(station)) & (up["ANTENNA2"] == len(names) - 1)
    there = (own["ANTENNA2"] == all_names.index(station)) & (own["ANTENNA1"] < 48)
    # V of the new station is the weighted mean over its members; the order of antennas is turned
    good = there[:, None, None] & ~own["FLAG"]
    times = np.unique(own["TIME"])
    weight = np.where(good, own["WEIGHT_SPECTRUM"], 0.0)
    for number, moment in enumerate(times):
        rows = np.abs(own["TIME"] - moment) < 1
        total = (weight[rows] * np.where(good, own["DATA"], 0)[rows]).sum(axis=0)
        expected = np.conj(total / weight[rows].sum(axis=0))
        got = up["DATA"][here][number]
        keep = ~up["FLAG"][here][number]
        # parallel hands: turning a baseline swaps the cross hands
        for k in (0, 3):
            assert np.allclose(got[keep[:, k], k], expected[keep[:, k], k], rtol=1e-3, atol=1e-4)


def test_the_users_own_measures_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASARCFILES", raising=False)
    found = dp3._environment(tmp_path)
    assert "measures.directory: " in Path(found["CASARCFILES"]).read_text()
    monkeypatch.setenv("CASARCFILES", os.devnull)
    assert "CASARCFILES" not in dp3._environment(tmp_path)
