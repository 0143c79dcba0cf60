"""Rounds of bandpasses: tables, product, record, and data that have none."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.gains.caltable import read_solutions
from libs.gains.native import NativeSolver
from libs.gains.solver import AppliedTable
from libs.h5parm.check import check
from libs.h5parm.export import export_caltable
from libs.h5parm.run_rounds import read_rounds
from libs.inputs.working_copy import WorkingCopy
from libs.ms import tables
from libs.ms.create import SpectralWindow
from libs.ms.sanitise import Repairs, add_scratch_columns
from libs.ms.summary import summarise
from libs.simulation.array_configurations import load_configuration
from libs.simulation.corrupt import multiply_ms
from libs.simulation.gains import StationErrors
from libs.simulation.observation import Observation, simulate
from libs.simulation.sky import Source
from selfcal.context import Context
from selfcal.step import StepResult
from steps.startup import _describe
from tests.steps.fake_tools import Looks, MadeUp, make_run

NAMES = ("startup", "test_image", "select_refant", "p1", "b1")
SCRIPT = {
    "test_image": Looks(1.0, 0.02), "selfcal_p1": Looks(1.0, 0.01), "selfcal_b1": Looks(1.0, 0.005),
}  # fmt: skip
OVERRIDES = {"p1": {"solution": "gain", "solint": "40s", "combine": []}, "b1": {"max_cycles": 1}}
CHANNELS = 16


class Rippled(MadeUp):
    """A point source with phases that walk, and a ripple over each of two windows."""

    ripple, channels = 0.1, CHANNELS

    def run(self, context: Context) -> StepResult:
        """Simulate it where a working copy would be."""
        for name in ("data", "images", "tables"):
            shutil.rmtree(context.workdir / name, ignore_errors=True)
            (context.workdir / name).mkdir()
        windows = tuple(SpectralWindow(hz, 32e6, self.channels) for hz in (1.4e9, 1.6e9))
        made = simulate(
            context.workdir / "data" / "point.ms",
            Observation(
                array=load_configuration("vla.a").thinned(8), direction_deg=(40.0, 30.0),
                start_s=5.1e9, integration_s=10.0, scan_s=120.0, noise_jy=0.05, spws=windows,
            ),
            [Source(1.0)], StationErrors(phase_walk_deg=4, phase_walk_s=60), perfect=False,
        )  # fmt: skip
        wave = np.linspace(0, 2 * np.pi, self.channels)[:, None, None]
        start = np.random.default_rng(4).uniform(0, 2 * np.pi, (2, 8, 2))
        band = np.concatenate([1 + self.ripple * np.exp(1j * (wave + one)) for one in start])
        gain = np.broadcast_to(band, (len(made.gains.time_s), *band.shape))
        flat = replace(
            made.gains, gain=gain, flag=np.zeros(gain.shape, bool), snr=np.ones(gain.shape),
            frequency_hz=np.concatenate([window.frequency_hz for window in windows]),
            spw=np.repeat([0, 1], self.channels),
        )  # fmt: skip
        multiply_ms(made.ms, flat)
        add_scratch_columns(made.ms)
        with tables.open_table(made.ms, write=True) as opened:
            opened.putcol("MODEL_DATA", np.ones_like(opened.getcol("DATA")))
        copy = WorkingCopy(made.ms, "DATA", Repairs(), (), None, None, 0, 0.0)
        return _describe(context, [copy], [summarise(made.ms)])


class Flat(Rippled):
    """The same without a ripple."""

    ripple = 0.0


class Coarse(Rippled):
    """The same with windows of two channels."""

    channels = 2


def run_with(workdir: Path, kind: type[Rippled]) -> tuple[Any, Any]:
    pipeline, _ = make_run(workdir, SCRIPT, names=NAMES, config={"overrides": OVERRIDES})
    pipeline.steps[0] = kind("startup")
    return pipeline, pipeline.run()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    workdir = tmp_path_factory.mktemp("bandpass")
    _, results = run_with(workdir, Rippled)
    assert {name: results[name].status for name in NAMES} == dict.fromkeys(NAMES, "done")
    return workdir, results


def spread(ms: Path) -> float:
    """Rms over channels and baselines of the mean in time of CORRECTED_DATA, less 1.

    What all baselines have in common in a channel is left out: no bandpass takes that.
    """
    with tables.open_table(ms) as opened:
        data, flag = opened.getcol("CORRECTED_DATA"), opened.getcol("FLAG")
        key = np.stack([opened.getcol(n) for n in ("DATA_DESC_ID", "ANTENNA1", "ANTENNA2")])
    assert not flag.any(), "bandpasses flag nothing"
    group = np.unique(key, axis=1, return_inverse=True)[1].ravel()
    mean = np.zeros((group.max() + 1, *data.shape[1:]), complex)
    np.add.at(mean, group, data)
    mean /= np.bincount(group)[:, None, None]
    first = np.unique(group, return_index=True)[1]
    for window in np.unique(key[0]):
        mine = key[0, first] == window
        mean[mine] /= mean[mine].mean(axis=0)
    return float(np.sqrt(np.mean(np.abs(mean - 1) ** 2)))


def test_the_ripple_is_gone(run: tuple[Path, Any]) -> None:
    workdir, results = run
    assert [t.round for t in results["b1"].tables] == ["p1", "b1"]
    metrics = results["b1"].metrics
    assert (metrics["solution"], metrics["calmode"], metrics["combine"]) == (
        "bandpass", "ap", ["scan"],
    )  # fmt: skip
    assert "a bandpass of" in metrics["chosen"]
    assert metrics["flux_factor"] == pytest.approx(1, abs=0.005)
    # noise of 12 integrations makes 0.05 sqrt(2) / sqrt(12) = 0.02, the ripple of two antennas 0.14
    assert spread(workdir / "data" / "point.ms") < 0.03


def test_the_product_corrects_data_as_the_tables_do(run: tuple[Path, Any], tmp_path: Path) -> None:
    workdir, _ = run
    for path in (workdir / "solutions.h5", workdir / "tables" / "b1.h5"):
        assert check(path) == []
    assert [one.name for one in read_rounds(workdir / "solutions.h5")] == ["p1", "b1"]
    ms = tmp_path / "copy.ms"
    shutil.copytree(workdir / "data" / "point.ms", ms)
    export_caltable(workdir / "solutions.h5", ms, tmp_path / "all.gcal")
    NativeSolver().apply(ms, [AppliedTable(tmp_path / "all.gcal")])
    assert spread(ms) < 0.03


def test_it_is_resumed_exactly(run: tuple[Path, Any], tmp_path: Path) -> None:
    workdir, results = run
    again = tmp_path / "again"
    shutil.copytree(workdir, again)
    pipeline, _ = make_run(again, SCRIPT, names=NAMES, config={"overrides": OVERRIDES})
    pipeline.steps[0] = Rippled("startup")
    table = results["b1"].tables[-1].path
    shutil.rmtree(again / table)
    found = pipeline.run(start="b1")["b1"]
    assert found.metrics["held_out"] == results["b1"].metrics["held_out"]
    one, other = read_solutions(workdir / table), read_solutions(again / table)
    np.testing.assert_array_equal(one.gain, other.gain)


def test_data_without_a_ripple_are_left_alone(tmp_path: Path) -> None:
    _, results = run_with(tmp_path, Flat)
    assert results["b1"].status == "skipped"
    assert "no bandpass was solved for" in results["b1"].reason
    assert [t.round for t in results["b1"].tables] == ["p1"]


def test_windows_of_few_channels_have_none(tmp_path: Path) -> None:
    _, results = run_with(tmp_path, Coarse)
    assert results["b1"].status == "skipped"
    assert "fewer than 4 channels (2)" in results["b1"].reason
