"""Reading averaged baseline visibilities from measurement sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from libs.closure.read import read_visibilities
from libs.closure.statistics import closure_quantities
from libs.core.errors import InputError
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms


def edit(ms: Path, column: str, change) -> None:
    with open_table(ms, write=True) as opened:
        values = opened.getcol(column)
        opened.putcol(column, change(values))


def test_point_source_and_its_noise(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=6, times=20, channels=16, noise_jy=0.2)
    # Weights that are wrong by a factor of 9: the data know better.
    edit(ms, "WEIGHT", lambda w: w * 9)
    edit(ms, "WEIGHT_SPECTRUM", lambda w: w * 9)
    data = read_visibilities(ms)
    assert data.vis.shape == (15, 2, 20)  # each hand is a block
    np.testing.assert_allclose(data.sigma, 0.2 / 4, rtol=0.1)
    assert data.vis.mean() == pytest.approx(1.0, abs=0.01)
    together = read_visibilities(ms, combine_hands=True)
    assert together.vis.shape == (15, 1, 20)
    np.testing.assert_allclose(together.sigma, 0.2 / 32**0.5, rtol=0.1)
    relative = read_visibilities(ms, noise_from_data=False)
    np.testing.assert_allclose(relative.sigma, 0.2 / 4 / 3, rtol=1e-4)
    assert np.abs(closure_quantities(data, 60).phases.phase_rad).max() < 0.5


def test_flags_averaging_blocks_and_stations(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=5, times=12, channels=8, noise_jy=0.01)
    with open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        lost = (opened.getcol("ANTENNA1") == 2) | (opened.getcol("ANTENNA2") == 2)
        flag[lost] = True
        flag[:, :4] = True
        opened.putcol("FLAG", flag)
    data = read_visibilities(ms, average_s=30)
    assert not ((data.ant1 == 2) | (data.ant2 == 2)).any()
    assert data.vis.shape == (6, 2, 4)
    np.testing.assert_allclose(np.diff(data.time_s), 30)
    with open_table(f"{ms}::SPECTRAL_WINDOW") as spw:
        frequency = spw.getcell("CHAN_FREQ", 0)
    fine = read_visibilities(ms, block_hz=float(np.diff(frequency)[0]) * 2, average_s=30)
    assert fine.vis.shape == (6, 4, 4)  # two of four blocks are flagged, two hands each
    few = read_visibilities(ms, stations=[data.antenna[i] for i in (0, 1, 3)])
    assert len(few.ant1) == 3


def test_reversed_baselines_and_what_cannot_be_read(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", noise_jy=0.01)
    edit(ms, "DATA", lambda d: d * 1j)
    before = read_visibilities(ms)
    with open_table(ms, write=True) as opened:
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        opened.putcol("ANTENNA1", two)
        opened.putcol("ANTENNA2", one)
        opened.putcol("UVW", -opened.getcol("UVW"))
        opened.putcol("DATA", np.conj(opened.getcol("DATA")))
    after = read_visibilities(ms)
    np.testing.assert_allclose(after.vis, before.vis, rtol=1e-6)
    np.testing.assert_allclose(after.uvw_m, before.uvw_m)
    edit(ms, "FLAG", lambda f: f | True)
    with pytest.raises(InputError, match="no unflagged baselines"):
        read_visibilities(ms)


def test_hands_that_are_copies_count_once(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=4, times=10, channels=1, noise_jy=0.2)
    apart = read_visibilities(ms)
    assert apart.vis.shape == (6, 2, 10)
    edit(ms, "DATA", lambda data: data[:, :, :1].repeat(2, axis=2))
    # an empty row says nothing
    edit(ms, "DATA", lambda data: np.where(np.arange(len(data))[:, None, None] > 3, data, 0))
    copies = read_visibilities(ms)
    assert copies.vis.shape == (6, 1, 10)
    # I = (RR + LL) / 2, with the weights of both
    np.testing.assert_allclose(copies.sigma[-1], apart.sigma[-1, :1] / 2**0.5)


def test_of_a_long_observation_stretches_are_read(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms", antennas=4, times=120, channels=4)
    whole = read_visibilities(ms, noise_from_data=False)
    bound = whole.vis.size / 3
    some = read_visibilities(ms, noise_from_data=False, most_cells=bound)
    assert bound / 2 < some.vis.size <= bound
    assert some.time_s[0] == whole.time_s[0] and some.time_s[-1] == whole.time_s[-1]
    place = np.searchsorted(whole.time_s, some.time_s)
    np.testing.assert_array_equal(some.vis, whole.vis[:, :, place])
