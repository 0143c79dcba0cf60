"""What a page says first: target, telescope, beam and noise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from reports.identity import identity_section
from reports.records import Run, read_run
from tests.reports.fake_run import make_run

KNOWN = {"telescope": "VLA", "band": "X", "field": "3C273", "spws": 2, "channels": 64,
         "frequency_hz": 8.4e9, "antennas": 27, "longest_baseline_m": 36400.0}  # fmt: skip


def run_with(workdir: Path, thermal_jy_beam: float, reached_jy_beam: float) -> Run:
    """A run of which the last accepted image has some noise."""
    run = read_run(make_run(workdir))
    own = {"rms_jy_beam": reached_jy_beam, "thermal_rms_jy_beam": thermal_jy_beam}
    rows = [
        replace(row, metrics={**row.metrics, **(KNOWN if row.step == "startup" else own)})
        for row in run.steps
    ]
    return replace(run, steps=tuple(rows))


@pytest.mark.parametrize(
    ("thermal", "natural", "said"),
    [
        (2e-5, 1e-5, "20.0 µJy/beam with the weights of the image; the noise reached is"
         " 1.50 times that; 10.0 µJy/beam with natural weights<"),
        (2e-5, math.nan, "20.0 µJy/beam with the weights of the image; the noise reached"
         " is 1.50 times that<"),
        (math.nan, 1e-5, "10.0 µJy/beam with natural weights; the noise reached is"
         " 3.00 times that<"),
    ],
)  # fmt: skip
def test_the_noise_reached_is_told_beside_the_thermal_one(
    tmp_path: Path, thermal: float, natural: float, said: str
) -> None:
    page = str(identity_section(run_with(tmp_path / "run", thermal, 3e-5), natural))
    assert said in page


def test_without_a_thermal_noise_nothing_is_said_of_it(tmp_path: Path) -> None:
    page = str(identity_section(run_with(tmp_path / "run", math.nan, 3e-5)))
    assert "30.0 µJy/beam" in page
    assert "thermal" not in page
