"""AOFlagger on data with known interference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from libs.core.errors import ConfigError
from libs.flagging import aoflagger
from libs.ms.tables import open_table
from libs.simulation.array_configurations import load_configuration
from libs.simulation.observation import Observation, Source, SpectralWindow, simulate


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    observation = Observation(
        load_configuration("vla.d").thinned(5), (123.4, 32.5), 5.0844e9, 2.0, 240.0,
        (SpectralWindow(1.4e9, 64e6, 64),), noise_jy=0.1,
    )  # fmt: skip
    simulate(tmp_path / "one.ms", observation, [Source(1.0)], seed=2, perfect=False)
    return tmp_path / "one.ms"


def interfere(ms: Path) -> NDArray[np.bool_]:
    """Add a strong carrier in two channels for the second half; return where, (row, chan)."""
    with open_table(ms, write=True) as opened:
        data = opened.getcol("DATA")
        time = opened.getcol("TIME")
        where = np.zeros(data.shape[:2], bool)
        where[time > np.median(time), 20:22] = True
        data[where] += 30.0
        opened.putcol("DATA", data)
    return where


@pytest.mark.tools
def test_interference_is_flagged_and_little_else(ms: Path, tmp_path: Path) -> None:
    if aoflagger.program() is None:
        pytest.skip("aoflagger is not installed")
    where = interfere(ms)
    done = aoflagger.run_aoflagger(ms, version="before", log=tmp_path / "log", stall_s=60.0)
    with open_table(ms) as opened:
        flag = opened.getcol("FLAG").any(axis=2)
    assert done.applied and done.reason.startswith("AOFlagger flagged")
    assert flag[where].mean() > 0.95
    assert flag[~where].mean() < 0.05
    again = aoflagger.run_aoflagger(ms, version="before", log=tmp_path / "log", stall_s=60.0)
    assert again.new_fraction == pytest.approx(done.new_fraction), "from the same flags"


@pytest.mark.tools
def test_too_many_flags_are_undone(ms: Path, tmp_path: Path) -> None:
    if aoflagger.program() is None:
        pytest.skip("aoflagger is not installed")
    interfere(ms)
    done = aoflagger.run_aoflagger(
        ms, version="before", max_new_fraction=1e-4, log=tmp_path / "log", stall_s=60.0
    )
    with open_table(ms) as opened:
        assert not opened.getcol("FLAG").any()
    assert not done.applied and "undone" in done.reason


def test_its_absence_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="flagger = aoflagger, and it is not installed"):
        aoflagger.check_installed("flagger = aoflagger")
