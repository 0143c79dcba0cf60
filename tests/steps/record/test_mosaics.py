"""Tables of a mosaic's pointings, of two factors or one, go where they belong by all ways."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError
from libs.gains.caltable_writer import write_caltable
from libs.gains.gain_solutions import GainSolutions
from libs.inputs.working_copy import make_working_copy, resolve_inputs
from libs.ms.pointings import common_pointings, number_pointings
from libs.ms.tables import open_table
from selfcal.state import State
from selfcal.step import StepResult, TableRef
from steps.applying import apply_to_original
from steps.facts import as_metrics
from steps.record.build import write_run_record
from steps.record.bundling import bundle_run
from steps.record.restore import HowToApply, apply_record, restore
from tests.conftest import ROOT
from tests.permuted_ms import permuted
from tests.pipeline_case import (
    FIELDS,
    FIRST,
    SECOND,
    WINDOWS,
    GainErrors,
    PipelineCase,
    make_pipeline_case,
)
from tests.steps.record.finished_run import (
    SECONDS,
    SOLVED,
    STATISTICS,
    gains_of_copy,
    startup_facts_of,
)
from tests.steps.record.test_restore import assert_same, columns
from tests.test_bundle_run import SITE

PLAIN = HowToApply()
NAME = "L1551 map"
EARLIER = 2
"""Pointing that kept the state of an earlier round."""


@dataclass(frozen=True)
class Made:
    """A finished run of a mosaic in one execution or two."""

    case: PipelineCase
    workdir: Path


def make_run(folder: Path, executions: int, *, earlier: bool = True) -> Made:
    """A run of three pointings whose last round gave two of them phases of two factors.

    The third kept what the round before had found: one phase for each antenna and window; or,
    without ``earlier``, it has no solutions.
    """
    both = (FIRST, replace(SECOND, field_order=(2, 0, 3, 1), window_order=(-1, 0, 1)))[:executions]
    case = make_pipeline_case(
        folder / "made", both, fields=(FIELDS[0], *FIELDS[3:6]), windows=WINDOWS[:2],
        antennas=5, scan_s=36.0, noise_jy=0.005, perfect=True, errors=GainErrors(40.0, 60.0),
    )  # fmt: skip
    workdir = folder / "work"
    for name in ("data", "tables", "images/test_image"):
        (workdir / name).mkdir(parents=True)
    selections, copies, refs, solved = [], [], [], {}
    for source, order in zip(resolve_inputs(list(map(str, case.vis))), case.fields_of, strict=True):
        field = ",".join(str(i) for i, place in enumerate(order) if place)
        copy = make_working_copy(
            source, workdir / "data" / f"{source.name}.ms", field=field, one_target=False,
            session=CasaSession(workdir),
        )  # fmt: skip
        windows = ",".join(map(str, copy.windows))
        selections.append({"vis": str(source.path), "field": field, "spw": "", "windows": windows})
        copies.append(copy.ms)
    places = common_pointings(copies)
    for ms, gains in zip(copies, case.gains, strict=True):
        number_pointings(ms, places)
        own = gains_of_copy(gains, ms, (4,), 0.0)
        names = {"p1": own, "p0": _first_only(own)}
        for name, solutions in names.items():
            write_caltable(workdir / "tables" / f"{name}.{ms.stem}.gcal", solutions, ms)
        solved[ms.name] = {"solution": "constants+phase"}
        pointings = {"p1": (0, 1)} | ({"p0": (EARLIER,)} if earlier else {})
        refs += [
            TableRef(ms.name, f"tables/{name}.{ms.stem}.gcal", (), "linear", name, fields)
            for name, fields in pointings.items()
        ]
    _record(workdir, case, copies, places, selections, refs, solved)
    return Made(case, workdir)


def _first_only(gains: GainSolutions) -> GainSolutions:
    """The gains of the first interval, at all times: not what is wrong with the data."""
    held = np.broadcast_to(gains.gain[:1], gains.gain.shape)
    return replace(gains, gain=np.array(held))


def _record(
    workdir: Path,
    case: PipelineCase,
    copies: list[Path],
    places: list[tuple[str, tuple[float, float]]],
    selections: list[dict[str, str]],
    refs: list[TableRef],
    solved: Mapping[str, Any],
) -> None:
    """Write what the engine would have recorded of the steps."""
    image = workdir / "images/test_image/test_image-image.fits"
    image.write_bytes(b"an image")
    pointings = tuple(
        {"name": name, "ra_deg": np.degrees(ra), "dec_deg": np.degrees(dec)}
        for name, (ra, dec) in places
    )
    facts = replace(startup_facts_of(copies, NAME, "DATA"), pointings=pointings)
    state = State(workdir)
    startup = as_metrics(facts) | {"selections": selections}
    state.append("startup", "f0", StepResult(metrics=startup), SECONDS, {})
    judged = {"judged": "test_image", "judged_with": {}, "cell_arcsec": 0.05, "imsize": [128, 128]}
    state.append("test_image", "f1", StepResult(
        products={"image": str(image.relative_to(workdir))}, metrics=STATISTICS | judged
    ), SECONDS, {})  # fmt: skip
    for number, name in enumerate(("p0", "p1")):
        metrics = SOLVED | STATISTICS | {"snr": 30.0, "judged": name, "judged_with": {}}
        if name == "p1":
            metrics |= {"solve_options": solved, "solint_s": 12.0}
        tables = tuple(ref for ref in refs if name == "p1" or ref.round == "p0")
        state.append(name, f"f{number + 2}", StepResult("done", tables=tables, metrics=metrics),
                     SECONDS, {})  # fmt: skip
    values = {"vis": [str(ms) for ms in case.vis], "steps": ["startup", "test_image", "p0", "p1"],
              "oussid": "", "stage": "1", "field": "", "spw": ""}  # fmt: skip
    resolved = {key: {"value": value} for key, value in values.items()}
    (workdir / "resolved.yaml").write_text(yaml.safe_dump(resolved))
    summary = {"status": "improved", "tables": [ref.path for ref in refs]}
    (workdir / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make_run(tmp_path_factory.mktemp("mosaic"), 2)
    write_run_record(made.workdir, {"selfcal": "0"})
    return made


def error_by_pointing(ms: Path, perfect: Path) -> dict[int, tuple[float, int]]:
    """Largest error of unflagged data against the truth, and their number, by FIELD_ID."""
    found = {}
    with open_table(ms) as opened, open_table(perfect) as truth:
        for field in np.unique(opened.getcol("FIELD_ID")):
            rows = np.flatnonzero(opened.getcol("FIELD_ID") == field)
            errors = [
                np.abs(opened.getcell("CORRECTED_DATA", int(row))
                       - truth.getcell("DATA", int(row)))[~opened.getcell("FLAG", int(row))]
                for row in rows
            ]  # fmt: skip
            every = np.concatenate(errors)
            found[int(field)] = float(every.max(initial=0.0)), every.size
    return found


def assert_right_pointings(ms: Path, perfect: Path, order: tuple[int, ...]) -> None:
    """Two pointings are true, the third is not, and the calibrator is as it was."""
    errors = error_by_pointing(ms, perfect)
    for field, place in enumerate(order):
        worst, count = errors[field]
        assert count, "not all is flagged"
        if place in (1, 2):
            assert worst < 1e-5, f"pointing {place}"
        else:
            assert worst > 1e-2, f"field {place} does not get the solutions of others"


def test_apply_gives_each_pointing_its_tables(two: Made, tmp_path: Path) -> None:
    fresh = [Path(shutil.copytree(ms, tmp_path / ms.name)) for ms in two.case.vis]
    list(apply_record(two.workdir, fresh, PLAIN))
    for ms, perfect, order in zip(fresh, two.case.perfect, two.case.fields_of, strict=True):
        assert_right_pointings(ms, perfect, order)


def test_a_restore_on_permuted_ids_equals_apply(two: Made, tmp_path: Path) -> None:
    bundle_run(two.workdir, tmp_path / "x.tgz")
    fresh = [Path(shutil.copytree(ms, tmp_path / ms.name)) for ms in two.case.vis]
    list(apply_record(two.workdir, fresh, PLAIN))
    imports = [tmp_path / f"import{number}.ms" for number in range(2)]
    for number, ms in enumerate(imports):
        permuted(two.case.vis[number], ms, seed=number + 3)
    lines = list(restore(tmp_path / "x.tgz", imports[::-1], PLAIN))
    assert len(lines) == 4, "two executions, and in each the pointings by their tables"
    for one, other in zip(fresh, imports, strict=True):
        assert_same(one, other)
        (corrected, data) = columns(other, "CORRECTED_DATA", "DATA")
        changed = {key[4] for key in data if np.abs(corrected[key] - data[key]).max() > 0.01}
        assert changed == {NAME}


def test_the_runs_own_tables_give_the_same_without_its_record(tmp_path: Path) -> None:
    """What `apply` does before a record is there, by tables whose factors are not divided."""
    made = make_run(tmp_path, 1)
    (ms,) = made.case.vis
    other = Path(shutil.copytree(ms, tmp_path / "other.ms"))
    lines = list(apply_to_original(made.workdir, None))
    assert len(lines) == 2
    assert_right_pointings(ms, made.case.perfect[0], made.case.fields_of[0])
    write_run_record(made.workdir, {"selfcal": "0"})
    list(apply_record(made.workdir, [other], PLAIN))
    assert_same(ms, other)
    with pytest.raises(ConfigError, match="pointings of the run's mosaic have tables of their own"):
        list(apply_to_original(made.workdir, None, "J0440+1437"))


def test_a_pointing_without_solutions_loses_those_of_an_earlier_run(
    two: Made, tmp_path: Path
) -> None:
    """By the record and without one CORRECTED_DATA and FLAG are as in the input."""
    made = make_run(tmp_path, 1, earlier=False)
    (ms,) = made.case.vis
    (order,) = made.case.fields_of
    bare = order.index(1 + EARLIER)
    by_record = Path(shutil.copytree(ms, tmp_path / "record.ms"))
    for path in (ms, by_record):
        list(apply_record(two.workdir, [path], PLAIN))
        assert _changed(path, bare), "the earlier run calibrated it"
    list(apply_to_original(made.workdir, None))
    write_run_record(made.workdir, {"selfcal": "0"})
    said = list(apply_record(made.workdir, [by_record], HowToApply(overwrite=True)))
    assert any("no solutions of " in line and "DATA taken as they are" in line for line in said)
    for path in (ms, by_record):
        assert not _changed(path, bare)
        assert all(_changed(path, order.index(place)) for place in (1, 2))


def _changed(ms: Path, field: int) -> bool:
    """Whether a field has other data or flags in CORRECTED_DATA than the input had."""
    with open_table(ms) as opened:
        rows = np.flatnonzero(opened.getcol("FIELD_ID") == field)
        return any(
            opened.getcell("FLAG", int(row)).any()
            or np.any(
                opened.getcell("CORRECTED_DATA", int(row)) != opened.getcell("DATA", int(row))
            )
            for row in rows
        )


@pytest.mark.tools
def test_the_script_of_applycal_calls_does_the_same(two: Made, tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text(SITE)
    fresh = [Path(shutil.copytree(ms, tmp_path / ms.name)) for ms in two.case.vis]
    scripted = [Path(shutil.copytree(ms, tmp_path / f"script_{ms.name}")) for ms in fresh]
    list(apply_record(two.workdir, fresh, PLAIN))
    list(apply_record(two.workdir, scripted, HowToApply(script=tmp_path / "s.py")))
    assert (tmp_path / "s.py").read_text().count("applycal(\n") == 4
    done = subprocess.run(
        [sys.executable, "s.py"], cwd=tmp_path, check=False, capture_output=True, text=True,
        env={**os.environ, "CASASITECONFIG": str(tmp_path / "site.py"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for one, other in zip(fresh, scripted, strict=True):
        ours, theirs = (columns(ms, "CORRECTED_DATA", "FLAG") for ms in (one, other))
        for key, flag in ours[1].items():
            np.testing.assert_array_equal(theirs[1][key], flag)
            np.testing.assert_allclose(theirs[0][key][~flag], ours[0][key][~flag], atol=1e-6)
