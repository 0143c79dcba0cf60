"""A layer's table: as if made one by one, at the cost of its directions, safe from kills."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from libs.core.errors import InputError
from libs.h5parm import global_table, listing, nearest
from libs.h5parm.check import check
from libs.h5parm.direction_gains import DirectionGains
from libs.h5parm.global_table import list_entries, merge_into, write_with_entries
from libs.h5parm.layer_merge import merge_layer
from libs.h5parm.nearest import best
from libs.h5parm.provenance import Entry
from libs.h5parm.reader import read_h5parm
from libs.h5parm.solset import Solset
from libs.h5parm.start import StartLimits
from libs.h5parm.writer import TableWriter
from tests.libs.small_ms import make_ms
from tests.libs.solset_examples import STATIONS, flagged, solset

LIMITS = StartLimits()


def source(folder: Path, number: int, *, times: int = 3, lacks: str = "", tec: bool = False):
    """Write the solutions of one direction; return its name, file and place."""
    name = f"D{number:02d}"
    place = (217.0 + 0.1 * number, 35.0)
    stamps = 5.0e9 + 60.0 * np.arange(times)
    table = solset(time_s=tuple(stamps), directions={name: place}, seed=number)
    if tec:
        shape = (times, len(STATIONS), 1)
        table = replace(table, tec_tecu=np.random.default_rng(number).uniform(-1, 1, shape))
    if lacks:
        table = flagged(table, station=lacks)
    path = folder / f"{name}.h5"
    date = "2026-01-01T00:00:00.000Z"
    entries = [Entry(name, station, name, coherence=0.9, date=date) for station in STATIONS]
    write_with_entries(path, table, entries)
    return name, path, np.deg2rad(place)


def layer(folder: Path, numbers: range, **more):
    """Sources of which each lacks one station."""
    made = [source(folder, n, lacks=STATIONS[n % 4], **more) for n in numbers]
    return [path for _, path, _ in made], {name: place for name, _, place in made}


def one_by_one(store: Path, files: list[Path], wanted: dict[str, np.ndarray]) -> None:
    """Merge, then look for, write and merge what each direction lacks."""
    merge_into(store, files)
    for name, place in wanted.items():
        have = {e.entry.station for e in list_entries(store) if e.entry.direction == name}
        found = best(store, *place.tolist(), name=name)
        own = [i for i, station in enumerate(found.solset.antenna) if station in have]
        found.solset.weight[:, :, own] = 0.0
        lacking = [entry for entry in found.entries if entry.station not in have]
        write_with_entries(store.with_name("n.h5"), found.solset, lacking, made_here=False)
        merge_into(store, [store.with_name("n.h5")])


def content(path: Path) -> tuple[Solset, list[tuple[object, ...]]]:
    listed = [
        (replace(item.entry, input=""), item.ra_rad, item.dec_rad, item.good_fraction)
        for item in list_entries(path)
    ]
    return read_h5parm(path), listed


def assert_same(first: Path, second: Path) -> None:
    (a, in_a), (b, in_b) = content(first), content(second)
    assert in_a == in_b
    assert (a.antenna, a.direction, a.polarization) == (b.antenna, b.direction, b.polarization)
    for name in ("time_s", "frequency_hz", "direction_rad", "phase_rad", "amplitude", "weight"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    assert (a.tec_tecu is None) == (b.tec_tecu is None)
    if a.tec_tecu is not None:
        np.testing.assert_array_equal(a.tec_tecu, b.tec_tecu)


@pytest.mark.parametrize("tec", [False, True])
def test_the_same_as_one_after_the_other(tmp_path: Path, tec: bool) -> None:
    files, wanted = layer(tmp_path, range(5), tec=tec)
    _, no_solutions = layer(tmp_path, range(7, 8))
    before, _ = layer(tmp_path, range(20, 22))
    merge_into(tmp_path / "before.h5", before)
    merge_into(tmp_path / "slow.h5", before)
    one_by_one(tmp_path / "slow.h5", files, wanted | no_solutions)
    made = merge_layer(
        tmp_path / "fast.h5", tmp_path / "before.h5", files, wanted | no_solutions, LIMITS
    )
    assert_same(tmp_path / "fast.h5", tmp_path / "slow.h5")
    assert check(tmp_path / "fast.h5") == []
    assert made.filled == 5 + 4
    assert list(made.listings) == list_entries(tmp_path / "fast.h5")


def test_where_nothing_is_near_a_direction_stays_out(tmp_path: Path) -> None:
    files, wanted = layer(tmp_path, range(2))
    wanted["far"] = np.deg2rad([100.0, 0.0])
    limits = StartLimits(max_separation_deg=1.0)
    merge_layer(tmp_path / "t.h5", None, files, wanted, limits)
    assert read_h5parm(tmp_path / "t.h5").direction == ("D00", "D01")
    assert check(tmp_path / "t.h5") == []
    with pytest.raises(InputError):
        merge_layer(tmp_path / "none.h5", None, [], wanted, limits)


def test_tables_are_written_once_and_read_by_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is written, or read, whole for each direction costs their square."""
    made: list[str] = []
    real_init, real_put, real_read = TableWriter.__init__, TableWriter.put, read_h5parm

    def init(self, path, like, places):
        made.append("file")
        real_init(self, path, like, places)

    def put(self, solsets):
        solsets = list(solsets)
        made.extend(["written"] * len(solsets))
        real_put(self, solsets)

    def read(path, soltabs=None, *, direction=None):
        made.append("whole" if direction is None else "read")
        return real_read(path, soltabs, direction=direction)

    counts = []
    for number in (4, 8, 16):
        (tmp_path / str(number)).mkdir()
        files, wanted = layer(tmp_path / str(number), range(number))
        with monkeypatch.context() as patch:
            patch.setattr(TableWriter, "__init__", init)
            patch.setattr(TableWriter, "put", put)
            patch.setattr(global_table, "read_h5parm", read)
            patch.setattr(listing, "read_h5parm", read)
            patch.setattr(nearest, "read_h5parm", read)
            made.clear()
            merge_layer(tmp_path / str(number) / "t.h5", None, files, wanted, LIMITS)
        assert made.count("file") == 1 and made.count("whole") == 0
        assert made.count("written") == 2 * number, "once, and once with what it lacked"
        counts.append(made.count("read"))
    assert counts[2] - counts[1] <= 2 * (counts[1] - counts[0])
    assert counts[2] <= 6 * 16


def test_memory_does_not_grow_with_directions(tmp_path: Path) -> None:
    peaks = []
    for number in (4, 16):
        folder = tmp_path / str(number)
        folder.mkdir()
        files, wanted = layer(folder, range(number), times=2000)
        one = 2000 * 2 * 4 * 2 * 8
        tracemalloc.start()
        merge_layer(folder / "t.h5", None, files, wanted, LIMITS)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2 * one, "twelve directions more have 36 such arrays"


def test_other_readers_take_the_known_listing(tmp_path: Path, monkeypatch) -> None:
    files, wanted = layer(tmp_path, range(6))
    table = tmp_path / "t.h5"
    merge_layer(table, None, files, wanted, LIMITS)
    fresh = tmp_path / "copy.h5"
    fresh.write_bytes(table.read_bytes())
    place = np.deg2rad([217.21, 35.0]).tolist()
    slow = best(fresh, *place)
    read: list[str | None] = []
    real = read_h5parm

    def counting(path, soltabs=None, *, direction=None):
        read.append(direction)
        return real(path, soltabs, direction=direction)

    monkeypatch.setattr(nearest, "read_h5parm", counting)
    monkeypatch.setattr(listing, "read_h5parm", counting)
    quick = best(table, *place)
    assert quick.directions == slow.directions == ("D02",)
    assert read == ["D00", "D02"], "one for the stations, one for the solutions"
    np.testing.assert_array_equal(quick.solset.gain, slow.solset.gain)
    # another program writes into the table: what was known of it does not hold any more
    with h5py.File(table, "r+") as file:
        file["sol000/phase000/weight"][:, :, :, 2] = 0.0
    os.utime(table, ns=(1, 1))
    assert best(table, *place).directions == ("D03",)


def test_gains_of_a_direction_are_read_alone(tmp_path: Path, monkeypatch) -> None:
    files, wanted = layer(tmp_path, range(3))
    merge_layer(tmp_path / "t.h5", None, files, wanted, LIMITS)
    ms = make_ms(tmp_path / "a.ms")
    from casacore.tables import table

    with table(f"{ms}::ANTENNA", readonly=False, ack=False) as antennas:
        antennas.putcol("NAME", [*STATIONS, "X"])
    shapes: list[tuple[int, ...]] = []
    real = h5py.Dataset.__getitem__

    def spy(self, cells, **more):
        values = real(self, cells, **more)
        if self.name.endswith("/val"):
            shapes.append(values.shape)
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    gains = DirectionGains.read(tmp_path / "t.h5", ms, "D01")
    assert gains.solset.direction == ("D01",)
    assert {shape[3] for shape in shapes} == {1}


def _merge_and_die(folder: Path, files, wanted, calls: int, name: str) -> None:
    """Merge in this process, which kills itself within a call of the writer."""
    left = [calls]
    real = getattr(TableWriter, name)

    def dying(self, *arguments):
        if not left[0]:
            if name == "put":  # within the write: the file is open and half written
                h5py.Dataset.__setitem__ = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        real(self, *arguments)

    setattr(TableWriter, name, dying)
    merge_layer(folder / "t.h5", folder / "before.h5", files, wanted, LIMITS)


@pytest.mark.parametrize(
    ("calls", "name"), [(0, "put"), (2, "put"), (5, "put"), (7, "put"), (0, "finish")]
)
def test_killed_and_done_again_is_the_same(tmp_path: Path, calls: int, name: str) -> None:
    files, wanted = layer(tmp_path, range(4))
    wanted["far"] = np.deg2rad([100.0, 0.0])
    before, _ = layer(tmp_path, range(20, 21))
    merge_into(tmp_path / "before.h5", before)
    merge_layer(tmp_path / "whole.h5", tmp_path / "before.h5", files, wanted, LIMITS)
    store = tmp_path / "t.h5"
    store.write_bytes((tmp_path / "before.h5").read_bytes())
    child = multiprocessing.get_context("fork").Process(
        target=_merge_and_die, args=(tmp_path, files, wanted, calls, name)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert store.read_bytes() == (tmp_path / "before.h5").read_bytes(), "as it was"
    merge_layer(store, tmp_path / "before.h5", files, wanted, LIMITS)
    assert_same(store, tmp_path / "whole.h5")
    assert not list(tmp_path.glob(".*.tmp"))
