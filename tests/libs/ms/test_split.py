"""Splitting: the column asked for, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError, InputError, ToolError
from libs.ms import split
from libs.ms.sanitise import add_scratch_columns
from libs.ms.split import SplitOptions, averaging, split_calibrated
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms, tree_hash


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    made = make_ms(tmp_path / "a.ms", channels=8, times=6, noise_jy=0.1)
    add_scratch_columns(made)
    with open_table(made, write=True) as opened:
        opened.putcol("CORRECTED_DATA", 2 * opened.getcol("DATA"))
        flag = opened.getcol("FLAG")
        flag[:10] = True
        opened.putcol("FLAG", flag)
    return made


def read(ms: Path, name: str) -> np.ndarray:
    with open_table(ms) as opened:
        return opened.getcol(name)


class FakeSession:
    """Stands in for CASA: makes nothing, a wrong data set, or dies."""

    def __init__(self, how: str) -> None:
        self.how = how

    def run(self, task: str, *, log: Path | None = None, **kwargs: object) -> None:
        if self.how == "nothing":
            return
        made = make_ms(Path(str(kwargs["outputvis"])), channels=8, times=6)
        if self.how == "dies":
            raise ToolError("the CASA process died in split", "see its log")
        with open_table(made, write=True) as opened:
            if self.how == "flagged":
                opened.putcol("FLAG", np.ones_like(opened.getcol("FLAG")))
            if self.how == "zero":
                flag = opened.getcol("FLAG")
                flag[:10] = True
                opened.putcol("FLAG", flag)
                opened.putcol("DATA", 0 * opened.getcol("DATA"))


def test_command_line() -> None:
    options = SplitOptions(keepflags=False, timebin_s=30, width=4)
    assert split.split_kwargs("a.ms", "b.ms", options) == {
        "vis": "a.ms", "outputvis": "b.ms", "datacolumn": "corrected", "keepflags": False,
        "timebin": "30s", "width": 4,
    }  # fmt: skip
    assert options.averages and not SplitOptions().averages


@pytest.mark.parametrize("wrong", [{"datacolumn": "residual"}, {"timebin_s": -1}, {"width": 0}])
def test_wrong_options_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        SplitOptions(**wrong)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nothing", "wrote no output"),
        ("dies", "died in split"),
        ("flagged", "left no unflagged data"),
        ("more", "kept 960 unflagged visibilities of 800"),
        ("zero", "mean amplitude of 0, CORRECTED_DATA of 2"),
    ],
)
def test_a_bad_output_is_an_error_and_the_old_one_stays(
    ms: Path, tmp_path: Path, how: str, message: str
) -> None:
    old = make_ms(tmp_path / "out.ms", times=1)
    tree = tree_hash(old)
    options = SplitOptions(keepflags=False)  # what CASA is asked for
    with pytest.raises(ToolError, match=message):
        split_calibrated(ms, tmp_path / "out.ms", FakeSession(how), options=options)
    assert tree_hash(old) == tree
    assert not (tmp_path / "out.ms.part").exists()


def test_what_cannot_be_split_is_told(ms: Path, tmp_path: Path) -> None:
    bare = make_ms(tmp_path / "bare.ms")
    with pytest.raises(InputError, match="no column CORRECTED_DATA"):
        split_calibrated(bare, tmp_path / "out.ms", FakeSession("nothing"))
    with open_table(ms, write=True) as opened:
        opened.putcol("FLAG", np.ones_like(opened.getcol("FLAG")))
    with pytest.raises(InputError, match="are flagged"):
        split_calibrated(ms, tmp_path / "out.ms", FakeSession("nothing"))


@pytest.mark.tools
def test_corrected_becomes_data(ms: Path, tmp_path: Path, session: CasaSession) -> None:
    tree = tree_hash(ms)
    target = tmp_path / "s" / "out.ms"
    result = split_calibrated(ms, target, session)
    assert (result.rows, result.unflagged, result.ms) == (60, 800, target)
    assert np.allclose(read(target, "DATA"), read(ms, "CORRECTED_DATA"), rtol=1e-6)
    assert np.array_equal(read(target, "FLAG"), read(ms, "FLAG"))
    assert [path.name for path in target.parent.iterdir()] == ["out.ms"]
    result = split_calibrated(ms, target, session, options=SplitOptions(keepflags=False))
    assert (result.rows, result.flagged_fraction) == (50, 0)
    changed = {name for name, value in tree_hash(ms).items() if tree.get(name) != value}
    assert all(name.endswith("table.lock") for name in changed)


@pytest.mark.tools
def test_averaging(ms: Path, tmp_path: Path, session: CasaSession) -> None:
    options = SplitOptions(datacolumn="data", keepflags=False, timebin_s=50, width=4)
    result = split_calibrated(ms, tmp_path / "out.ms", session, options=options)
    assert result.rows == 10 and result.unflagged == 10 * 2 * 2
    assert np.abs(read(tmp_path / "out.ms", "DATA") - 1).max() < 0.15  # 0.1 / sqrt(20), 5 sigma


def test_averaging_in_whole_integrations_and_channels_that_fit(ms: Path) -> None:
    summary = summarise(ms)  # 10 s, 8 channels
    assert averaging(summary, 0.0, 1, 0.0) == (0.0, 1)
    assert averaging(summary, 25.0, 4, 0.0) == (20.0, 4)
    assert averaging(summary, 12.0, 3, 0.0) == (0.0, 3)
    assert averaging(summary, "auto", "auto", 0.0) == (60.0, 8), "all of it in the very middle"
    with pytest.raises(ConfigError, match="a spectral window has 8"):
        averaging(summary, 0.0, 9, 0.0)


def test_auto_averaging_costs_no_more_than_allowed(ms: Path) -> None:
    summary = summarise(ms)
    step_hz = float(np.diff(summary.frequency_hz[0])[0])
    radius_rad, loss = 0.02, 0.05
    time_s, width = averaging(summary, "auto", "auto", radius_rad, loss)
    delay_s = summary.longest_baseline_m * radius_rad / 299792458.0

    def lost(channels: int) -> float:
        return 1 - float(np.sinc(delay_s * channels * step_hz))

    assert width in (1, 2, 4, 8) and lost(width) <= loss
    assert width == 8 or lost(2 * width) > loss / 2
    assert time_s >= 0


def test_scans_of_one_integration_are_not_averaged(tmp_path: Path) -> None:
    summary = replace(summarise(make_ms(tmp_path / "a.ms")), integration_s=0.0)
    assert averaging(summary, "auto", 1, 1e-5, 0.01) == (0.0, 1)
