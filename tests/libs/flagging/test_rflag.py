"""Automatic flagging finds interference, spares the source, and is undone when it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError, ToolError
from libs.flagging import rflag
from libs.flagging.rflag import RflagOptions, Sampling, why_unfit
from libs.ms import flag_versions
from libs.ms.sanitise import add_scratch_columns
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms


@pytest.fixture
def ms(tmp_path: Path) -> Path:
    made = make_ms(tmp_path / "a.ms", channels=16, times=12, corr_types=(5, 6, 7, 8), noise_jy=0.1)
    add_scratch_columns(made)
    return made


def read(ms: Path, name: str) -> np.ndarray:
    with open_table(ms) as opened:
        return opened.getcol(name)


def write(ms: Path, name: str, value: np.ndarray) -> None:
    with open_table(ms, write=True) as opened:
        opened.putcol(name, value)


def interfere(ms: Path, *columns: str) -> np.ndarray:
    """Put interference of 20 Jy on one channel in a third of the times; return where."""
    hit = np.zeros(read(ms, "DATA").shape, dtype=bool)
    hit[:40, 7] = True
    for column in columns:
        write(ms, column, (read(ms, column) + 20 * hit).astype(np.complex64))
    return hit


class FakeSession:
    """Stands in for CASA: flags a share of the data, or fails."""

    def __init__(self, share: float = 0.0, fails: bool = False) -> None:
        self.share, self.fails = share, fails
        self.modes: list[str] = []

    def run(self, task: str, *, log: Path | None = None, **kwargs: object) -> None:
        self.modes.append(str(kwargs["mode"]))
        flag = read(Path(str(kwargs["vis"])), "FLAG")
        flag[: int(self.share * len(flag))] = True
        write(Path(str(kwargs["vis"])), "FLAG", flag)
        if self.fails:
            raise ToolError("flagdata failed", "see its log")


def test_command_lines() -> None:
    options = RflagOptions(column="RESIDUAL", timecutoff=3.0, growtime=70.0)
    crop = rflag.flagdata_kwargs("a.ms", "tfcrop", options)
    assert crop["mode"] == "tfcrop" and crop["datacolumn"] == "RESIDUAL"
    assert crop["timecutoff"] == 3.0 and crop["freqcutoff"] == 4.0
    scale = rflag.flagdata_kwargs("a.ms", "rflag", options)
    assert (scale["timedevscale"], scale["freqdevscale"], scale["winsize"]) == (5.0, 5.0, 3)
    extend = rflag.flagdata_kwargs("a.ms", "extend", options)
    assert (extend["growtime"], extend["growfreq"]) == (70.0, 80.0)
    for kwargs in (crop, scale, extend):
        assert kwargs["flagbackup"] is False and kwargs["action"] == "apply"
        # cross hands flagged throughout would otherwise take all data with them
        assert not kwargs.get("extendpols", False) and not kwargs.get("extendflags", False)
    with pytest.raises(ConfigError):
        rflag.flagdata_kwargs("a.ms", "clip", options)


@pytest.mark.parametrize(
    "wrong",
    [{"column": "data"}, {"methods": ("aoflagger",)}, {"methods": ()}, {"max_new_fraction": 0}],
)
def test_wrong_options_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        RflagOptions(**wrong)


def test_methods_need_channels_and_times() -> None:
    options = RflagOptions(winsize=7)
    assert why_unfit("tfcrop", Sampling(64, 5), options) == ""
    assert "5 integrations in a scan, there are 2" in why_unfit("tfcrop", Sampling(64, 2), options)
    assert "7 integrations" in why_unfit("rflag", Sampling(64, 5), options)
    both = why_unfit("rflag", Sampling(1, 1), options)
    assert "8 channels, there are 1" in both and "7 integrations" in both
    assert why_unfit("clip", Sampling(1, 1), options) == ""


def test_sampling_is_counted_along_baselines(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", channels=5, times=12, scans=3)
    assert rflag.measure_sampling(ms) == Sampling(5, 4)
    time = read(ms, "TIME")
    write(ms, "TIME", time + 0.1 * read(ms, "ANTENNA1"))  # as some correlators stamp them
    assert rflag.measure_sampling(ms) == Sampling(5, 4)


@given(hnp.arrays(np.float64, 60, elements=st.floats(0, 1e3)), st.floats(0.01, 100))
def test_outliers_do_not_depend_on_the_unit(amplitude: np.ndarray, unit: float) -> None:
    good = np.ones(60, dtype=bool)
    amplitude = np.round(amplitude, 3)
    one = rflag.robust_outliers(amplitude, good, 10, 3)
    assert not one[amplitude <= np.median(amplitude)].any()
    scaled = rflag.robust_outliers(amplitude * 2.0 ** np.round(np.log2(unit)), good, 10, 3)
    assert np.array_equal(one, scaled)


def test_outliers_of_known_data() -> None:
    amplitude = np.abs(np.random.default_rng(2).normal(10, 0.01, 100))
    good = np.ones(100, dtype=bool)
    amplitude[3] = 100
    amplitude[4] = 20  # 1000 deviations, but a bright source may do that
    amplitude[5] = 500
    good[5] = False
    assert np.flatnonzero(rflag.robust_outliers(amplitude, good, 10, 3)).tolist() == [3]
    assert not rflag.robust_outliers(amplitude[:19], good[:19], 10, 3).any()  # too few to tell
    assert not rflag.robust_outliers(np.r_[np.ones(50), 9], np.ones(51, bool), 10, 3).any()


def test_clipping_flags_the_interference_and_nothing_else(ms: Path) -> None:
    hit = interfere(ms, "DATA")
    data = read(ms, "DATA")
    data[read(ms, "ANTENNA1") == 0] *= 30  # flux on some baselines only is no outlier
    write(ms, "DATA", data)
    assert rflag.clip_outliers(ms, RflagOptions()) == hit.sum()
    assert np.array_equal(read(ms, "FLAG"), hit)


def test_clipping_of_residuals_sees_what_the_source_hides(ms: Path) -> None:
    for column in ("CORRECTED_DATA", "MODEL_DATA"):
        write(ms, column, (read(ms, column) + 100).astype(np.complex64))
    hit = interfere(ms, "CORRECTED_DATA")
    assert rflag.clip_outliers(ms, RflagOptions(column="CORRECTED")) == 0
    write(ms, "MODEL_DATA", np.full_like(read(ms, "MODEL_DATA"), 101))
    assert rflag.clip_outliers(ms, RflagOptions(column="RESIDUAL")) == hit.sum()


def test_a_run_over_the_limit_is_undone(ms: Path) -> None:
    first = np.zeros(read(ms, "FLAG").shape, dtype=bool)
    first[-5:] = True
    write(ms, "FLAG", first)
    result = rflag.run_rflag(ms, FakeSession(share=0.5), version="before")
    assert not result.applied and "undone" in result.reason and "20 %" in result.reason
    assert np.array_equal(read(ms, "FLAG"), first)
    assert result.fraction_after == result.fraction_before < result.fraction_tried


def test_a_failure_leaves_the_flags_as_they_were(ms: Path) -> None:
    with pytest.raises(ToolError):
        rflag.run_rflag(ms, FakeSession(share=0.5, fails=True), version="before")
    assert flag_versions.count(ms).flagged == 0


def test_a_repeated_run_starts_from_the_flags_before(ms: Path) -> None:
    for share in (0.15, 0.05):
        result = rflag.run_rflag(ms, FakeSession(share=share), version="before")
        assert result.applied and result.fraction_before == 0
        assert result.fraction_after == pytest.approx(share, abs=0.01)


def test_nothing_to_run_is_said(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", channels=1, times=12)
    session = FakeSession()
    options = RflagOptions(methods=("rflag", "tfcrop", "extend"))
    result = rflag.run_rflag(ms, session, options=options, version="before")
    assert not result.applied and not session.modes and set(result.skipped) == {"rflag", "tfcrop"}
    assert "8 channels, there are 1" in result.reason
    result = rflag.run_rflag(ms, session, version="before")  # with a clip
    assert result.applied and session.modes == ["extend"] and result.methods == ("clip", "extend")


@pytest.mark.tools
@pytest.mark.parametrize(
    "options",
    [RflagOptions(), RflagOptions(column="RESIDUAL", methods=("rflag", "tfcrop", "extend"))],
)
def test_interference_is_flagged_by_the_real_task(
    ms: Path, session: CasaSession, options: RflagOptions
) -> None:
    hit = interfere(ms, "DATA", "CORRECTED_DATA")
    first = np.zeros(hit.shape, dtype=bool)
    first[:, :, 1:3] = True  # cross hands flagged throughout
    write(ms, "FLAG", first)
    result = rflag.run_rflag(ms, session, options=options, version="before")
    assert result.applied
    new = read(ms, "FLAG") & ~first
    wanted = hit & ~first
    assert (new & wanted).sum() >= 0.95 * wanted.sum()
    assert (new & ~wanted).sum() < 0.05 * (~first).sum()
