"""What tests of several folders share: data, a CASA session, small measurement sets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from libs.casa.session import CasaSession
from libs.core.process import which

# how long an example takes says nothing on a machine that others use too
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent

# those that take longest, by CPU time: one of them alone at the end would keep a core idle
LONG_FILES = (
    "test_tutorials.py", "test_demo_run.py", "steps/calibrate/test_session.py",
    "test_pipeline_run.py", "steps/vlass/test_vlass_run.py", "test_window_phases.py",
    "libs/imaging/native/test_pointings.py", "test_targets_run.py",
    "test_odd_runs.py", "test_sparse_vlbi.py", "test_bundle_run.py", "test_mosaic_run.py",
    "steps/field/test_real_runs.py", "test_demo_tclean.py", "test_slurm_targets.py",
    "test_real_data.py", "steps/targets/test_neighbours.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; within a file the order stays."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def tree_hash(folder: Path) -> str:
    """Return a digest of names and contents of every file in a folder.

    Lock files are left out: casacore touches them when a table is only read.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "table.lock":
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real observations, where there is one."""
    folder = Path(os.environ.get("SELFCAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data are not at {folder} (set SELFCAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CasaSession]:
    """One CASA process for all tests of a worker."""
    with CasaSession(tmp_path_factory.mktemp("casa")) as casa:
        yield casa


@pytest.fixture(scope="session")
def wsclean() -> Path:
    """The WSClean program, where it is installed."""
    found = which("wsclean")
    if found is None:
        pytest.skip("wsclean is not installed")
    return found


@pytest.fixture(scope="session")
def demo_ms(tmp_path_factory: pytest.TempPathFactory, session: CasaSession) -> Path:
    """Working copy of the demonstration: 3C 273 with known gain errors. Read only."""
    from libs.inputs.working_copy import make_working_copy, resolve_inputs

    (source,) = resolve_inputs("demo:3c273")
    target = tmp_path_factory.mktemp("demo") / "3c273.ms"
    return make_working_copy(source, target, session=session).ms


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded random numbers."""
    return np.random.default_rng(20240229)
