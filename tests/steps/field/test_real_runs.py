"""Loop 1 with real runs of its sources, in line and by workers of which one is killed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from libs.h5parm.global_table import list_entries
from libs.h5parm.reader import read_h5parm
from libs.simulation.observation import Simulation
from libs.simulation.scenarios import make_scenario, scenario
from tests.conftest import ROOT
from tests.steps.field.test_plan import left, write_config


def _small_field(folder: Path) -> Simulation:
    """Two calibrators and two fainter sources, 14 stations, little noise."""
    base = scenario("lofar_field")
    chosen = dataclasses.replace(
        base,
        sky=tuple(s for s in base.sky if s.name in ("cal1", "cal2", "faint2", "faint4")),
        noise_jy=0.03,
    )
    return make_scenario(chosen, folder / "field.ms", 0.15, antennas=14, perfect=False)


_QUICK = {
    "source_steps": ["startup", "save_init_flags", "test_image", "select_refant", "initial_model",
                     "p0"],
    "layers": ["300mJy", "50mJy"], "map_size": "5arcsec", "average_time": "16s",
    "average_frequency": "4MHz", "threads": 1, "cell": "0.04arcsec",
    "source_settings": {"rounds": "template", "template": "bright", "plots": False},
    # so few stations make poor images: whether a round helps is not the question here
    "overrides": {
        "p0": {"solint": "16s", "minsnr": 0, "max_snr_loss": 0.99, "max_rms_rise": 99,
               "max_flux_loss": 0.99, "max_beam_growth": 9},
        "initial_model": {"max_components": 1},
    },
    "subtract_snr": 1.0,
}  # fmt: skip
_MAIN = (
    "import sys\nfrom steps.commands.field import command\n"
    "if __name__ == '__main__':\n    sys.exit(command(sys.argv[1:]))\n"
)


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Simulation, Path]:
    """The field calibrated in line, and the script that does it."""
    folder = tmp_path_factory.mktemp("inline")
    made = _small_field(folder)
    (folder / "main.py").write_text(_MAIN)
    assert _start(folder, write_config(made, folder, **_QUICK)).wait(timeout=900) == 0
    return made, folder


def _start(folder: Path, config: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, str(folder / "main.py"), str(config), *words]
    return subprocess.Popen(argv, env=environment)


@pytest.mark.tools
@pytest.mark.parametrize("where", ["local:2", "dask"])
def test_two_workers_one_killed_give_the_same_as_inline(
    inline: tuple[Simulation, Path], tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    made, first = inline
    config = write_config(made, tmp_path, **_QUICK)
    address, parent = where, 0
    if where == "dask":
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
        request.addfinalizer(cluster.close)
        address, parent = cluster.scheduler_address, os.getpid()
    run = _start(first, config, "--cluster", address)
    _kill_a_worker(parent or run.pid, tmp_path / "work")
    assert run.wait(timeout=900) == 0
    if where != "dask":
        assert "run again" in (tmp_path / "work" / "run.log").read_text()
    stations = made.observation.array.name
    one, other = (read_h5parm(k / "work" / "solutions.h5") for k in (first, tmp_path))
    assert set(one.direction) == {source.name for source in made.sky}
    assert set(one.antenna) == set(stations)
    assert (one.direction, one.antenna) == (other.direction, other.antenna)
    assert len(list_entries(tmp_path / "work" / "solutions.h5")) == 4 * len(stations)
    assert np.array_equal(one.valid, other.valid)
    assert np.abs(one.gain - other.gain).max() < 1e-3
    assert left(first / "work", 2) == pytest.approx(left(tmp_path / "work", 2), 1e-3)


def _kill_a_worker(pid: int, work: Path) -> None:
    """Kill the worker of a source of the first layer while its own run is under way."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for mark in work.glob("sources/*/run/.running"):
            name = mark.parent.parent.name
            for child in psutil.Process(pid).children(recursive=True):
                line = " ".join(child.cmdline())
                if name in line and "auto_selfcal.py" in line:
                    parent = child.parent()
                    if parent is not None and parent.pid != pid:
                        parent.kill()
                        return
        time.sleep(0.05)
    raise AssertionError("no worker ran")
