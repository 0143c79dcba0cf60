"""Channels that are kept as continuum, and those that stand out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.core.errors import InputError
from libs.inputs.cont_dat import FrequencyRange, read_cont_dat
from libs.inputs.line_finding import outliers
from libs.inputs.line_free import channels_within, flag_by_file, flag_found
from libs.ms.rows import chunks
from libs.ms.subtables import Window
from tests.pipeline_case import (
    FIELDS,
    FIRST,
    WINDOWS,
    LineMade,
    SpectralWindow,
    WindowMade,
    make_pipeline_case,
)

WINDOW = Window(np.arange(8) * 1e6 + 100e6, np.full(8, 1e6))


def kept(low_mhz: float, high_mhz: float, frame: str = "TOPO", factor: float = 1.0) -> list[int]:
    ranges = [FrequencyRange(low_mhz * 1e6, high_mhz * 1e6, frame)]
    return np.flatnonzero(channels_within(WINDOW, ranges, factor)).tolist()


def test_channels_wholly_inside_are_kept() -> None:
    assert kept(100.5, 103.5) == [1, 2, 3]
    assert kept(100.4, 103.4) == [1, 2]
    assert kept(100.6, 101.4) == []
    falling = Window(WINDOW.frequency_hz[::-1], -WINDOW.width_hz)
    ranges = [FrequencyRange(100.5e6, 103.5e6, "TOPO")]
    assert np.flatnonzero(channels_within(falling, ranges, 1.0)).tolist() == [4, 5, 6]


def test_the_frame_moves_the_channels() -> None:
    assert kept(100.5, 103.5, "LSRK", 1.01) == [3, 4]
    assert kept(100.5, 103.5, "TOPO", 1.01) == [1, 2, 3]
    with pytest.raises(InputError, match="frame BARY"):
        channels_within(Window(WINDOW.frequency_hz, WINDOW.width_hz, "", "BARY"), [], 1.0)


@given(st.integers(0, 2**31), st.integers(16, 256))
@settings(max_examples=60, deadline=None)
def test_a_straight_line_has_no_lines(seed: int, count: int) -> None:
    """Level and slope do not matter, and noise hardly ever stands out."""
    rng = np.random.default_rng(seed)
    spectrum = 5 + 0.1 * np.arange(count) + rng.standard_normal(count)
    moved = outliers(3 * spectrum - 7 + 0.5 * np.arange(count))
    assert (outliers(spectrum) == moved).all()


def test_false_alarms_are_as_rare_as_said() -> None:
    rng = np.random.default_rng(20261130)
    for count in (16, 64, 480):
        windows = [outliers(rng.standard_normal(count)).any() for _ in range(3000)]
        assert np.mean(windows) < 0.005, count


def test_a_line_is_found_with_its_wings() -> None:
    rng = np.random.default_rng(7)
    channel = np.arange(128)
    line = 30 * np.exp(-0.5 * ((channel - 60) / 3) ** 2)
    found = np.flatnonzero(outliers(2 + rng.standard_normal(128) + line))
    assert {54, 60, 66} <= set(found) and found.min() >= 50 and found.max() <= 70


NARROW = (WINDOWS[0], WindowMade("RB#BB_3#FULL_RES", SpectralWindow(230.538e9, 234.4e6, 64)))
# 10 MHz wide at rest, 2 channels each side of its middle
LINE = LineMade(FIELDS[1].name, 230.55e9, 10e6, 10.0)


def flagged(ms: Path, spw: int) -> np.ndarray:
    found = [c["FLAG"].all(axis=(0, 2)) for c in chunks(ms, ("FLAG",)) if c.spw == spw]
    return np.all(found, axis=0)


@pytest.fixture
def observed(tmp_path: Path) -> tuple[Path, Path]:
    """One target in January and in July, with a line that moves by 24 MHz between them."""
    from tests.pipeline_case import SECOND

    second = type(FIRST)("later", SECOND.day_mjd)
    case = make_pipeline_case(
        tmp_path, [FIRST, second], fields=FIELDS[1:2], windows=NARROW, line=LINE, antennas=6,
        scans=1, noise_jy=0.005,
    )  # fmt: skip
    return case.vis[0], case.vis[1]


def test_the_ranges_follow_the_earth(tmp_path: Path, observed: tuple[Path, Path]) -> None:
    path = tmp_path / "cont.dat"
    path.write_text(
        "Field: 04287+1801\nSpectralWindow: 1\n230.30~230.525GHz LSRK\n230.575~230.80GHz LSRK\n"
    )
    ranges = read_cont_dat(path)
    middles = []
    for ms in observed:
        done = flag_by_file(ms, ranges, [0, 1])
        assert done.warnings == [
            "cont.dat says nothing for window 0 of 04287+1801: it is taken whole"
        ]
        bad = flagged(ms, 1)
        assert not flagged(ms, 0).any() and 13 <= bad.sum() <= 16
        middles.append(np.flatnonzero(bad).mean() * 234.4e6 / 64)
        left = [
            np.abs(c["DATA"][:, ~bad]).max() for c in chunks(ms, ("DATA",)) if c.spw == 1
        ]  # fmt: skip
        assert max(left) < 1.0, "nothing of the line of 10 Jy is left"
    assert abs(middles[0] - middles[1]) == pytest.approx(23.5e6, abs=4e6)


def test_a_field_or_range_that_is_not_there_is_told(
    tmp_path: Path, observed: tuple[Path, Path]
) -> None:
    path = tmp_path / "cont.dat"
    path.write_text("Field: X\nSpectralWindow: 1\nALL\n")
    done = flag_by_file(observed[0], read_cont_dat(path), [0, 1])
    assert done.warnings == ["cont.dat has no field 04287+1801: all channels are continuum"]
    path.write_text("Field: 04287+1801\nSpectralWindow: 1\n100~101GHz LSRK\n")
    done = flag_by_file(observed[0], read_cont_dat(path), [0, 1])
    assert flagged(observed[0], 1).all() and "no channel of window 1" in done.warnings[-1]


def test_lines_are_found(observed: tuple[Path, Path]) -> None:
    for ms in observed:
        done = flag_found(ms, [0, 1])
        assert "window 0: too few channels" in done.lines[0] and not done.warnings
        bad = flagged(ms, 1)
        assert 3 <= bad.sum() <= 20 and not flagged(ms, 0).any()
        left = [np.abs(c["DATA"][:, ~bad]).max() for c in chunks(ms, ("DATA",)) if c.spw == 1]
        assert max(left) < 1.0
