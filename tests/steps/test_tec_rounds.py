"""Rounds solved for TECs: what the run's h5parm says of them, and an amplitude round on top."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from libs.gains.native import NativeSolver
from libs.gains.solver import AppliedTable
from libs.h5parm.check import check
from libs.h5parm.export import export_caltable
from libs.h5parm.global_table import merge_into
from libs.h5parm.nearest import best
from libs.h5parm.reader import read_h5parm
from libs.h5parm.run_rounds import read_rounds
from libs.inputs.working_copy import WorkingCopy
from libs.ms import tables
from libs.ms.create import SpectralWindow
from libs.ms.sanitise import Repairs, add_scratch_columns
from libs.ms.summary import summarise
from libs.simulation.array_configurations import load_configuration
from libs.simulation.gains import StationErrors
from libs.simulation.observation import Observation, simulate
from libs.simulation.sky import Source
from selfcal.context import Context
from selfcal.step import StepResult
from steps.startup import _describe
from tests.steps.fake_tools import Looks, MadeUp, make_run

NAMES = ("startup", "test_image", "select_refant", "p1", "p2", "ap1")
SCRIPT = {
    "test_image": Looks(1.0, 0.02), "selfcal_p1": Looks(1.0, 0.01),
    "selfcal_p2": Looks(1.0, 0.007), "selfcal_ap1": Looks(1.0, 0.004),
}  # fmt: skip
OVERRIDES = {
    "p1": {"solution": "tec", "solint": "int"},
    "p2": {"solution": "gain", "solint": "40s", "combine": []},
    "ap1": {"solint": "inf", "split_before": False, "combine": [], "max_cycles": 1},
}


class BehindTec(MadeUp):
    """A point source behind TECs and amplitudes, in two windows."""

    def run(self, context: Context) -> StepResult:
        """Simulate it where a working copy would be."""
        for name in ("data", "images", "tables"):
            shutil.rmtree(context.workdir / name, ignore_errors=True)
            (context.workdir / name).mkdir()
        made = simulate(
            context.workdir / "data" / "point.ms",
            Observation(
                array=load_configuration("vla.a").thinned(8), direction_deg=(40.0, 30.0),
                start_s=5.1e9, integration_s=10.0, scan_s=120.0, noise_jy=0.02,
                spws=(SpectralWindow(130e6, 20e6, 8), SpectralWindow(158e6, 20e6, 8)),
            ),
            [Source(1.0)],
            StationErrors(tec_walk_tecu=0.1, tec_walk_s=60, tec_offset_tecu=0.2, amp_offset=0.1),
            perfect=False,
        )  # fmt: skip
        self.truth = made.gains
        add_scratch_columns(made.ms)
        with tables.open_table(made.ms, write=True) as opened:
            opened.putcol("MODEL_DATA", np.ones_like(opened.getcol("DATA")))
        copy = WorkingCopy(made.ms, "DATA", Repairs(), (), None, None, 0, 0.0)
        return _describe(context, [copy], [summarise(made.ms)])


def corrected(ms: Path) -> tuple[np.ndarray, np.ndarray]:
    with tables.open_table(ms) as opened:
        return opened.getcol("CORRECTED_DATA"), opened.getcol("FLAG")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("tec")
    pipeline, _ = make_run(workdir, SCRIPT, names=NAMES, config={"overrides": OVERRIDES})
    pipeline.steps[0] = BehindTec("startup")
    results = pipeline.run()
    assert {name: results[name].status for name in NAMES} == dict.fromkeys(NAMES, "done")
    assert [t.round for t in results["ap1"].tables] == ["p1", "p2", "ap1"]
    return workdir


def test_the_product_holds_the_tec_beside_the_phases(run: Path) -> None:
    path = run / "solutions.h5"
    assert check(path) == []
    with h5py.File(path) as file:
        kinds = [n for n, node in file["sol000"].items() if isinstance(node, h5py.Group)]
        assert kinds == ["amplitude000", "phase000", "phase001", "tec000"]
        assert file["sol000/tec000/val"].attrs["AXES"] == b"time,ant,dir"
    solset = read_h5parm(path)
    assert solset.tec_tecu is not None
    rounds = {one.name: one.solset for one in read_rounds(path)}
    assert rounds["p1"].tec_tecu is not None
    assert rounds["p2"].tec_tecu is None and rounds["ap1"].tec_tecu is None
    assert np.ptp(solset.amplitude) > 0.05, "the amplitude round is in it"
    assert np.abs(solset.phase_rad[solset.valid]).max() < 0.5, "what is left is small"


def test_each_round_has_an_h5parm_of_its_own(run: Path) -> None:
    assert sorted(p.name for p in (run / "tables").glob("*.h5")) == ["ap1.h5", "p1.h5", "p2.h5"]
    for name in ("p1", "p2", "ap1"):
        assert check(run / "tables" / f"{name}.h5") == []
    pure = read_h5parm(run / "tables" / "p1.h5")
    assert pure.tec_tecu is not None and not pure.phase_rad.any()
    assert read_h5parm(run / "tables" / "ap1.h5").tec_tecu is None


def test_tecs_are_those_put_on(run: Path, tmp_path: Path) -> None:
    """In TECU, of the sign that LoSoTo and DP3 give them."""
    step = BehindTec("startup")
    pipeline, _ = make_run(tmp_path, SCRIPT, names=NAMES)
    step.run(pipeline.context)
    truth = step.truth
    hertz = truth.frequency_hz
    turn = np.unwrap(np.angle(truth.gain[..., 0]), axis=1)
    slope = np.polynomial.polynomial.polyfit(
        1 / hertz, turn.swapaxes(0, 1).reshape(len(hertz), -1), 1
    )
    true_tecu = (slope[1] / -8.4479745e9).reshape(turn.shape[0], turn.shape[2])
    solset = read_h5parm(run / "tables" / "p1.h5")
    assert solset.tec_tecu is not None
    found = solset.tec_tecu[..., 0]
    wrong = (found - found[:, :1]) - (true_tecu - true_tecu[:, :1])
    assert np.abs(wrong).max() < 0.01 < np.abs(true_tecu - true_tecu[:, :1]).max()


def test_the_product_corrects_data_as_the_tables_do(run: Path, tmp_path: Path) -> None:
    """By itself, and merged into a table of several directions and taken from it again."""
    wanted, flag = corrected(run / "data" / "point.ms")
    ms = tmp_path / "copy.ms"
    shutil.copytree(run / "data" / "point.ms", ms)
    store = tmp_path / "store.h5"
    merge_into(store, [run / "solutions.h5"])
    best(store, 0.7, 0.52, name="here").write(tmp_path / "best.h5")
    for path in (run / "solutions.h5", tmp_path / "best.h5"):
        export_caltable(path, ms, tmp_path / "all.gcal")
        NativeSolver().apply(ms, [AppliedTable(tmp_path / "all.gcal")])
        got, more = corrected(ms)
        assert (flag | more).mean() < 0.1
        good = ~(flag | more)
        assert np.abs(got - wanted)[good].max() < 0.01
