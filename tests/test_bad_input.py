"""Bad input through the real command: an exit code, one clear line, and nothing lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.ms.tables import open_table
from selfcal.state import State, hold_workdir
from tests.conftest import ROOT, tree_hash
from tests.libs.small_ms import make_ms

STARTUP = ["startup"]
IMAGING = ["startup", "fov_image"]


@dataclass
class Bench:
    """A folder with a measurement set, a config and a work directory of one test."""

    folder: Path
    vis: Path

    @property
    def workdir(self) -> Path:
        return self.folder / "work"

    def run(
        self, *arguments: str, path: Path | None = None, **config: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run the command; check that the input is what it was and that no traceback shows."""
        values = {
            "vis": str(self.vis), "workdir": "work", "steps": STARTUP, "plots": False, **config
        }  # fmt: skip
        lines = [f"{key} = {value!r}" for key, value in values.items()]
        (self.folder / "my.py").write_text("\n".join(lines) + "\n")
        before = tree_hash(self.vis) if self.vis.exists() else ""
        environment = dict(os.environ, MPLBACKEND="Agg")
        if path is not None:
            environment["PATH"] = f"{path}:{environment['PATH']}"
        done = subprocess.run(
            [sys.executable, str(ROOT / "auto_selfcal.py"), "my.py", *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
            timeout=180,
        )  # fmt: skip
        assert (tree_hash(self.vis) if self.vis.exists() else "") == before
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def refused(self, code: int, says: str, *arguments: str, **how: Any) -> str:
        """Run; check the code and that the first line says cause (and remedy); return it all."""
        done = self.run(*arguments, **how)
        assert done.returncode == code, done.stdout + done.stderr
        lines = done.stderr.splitlines()
        assert lines and lines[0].startswith("selfcal: "), done.stderr
        assert re.search(says, done.stderr, re.DOTALL), done.stderr
        return done.stderr


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A point source seen by seven antennas for ten minutes."""
    vis = make_ms(
        tmp_path / "point.ms", antennas=7, times=20, channels=4, interval_s=30.0, noise_jy=0.05
    )
    return Bench(tmp_path, vis)


def change(column: str) -> Callable[[Path, Callable[[np.ndarray], np.ndarray]], None]:
    def put(vis: Path, new: Callable[[np.ndarray], np.ndarray]) -> None:
        with open_table(vis, write=True) as opened:
            opened.putcol(column, new(opened.getcol(column)))

    return put


set_data, set_flag, set_weight = change("DATA"), change("FLAG"), change("WEIGHT")


# -- what vis names -----------------------------------------------------------------------------


def test_no_such_measurement_set(bench: Bench) -> None:
    text = bench.refused(1, "poin.ms does not exist.*did you mean .*point.ms", vis="poin.ms")
    assert len(text.splitlines()) == 1


def test_not_a_measurement_set(bench: Bench) -> None:
    folder = bench.folder / "holiday_pictures"
    folder.mkdir()
    (folder / "beach.jpg").write_text("")
    bench.refused(1, "is not a measurement set: it has no table.dat", vis=str(folder))
    bench.refused(1, "neither a measurement set nor UVFITS", vis="my.py")


def test_a_gain_table_is_no_measurement_set(bench: Bench) -> None:
    table = bench.folder / "gains.cal"
    shutil.copytree(bench.vis / "ANTENNA", table)
    bench.refused(1, "is not a measurement set but", vis=str(table))


def test_unknown_demonstration(bench: Bench) -> None:
    bench.refused(2, "there is no demonstration 'demo:3c237'.*did you mean demo:3c273",
                  vis="demo:3c237")  # fmt: skip


# -- data that cannot be calibrated -------------------------------------------------------------


def test_no_data_for_the_field(bench: Bench) -> None:
    says = "step startup failed: .*point.ms has no data for field = 'M87'.*its fields are 0 target"
    assert len(bench.refused(1, says, field="M87").splitlines()) == 1
    record = State(bench.workdir).get("startup")
    assert record is not None and record.result.status == "failed"


def test_no_data_for_the_spw(bench: Bench) -> None:
    bench.refused(1, "has no data for spw = '7'.*its spws 0 to 0", spw="7")


def test_all_flagged(bench: Bench) -> None:
    set_flag(bench.vis, np.ones_like)
    bench.refused(1, "step startup failed: all visibilities of point.ms are flagged: select ")


def test_zero_weights(bench: Bench) -> None:
    with open_table(bench.vis, write=True) as opened:
        opened.putcol("WEIGHT_SPECTRUM", np.zeros_like(opened.getcol("WEIGHT_SPECTRUM")))
    set_weight(bench.vis, np.zeros_like)
    bench.refused(1, "all weights of point.ms are zero.*initweights")


def test_nothing_but_nan(bench: Bench) -> None:
    set_data(bench.vis, lambda data: np.full_like(data, np.nan))
    said = "all visibilities of point.ms are flagged .*because they, or u, v and w, are NaN"
    bench.refused(1, said)


def test_some_nan_are_flagged_and_said(bench: Bench) -> None:
    def spoil(data: np.ndarray) -> np.ndarray:
        data[::10, 0, 0] = np.nan
        return data

    set_data(bench.vis, spoil)
    done = bench.run()
    assert done.returncode == 0, done.stderr
    record = State(bench.workdir).get("startup")
    assert record is not None
    assert "NaN" in record.result.reason or "finite" in record.result.reason
    assert 0 < record.result.metrics["flagged_fraction"] < 0.05


def test_one_antenna_or_baseline(bench: Bench) -> None:
    with open_table(bench.vis) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
    keep = (one == 0) & (two == 1)
    set_flag(bench.vis, lambda flag: np.broadcast_to(~keep[:, None, None], flag.shape).copy())
    bench.refused(1, "has one baseline with unflagged data .2 antennas of 7.*needs 3")


def test_autocorrelations_of_one_antenna(tmp_path: Path) -> None:
    vis = make_ms(tmp_path / "one.ms", antennas=1, autocorrelations=True)
    Bench(tmp_path, vis).refused(1, "step startup failed: .*one.ms has no data|one.ms has no rows")


# -- the disk -----------------------------------------------------------------------------------


def test_no_space_on_the_disk(bench: Bench) -> None:
    says = r"the working copy needs .* on the disk of .*, where .* are free: free some space"
    text = bench.refused(1, says, "--set", "startup.disk_factor=1e12")
    assert len(text.splitlines()) == 1
    assert not list((bench.workdir / "data").iterdir())


def test_work_directory_that_cannot_be_written(bench: Bench) -> None:
    (bench.folder / "file").write_text("")
    bench.refused(1, "the work directory .* cannot be written .*: choose another with --workdir",
                  workdir="file/work")  # fmt: skip
    bench.refused(1, "the work directory /proc/selfcal cannot be written", workdir="/proc/selfcal")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_work_directory(bench: Bench) -> None:
    bench.workdir.mkdir(mode=0o555)
    bench.refused(1, "cannot be written")


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may mount a small disk")
def test_a_disk_that_is_full_and_then_is_not(bench: Bench) -> None:
    """In a mount namespace of its own a tmpfs is full, with no byte left, and then larger."""
    (bench.folder / "work").mkdir()
    (bench.folder / "my.py").write_text(f"vis = {str(bench.vis)!r}\nsteps = ['startup']\n")
    run = f"{sys.executable} {ROOT / 'auto_selfcal.py'} my.py --workdir work >&2; echo $?"
    script = (
        "mount -t tmpfs -o size=64k tmpfs work && head -c 64k /dev/zero > work/filled 2> /dev/null;"
        f"{run}; mount -o remount,size=100m work; {run}"
    )
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script], cwd=bench.folder, capture_output=True, text=True,
        check=False, timeout=180, env={**os.environ, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no small disk can be made here: {done.stderr.splitlines()[0]}")
    assert done.stdout.split() == ["1", "0"], done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"^selfcal: .*work.* cannot be written", done.stderr, re.MULTILINE)


def test_second_run_in_the_same_work_directory(bench: Bench) -> None:
    with hold_workdir(bench.workdir):
        says = rf"is in use by process {os.getpid()} on .*: wait for it or choose another"
        assert len(bench.refused(1, says).splitlines()) == 1
    assert not (bench.workdir / "steps.csv").exists()


# -- config and command line --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"imagr": "tclean"}, r"unknown config key in my.py 'imagr' \(did you mean 'imager'\?\)"),
        ({"cell": "3 Jy"}, "cell = '3 Jy' is not an angle with its unit such as '0.06arcsec'"),
        ({"cell": 0.06}, "the unit is missing"),
        ({"imsize": "large"}, "imsize = 'large' is not a number of pixels or a pair or 'auto'"),
        ({"overrides": {"p1": {"solint": 30}}}, "p1.solint = 30 is not a time with its unit"),
        ({"overrides": {"p1": {"solnt": "30s"}}}, "'solnt' .did you mean 'solint'"),
        ({"steps": ["startup", "test_imge"]}, "unknown step 'test_imge' .did you mean 'test_im"),
        ({"steps": ["startup", "p0"]}, "step p0 needs test_image before it: reorder steps"),
        ({"steps": ["startup", "startup"]}, "steps names startup twice"),
        ({"template": "brigth"}, "unknown template 'brigth' .did you mean 'bright'"),
        ({"solver": "own"}, "solver = 'own' is not one of"),
        ({"vis": ""}, "vis is empty"),
    ],
)  # fmt: skip
def test_a_wrong_config_changes_nothing(bench: Bench, config: dict[str, Any], says: str) -> None:
    steps = {"steps": [*IMAGING, "test_image", "p1"], **config}
    text = bench.refused(2, says, **steps)
    assert len(text.splitlines()) == 1
    assert not (bench.workdir / "steps.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "p9"], "unknown step for --from 'p9'.*known: fov_image, startup"),
        (["--until", "fov_imge"], "did you mean 'fov_image'"),
        (["--only", "p1"], "unknown step for --only 'p1'"),
        (["--from", "fov_image", "--until", "startup"], "comes after"),
        (["--set", "p1"], "has no '='"),
        (["--set", "p1.solint=fast"], "p1.solint = 'fast' is not a time"),
        (["--set", "fov_image.robust=high"], "fov_image.robust = 'high' is not a number"),
    ],
)
def test_a_wrong_command_line(bench: Bench, arguments: list[str], says: str) -> None:
    bench.refused(2, says, *arguments, steps=IMAGING)
    assert not (bench.workdir / "steps.csv").exists()


def test_a_config_that_does_not_exist(bench: Bench) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "auto_selfcal.py"), "none.py"],
        cwd=bench.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("selfcal: config none.py does not exist: make one with")


# -- WSClean ------------------------------------------------------------------------------------

FAKES = {
    "dies": 'echo "gridding on 1 core"; kill -SEGV $$',
    "fails": 'echo "Error: could not allocate 3 TB"; exit 1',
    "hangs": "sleep 1000",
    "makes nothing": "exit 0",
}


def fake_wsclean(folder: Path, body: str, version: str = "3.1") -> Path:
    """Return a folder with a program called wsclean that says its version and then misbehaves."""
    folder.mkdir()
    program = folder / "wsclean"
    program.write_text(
        f'#!/bin/bash\nif [ "$1" = -version ]; then echo "WSClean version {version} (2022-04-08)";'
        f" exit 0; fi\n{body}\n"
    )
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("dies", "step fov_image failed: wsclean was killed by signal 11.*on 1 core.*see "),
        ("fails", "step fov_image failed: wsclean exited with code 1.*could not allocate 3 TB"),
        ("hangs", "step fov_image failed: wsclean hangs: no output and no CPU time for 5 s: see .*"
                  "tool_stall"),
        ("makes nothing", "step fov_image failed: WSClean made no .* image"),
    ],
)  # fmt: skip
def test_wsclean_that_misbehaves(bench: Bench, body: str, says: str) -> None:
    programs = fake_wsclean(bench.folder / "bin", FAKES[body])
    bench.refused(1, says, path=programs, steps=IMAGING, tool_stall="5s", imager="wsclean")
    startup = State(bench.workdir).get("startup")
    assert startup is not None and startup.result.status == "done"
    # the traceback is in the log, and once the tool works the run goes on where it stopped
    assert "Traceback" in (bench.workdir / "run.log").read_text()
    assert '"status": "failed"' in (bench.workdir / "summary.json").read_text()


def test_wsclean_that_is_too_old(bench: Bench) -> None:
    programs = fake_wsclean(bench.folder / "bin", "exit 0", version="2.10")
    says = "WSClean 2.10 is too old: install 3.0 or newer, or set imager to native"
    text = bench.refused(1, says, path=programs, steps=IMAGING, imager="wsclean")
    assert len(text.splitlines()) == 1


def test_after_a_failure_the_run_goes_on(bench: Bench, wsclean: Path) -> None:
    programs = fake_wsclean(bench.folder / "bin", FAKES["dies"])
    bench.refused(1, "killed by signal", path=programs, steps=IMAGING, imager="wsclean")
    done = bench.run(steps=IMAGING, imager="wsclean")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "startup            reused" in done.stdout
    assert State(bench.workdir).rows == 3


# -- before a run ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "code", "says"),
    [
        ({"vis": "/path/to/data.ms"}, 1, "/path/to/data.ms"),
        ({"field": "NOPE"}, 1, "no field NOPE.*its fields are 0 "),
        ({"spw": "77"}, 1, "no spectral window 77.*its windows are 0 to 0"),
        ({"spw": "0:400"}, 1, "channel 400"),
        ({"refant": ["ea99"]}, 2, "unknown antenna in refant 'ea99'"),
        ({"datacolumn": "corrected"}, 1, "no column CORRECTED_DATA"),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(
    bench: Bench, config: dict[str, Any], code: int, says: str
) -> None:
    bench.refused(code, says, "--dry-run", **config)
    assert not bench.workdir.exists()


def test_a_dry_run_tells_disk_and_time(bench: Bench) -> None:
    done = bench.run("--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"disk: \d\.\d\d GB must be free, and are", done.stdout)
    assert re.search(r"time: about \d+ s to \d+ s on one core", done.stdout)
    assert not bench.workdir.exists()


def test_a_wrong_refant_is_refused_by_the_first_step(bench: Bench) -> None:
    bench.refused(2, "step startup failed: unknown antenna in refant 'ea99'", refant=["ea99"])


def test_results_of_other_data_are_not_replaced(bench: Bench, tmp_path: Path) -> None:
    assert bench.run().returncode == 0
    (bench.workdir / "solutions.h5").write_text("worth keeping")
    other = shutil.copytree(bench.vis, tmp_path / "other.ms")
    for words in ((), ("--dry-run",), ("--list",)):
        bench.refused(2, "holds other results.*point.ms.*--restart", *words, vis=str(other))
    assert (bench.workdir / "solutions.h5").read_text() == "worth keeping"
    assert bench.run("--restart", vis=str(other)).returncode == 0
    assert bench.run(vis=str(other)).returncode == 0


def test_a_run_that_stops_early_is_not_over(bench: Bench) -> None:
    done = bench.run("--until", "startup", steps=["startup", "save_init_flags"])
    assert done.returncode == 0, done.stderr
    assert "did not help" not in done.stdout
    assert "not finished: save_init_flags are left to run" in done.stdout
    summary = json.loads((bench.workdir / "summary.json").read_text())
    assert summary["status"] == "incomplete"
    assert "The run has not finished" in (bench.workdir / "report.html").read_text()
