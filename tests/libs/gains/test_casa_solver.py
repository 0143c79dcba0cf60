"""Arguments of gaincal and applycal, without the tools; a solve that leaves no table, with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.casa.session import CasaSession
from libs.core.errors import SolveError, ToolError
from libs.gains.casa_solver import (
    CasaSolver,
    antenna_selections,
    applycal_arguments,
    gaincal_arguments,
    spwmap_for,
)
from libs.gains.solution_interval import PER_INTEGRATION, SolutionInterval
from libs.gains.solver import AppliedTable, SolveOptions
from libs.ms.columns import ensure_data_column
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms

MS, TABLE = Path("a.ms"), Path("p0.gcal")
PLAIN = {
    "vis": "a.ms", "caltable": "p0.gcal", "solint": "inf", "combine": "", "refant": "",
    "refantmode": "flex", "minblperant": 4, "minsnr": 3.0, "solnorm": False, "gaintype": "G",
    "calmode": "p", "corrdepflags": True, "gaintable": [], "interp": [], "spwmap": [],
    "parang": False,
}  # fmt: skip


def test_default_options() -> None:
    assert gaincal_arguments(MS, TABLE, SolveOptions(), (), ()) == PLAIN


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"solint": SolutionInterval(30.0)}, {"solint": "30s"}),
        ({"solint": SolutionInterval(0.123456789)}, {"solint": "0.123457s"}),
        ({"solint": PER_INTEGRATION}, {"solint": "int"}),
        ({"combine": frozenset({"spw", "scan"})}, {"combine": "scan,spw"}),
        ({"combine": frozenset({"spw"})}, {"combine": "spw"}),
        ({"calmode": "ap", "solnorm": True}, {"calmode": "ap", "solnorm": True}),
        ({"gaintype": "T", "minsnr": 1.5}, {"gaintype": "T", "minsnr": 1.5}),
        ({"minblperant": 6}, {"minblperant": 6}),
        ({"uvmin_m": 50.0}, {"selectdata": True, "uvrange": ">50m"}),
        ({"uvmax_m": 80e3}, {"selectdata": True, "uvrange": "<80000m"}),
        ({"uvmin_m": 12.5, "uvmax_m": 7e3}, {"selectdata": True, "uvrange": "12.5~7000m"}),
        ({"fields": (0, 3)}, {"field": "0,3"}),
        ({"solution": "delay"}, {"gaintype": "K"}),
    ],
)  # fmt: skip
def test_each_option(options: dict[str, object], changes: dict[str, object]) -> None:
    found = gaincal_arguments(MS, TABLE, SolveOptions(**options), (), ())  # type: ignore[arg-type]
    assert found == {**PLAIN, **changes}


@given(st.floats(0.1, 2e7), st.floats(0, 1e4))
def test_baseline_limits_have_no_exponent(uvmax_m: float, uvmin_m: float) -> None:
    """CASA's selection language has plain numbers."""
    options = SolveOptions(uvmin_m=uvmin_m, uvmax_m=uvmax_m)
    found = gaincal_arguments(MS, TABLE, options, (), ())["uvrange"]
    assert "e" not in found
    numbers = [float(part) for part in found.strip("<>m").split("~")]
    assert numbers[-1] == pytest.approx(uvmax_m, rel=1e-3, abs=1e-3)


def test_prior_tables_and_references_keep_their_order() -> None:
    prior = (AppliedTable(Path("x.gcal"), (1, 1)), AppliedTable(Path("y.gcal"), (), "nearest"))
    found = gaincal_arguments(MS, TABLE, SolveOptions(), prior, ('"2m"', "7"))
    assert found == {
        **PLAIN, "refant": '"2m",7', "gaintable": ["x.gcal", "y.gcal"],
        "interp": ["linear", "nearest"], "spwmap": [[1, 1], []],
    }  # fmt: skip


def test_applying() -> None:
    tables = (AppliedTable(Path("x.gcal"), (2, 2, 2)), AppliedTable(Path("y.gcal"), (), "nearest"))
    found = applycal_arguments(MS, tables, calwt=True, flag_unsolved=True)
    assert found == {
        "vis": "a.ms", "gaintable": ["x.gcal", "y.gcal"], "interp": ["linear", "nearest"],
        "spwmap": [[2, 2, 2], []], "calwt": [True, True], "applymode": "calflag",
        "parang": False, "flagbackup": False,
    }  # fmt: skip
    found = applycal_arguments(MS, tables[:1], calwt=False, flag_unsolved=False)
    assert (found["applymode"], found["calwt"]) == ("calonly", [False])
    own = (AppliedTable(Path("x.gcal"), fields=(1, 2)), AppliedTable(Path("y.gcal")))
    found = applycal_arguments(MS, own, calwt=False, flag_unsolved=True, fields=(2,))
    assert (found["field"], found["gainfield"]) == ("2", ["1,2", ""])


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="never normalised"):
        SolveOptions(solnorm=True)
    with pytest.raises(ValueError, match="combine may hold"):
        SolveOptions(combine=frozenset({"corr"}))


# --- antennas -------------------------------------------------------------------------------


def test_antennas_as_casa_selects_them(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=5, times=1)
    with open_table(f"{ms}::ANTENNA", write=True) as antennas:
        antennas.putcol("NAME", ["2m", "1c", "", "7", "ea05"])
        antennas.putcol("STATION", ["", "", "", "W08", "N16"])
    names = summarise(ms).antenna
    assert names == ("2m", "1c", "ANT2", "7", "ea05")
    wanted = ["ea05", "2m", "1c", "ANT2", "7", "ea99"]
    assert antenna_selections(ms, names, wanted) == ['"ea05"', '"2m"', '"1c"', "2", '"7"']


def test_an_antenna_that_has_only_a_station_goes_by_its_id(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=3, times=1)
    with open_table(f"{ms}::ANTENNA", write=True) as antennas:
        antennas.putcol("NAME", ["A0", "  ", "A2"])
    names = summarise(ms).antenna
    assert names == ("A0", "P1", "A2")
    assert antenna_selections(ms, names, ["P1", "A0"]) == ["1", '"A0"']


# --- spwmap ---------------------------------------------------------------------------------


def rows(*flags: tuple[int, bool]) -> tuple[np.ndarray, np.ndarray]:
    spw = np.array([one for one, _ in flags])
    return spw, np.array([[bad, bad] for _, bad in flags])


def test_windows_on_their_own_need_no_map() -> None:
    assert spwmap_for(*rows((0, False), (1, False)), 2, combined=False) == ()
    assert spwmap_for(*rows((0, False)), 1, combined=True) == ()


def test_combined_windows_use_the_one_with_solutions() -> None:
    assert spwmap_for(*rows((0, False), (0, False)), 3, combined=True) == (0, 0, 0)


def test_the_first_window_may_be_flagged() -> None:
    """gaincal then files the solutions under the first window with data."""
    assert spwmap_for(*rows((1, False), (1, False)), 3, combined=True) == (1, 1, 1)
    found = spwmap_for(*rows((0, True), (2, False), (2, True)), 4, combined=True)
    assert found == (2, 2, 2, 2)


def test_one_polarization_is_a_solution() -> None:
    spw = np.array([0, 1])
    flag = np.array([[True, True], [True, False]])
    assert spwmap_for(spw, flag, 2, combined=True) == (1, 1)


def test_a_table_that_is_all_flagged_maps_nothing() -> None:
    assert spwmap_for(*rows((0, True)), 2, combined=True) == ()


# --- with the tools -------------------------------------------------------------------------


@pytest.mark.tools
def test_a_solve_that_leaves_no_table_is_a_solve_error(
    session: CasaSession, tmp_path: Path
) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=5, times=3)
    ensure_data_column(ms, "MODEL_DATA", copy="DATA")
    with open_table(ms, write=True) as opened:
        opened.putcol("FLAG", np.ones_like(opened.getcol("FLAG")))
    with pytest.raises(SolveError):
        CasaSolver(session).solve(ms, tmp_path / "none.gcal", SolveOptions(refant=("A0",)))
    assert not list(tmp_path.glob("none.gcal*"))


@pytest.mark.tools
def test_limits_names_and_long_baselines_are_understood(
    session: CasaSession, tmp_path: Path
) -> None:
    """Limits beyond 1000 km, and reference antennas called like lengths."""
    ms = make_ms(tmp_path / "a.ms", antennas=6, times=3, noise_jy=0.01)
    ensure_data_column(ms, "MODEL_DATA", copy="DATA")
    with open_table(f"{ms}::ANTENNA", write=True) as antennas:
        antennas.putcol("NAME", ["2m", "1c", "7", "A3", "A4", "A5"])
    options = SolveOptions(uvmin_m=0.5, uvmax_m=1234567.8, refant=("2m", "1c"), minblperant=3)
    result = CasaSolver(session).solve(ms, tmp_path / "g.gcal", options)
    assert result.flagged_fraction == 0
    with open_table(result.table) as opened:
        first = opened.getcol("ANTENNA1") == 0
        assert np.abs(np.angle(opened.getcol("CPARAM")[first])).max() < 1e-6, "the reference"


@pytest.mark.tools
def test_applying_no_table_is_an_error(session: CasaSession, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no gain table to apply"):
        CasaSolver(session).apply(tmp_path / "a.ms", [])
