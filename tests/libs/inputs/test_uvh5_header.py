"""uvh5 files: what goes in comes out, windows are joined, what is wrong is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from libs.casa.session import CasaSession
from libs.core.errors import ConfigError, InputError
from libs.inputs import uvh5_to_ms, working_copy
from libs.inputs.uvh5_header import group_parts, read_header
from libs.inputs.uvh5_to_ms import convert
from libs.ms.summary import summarise
from libs.ms.tables import open_table
from libs.simulation.observation import simulate
from libs.simulation.sky import Source
from tests.libs.small_ms import make_ms, tree_hash
from tests.libs.uvh5_files import CENTRE_DEG, observe, simulated_ms, write_uvh5

pytest.importorskip("pyuvdata")


def read(ms: Path, name: str) -> np.ndarray:
    with open_table(ms) as opened:
        return opened.getcol(name)


def ordered(ms: Path) -> dict[str, np.ndarray]:
    """The columns of a measurement set by window, time and baseline."""
    names = ("TIME", "DATA_DESC_ID", "ANTENNA1", "ANTENNA2", "DATA", "FLAG", "UVW", "WEIGHT")
    cells = {name: read(ms, name) for name in names}
    stamp = np.round(cells["TIME"], 3)
    order = np.lexsort((cells["ANTENNA2"], cells["ANTENNA1"], stamp, cells["DATA_DESC_ID"]))
    return {name: cell[order] for name, cell in cells.items()}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated measurement set, some of it flagged, with weights of its own."""
    ms = simulated_ms(tmp_path_factory.mktemp("known") / "known.ms")
    with open_table(ms, write=True) as opened:
        flag = opened.getcol("FLAG")
        flag[3, 2:4] = flag[7] = True
        opened.putcol("FLAG", flag)
        opened.putcol("WEIGHT", 1.0 + np.arange(opened.nrows() * 4).reshape(-1, 4) % 7)
    return ms


@pytest.fixture
def file(known: Path, tmp_path: Path) -> Path:
    return write_uvh5(known, tmp_path / "ata.uvh5")


def test_visibilities_uvw_flags_and_weights_come_back(
    known: Path, file: Path, tmp_path: Path
) -> None:
    before = file.read_bytes()
    convert([file], tmp_path / "back.ms")
    want, made = ordered(known), ordered(tmp_path / "back.ms")
    for name, tolerance in (("DATA", 1e-6), ("UVW", 1e-9), ("WEIGHT", 1e-6), ("TIME", 1e-4)):
        np.testing.assert_allclose(made[name], want[name], atol=tolerance, err_msg=name)
    for name in ("FLAG", "ANTENNA1", "ANTENNA2"):
        assert np.array_equal(made[name], want[name]), name
    old, new = summarise(known), summarise(tmp_path / "back.ms")
    assert (new.antenna, new.telescope, new.field) == (old.antenna, "ATA", ("3c286",))
    assert new.correlation == ("XX", "XY", "YX", "YY")
    np.testing.assert_allclose(new.position_m, old.position_m, atol=1e-3)
    np.testing.assert_allclose(new.direction_rad, old.direction_rad, atol=1e-12)
    np.testing.assert_array_equal(new.frequency_hz[0], old.frequency_hz[0])
    assert file.read_bytes() == before


@pytest.mark.parametrize("order", ["baseline", "time"])
def test_blocks_conjugated_baselines_and_orders_change_nothing(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    def change(uv: Any) -> None:
        uv.conjugate_bls("ant2<ant1")
        uv.reorder_blts(order=order, minor_order="time" if order == "baseline" else "baseline")
        uv.reorder_pols("AIPS")
        uv.reorder_freqs(channel_order="-freq")

    file = write_uvh5(known, tmp_path / "ata.uvh5", change)
    monkeypatch.setattr(uvh5_to_ms, "BLOCK_BYTES", 9000)
    told: list[str] = []
    convert([file], tmp_path / "back.ms", progress=told.append)
    assert len(told) == 3
    want, made = ordered(known), ordered(tmp_path / "back.ms")
    np.testing.assert_allclose(made["DATA"], want["DATA"], atol=1e-6)
    np.testing.assert_allclose(made["UVW"], want["UVW"], atol=1e-9)
    assert np.array_equal(made["FLAG"], want["FLAG"])
    assert np.all(np.diff(read(tmp_path / "back.ms", "TIME")) >= 0)


def test_data_without_a_phase_centre_are_phased_to_the_one_given(
    known: Path, tmp_path: Path
) -> None:
    file = write_uvh5(known, tmp_path / "drift.uvh5", lambda uv: uv.unproject_phase())
    with pytest.raises(ConfigError, match="no phase centre") as caught:
        convert([file], tmp_path / "back.ms")
    assert "phase_centre" in caught.value.remedy
    ra, dec = np.deg2rad(CENTRE_DEG)
    notes = convert([file], tmp_path / "back.ms", centre_rad=(ra, dec))
    assert "target phased to its centre" in notes
    want, made = ordered(known), ordered(tmp_path / "back.ms")
    # the simulation and pyuvdata reckon the Earth's orientation each in its own way
    np.testing.assert_allclose(made["UVW"], want["UVW"], atol=0.005)
    np.testing.assert_allclose(made["DATA"], want["DATA"], atol=0.02)


def test_signs_against_the_library_alone(tmp_path: Path) -> None:
    """A source made and moved by pyuvdata lies where the simulation has it: east is east."""
    source = Source(3.0, 400.0, -250.0)
    want = simulate(tmp_path / "want.ms", observe(), [source], perfect=False).ms
    ra, dec = source.radec_rad(*observe().direction_rad)

    def change(uv: Any) -> None:
        uv.phase(lon=ra, lat=dec, epoch=2000.0, phase_frame="fk5", cat_name="source")
        uv.data_array[:] = 0
        uv.data_array[:, :, np.isin(uv.polarization_array, (-5, -6))] = 3.0
        uv.phase(
            lon=np.deg2rad(CENTRE_DEG[0]), lat=np.deg2rad(CENTRE_DEG[1]), epoch=2000.0,
            phase_frame="fk5", cat_name="3c286",
        )  # fmt: skip

    file = write_uvh5(want, tmp_path / "ata.uvh5", change)
    convert([file], tmp_path / "made.ms")
    known, made = ordered(want), ordered(tmp_path / "made.ms")
    assert np.ptp(np.angle(known["DATA"][..., 0])) > 1
    np.testing.assert_allclose(made["DATA"], known["DATA"], atol=0.02)


def test_parts_of_a_band_and_scans_become_one_measurement_set(tmp_path: Path) -> None:
    whole = simulated_ms(tmp_path / "whole.ms", spws=2, scans=2, gap_s=300.0)

    def part(window: int, scan: int):
        def change(uv: Any) -> Any:
            uv.select(freq_chans=np.flatnonzero(uv.flex_spw_id_array == window))
            half = np.unique(uv.time_array)[6 * scan : 6 * scan + 6]
            return uv.select(times=half)

        return change

    files = [
        write_uvh5(whole, tmp_path / f"ata.C{9 - w}_{s}.uvh5", part(w, s))
        for s in (1, 0)
        for w in (1, 0)
    ]
    (source,) = working_copy.resolve_inputs([str(path) for path in files])
    assert source.kind == "uvh5" and source.parts == tuple(files[i] for i in (3, 2, 1, 0))
    notes = convert(source.parts, tmp_path / "back.ms")
    assert "4 uvh5 files joined, spectral windows: 2" in notes
    want, made = ordered(whole), ordered(tmp_path / "back.ms")
    np.testing.assert_allclose(made["DATA"], want["DATA"], atol=1e-6)
    assert set(read(tmp_path / "back.ms", "SCAN_NUMBER")) == {1, 2}
    assert len(summarise(tmp_path / "back.ms").spws_used) == 2
    with pytest.raises(ConfigError, match="same channels at the same time"):
        shutil.copy(files[0], tmp_path / "again.uvh5")
        group_parts([files[0], tmp_path / "again.uvh5"])
    # the next day is an execution of its own
    with h5py.File(tmp_path / "again.uvh5", "r+") as opened:
        opened["Header/time_array"][:] += 1
    assert len(group_parts([*files, tmp_path / "again.uvh5"])) == 2


def test_each_phase_centre_is_a_field_and_a_scan(known: Path, tmp_path: Path) -> None:
    def change(uv: Any) -> None:
        late = uv.time_array > np.median(uv.time_array)
        uv.phase(
            lon=3.54, lat=0.53, epoch=2000.0, phase_frame="fk5", cat_name="other",
            select_mask=late,
        )  # fmt: skip

    convert([write_uvh5(known, tmp_path / "two.uvh5", change)], tmp_path / "back.ms")
    with open_table(f"{tmp_path / 'back.ms'}::FIELD") as opened:
        names, centre = opened.getcol("NAME"), opened.getcol("PHASE_DIR")[:, 0]
    field, scan, time = (read(tmp_path / "back.ms", n) for n in ("FIELD_ID", "SCAN_NUMBER", "TIME"))
    assert sorted(names) == ["3c286", "other"]
    np.testing.assert_allclose(centre[names.index("other")], (3.54, 0.53), atol=1e-12)
    assert np.array_equal(np.array(names)[field] == "other", scan == 2)
    assert np.array_equal(scan == 2, time > np.median(time))


def test_baselines_that_run_the_wrong_way_are_turned(
    known: Path, file: Path, tmp_path: Path
) -> None:
    assert not any("wrong way" in note for note in convert([file], tmp_path / "back.ms"))
    with h5py.File(file, "r+") as opened:
        opened["Header/uvw_array"][:] = -opened["Header/uvw_array"][:]
        opened["Data/visdata"][:] = np.conj(opened["Data/visdata"][:])
    notes = convert([file], tmp_path / "back.ms")
    assert any("wrong way" in note for note in notes)
    want, made = ordered(known), ordered(tmp_path / "back.ms")
    np.testing.assert_allclose(made["DATA"], want["DATA"], atol=1e-6)
    np.testing.assert_allclose(made["UVW"], want["UVW"], atol=1e-9)


def test_uvw_that_fit_no_antennas_are_told(file: Path, tmp_path: Path) -> None:
    with h5py.File(file, "r+") as opened:
        opened["Header/uvw_array"][:, 0] += 30.0
    notes = convert([file], tmp_path / "back.ms")
    assert any("UVW and antenna positions disagree" in note for note in notes)


def test_useless_counts_of_samples_become_weights_of_one(file: Path, tmp_path: Path) -> None:
    with h5py.File(file, "r+") as opened:
        opened["Data/nsamples"][:] = -1.2e12
    notes = convert([file], tmp_path / "back.ms")
    assert any("weights are 1" in note for note in notes)
    assert np.all(read(tmp_path / "back.ms", "WEIGHT_SPECTRUM") == 1)


def test_what_cannot_be_used_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tmp_path / "cut.uvh5"
    cut.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(InputError, match="not uvh5 or cut off"):
        working_copy.resolve_inputs(str(cut))
    lacking = Path(shutil.copy(file, tmp_path / "lacking.uvh5"))
    with h5py.File(lacking, "r+") as opened:
        del opened["Header/time_array"]
    with pytest.raises(InputError, match=r"lacking\.uvh5 is a broken uvh5 file .*time_array"):
        working_copy.resolve_inputs(str(lacking))
    lacking = Path(shutil.copy(file, tmp_path / "lacking.uvh5"))
    with h5py.File(lacking, "r+") as opened:
        del opened["Header/uvw_array"]
    with pytest.raises(InputError, match=r"pyuvdata cannot read lacking\.uvh5"):
        convert([lacking], tmp_path / "back.ms")
    monkeypatch.setitem(__import__("sys").modules, "pyuvdata", None)
    with pytest.raises(ConfigError, match="needs pyuvdata") as caught:
        convert([file], tmp_path / "back.ms")
    assert "[ata]" in caught.value.remedy


def test_an_unknown_compression_is_named(file: Path, tmp_path: Path) -> None:
    with h5py.File(file, "r+") as opened:
        shape = opened["Data/visdata"].shape
        del opened["Data/visdata"]
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk(shape)
        layout.set_filter(300, h5py.h5z.FLAG_OPTIONAL, (0,))  # 256 to 511 are nobody's
        made = h5py.h5d.create(
            opened["Data"].id, b"visdata", h5py.h5t.py_create(np.complex64),
            h5py.h5s.create_simple(shape), layout,
        )  # fmt: skip
        made.write_direct_chunk((0, 0, 0), bytes(100), 0)
    with pytest.raises(InputError, match="compressed in a way") as caught:
        read_header(file)
    assert "hdf5plugin" in caught.value.remedy


def test_one_hand_moving_sources_and_no_baselines_are_refused(known: Path, tmp_path: Path) -> None:
    one = write_uvh5(known, tmp_path / "xx.uvh5", lambda uv: uv.select(polarizations=["xx"]))
    with pytest.raises(InputError, match="holds XX"):
        convert([one], tmp_path / "back.ms")

    def move(uv: Any) -> None:
        times = np.linspace(uv.time_array.min() - 0.1, uv.time_array.max() + 0.1, 5)
        uv.phase(
            lon=3.5 + 0.01 * np.arange(5), lat=np.full(5, 0.5), cat_type="ephem",
            ephem_times=times, cat_name="Mars",
        )  # fmt: skip

    with pytest.raises(InputError, match="follows Mars"):
        convert([write_uvh5(known, tmp_path / "mars.uvh5", move)], tmp_path / "back.ms")
    autos = make_ms(tmp_path / "autos.ms", autocorrelations=True)
    made = write_uvh5(autos, tmp_path / "autos.uvh5")
    convert([made], tmp_path / "back.ms")
    assert np.all(read(tmp_path / "back.ms", "ANTENNA1") != read(tmp_path / "back.ms", "ANTENNA2"))
    only = write_uvh5(autos, tmp_path / "only.uvh5", lambda uv: uv.select(ant_str="auto"))
    with pytest.raises(InputError, match="autocorrelations only"):
        convert([only], tmp_path / "back.ms")


def test_identity_and_size_are_those_of_all_files(file: Path, tmp_path: Path) -> None:
    (source,) = working_copy.resolve_inputs(str(file))
    assert source.name == "ata"
    identity = working_copy.identity(source)
    header = read_header(file)
    assert working_copy.copy_size_bytes(source) > 2 * 33 * header.visibilities
    with h5py.File(file, "r+") as opened:
        opened["Data/visdata"][0, 0, 0] = 1
    assert working_copy.identity(source) != identity


@pytest.mark.tools
def test_real_data_become_a_working_copy(
    shared_data: Path, tmp_path: Path, session: CasaSession
) -> None:
    files = sorted((shared_data / "ata").glob("*.uvh5"))
    hashes = [tree_hash(path) for path in files]
    (source,) = working_copy.resolve_inputs([str(path) for path in files])
    copy = working_copy.make_working_copy(source, tmp_path / "copy.ms", session=session)
    summary = summarise(copy.ms)
    working_copy.check_usable(summary, copy)
    assert (summary.rows, len(summary.antennas_used), len(summary.spws_used)) == (756, 28, 2)
    assert "2m" in summary.antenna and summary.telescope == "ATA"
    for words in ("uvh5 files joined", "'uncalib'", "weights are 1", "absurdly large"):
        assert any(words in note for note in copy.notes), words
    assert copy.size_bytes < working_copy.copy_size_bytes(source)
    assert [tree_hash(path) for path in files] == hashes


def test_names_in_cells_of_their_own_length_are_text(file: Path, tmp_path: Path) -> None:
    """h5py gives such strings as bytes, those of fixed length as text of numpy."""
    with h5py.File(file, "r+") as opened:
        centres = opened["Header/phase_center_catalog"]
        for key in centres:
            del centres[key]["cat_name"]
            centres[key]["cat_name"] = "M 87"
    convert([file], tmp_path / "a.ms")
    with open_table(f"{tmp_path / 'a.ms'}::FIELD") as opened:
        assert opened.getcol("NAME") == ["M 87"]
