"""Solutions to start from: which, and data divided by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.global_table import write_with_entries
from libs.h5parm.provenance import Entry
from libs.h5parm.reader import write_h5parm
from libs.h5parm.solset import Solset
from libs.h5parm.start import StartLimits, correct_data, find_start, not_covered
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from tests.libs.small_ms import make_ms
from tests.libs.solset_examples import STATIONS, flagged, solset

NEAR, FAR = (217.0, 35.0), (219.0, 35.0)
HERE = tuple(np.deg2rad((217.1, 35.0)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two calibrators; the nearer one has nothing for a station, and of another little."""
    table = solset(directions={"near": NEAR, "far": FAR}, seed=1)
    weight = table.weight.copy()
    weight[:, :, 3, 0] = 0.0
    weight[1:, :, 2, 0] = 0.0
    zero = weight == 0
    table = replace(
        table, weight=weight, phase_rad=np.where(zero, 0.0, table.phase_rad),
        amplitude=np.where(zero, 1.0, table.amplitude),
    )  # fmt: skip
    entries = [Entry(d, s, source=d, run="cal") for d in ("near", "far") for s in STATIONS]
    write_with_entries(tmp_path / "store.h5", table, entries)
    return tmp_path / "store.h5"


def test_each_station_gets_the_nearest_that_is_good(store: Path) -> None:
    found = find_start(store, HERE, name="T")
    assert [c.direction for c in found.choices] == ["near", "near", "far", "far"]
    assert found.solset.direction == ("T",)
    assert {e.station: e.source for e in found.entries}["UK608HBA"] == "far"
    near = find_start(store, HERE, name="T", limits=StartLimits(max_separation_deg=1.0))
    assert near.missing == ("DE602HBA", "UK608HBA")
    lax = find_start(store, HERE, name="T", limits=StartLimits(min_good_fraction=0.1))
    assert [c.direction for c in lax.choices] == ["near", "near", "near", "far"]


def test_a_named_direction_is_taken_as_it_is(store: Path) -> None:
    found = find_start(store, HERE, name="T", direction="[near]")
    assert found.missing == ("UK608HBA",) and found.directions == ("near",)
    assert [e.station for e in found.entries] == list(STATIONS[:3])
    np.testing.assert_allclose(found.solset.direction_rad[0], HERE)
    assert all(e.direction == "T" and e.source == "near" for e in found.entries)
    with pytest.raises(InputError, match="no direction nowhere"):
        find_start(store, HERE, name="T", direction="nowhere")


def gains_for(ms: Path, seed: int = 2, **options: object) -> Solset:
    """Random gains for all but the last antenna, none for the first at the second time."""
    summary = summarise(ms)
    with open_table(ms) as opened:
        times = np.unique(opened.getcol("TIME"))
    table = solset(
        time_s=times, frequency_hz=summary.frequency_hz[0], antenna=summary.antenna, seed=seed,
        **options,
    )  # fmt: skip
    table = flagged(table, station=summary.antenna[-1])
    return flagged(table, station=summary.antenna[0], times=1)


def corrupt(ms: Path, table: Solset) -> None:
    """Put the gains on the data."""
    gain = table.gain[:, :, :, 0]
    with open_table(ms, write=True) as opened:
        _, slot = np.unique(opened.getcol("TIME"), return_inverse=True)
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        data = opened.getcol("DATA") * gain[slot, :, one] * np.conj(gain[slot, :, two])
        opened.putcol("DATA", data.astype(np.complex64))


@pytest.mark.parametrize("spectrum", [True, False])
def test_data_are_divided_by_the_gains_and_weighted(tmp_path: Path, spectrum: bool) -> None:
    ms = make_ms(tmp_path / "a.ms", spectrum=spectrum)
    table = gains_for(ms)
    corrupt(ms, table)
    write_h5parm(tmp_path / "s.h5", table)
    done = correct_data(
        ms, DirectionGains.read(tmp_path / "s.h5", ms, missing="unit"), chunk_bytes=20000
    )
    with open_table(ms) as opened:
        data, flag = opened.getcol("DATA"), opened.getcol("FLAG")
        _, slot = np.unique(opened.getcol("TIME"), return_inverse=True)
        one, two = opened.getcol("ANTENNA1"), opened.getcol("ANTENNA2")
        weight, sigma = opened.getcol("WEIGHT"), opened.getcol("SIGMA")
        cells = opened.getcol("WEIGHT_SPECTRUM") if spectrum else weight[:, None]
    unsolved = (slot == 1) & ((one == 0) | (two == 0))
    np.testing.assert_allclose(data[~unsolved], 1, atol=1e-5)
    assert (flag == unsolved[:, None, None]).all(), "an antenna without any stays as it is"
    assert (done.flagged_before, done.flagged_after) == (0, pytest.approx(unsolved.mean()))
    power = np.abs(table.gain[:, :, :, 0][slot, :, one] * table.gain[:, :, :, 0][slot, :, two]) ** 2
    expected = power if spectrum else power[:, :1]
    np.testing.assert_allclose(cells[~unsolved], expected[~unsolved], rtol=1e-5)
    np.testing.assert_allclose(weight, cells.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(sigma, weight**-0.5, rtol=1e-5)


def test_phases_leave_the_weights_alone(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms")
    table = gains_for(ms)
    table = replace(table, amplitude=np.ones(table.shape))
    corrupt(ms, table)
    write_h5parm(tmp_path / "s.h5", table)
    correct_data(ms, DirectionGains.read(tmp_path / "s.h5", ms, missing="unit"))
    with open_table(ms) as opened:
        assert (opened.getcol("WEIGHT") == 1).all() and (opened.getcol("SIGMA") == 1).all()
        data, flag = opened.getcol("DATA"), opened.getcol("FLAG")
    np.testing.assert_allclose(data[~flag], 1, atol=1e-5)


def test_tecs_are_right_at_every_channel(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms")
    table = gains_for(ms)
    rng = np.random.default_rng(1)
    known = table.valid.any(axis=(1, 4))
    table = replace(
        table, phase_rad=np.zeros(table.shape), amplitude=np.ones(table.shape),
        tec_tecu=np.where(known, rng.uniform(-3000, 3000, known.shape), 0.0),
    )  # fmt: skip
    corrupt(ms, table)
    ends = [0, -1]  # solved at the ends of the band only: turns of many radians between them
    coarse = replace(
        table, frequency_hz=table.frequency_hz[ends],
        **{n: getattr(table, n)[:, ends] for n in ("phase_rad", "amplitude", "weight")},
    )  # fmt: skip
    write_h5parm(tmp_path / "s.h5", coarse)
    correct_data(ms, DirectionGains.read(tmp_path / "s.h5", ms, missing="unit"))
    with open_table(ms) as opened:
        data, flag = opened.getcol("DATA"), opened.getcol("FLAG")
    np.testing.assert_allclose(data[~flag], 1, atol=1e-4)


def test_what_the_solutions_do_not_reach_is_said(tmp_path: Path) -> None:
    ms = make_ms(tmp_path / "a.ms")
    summary = summarise(ms)
    table = gains_for(ms)
    assert not_covered(table, summary) == ""
    late = replace(table, time_s=table.time_s + 3600)
    assert not_covered(late, summary) == "the data reach 3600 s beyond the solutions"
    assert "MHz" in not_covered(replace(table, frequency_hz=table.frequency_hz / 2), summary)
