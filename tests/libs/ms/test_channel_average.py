"""Channels averaged by weight, window by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.ms.channel_average import average_channels, bin_starts, widest_channel_hz
from libs.ms.rows import chunks
from libs.ms.subtables import Subtables
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms
from tests.pipeline_case import FIELDS, FIRST, make_pipeline_case


def test_limits_by_band() -> None:
    mhz = [widest_channel_hz(ghz * 1e9) / 1e6 for ghz in (1.4, 3, 10, 22, 33, 45, 100)]
    assert mhz == [2, 4, 8, 16, 8, 16, 15.625]


@given(st.integers(1, 500), st.floats(0.5, 300))
def test_no_average_is_too_wide_and_none_is_needlessly_narrow(count: int, most: float) -> None:
    starts = bin_starts(np.arange(count) * 1e6, np.full(count, 1e6), most * 1e6)
    sizes = np.diff([*starts, count])
    allowed = max(1, int(most + 1e-3))
    assert starts[0] == 0 and sizes.sum() == count and sizes.max() <= allowed
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) <= 2 * -(-count // allowed)


def test_a_gap_between_channels_is_not_bridged() -> None:
    hz = np.array([0, 1, 2, 3, 10, 11, 12, 13]) * 1e6
    assert bin_starts(hz, np.full(8, 1e6), 100e6).tolist() == [0, 4]


def test_weighted_means_and_summed_weights(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=3, times=2)
    rng = np.random.default_rng(3)
    with open_table(ms, write=True) as opened:
        data = opened.getcol("DATA")
        data = (rng.standard_normal(data.shape) + 1j * rng.standard_normal(data.shape)).astype(
            np.complex64
        )
        flag = rng.random(data.shape) < 0.2
        flag[0, :4] = True
        weight = rng.uniform(0.5, 2, (data.shape[0], data.shape[2])).astype(np.float32)
        opened.putcol("DATA", data)
        opened.putcol("FLAG", flag)
        opened.putcol("SIGMA", weight**-0.5)
        opened.putcol("WEIGHT", weight)
        spectrum = np.repeat(weight[:, None], data.shape[1], axis=1)
        opened.putcol("WEIGHT_SPECTRUM", spectrum)
    before = Subtables(ms).windows[0]
    said = average_channels(ms, lambda hz: 4 * abs(before.step_hz) * 1.01)
    assert said == ["channels averaged: 8 to 2"]
    (chunk,) = chunks(ms, ("DATA", "FLAG", "WEIGHT", "WEIGHT_SPECTRUM", "SIGMA_SPECTRUM"))
    good = (~flag).reshape(len(flag), 2, 4, -1)
    cells = data.reshape(good.shape)
    count = good.sum(axis=2)
    expected = (cells * good).sum(axis=2) / np.maximum(count, 1)
    np.testing.assert_allclose(chunk["DATA"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(chunk["FLAG"], count == 0)
    assert chunk["FLAG"][0, 0].all() and not chunk["FLAG"][1:].all()
    np.testing.assert_allclose(chunk["WEIGHT_SPECTRUM"], count * weight[:, None], rtol=1e-5)
    seen = chunk["WEIGHT_SPECTRUM"] > 0
    np.testing.assert_allclose(
        chunk["SIGMA_SPECTRUM"][seen], chunk["WEIGHT_SPECTRUM"][seen] ** -0.5, rtol=1e-5
    )
    after = Subtables(ms).windows[0]
    np.testing.assert_allclose(after.frequency_hz, before.frequency_hz.reshape(2, 4).mean(axis=1))
    np.testing.assert_allclose(after.width_hz, before.width_hz.reshape(2, 4).sum(axis=1))
    with open_table(f"{ms}::SPECTRAL_WINDOW") as opened:
        assert opened.getcell("NUM_CHAN", 0) == 2


def test_each_window_has_a_number_of_its_own(tmp_path: Path) -> None:
    """Channels of 3.7 MHz are averaged, those of 234 MHz are not."""
    case = make_pipeline_case(
        tmp_path, [FIRST], fields=FIELDS[1:2], antennas=4, scans=1, scan_s=12.0
    )
    assert average_channels(case.vis[0], widest_channel_hz)
    assert [w.channels for w in Subtables(case.vis[0]).windows] == [8, 8, 4, 8]
    assert {c["DATA"].shape[1] for c in chunks(case.vis[0], ("DATA",))} == {8, 4}
    assert average_channels(case.vis[0], widest_channel_hz) == [], "nothing more to do"


def test_noise_falls_as_the_weights_say(tmp_path: Path) -> None:
    case = make_pipeline_case(
        tmp_path, [FIRST], fields=[type(FIELDS[1])("blank", (67.0, 16.0), ())], antennas=8, scans=2
    )
    average_channels(case.vis[0], lambda hz: 1e12)
    for chunk in chunks(case.vis[0], ("DATA", "WEIGHT")):
        reduced = chunk["DATA"][:, 0] * np.sqrt(chunk["WEIGHT"])
        assert np.std(reduced.real) == pytest.approx(1.0, abs=0.1)
