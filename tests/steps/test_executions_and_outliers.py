"""Executions that differ are aligned, and a bright source outside the image is peeled."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from auto_selfcal import main
from libs.core.errors import ConfigError
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import (
    Observation,
    Source,
    SpectralWindow,
    StationErrors,
    simulate,
)
from steps.applying import apply_to_original

csv.field_size_limit(sys.maxsize)
CELL_ARCSEC, BEAM_ARCSEC = 0.8, 3.5
ERRORS = StationErrors(phase_walk_deg=40.0, phase_walk_s=600.0, amp_offset=0.03)


def observation(noise_jy: float, later_s: float = 0.0) -> Observation:
    """VLA-C with 12 antennas, 5 GHz, two windows."""
    return Observation(
        load_configuration("vla.c").thinned(12), (123.4, 32.5), 5.0844e9 + later_s, 12.0, 120.0,
        (SpectralWindow(4.9e9, 128e6, 8), SpectralWindow(5.1e9, 128e6, 8)), scans=3, gap_s=1800.0,
        noise_jy=noise_jy,
    )  # fmt: skip


def data(ms: Path, column: str = "DATA") -> NDArray[np.complex64]:
    with open_table(ms) as opened:
        return np.asarray(opened.getcol(column))


def copy_of(workdir: Path, name: str) -> Path:
    (found,) = [path for path in (workdir / "data").glob(f"{name}*.ms") if path.is_dir()]
    return found


def run(folder: Path, vis: Sequence[Path], steps: Sequence[str], **settings: Any) -> Path:
    path = folder / "run.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "vis": [str(ms) for ms in vis], "workdir": str(folder / "work"), "imsize": 128,
                "cell": f"{CELL_ARCSEC}arcsec", "steps": list(steps), "quiet": True, **settings,
            }
        )
    )  # fmt: skip
    assert main([str(path)]) == 0
    return folder / "work"


def record(workdir: Path, step: str) -> dict[str, Any]:
    with (workdir / "steps.csv").open(newline="") as stream:
        (row,) = [row for row in csv.DictReader(stream) if row["step"] == step][-1:]
    return {**row, "metrics": json.loads(row["metrics"])}


# -- align -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An execution, another that is moved and too bright, and the other as it should be."""
    folder = tmp_path_factory.mktemp("executions")
    sky = (Source(0.3), Source(0.1, 15.0, -9.0))
    moved = tuple(
        dataclasses.replace(
            s, flux_jy=1.1 * s.flux_jy, l_arcsec=s.l_arcsec + 0.24 * BEAM_ARCSEC,
            m_arcsec=s.m_arcsec - 0.18 * BEAM_ARCSEC,
        )
        for s in sky
    )  # fmt: skip
    one, two, true = (folder / f"{name}.ms" for name in ("one", "two", "true"))
    simulate(one, observation(0.05), sky, seed=3, perfect=False)
    simulate(two, observation(0.05, 9000.0), moved, seed=4, perfect=False)
    simulate(true, observation(0.05, 9000.0), sky, seed=4, perfect=False)
    return one, two, true


STEPS = ("startup", "save_init_flags", "align", "test_image")


def test_executions_that_differ_are_brought_together(
    executions: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, two, true = executions
    work = run(tmp_path, (one, two), STEPS)
    (offset,) = record(work, "align")["metrics"]["offsets"]
    assert offset["moved"] and offset["scaled"]
    assert offset["east_arcsec"] == pytest.approx(0.24 * BEAM_ARCSEC, abs=0.03)
    assert offset["north_arcsec"] == pytest.approx(-0.18 * BEAM_ARCSEC, abs=0.03)
    assert offset["flux_ratio"] == pytest.approx(1.1, rel=0.02)
    # noise of one seed: what is left of the difference is what the offset left, scaled noise apart
    left = data(copy_of(work, "two")) - data(true)
    assert np.abs(left.mean()) < 0.003
    before = data(two) - data(true)
    assert np.std(left) < 0.5 * np.std(before)
    with pytest.raises(ConfigError, match="position and fluxes of another"):
        list(apply_to_original(*_finished(work), None))


def _finished(work: Path) -> tuple[Path]:
    """Give a run of a few steps the summary and the tables that applying asks for."""
    path = work / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "tables": ["tables/any.gcal"]}))
    return (work,)


def test_executions_that_agree_stay_as_they_are(
    executions: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, _, true = executions
    work = run(tmp_path, (one, true), STEPS)
    (offset,) = record(work, "align")["metrics"]["offsets"]
    assert not offset["moved"] and not offset["scaled"]
    np.testing.assert_array_equal(data(copy_of(work, "true")), data(true))


# -- peel ------------------------------------------------------------------------------------------

PEEL = ("startup", "save_init_flags", "peel")
SMALL = {"peel": {"max_pixels": 512, "cycles": 2, "passes": 2, "source_imsize": 64}}


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """50 mJy alone, and the same data with 5 Jy beside it that has gains of its own."""
    folder = tmp_path_factory.mktemp("beside")
    alone, bright = folder / "alone.ms", folder / "bright.ms"
    both = folder / "both.ms"
    for path in (alone, both):
        simulate(path, observation(0.02), [Source(0.05)], ERRORS, seed=5, perfect=False)
    simulate(
        bright, observation(0.0), [Source(5.0, 160.0, 120.0)], ERRORS, seed=1005, perfect=False
    )
    with open_table(both, write=True) as opened:
        opened.putcol("DATA", opened.getcol("DATA") + data(bright))
    return alone, both


def test_a_bright_source_is_subtracted_with_its_own_gains(
    beside: tuple[Path, Path], tmp_path: Path
) -> None:
    alone, both = beside
    work = run(tmp_path, (both,), PEEL, overrides=SMALL)
    (source,) = record(work, "peel")["metrics"]["peeled"]
    assert source["gains"] == "own"
    assert source["flux_jy"] == pytest.approx(5.0, rel=0.02)
    # degrees of freedom of the gains take up noise as well: 0.02 Jy x sqrt(2 / 11)
    left = data(copy_of(work, "both")) - data(alone)
    assert np.sqrt(np.mean(np.abs(left) ** 2)) < 0.01
    np.testing.assert_array_equal(data(copy_of(work, "both"), "DATA_BEFORE_PEEL"), data(both))


def test_nothing_is_done_where_there_is_no_bright_source(
    beside: tuple[Path, Path], tmp_path: Path
) -> None:
    alone, _ = beside
    work = run(tmp_path, (alone,), PEEL, overrides=SMALL)
    assert record(work, "peel")["status"] == "skipped"
    np.testing.assert_array_equal(data(copy_of(work, "alone")), data(alone))


def test_a_direction_that_is_none_is_told(
    beside: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, _ = beside
    path = tmp_path / "run.yaml"  # nothing has run when it is told
    path.write_text(
        yaml.safe_dump(
            {"vis": [str(alone)], "workdir": str(tmp_path / "work"), "imsize": 128,
             "cell": "0.8arcsec", "steps": list(PEEL), "peel": ["somewhere"]}
        )
    )  # fmt: skip
    assert main([str(path)]) == 2
    assert "is no direction" in capsys.readouterr().err
