"""A run's solutions.h5: products of rounds, repeated rounds, death at any instant."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.core.errors import InputError
from libs.gains.gain_solutions import GainSolutions
from libs.h5parm.check import check
from libs.h5parm.global_table import merge_into, write_with_entries
from libs.h5parm.nearest import best
from libs.h5parm.provenance import Entry, read_entries
from libs.h5parm.reader import read_h5parm
from libs.h5parm.run_rounds import INPUT, accumulate_round, read_rounds, start_from
from libs.h5parm.solset import from_gain_solutions
from tests.libs.solset_examples import STATIONS, flagged, solset

DATE = "2026-11-21T10:00:00.000Z"
TARGET = {"direction": "target", "direction_rad": (3.8, 0.6), "date": DATE, "run": "run1"}


def gains(phase_rad: float, *, times: int = 3, amplitude: float = 1.0, spw: int = 2):
    """Make gains common to both feeds."""
    shape = (times, spw, len(STATIONS), 1)
    return GainSolutions(
        time_s=5e9 + 60.0 * np.arange(times),
        interval_s=np.full(times, 60.0),
        frequency_hz=8e9 + 1e8 * np.arange(spw),
        spw=np.arange(spw),
        antenna=STATIONS,
        position_m=np.zeros((len(STATIONS), 3)),
        polarization=("I",),
        gain=np.full(shape, amplitude * np.exp(1j * phase_rad)),
        flag=np.zeros(shape, dtype=bool),
        snr=np.full(shape, 10.0),
    )


def phases(path: Path):
    """Return the only phase of a file."""
    table = read_h5parm(path)
    assert np.ptp(table.phase_rad) < 1e-12
    return pytest.approx(float(table.phase_rad.flat[0]))


def test_a_round_multiplies_what_it_was_solved_on(tmp_path) -> None:
    path = tmp_path / "solutions.h5"
    accumulate_round(path, "p0", gains(1.0, times=1, spw=1), **TARGET)
    assert phases(path) == 1.0
    accumulate_round(path, "p1", gains(0.3), **TARGET)  # p0 is dropped
    assert phases(path) == 0.3
    accumulate_round(path, "p2", gains(0.5), on=["p1"], **TARGET)
    assert phases(path) == 0.8
    product = accumulate_round(path, "ap1", gains(0.1, amplitude=2), on=["p1", "p2"], **TARGET)
    assert phases(path) == 0.9
    np.testing.assert_allclose(product.amplitude, 2.0)
    assert [r.name for r in read_rounds(path)] == ["p0", "p1", "p2", "ap1"]
    assert check(path) == []
    entry = read_entries(path)[0]
    assert (entry.source, entry.run, entry.date) == ("target", "run1", DATE)


def test_a_round_on_one_of_scan_length(tmp_path) -> None:
    path = tmp_path / "solutions.h5"
    accumulate_round(path, "p1", gains(0.3, times=1, spw=1), **TARGET)
    accumulate_round(path, "p2", gains(0.5, times=5), on=["p1"], **TARGET)
    assert read_h5parm(path).shape == (5, 2, 4, 1, 2)
    assert phases(path) == 0.8


def test_the_same_round_again_changes_nothing(tmp_path) -> None:
    path = tmp_path / "solutions.h5"
    accumulate_round(path, "p1", gains(0.3), **TARGET)
    accumulate_round(path, "p2", gains(0.5), on=["p1"], coherence={"DE601HBA": 0.7}, **TARGET)
    before = path.read_bytes(), path.stat().st_mtime_ns
    later = TARGET | {"date": "2027-01-01T00:00:00.000Z"}
    accumulate_round(path, "p2", gains(0.5), on=["p1"], coherence={"DE601HBA": 0.7}, **later)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    coherence = {e.station: e.coherence for e in read_entries(path)}
    assert coherence["DE601HBA"] == 0.7
    assert np.isnan(coherence["UK608HBA"])


def test_a_repeated_round_takes_back_what_followed(tmp_path) -> None:
    path = tmp_path / "solutions.h5"
    for name, phase, on in (("p1", 0.3, ()), ("p2", 0.5, ("p1",)), ("ap1", 0.1, ("p1", "p2"))):
        accumulate_round(path, name, gains(phase), on=on, **TARGET)
    accumulate_round(path, "p2", gains(0.2), on=["p1"], **TARGET)
    assert phases(path) == 0.5
    assert [r.name for r in read_rounds(path)] == ["p1", "p2"]


def _die(path: Path, method: str) -> None:
    import h5py

    owner = h5py.Group if method == "create_dataset" else Path
    setattr(owner, method, lambda *args, **kwargs: os._exit(9))
    accumulate_round(path, "p2", gains(0.5), on=["p1"], **TARGET)


@pytest.mark.parametrize("method", ["create_dataset", "replace"])
def test_death_while_writing_and_the_round_again(tmp_path, method) -> None:
    path, unharmed = tmp_path / "a" / "solutions.h5", tmp_path / "b" / "solutions.h5"
    for one in (path, unharmed):
        one.parent.mkdir()
        accumulate_round(one, "p1", gains(0.3), **TARGET)
    process = multiprocessing.get_context("fork").Process(target=_die, args=(path, method))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert phases(path) == 0.3
    for one in (path, unharmed):
        accumulate_round(one, "p2", gains(0.5), on=["p1"], **TARGET)
    assert path.read_bytes() == unharmed.read_bytes()
    assert not list(path.parent.glob(".*.tmp"))


def test_solving_on_the_best_solutions_of_the_field(tmp_path) -> None:
    """Incremental solutions on those of calibrators; a station only these have keeps them."""
    store, initial, run = (tmp_path / f"{n}.h5" for n in ("store", "best", "solutions"))
    calibrator = solset(time_s=[5e9, 5e9 + 120], frequency_hz=[8e9, 8.1e9], phase_rad=0.3)
    entries = [
        Entry("A", s, source="A", run="cal", date="2026-01-01T00:00:00.000Z", coherence=0.8)
        for s in STATIONS
    ]
    write_with_entries(tmp_path / "cal.h5", calibrator, entries)
    merge_into(store, [tmp_path / "cal.h5"])
    best(store, *np.deg2rad([217.5, 35.0]), name="target").write(initial)
    start_from(run, initial, run="run1")
    increment = flagged(from_gain_solutions(gains(0.5)), station="UK608HBA")
    accumulate_round(
        run, "p1", increment, on=[INPUT], run="run1", date=DATE, coherence={"DE601HBA": 0.6}
    )
    table = read_h5parm(run)
    assert table.direction == ("target",)
    np.testing.assert_allclose(table.phase_rad[0, 0, :, 0, 0], [0.8, 0.8, 0.8, 0.3])
    found = {e.station: e for e in read_entries(run)}
    assert (found["DE601HBA"].source, found["DE601HBA"].refined_from) == ("target", "A")
    assert (found["DE601HBA"].coherence, found["DE601HBA"].run) == (0.6, "run1")
    assert (found["UK608HBA"].source, found["UK608HBA"].run) == ("A", "cal")
    assert found["UK608HBA"].coherence == 0.8
    place = table.direction_rad[0]
    np.testing.assert_allclose(place, [0, 0])  # where the run's own solutions are
    before = run.read_bytes()
    accumulate_round(
        run, "p1", increment, on=[INPUT], run="run1", date=DATE, coherence={"DE601HBA": 0.6}
    )
    assert run.read_bytes() == before
    start_from(run, initial, run="run1")  # begins anew
    assert [r.name for r in read_rounds(run)] == [INPUT]


def test_tec_rounds(tmp_path) -> None:
    path = tmp_path / "solutions.h5"
    tec = replace(
        solset(frequency_hz=[150e6], polarization=("I",)), tec_tecu=np.full((3, 4, 1), 0.1)
    )
    accumulate_round(path, "t1", tec, date=DATE)
    accumulate_round(path, "t2", tec, on=["t1"], date=DATE)
    np.testing.assert_allclose(read_h5parm(path).tec_tecu, 0.2)
    accumulate_round(path, "p3", solset(), on=["t1", "t2"], date=DATE)
    product = read_h5parm(path)
    expected = np.exp(-1j * 8.44797245e9 * 0.2 / product.frequency_hz)
    np.testing.assert_allclose(product.gain[0, :, 0, 0, 0], expected)


def test_wrong_calls_are_told(tmp_path) -> None:
    path = tmp_path / "solutions.h5"
    accumulate_round(path, "p1", gains(0.3), **TARGET)
    before = path.read_bytes()
    with pytest.raises(InputError, match="no round p7"):
        accumulate_round(path, "p2", gains(0.3), on=["p7"], **TARGET)
    with pytest.raises(InputError, match="one direction"):
        accumulate_round(path, "p2", solset(directions={"A": (1, 1), "B": (2, 2)}))
    assert path.read_bytes() == before
    write_with_entries(tmp_path / "plain.h5", solset(), [])
    with pytest.raises(InputError, match="holds no rounds"):
        read_rounds(tmp_path / "plain.h5")
