"""A target too faint for its own data takes the solutions of a neighbour, and noise does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from steps.targets.neighbours import Attempt, judge_attempt
from steps.targets.plan import Target, TargetPart
from steps.targets.run import TargetTask
from tests.conftest import ROOT
from tests.two_targets import FieldMade, make_fields_ms

TASK = TargetTask(
    Target("faint@bright", "faint", "C", (TargetPart("a.ms", (1,), ""),)),
    "/tmp/none",
    {},
    (),
    "/",
    0,
    1.0,
)
ATTEMPT = Attempt(0, TASK, "bright", 0.5)


def result(peak: float, rms: float, **more: Any) -> dict[str, Any]:
    image = {"peak_jy_beam": peak, "rms_jy_beam": rms, "snr": peak / rms}
    return {"label": "faint", "status": "unchanged", "notes": [], "initial": image,
            "final": image, **more}  # fmt: skip


def test_a_decisive_rise_is_taken_and_named() -> None:
    found = judge_attempt(ATTEMPT, result(4e-4, 1e-4), result(2e-3, 1.2e-4, label="faint@bright"))
    assert found["status"] == "improved" and found["neighbour"] == "bright"
    assert found["label"] == "faint" and found["workdir"] == "targets/faint@bright"
    assert found["initial"]["peak_jy_beam"] == 4e-4 and found["final"]["peak_jy_beam"] == 2e-3
    assert found["notes"][-1].endswith("(+10.2 sigma): taken")


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (result(8e-4, 1e-4), "(+2.8 sigma): not taken"),
        (result(3e-3, 1e-3), "not taken"),  # a higher peak in more noise
        ({"status": "failed", "reason": "no data"}, "could not be tried: no data"),
    ],
)
def test_less_is_not_taken(second: dict[str, Any], says: str) -> None:
    first = result(4e-4, 1e-4)
    found = judge_attempt(ATTEMPT, first, second)
    assert {**found, "notes": []} == first
    assert says in found["notes"][-1]


@given(seed=st.integers(0, 10_000))
def test_noise_is_never_taken(seed: int) -> None:
    """The highest of 128 x 128 pixels of noise, before and after."""
    rng = np.random.default_rng(seed)
    one, two = (result(float(rng.normal(size=16384).max()), 1.0) for _ in range(2))
    assert judge_attempt(ATTEMPT, one, two)["status"] == "unchanged"


FIELDS = (
    FieldMade("bright", (188.0, 2.0), 1.0, (0,)),
    FieldMade("faint", (188.3, 2.2), 0.0012, (0,)),
    FieldMade("empty", (187.8, 2.1), 0.0, (0,)),
)
CONFIG = {
    "vis": "data.ms", "workdir": "work", "targets": "all", "imsize": 128, "cell": "0.05arcsec",
    "plots": False,
    "steps": ["startup", "save_init_flags", "test_image", "closure_stats", "initial_model", "p0"],
    # of which the faint target's solutions fall short
    "overrides": {"p0": {"minsnr": 20}},
}  # fmt: skip


def command(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, ROOT / "auto_selfcal.py", "many.yaml"], cwd=folder, check=False,
        capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((folder / "work/summary.json").read_text())["targets"])


@pytest.mark.tools
def test_a_faint_target_beside_a_bright_one(tmp_path: Path) -> None:
    make_fields_ms(tmp_path / "data.ms", FIELDS, phase_deg=80.0, alike=True)
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(CONFIG))
    found = command(tmp_path)
    faint, empty = found["faint"], found["empty"]
    assert found["bright"]["status"] == faint["status"] == "improved"
    assert faint["neighbour"] == "bright"
    assert faint["final"]["peak_jy_beam"] == pytest.approx(0.0012, rel=0.3)
    assert faint["initial"]["peak_jy_beam"] < 0.5 * faint["final"]["peak_jy_beam"]
    assert (tmp_path / "work" / faint["workdir"] / "solutions.h5").exists()
    assert empty["status"] == "unchanged" and "not taken" in empty["notes"][-1]
    assert "taken" in (tmp_path / "work/report.html").read_text()
    steps = tmp_path / "work" / faint["workdir"] / "steps.csv"
    before = steps.read_text()
    again = command(tmp_path)
    for entry in (*found.values(), *again.values()):
        entry.pop("seconds_total")
    assert again == found
    assert steps.read_text() == before, "the second run is reused"
