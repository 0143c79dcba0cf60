"""The global table: merges, who wins, many writers of which some die, best solutions."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from libs.core.errors import InputError
from libs.core.files import locked
from libs.h5parm.check import check
from libs.h5parm.global_table import combine_files, list_entries, merge_into, write_with_entries
from libs.h5parm.nearest import best
from libs.h5parm.provenance import Entry, read_entries
from libs.h5parm.reader import read_h5parm
from steps.commands.solution_actions import format_merge
from tests.libs.solset_examples import STATIONS, flagged, jones, solset

HERE = np.deg2rad([217.0, 35.0])


def write(path: Path, table, *, date="2026-01-01T00:00:00.000Z", coherence=0.9, **more) -> Path:
    """Write a table with provenance for every station of its first direction."""
    entries = [
        Entry(direction, station, source=direction, run=path.stem, date=date, coherence=coherence)
        for direction in table.direction
        for station in table.antenna
    ]
    write_with_entries(path, table, [replace(entry, **more) for entry in entries])
    return path


def at(name: str, degrees_east: float, **options):
    """Make a table of one direction."""
    return solset(directions={name: (217.0 + degrees_east, 35.0)}, **options)


def test_merge_adds_directions_with_their_origin(tmp_path) -> None:
    store = tmp_path / "store.h5"
    a = write(tmp_path / "a.h5", at("A", 0, seed=1))
    b = write(tmp_path / "b.h5", at("B", 1, seed=2), refined_from="A")
    report = merge_into(store, [a, b])
    assert len(report.added) == 8
    assert report.changed
    table = read_h5parm(store)
    assert (table.direction, set(table.antenna)) == (("A", "B"), set(STATIONS))
    i = table.antenna.index("DE601HBA")
    np.testing.assert_array_equal(
        table.gain[:, :, i, 1], read_h5parm(b).gain[:, :, STATIONS.index("DE601HBA"), 0]
    )
    listed = {item.entry.key: item for item in list_entries(store)}
    entry = listed[("B", "DE601HBA")].entry
    assert (entry.source, entry.run, entry.refined_from) == ("B", "b", "A")
    assert (entry.coherence, entry.date) == (0.9, "2026-01-01T00:00:00.000Z")
    assert check(store) == []


def test_the_same_merge_twice_changes_nothing(tmp_path) -> None:
    store = tmp_path / "store.h5"
    a = write(tmp_path / "a.h5", at("A", 0, seed=1))
    other_grid = at("B", 1, seed=2, time_s=(5.0e9 + 30, 5.0e9 + 90), frequency_hz=[130e6, 150e6])
    b = write(tmp_path / "b.h5", other_grid)
    merge_into(store, [a, b])
    before = (store.read_bytes(), store.stat().st_mtime_ns)
    report = merge_into(store, [a, b])
    assert not report.changed
    assert len(report.unchanged) == 8
    assert (store.read_bytes(), store.stat().st_mtime_ns) == before
    # also one by one, and the table merged into itself
    assert not merge_into(store, [b]).changed
    assert not merge_into(store, [store]).changed


def test_order_of_merges_does_not_matter(tmp_path) -> None:
    paths = [
        write(tmp_path / f"{i}.h5", at(f"S{i}", i, seed=i, time_s=5e9 + np.arange(3) * (10 + i)))
        for i in range(4)
    ]
    table = at("S1", 1, seed=9, time_s=5e9 + np.arange(3) * 11)
    newer = write(tmp_path / "n.h5", table, date="2026-02-01T00:00:00.000Z")
    merge_into(tmp_path / "one.h5", [*paths, newer])
    for path in (newer, *reversed(paths)):
        merge_into(tmp_path / "two.h5", [path])
    one, two = read_h5parm(tmp_path / "one.h5"), read_h5parm(tmp_path / "two.h5")
    np.testing.assert_allclose(one.gain, two.gain, atol=1e-12)
    assert (one.antenna, one.direction) == (two.antenna, two.direction)
    assert (
        read_entries(tmp_path / "one.h5")[5].digest == read_entries(tmp_path / "two.h5")[5].digest
    )


def by_station(values):
    """Put one value for each antenna of `STATIONS` on the axes of a table."""
    return np.array(values)[:, None, None]


def test_the_newer_solution_stays_station_by_station(tmp_path) -> None:
    store = tmp_path / "store.h5"
    old = write(tmp_path / "old.h5", at("A", 0, phase_rad=by_station([0.0, 0.1, 0.2, 0.3])))
    # newer, solved with DE601HBA as reference: CS001HBA0 is at -0.4 from it
    table = at("A", 0, phase_rad=by_station([-0.4, 0.0, 0.5, 0.0]))
    table = flagged(table, station="UK608HBA")
    new = write(tmp_path / "new.h5", table, date="2026-03-01T00:00:00.000Z")
    merge_into(store, [old])
    report = merge_into(store, [new])
    assert len(report.replaced) == 3
    runs = {item.entry.station: item.entry.run for item in list_entries(store)}
    assert runs == {"UK608HBA": "old"} | dict.fromkeys(STATIONS[:3], "new")
    merged = read_h5parm(store)
    phases = dict(zip(merged.antenna, merged.phase_rad[0, 0, :, 0, 0], strict=True))
    # UK608HBA is 0.2 from DE601HBA as before, the others as in the newer solve
    expected = {"CS001HBA0": -0.3, "DE601HBA": 0.1, "DE602HBA": 0.6, "UK608HBA": 0.3}
    assert phases == pytest.approx(expected)
    report = merge_into(store, [old])
    assert not report.changed
    assert len(report.older) == 3
    assert len(merge_into(store, [old], force=True).replaced) == 3


def test_a_newer_incoherent_solution_does_not_replace_a_coherent_one(tmp_path) -> None:
    """In whatever order, and phases are not referred to a station that is incoherent."""
    old = write(tmp_path / "old.h5", at("A", 0, phase_rad=by_station([0.1, 0.2, 0.3, 0.4])))
    # all 0.3 on, but for the first, which is incoherent: its gains are 1, as a reference's are
    table = at("A", 0, phase_rad=by_station([0.0, 0.5, 0.6, 0.7]))
    new = write(tmp_path / "new.h5", table, date="2026-03-01T00:00:00.000Z")
    entries = [
        replace(entry, coherence=0.01 if entry.station == STATIONS[0] else 0.9)
        for entry in read_entries(new)
    ]
    write_with_entries(new, table, entries)
    for name, order in (("one", [old, new]), ("two", [new, old])):
        reports = [merge_into(tmp_path / f"{name}.h5", [path]) for path in order]
        runs = {
            item.entry.station: item.entry.run for item in list_entries(tmp_path / f"{name}.h5")
        }
        assert runs == {STATIONS[0]: "old"} | dict.fromkeys(STATIONS[1:], "new")
        phases = read_h5parm(tmp_path / f"{name}.h5").phase_rad[0, 0, :, 0, 0]
        np.testing.assert_allclose(phases - phases[0], [0.0, 0.1, 0.2, 0.3], atol=1e-9)
        if name == "one":
            assert len(reports[1].incoherent) == 1 and len(reports[1].replaced) == 3
            assert "1 incoherent where the table's are not" in format_merge(reports[1])
        assert not merge_into(tmp_path / f"{name}.h5", [old, new]).changed


def test_a_file_changed_by_another_program_counts_as_new(tmp_path) -> None:
    store = tmp_path / "store.h5"
    path = write(tmp_path / "a.h5", at("A", 0, phase_rad=0.1))
    merge_into(store, [path])
    with h5py.File(path, "a") as file:
        file["sol000/phase000/val"][...] = 0.7
    assert len(merge_into(store, [path]).replaced) == 4
    np.testing.assert_allclose(read_h5parm(store).phase_rad, 0.7)


def test_one_name_for_two_places(tmp_path) -> None:
    a = write(tmp_path / "a.h5", at("Dir00", 0, seed=1))
    b = write(tmp_path / "b.h5", at("Dir00", 2, seed=2))
    c = write(tmp_path / "c.h5", at("another", 0, seed=3), date="2026-05-01T00:00:00.000Z")
    report = merge_into(tmp_path / "store.h5", [a, b, c])
    names = read_h5parm(tmp_path / "store.h5").direction
    assert names == ("Dir00", "Dir00_219.0000+35.0000")
    assert ("another", "Dir00") in report.renamed  # one place has one name
    assert not merge_into(tmp_path / "store.h5", [a, b, c]).changed


def test_merge_of_gains_and_jones_matrices_and_tec(tmp_path) -> None:
    a = write(tmp_path / "a.h5", at("A", 0, seed=1))
    b = write(
        tmp_path / "b.h5", replace(jones(2), direction=("J",), direction_rad=HERE[None] + 0.1)
    )
    tec = replace(
        at("T", 3, frequency_hz=[150e6], polarization=("I",)), tec_tecu=np.full((3, 4, 1), 0.1)
    )
    t = write(tmp_path / "t.h5", tec)
    merge_into(tmp_path / "store.h5", [a, b, t])
    table = read_h5parm(tmp_path / "store.h5")
    assert table.full_jones
    j = table.direction.index("A")
    np.testing.assert_allclose(table.gain[:, :, 0, j, [0, 3]], read_h5parm(a).gain[:, :, 0, 0])
    assert not table.amplitude[:, :, :, j, 1:3].any()
    expected = np.exp(-1j * 8.44797245e9 * 0.1 / table.frequency_hz)
    np.testing.assert_allclose(
        table.gain[0, :, 0, table.direction.index("T"), 0], expected, atol=1e-9
    )
    assert not merge_into(tmp_path / "store.h5", [a, b, t]).changed


def test_a_bad_source_changes_nothing(tmp_path) -> None:
    store = tmp_path / "store.h5"
    merge_into(store, [write(tmp_path / "a.h5", at("A", 0, seed=1))])
    before = store.read_bytes()
    (tmp_path / "bad.h5").write_bytes(b"no h5parm")
    good = write(tmp_path / "b.h5", at("B", 1))
    with pytest.raises(InputError, match="not an HDF5"):
        merge_into(store, [good, tmp_path / "bad.h5"])
    assert store.read_bytes() == before


def test_real_tables_are_merged(shared_data, tmp_path) -> None:
    sources = [shared_data / "lofar" / f"dirtest{i}.h5" for i in (1, 2)]
    report = merge_into(tmp_path / "store.h5", sources)
    assert len(report.added) == 58
    table = read_h5parm(tmp_path / "store.h5")
    assert len(table.direction) == 2  # both are called Dir00, in different places
    for j, path in enumerate(sources):
        original = read_h5parm(path)
        order = [table.antenna.index(name) for name in original.antenna]
        np.testing.assert_array_equal(table.gain[:, :, order, j], original.gain[:, :, :, 0])
    assert check(tmp_path / "store.h5") == []
    assert not merge_into(tmp_path / "store.h5", sources).changed
    sources = [shared_data / "lofar" / f"fulljones{i}.h5" for i in (1, 2)]
    report = merge_into(tmp_path / "jones.h5", sources)  # one place: the newer file wins
    assert len(read_h5parm(tmp_path / "jones.h5").direction) == 1
    assert len(report.replaced) + len(report.older) == 76


# ------------------------------------------------------------------------------- many writers


def _merge_once(store: Path, source: Path) -> None:
    merge_into(store, [source], force=True)


def _merge_until_killed(store: Path, sources: list[Path]) -> None:
    while True:
        for source in sources:
            merge_into(store, [source], force=True)


def test_sixteen_writers_of_which_six_are_killed(tmp_path) -> None:
    rng = random.Random(1)
    context = multiprocessing.get_context("fork")
    store = tmp_path / "store.h5"
    old, new = [], []
    for i in range(16):
        times = 5e9 + np.arange(4) * (20.0 + 5 * (i % 3))
        for date, paths in ((1, old), (2, new)):
            table = at(f"S{i:02d}", 0.1 * i, seed=100 * date + i, time_s=times)
            path = tmp_path / f"{date}_{i}.h5"
            paths.append(write(path, table, date=f"2026-01-0{date}T00:00:00.000Z"))
    writers = [
        context.Process(target=_merge_until_killed, args=(store, [old[i], new[i]]))
        if i < 6
        else context.Process(target=_merge_once, args=(store, new[i]))
        for i in range(16)
    ]
    for writer in writers:
        writer.start()
    reads = 0
    for victim in writers[:6]:
        until = time.monotonic() + rng.uniform(0.05, 0.35)
        while time.monotonic() < until:
            if store.exists():
                read_h5parm(store)  # whole at any instant
                reads += 1
        os.kill(victim.pid, signal.SIGKILL)
    for writer in writers:
        writer.join(60)
    assert [w.exitcode for w in writers] == [-signal.SIGKILL] * 6 + [0] * 10
    assert reads
    for i in range(6):  # the runs that died are started again
        _merge_once(store, new[i])
    merge_into(tmp_path / "alone.h5", new)
    got, expected = read_h5parm(store), read_h5parm(tmp_path / "alone.h5")
    assert (got.direction, got.antenna) == (expected.direction, expected.antenna)
    np.testing.assert_allclose(got.gain, expected.gain, atol=1e-9)
    entries, alone = read_entries(store), read_entries(tmp_path / "alone.h5")
    assert [(e.key, e.digest, e.run) for e in entries] == [(e.key, e.digest, e.run) for e in alone]
    assert not list(tmp_path.glob(".*.tmp")), "a dead writer's file was not removed"


def _die_before_the_rename(store: Path, source: Path) -> None:
    Path.replace = lambda self, target: os._exit(9)
    merge_into(store, [source])


def test_a_writer_that_dies_before_its_rename(tmp_path) -> None:
    store = tmp_path / "store.h5"
    merge_into(store, [write(tmp_path / "a.h5", at("A", 0, seed=1))])
    before = store.read_bytes()
    source = write(tmp_path / "b.h5", at("B", 1, seed=2))
    writer = multiprocessing.get_context("fork").Process(
        target=_die_before_the_rename, args=(store, source)
    )
    writer.start()
    writer.join(30)
    assert writer.exitcode == 9
    assert store.read_bytes() == before
    assert list(tmp_path.glob(".*.tmp"))
    merge_into(store, [source], timeout_s=1.0)
    assert read_h5parm(store).direction == ("A", "B")
    assert not list(tmp_path.glob(".*.tmp"))


def _hold(path: Path, ready) -> None:
    with locked(path):
        ready.set()
        time.sleep(60)


def test_a_held_lock_is_told_and_freed_by_death(tmp_path) -> None:
    store = tmp_path / "store.h5"
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(store, ready))
    holder.start()
    assert ready.wait(30)
    source = write(tmp_path / "a.h5", at("A", 0))
    with pytest.raises(InputError, match=f'"pid": {holder.pid}'):
        merge_into(store, [source], timeout_s=0.2)
    assert not store.exists()
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(30)
    assert merge_into(store, [source], timeout_s=5.0).changed


def test_a_folder_that_cannot_be_written(tmp_path) -> None:
    source = write(tmp_path / "a.h5", at("A", 0))
    with pytest.raises(InputError, match="cannot be written"):
        merge_into(tmp_path / "nowhere" / "store.h5", [source])


# ----------------------------------------------------------------------------- best solutions


@pytest.fixture
def field(tmp_path) -> Path:
    """Make a table: near A lacks UK608 (flagged), B is incoherent, C far but complete.

    The phases of A and C are relative to CS001HBA0, but for C by 0.2 more.
    """
    a = flagged(at("A", 0.1, phase_rad=by_station([0, 0.1, 0.2, 0.3])), station="UK608HBA")
    a = flagged(a, station="DE602HBA", times=slice(0, 2))
    store = tmp_path / "store.h5"
    sources = [
        write(tmp_path / "a.h5", a),
        write(tmp_path / "b.h5", at("B", 0.3, phase_rad=0.2), coherence=0.1),
        write(
            tmp_path / "c.h5",
            at("C", -0.9, phase_rad=0.2 + by_station([0, 0.4, 0.5, 0.6])),
            refined_from="LBCS",
        ),
    ]
    merge_into(store, sources)
    return store


def chosen(result) -> dict[str, str | None]:
    """Return station -> direction."""
    return {choice.station: choice.direction for choice in result.choices}


def test_best_is_the_nearest_good_direction_of_each_station(field, tmp_path) -> None:
    result = best(field, *HERE, name="target")
    assert chosen(result) == {
        "CS001HBA0": "A",
        "DE601HBA": "A",
        "DE602HBA": "C",  # A has two thirds flagged, B is incoherent
        "UK608HBA": "C",
    }
    result.write(tmp_path / "best.h5")
    table = read_h5parm(tmp_path / "best.h5")
    assert table.direction == ("target",)
    np.testing.assert_allclose(table.direction_rad[0], HERE)
    assert result.reference == "CS001HBA0"
    np.testing.assert_allclose(table.phase_rad[2, 0, :, 0, 0], [0, 0.1, 0.5, 0.6], atol=1e-12)
    entries = {e.station: e for e in read_entries(tmp_path / "best.h5")}
    assert (entries["UK608HBA"].source, entries["UK608HBA"].refined_from) == ("C", "LBCS")
    assert entries["DE601HBA"].source == "A"
    assert check(tmp_path / "best.h5") == []


def test_best_criteria(field) -> None:
    assert chosen(best(field, *HERE, min_good_fraction=0.3))["DE602HBA"] == "A"
    assert chosen(best(field, *HERE, min_coherence=0.0))["DE602HBA"] == "B"
    near = best(field, *HERE, max_separation_deg=0.5)
    assert near.missing == ("DE602HBA", "UK608HBA")
    assert (near.directions, near.reference) == (("A",), None)
    assert not near.solset.valid[:, :, 2:].any()
    unit = best(field, *HERE, max_separation_deg=0.5, missing="unit").solset
    np.testing.assert_allclose(unit.gain[:, :, 2:], 1.0)
    assert unit.valid.all()
    with pytest.raises(InputError, match="no good solutions"):
        best(field, *HERE, max_separation_deg=0.01)


def test_the_common_reference_is_a_coherent_station(tmp_path) -> None:
    """CS001HBA0 is incoherent in B: its gains are 1, which makes it no reference."""
    store = tmp_path / "store.h5"
    near = flagged(at("A", 0.1, phase_rad=by_station([0, 0.1, 0.2, 0.3])), station="UK608HBA")
    table = at("B", 0.3, phase_rad=by_station([0.0, 0.5, 0.6, 0.7]))
    far = write(tmp_path / "b.h5", table)
    entries = [
        replace(entry, coherence=0.0 if entry.station == "CS001HBA0" else 0.9)
        for entry in read_entries(far)
    ]
    write_with_entries(far, table, entries)
    merge_into(store, [write(tmp_path / "a.h5", near), far])
    result = best(store, *HERE)
    assert chosen(result)["UK608HBA"] == "B"
    assert result.reference in ("DE601HBA", "DE602HBA")
    phases = result.solset.phase_rad[0, 0, :, 0, 0]
    np.testing.assert_allclose(phases - phases[0], [0, 0.1, 0.2, 0.3], atol=1e-9)


def test_coherence_that_was_not_measured_passes(tmp_path) -> None:
    write(tmp_path / "a.h5", at("A", 0), coherence=float("nan"))
    assert not best(tmp_path / "a.h5", *HERE, min_coherence=0.9).missing


def test_ties_go_to_the_more_coherent_then_to_the_newer(tmp_path) -> None:
    store = tmp_path / "store.h5"
    for name, east, coherence, month in (
        ("A", 1, 0.7, 1), ("B", -1, 0.9, 1), ("C", 1.00001, 0.9, 2),
    ):  # fmt: skip
        path = tmp_path / f"{name}.h5"
        table = at(name, east, phase_rad=0.1)
        if name == "C":  # beside A: as near, but another direction
            table = replace(table, direction_rad=table.direction_rad + np.array([0, 2e-5]))
        write(path, table, coherence=coherence, date=f"2026-0{month}-01T00:00:00.000Z")
        merge_into(store, [path])
    position = (HERE[0], read_h5parm(store).direction_rad[0, 1])
    result = best(store, *position)
    assert set(chosen(result).values()) == {"C"}
    assert result.choices[0].note == "equally near: A, B"


def test_combining_files_tells_where_it_comes_from(tmp_path) -> None:
    initial = flagged(at("A", 0, phase_rad=0.3), station="DE602HBA")
    incremental = flagged(at("target", 0.5, phase_rad=0.5), station="UK608HBA")
    first = write(tmp_path / "first.h5", initial, coherence=0.8)
    second = write(tmp_path / "second.h5", incremental, coherence=0.6)
    combine_files(first, second, tmp_path / "out.h5")
    table = read_h5parm(tmp_path / "out.h5")
    np.testing.assert_allclose(table.phase_rad[0, 0, :, 0, 0], [0.8, 0.8, 0.5, 0.3])
    entries = {e.station: e for e in read_entries(tmp_path / "out.h5")}
    assert {e.direction for e in entries.values()} == {"target"}
    assert (entries["DE601HBA"].source, entries["DE601HBA"].refined_from) == ("target", "A")
    assert (entries["UK608HBA"].source, entries["UK608HBA"].coherence) == ("A", 0.8)
    assert (entries["DE602HBA"].source, entries["DE602HBA"].refined_from) == ("target", "")
