"""statwt only where its bins hold enough samples of noise; undone where it does harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.casa.session import CasaSession
from libs.core.errors import ToolError
from libs.ms import flag_versions
from libs.ms.sanitise import add_scratch_columns
from libs.ms.tables import open_table
from libs.weights import statwt
from tests.libs.small_ms import make_ms

OPTIONS = statwt.StatwtOptions()


class FakeSession:
    """Stands in for CASA: scales the weights, or fails."""

    def __init__(self, factor: float | None) -> None:
        self.factor = factor
        self.calls: list[tuple[str, dict]] = []

    def run(self, task: str, *, log: Path | None = None, **kwargs: object) -> None:
        self.calls.append((task, kwargs))
        with open_table(str(kwargs["vis"]), write=True) as opened:
            weight = opened.getcol("WEIGHT")
            weight[:3] *= self.factor or 5
            opened.putcol("WEIGHT", weight)
        if self.factor is None:
            raise ToolError("statwt failed", "see its log")


def noisy(path: Path, **kwargs: object) -> Path:
    ms = make_ms(path, noise_jy=0.1, **kwargs)
    add_scratch_columns(ms)
    return ms


def weights(ms: Path) -> np.ndarray:
    with open_table(ms) as opened:
        return opened.getcol("WEIGHT")


@given(st.floats(1, 500), st.floats(0.1, 60), st.floats(1, 1000), st.integers(2, 200))
def test_bins_hold_enough_or_are_as_long_as_allowed(
    channels: float, interval_s: float, scan_times: float, wanted: int
) -> None:
    options = statwt.StatwtOptions(min_samples=wanted)
    timebin_s, samples = statwt.choose_timebin(channels, interval_s, scan_times, options)
    integrations = round(timebin_s / interval_s)
    assert integrations >= 1 and samples == pytest.approx(integrations * channels)
    assert timebin_s <= max(options.max_timebin_s * (1 + 1e-5), interval_s)
    if integrations > 1:  # no shorter bin would do
        assert (integrations - 1) * channels < wanted


def test_bins_of_known_data() -> None:
    assert statwt.choose_timebin(64, 10, 100, OPTIONS) == (10, 64)
    assert statwt.choose_timebin(16, 10, 100, OPTIONS) == (20, 32)
    assert statwt.choose_timebin(1, 12, 1000, OPTIONS) == (120, 10)  # one channel: too few
    assert statwt.choose_timebin(1, 1, 5, OPTIONS) == (5, 5)  # scans too short


def test_excess_is_one_for_noise_and_more_for_drifts() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(400, 32)) + 1j * rng.normal(size=(400, 32))
    good = rng.random(noise.shape) < 0.9
    assert statwt.bin_excess(noise, good) == pytest.approx(1, abs=0.05)
    assert statwt.bin_excess(noise + 10, good) == pytest.approx(1, abs=0.05)
    assert statwt.bin_excess(noise + 0.2 * np.arange(32), good) > 2
    assert np.isnan(statwt.bin_excess(noise[:, :3], good[:, :3]))


def test_plans(tmp_path: Path) -> None:
    plan = statwt.plan_statwt(noisy(tmp_path / "a.ms", channels=16, times=12))
    assert plan.run and plan.timebin_s == pytest.approx(20) and plan.samples == 32
    assert plan.excess == pytest.approx(1, abs=0.1)
    few = statwt.plan_statwt(noisy(tmp_path / "b.ms", channels=1, times=12))
    assert not few.run and "hold 12 samples" in few.reason and "32 are needed" in few.reason
    bandpass = noisy(tmp_path / "c.ms", channels=32, times=4)
    with open_table(bandpass, write=True) as opened:
        slope = np.linspace(0, 2, 32)[:, None]
        opened.putcol("CORRECTED_DATA", (opened.getcol("DATA") * slope).astype(np.complex64))
    plan = statwt.plan_statwt(bandpass)
    assert not plan.run and "times as much as noise" in plan.reason
    flagged = noisy(tmp_path / "d.ms")
    with open_table(flagged, write=True) as opened:
        opened.putcol("FLAG", np.ones_like(opened.getcol("FLAG")))
    assert "all data are flagged" in statwt.plan_statwt(flagged).reason


def test_a_model_subtracted_leaves_noise(tmp_path: Path) -> None:
    ms = noisy(tmp_path / "a.ms", channels=32, times=4)
    with open_table(ms, write=True) as opened:
        slope = np.broadcast_to(np.linspace(0, 2, 32)[:, None], opened.getcol("DATA").shape)
        opened.putcol("CORRECTED_DATA", (opened.getcol("DATA") + slope).astype(np.complex64))
        opened.putcol("MODEL_DATA", (1 + slope).astype(np.complex64))
    assert not statwt.plan_statwt(ms).run
    assert statwt.plan_statwt(ms, statwt.StatwtOptions(datacolumn="residual")).run


def test_command_line() -> None:
    plan = statwt.StatwtPlan(True, 20.0, 32, 1.0, "")
    assert statwt.statwt_kwargs("a.ms", plan, OPTIONS) == {
        "vis": "a.ms", "timebin": "20.02s", "chanbin": "spw", "minsamp": 8,
        "datacolumn": "corrected", "flagbackup": False,
    }  # fmt: skip


def test_absurd_weights_are_undone(tmp_path: Path) -> None:
    ms = noisy(tmp_path / "a.ms", channels=32)
    before = weights(ms)
    result = statwt.run_statwt(ms, FakeSession(1e6))
    assert not result.applied and "undone" in result.reason
    assert np.array_equal(weights(ms), before)
    result = statwt.run_statwt(ms, FakeSession(float("nan")))
    assert not result.applied and "not finite" in result.reason
    assert np.array_equal(weights(ms), before)


def test_after_a_failure_the_weights_are_as_before(tmp_path: Path) -> None:
    ms = noisy(tmp_path / "a.ms", channels=32)
    before = weights(ms)
    with pytest.raises(ToolError):
        statwt.run_statwt(ms, FakeSession(None))
    assert np.array_equal(weights(ms), before)


def test_a_repeated_run_starts_from_the_first_weights(tmp_path: Path) -> None:
    ms = noisy(tmp_path / "a.ms", channels=32)
    before = weights(ms)
    for _ in range(2):
        assert statwt.run_statwt(ms, FakeSession(2)).applied
        assert np.allclose(weights(ms)[:3], 2 * before[:3])
    with open_table(ms) as opened:
        assert np.allclose(opened.getcol("SIGMA"), opened.getcol("WEIGHT") ** -0.5)


def test_skipping_touches_nothing(tmp_path: Path) -> None:
    ms = noisy(tmp_path / "a.ms", channels=1)
    session = FakeSession(2)
    result = statwt.run_statwt(ms, session)
    assert not result.applied and not session.calls
    assert not flag_versions.has_weights(ms, statwt.VERSION)


@pytest.mark.tools
def test_weights_follow_the_noise_of_each_antenna(tmp_path: Path, session: CasaSession) -> None:
    ms = noisy(tmp_path / "a.ms", channels=64, times=8)
    with open_table(ms, write=True) as opened:
        data = opened.getcol("DATA")
        worse = (opened.getcol("ANTENNA1") == 2) | (opened.getcol("ANTENNA2") == 2)
        data[worse] = 1 + 3 * (data[worse] - 1)
        opened.putcol("DATA", data)
        opened.putcol("CORRECTED_DATA", data)
    result = statwt.run_statwt(ms, session)
    assert result.applied and result.flagged_after == 0
    found = weights(ms)
    # 0.1 Jy in each of real and imaginary part is CASA's weight of 100
    assert np.median(found[~worse]) == pytest.approx(100, rel=0.1)
    assert np.median(found[worse]) == pytest.approx(100 / 9, rel=0.1)
    with open_table(ms) as opened:
        assert np.allclose(opened.getcol("SIGMA"), found**-0.5, rtol=1e-5)
