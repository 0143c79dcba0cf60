"""What makes a source's small data: the choice, its record, solutions of stations added up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.io import fits

from libs.catalogues.entry import read_entry
from libs.core.errors import ConfigError, InputError
from libs.directions import dp3
from libs.directions.phase_shift import ShiftOptions
from libs.h5parm.global_table import list_entries, write_with_entries
from libs.h5parm.provenance import Entry
from libs.h5parm.reader import read_h5parm
from libs.ms.tables import open_table
from libs.simulation.observation import Simulation, simulate
from steps.commands.field import command_field
from steps.field import field_source
from steps.field.field_data import check_prepare, give_to_members, make_data
from steps.field.field_list import source_row
from steps.field.field_settings import load_field_settings
from steps.field.field_source import _own_models
from steps.run_options import load_run_config
from tests.libs.catalogues.test_source_list import source as catalogue_source
from tests.libs.directions.test_phase_shift import SKY, observe, place
from tests.libs.solset_examples import solset
from tests.steps.fake_source_run import FakeRun, point_model
from tests.steps.field.test_plan import ERRORS, write_config
from tests.steps.field.test_plan import SKY as FIELD_SKY

SETTINGS: dict[str, Any] = {"prepare": "auto", "phase_up": "", "tool_stall": 100.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    folder = tmp_path_factory.mktemp("sky")
    return simulate(folder / "a.ms", observe(4, 6), SKY, perfect=False)


@pytest.fixture
def installed() -> None:
    if dp3.find_dp3() is None:
        pytest.skip("DP3 is not installed")


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dp3, "find_dp3", lambda: None)


def make(made: Simulation, tmp_path: Path, **settings: Any) -> str:
    """Make small data; return what made them."""
    options = ShiftOptions(place(made), "target", 4.0)
    plan, how = make_data(
        SETTINGS | settings, made.ms, tmp_path / "b.ms", options, None, threads=1
    )  # fmt: skip
    assert plan.integration_s == 4.0
    return how


def test_without_dp3_the_native_code_does_it_unless_dp3_is_asked_for(
    made: Simulation, tmp_path: Path, missing: None
) -> None:
    assert make(made, tmp_path) == "native code (DP3 is not installed)"
    assert make(made, tmp_path, prepare="native") == "native code (prepare = native)"
    check_prepare(SETTINGS)
    for values in ({"prepare": "dp3"}, {"phase_up": "CS*"}):
        with pytest.raises(ConfigError, match="needs DP3, which is not installed"):
            check_prepare(SETTINGS | values)
    with pytest.raises(ConfigError, match="DP3 is not installed"):
        make(made, tmp_path, prepare="dp3")
    with pytest.raises(InputError, match="phase_up needs DP3"):
        make(made, tmp_path, phase_up="S00[01]")


def test_native_code_adds_no_stations_up() -> None:
    with pytest.raises(ConfigError, match="native adds no stations up"):
        check_prepare(SETTINGS | {"prepare": "native", "phase_up": "CS*"})


def test_a_field_is_refused_before_anything_runs(
    made: Simulation, tmp_path: Path, missing: None
) -> None:
    path = write_config(made, tmp_path, prepare="dp3")
    with pytest.raises(ConfigError, match="prepare = dp3 needs DP3"):
        load_field_settings(path, {})


def test_data_that_dp3_does_not_take_go_the_native_way(
    made: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dp3, "find_dp3", lambda: Path("/usr/bin/false"))
    monkeypatch.setattr(dp3, "unfit", lambda ms: "several fields")
    assert make(made, tmp_path) == "native code (several fields, which DP3 does not take)"
    with pytest.raises(InputError, match=r"phase_up needs DP3, and a\.ms: several fields"):
        make(made, tmp_path, phase_up="S00[01]")


def test_with_dp3_it_is_dp3(made: Simulation, tmp_path: Path, installed: None) -> None:
    assert make(made, tmp_path) == "DP3"
    assert make(made, tmp_path, phase_up="S00[01]") == "DP3, 2 stations added up to ST001"
    with open_table(f"{tmp_path / 'b.ms'}::ANTENNA") as antennas:
        assert list(antennas.getcol("NAME")) == ["S002", "S003", "S004", "S005", "ST001"]
    record = json.loads((tmp_path / "phased_up.json").read_text())
    assert record["members"] == ["S000", "S001"]
    assert np.allclose(record["position_m"], made.observation.array.position_m[:2])
    assert make(made, tmp_path) == "DP3"
    assert not (tmp_path / "phased_up.json").exists(), "of the data that are there now"


def test_members_get_the_solutions_of_the_sum(tmp_path: Path) -> None:
    table = solset(antenna=("DE601", "ST001"), seed=1)
    h5parm = tmp_path / "s.h5"
    write_with_entries(h5parm, table, [Entry("A", name, source="A") for name in table.antenna])
    before = h5parm.read_bytes()
    give_to_members(tmp_path, h5parm)
    assert h5parm.read_bytes() == before, "nothing was added up"
    record = {"station": "ST001", "pattern": "CS*", "members": ["CS001", "CS002"],
              "position_m": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}  # fmt: skip
    (tmp_path / "phased_up.json").write_text(json.dumps(record))
    give_to_members(tmp_path, h5parm)
    assert read_h5parm(h5parm).antenna == ("DE601", "CS001", "CS002")
    assert {item.entry.station for item in list_entries(h5parm)} == {"DE601", "CS001", "CS002"}
    before = h5parm.read_bytes()
    give_to_members(tmp_path, h5parm)
    assert h5parm.read_bytes() == before, "once is enough"


def test_a_field_with_its_core_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: None
) -> None:
    """The table holds the members; they correct the next layer, and subtract this one."""
    made = simulate(tmp_path / "field.ms", observe(4, 8), FIELD_SKY, perfect=False)
    core = ("S000", "S001")

    def solves(task: Any, data: list[Path]) -> None:
        with open_table(f"{data[0]}::ANTENNA") as antennas:
            assert list(antennas.getcol("NAME"))[-1] == "ST001"
        run = FakeRun(made)
        run._solutions = lambda task, path: write_with_entries(  # type: ignore[method-assign]
            path, perfect(task), [Entry(task.name, n, source=task.name) for n in names]
        )
        run(task, data)

    names = (*made.observation.array.name[2:], "ST001")

    def perfect(task: Any) -> Any:
        table = solset(antenna=names, directions={task.name: (0.0, 0.0)}, weight=100.0)
        table.direction_rad[:] = (task.ra_rad, task.dec_rad)
        return table

    monkeypatch.setattr(field_source, "_run", solves)
    config = write_config(made, tmp_path, phase_up="S00[01]", uvmin="0m")
    assert command_field([str(config)]) == 0
    work = tmp_path / "work"
    entries = {item.entry.key for item in list_entries(work / "solutions.h5")}
    assert entries == {(s.name, n) for s in FIELD_SKY for n in (*names[:-1], *core)}
    (ms,) = (work / "data" / "after_layer_2").iterdir()
    with open_table(ms) as opened:
        assert np.abs(opened.getcol("DATA")).max() < 2e-3, "all sources are gone"
    assert "added up to ST001" in (work / "sources.csv").read_text()


def test_a_shape_in_the_list_goes_to_the_sources_own_run(
    made: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = simulate(tmp_path / "field.ms", observe(4, 8), FIELD_SKY[:1], ERRORS, perfect=False)
    path = write_config(made, tmp_path, layers=["500mJy"])
    ra, dec = (math.degrees(a) for a in FIELD_SKY[0].radec_rad(*made.observation.direction_rad))
    (tmp_path / "sources.csv").write_text(
        "name,ra_deg,dec_deg,Total_flux_Jy,Peak_flux_Jy,Isl_rms_Jy,DC_Maj,DC_Min,DC_PA\n"
        f"cal1,{ra:.10f},{dec:.10f},1.0,0.4,0.001,11,5,30\n"
    )
    asked: list[dict[str, Any]] = []

    def stop(argv: Any, *rest: Any, **more: Any) -> None:
        asked.append(yaml.safe_load(Path(argv[-1]).read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr(field_source, "run_tool", stop)
    with pytest.raises(KeyboardInterrupt):
        command_field([str(path)])
    catalogue = Path(asked[0]["overrides"]["closure_stats"]["catalogue"])
    entry = read_entry(catalogue)
    assert entry.resolved == "S_int/S_peak 2.5 at SNR 400" and entry.complete
    assert entry.map_arcsec == 33.0
    assert load_run_config(Path(field_source.__file__).parents[2] / "templates/configs/lofar.py")
    assert source_row(catalogue_source("a", 10, 10, 0.1), 1)["entry"] == ""


def test_only_what_stands_out_of_the_map_is_subtracted(tmp_path: Path) -> None:
    """CLEAN's components of noise, anywhere in the map, are no part of the source."""
    rng = np.random.default_rng(4)
    noise = rng.normal(scale=1e-3, size=(64, 64))
    model = np.zeros((64, 64))
    model[32, 32], model[33, 33] = 0.5, 0.1
    model[10, 50], model[20, 12] = 3e-3, -2e-3
    image = point_model(tmp_path / "run" / "image.fits", 0.5, (1.0, 0.9))
    header = fits.getheader(image)
    beam = np.exp(-0.5 * ((np.indices((64, 64)) - 32) ** 2).sum(axis=0) / 1.3**2)
    fits.writeto(image, (noise + 0.6 * beam)[None, None], header, overwrite=True)
    fits.writeto(tmp_path / "run" / "m.fits", model[None, None], header)
    files = {"image": "image.fits", "model": "m.fits"}
    assert _own_models(tmp_path, files, ["model"]) == ["models/model.fits"]
    kept = fits.getdata(tmp_path / "models" / "model.fits").squeeze()
    assert kept[32, 32] == pytest.approx(0.5) and kept[33, 33] == pytest.approx(0.1)
    assert np.count_nonzero(kept) == 2
    fits.writeto(image, noise[None, None], header, overwrite=True)
    assert _own_models(tmp_path, files, ["model"]) == ["run/m.fits"]
    assert _own_models(tmp_path, {"image": "image.fits"}, ["model"]) == []
