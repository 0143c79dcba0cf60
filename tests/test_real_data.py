"""Real data sets from first image to the first accepted round."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.archives import unpacked
from tests.conftest import ROOT, tree_hash
from tests.demo import environment

pytestmark = pytest.mark.tools

STEPS = ["startup", "save_init_flags", "test_image", "select_refant", "initial_model", "p0"]


def selfcal(tmp_path: Path, vis: str, **settings: object) -> dict[str, object]:
    """Run the command until p0 and return its summary."""
    config = tmp_path / "config.yaml"
    content = {
        "vis": vis,
        "workdir": str(tmp_path / "run"),
        "steps": STEPS,
        "imsize": 256,
        "plots": False,
    }
    config.write_text(json.dumps({**content, **settings}))
    finished = subprocess.run(
        [sys.executable, str(ROOT / "auto_selfcal.py"), str(config)],
        env=environment(), capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return dict(json.loads((tmp_path / "run" / "summary.json").read_text()))


def snr_gain(summary: dict[str, object]) -> float:
    """Final over initial SNR."""
    return summary["final"]["snr"] / summary["initial"]["snr"]  # type: ignore[index]


def test_a_raw_calibrator_is_recovered(tmp_path: Path) -> None:
    summary = selfcal(tmp_path, "demo:ngc5921")
    assert summary["status"] == "improved"
    assert snr_gain(summary) > 50


def test_an_uncalibrated_point_source_at_36_ghz_improves(tmp_path: Path, shared_data: Path) -> None:
    (archive,) = (shared_data / "vla").glob("day2*.tar.gz")
    ms = unpacked(archive, tmp_path)
    before = tree_hash(ms)
    summary = selfcal(tmp_path, str(ms))
    assert summary["status"] == "improved"
    assert snr_gain(summary) > 3
    assert tree_hash(ms) == before
