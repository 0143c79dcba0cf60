"""Delays as h5parm clocks: DP3 corrects with them as the K table does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from libs.core.errors import InputError
from libs.directions.dp3 import find_dp3
from libs.gains.native import NativeSolver
from libs.gains.solution_interval import PER_SCAN
from libs.gains.solver import AppliedTable, SolveOptions
from libs.h5parm.clock import write_clock_h5parm
from libs.imaging.predict import fill_model_column
from libs.imaging.standard_models import point_model
from libs.ms.columns import ensure_data_column
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, Source, SpectralWindow
from libs.simulation.session import SessionErrors, SessionField, simulate_session

PLACE = (1.49, 0.86)


def solved(tmp_path: Path, windows: int, combine: frozenset[str]) -> tuple[Path, NativeSolver]:
    spws = tuple(SpectralWindow(150e6 + 12e6 * k, 10e6, 20) for k in range(windows))
    observation = Observation(
        load_configuration("vla.d"), (0, 0), 5.0e9, 10.0, 40.0, spws, noise_jy=0.1,
        correlations=("XX", "XY", "YX", "YY"),
    )  # fmt: skip
    field = SessionField("a", (85.4, 49.3), (Source(5.0),), (0.0,), 40.0)
    made = simulate_session(
        tmp_path / "a.ms", observation, [field], SessionErrors((5.0, 60.0), phases=False), seed=4
    )
    ensure_data_column(made.ms, "MODEL_DATA")
    fill_model_column([made.ms], point_model(lambda hz: np.full(len(hz), 5.0), (0.0, 0.0)))
    solver = NativeSolver(corr_dep_flags=True)
    options = SolveOptions(PER_SCAN, combine, solution="delay")
    solver.solve(made.ms, tmp_path / "a.K", options)
    return made.ms, solver


@pytest.mark.tools
def test_dp3_corrects_as_the_table_does(tmp_path: Path) -> None:
    program = find_dp3()
    if program is None:
        pytest.skip("DP3 is not installed")
    ms, solver = solved(tmp_path, 1, frozenset({"scan"}))
    write_clock_h5parm(tmp_path / "a.K", tmp_path / "a.h5", PLACE)
    with h5py.File(tmp_path / "a.h5") as opened:
        clock = opened["sol000/clock000/val"]
        assert clock.attrs["AXES"] == b"time,ant,pol"
        assert 1e-9 < np.abs(clock[()]).max() < 130e-9
    solver.apply(ms, [AppliedTable(tmp_path / "a.K")])
    words = [f"msin={ms}", f"msout={tmp_path / 'b.ms'}", "steps=[c,p]"]
    for step, name in (("c", "clock000"), ("p", "phase000")):
        words += [f"{step}.type=applycal", f"{step}.parmdb={tmp_path / 'a.h5'}",
                  f"{step}.correction={name}"]  # fmt: skip
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    columns = {}
    for name, path, column in (("ours", ms, "CORRECTED_DATA"), ("dp3", tmp_path / "b.ms", "DATA")):
        with open_table(path) as opened:
            order = np.lexsort([opened.getcol(n) for n in ("ANTENNA2", "ANTENNA1", "TIME")])
            columns[name] = opened.getcol(column)[order]
    assert np.abs(columns["ours"] - columns["dp3"]).max() < 2e-3 * 5


def test_a_clock_is_one_for_all_windows(tmp_path: Path) -> None:
    solved(tmp_path, 2, frozenset({"scan"}))
    with pytest.raises(InputError, match="has delays of 2 spectral windows"):
        write_clock_h5parm(tmp_path / "a.K", tmp_path / "a.h5", PLACE)
    solved(tmp_path / "both", 2, frozenset({"scan", "spw"}))
    write_clock_h5parm(tmp_path / "both" / "a.K", tmp_path / "a.h5", PLACE)
    assert (tmp_path / "a.h5").exists()
